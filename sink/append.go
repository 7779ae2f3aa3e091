package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// AppTxn makes an append idempotent: it lands only while the table's txn of the app id is below the version, and moves
// it there in the same commit. The zero AppTxn asks for nothing.
type AppTxn struct {
	ID      string
	Version int64 // 0 or more
}

// ErrRewrite says that a unit was dropped because the table's layout has changed since it was written. Its files are
// deleted; the rows may fit the new layout.
var ErrRewrite = errors.New("the table's schema has changed since the rows were written")

// appendOperation is what the table's history shows for an append that is no stream's, as Spark's batch writes do.
const appendOperation = "WRITE"

// Applied tells the version of the app id's txn where it is app.Version or more: such an append changes nothing. An app id of
// a stream of the table is refused, since an append would move the stream's offsets: a *checkpoint.RefusedError.
func (t *Table) Applied(ctx context.Context, app AppTxn) (version int64, already bool, err error) {
	if err := t.lock(ctx); err != nil {
		return 0, false, err
	}
	defer t.unlock()
	if stream, ok := checkpoint.StreamOf(app.ID, t.txns()); ok {
		return 0, false, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the app id %q belongs to the stream %q of this table, whose offsets it holds", app.ID, stream),
			Remedy: "take another app id",
		}
	}
	version, already = t.applied(app)
	return version, already, nil
}

func (t *Table) applied(app AppTxn) (version int64, already bool) {
	txn, ok := t.log.Txn(app.ID)
	return txn.Version, ok && app.ID != "" && txn.Version >= app.Version
}

// FinishAppend closes all files and returns the unit that they make, for Append. It may be of no rows: then its version
// moves the txn alone. After an error the Writer is only good for Abort; an *Error is final.
func (w *Writer) FinishAppend() (*Unit, error) {
	return finish(w, func(s *Sealed) (*Unit, error) {
		files, err := s.wait()
		return &Unit{ID: s.id, files: files, layout: s.layout, app: &AppTxn{}}, err
	})
}

// Append lands a unit of FinishAppend in one version, and returns that. It goes through lost races, lost answers and a
// store that is down for as long as the context lasts. Where the table's txn of the app id is at app.Version or beyond,
// also because another process was faster, nothing lands and the txn's version is returned with already. ErrRewrite asks
// for the rows to be written anew. In both cases the unit's files are deleted.
//
// A winner that touches the app id does not fence the unit, as it would a stream's (rule C1): the txn alone says whether
// the rows are in the table, so that it is looked at again before each attempt.
//
// Once the context is done the error is its own. Then, and where the store has not told for an hour what it has taken, the unit's State tells Pending, where nothing of it can land any
// more, from Unresolved, where it may be in the table.
func (t *Table) Append(ctx context.Context, u *Unit, app AppTxn) (version int64, already bool, err error) {
	if err := t.lock(ctx); err != nil {
		return 0, false, err
	}
	defer t.unlock()
	u.app = &app
	err = t.land(ctx, []*Unit{u})
	t.discard(ctx, u)
	if err != nil {
		return 0, false, err
	}
	switch u.state {
	case Landed:
		return u.version, false, nil
	case Dropped:
		if version, already := t.applied(app); already {
			return version, true, nil
		}
		return 0, false, ErrRewrite
	case Unresolved:
		return 0, false, answerLost(ctx)
	case Pending:
	}
	return 0, false, ctx.Err()
}

// answerLost says why nobody waits any more for the answer to a commit.
func answerLost(ctx context.Context) error {
	const lost = "the answer to a commit was lost"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf(lost+": %w", err)
	}
	return errors.New(lost + ": the store has not told for an hour whether it has taken it")
}

// appendMisfit says why an append may not land; "" if it may.
func (t *Table) appendMisfit(u *Unit) string {
	if u.generation != nil && *u.generation != t.gen.Load() {
		return fmt.Sprintf("the stream was rewound to generation %d", t.gen.Load())
	}
	if u.generation != nil && t.retired() { // its topic is another stream's to bring (rule A1d)
		return "the stream was retired"
	}
	if version, already := t.applied(*u.app); already {
		return fmt.Sprintf("the table is at version %d of app id %q", version, u.app.ID)
	}
	return ""
}

// appendTransaction builds the actions of an append: its files, and its txn where there is one.
func (t *Table) appendTransaction(u *Unit) (*delta.Transaction, error) {
	partitionBy, err := json.Marshal(append([]string{}, t.log.PartitionColumns()...))
	if err != nil {
		return nil, &Error{Op: "encoding the partition columns", Err: err}
	}
	tx := &delta.Transaction{
		Operation:  appendOperation,
		Parameters: map[string]string{"mode": "Append", "partitionBy": string(partitionBy)}, // nested values are JSON in a text, as Spark has them
		Adds:       append(u.adds(nil), u.brought...),
	}
	if u.app.ID != "" {
		tx.Txns = []delta.Txn{{AppID: u.app.ID, Version: u.app.Version}}
	}
	for _, s := range u.slots {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: s.AppID, Version: s.To})
	}
	t.enterTables(tx, []*Unit{u})
	if len(u.routed) > 0 {
		return tx, t.routedTransaction(tx, u.routed)
	}
	return tx, nil
}
