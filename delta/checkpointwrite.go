package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
)

// Retentions of what a table does not set (Delta's defaults).
const (
	defaultTombstoneRetention = 7 * 24 * time.Hour
	defaultLogRetention       = 30 * 24 * time.Hour
)

// CheckpointOptions of WriteLogCheckpoint.
type CheckpointOptions struct {
	Now func() time.Time // what has expired; required
}

// CheckpointResult tells what WriteLogCheckpoint did.
type CheckpointResult struct {
	Version    int64
	Written    bool       // false: the version had a complete log checkpoint already
	Bytes      int64      // written, sidecars included, reused ones not
	Actions    int64      // in the log checkpoint, with those in sidecars
	Files      FileCounts // of the version
	Sidecars   int        // that it refers to; 0 for a classic one
	Reused     int        // of them, those that an earlier log checkpoint refers to as well
	Tombstones int64
}

// WriteLogCheckpoint writes a log checkpoint of a version, the newest for -1, and lets _last_checkpoint point to it
// (PROTOCOL.md, "Checkpoints"). It may run beside anything that works on the table, also beside another one for the same
// version: what they write says the same. A version that has a complete log checkpoint is left as it is.
//
// It is classic, in one file, unless the table supports v2Checkpoint and delta.checkpointPolicy is v2: then the files are in
// sidecars, and those that did not change are referred to again. The earlier log checkpoint is streamed, so memory does not
// depend on the number of files: it grows with the file actions after the earlier log checkpoint, 16 bytes each.
//
// The log checkpoint becomes visible as a whole, behind everything that it refers to, and _last_checkpoint is put after
// it. So wherever it ends, the table is what it was. The version's checksum is put as well, unless there is one.
//
// An earlier log checkpoint whose file actions can't be read is passed over where an older one and the commits, or the commits
// alone, reach as far.
func WriteLogCheckpoint(ctx context.Context, store LogStore, version int64, o CheckpointOptions) (CheckpointResult, error) {
	if o.Now == nil {
		return CheckpointResult{}, errors.New("writing a log checkpoint: CheckpointOptions.Now is required")
	}
	var broken []string // files of log checkpoints
	var first error     // what was wrong with the newest log checkpoint
	for {
		s, err := openSnapshot(ctx, store, version, broken)
		if err != nil {
			return CheckpointResult{}, fmt.Errorf("writing a log checkpoint: %w", cmp.Or(first, err))
		}
		version = s.version
		w := &checkpointWriter{ctx: ctx, store: store, s: s, now: storesTime(s.seg.put, o.Now()), result: CheckpointResult{Version: version}, newer: fileSet{}}
		if s.seg.base == version {
			return w.result, nil
		}
		err = w.guarded()
		if err == nil {
			return w.result, nil
		}
		first = cmp.Or(first, fmt.Errorf("writing the log checkpoint of version %d: %w", version, err))
		if !s.seg.broken {
			return CheckpointResult{}, first
		}
		for _, f := range s.seg.files {
			broken = append(broken, f.name)
		}
	}
}

// checkpointWriter writes one log checkpoint.
type checkpointWriter struct {
	ctx    context.Context //nolint:containedctx // of one call of WriteLogCheckpoint
	store  LogStore
	s      *Snapshot
	schema *checkpointSchema
	now    time.Time // no later than the store's: txns and tombstones must not expire because one clock is ahead (rule A4)
	result CheckpointResult
	newer  fileSet // what commits after the earlier log checkpoint speak of
}

// guarded turns a panic of the Parquet library, which some contents of other writers' files may raise, into an error: a log
// checkpoint is never worth the process.
func (w *checkpointWriter) guarded() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the Parquet library failed: %v", r)
		}
	}()
	return w.write()
}

func (w *checkpointWriter) write() error {
	if err := w.s.checkCheckpoint(); err != nil {
		return err
	}
	var err error
	if w.schema, err = newCheckpointSchema(&w.s.state); err != nil {
		return err
	}
	size, err := w.classicOrV2()
	if err != nil {
		return err
	}
	w.result.Written = true
	if err := pointToCheckpoint(w.ctx, w.store, lastCheckpointInfo{
		Version: w.s.version, Size: w.result.Actions, SizeInBytes: size, NumOfAddFiles: w.result.Files.Files,
	}); err != nil {
		return err
	}
	return putChecksum(w.ctx, w.store, &w.s.state, w.result.Files)
}

func (w *checkpointWriter) classicOrV2() (size int64, err error) {
	if w.s.supports("v2Checkpoint") && strings.EqualFold(w.s.metadata.Configuration["delta.checkpointPolicy"], "v2") {
		return w.v2()
	}
	return w.classic()
}

// checkCheckpoint refuses a table with a feature whose actions might be lost.
func (s *state) checkCheckpoint() error {
	var unknown []string
	for _, name := range s.supported() {
		if f, known := findFeature(name); !known || f.name != name {
			unknown = append(unknown, name)
		}
	}
	if unknown == nil {
		return nil
	}
	return &UnsupportedError{
		Features: unknown, Detail: "a log checkpoint must keep all that the feature asks for",
		Remedy: "let an engine that knows the feature write the log checkpoints",
	}
}

// tombstonesSince is the time, in milliseconds, up to which removes have expired (delta.deletedFileRetentionDuration).
func (w *checkpointWriter) tombstonesSince() int64 {
	return w.now.Add(-w.s.interval("delta.deletedFileRetentionDuration", defaultTombstoneRetention)).UnixMilli()
}

// txnsSince is the time up to which txns have expired; nil when they never do (delta.setTransactionRetentionDuration).
func (w *checkpointWriter) txnsSince() *int64 {
	d, expire := w.s.TxnRetention()
	if !expire {
		return nil
	}
	since := w.now.Add(-d).UnixMilli()
	return &since
}

// TxnRetention is how long log checkpoints keep a txn after it was last written (delta.setTransactionRetentionDuration);
// false where they keep it for ever.
func (s *state) TxnRetention() (time.Duration, bool) {
	d := s.interval("delta.setTransactionRetentionDuration", math.MaxInt64)
	return d, d != math.MaxInt64
}

// classicName names a log checkpoint in one file (PROTOCOL.md, "Classic checkpoint").
func classicName(version int64) string {
	return fmt.Sprintf("%s%020d.checkpoint.parquet", logFolder, version)
}

// classic writes the whole state into one file (PROTOCOL.md, "V1 Spec" and "Classic checkpoint").
func (w *checkpointWriter) classic() (int64, error) {
	top := w.schema.top(false)
	out, err := createCheckpointFile(w.ctx, w.store, classicName(w.s.version), top, w.codec())
	if err != nil {
		return 0, err
	}
	files := newFileOutput(w.schema, math.MaxInt64, nil)
	files.now = out
	defer files.release()
	if err := w.classicRows(out, files); err != nil {
		files.abort()
		return 0, err
	}
	if err := files.finish(); err != nil {
		files.abort()
		return 0, err
	}
	w.result.Bytes, w.result.Actions, w.result.Files, w.result.Tombstones = out.size, out.rows, out.counts, out.stones
	return out.size, nil
}

func (w *checkpointWriter) classicRows(out *checkpointOutput, files *fileOutput) error {
	rows := newCheckpointRows(w.schema, w.schema.top(false))
	defer rows.release()
	rows.state(&w.s.state, w.txnsSince())
	rb := rows.take()
	defer rb.Release()
	if err := out.write(rb); err != nil {
		return err
	}
	if err := w.newerActions(files, files, nil); err != nil {
		return err
	}
	c := &carrier{schema: w.schema, newer: w.newer, since: w.tombstonesSince(), adds: files, removes: files}
	for _, f := range slices.Concat(w.s.seg.files, w.s.seg.sidecars) {
		if err := w.carry(c, f); err != nil {
			return err
		}
	}
	return nil
}

func (w *checkpointWriter) codec() string {
	return w.s.metadata.Configuration["delta.parquet.compression.codec"]
}

// newerActions hands on the file actions of the commits after the earlier log checkpoint, newest first. Each commit's files
// are told to commit, too, unless it is nil.
func (w *checkpointWriter) newerActions(adds, removes *fileOutput, commit func(c *Commit, files []fileHash, again bool)) error {
	since := w.tombstonesSince()
	for version := w.s.seg.version; version > w.s.seg.base; version-- {
		c := &Commit{Version: version}
		var spoken []fileHash
		again := false // some of its actions speak of files that were there before
		note := func(path string, dv *DeletionVector) bool {
			if commit != nil {
				spoken = append(spoken, hashOf(path, dv))
			}
			return w.newer.first(path, dv)
		}
		err := readJSON(w.ctx, w.store, c, &fileActions{
			add: func(a *Add) (bool, error) {
				again = again || !a.DataChange
				if !note(a.Path, a.DeletionVector) {
					return true, nil
				}
				return true, adds.add(a)
			},
			remove: func(r *Remove) (bool, error) {
				again = true
				if !note(r.Path, r.DeletionVector) || expired(r, since) {
					return true, nil
				}
				return true, removes.remove(r)
			},
		})
		if err != nil {
			return err
		}
		if commit != nil {
			commit(c, spoken, again)
		}
	}
	return nil
}

func expired(r *Remove, since int64) bool {
	return r.DeletionTimestamp == nil || *r.DeletionTimestamp <= since
}

// carry copies what still counts of one file of the earlier log checkpoint.
func (w *checkpointWriter) carry(c *carrier, f checkpointFile) error {
	return w.earlier(w.carryFile(c, f))
}

// earlier notes whether an error is one of the earlier log checkpoint: of what it says, or of a file of it that is gone.
func (w *checkpointWriter) earlier(err error) error {
	w.s.seg.broken = w.s.seg.broken || errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist)
	return err
}

func (w *checkpointWriter) carryFile(c *carrier, f checkpointFile) error {
	if strings.HasSuffix(f.name, ".json") {
		return readJSONCheckpoint(w.ctx, w.store, f, nil, &fileActions{
			add:    func(a *Add) (bool, error) { return true, c.add(a) },
			remove: func(r *Remove) (bool, error) { return true, c.remove(r) },
		})
	}
	return eachBatch(w.ctx, w.store, f, carryColumns, c.batch)
}
