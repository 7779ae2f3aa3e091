package delta

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// What the tests of package delta_test need of the inside.

// Actions are a commit or a file of a log checkpoint with its files.
type Actions struct {
	*Commit
	Adds    []Add
	Removes []Remove
}

func (a *Actions) collect() *fileActions {
	return &fileActions{
		add:    func(add *Add) (bool, error) { a.Adds = append(a.Adds, *add); return true, nil },
		remove: func(r *Remove) (bool, error) { a.Removes = append(a.Removes, *r); return true, nil },
	}
}

func ParseCommit(version int64, r io.Reader) (*Actions, error) {
	a := &Actions{Commit: &Commit{Version: version}}
	return a, parseActions(fmt.Sprintf("version %d", version), r, a.Commit, a.collect())
}

// FeatureNames are those that are known.
func FeatureNames() []string {
	var names []string
	for _, f := range features {
		names = append(names, f.name)
	}
	return names
}

// FeatureSince is the writer version that implies a feature, 0 for none.
func FeatureSince(name string) int {
	f, _ := findFeature(name)
	return f.since
}

func IsReaderFeature(name string) bool {
	f, _ := findFeature(name)
	return f.reader
}

func ProtocolFeatures(p Protocol) []string { return p.features() }

func PhysicalName(f arrow.Field) string { return physicalName(f) }

func FieldID(f arrow.Field) (int32, bool) { return fieldID(f) }

func NestedIDs(f arrow.Field) map[string]int32 { return nestedIDs(f) }

func CommitName(version int64) string { return commitName(version) }

// SetWholeCheckpoint lowers the size above which log checkpoints are read by ranges.
func SetWholeCheckpoint(n int64) (restore func()) {
	old := wholeCheckpoint
	wholeCheckpoint = n
	return func() { wholeCheckpoint = old }
}

// ReadCheckpointFile decodes everything of one file of a log checkpoint.
func ReadCheckpointFile(ctx context.Context, store LogStore, name string, size int64, mem memory.Allocator) (*Actions, error) {
	a := &Actions{Commit: &Commit{}}
	return a, readLogCheckpoint(ctx, store, checkpointFile{name, size}, a.Commit, a.collect(), mem)
}

// SetReaderMemory lowers the limit of the Parquet library's buffers.
func SetReaderMemory(n int64) (restore func()) {
	old := maxReaderMemory
	maxReaderMemory = n
	return func() { maxReaderMemory = old }
}

// CountCheckpointFile decodes everything of one file of a log checkpoint, but keeps the files only in number.
func CountCheckpointFile(ctx context.Context, store LogStore, name string, size int64, mem memory.Allocator) (c *Commit, files int, err error) {
	c = &Commit{}
	err = readLogCheckpoint(ctx, store, checkpointFile{name, size}, c, &fileActions{
		add:    func(*Add) (bool, error) { files++; return true, nil },
		remove: func(*Remove) (bool, error) { files++; return true, nil },
	}, mem)
	return c, files, err
}

func ParseColumnList(s string) ([][]string, error) { return parseColumnList(s) }

func JSONChecksum(data []byte) (string, error) { return jsonChecksum(data) }

func CheckPage(page file.Page) error { return checkPage(page) }
