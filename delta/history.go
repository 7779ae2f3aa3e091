package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"
)

// HistoryEntry is what one commit did. Time is its in-commit timestamp where the newest version has them turned on and says
// that the commit has one, else the modification time of its file made monotonic: as VersionAt takes it. AddedRows counts
// the rows that the statistics of added files tell; RemovedFiles and AddedFiles count actions, those that only rearrange
// data too.
type HistoryEntry struct {
	Version       int64
	Time          time.Time
	Info          *CommitInfo // nil when the writer left none
	Txns          []Txn
	AddedFiles    int64
	RemovedFiles  int64
	AddedRows     int64
	AddedBytes    int64
	ChangesSchema bool // the commit has a metaData action
}

// History yields the commits of a table, newest first, until the first one that was cleaned from the log. It reads ahead:
// one commit at first, then more and more at the same time, up to 64 that have 32 MiB. ErrNotTable says that there is no table.
// Of a log that no version can be opened from, for which VersionAt has no answer, it yields the commits that are there, with the
// in-commit timestamps that it finds, and ends with the reason.
func History(ctx context.Context, store LogStore) iter.Seq2[HistoryEntry, error] {
	return func(yield func(HistoryEntry, error) bool) {
		for e, err := range HistoryOf(ctx, store, HistoryOptions{To: math.MaxInt64}) {
			if errors.Is(err, ErrMissingCommit) || !yield(e, err) {
				return
			}
		}
	}
}

// HistoryOptions say which versions HistoryOf yields, both ends included, and who takes their file actions: those of a
// version come before its entry. An action is valid after the call too, but must not be changed.
type HistoryOptions struct {
	From, To int64
	Add      func(*Add)
	Remove   func(*Remove)
}

// HistoryOf is History for some versions, with their file actions. Where one of them is not in the log, it ends with ErrMissingCommit:
// older ones were cleaned, which may happen while it reads.
func HistoryOf(ctx context.Context, store LogStore, o HistoryOptions) iter.Seq2[HistoryEntry, error] {
	return func(yield func(HistoryEntry, error) bool) {
		commits, err := listCommits(ctx, store)
		if err != nil {
			yield(HistoryEntry{}, fmt.Errorf("reading the history: %w", err))
			return
		}
		oldest := int64(math.MaxInt64) // that is there
		if len(commits) > 0 {
			oldest = commits[0].version
		}
		from, err := inCommitTimestampsFrom(ctx, store)
		var corrupt error // why no version opens
		if _, unsupported := errors.AsType[*UnsupportedError](err); len(commits) > 0 && (unsupported || errors.Is(err, ErrCorrupt)) {
			if !unsupported {
				corrupt = err
			}
			from, err = 0, nil
		}
		if err != nil {
			yield(HistoryEntry{}, fmt.Errorf("reading the history: %w", err))
			return
		}
		commits = slices.DeleteFunc(commits, func(c commitTime) bool { return c.version < o.From || c.version > o.To })
		slices.Reverse(commits)
		for c, open := range readEach(ctx, store, commits) {
			e, err := historyEntry(c, open, from, o)
			if errors.Is(err, fs.ErrNotExist) { // cleaned since the listing
				oldest = c.version + 1
				break
			}
			if err != nil {
				yield(HistoryEntry{}, fmt.Errorf("reading the history: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		switch {
		case corrupt != nil:
			yield(HistoryEntry{}, fmt.Errorf("reading the history: %w", corrupt))
		case oldest > o.From && o.From <= o.To:
			yield(HistoryEntry{}, fmt.Errorf("reading the history: version %d is gone: %w", oldest-1, ErrMissingCommit))
		}
	}
}

// inCommitTimestampsFrom is the first version whose own timestamp counts.
func inCommitTimestampsFrom(ctx context.Context, store LogStore) (int64, error) {
	s, err := OpenSnapshot(ctx, store, -1)
	if err != nil {
		return 0, err
	}
	return s.inCommitTimestampsFrom(), nil
}

// historyEntry reads a commit, whose in-commit timestamp counts in the version from and later ones.
func historyEntry(at commitTime, open func() (io.ReadCloser, error), from int64, o HistoryOptions) (HistoryEntry, error) {
	e := HistoryEntry{Version: at.version, Time: at.time}
	c := &Commit{Version: at.version}
	r, err := open()
	err = parseJSON(r, err, c, &fileActions{
		add: func(a *Add) (bool, error) {
			rows, _ := a.NumRecords()
			e.AddedFiles++
			e.AddedRows += rows
			e.AddedBytes += a.Size
			if o.Add != nil {
				o.Add(a)
			}
			return true, nil
		},
		remove: func(r *Remove) (bool, error) {
			e.RemovedFiles++
			if o.Remove != nil {
				o.Remove(r)
			}
			return true, nil
		},
	})
	e.Info, e.Txns, e.ChangesSchema = c.Info, c.Txns, c.Metadata != nil
	if at.version >= from && c.Info != nil && c.Info.InCommitTimestamp != nil {
		e.Time = time.UnixMilli(*c.Info.InCommitTimestamp)
	}
	return e, err
}

// commitTime is a commit with the modification time of its file, made monotonic, and the file's size.
type commitTime struct {
	version int64
	time    time.Time
	size    int64
}

// listCommits lists the unbroken run of commits that ends at the newest, ascending. Times are cut to milliseconds and made
// strictly monotonic, as Spark does it, because clocks differ between writers and copies change file times.
func listCommits(ctx context.Context, store LogStore) ([]commitTime, error) {
	commits, newest, gap, err := commitsUntil(ctx, store, math.MaxInt64)
	if err == nil && gap { // as in listLog
		commits, _, _, err = commitsUntil(ctx, store, newest)
	}
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(commits); i++ {
		if earliest := commits[i-1].time.Add(time.Millisecond); commits[i].time.Before(earliest) {
			commits[i].time = earliest
		}
	}
	return commits, nil
}

// commitsUntil lists the unbroken run of commits that ends at the newest one up to a version. Newest is what anything that
// is listed proves; gap says that a commit before it is not in the listing.
func commitsUntil(ctx context.Context, store LogStore, until int64) (commits []commitTime, newest int64, gap bool, err error) {
	newest = -1
	for info, err := range store.List(ctx, versionPrefix, "") {
		if err != nil {
			return nil, 0, false, fmt.Errorf("listing the Delta log: %w", err)
		}
		n := parseLogName(info.Name)
		if n.version > until {
			break
		}
		switch n.kind {
		case kindCommit:
			if len(commits) > 0 && commits[len(commits)-1].version != n.version-1 {
				commits, gap = commits[:0], true
			}
			commits = append(commits, commitTime{n.version, info.ModTime.Truncate(time.Millisecond), info.Size})
			newest = max(newest, n.version)
		case kindCheckpoint, kindCheckpointV2:
			newest = max(newest, n.version)
		case kindOther, kindCompaction, kindChecksum:
		}
	}
	return commits, newest, gap || len(commits) > 0 && commits[len(commits)-1].version < newest, nil
}

// OldestVersion is the oldest version that can still be opened. Every later version has its commit in the log.
func OldestVersion(ctx context.Context, store LogStore) (int64, error) {
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return 0, err
	}
	newest := l.newest()
	if newest < 0 {
		return 0, l.absent(ctx, store)
	}
	first := newest + 1 // of the unbroken run of commits that ends at the newest
	for i := len(l.commits) - 1; i >= 0 && l.commits[i] == first-1; i-- {
		first--
	}
	for v := max(first-1, 0); v <= newest; v++ {
		if _, ok := l.complete(v, nil); ok || v == 0 && first == 0 {
			return v, nil
		}
	}
	return 0, corruptf("no version can be rebuilt: the commit of version %d is missing and no complete log checkpoint comes after it", first-1)
}

// VersionAt is the newest version that was committed at or before t, in milliseconds: by in-commit timestamps where the
// table has them (PROTOCOL.md, "Recommendations for Readers of Tables with In-Commit Timestamps"), else by the modification
// times of the commits' files. A time before the first version that can still be rebuilt, or after the newest one, is an
// error that names what there is and wraps fs.ErrNotExist.
func VersionAt(ctx context.Context, store LogStore, t time.Time) (int64, error) {
	version, err := versionAt(ctx, store, t.Truncate(time.Millisecond))
	if err != nil {
		return 0, fmt.Errorf("finding the version at %s: %w", t.UTC().Format(time.RFC3339Nano), err)
	}
	return version, nil
}

func versionAt(ctx context.Context, store LogStore, t time.Time) (int64, error) {
	s, err := OpenSnapshot(ctx, store, -1)
	if err != nil {
		return 0, err
	}
	commits, err := listCommits(ctx, store)
	if err != nil {
		return 0, err
	}
	return s.versionAt(ctx, store, commits, t)
}

// versionAt is VersionAt of commits that are listed already.
func (s *Snapshot) versionAt(ctx context.Context, store LogStore, commits []commitTime, t time.Time) (int64, error) {
	commits, err := rebuildable(ctx, store, commits)
	if err != nil {
		return 0, err
	}
	// Commits from enabled on carry their own time; those before only have their files'.
	since := s.inCommitTimestampsFrom()
	enabled := sort.Search(len(commits), func(i int) bool { return commits[i].version >= since })
	var failed error
	timeOf := func(i int) time.Time {
		if i < enabled || failed != nil {
			return commits[i].time
		}
		c, err := readCommit(ctx, store, commits[i].version, false)
		switch {
		case err != nil:
			failed = err
		case c.Info == nil || c.Info.InCommitTimestamp == nil:
			failed = corruptf("version %d has no in-commit timestamp", commits[i].version)
		default:
			return time.UnixMilli(*c.Info.InCommitTimestamp)
		}
		return commits[i].time
	}
	if len(commits) == 0 {
		return 0, fmt.Errorf("no commit is left in the log that tells its time: %w", fs.ErrNotExist)
	}
	from, to := 0, len(commits)
	if enabled < len(commits) {
		if first := timeOf(enabled); failed == nil && !first.After(t) {
			from = enabled
		} else {
			to = enabled
		}
	}
	i := from + sort.Search(to-from, func(i int) bool { return timeOf(from + i).After(t) }) - 1
	last := timeOf(len(commits) - 1)
	if failed != nil {
		return 0, failed
	}
	if i < 0 {
		return 0, fmt.Errorf("the earliest version that is left is %d of %s: %w", commits[0].version, stamp(timeOf(0)), fs.ErrNotExist)
	}
	if t.After(last) {
		return 0, fmt.Errorf("the newest version is %d of %s: %w", commits[len(commits)-1].version, stamp(last), fs.ErrNotExist)
	}
	return commits[i].version, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// rebuildable leaves out the commits at the beginning that no log checkpoint comes before: a cleanup took what they need.
func rebuildable(ctx context.Context, store LogStore, commits []commitTime) ([]commitTime, error) {
	if len(commits) == 0 || commits[0].version == 0 {
		return commits, nil
	}
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return nil, err
	}
	first := commits[0].version
	for i, c := range commits {
		if l.newestCheckpoint(first-1, c.version, nil) >= 0 {
			return slices.Clone(commits[i:]), nil
		}
	}
	return nil, nil
}

// inCommitTimestampsFrom is the first version whose in-commit timestamp is its time, 0 when that of all is (PROTOCOL.md,
// "Recommendations for Readers of Tables with In-Commit Timestamps"). Where they are turned off none counts, as in Spark's
// DeltaHistoryManager, not even those of versions from before: what came after them has only its file's time.
func (s *state) inCommitTimestampsFrom() int64 {
	if !s.inCommitTimestamps() {
		return math.MaxInt64
	}
	v, err := strconv.ParseInt(s.metadata.Configuration["delta.inCommitTimestampEnablementVersion"], 10, 64)
	if err != nil {
		return 0
	}
	return v
}
