package admin

import (
	"context"
	"errors"
	"slices"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Standing tells which messages of a stream the rewinds since have left alone: neither did they have them read again, nor given up what
// was made of them. It is read from the records of the rewinds (rule A5), and of RESTOREs, which take back rewinds and what came after them.
type Standing struct {
	generation int64
	rewinds    map[int64]checkpoint.UnitRecord // by the generation that they begin; of some the log may have been cleaned
	taken      map[int64]int64                 // generations that a RESTORE has taken back
	unknown    int64                           // of the generations up to it nothing tells which are in the table since a RESTORE
}

// StandingOf reads the stream's rewinds and RESTOREs in the log of its table, newest first, as far back as the first rewind. A RESTORE of a catalog takes back no row of
// its tables, so that it does not count.
func StandingOf(ctx context.Context, store delta.LogStore, name string, catalog bool) (*Standing, error) {
	snap, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return nil, err
	}
	gen, _ := snap.Txn(checkpoint.GenerationAppID(name))
	s := &Standing{generation: gen.Version, rewinds: map[int64]checkpoint.UnitRecord{}, unknown: -1}
	if s.generation == 0 {
		return s, nil
	}
	oldest, err := delta.OldestVersion(ctx, store) // what lies below may be a put that came late into a cleaned log (rule C7)
	if err != nil {
		return nil, err
	}
	var rewinds []begun
	var restores []restore
	for e, err := range delta.HistoryOf(ctx, store, delta.HistoryOptions{From: oldest, To: snap.Version()}) {
		if errors.Is(err, delta.ErrMissingCommit) {
			break
		} else if err != nil {
			return nil, err
		}
		record, err := recordOf(&e)
		if err != nil {
			return nil, err
		}
		for _, u := range record.Units {
			if u.Name == name && u.Rewind != nil {
				s.rewinds[u.Generation] = u
				rewinds = append(rewinds, begun{e.Version, u.Generation})
			}
		}
		if _, first := s.rewinds[1]; first {
			oldest = 0 // what came before is of the first generation
			break
		}
		if !catalog && e.Info != nil && replaces(e.Info.Operation) {
			restores = append(restores, restore{e.Version, number(e.Info.OperationParameters["version"])})
		}
	}
	slices.Reverse(rewinds)
	slices.Reverse(restores)
	s.taken = lineageOf(rewinds, restores, oldest).taken
	for _, r := range restores {
		if r.to >= oldest {
			continue
		}
		s.unknown = s.generation - int64(len(rewinds))
		for _, w := range rewinds {
			if w.version < r.version {
				s.unknown = w.generation
			}
		}
	}
	return s, nil
}

// Has tells whether a message that was taken in a generation still stands. It does not where a rewind since is not in the log any more, or where a RESTORE
// does not tell what it went back to: nothing tells then what that has moved.
func (s *Standing) Has(generation int64, partition int32, offset int64) bool {
	if _, taken := s.taken[generation]; taken || generation <= s.unknown { // the generations before have what it had, or it is read again
		return false
	}
	for gen := generation + 1; gen <= s.generation; gen++ {
		if _, taken := s.taken[gen]; taken {
			continue
		}
		rewind, known := s.rewinds[gen]
		if !known || rewind.Rewind.NewTopic {
			return false
		}
		for _, span := range rewind.Spans {
			if span.ID == partition && offset >= span.First {
				return false
			}
		}
	}
	return generation <= s.generation
}
