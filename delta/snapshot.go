package delta

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Snapshot is one version of a table, its files included; for inspection, not for the message's path. It is not
// goroutine-safe.
type Snapshot struct {
	state
	store LogStore
	seg   *segment
}

// OpenSnapshot opens a version, the newest for -1. A version that does not exist is fs.ErrNotExist, no table at all
// ErrNotTable. A table that this package may not append to can still be inspected, unless its log cannot be read by
// itself.
func OpenSnapshot(ctx context.Context, store LogStore, version int64) (*Snapshot, error) {
	return openSnapshot(ctx, store, version, nil)
}

// openSnapshot is OpenSnapshot without the files of log checkpoints that are broken.
func openSnapshot(ctx context.Context, store LogStore, version int64, broken []string) (*Snapshot, error) {
	s, seg, err := open(ctx, store, version, broken)
	if err != nil {
		return nil, fmt.Errorf("opening the Delta log: %w", err)
	}
	return &Snapshot{state: *s, store: store, seg: seg}, nil
}

// Info is the commitInfo of this version; nil when it has none or its JSON was cleaned.
func (s *Snapshot) Info() *CommitInfo { return s.info }

// LogCheckpoint is the version of the newest complete log checkpoint at or below this version; false when there is none.
func (s *Snapshot) LogCheckpoint() (version int64, ok bool) { return s.seg.base, s.seg.base >= 0 }

// CheckAppend says why an append to the table would be refused, as Table.CheckAppend does.
func (s *Snapshot) CheckAppend() error { return s.checkAppend() }

// PartitionValues are a file's partition values by the columns' names in the schema; nil is null. With column mapping the
// log has other names (PROTOCOL.md, "Writer Requirements for Column Mapping").
func (s *Snapshot) PartitionValues(a *Add) map[string]*string {
	values := make(map[string]*string, len(s.metadata.PartitionColumns))
	keys := s.physicalPartitionColumns()
	for i, name := range s.metadata.PartitionColumns {
		values[name] = a.PartitionValues[keys[i]]
	}
	return values
}

// Files yields the files of the version, newest first (PROTOCOL.md, "Action Reconciliation"). It reads the log anew every
// time: commits from the newest down, then the log checkpoint; its memory is bounded by the commits after the log
// checkpoint. After an error it stops.
func (s *Snapshot) Files(ctx context.Context) iter.Seq2[Add, error] { return s.files(ctx, false) }

func (s *Snapshot) files(ctx context.Context, totals bool) iter.Seq2[Add, error] {
	return func(yield func(Add, error) bool) {
		err := s.replay(ctx, fileActions{totals: totals, add: func(a *Add) (bool, error) { return yield(*a, nil), nil }})
		if err != nil {
			yield(Add{}, err)
		}
	}
}

// replay hands on the file actions of the version, newest first and reconciled: one that a newer action overrides is not
// handed on (PROTOCOL.md, "Action Reconciliation"). Removes are the tombstones that are still in the log. Of two actions of
// one commit that speak of the same file, which the protocol forbids, the first counts, as in Delta Kernel.
//
// Of the commits after the log checkpoint it remembers 16 bytes for each file action, of the log checkpoint nothing.
func (s *Snapshot) replay(ctx context.Context, w fileActions) error {
	seen := fileSet{}
	counts := seen.first
	handed := fileActions{totals: w.totals}
	handed.add = func(a *Add) (bool, error) {
		if counts(a.Path, a.DeletionVector) {
			return true, w.take(a, nil)
		}
		return true, nil
	}
	handed.remove = func(r *Remove) (bool, error) {
		if counts(r.Path, r.DeletionVector) {
			return true, w.take(nil, r)
		}
		return true, nil
	}
	for version := s.seg.version; version > s.seg.base; version-- {
		if err := readJSON(ctx, s.store, &Commit{Version: version}, &handed); err != nil {
			return stopped(err)
		}
	}
	counts = func(path string, dv *DeletionVector) bool { return !seen.has(path, dv) }
	if w.remove == nil {
		handed.remove = nil
	}
	if w.add == nil {
		handed.add = nil
	}
	for _, f := range slices.Concat(s.seg.files, s.seg.sidecars) {
		if err := readLogCheckpoint(ctx, s.store, f, nil, &handed, memory.DefaultAllocator); err != nil {
			return stopped(err)
		}
	}
	return nil
}

// stopped takes errStop, which is no error, out.
func stopped(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// Totals counts a version's files. Rows are those that a reader gets, rows deleted by deletion vectors not counted; files
// without statistics are in FilesWithoutRows and not in Rows. Bytes are those of the data files.
type Totals struct{ Files, Rows, Bytes, FilesWithoutRows int64 }

// Totals reads what Files reads, but less of each file.
func (s *Snapshot) Totals(ctx context.Context) (Totals, error) {
	var t Totals
	for a, err := range s.files(ctx, true) {
		if err != nil {
			return Totals{}, err
		}
		t.Files++
		t.Bytes += a.Size
		rows, ok := a.NumRecords()
		switch {
		case !ok:
			t.FilesWithoutRows++
		case a.DeletionVector != nil:
			t.Rows += rows - a.DeletionVector.Cardinality
		default:
			t.Rows += rows
		}
	}
	return t, nil
}
