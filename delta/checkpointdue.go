package delta

import (
	"context"
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

// LastLogCheckpoint is the version that _last_checkpoint names; -1 when it does not say. It is a hint: there may be newer
// ones (PROTOCOL.md, "Last Checkpoint File").
func LastLogCheckpoint(ctx context.Context, store LogStore) (int64, error) {
	return lastCheckpoint(ctx, store)
}
