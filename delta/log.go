package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	logFolder          = "_delta_log/"
	lastCheckpointName = logFolder + "_last_checkpoint"
	sidecarFolder      = logFolder + "_sidecars/"

	// versionPrefix starts the name of everything that belongs to a version: versions have 19 digits at most, padded to 20.
	// Listing by it passes over _staged_commits, _sidecars and the like.
	versionPrefix = logFolder + "0"
)

// maxVersion is beyond every version: an object with such a number is none of a log, and there is room for what comes after.
const maxVersion = 1 << 62

// commitName names the JSON of a version (PROTOCOL.md, "Delta Log Entries").
func commitName(version int64) string { return fmt.Sprintf("%s%020d.json", logFolder, version) }

// beforeVersion sorts after everything of the versions below and before everything of this one.
func beforeVersion(version int64) string { return fmt.Sprintf("%s%020d", logFolder, version) }

type logKind int

const (
	kindOther logKind = iota // staged commits, strangers: never needed
	kindCommit
	kindCheckpoint   // classic, or one part of several
	kindCheckpointV2 // UUID-named
	kindCompaction   // never read: see segment
	kindChecksum
)

// logName is what the name of an object in the log says.
type logName struct {
	kind        logKind
	version     int64
	part, parts int // 1 of 1 for a checkpoint in one file
}

// parseLogName reads a name in the log (PROTOCOL.md, "Delta Log Entries", "Checkpoint Naming Scheme", "Log Compaction
// Files" and "Version Checksum File").
func parseLogName(name string) logName {
	name, ok := strings.CutPrefix(name, logFolder)
	words := strings.Split(name, ".")
	if !ok || len(words) < 2 || len(words[0]) != 20 {
		return logName{}
	}
	version, err := strconv.ParseUint(words[0], 10, 62)
	if err != nil {
		return logName{}
	}
	n := logName{version: int64(version), part: 1, parts: 1}
	rest := words[1:]
	switch {
	case len(rest) == 1 && rest[0] == "json":
		n.kind = kindCommit
	case len(rest) == 1 && rest[0] == "crc":
		n.kind = kindChecksum
	case len(rest) == 3 && len(rest[0]) == 20 && rest[1] == "compacted" && rest[2] == "json":
		until, err := strconv.ParseUint(rest[0], 10, 62)
		if err == nil && until > version {
			n.kind = kindCompaction
		}
	case rest[0] != "checkpoint":
	case len(rest) == 2 && rest[1] == "parquet":
		n.kind = kindCheckpoint
	case len(rest) == 3 && len(rest[1]) == 36 && (rest[2] == "parquet" || rest[2] == "json"):
		n.kind = kindCheckpointV2
	case len(rest) == 4 && len(rest[1]) == 10 && len(rest[2]) == 10 && rest[3] == "parquet":
		part, err1 := strconv.ParseUint(rest[1], 10, 31)
		parts, err2 := strconv.ParseUint(rest[2], 10, 31)
		if err1 == nil && err2 == nil && part >= 1 && part <= parts {
			n.kind, n.part, n.parts = kindCheckpoint, int(part), int(parts)
		}
	}
	return n
}

// checkpointFile is one file of a log checkpoint: Parquet, or JSON for some of the UUID-named; or a sidecar.
type checkpointFile struct {
	name string
	size int64
}

// segment is the part of a log that rebuilds one version: a log checkpoint, unless base is -1, and the commits of every
// version in (base, version].
//
// Log compactions have no part in it (PROTOCOL.md, "Log Compaction Files": readers "can optionally consume" them). The commits
// that one stands for are always there beside it, and one that lacks some of their actions looks like a whole one: a txn would
// go back, and a log checkpoint would lose files for good. All that they could save is a few requests.
type segment struct {
	base        int64
	files       []checkpointFile
	sidecars    []checkpointFile // of the log checkpoint; known once its state was read
	version     int64
	hasJSON     bool      // whether version's own JSON was listed; false only where base == version and the log was cleaned
	put         time.Time // when that JSON was put, by the store's clock
	hasCRC      bool      // whether version's checksum was listed
	broken      bool      // whether reading stopped in the log checkpoint
	sidecarRefs []Sidecar // the actions that name the sidecars
}

// listing is what a listing of the log found.
type listing struct {
	commits     []int64                            // ascending
	put         []time.Time                        // when each of them was, by the store's clock
	checkpoints map[int64]map[int][]checkpointFile // complete or not, by version and number of parts; of one part there may be several
	checksums   map[int64]struct{}
	first       string // name of the first object that belongs to a version; "" where there is none
}

// listLog lists the log from a version on. A listing is no snapshot of the store: of two versions that are put while it runs
// it may show the later one alone. What is shown proves that every version before it had been put, so where one is missing
// the log is listed once more, up to there.
func listLog(ctx context.Context, store LogStore, from int64) (*listing, error) {
	l, err := listUntil(ctx, store, from, math.MaxInt64)
	if err != nil || !l.gap(from) {
		return l, err
	}
	return listUntil(ctx, store, from, l.newest())
}

func listUntil(ctx context.Context, store LogStore, from, until int64) (*listing, error) {
	l := &listing{checkpoints: map[int64]map[int][]checkpointFile{}, checksums: map[int64]struct{}{}}
	after := ""
	if from > 0 {
		after = beforeVersion(from)
	}
	for info, err := range store.List(ctx, versionPrefix, after) {
		if err != nil {
			return nil, fmt.Errorf("listing the Delta log: %w", err)
		}
		if n := parseLogName(info.Name); n.version <= until {
			l.take(info, n)
		}
	}
	return l, nil
}

// gap tells whether a commit is missing that the listing proves to have been put: between the first one and the newest
// version, or before the first one where no log checkpoint stands for it.
func (l *listing) gap(from int64) bool {
	if len(l.commits) == 0 {
		return false
	}
	first, newest := l.commits[0], l.newest()
	return int64(len(l.commits)) != newest-first+1 || from == 0 && first > 0 && l.newestCheckpoint(0, newest, nil) < 0
}

func (l *listing) take(info ObjectInfo, n logName) {
	if n.kind != kindOther && l.first == "" {
		l.first = info.Name
	}
	switch n.kind {
	case kindCommit:
		l.commits, l.put = append(l.commits, n.version), append(l.put, info.ModTime)
	case kindCheckpointV2, kindCheckpoint:
		byParts := l.checkpoints[n.version]
		if byParts == nil {
			byParts = map[int][]checkpointFile{}
			l.checkpoints[n.version] = byParts
		}
		byParts[n.parts] = append(byParts[n.parts], checkpointFile{info.Name, info.Size})
	case kindChecksum:
		l.checksums[n.version] = struct{}{}
	case kindCompaction, kindOther:
	}
}

// absent says what it means that the listing of a whole log proves no version: ErrNotTable, or that there was a table once.
// Where something is left of its log, a new table over it would bury what may still be recovered.
func (l *listing) absent(ctx context.Context, store LogStore) error {
	what := l.first
	if what == "" {
		hint, err := lastCheckpoint(ctx, store)
		if err != nil {
			return err
		}
		if hint < 0 {
			return ErrNotTable
		}
		what = lastCheckpointName
	}
	return corruptf("no version can be rebuilt, but %s is there: restore the log from a backup, or empty %s to give the table up", what, logFolder)
}

// complete returns the files of a version's complete log checkpoint, none of which is broken. One with missing parts does not
// count (PROTOCOL.md, "Checkpoints"). Of several complete ones any will do: a single file comes before several parts.
func (l *listing) complete(version int64, broken []string) ([]checkpointFile, bool) {
	byParts := l.checkpoints[version]
	for _, parts := range slices.Sorted(maps.Keys(byParts)) {
		for files := range slices.Chunk(byParts[parts], parts) {
			if len(files) == parts && !slices.ContainsFunc(files, func(f checkpointFile) bool { return slices.Contains(broken, f.name) }) {
				return files, true
			}
		}
	}
	return nil, false
}

// newest is the newest version that the listing proves; -1 when it proves none. Log compactions and checksums prove nothing.
func (l *listing) newest() int64 {
	newest := l.newestCheckpoint(0, math.MaxInt64, nil)
	if n := len(l.commits); n > 0 {
		newest = max(newest, l.commits[n-1])
	}
	return newest
}

// newestCheckpoint is the newest version in [from, to] with a complete log checkpoint that is not broken; -1 when there is none.
func (l *listing) newestCheckpoint(from, to int64, broken []string) int64 {
	newest := int64(-1)
	for v := range l.checkpoints {
		if v > newest && v >= from && v <= to {
			if _, ok := l.complete(v, broken); ok {
				newest = v
			}
		}
	}
	return newest
}

// segment finds what rebuilds the target version, the newest for -1, without the files of log checkpoints that are broken.
func (l *listing) segment(target int64, broken []string) (*segment, error) {
	newest := l.newest()
	if target < 0 {
		target = newest
	}
	if target > newest {
		return nil, fmt.Errorf("opening version %d: the newest version is %d: %w", target, newest, fs.ErrNotExist)
	}
	// first is the start of the unbroken run of commits that ends at the target.
	first := target + 1
	end, hasJSON := slices.BinarySearch(l.commits, target)
	if hasJSON {
		for i := end; i >= 0 && l.commits[i] == first-1; i-- {
			first--
		}
	}
	s := &segment{base: l.newestCheckpoint(first-1, target, broken), version: target, hasJSON: hasJSON}
	if hasJSON {
		s.put = l.put[end]
	}
	_, s.hasCRC = l.checksums[target]
	if s.base < 0 && first > 0 {
		return nil, corruptf("version %d cannot be rebuilt: the commit of version %d is missing and no complete log checkpoint covers it",
			target, first-1)
	}
	if s.base >= 0 {
		s.files, _ = l.complete(s.base, broken)
	}
	return s, nil
}

// findSegment finds what rebuilds a version, the newest for -1, without the files of log checkpoints that are broken. It lists
// from the version that _last_checkpoint names, and the whole log when that does not help: the file is a hint that may be
// missing, stale or torn (PROTOCOL.md, "Last Checkpoint File").
func findSegment(ctx context.Context, store LogStore, target int64, broken []string) (*segment, error) {
	hint, err := lastCheckpoint(ctx, store)
	if err != nil {
		return nil, err
	}
	if hint > 0 && hint < maxVersion && (target < 0 || hint <= target) {
		l, err := listLog(ctx, store, hint)
		if err != nil {
			return nil, err
		}
		if l.newest() >= 0 {
			if s, err := l.segment(target, broken); err == nil {
				return s, nil
			}
		}
	}
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return nil, err
	}
	if l.newest() < 0 {
		return nil, l.absent(ctx, store)
	}
	return l.segment(target, broken)
}

// maxHint bounds what is read of _last_checkpoint and of checksums. The rest is cut off: what is left is no JSON, and no hint.
const maxHint = 64 << 20

// readHint reads an object that the log can do without.
func readHint(ctx context.Context, store LogStore, name string) ([]byte, error) {
	r, err := store.Get(ctx, name, 0, maxHint)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// readCommit reads the JSON of one version; fs.ErrNotExist when it is not there. Without withFiles, file actions are
// skipped unparsed.
func readCommit(ctx context.Context, store LogStore, version int64, withFiles bool) (*Commit, error) {
	c := &Commit{Version: version}
	var files *fileActions
	if withFiles {
		files = c.counting()
	}
	return c, readJSON(ctx, store, c, files)
}

// readJSON reads the JSON of c.Version: the file actions go to files, unless it is nil, all others into c.
func readJSON(ctx context.Context, store LogStore, c *Commit, files *fileActions) error {
	r, err := store.Get(ctx, commitName(c.Version), 0, -1)
	return parseJSON(r, err, c, files)
}

// parseJSON is readJSON of what the store has answered. It closes r.
func parseJSON(r io.ReadCloser, err error, c *Commit, files *fileActions) error {
	what := fmt.Sprintf("version %d", c.Version)
	if err != nil {
		return fmt.Errorf("reading %s of the log: %w", what, err)
	}
	err = parseActions(what, r, c, files)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	return nil
}
