package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// TakenLetters is a RESTORE of a dead-letter table that has taken back what a stream's versions had brought, and left the txns by which nobody brings it
// again.
type TakenLetters struct {
	Version int64 // of the RESTORE
	Letters bool  // dead letters were taken
	Marks   bool  // marks of replays were: another replay would make rows of those letters once more
}

func (l *TakenLetters) String() string {
	return fmt.Sprintf("version %d restored the dead-letter table and took back what the stream had brought to it", l.Version)
}

// LettersTakenBack looks in the log of a dead-letter table for a RESTORE that took back what a stream had brought, and that no later one has brought
// again. Recent looks back to the stream's last version alone, as a start does. Nil is none.
func LettersTakenBack(ctx context.Context, letters delta.LogStore, stream string, recent bool) (*TakenLetters, error) {
	snap, err := delta.OpenSnapshot(ctx, letters, -1)
	if err != nil {
		return nil, err
	}
	oldest, err := delta.OldestVersion(ctx, letters)
	if err != nil {
		return nil, err
	}
	l := ledger{snap: snap}
	var taken *TakenLetters
	slot, replay := checkpoint.DeadLetterAppID(stream, 0), checkpoint.ReplayAppID(stream)
	slot = strings.TrimSuffix(slot, "0")
	for e, err := range delta.HistoryOf(ctx, letters, delta.HistoryOptions{From: oldest, To: snap.Version()}) {
		if errors.Is(err, delta.ErrMissingCommit) {
			break
		} else if err != nil {
			return nil, err
		}
		if e.Info != nil && replaces(e.Info.Operation) {
			l.restores = append(l.restores, restore{e.Version, number(e.Info.OperationParameters["version"])})
			continue
		}
		brought := TakenLetters{}
		for _, txn := range e.Txns {
			brought.Letters = brought.Letters || strings.HasPrefix(txn.AppID, slot)
			brought.Marks = brought.Marks || txn.AppID == replay
		}
		if !brought.Letters && !brought.Marks {
			continue
		}
		if by := l.takenBy(e.Version); by >= 0 && e.AddedFiles > 0 {
			if taken == nil {
				taken = &TakenLetters{Version: by}
			}
			taken.Letters, taken.Marks = taken.Letters || brought.Letters, taken.Marks || brought.Marks
		}
		if recent {
			break
		}
	}
	return taken, nil
}

// compareLetters looks for dead letters that spans count and a RESTORE of the dead-letter table took. (What others have deleted there, they have deleted.)
func (v *verifier) compareLetters(ctx context.Context, letters delta.LogStore) error {
	for name := range v.streams {
		taken, err := LettersTakenBack(ctx, letters, name, false)
		if errors.Is(err, delta.ErrNotTable) {
			return nil
		} else if err != nil {
			return err
		}
		if taken == nil || !taken.Letters {
			continue
		}
		if err := v.countLetters(ctx, letters, name, taken); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) countLetters(ctx context.Context, letters delta.LogStore, name string, taken *TakenLetters) error {
	snap, err := delta.OpenSnapshot(ctx, letters, -1)
	if err != nil {
		return err
	}
	type place struct {
		partition  int32
		generation int64
	}
	found := map[place]*offsets{}
	err = eachLetter(ctx, letters, snap, LetterFilter{Connector: name, Partition: -1, Offset: -1}, func(l *Letter) bool {
		if l.Reason != replayed {
			at := place{l.Partition, l.Generation}
			if found[at] == nil {
				found[at] = &offsets{}
			}
			found[at].add(l.Offset)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, t := range v.sortedTracks() {
		if t.name != name {
			continue
		}
		slot := checkpoint.DeadLetterAppID(name, t.ID)
		decided, _ := v.snap.Txn(slot)
		delivered, _ := snap.Txn(slot)
		for i := range t.spans {
			s := &t.spans[i]
			if s.next <= t.floor || s.dead == 0 || v.isOnItsWay(t, i, decided.Version != delivered.Version) {
				continue
			}
			due, there := t.due(s), int64(0)
			if of := found[place{t.ID, t.gen}]; of != nil {
				there = of.count(due.first, due.next)
			}
			if lacking := s.dead - (s.width() - due.width()) - there; lacking > 0 {
				v.faultOffsets(t, Restored, due.first, due.next, "%d dead letters of offsets [%d, %d) are not in the dead-letter table, and nobody brings them again: %s",
					lacking, due.first, due.next, taken)
			}
		}
	}
	return nil
}

// isOnItsWay tells whether the dead letters of a span may come yet: those of the last span with some, where the slots differ.
func (v *verifier) isOnItsWay(t *track, i int, pending bool) bool {
	if !pending {
		return false
	}
	for _, s := range t.spans[i+1:] {
		if s.dead > 0 {
			return false
		}
	}
	for _, o := range v.byPlace[t.Partition] {
		if o.name == t.name && o.gen > t.gen {
			for _, s := range o.spans {
				if s.dead > 0 {
					return false
				}
			}
		}
	}
	return true
}
