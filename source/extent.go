package source

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
)

// Extent is what the leader of a partition says of its log.
type Extent struct {
	First int64 // offset of the first record
	End   int64 // the high watermark
	// EpochEnd is behind the last record that the log has of the leader epoch that was asked for and those before it, or -1 if the leader knows
	// nothing of that epoch. Records that were read in it and are behind are not in the log any more. Without an epoch it is End.
	EpochEnd int64
}

// Extents asks the leaders of the partitions, and no follower, for their logs. A partition whose leader does not answer as it should
// is not in the answer.
func (s *Source) Extents(ctx context.Context, of map[int32]checkpoint.Epoch) (map[int32]Extent, error) {
	first, err := s.admin.ListStartOffsets(ctx, s.cfg.Topic)
	if err != nil && !partly(err) {
		return nil, newError("listing the first offsets of topic "+s.cfg.Topic, err)
	}
	end, err := s.admin.ListEndOffsets(ctx, s.cfg.Topic)
	if err != nil && !partly(err) {
		return nil, newError("listing the end offsets of topic "+s.cfg.Topic, err)
	}
	epochs, err := s.epochEnds(ctx, of)
	if err != nil {
		return nil, err
	}
	extents := map[int32]Extent{}
	for id, epoch := range of {
		f, ok := first[s.cfg.Topic][id]
		e, ok2 := end[s.cfg.Topic][id]
		if !ok || !ok2 || f.Err != nil || e.Err != nil {
			continue
		}
		x := Extent{First: f.Offset, End: e.Offset, EpochEnd: e.Offset}
		if epoch != 0 && epochs != nil {
			at, ok := epochs[id]
			if !ok || at.Err != nil {
				continue
			}
			x.EpochEnd = at.EndOffset
		}
		extents[id] = x
	}
	return extents, nil
}

// partly tells an error of some brokers from one of all.
func partly(err error) bool {
	shards, ok := errors.AsType[*kadm.ShardErrors](err)
	return ok && !shards.AllFailed
}

// epochEnds is nil where no epoch is known, or the brokers are too old to be asked.
func (s *Source) epochEnds(ctx context.Context, of map[int32]checkpoint.Epoch) (map[int32]kadm.OffsetForLeaderEpoch, error) {
	r := kadm.OffsetForLeaderEpochRequest{}
	for id, epoch := range of {
		if epoch != 0 {
			r.Add(s.cfg.Topic, id, epoch.Leader())
		}
	}
	if len(r) == 0 {
		return nil, nil
	}
	answer, err := s.admin.OffsetForLeaderEpoch(ctx, r)
	if errors.Is(err, kerr.UnsupportedVersion) {
		return nil, nil
	}
	if err != nil && !partly(err) {
		return nil, newError("asking for the end of leader epochs of topic "+s.cfg.Topic, err)
	}
	return answer[s.cfg.Topic], nil
}

// Doubts reports whether an error that a poll returned for a partition says that the log may not have what is to be read: Extents
// tells more.
func Doubts(err error) bool {
	_, lost := errors.AsType[*kgo.ErrDataLoss](err)
	return lost || errors.Is(err, kerr.OffsetOutOfRange)
}
