package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// checkReplays refuses what would lose dead letters: a RESTORE has taken the rows of a replay, and left their marks in the dead-letter
// table. Those messages are below the offsets to go on from, so that they are not read again, and marked, so that they are not replayed again.
func (p *RewindPlan) checkReplays(ctx context.Context, store delta.LogStore, restored *restoration) error {
	if p.r.Routed.Open != nil {
		return p.checkReplaysOfTables(ctx, store)
	}
	now, ever := p.table.Txn(checkpoint.ReplayAppID(p.r.Name))
	if restored == nil || !ever {
		return nil
	}
	refuse := func(remedy, cause string, args ...any) error {
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s, and %v", restored.text, fmt.Errorf(cause, args...)),
			Remedy: remedy + "; --force goes on without what is lost",
		}
	}
	const unsure = "find out whether there are rows at the offsets of those that `connector dead-letters list --replayed` shows"
	then, err := p.replayAt(ctx, store, restored)
	switch {
	case err != nil:
		return refuse(unsure, "nothing tells whether it has taken rows of dead letters that were replayed: %w", err)
	case then.Version == now.Version:
		return nil
	case p.r.Letters == nil:
		return refuse("name their table in dead_letters.uri", "it has taken rows of dead letters that were replayed")
	}
	letters, err := delta.OpenSnapshot(ctx, p.r.Letters, -1)
	if err != nil {
		return fmt.Errorf("opening the dead-letter table: %w", err)
	}
	if marked, _ := letters.Txn(now.AppID); marked.Version != now.Version {
		return refuse("run `connector settle`, and make a new plan", "the last dead letters that were replayed before that are not marked yet")
	}
	lost, since, err := p.lostMarks(ctx, letters, then)
	switch {
	case err != nil:
		return refuse(unsure, "nothing tells which of the marks in the dead-letter table are of replays whose rows it has left: %w", err)
	case len(lost) == 0:
		return nil
	}
	return refuse(fmt.Sprintf("take their marks out of the dead-letter table (DELETE FROM ... WHERE reason = 'replayed' AND connector = '%s' AND %s), "+
		"rewind, and run `connector dead-letters replay`, which makes rows of them again", p.r.Name, marksWhere(lost, since)),
		"it has taken the rows of %d dead letters that were replayed and would not be read again", len(lost))
}

// replayAt is the last replay whose rows RESTORE has left; version -1 where there was none by then.
func (p *RewindPlan) replayAt(ctx context.Context, store delta.LogStore, restored *restoration) (delta.Txn, error) {
	to := restored.to
	if to < 0 {
		to = p.r.ToVersion
	}
	if to < 0 {
		return delta.Txn{}, errors.New("RESTORE does not say which version it went back to")
	}
	snap, err := delta.OpenSnapshot(ctx, store, to)
	if err != nil {
		return delta.Txn{}, err
	}
	then, ok := snap.Txn(checkpoint.ReplayAppID(p.r.Name))
	if !ok {
		then.Version = -1
	}
	return then, nil
}

// lostMarks are marks of the stream's dead letters, below where their partitions go on, that came to the dead-letter table after those of a replay:
// by the ids of replays in its log, since clocks of those who have replayed may differ. Since is a time that all others are before; zero for none.
func (p *RewindPlan) lostMarks(ctx context.Context, letters *delta.Snapshot, then delta.Txn) (lost []letterKey, since time.Time, err error) {
	marks := LetterFilter{Connector: p.r.Name, Partition: -1, Offset: -1, Reason: replayed}
	kept := map[letterKey]bool{}
	var last time.Time // of those
	if then.Version >= 0 {
		before, err := p.lettersAt(ctx, letters, then)
		if err != nil {
			return nil, since, err
		}
		err = eachLetter(ctx, p.r.Letters, before, marks, func(l *Letter) bool {
			kept[keyOf(l)] = true
			if l.Time.After(last) {
				last = l.Time
			}
			return true
		})
		if err != nil {
			return nil, since, err
		}
	}
	to := map[int32]int64{}
	for _, m := range p.Moves {
		to[m.Partition] = m.To
	}
	err = eachLetter(ctx, p.r.Letters, letters, marks, func(l *Letter) bool {
		if !kept[keyOf(l)] && l.Offset < to[l.Partition] {
			if lost = append(lost, keyOf(l)); len(lost) == 1 || l.Time.Before(since) {
				since = l.Time
			}
		}
		return true
	})
	if !since.After(last) {
		since = time.Time{}
	}
	return lost, since, err
}

// lettersAt is the dead-letter table as it was before it got the marks of the replay that followed a former one.
func (p *RewindPlan) lettersAt(ctx context.Context, letters *delta.Snapshot, then delta.Txn) (*delta.Snapshot, error) {
	at := letters.Version()
	for e, err := range delta.HistoryOf(ctx, p.r.Letters, delta.HistoryOptions{To: letters.Version()}) {
		if err != nil {
			return nil, err
		}
		for _, txn := range e.Txns {
			switch {
			case txn.AppID != then.AppID:
			case txn.Version == then.Version:
				return delta.OpenSnapshot(ctx, p.r.Letters, at)
			default:
				at = e.Version - 1
			}
		}
	}
	return nil, fmt.Errorf("no version has the txn %q %d", then.AppID, then.Version)
}

// marksWhere is a condition on the rows of a dead-letter table that are these marks: by their time where that tells them from others.
func marksWhere(lost []letterKey, since time.Time) string {
	if !since.IsZero() {
		return fmt.Sprintf("time >= TIMESTAMP '%s'", since.UTC().Format(time.RFC3339Nano))
	}
	const most = 200 // the next plan tells those of the rest
	var places []string
	for _, k := range lost[:min(len(lost), most)] {
		places = append(places, fmt.Sprintf("(%d, %d, %d)", k.partition, k.offset, k.generation))
	}
	return fmt.Sprintf("(partition, `offset`, generation) IN (%s)", strings.Join(places, ", "))
}

// checkReplaysOfTables is checkReplays for a catalog, whose own RESTORE takes no rows: it refuses where one of a table has taken those of a replay, and the catalog was not rewound since.
func (p *RewindPlan) checkReplaysOfTables(ctx context.Context, store delta.LogStore) error {
	slot := checkpoint.ReplayedRowsAppID(p.r.Name)
	if _, ever := p.table.Txn(slot); !ever {
		return nil
	}
	err := p.r.Routed.each(ctx, store, p.r.Name, func(key string, of delta.LogStore) error {
		table, err := openForWriting(ctx, of, p.r.Writer)
		if err != nil {
			return err
		}
		now, ever := table.Txn(slot)
		if gen, _ := table.Txn(checkpoint.GenerationAppID(p.r.Name)); !ever || gen.Version < p.Generation-1 {
			return nil
		}
		restored, _, err := restoredSince(ctx, of, table, table.Version(), p.r.Name)
		if err != nil || restored == nil {
			return err
		}
		why := "it has taken rows of dead letters that were replayed"
		if restored.to >= 0 {
			then, err := delta.OpenSnapshot(ctx, of, restored.to)
			if err == nil {
				if txn, ok := then.Txn(slot); ok && txn.Version == now.Version {
					return nil
				}
			}
		} else {
			why = "nothing tells whether " + why
		}
		return &checkpoint.RefusedError{
			Cause: fmt.Sprintf("%s, and %s, which would not be replayed again", restored.text, why),
			Remedy: fmt.Sprintf("find out which of those that `connector dead-letters list --replayed` shows have no row in any table, and take their marks out of the dead-letter table (DELETE FROM ... WHERE reason = 'replayed' AND connector = '%s' AND ...); "+
				"rewind with --force, and run `connector dead-letters replay`, which makes rows of them again", p.r.Name),
		}
	})
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*checkpoint.RefusedError)) { // what is to be done about such a table depends on what it lacks: checkPending
		p.warn("whether a RESTORE has taken rows of dead letters that were replayed can't be told of all tables: %v", err)
		return nil
	}
	return err
}
