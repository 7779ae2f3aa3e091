package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
)

// Writer says who changes a table, and when.
type Writer struct {
	Engine string // for commitInfo.engineInfo
	Now    func() time.Time
	// Retry is called when the store failed in a way that leaves open whether the version is there, and the same is tried
	// again after the wait. It may be nil.
	Retry func(err error, wait time.Duration)
}

// openForWriting opens the table at its newest version.
func openForWriting(ctx context.Context, store delta.LogStore, w Writer) (*delta.Table, error) {
	if err := delta.CheckWrites(ctx, store); err != nil {
		return nil, err
	}
	return delta.Open(ctx, store, delta.Options{Now: w.Now, Engine: w.Engine, Lasting: checkpoint.Lasts})
}

// land commits what build makes of the newest version, in one version on top of it, and returns that, or the newest version where build makes
// nothing. Build is asked anew after each lost race, so that nothing in it is older than the version before (rule A5: a txn that stays as it is must not take
// back what a worker has moved meanwhile). Where the answer to a put was lost, the same is put again until its fate is known (C5).
func (w Writer) land(ctx context.Context, t *delta.Table, build func() (*delta.Transaction, error)) (int64, error) {
	for {
		if err := catchUp(ctx, t); err != nil {
			return 0, err
		}
		tx, err := build()
		if err != nil {
			return 0, err
		}
		if tx == nil {
			return t.Version(), nil
		}
		outcome, err := w.put(ctx, t, tx)
		switch outcome {
		case delta.Committed:
			return t.Version(), nil
		case delta.Refused:
			return 0, err
		case delta.Unknown:
			version, _ := tx.Pending()
			return 0, fmt.Errorf("it is not known whether version %d is this one: look at `table history` before it is tried again: %w", version, err)
		case delta.Conflict: // the winner is read, and the next version is tried
		}
	}
}

// catchUp reads the versions of others. One that puts older rows into the table, or another table in its place, is not what the
// plan was made for.
func catchUp(ctx context.Context, t *delta.Table) error {
	for {
		c, err := t.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case c.Replaces():
			return &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("version %d has restored or replaced the table while the change was prepared", c.Version),
				Remedy: "make a new plan",
			}
		}
	}
}

func (w Writer) put(ctx context.Context, t *delta.Table, tx *delta.Transaction) (delta.Outcome, error) {
	var wait backoff.Backoff
	for first := true; ; first = false {
		outcome, err := t.Commit(ctx, tx)
		switch {
		case outcome != delta.Unknown || errors.Is(err, delta.ErrMissingCommit) || ctx.Err() != nil:
			return outcome, err
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid): // the store refuses it, however often it is asked
			if first { // so nothing was sent that may still land
				outcome = delta.Refused
			}
			return outcome, fmt.Errorf("%w; this process needs read, list and write access to the table's folder", err)
		}
		pause := wait.Next()
		if w.Retry != nil {
			w.Retry(err, pause)
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return delta.Unknown, err
		}
	}
}

// progressOf is what the table knows of a stream.
func progressOf(name string, txns iter.Seq[delta.Txn]) (checkpoint.Progress, error) {
	return checkpoint.ReadProgress(name, versions(txns))
}

// versions are the txns by app id.
func versions(txns iter.Seq[delta.Txn]) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for txn := range txns {
			if !yield(txn.AppID, txn.Version) {
				return
			}
		}
	}
}
