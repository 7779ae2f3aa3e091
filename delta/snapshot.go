package delta

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
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
	s, seg, err := open(ctx, store, version)
	if err != nil {
		return nil, fmt.Errorf("opening the Delta log: %w", err)
	}
	return &Snapshot{state: *s, store: store, seg: seg}, nil
}

// Info is the commitInfo of this version; nil when it has none or its JSON was cleaned.
func (s *Snapshot) Info() *CommitInfo { return s.info }

// LogCheckpoint is the version of the newest complete log checkpoint at or below this version; false when there is none.
func (s *Snapshot) LogCheckpoint() (version int64, ok bool) { return s.seg.base, s.seg.base >= 0 }

// Files yields the files of the version, newest first (PROTOCOL.md, "Action Reconciliation"). It reads the log anew every
// time: commits from the newest down, then the log checkpoint in batches; its memory is bounded by the commits after the
// log checkpoint. After an error it stops.
func (s *Snapshot) Files(ctx context.Context) iter.Seq2[Add, error] { return s.files(ctx, fileColumns) }

func (s *Snapshot) files(ctx context.Context, columns []string) iter.Seq2[Add, error] {
	return func(yield func(Add, error) bool) {
		seen := map[fileKey]struct{}{}
		for v := s.seg.version; v > s.seg.base; v-- {
			c, err := readCommit(ctx, s.store, v, true)
			if err != nil {
				yield(Add{}, err)
				return
			}
			if !newestAdds(c, seen, yield) {
				return
			}
		}
		for _, f := range s.seg.files {
			stop := errors.New("stop")
			err := readLogCheckpoint(ctx, s.store, f, columns, memory.DefaultAllocator, func(rb arrow.RecordBatch) error {
				more, err := checkpointAdds(rb, func(a *Add) bool {
					if _, known := seen[keyOf(a.Path, a.DeletionVector)]; known {
						return true
					}
					return yield(*a, nil)
				})
				if err == nil && !more {
					return stop
				}
				return err
			})
			if errors.Is(err, stop) {
				return
			}
			if err != nil {
				yield(Add{}, err)
				return
			}
		}
	}
}

// newestAdds yields the adds of a commit that no later commit speaks of; false when the caller wants no more.
func newestAdds(c *Commit, seen map[fileKey]struct{}, yield func(Add, error) bool) bool {
	for _, a := range c.Adds {
		key := keyOf(a.Path, a.DeletionVector)
		if _, known := seen[key]; known {
			continue
		}
		seen[key] = struct{}{}
		if !yield(a, nil) {
			return false
		}
	}
	for _, r := range c.Removes {
		seen[keyOf(r.Path, r.DeletionVector)] = struct{}{}
	}
	return true
}

// Totals counts a version's files. Rows are those that a reader gets, rows deleted by deletion vectors not counted; files
// without statistics are in FilesWithoutRows and not in Rows. Bytes are those of the data files.
type Totals struct{ Files, Rows, Bytes, FilesWithoutRows int64 }

// Totals reads what Files reads, but less of each file.
func (s *Snapshot) Totals(ctx context.Context) (Totals, error) {
	var t Totals
	for a, err := range s.files(ctx, totalColumns) {
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
