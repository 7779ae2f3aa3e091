package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// SparkCheckpoint is what a query of Spark's structured streaming has left in its checkpoint folder about one topic. Before each
// batch Spark writes to offsets/N where the batch ends, and to commits/N once the sink has it (Spark: OffsetSeqLog, CommitLog).
type SparkCheckpoint struct {
	Query   string          // the query's id, which is the app id of the txn that Delta's sink writes, with the batch as version
	Batch   int64           // the newest batch that is in commits/; -1 for none
	Next    map[int32]int64 // where it ends: the first offset of each partition that it has not read
	Open    int64           // the batch that was begun after it; -1 for none
	OpenEnd map[int32]int64
}

// maxSparkFile bounds what is read of one file of a checkpoint: some bytes for each partition of all topics.
const maxSparkFile = 64 << 20

// ReadSparkCheckpoint reads a checkpoint folder.
func ReadSparkCheckpoint(ctx context.Context, store delta.LogStore, topic string) (*SparkCheckpoint, error) {
	text, err := readText(ctx, store, "metadata")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &checkpoint.RefusedError{
			Cause:  "the folder has no file named metadata, so that it is no checkpoint of Spark's structured streaming",
			Remedy: "name the folder that the query has as checkpointLocation",
		}
	} else if err != nil {
		return nil, err
	}
	var metadata struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(text), &metadata); err != nil || metadata.ID == "" {
		return nil, fmt.Errorf("metadata names no query: %q", text)
	}
	c := &SparkCheckpoint{Query: metadata.ID, Open: -1}
	begun, err := newestBatch(ctx, store, "offsets/")
	if err != nil {
		return nil, err
	}
	if c.Batch, err = newestBatch(ctx, store, "commits/"); err != nil {
		return nil, err
	}
	if begun > c.Batch+1 {
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the newest batch in offsets/ is %d, but in commits/ %d: batches between are in doubt, as under asyncProgressTrackingEnabled", begun, c.Batch),
			Remedy: "start the query once more without it, and stop it when it is idle",
		}
	}
	if c.Batch >= 0 {
		if c.Next, err = sparkOffsets(ctx, store, c.Batch, topic); err != nil {
			return nil, err
		}
	}
	if begun > c.Batch {
		c.Open = begun
		c.OpenEnd, err = sparkOffsets(ctx, store, begun, topic)
	}
	return c, err
}

// newestBatch is the highest number that a file of the folder is named by; -1 for none. Other names are of what Spark writes before
// it renames, and of checksums.
func newestBatch(ctx context.Context, store delta.LogStore, folder string) (int64, error) {
	newest := int64(-1)
	for o, err := range store.List(ctx, folder, "") {
		if err != nil {
			return 0, err
		}
		if n, err := strconv.ParseInt(path.Base(o.Name), 10, 64); err == nil && folder+path.Base(o.Name) == o.Name {
			newest = max(newest, n)
		}
	}
	return newest, nil
}

func readText(ctx context.Context, store delta.LogStore, name string) (string, error) {
	r, err := store.Get(ctx, name, 0, maxSparkFile)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	return string(data), errors.Join(err, r.Close())
}

// sparkOffsets reads where a batch ends: a line with the version, one with the query's settings, then one for each source, of which
// those of Kafka are {"topic":{"partition":offset}}.
func sparkOffsets(ctx context.Context, store delta.LogStore, batch int64, topic string) (map[int32]int64, error) {
	name := fmt.Sprintf("offsets/%d", batch)
	text, err := readText(ctx, store, name)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) < 3 || lines[0] != "v1" {
		return nil, fmt.Errorf("%s is of the form %.20q, and v1 is what is known here", name, lines[0])
	}
	var found map[int32]int64
	for _, line := range lines[2:] {
		var source map[string]json.RawMessage
		if json.Unmarshal([]byte(line), &source) != nil || source[topic] == nil {
			continue // of another source: Kafka's alone are by topic
		}
		var offsets map[int32]int64
		if err := json.Unmarshal(source[topic], &offsets); err != nil {
			continue
		}
		if found != nil {
			return nil, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("%s has two sources that read topic %s", name, topic),
				Remedy: "which of them the table is filled from can't be told: use `connector rewind` behind a first start instead",
			}
		}
		found = offsets
	}
	if found == nil {
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s has no offsets of topic %s", name, topic),
			Remedy: "is it the checkpoint of the query that fills this table, and the right source.topic?",
		}
	}
	return found, nil
}

// taken decides how far the query has come, by the txn that Delta's sink writes into the table with each batch: one that was begun may
// be in the table although Spark did not come to say so.
func (c *SparkCheckpoint) taken(txns func(appID string) (delta.Txn, bool)) (next map[int32]int64, note string, err error) {
	txn, known := txns(c.Query)
	restart := "start the query once more, and stop it when it is idle; then the checkpoint tells by itself"
	switch {
	case known && txn.Version > max(c.Batch, c.Open):
		return nil, "", &checkpoint.RefusedError{
			Cause: fmt.Sprintf("the table's txn %q is %d, but the checkpoint knows of no batch after %d: what later batches have brought would come twice",
				c.Query, txn.Version, max(c.Batch, c.Open)),
			Remedy: "is it the newest copy of the checkpoint, and is the query stopped?",
		}
	case known && txn.Version >= c.Open && c.Open >= 0:
		return c.OpenEnd, fmt.Sprintf("batch %d is in the table, by the txn %q, though the checkpoint does not say so yet", c.Open, c.Query), nil
	case known && txn.Version < c.Batch:
		return nil, "", &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the checkpoint has done batch %d, but the table's txn %q is %d: the later batches are not in this table", c.Batch, c.Query, txn.Version),
			Remedy: "is it the table that the query fills?",
		}
	case c.Batch < 0:
		return nil, "", &checkpoint.RefusedError{
			Cause:  "the query has done no batch yet",
			Remedy: "there is nothing to take over: start the stream with source.start",
		}
	case c.Open < 0:
		return c.Next, fmt.Sprintf("batch %d is done, and none was begun after it", c.Batch), nil
	case known:
		return c.Next, fmt.Sprintf("batch %d was begun and is not in the table, whose txn %q is %d: its messages are read by the connector", c.Open, c.Query, txn.Version), nil
	}
	return nil, "", &checkpoint.RefusedError{
		Cause:  fmt.Sprintf("batch %d was begun, and the table has no txn %q that would tell whether it has come to be in it (as with foreachBatch)", c.Open, c.Query),
		Remedy: restart,
	}
}
