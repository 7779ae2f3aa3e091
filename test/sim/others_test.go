package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
)

// produce sends messages until the context ends: alone, in producer transactions that are committed or aborted, and some that can
// never become rows.
func (w *world) produce(ctx context.Context, rnd *rand.Rand) {
	dial := kgo.Dialer(w.network.DialContext)
	manual := kgo.RecordPartitioner(kgo.ManualPartitioner())
	plain, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), dial, manual)
	w.check(err)
	defer plain.Close()
	inTransactions, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), dial, manual, kgo.TransactionalID("producer"))
	w.check(err)
	defer inTransactions.Close()
	next := int64(0)
	for ctx.Err() == nil {
		if w.hushed.Load() {
			time.Sleep(time.Second)
			continue
		}
		var records []*kgo.Record
		values := map[*kgo.Record]*message{}
		for range 1 + rnd.IntN(10) {
			r := &kgo.Record{Topic: topic, Partition: rnd.Int32N(w.partitions)}
			if r.Partition == 0 && rnd.IntN(20) > 0 {
				r.Partition = 1 // the first is idle for long
			}
			if w.second != nil && w.secondDue(rnd.IntN(20)) {
				w.count.Second++
				r.Topic, r.Partition = streams[1].topic, rnd.Int32N(secondPartitions)
			}
			next++
			values[r], r.Value = w.compose(next, rnd)
			records = append(records, r)
		}
		if rnd.IntN(4) == 0 {
			w.transaction(inTransactions, records, values, rnd)
		} else {
			w.check(plain.ProduceSync(context.WithoutCancel(ctx), records...).FirstErr())
			w.produced(values)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rnd.Int64N(int64(w.pace)))):
		}
	}
}

func (w *world) produced(values map[*kgo.Record]*message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r, m := range values {
		w.want[place{partitionOf(r.Topic, r.Partition), r.Offset}] = m
	}
}

// transaction sends records that become visible together, or never.
func (w *world) transaction(client *kgo.Client, records []*kgo.Record, values map[*kgo.Record]*message, rnd *rand.Rand) {
	ctx := context.Background()
	w.check(client.BeginTransaction())
	w.check(client.ProduceSync(ctx, records...).FirstErr())
	time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Second))))
	if rnd.IntN(3) == 0 {
		w.count.Aborts++
		w.check(client.EndTransaction(ctx, kgo.TryAbort))
		return
	}
	w.check(client.EndTransaction(ctx, kgo.TryCommit))
	w.produced(values)
}

// foreign commits what another program does, as the next version. It takes no time, so that it loses no race. The caller
// holds the lock.
func (w *world) foreign(operation string, actions ...any) {
	w.foreignTo(w.ledger.shelf, operation, actions...)
}

// foreignTo is foreign for any table.
func (w *world) foreignTo(s *shelf, operation string, actions ...any) {
	w.foreignInfo(s, map[string]any{"operation": operation}, actions...)
}

// foreignInfo is foreign with more in commitInfo than the operation.
func (w *world) foreignInfo(s *shelf, info map[string]any, actions ...any) {
	w.trace.add("others", "%s%s", s.name, info["operation"])
	w.check(s.put("others", versionFile(s.version+1), w.foreignText(s, info, actions...)))
}

// foreignText is a version of another program.
func (w *world) foreignText(s *shelf, info map[string]any, actions ...any) []byte {
	info["timestamp"] = time.Now().UnixMilli()
	if s.stamp != 0 {
		info["inCommitTimestamp"] = max(time.Now().UnixMilli(), s.stamp+1)
	}
	var text bytes.Buffer
	encode := json.NewEncoder(&text)
	w.check(encode.Encode(map[string]any{"commitInfo": info}))
	for _, a := range actions {
		w.check(encode.Encode(a))
	}
	return text.Bytes()
}

// optimize rewrites files, as OPTIMIZE of another program does: several into one, without tags, or one by itself with its tags.
func (w *world) optimize() {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.ledger.shelf
	if w.divided != nil {
		keys := sorted(w.divided.tables)
		if len(keys) == 0 {
			return
		}
		if s = w.divided.tables[keys[w.rnd.IntN(len(keys))]].shelf; s.away != nil {
			return
		}
	}
	names := slices.Sorted(maps.Keys(s.files))
	w.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:min(len(names), 1+w.rnd.IntN(6))]
	if w.forgets { // files without tags would make every start doubt whether there was a RESTORE
		names = names[:min(len(names), 1)]
	}
	if len(names) == 0 || w.ledger.restored.isPending("") { // to move rows now would hide a RESTORE from a start
		return
	}
	names = s.sameGeneration(names)
	files := make([]*file, len(names))
	for i, name := range names {
		files[i] = s.files[name]
	}
	var batches []arrow.RecordBatch
	var schema *arrow.Schema
	var actions []any
	for i, f := range files {
		table, err := readParquet(f.data)
		w.check(err)
		if schema == nil {
			schema = table.Schema()
		}
		if !schema.Equal(table.Schema()) {
			continue
		}
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			rb := reader.RecordBatch()
			rb.Retain()
			batches = append(batches, rb)
		}
		actions = append(actions, map[string]any{"remove": map[string]any{"path": names[i], "deletionTimestamp": time.Now().UnixMilli(), "dataChange": false}})
	}
	table := array.NewTableFromRecords(schema, batches)
	var data bytes.Buffer
	w.check(pqarrow.WriteTable(table, &data, 1<<20, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps()))
	name := fmt.Sprintf("optimized-%d.parquet", w.count.Optimized)
	w.check(s.store.Put(context.Background(), name, data.Bytes()))
	add := map[string]any{
		"path": name, "partitionValues": map[string]string{}, "size": data.Len(), "modificationTime": time.Now().UnixMilli(),
		"dataChange": false, "stats": fmt.Sprintf(`{"numRecords":%d}`, table.NumRows()),
	}
	if len(actions) == 1 {
		add["tags"] = files[0].tags
	}
	actions = append(actions, s.giveRowIDs(add, table.NumRows())...)
	w.count.Optimized++
	w.foreignTo(s, "OPTIMIZE", append(actions, map[string]any{"add": add})...)
}

// write has another program make versions, now and then so many that all lose races to it.
func (w *world) write(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		wait := 50*time.Millisecond + time.Duration(rnd.Int64N(int64(150*time.Millisecond)))
		if rnd.IntN(6) == 0 {
			wait += time.Duration(rnd.Int64N(int64(20 * time.Second)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		w.mu.Lock()
		if w.ledger.version >= 0 {
			w.count.Strangers++
			w.foreign("WRITE")
		}
		w.mu.Unlock()
	}
}

// alter changes the table's metaData.
func (w *world) alter(operation string, count *int, change func(metaData map[string]any)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.metaData == nil {
		return
	}
	text, err := json.Marshal(w.ledger.metaData)
	w.check(err)
	var metaData map[string]any
	w.check(json.Unmarshal(text, &metaData))
	change(metaData)
	*count++
	w.foreign(operation, map[string]any{"metaData": metaData})
}

// addColumn adds a column that may be null: files without it still fit.
func (w *world) addColumn() {
	w.alterSchema("ADD COLUMNS", &w.count.Schemas, func(fields []any) []any {
		name := fmt.Sprintf("extra_%d", w.count.Schemas)
		return append(fields, map[string]any{"name": name, "type": "long", "nullable": true, "metadata": map[string]any{}})
	})
}

// alterSchema changes the table's columns.
func (w *world) alterSchema(operation string, count *int, change func(fields []any) []any) {
	w.alter(operation, count, func(m map[string]any) {
		var schema map[string]any
		w.check(json.Unmarshal([]byte(m["schemaString"].(string)), &schema))
		schema["fields"] = change(schema["fields"].([]any))
		text, err := json.Marshal(schema)
		w.check(err)
		m["schemaString"] = string(text)
	})
}

// addRule adds a CHECK constraint, once: files that were written without it don't fit any more.
func (w *world) addRule() {
	if w.count.Rules == 0 {
		w.alter("ADD CONSTRAINT", &w.count.Rules, func(m map[string]any) { m["configuration"].(map[string]any)[ruleKey] = ruleText })
	}
}

// touch writes a partition's txn again as it is, which fences whoever owns it.
func (w *world) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	app := checkpoint.AppID(streamName, w.rnd.Int32N(w.partitions))
	if txn, ok := w.ledger.txns[app]; ok && !w.ledger.restored.isPending("") { // or it would hide a RESTORE from a start
		w.count.Touches++
		w.foreign("WRITE", map[string]any{"txn": map[string]any{"appId": app, "version": txn, "lastUpdated": time.Now().UnixMilli()}})
	}
}
