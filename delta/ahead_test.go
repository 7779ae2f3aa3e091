package delta_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/faultstore"
)

// tally counts the requests of many goroutines.
type tally struct {
	delta.LogStore
	gets, lists atomic.Int64
	running     atomic.Int64 // gets
	most        atomic.Int64
	lose        atomic.Bool   // the answer of the next put
	delay       time.Duration // of each get
}

func (s *tally) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	s.gets.Add(1)
	now := s.running.Add(1)
	defer s.running.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	time.Sleep(s.delay)
	return s.LogStore.Get(ctx, name, offset, length)
}

func (s *tally) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	s.lists.Add(1)
	return s.LogStore.List(ctx, prefix, after)
}

func (s *tally) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	err := s.LogStore.PutIfAbsent(ctx, name, data)
	if s.lose.CompareAndSwap(true, false) {
		return errLost
	}
	return err
}

func (s *tally) reset() { s.gets.Store(0); s.lists.Store(0); s.most.Store(0) }

func TestReadAhead(t *testing.T) {
	c := newClock()
	s := &tally{LogStore: created(t, c, "a INT")}
	table, other := open(t, s, c), open(t, s.LogStore, c)
	const behind = 300
	for i := range behind {
		commit(t, other, appendOf("app", int64(i), "f"), delta.Committed)
	}
	s.reset()
	for _, want := range []int64{256, 44, 0} { // no more than that stays in memory
		n, all, err := table.ReadAhead(ctx)
		check(t, err)
		if int64(n) != want || all != (want < 256) {
			t.Fatalf("%d versions are read ahead, all of them: %v; want %d", n, all, want)
		}
		before := s.gets.Load()
		for range n {
			at := table.Version()
			commit, err := table.Next(ctx)
			check(t, err)
			if commit.Version != at+1 || table.Version() != at+1 {
				t.Fatalf("version %d after %d", commit.Version, at)
			}
		}
		if s.gets.Load() != before {
			t.Errorf("Next has read what was read ahead")
		}
	}
	if s.gets.Load() != behind || s.lists.Load() != 3 || s.most.Load() > 64 {
		t.Errorf("%d reads, %d at a time, and %d listings, want %d, 64 at most, and 3", s.gets.Load(), s.most.Load(), s.lists.Load(), behind)
	}
	if txn, _ := table.Txn("app"); txn.Version != behind-1 {
		t.Errorf("the txn is %d", txn.Version)
	}
	c.add(59 * time.Second) // the last listing has shown that nothing is new
	s.reset()
	if _, err := table.Next(ctx); !errors.Is(err, io.EOF) || s.lists.Load() != 0 {
		t.Errorf("%v with %d listings, want io.EOF with none", err, s.lists.Load())
	}
}

// TestOpenReadsManyVersionsAtOnce: a log whose last log checkpoint is 150 versions ago takes a few reads' time to open, and is applied in order.
func TestOpenReadsManyVersionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		s := created(t, c, "a INT")
		writer := open(t, s, c)
		for i := range int64(150) {
			commit(t, writer, appendOf("app", i, "f"), delta.Committed)
		}
		late := &tally{LogStore: s, delay: 50 * time.Millisecond}
		begun := time.Now()
		table := open(t, late, c)
		if took := time.Since(begun); took > 10*50*time.Millisecond {
			t.Errorf("opening took the time of %d reads, want at most 10", took/(50*time.Millisecond))
		}
		if txn, _ := table.Txn("app"); txn.Version != 149 || table.Version() != 150 {
			t.Errorf("the txn is %d in version %d, want 149 in 150", txn.Version, table.Version())
		}
		if late.most.Load() > 64 {
			t.Errorf("%d reads at a time, want 64 at most", late.most.Load())
		}
	})
}

// TestHistoryReadsManyVersionsAtOnce: it takes a few reads' time, yields each version in order with its files before it, and reads no version twice. Who looks at the
// newest one alone has no other one read.
func TestHistoryReadsManyVersionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const newest = 200
		c := newClock()
		s := created(t, c, "a INT")
		writer := open(t, s, c)
		for i := range int64(newest) {
			commit(t, writer, appendOf("app", i, fmt.Sprint("f", i+1)), delta.Committed)
		}
		late := &tally{LogStore: s, delay: 50 * time.Millisecond}
		begun := time.Now()
		var added string
		want := int64(newest)
		for e, err := range delta.HistoryOf(ctx, late, delta.HistoryOptions{To: newest, Add: func(a *delta.Add) { added = a.Path }}) {
			check(t, err)
			if e.Version == newest { // the table was opened for it, and no more was read
				late.reset()
				begun = time.Now()
			}
			if e.Version != want || e.Version > 0 && added != fmt.Sprint("f", e.Version) {
				t.Fatalf("version %d with file %s, want %d with its own", e.Version, added, want)
			}
			want--
		}
		if want != -1 {
			t.Errorf("it ends before version %d", want)
		}
		if took := time.Since(begun); took > 10*50*time.Millisecond {
			t.Errorf("it took the time of %d reads, want at most 10", took/(50*time.Millisecond))
		}
		if most, all := late.most.Load(), late.gets.Load(); most > 64 || most < 32 || all != newest {
			t.Errorf("%d reads, %d at a time, want %d, 64 at a time at most", all, most, newest)
		}
	})
}

// large lists commits as objects of 6 MB.
type large struct{ tally }

func (s *large) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for o, err := range s.tally.List(ctx, prefix, after) {
			if strings.HasSuffix(o.Name, ".json") {
				o.Size = 6_000_000
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// TestHistoryReadsAheadInBoundedMemory: of large commits fewer are read at a time.
func TestHistoryReadsAheadInBoundedMemory(t *testing.T) {
	const newest = 40
	c := newClock()
	s := created(t, c, "a INT")
	writer := open(t, s, c)
	for i := range int64(newest) {
		commit(t, writer, appendOf("app", i, "f"), delta.Committed)
	}
	late := &large{tally{LogStore: s, delay: 20 * time.Millisecond}}
	n := 0
	for _, err := range delta.History(ctx, late) {
		check(t, err)
		if n++; n == 1 {
			late.reset()
		}
	}
	if most := late.most.Load(); n != newest+1 || most < 2 || most > 5 {
		t.Errorf("of %d versions of 6 MB %d are told of, %d read at a time, want 5 at most", newest+1, n, most)
	}
}

// TestReadAheadIsBounded in bytes as well.
func TestReadAheadIsBounded(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	table := open(t, s, c)
	large := []byte(`{"commitInfo":{"operation":"` + strings.Repeat("x", 600_000) + `"}}`)
	for v := range int64(70) {
		check(t, s.PutIfAbsent(ctx, fmt.Sprintf("_delta_log/%020d.json", v+1), large))
	}
	for _, want := range []int{64, 6} {
		n, all, err := table.ReadAhead(ctx)
		check(t, err)
		if n != want || all != (want < 64) {
			t.Fatalf("%d versions of 600 kB are read ahead, all of them: %v; want %d", n, all, want)
		}
		for range n {
			_, err := table.Next(ctx)
			check(t, err)
		}
	}
}

// TestReadAheadOfARace reads on from the winner of a lost race, which was read already, and a commit is judged by what was read.
func TestReadAheadOfARace(t *testing.T) {
	c := newClock()
	s := &tally{LogStore: created(t, c, "a INT")}
	mine, theirs := open(t, s, c), open(t, s.LogStore, c)
	for i := range int64(3) {
		commit(t, theirs, appendOf("theirs", i, "t"), delta.Committed)
	}
	tx := appendOf("mine", 1, "m")
	commit(t, mine, tx, delta.Conflict)
	s.reset()
	n, _, err := mine.ReadAhead(ctx)
	check(t, err)
	if n != 3 || s.gets.Load() != 2 {
		t.Errorf("%d versions after %d reads, want 3 after 2", n, s.gets.Load())
	}
	for range n {
		commit(t, mine, tx, delta.Conflict) // nothing is put where a version is known
		_, err := mine.Next(ctx)
		check(t, err)
	}
	commit(t, mine, tx, delta.Committed)
	if mine.Version() != 4 {
		t.Errorf("version %d, want 4", mine.Version())
	}
}

// TestReadAheadFindsAnOwnVersion whose answer was lost, with versions of others behind it.
func TestReadAheadFindsAnOwnVersion(t *testing.T) {
	c := newClock()
	s := &tally{LogStore: created(t, c, "a INT")}
	mine, theirs := open(t, s, c), open(t, s.LogStore, c)
	s.lose.Store(true)
	tx := appendOf("mine", 1, "m")
	commit(t, mine, tx, delta.Unknown)
	_, err := theirs.Next(ctx)
	check(t, err)
	commit(t, theirs, appendOf("theirs", 1, "t"), delta.Committed)
	n, _, err := mine.ReadAhead(ctx)
	check(t, err)
	if n != 2 {
		t.Fatalf("%d versions are read ahead, want 2", n)
	}
	commit(t, mine, tx, delta.Committed)
	if mine.Version() != 1 {
		t.Errorf("version %d, want 1", mine.Version())
	}
	next, err := mine.Next(ctx)
	check(t, err)
	if next.Version != 2 || !next.Touches("theirs") {
		t.Errorf("version %d, want the one of the other", next.Version)
	}
}

// TestReadAheadProvesNothing of versions behind one that is gone (rule C2a), and reads nothing of a log that has holes.
func TestReadAheadProvesNothing(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	table, other := open(t, s, c), open(t, s, c)
	for i := range int64(4) {
		commit(t, other, appendOf("app", i, "f"), delta.Committed)
	}
	drop(t, s, delta.CommitName(2))
	n, all, err := table.ReadAhead(ctx)
	check(t, err)
	if n != 1 || all {
		t.Errorf("%d versions are read ahead, want that before the hole", n)
	}
	_, err = table.Next(ctx)
	check(t, err)
	c.add(2 * time.Minute)
	if _, err := table.Next(ctx); !errors.Is(err, delta.ErrMissingCommit) {
		t.Errorf("%v, want ErrMissingCommit", err)
	}

	s = created(t, c, "a INT")
	table, other = open(t, s, c), open(t, s, c)
	commit(t, other, appendOf("app", 1, "f"), delta.Committed)
	_, err = table.Next(ctx)
	check(t, err)
	commit(t, other, appendOf("app", 2, "f"), delta.Committed)
	checkpointAt(t, s, 1, 1)
	drop(t, s, delta.CommitName(0), delta.CommitName(1))
	c.add(2 * time.Minute)
	n, all, err = table.ReadAhead(ctx)
	check(t, err)
	if n != 0 || all {
		t.Errorf("%d versions are read ahead, want none", n)
	}
	if _, err := table.Next(ctx); !errors.Is(err, delta.ErrMissingCommit) {
		t.Errorf("%v, want ErrMissingCommit", err)
	}
}

// TestFrozenWithinARead: who stands still within the read of a version, until the log was cleaned beyond it and a late put has come into the hole, learns
// nothing from what it reads there (rule C2a).
func TestFrozenWithinARead(t *testing.T) {
	for name, reads := range map[string]func(*delta.Table) error{
		"following": func(table *delta.Table) error {
			_, err := table.Next(ctx)
			return err
		},
		"committing": func(table *delta.Table) error {
			tx := appendOf("mine", 1, "g")
			if outcome, err := table.Commit(ctx, tx); outcome != delta.Conflict {
				return err
			}
			_, err := table.Next(ctx)
			return err
		},
	} {
		c := newClock()
		s := created(t, c, "a INT")
		frozen := faultstore.New(s)
		table, other := open(t, frozen, c), open(t, s, c)
		for i := range int64(3) {
			commit(t, other, appendOf("app", i, "f"), delta.Committed)
		}
		once := sync.OnceFunc(func() {
			c.add(2 * time.Minute)
			late := read(t, s, delta.CommitName(2))
			checkpointAt(t, s, 3, 1)
			drop(t, s, delta.CommitName(0), delta.CommitName(1), delta.CommitName(2))
			check(t, s.Put(ctx, delta.CommitName(1), late))
		})
		frozen.SetHook(func(op faultstore.Op) {
			if op.Method == faultstore.MethodGet && op.Name == delta.CommitName(1) {
				once()
			}
		})
		if err := reads(table); !errors.Is(err, delta.ErrMissingCommit) {
			t.Errorf("%s: %v, want ErrMissingCommit", name, err)
		}
	}
}
