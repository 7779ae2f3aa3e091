package admin

import (
	"context"
	"errors"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Standing tells which messages of a stream the rewinds since have left alone: neither did they have them read again, nor given up what
// was made of them. It is read from the records of the rewinds (rule A5).
type Standing struct {
	generation int64
	rewinds    map[int64]checkpoint.UnitRecord // by the generation that they begin; of some the log may have been cleaned
}

// StandingOf reads the stream's rewinds in the log of its table, newest first, as far back as the first one.
func StandingOf(ctx context.Context, store delta.LogStore, name string) (*Standing, error) {
	snap, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return nil, err
	}
	gen, _ := snap.Txn(checkpoint.GenerationAppID(name))
	s := &Standing{generation: gen.Version, rewinds: map[int64]checkpoint.UnitRecord{}}
	if s.generation == 0 {
		return s, nil
	}
	oldest, err := delta.OldestVersion(ctx, store) // what lies below may be a put that came late into a cleaned log (rule C7)
	if err != nil {
		return nil, err
	}
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
			}
		}
		if _, first := s.rewinds[1]; first {
			break
		}
	}
	return s, nil
}

// Has tells whether a message that was taken in a generation still stands. It does not where a rewind since is not in the log any more:
// nothing tells then what that has moved.
func (s *Standing) Has(generation int64, partition int32, offset int64) bool {
	for gen := generation + 1; gen <= s.generation; gen++ {
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
