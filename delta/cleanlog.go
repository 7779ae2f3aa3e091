package delta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// CleanOptions of CleanLog.
type CleanOptions struct {
	Now   func() time.Time // required
	Limit int              // objects deleted in one call at most; 0 for 5,000
}

const defaultCleanLimit = 5000

// CleanResult tells what CleanLog did. Before is the version from which on everything is kept; 0 when nothing has expired or
// the table does not want to be cleaned.
type CleanResult struct {
	Before   int64
	Deleted  int // objects of versions
	Sidecars int // sidecars that no log checkpoint referred to
}

// CleanLog deletes what the log no longer needs (PROTOCOL.md, "Metadata Cleanup"): everything of the versions before the
// newest log checkpoint that is not newer than the newest commit older than delta.logRetentionDuration, counted from
// midnight UTC unless it is shorter than a day. So every version of the retention can still be opened, and after any of the deletes too: they go from the
// oldest on, and what is kept needs none of them.
//
// It does nothing where delta.enableExpiredLogCleanup is false or a feature forbids it (checkpointProtection), or is not
// known. It may run beside anything that works on the table.
func CleanLog(ctx context.Context, store LogStore, o CleanOptions) (CleanResult, error) {
	if o.Now == nil {
		return CleanResult{}, errors.New("cleaning the log: CleanOptions.Now is required")
	}
	if o.Limit <= 0 {
		o.Limit = defaultCleanLimit
	}
	r, err := cleanLog(ctx, store, o)
	if err != nil {
		return r, fmt.Errorf("cleaning the log: %w", err)
	}
	return r, nil
}

func cleanLog(ctx context.Context, store LogStore, o CleanOptions) (r CleanResult, err error) {
	s, err := OpenSnapshot(ctx, store, -1)
	if err != nil {
		return r, err
	}
	if s.isFalse("delta.enableExpiredLogCleanup") || s.supports("checkpointProtection") || s.checkCheckpoint() != nil {
		return r, nil //nolint:nilerr // a table that others must keep in order
	}
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return r, err
	}
	// What the log checkpoints of before this call refer to stays till the next call: one that is being written now may refer
	// to it again.
	protected, err := referredSidecars(ctx, store)
	if err != nil {
		return r, err
	}
	commits, err := listCommits(ctx, store)
	if err != nil {
		return r, err
	}
	var newest time.Time
	if n := len(commits); n > 0 {
		newest = commits[n-1].time
	}
	now := storesTime(newest, o.Now())
	if r.Before, err = cutoff(ctx, store, s, l, protected, commits, now); err != nil {
		return r, err
	}
	if r.Before > 0 {
		if r.Deleted, err = deleteBefore(ctx, store, r.Before, o.Limit); err != nil {
			return r, err
		}
	}
	r.Sidecars, err = deleteSidecars(ctx, store, protected, now, o.Limit-r.Deleted)
	return r, err
}

// LogRetention is how long versions can be opened (delta.logRetentionDuration): 30 days where the table does not say, and a
// minute at least, since who reads the log takes a younger version that is missing for one that is not there yet (freshFor).
func (s *state) LogRetention() time.Duration {
	return max(s.interval("delta.logRetentionDuration", defaultLogRetention), freshFor)
}

// storesTime is no later than the store's clock, which the newest commit has last shown when it was put. That of who cleans may be far ahead,
// and who reads and writes the log takes a version that is younger than a minute for one that nobody has cleaned (rules C2a and C7).
func storesTime(newest, now time.Time) time.Time {
	if !newest.IsZero() && newest.Before(now) {
		return newest
	}
	return now
}

// StoresTime is no later than the store's clock, for who is to tell how old an object is that the store has listed: the newest commit has last shown it.
// The own clock counts where it is behind. It is long ago where nothing was committed for long.
func (t *Table) StoresTime(ctx context.Context) (time.Time, error) {
	var newest time.Time
	for info, err := range t.store.List(ctx, versionPrefix, commitName(t.version-1)) {
		if err != nil {
			return time.Time{}, fmt.Errorf("listing the Delta log: %w", err)
		}
		if parseLogName(info.Name).kind == kindCommit {
			newest = info.ModTime
		}
	}
	if newest.IsZero() { // the version that is known was cleaned: nothing is known to be old
		return newest, nil
	}
	return storesTime(newest, t.opts.Now()), nil
}

// expiredVersion is the newest version that is older than the retention; -1 for none. It has to be old by the store's clock as well as by the
// timestamps that writers have put into commits.
func expiredVersion(ctx context.Context, store LogStore, s *Snapshot, commits []commitTime, now time.Time) (int64, error) {
	const day = 24 * time.Hour
	retention := s.LogRetention()
	limit := now.Add(-retention).UTC()
	if retention >= day {
		limit = limit.Truncate(day)
	}
	version, err := s.versionAt(ctx, store, commits, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil // all commits are younger, or nothing was committed since
	}
	for i := len(commits) - 1; i >= 0 && commits[i].time.After(limit); i-- {
		version = min(version, commits[i].version-1)
	}
	return version, err
}

// cutoff is the version of the log checkpoint that the oldest kept commit is rebuilt from; 0 when there is none.
func cutoff(ctx context.Context, store LogStore, s *Snapshot, l *listing, sidecars map[string]bool, commits []commitTime, now time.Time) (int64, error) {
	commit, err := expiredVersion(ctx, store, s, commits, now)
	if err != nil {
		return 0, err
	}
	checkpoint := l.newestCheckpoint(0, commit, nil)
	if checkpoint <= 0 {
		return 0, nil
	}
	// What it covers is about to go, so it is read first, and its sidecars are looked for.
	kept, err := OpenSnapshot(ctx, store, checkpoint)
	if err != nil {
		return 0, err
	}
	for _, f := range kept.seg.sidecars {
		if there, ok := sidecars[f.name]; !ok || !there {
			return 0, corruptf("the log checkpoint of version %d refers to %s, which is not there", checkpoint, f.name)
		}
	}
	if kept.seg.base != checkpoint {
		return 0, corruptf("version %d does not open from its own log checkpoint", checkpoint)
	}
	return checkpoint, nil
}

// deleteBefore deletes what belongs to versions before one, in their order, and log compactions that begin at it.
func deleteBefore(ctx context.Context, store LogStore, version int64, limit int) (int, error) {
	var names []string
	for info, err := range store.List(ctx, versionPrefix, "") {
		if err != nil {
			return 0, fmt.Errorf("listing the Delta log: %w", err)
		}
		n := parseLogName(info.Name)
		if n.version > version || len(names) == limit {
			break
		}
		if n.kind == kindCompaction || n.kind != kindOther && n.version < version {
			names = append(names, info.Name)
		}
	}
	return deleteAll(ctx, store, names)
}

func deleteAll(ctx context.Context, store LogStore, names []string) (int, error) {
	for i, name := range names {
		if err := store.Delete(ctx, name); err != nil {
			return i, fmt.Errorf("deleting %s: %w", name, err)
		}
	}
	return len(names), nil
}

// referredSidecars are the sidecars that the listed log checkpoints refer to, each with whether it exists. Without any
// sidecar in the table nothing is read.
func referredSidecars(ctx context.Context, store LogStore) (map[string]bool, error) {
	there := map[string]bool{}
	for info, err := range store.List(ctx, sidecarFolder, "") {
		if err != nil {
			return nil, fmt.Errorf("listing the sidecars: %w", err)
		}
		there[info.Name] = true
	}
	referred := map[string]bool{}
	if len(there) == 0 {
		return referred, nil
	}
	for info, err := range store.List(ctx, versionPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("listing the Delta log: %w", err)
		}
		n := parseLogName(info.Name)
		if n.kind != kindCheckpointV2 && (n.kind != kindCheckpoint || n.parts > 1) || info.Size == 0 {
			continue
		}
		c := &Commit{}
		err := readLogCheckpoint(ctx, store, checkpointFile{info.Name, info.Size}, c, nil, memory.DefaultAllocator)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another cleanup took it
		}
		if err != nil {
			return nil, err
		}
		for i := range c.sidecars {
			s, err := sidecarFile(&c.sidecars[i])
			if err != nil {
				return nil, err
			}
			referred[s.name] = there[s.name]
		}
	}
	return referred, nil
}

// deleteSidecars deletes sidecars that nothing refers to. Those of the last day may belong to a log checkpoint that is being
// written.
func deleteSidecars(ctx context.Context, store LogStore, referred map[string]bool, now time.Time, limit int) (int, error) {
	const day = 24 * time.Hour
	old := now.UTC().Truncate(day).Add(-day)
	var names []string
	for info, err := range store.List(ctx, sidecarFolder, "") {
		if err != nil {
			return 0, fmt.Errorf("listing the sidecars: %w", err)
		}
		if _, ok := referred[info.Name]; ok || !info.ModTime.Before(old) || path.Ext(info.Name) != ".parquet" || len(names) >= limit ||
			strings.Contains(strings.TrimPrefix(info.Name, sidecarFolder), "/") {
			continue
		}
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return deleteAll(ctx, store, names)
}
