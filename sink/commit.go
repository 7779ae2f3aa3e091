package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
// Dropped, or, once the context is done, still Pending (never sent) or Unresolved (an answer is outstanding, for an hour at most). Dropped units do
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
	if refresh := t.refreshUnit(units); refresh != nil && len(units) > 0 {
		units = append(slices.Clone(units), refresh)
	}
	return t.landAndTidy(ctx, units)
}

// landAndTidy lands what may have been left as proposals.
func (t *Table) landAndTidy(ctx context.Context, units []*Unit) error {
	err := t.land(ctx, units)
	for _, u := range units {
		if u.state == Pending && len(u.proposals) > 0 {
			u.state = Unresolved // it may be carried yet (rule P4)
		}
		t.discard(ctx, u)
		t.dropProposals(ctx, u)
	}
	return err
}

// land is the commit loop. Invariants at the top of each turn: no put of ours is outstanding, and every version up to
// the log's newest known one was judged.
func (t *Table) land(ctx context.Context, units []*Unit) error {
	for lost := 0; ; lost++ {
		if t.ended != nil { // rule C1e: said to another goroutine, so that this one did not read it
			return t.ended
		}
		if err := t.lookAgain(ctx); err != nil { // that of another one was broken off
			return unlessDone(ctx, err)
		}
		if err := t.prepare(ctx, units, lost); err != nil {
			return unlessDone(ctx, err)
		}
		fit, layout := t.fitting(units)
		if len(fit) == 0 {
			return nil
		}
		units = fit
		begun := t.opts.Now()
		carried := t.carried(ctx, fit)
		record := checkpoint.CommitRecord{Carried: len(carried), Contended: lost > 0 || len(carried) > 0}
		tx, err := t.transaction(fit, carried, record)
		if err != nil {
			return err
		}
		if layout != t.layout {
			if _, err := t.log.Evolve(layout.Schema, tx); err != nil {
				return &Error{Op: "changing the table's schema", Err: err}
			}
		}
		version := t.log.Version() + 1
		outcome, err := t.put(ctx, tx, fit)
		t.combine.took(t.opts.Now().Sub(begun))
		switch outcome {
		case delta.Committed:
			t.won(version, tx, fit, carried)
			t.sweep(ctx)
			if tx.Metadata != nil {
				return t.relayout()
			}
			return nil
		case delta.Conflict:
			if t.opts.Events.RaceLost != nil {
				t.opts.Events.RaceLost(version)
			}
			// A conflict at the version proves that every attempt so far is rejected: they were all at that version.
			for _, u := range fit {
				u.sent = false
			}
		case delta.Refused:
			if errors.Is(err, delta.ErrVanished) {
				return t.vanished(fmt.Sprintf("committing version %d", version), err)
			}
			return &Error{Op: fmt.Sprintf("committing version %d", version), Err: err}
		case delta.Unknown:
			late := errors.Is(err, delta.ErrMissingCommit)
			if late && !slices.ContainsFunc(fit, func(u *Unit) bool { return u.app != nil && u.app.ID == "" && len(u.slots) == 0 }) {
				// Rules C2 and C7: the units are dropped, and what they hold is read again where the txns say that it is not in the table.
				if err := t.reload(ctx, fit, err); err != nil {
					return unlessDone(ctx, err)
				}
				continue
			}
			for _, u := range fit {
				u.state = Unresolved
			}
			if late {
				return &Error{Op: "appending without an app id", Err: err, Hint: "look at `table history` whether the rows are in the table"}
			}
			return unlessDone(ctx, err)
		}
	}
}

// won takes note of a version of this process. That it is contended is a sign for others alone.
func (t *Table) won(version int64, tx *delta.Transaction, units []*Unit, carried []*proposal) {
	summary := checkpoint.CommitSummary{Carried: len(carried)}
	for _, u := range units {
		t.landed(u, version)
		summary.Units = append(summary.Units, u.ID)
	}
	for _, p := range carried {
		summary.Units = append(summary.Units, p.Record.Unit)
	}
	for _, txn := range tx.Txns {
		t.touched[txn.AppID] = version
	}
	t.combine.saw(version, summary)
	if len(carried) > 0 && t.opts.Events.Carried != nil {
		t.opts.Events.Carried(len(carried))
	}
	t.committed(version)
}

// put tries one version until its fate is known (rule C5). A lost answer proves nothing, so the same transaction is put
// at the same version again, under a new attempt id, until the store says that it is there or that another's is. Unknown
// is returned once the context is done, with a final error, or without any where it is overdue: whoever claims the partitions again reads
// what the version is, if it comes to be. Carried files may be an hour older.
func (t *Table) put(ctx context.Context, tx *delta.Transaction, units []*Unit) (delta.Outcome, error) {
	version := t.log.Version() + 1
	op := fmt.Sprintf("committing version %d", version)
	var wait backoff.Backoff
	begun := t.opts.Now()
	for failed := false; ; failed = true {
		if failed && t.overdue(units, begun) {
			t.opts.Log.Warn("the store has not told for too long whether it has taken a commit: it is let go of, and what it may not have brought is brought again",
				"version", version, "put_for", t.opts.Now().Sub(begun).Round(time.Second))
			return delta.Unknown, nil
		}
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
		if errors.Is(err, delta.ErrMissingCommit) {
			return delta.Unknown, err
		}
		if ctx.Err() != nil {
			return delta.Unknown, ctx.Err()
		}
		if final := t.final(op, err); final != nil {
			return delta.Unknown, final
		}
		if err := t.pause(ctx, op, err, &wait); err != nil {
			return delta.Unknown, err
		}
	}
}

// overdue tells of a put that brings files which are too old by now to be committed (rule C8), or that has none and goes on for an hour.
func (t *Table) overdue(units []*Unit, begun time.Time) bool {
	return slices.ContainsFunc(units, func(u *Unit) bool {
		since, hasFiles := u.born()
		if !hasFiles {
			since = begun
		}
		return age(t.opts.Now(), since) > u.maxAge()
	})
}

// raceWait keeps losers of a race apart that do not combine.
func raceWait(lost int) time.Duration {
	return rand.N(min(time.Duration(lost)*10*time.Millisecond, 200*time.Millisecond))
}

// unlessDone hides an error that only says that the context is done.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && finalError("", err) == nil {
		return nil
	}
	return err
}

// fitting returns the units that may be in the next version, and marks those that may not as dropped. Units are looked
// at in order, so that of two units for one partition the second is judged as if the first had landed. The layout is the one that the table
// has then: another one than now where a unit has rows of a layout that is ahead. All are judged against it, whichever unit asks for it.
func (t *Table) fitting(units []*Unit) (fit []*Unit, layout *Layout) {
	for {
		fit, layout = t.fittingInTurn(units)
		dropped := false
		for _, u := range fit {
			if reason := t.outdated(u, layout); reason != "" {
				t.unfit(u, reason)
				dropped = true
			}
		}
		if !dropped {
			return fit, layout
		}
	}
}

func (t *Table) fittingInTurn(units []*Unit) (fit []*Unit, layout *Layout) {
	layout = t.layout
	taken := map[string]bool{}
	for _, u := range units {
		if u.state != Pending {
			continue
		}
		next, reason := layout, ""
		if u.layout != nil && u.layout.ahead {
			var err error
			if next, err = layout.Toward(u.layout.Schema, t.cfg.SchemaEvolution); err != nil {
				reason = "the table can't get the columns that it needs: " + err.Error()
			}
		}
		if reason == "" {
			reason = t.misfit(u, next, taken)
		}
		if reason != "" {
			t.unfit(u, reason)
			continue
		}
		for _, s := range u.Spans {
			taken[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
		fit, layout = append(fit, u), next
	}
	return fit, layout
}

// unfit drops a unit.
func (t *Table) unfit(u *Unit, reason string) {
	if u.app == nil {
		t.opts.Log.Info("a flush is dropped, its messages are read again", "unit", u.ID, "rows", u.Rows(), "reason", reason)
	}
	u.state = Dropped
}

// outdated says why a unit's files are not as a table with the layout wants them; "" if they are.
func (t *Table) outdated(u *Unit, layout *Layout) string {
	if u.layout == layout || u.pin != nil {
		return ""
	}
	if reason := u.layout.misfit(layout); reason != "" {
		return "it was written under an older schema of the table: " + reason
	}
	if u.layout.retypes(layout) {
		return "it has a new column with another type than the table gets"
	}
	return ""
}

// misfit says why a unit may not land in a table with the layout; "" if it may.
func (t *Table) misfit(u *Unit, layout *Layout, taken map[string]bool) string {
	if reason := t.outdated(u, layout); reason != "" {
		return reason
	}
	if reason := t.slotMisfit(u); reason != "" {
		return reason
	}
	born, hasFiles := u.born()
	switch {
	case hasFiles && age(t.opts.Now(), born) > u.maxAge():
		return "its files are too old: a cleaning of the table might have taken them" // C8
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
			u.refuted = true // discard asks whether it was proved
			return fmt.Sprintf("another writer moved the offset of %s", s.Partition)
		case s.First != c.last+1:
			return fmt.Sprintf("it begins at offset %d of %s, but the table stands at %d", s.First, s.Partition, c.last)
		case taken[appID]:
			return fmt.Sprintf("%s is in another unit of the same commit", s.Partition) // C3
		}
	}
	return ""
}

// age is how long ago something was, by the wall clock or by the monotonic one, whichever says longer: either may stand still while a
// machine sleeps, and the wall clock may be set back.
func age(now, since time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// pinMisfit drops a pin whose partitions or identity somebody has written meanwhile. Pin builds it anew.
func (t *Table) pinMisfit(u *Unit) string {
	for _, s := range u.Spans {
		if _, ok := t.log.Txn(checkpoint.AppID(t.opts.Name, s.ID)); ok {
			return fmt.Sprintf("%s was pinned by another worker", s.Partition)
		}
	}
	switch txn, ok := t.log.Txn(checkpoint.IdentityAppID(t.opts.Name, u.pin.identity)); {
	case ok && txn.Version == 0:
		return "the stream brings the topic no more" // retired, or rewound to another one: rule A1d
	case ok && txn.Version >= int64(u.pin.partitions) && (!u.pin.marks || t.filtered() == t.opts.Filtered) && t.knowsRoute(u.pin.route):
		return "the topic's identity was written by another worker"
	}
	if t.checkRoute(u.pin.route) != nil {
		return "another worker divides the rows otherwise"
	}
	if u.pin.begins && checkpoint.CheckAlone(t.opts.Name, u.pin.topic, u.pin.identity, t.opts.Filtered, t.txns()) != nil {
		return "another stream brings the topic"
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
// reader of the log needs to check them. What it carries for others is the same, after its own.
func (t *Table) transaction(units []*Unit, carried []*proposal, record checkpoint.CommitRecord) (*delta.Transaction, error) {
	if units[0].app != nil { // Append lands one unit at a time
		return t.appendTransaction(units[0])
	}
	tx := &delta.Transaction{
		Operation:  operationName,
		Parameters: map[string]string{"outputMode": "Append", "name": t.opts.Name},
		Info:       map[string]json.RawMessage{},
	}
	last := map[string]string{} // by stream, the last unit with files
	streams := map[string]bool{}
	var due []string // perhaps
	include := func(r checkpoint.UnitRecord, adds []delta.Add, slots []Slot) {
		record.Units = append(record.Units, r)
		streams[r.Name] = true
		tx.Adds = append(tx.Adds, adds...)
		if len(adds) > 0 {
			last[r.Name] = r.Unit
		}
		for _, s := range slots {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: s.AppID, Version: s.To})
		}
		for _, s := range r.Spans {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(r.Name, s.ID), Version: s.Next - 1})
			leader := checkpoint.LeaderAppID(r.Name, s.ID)
			if !s.Empty() && s.Epoch != t.epoch(r.Name, s.ID) {
				tx.Txns = append(tx.Txns, delta.Txn{AppID: leader, Version: int64(s.Epoch.Leader())})
			}
			due = append(due, leader, checkpoint.DeadLetterAppID(r.Name, s.ID), checkpoint.RowsAppID(r.Name, s.ID))
		}
	}
	for _, u := range units {
		r := t.recordFor(u, t.readAt(u))
		adds, err := u.taggedAdds(r)
		if err != nil {
			return nil, err
		}
		include(r, adds, u.slots)
		if u.pin != nil {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(t.opts.Name, u.pin.identity), Version: int64(u.pin.partitions)})
			if u.pin.marks && t.filtered() != t.opts.Filtered {
				tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.FilterAppID(t.opts.Name), Version: checkpoint.FilterMark(t.opts.Filtered)})
			}
			if u.pin.route != 0 {
				tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.RouteAppID(t.opts.Name), Version: u.pin.route})
			}
		}
	}
	for _, p := range carried {
		include(p.Record, p.Adds, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		tx.Txns = append(tx.Txns, t.lastUnitTxns(name, last[name])...)
	}
	t.enterTables(tx, units)
	t.refreshMarks(tx, append(due, t.identities(streams)...))
	value, err := record.Encode()
	if err != nil {
		return nil, &Error{Op: "encoding a commit's spans", Err: err}
	}
	tx.Info[checkpoint.CommitInfoKey] = value
	return tx, nil
}

// lastUnitTxns name the last unit with files of a stream, and the table that it is in where the table does not know (rule A6a).
func (t *Table) lastUnitTxns(name, unit string) []delta.Txn {
	txns := []delta.Txn{{AppID: checkpoint.LastUnitAppID(name), Version: checkpoint.UnitMark(unit)}}
	if home := checkpoint.HomeAppID(name); t.txnVersion(home) != t.mark() {
		txns = append(txns, delta.Txn{AppID: home, Version: t.mark()})
	}
	return txns
}

// mark stands for the table in the txn of HomeAppID.
func (t *Table) mark() int64 { return checkpoint.UnitMark(t.log.Metadata().ID) }

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
