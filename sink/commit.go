package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
)

// operationName is what the table's history shows for a commit of this package, as Spark's streaming writes do.
const operationName = "STREAMING UPDATE"

func newUnitID() string { return uuid.NewString() }

// Commit lands the units in one version, all of one flush in their partitions' order. It returns when each is Landed or
// Dropped, or, once the context is done, still Pending (never sent) or Unresolved (an answer is outstanding). Dropped units do
// not fit any more: their partitions must be claimed again. The files of dropped units are deleted where that is proved
// to be safe. An error is final: the process must end.
//
// A unit fits (rules C1, C9) while each of its spans begins where its claim stands, the claim is not fenced, and its files
// are as the table wants them by now.
func (t *Table) Commit(ctx context.Context, units []*Unit) error {
	if err := t.lock(ctx); err != nil {
		return nil
	}
	defer t.unlock()
	err := t.land(ctx, units)
	for _, u := range units {
		t.discard(ctx, u)
	}
	return err
}

// land is the commit loop. Invariants at the top of each turn: no put of ours is outstanding, and every version up to
// the log's newest known one was judged.
func (t *Table) land(ctx context.Context, units []*Unit) error {
	for lost := 0; ; lost++ {
		fit := t.fitting(units)
		if len(fit) == 0 {
			return nil
		}
		tx, err := t.transaction(fit)
		if err != nil {
			return err
		}
		version := t.log.Version() + 1
		outcome, err := t.put(ctx, tx, fit)
		switch outcome {
		case delta.Committed:
			for _, u := range fit {
				t.landed(u, version)
			}
			t.committed(version)
			return nil
		case delta.Conflict:
			if t.opts.Events.RaceLost != nil {
				t.opts.Events.RaceLost(version)
			}
			// A conflict at the version proves that every attempt so far is rejected: they were all at that version.
			for _, u := range fit {
				u.sent = false
			}
			if err := backoff.Sleep(ctx, raceWait(lost)); err != nil {
				return nil //nolint:nilerr // the units stay pending: the context says why
			}
			if err := t.advance(ctx, fit); err != nil {
				return unlessDone(ctx, err)
			}
		case delta.Refused:
			return &Error{Op: fmt.Sprintf("committing version %d", version), Err: err}
		case delta.Unknown:
			for _, u := range fit {
				u.state = Unresolved
			}
			return unlessDone(ctx, err)
		}
	}
}

// put tries one version until its fate is known (rule C5). A lost answer proves nothing, so the same transaction is put
// at the same version again, under a new attempt id, until the store says that it is there or that another's is. Unknown
// is returned only once the context is done, or with a final error.
func (t *Table) put(ctx context.Context, tx *delta.Transaction, units []*Unit) (delta.Outcome, error) {
	version := t.log.Version() + 1
	op := fmt.Sprintf("committing version %d", version)
	var wait backoff.Backoff
	for failed := false; ; failed = true {
		for _, u := range units {
			u.sent = true
		}
		t.opts.Log.Debug("commit put begins", "version", version)
		outcome, err := t.log.Commit(ctx, tx)
		t.opts.Log.Debug("commit put ends", "version", version, "outcome", outcome, "error", err)
		if outcome != delta.Unknown {
			if failed && t.opts.Events.Recovered != nil {
				t.opts.Events.Recovered(op)
			}
			return outcome, err
		}
		if ctx.Err() != nil {
			return delta.Unknown, ctx.Err()
		}
		if final := finalError(op, err); final != nil {
			return delta.Unknown, final
		}
		if err := t.pause(ctx, op, err, &wait); err != nil {
			return delta.Unknown, err
		}
	}
}

// raceWait keeps losers of a race apart. The first retry does not wait: the winner is known to have landed.
func raceWait(lost int) time.Duration {
	if lost == 0 {
		return 0
	}
	return rand.N(min(time.Duration(lost)*10*time.Millisecond, 200*time.Millisecond))
}

// unlessDone hides an error that only says that the context is done.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // that is what it is for
	}
	return err
}

// fitting returns the units that may be in the next version, and marks those that may not as dropped. Units are looked
// at in order, so that of two units for one partition the second is judged as if the first had landed.
func (t *Table) fitting(units []*Unit) []*Unit {
	var fit []*Unit
	taken := map[string]bool{}
	for _, u := range units {
		if u.state != Pending {
			continue
		}
		if reason := t.misfit(u, taken); reason != "" {
			if u.app == nil {
				t.opts.Log.Info("a flush is dropped, its messages are read again", "unit", u.ID, "rows", u.Rows(), "reason", reason)
			}
			u.state = Dropped
			continue
		}
		for _, s := range u.Spans {
			taken[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
		fit = append(fit, u)
	}
	return fit
}

// misfit says why a unit may not land; "" if it may.
func (t *Table) misfit(u *Unit, taken map[string]bool) string {
	if u.layout != t.layout && u.pin == nil {
		if reason := u.layout.misfit(t.layout); reason != "" {
			return "it was written under an older schema of the table: " + reason
		}
	}
	switch {
	case u.app != nil:
		return t.appendMisfit(u)
	case u.pin != nil:
		return t.pinMisfit(u)
	}
	for _, s := range u.Spans {
		appID := checkpoint.AppID(t.opts.Name, s.ID)
		c, ok := t.claims[appID]
		switch {
		case !ok:
			return fmt.Sprintf("%s belongs to another worker now", s.Partition)
		case c.fenced:
			return fmt.Sprintf("another writer moved the offset of %s", s.Partition)
		case s.First != c.last+1:
			return fmt.Sprintf("it begins at offset %d of %s, but the table stands at %d", s.First, s.Partition, c.last)
		case taken[appID]:
			return fmt.Sprintf("%s is in another unit of the same commit", s.Partition) // C3
		}
	}
	return ""
}

// pinMisfit drops a pin whose partitions or identity somebody has written meanwhile. Pin builds it anew.
func (t *Table) pinMisfit(u *Unit) string {
	for _, s := range u.Spans {
		if _, ok := t.log.Txn(checkpoint.AppID(t.opts.Name, s.ID)); ok {
			return fmt.Sprintf("%s was pinned by another worker", s.Partition)
		}
	}
	if txn, ok := t.log.Txn(checkpoint.IdentityAppID(t.opts.Name, u.pin.identity)); ok && txn.Version >= int64(u.pin.partitions) {
		return "the topic's identity was written by another worker"
	}
	return ""
}

func (t *Table) landed(u *Unit, version int64) {
	u.state, u.sent, u.version = Landed, false, version
	for _, s := range u.Spans {
		if c, ok := t.claims[checkpoint.AppID(t.opts.Name, s.ID)]; ok {
			c.last, c.asOf = s.Next-1, version
		}
	}
}

// transaction builds the actions of one commit: the files of its units, one txn a partition, and in commitInfo what a
// reader of the log needs to check them.
func (t *Table) transaction(units []*Unit) (*delta.Transaction, error) {
	if units[0].app != nil { // Append lands one unit at a time
		return t.appendTransaction(units[0])
	}
	tx := &delta.Transaction{
		Operation:  operationName,
		Parameters: map[string]string{"outputMode": "Append", "name": t.opts.Name},
		Info:       map[string]json.RawMessage{},
	}
	record := checkpoint.CommitRecord{}
	now := t.opts.Now()
	for _, u := range units {
		unitRecord := u.record(t.opts.Name, t.readAt(u))
		tag, err := unitRecord.Encode()
		if err != nil {
			return nil, &Error{Op: "encoding a unit's spans", Err: err}
		}
		record.Units = append(record.Units, unitRecord)
		tx.Adds = append(tx.Adds, u.adds(now, map[string]string{checkpoint.TagKey: tag})...)
		for _, s := range u.Spans {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(t.opts.Name, s.ID), Version: s.Next - 1})
		}
		if u.pin != nil {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(t.opts.Name, u.pin.identity), Version: int64(u.pin.partitions)})
		}
	}
	value, err := record.Encode()
	if err != nil {
		return nil, &Error{Op: "encoding a commit's spans", Err: err}
	}
	tx.Info[checkpoint.CommitInfoKey] = value
	return tx, nil
}

// readAt is the version at which the oldest of the unit's bases was read, or that of the newest change of the table, which
// the unit was judged to fit (rule C1b). No version after it asks for another judgement.
func (t *Table) readAt(u *Unit) int64 {
	readAt := t.log.Version()
	for _, s := range u.Spans {
		if c, ok := t.claims[checkpoint.AppID(t.opts.Name, s.ID)]; ok {
			readAt = min(readAt, c.asOf)
		}
	}
	return max(readAt, t.changed)
}
