package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

const (
	logFolder          = "_delta_log/"
	lastCheckpointName = logFolder + "_last_checkpoint"

	// versionPrefix starts the name of everything that belongs to a version: versions have 19 digits at most, padded to 20.
	// Listing by it passes over _staged_commits, _sidecars and the like.
	versionPrefix = logFolder + "0"
)

// commitName names the JSON of a version (PROTOCOL.md, "Delta Log Entries").
func commitName(version int64) string { return fmt.Sprintf("%s%020d.json", logFolder, version) }

// beforeVersion sorts after everything of the versions below and before everything of this one.
func beforeVersion(version int64) string { return fmt.Sprintf("%s%020d", logFolder, version) }

type logKind int

const (
	kindOther logKind = iota // checksums, compactions, staged commits, strangers: never needed
	kindCommit
	kindCheckpoint   // classic, or one part of several
	kindCheckpointV2 // UUID-named
)

// logName is what the name of an object in the log says.
type logName struct {
	kind        logKind
	version     int64
	part, parts int // 1 of 1 for a checkpoint in one file
}

// parseLogName reads a name in the log (PROTOCOL.md, "Delta Log Entries" and "Checkpoint Naming Scheme").
func parseLogName(name string) logName {
	name, ok := strings.CutPrefix(name, logFolder)
	words := strings.Split(name, ".")
	if !ok || len(words) < 2 || len(words[0]) != 20 {
		return logName{}
	}
	version, err := strconv.ParseUint(words[0], 10, 63)
	if err != nil {
		return logName{}
	}
	n := logName{version: int64(version), part: 1, parts: 1}
	rest := words[1:]
	switch {
	case len(rest) == 1 && rest[0] == "json":
		n.kind = kindCommit
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

// checkpointFile is one Parquet file of a log checkpoint.
type checkpointFile struct {
	name string
	size int64
}

// segment is the part of a log that rebuilds one version: a log checkpoint, unless base is -1, and the JSON of every
// version in (base, version].
type segment struct {
	base    int64
	files   []checkpointFile
	version int64
	hasJSON bool // whether version's own JSON was listed; false only where base == version and the log was cleaned
}

// listing is what a listing of the log found.
type listing struct {
	commits     []int64                            // ascending
	checkpoints map[int64]map[int][]checkpointFile // complete or not, by version and number of parts
	v2          []int64                            // versions of UUID-named checkpoints
	empty       bool
}

// listLog lists the log from a version on.
func listLog(ctx context.Context, store LogStore, from int64) (*listing, error) {
	l := &listing{checkpoints: map[int64]map[int][]checkpointFile{}, empty: true}
	after := ""
	if from > 0 {
		after = beforeVersion(from)
	}
	for info, err := range store.List(ctx, versionPrefix, after) {
		if err != nil {
			return nil, fmt.Errorf("listing the Delta log: %w", err)
		}
		n := parseLogName(info.Name)
		switch n.kind {
		case kindCommit:
			l.commits = append(l.commits, n.version)
		case kindCheckpointV2:
			l.v2 = append(l.v2, n.version)
		case kindCheckpoint:
			byParts := l.checkpoints[n.version]
			if byParts == nil {
				byParts = map[int][]checkpointFile{}
				l.checkpoints[n.version] = byParts
			}
			byParts[n.parts] = append(byParts[n.parts], checkpointFile{info.Name, info.Size})
		case kindOther:
			continue
		}
		l.empty = false
	}
	return l, nil
}

// complete returns the files of a version's complete log checkpoint. One with missing parts does not count (PROTOCOL.md,
// "Checkpoints"); of several complete ones the one with the fewest files is taken.
func (l *listing) complete(version int64) ([]checkpointFile, bool) {
	best := 0
	for parts, files := range l.checkpoints[version] {
		if len(files) == parts && (best == 0 || parts < best) {
			best = parts
		}
	}
	return l.checkpoints[version][best], best > 0
}

// newest is the newest version that the listing proves; -1 when it proves none.
func (l *listing) newest() int64 {
	newest := int64(-1)
	if n := len(l.commits); n > 0 {
		newest = l.commits[n-1]
	}
	for v := range l.checkpoints {
		if _, ok := l.complete(v); ok {
			newest = max(newest, v)
		}
	}
	for _, v := range l.v2 {
		newest = max(newest, v)
	}
	return newest
}

// segment finds what rebuilds the target version, the newest for -1.
func (l *listing) segment(target int64) (*segment, error) {
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
	s := &segment{base: -1, version: target, hasJSON: hasJSON}
	for v := range l.checkpoints {
		if files, ok := l.complete(v); ok && v <= target && v >= first-1 && v > s.base {
			s.base, s.files = v, files
		}
	}
	if s.base >= 0 || first == 0 {
		return s, nil
	}
	for _, v := range l.v2 {
		if v <= target && v >= first-1 {
			return nil, &UnsupportedError{
				Features: []string{"v2Checkpoint"},
				Detail:   fmt.Sprintf("version %d can only be rebuilt from the UUID-named log checkpoint of version %d", target, v),
				Remedy:   "let its writer make a classic log checkpoint: set delta.checkpointPolicy = classic and write a new one",
			}
		}
	}
	return nil, corruptf("version %d cannot be rebuilt: the commit of version %d is missing and no complete log checkpoint covers it",
		target, first-1)
}

// findSegment finds what rebuilds a version, the newest for -1. It lists from the version that _last_checkpoint names, and
// the whole log when that does not help: the file is a hint that may be missing, stale or torn (PROTOCOL.md, "Last
// Checkpoint File").
func findSegment(ctx context.Context, store LogStore, target int64) (*segment, error) {
	hint, err := lastCheckpoint(ctx, store)
	if err != nil {
		return nil, err
	}
	if hint > 0 && (target < 0 || hint <= target) {
		l, err := listLog(ctx, store, hint)
		if err != nil {
			return nil, err
		}
		if !l.empty {
			if s, err := l.segment(target); err == nil {
				return s, nil
			}
		}
	}
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return nil, err
	}
	if l.newest() < 0 {
		return nil, ErrNotTable
	}
	return l.segment(target)
}

// lastCheckpoint reads the version that _last_checkpoint names, -1 when it does not say.
func lastCheckpoint(ctx context.Context, store LogStore) (int64, error) {
	data, err := readObject(ctx, store, lastCheckpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("reading %s: %w", lastCheckpointName, err)
	}
	var hint struct {
		Version *int64 `json:"version"`
	}
	if json.Unmarshal(data, &hint) != nil || hint.Version == nil {
		return -1, nil //nolint:nilerr // a hint that can't be understood is none
	}
	return *hint.Version, nil
}

func readObject(ctx context.Context, store LogStore, name string) ([]byte, error) {
	r, err := store.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// readCommit reads the JSON of one version; fs.ErrNotExist when it is not there.
func readCommit(ctx context.Context, store LogStore, version int64, withFiles bool) (*Commit, error) {
	r, err := store.Get(ctx, commitName(version), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("reading version %d of the log: %w", version, err)
	}
	c, err := parseCommit(version, r, withFiles)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("reading version %d of the log: %w", version, err)
	}
	return c, nil
}
