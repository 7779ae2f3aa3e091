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

func ParseCommit(version int64, r io.Reader) (*Commit, error) {
	c := &Commit{Version: version}
	return c, parseActions(fmt.Sprintf("version %d", version), r, c, c.collect())
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
func ReadCheckpointFile(ctx context.Context, store LogStore, name string, size int64, mem memory.Allocator) (*Commit, error) {
	c := &Commit{}
	return c, readLogCheckpoint(ctx, store, checkpointFile{name, size}, c, c.collect(), mem)
}

func ParseColumnList(s string) ([][]string, error) { return parseColumnList(s) }

func JSONChecksum(data []byte) (string, error) { return jsonChecksum(data) }

func CheckPage(page file.Page) error { return checkPage(page) }
