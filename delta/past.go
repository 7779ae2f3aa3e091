package delta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// Past reads versions that the table has followed or stood on already, their actions but those of files: from newest on downwards, side by side, at
// least one and n at most. One that was cleaned from the log is nil. So is what stands in the place of such a one: below the oldest version that can be
// opened it may be a put that came late into a cleaned log (rule C7), which says nothing of what was there.
func (t *Table) Past(ctx context.Context, newest int64, n int) ([]*Commit, error) {
	if known := newest - t.base + 1; known > 0 {
		n = int(min(int64(n), known)) // these were read when the table was opened: whether they are what they were need not be asked
	}
	commits, errs := make([]*Commit, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			c, err := readCommit(ctx, t.store, newest-int64(i), false)
			switch {
			case err == nil:
				commits[i] = c
			case !errors.Is(err, fs.ErrNotExist):
				errs[i] = err
			}
		})
	}
	wait.Wait()
	err := errors.Join(errs...)
	if err == nil && newest < t.base {
		var oldest int64
		oldest, err = OldestVersion(ctx, t.store) // asked after they were read, since the log may be cleaned meanwhile
		for i := range commits {
			if newest-int64(i) < oldest {
				commits[i] = nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking back in the Delta log: %w", err)
	}
	return commits, nil
}
