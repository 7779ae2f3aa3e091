package delta

import (
	"context"
	"math"
	"strconv"
	"strings"
)

// defaultCheckpointInterval is delta-rs's default; Spark's is 10. Every flush is a version here.
const defaultCheckpointInterval = 100

// CheckpointInterval is after how many versions a log checkpoint is due (delta.checkpointInterval): 100 where the table does
// not say.
func (s *state) CheckpointInterval() int64 {
	if n, err := strconv.ParseInt(strings.TrimSpace(s.metadata.Configuration["delta.checkpointInterval"]), 10, 32); err == nil && n > 0 {
		return n
	}
	return defaultCheckpointInterval
}

// LogCheckpoint is the version of the log checkpoint that the table was opened from; -1 when there was none.
func (t *Table) LogCheckpoint() int64 { return t.base }

// LastLogCheckpoint is the version of the newest log checkpoint from the one on that _last_checkpoint names (PROTOCOL.md,
// "Last Checkpoint File"); -1 when it names none that is there. It is a hint: there may be some all the same.
func LastLogCheckpoint(ctx context.Context, store LogStore) (int64, error) {
	hint, err := lastCheckpoint(ctx, store)
	if err != nil || hint < 0 {
		return -1, err
	}
	l, err := listLog(ctx, store, hint)
	if err != nil {
		return -1, err
	}
	return l.newestCheckpoint(hint, math.MaxInt64, nil), nil
}
