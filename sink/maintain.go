package sink

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"kafkadelta/delta"
)

// Upkeep is what a table's log needs besides commits: log checkpoints, so that the table opens fast, cleanup, and version
// checksums. All of it is done off the commits' path, none of it is worth a commit: a failure is told and tried again when
// it is due the next time.
type Upkeep string

const (
	LogCheckpoint Upkeep = "log_checkpoint"
	LogCleanup    Upkeep = "log_cleanup"
	LogChecksum   Upkeep = "checksum"
)

const (
	cleanupEvery   = time.Hour // by one process, and only after a log checkpoint; more often where versions expire sooner
	checksumsAhead = 64        // that may wait to be put; beyond that they are left out
)

// upkeep is the goroutine that Maintain starts.
type upkeep struct {
	checksums   chan checksum
	checkpoints chan int64 // versions at which one may be due
	closing     chan struct{}
	done        chan struct{}
	cancel      context.CancelFunc
	overdue     int64        // versions without a log checkpoint until any process writes one, in percent of the interval
	newest      atomic.Int64 // log checkpoint, as far as is known
	cleaned     time.Time
}

type checksum struct {
	version int64
	data    []byte
}

// Maintain starts a goroutine that keeps the table's log in order after commits of this process, until Close. A log
// checkpoint is written by the process that commits a multiple of delta.checkpointInterval; one that is overdue because
// that process is gone, by the first to see it.
func (t *Table) Maintain(ctx context.Context) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	if err := t.log.ReadChecksum(ctx); err != nil {
		t.failed(LogChecksum, err)
	}
	work, cancel := context.WithCancel(ctx)
	t.upkeep = &upkeep{
		checksums: make(chan checksum, checksumsAhead), checkpoints: make(chan int64, 1),
		closing: make(chan struct{}), done: make(chan struct{}), cancel: cancel,
		overdue: 200 + rand.Int64N(100), // so that not all processes see it at once
	}
	t.upkeep.newest.Store(t.log.LogCheckpoint())
	go t.upkeep.run(work, t)
	return nil
}

// Close ends what Maintain started, if anything, and waits for it. Work that is due goes on until the context is done; then
// it is cut off, which harms nothing.
func (t *Table) Close(ctx context.Context) {
	u := t.upkeep
	if u == nil {
		return
	}
	close(u.closing)
	select {
	case <-u.done:
	case <-ctx.Done():
	}
	u.cancel()
	<-u.done
}

// committed tells the upkeep of a version of this process. It never waits.
func (t *Table) committed(version int64) {
	u := t.upkeep
	if u == nil {
		return
	}
	if data, err := t.log.Checksum(); err == nil && data != nil {
		select {
		case u.checksums <- checksum{version, data}:
		default:
		}
	}
	interval := t.log.CheckpointInterval()
	if version > 0 && version%interval == 0 || version-max(u.newest.Load(), 0) >= interval*u.overdue/100 {
		select {
		case u.checkpoints <- version:
		default: // one is being written; if it is not the last for long, the next is overdue soon
		}
	}
}

func (u *upkeep) run(ctx context.Context, t *Table) {
	defer close(u.done)
	for {
		select {
		case c := <-u.checksums:
			u.checksum(ctx, t, c)
		case version := <-u.checkpoints:
			u.checkpoint(ctx, t, version)
		case <-u.closing:
			u.finish(ctx, t)
			return
		case <-ctx.Done():
			return
		}
	}
}

// finish does what was due when Close was called.
func (u *upkeep) finish(ctx context.Context, t *Table) {
	for {
		select {
		case c := <-u.checksums:
			u.checksum(ctx, t, c)
		case version := <-u.checkpoints:
			u.checkpoint(ctx, t, version)
		default:
			return
		}
	}
}

func (u *upkeep) checksum(ctx context.Context, t *Table, c checksum) {
	if err := delta.PutChecksum(ctx, t.store, c.version, c.data); err != nil && ctx.Err() == nil {
		t.failed(LogChecksum, err)
	}
}

// checkpoint writes the log checkpoint of a version, unless another process has written a newer one, and cleans the log
// behind it.
func (u *upkeep) checkpoint(ctx context.Context, t *Table, version int64) {
	newest, err := delta.LastLogCheckpoint(ctx, t.store)
	if err == nil && newest >= version {
		u.newest.Store(newest)
		return
	}
	began := t.opts.Now()
	r, err := delta.WriteLogCheckpoint(ctx, t.store, version, delta.CheckpointOptions{Now: t.opts.Now})
	if ctx.Err() != nil {
		t.opts.Log.Warn("a log checkpoint was cut off by the end of the run: it is written when one is due the next time", "version", version)
		return
	}
	if err != nil {
		t.failed(LogCheckpoint, err)
		return
	}
	u.newest.Store(version)
	if !r.Written {
		return
	}
	took := t.opts.Now().Sub(began)
	t.opts.Log.Info("a log checkpoint is written", "version", r.Version, "files", r.Files.Files, "bytes", r.Bytes,
		"sidecars", r.Sidecars, "reused_sidecars", r.Reused, "took", took.Round(time.Millisecond))
	t.maintained(LogCheckpoint, took, r.Bytes)
	if t.lock(ctx) != nil {
		return
	}
	t.log.CountFiles(r.Version, r.Files)
	every := min(cleanupEvery, t.log.LogRetention()/10)
	t.unlock()
	u.clean(ctx, t, every)
}

func (u *upkeep) clean(ctx context.Context, t *Table, every time.Duration) {
	began := t.opts.Now()
	if !u.cleaned.IsZero() && began.Sub(u.cleaned) < every {
		return
	}
	u.cleaned = began
	r, err := delta.CleanLog(ctx, t.store, delta.CleanOptions{Now: t.opts.Now})
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, fs.ErrNotExist): // another process cleans at this moment
	case err != nil:
		t.failed(LogCleanup, err)
	default:
		took := t.opts.Now().Sub(began)
		if r.Deleted+r.Sidecars > 0 {
			t.opts.Log.Info("expired versions are removed from the table's log", "before_version", r.Before, "objects", r.Deleted,
				"sidecars", r.Sidecars, "took", took.Round(time.Millisecond))
		}
		t.maintained(LogCleanup, took, 0)
	}
}

func (t *Table) failed(task Upkeep, err error) {
	t.opts.Log.Warn("the table's log could not be kept in order: the stream goes on, and the same is tried again when it is due the next time",
		"task", string(task), "error", err)
	if t.opts.Events.UpkeepFailed != nil {
		t.opts.Events.UpkeepFailed(task)
	}
}

func (t *Table) maintained(task Upkeep, took time.Duration, bytes int64) {
	if t.opts.Events.Maintained != nil {
		t.opts.Events.Maintained(task, took, bytes)
	}
}
