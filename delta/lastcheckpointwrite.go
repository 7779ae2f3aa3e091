package delta

import (
	"context"
	"fmt"
)

// lastCheckpointInfo is the content of _last_checkpoint (PROTOCOL.md, "Last Checkpoint File Schema"). Size is the number
// of actions.
type lastCheckpointInfo struct {
	Version       int64  `json:"version"`
	Size          int64  `json:"size"`
	SizeInBytes   int64  `json:"sizeInBytes"`
	NumOfAddFiles int64  `json:"numOfAddFiles"`
	Checksum      string `json:"checksum,omitempty"`
}

// pointToCheckpoint puts _last_checkpoint, unless it names a newer log checkpoint already, which is there. It is a hint: of two writers at once
// either may win, and readers look for log checkpoints that are newer than the one it names.
func pointToCheckpoint(ctx context.Context, store LogStore, info lastCheckpointInfo) error {
	present, err := LastLogCheckpoint(ctx, store)
	if err != nil {
		return err
	}
	if present > info.Version {
		return nil
	}
	data, err := marshal(info)
	if err != nil {
		return err
	}
	if info.Checksum, err = jsonChecksum(data); err != nil {
		return err
	}
	if data, err = marshal(info); err != nil {
		return err
	}
	if err := store.Put(ctx, lastCheckpointName, data); err != nil {
		return fmt.Errorf("putting %s: %w", lastCheckpointName, err)
	}
	return nil
}
