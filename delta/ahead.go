package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
)

// How many versions are read at a time, and by ReadAhead at most: those stay in memory until Next has handed them out. After so many bytes
// nothing more is read ahead.
const (
	readsAhead    = 64
	maxAhead      = 256
	maxAheadBytes = 32 << 20
)

// ReadAhead looks how far the log goes and reads what is new, many versions at a time. It moves nothing: the next n calls of Next
// hand the versions out without a request. It costs one listing and a read for each version, of which it takes 256 at most, or 64 where they
// have more than 32 MiB; all tells that the log had no more when it was listed. A version that can't be read, or that proves nothing because
// the version before is gone, is left, with all that come after it, to Next, which says why.
func (t *Table) ReadAhead(ctx context.Context) (n int, all bool, err error) {
	asked := t.opts.Now()
	l, err := t.present(ctx)
	if err != nil {
		return 0, false, err
	}
	have := t.version + int64(len(t.ahead))
	from, _ := slices.BinarySearch(l.commits, have+1)
	commits := t.readRun(ctx, have+1, min(len(l.commits)-from, maxAhead))
	if stands := len(commits) == 0 || t.fresh() || t.standing(ctx) == nil; !stands { // whoever reads one by one finds out why
		return len(t.ahead), false, nil
	}
	for _, c := range commits {
		if c == nil {
			break
		}
		have = c.Version
		t.ahead = append(t.ahead, c)
		t.sight = sight{t.opts.Now(), c.Version}
	}
	t.listed = sight{asked, l.newest()}
	t.arrive()
	return len(t.ahead), have >= t.listed.version, nil
}

// readRun reads n successive versions; those that it can't read are nil.
func (t *Table) readRun(ctx context.Context, first int64, n int) []*Commit {
	commits := make([]*Commit, n)
	bytes := int64(0)
	for done := 0; done < n && bytes < maxAheadBytes; done += readsAhead {
		atOnce(min(readsAhead, n-done), func(i int) {
			if c, err := readCommit(ctx, t.store, first+int64(done+i), true); err == nil {
				commits[done+i] = c
			}
		})
		for _, c := range commits[done:min(done+readsAhead, n)] {
			if c != nil {
				bytes += c.Size
			}
		}
	}
	return commits
}

// readEach yields commits in the order given, each with what opens its JSON. They are read ahead, twice as many at the same time in each turn as in
// the one before, so that who looks at a few reads no more than that again; one that is read alone is not held in memory, however large it is.
func readEach(ctx context.Context, store LogStore, commits []commitTime) iter.Seq2[commitTime, func() (io.ReadCloser, error)] {
	return func(yield func(commitTime, func() (io.ReadCloser, error)) bool) {
		for many := 1; len(commits) > 0; many = min(2*many, readsAhead) {
			n, size := 1, commits[0].size
			for n < min(many, len(commits)) && size+commits[n].size <= maxAheadBytes {
				size += commits[n].size
				n++
			}
			open := func(i int) (io.ReadCloser, error) { return store.Get(ctx, commitName(commits[i].version), 0, -1) }
			if n > 1 {
				open = readAll(n, open)
			}
			for i, c := range commits[:n] {
				if !yield(c, func() (io.ReadCloser, error) { return open(i) }) {
					return
				}
			}
			commits = commits[n:]
		}
	}
}

// readAll reads n objects at the same time, and returns what opens them then.
func readAll(n int, get func(i int) (io.ReadCloser, error)) func(i int) (io.ReadCloser, error) {
	data, errs := make([][]byte, n), make([]error, n)
	atOnce(n, func(i int) {
		r, err := get(i)
		if err == nil {
			data[i], err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		errs[i] = err
	})
	return func(i int) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data[i])), errs[i] }
}

// atOnce calls do n times at the same time, and waits until all have ended.
func atOnce(n int, do func(i int)) {
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { do(i) })
	}
	wait.Wait()
}

// arrive lets go of what was read ahead up to the table's version, and notes where that is the newest one of the last listing.
func (t *Table) arrive() {
	for len(t.ahead) > 0 && t.ahead[0].Version <= t.version {
		t.ahead[0], t.ahead = nil, t.ahead[1:]
	}
	if t.version == t.listed.version && t.listed.seen.After(t.latest) {
		t.latest = t.listed.seen
	}
}
