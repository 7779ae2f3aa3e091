package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	compute "kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// versions are the schemas of a topic over the years: each has what the ones before have, but the last, which has other columns.
var versions = []string{
	`{"name":"n","type":"long"},{"name":"text","type":"string"}`,
	`{"name":"n","type":"long"},{"name":"text","type":"string"},{"name":"extra","type":["null","string"]}`,
	`{"name":"n","type":"long"},{"name":"text","type":"string"},{"name":"deep","type":{"type":"record","name":"d2","fields":[{"name":"a","type":"int"}]}}`,
	`{"name":"n","type":"long"},{"name":"text","type":"string"},{"name":"deep","type":{"type":"record","name":"d3","fields":[{"name":"a","type":"int"},{"name":"b","type":"boolean"}]}},
	 {"name":"list","type":{"type":"array","items":{"type":"record","name":"l3","fields":[{"name":"x","type":"int"}]}}}`,
	`{"name":"n","type":"long"},{"name":"list","type":{"type":"array","items":{"type":"record","name":"l4","fields":[{"name":"y","type":"double"},{"name":"x","type":"int"}]}}},
	 {"name":"tags","type":{"type":"map","values":"long"}}`,
	`{"name":"n","type":"long"},{"name":"other","type":"bytes"}`,
}

// era has what is needed to write and read messages of all versions.
type era struct {
	framing avro.Framing
	codecs  []*goavro.Codec
	made    atomic.Int64 // rows, by decoders
}

// countedDecoder counts the rows that it makes.
type countedDecoder struct {
	*avro.Decoder
	made *atomic.Int64
}

func (d countedDecoder) Append(r *kgo.Record) error {
	err := d.Decoder.Append(r)
	if err == nil {
		d.made.Add(1)
	}
	return err
}

func newEra(t *testing.T, fields ...string) *era {
	t.Helper()
	e := &era{}
	var schemas []*avro.Schema
	for i, f := range fields {
		text := `{"type":"record","name":"event","fields":[` + f + `]}`
		s, err := avro.Parse(fmt.Sprint("version ", i), text)
		if err != nil {
			t.Fatal(err)
		}
		codec, err := goavro.NewCodec(text)
		if err != nil {
			t.Fatal(err)
		}
		schemas, e.codecs = append(schemas, s), append(e.codecs, codec)
	}
	var err error
	if e.framing, err = avro.SingleObject(schemas...); err != nil {
		t.Fatal(err)
	}
	return e
}

// produce sends one message of a version, which must become a row.
func (e *era) produce(w *world, partition int32, version int) {
	w.t.Helper()
	e.values(w, partition, version, map[string]any{
		"text": "t", "TEXT": "t", "extra": goavro.Union("string", "e"), "deep": map[string]any{"a": 1, "b": true},
		"list": []any{map[string]any{"x": 1, "y": 0.5}}, "tags": map[string]any{"k": int64(7)}, "other": []byte{1},
	})
}

// values sends one message with the values.
func (e *era) values(w *world, partition int32, version int, values map[string]any) {
	w.t.Helper()
	w.next++
	values["n"] = w.next
	value, err := e.codecs[version].SingleFromNative(nil, values)
	w.check(err)
	r := &kgo.Record{Topic: topic, Partition: partition, Value: value}
	kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
	w.want[place{partition, r.Offset}] = w.next
}

// follows makes a worker read the messages, and have the table follow them.
func (e *era) follows(how sink.Evolution) func(*setup) {
	return func(s *setup) {
		s.sink.SchemaEvolution = how
		s.NewDecoder = func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
			plan, err := decode.NewPlan(layout.Schema, decode.Config{})
			if err != nil {
				return nil, nil, err
			}
			plan.Follow = func(want *arrow.Schema) (*arrow.Schema, error) { return layout.Lacks(want, how) }
			return countedDecoder{avro.New(plan, avro.Options{Framing: e.framing}), &e.made}, nil, nil
		}
	}
}

// changes counts the versions that change the table's schema, and fails where one of them brings no rows.
func (w *world) changes(alone bool) int {
	w.t.Helper()
	n := 0
	for v := int64(1); v <= w.version(); v++ {
		changes, adds := false, false
		for _, l := range w.logLines(v) {
			changes, adds = changes || l.MetaData != nil, adds || l.Add != nil
		}
		if changes {
			n++
			if adds == alone {
				w.t.Errorf("version %d changes the table, and brings rows: %v", v, adds)
			}
		}
	}
	return n
}

func (w *world) columnsNow() string {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	return snapshot.Schema().String()
}

// TestTableFollowsTheMessages: versions of a schema come one after the other, and then all of them in turn. Nothing is read again.
func TestTableFollowsTheMessages(t *testing.T) {
	for name, mapped := range map[string]bool{"": false, "with column mapping": true} {
		t.Run(name, func(t *testing.T) {
			e := newEra(t, versions...)
			scenario(t, 2, func(w *world) {
				k := w.start(e.follows(sink.EvolveAdd), func(s *setup) {
					s.Flush.Interval = 10 * time.Second
					if mapped {
						s.sink.Properties = map[string]string{"delta.columnMapping.mode": "name"}
					}
				})
				n := int64(0)
				for v := range versions {
					for range 3 {
						e.produce(w, int32(v%2), v)
						n++
						time.Sleep(time.Second)
					}
				}
				for i := range 60 {
					e.produce(w, int32(i%2), i%len(versions))
					n++
				}
				w.landed()
				k.stop()
				if w.spansTile(); !mapped { // columns have other names in the files then
					w.exactlyOnce()
				}
				if got := k.Progress().Messages; got != n {
					t.Errorf("%d messages were taken of %d: some again", got, n)
				}
				if got := w.changes(mapped); got > len(versions)-1 {
					t.Errorf("the table was changed %d times", got)
				}
				for _, want := range []string{"extra", "deep: type=struct<a: int32 nullable, b: bool nullable>", "x: int32 nullable, y: float64 nullable", "tags", "other"} {
					if got := w.columnsNow(); !strings.Contains(got, want) {
						t.Errorf("the table has no %s: %s", want, got)
					}
				}
			})
		})
	}
}

// TestTypesGetWider: files of the narrower type stay where readers convert them (int to long). Where they do not (float to double), what was
// taken is committed first. Nothing becomes a row twice, of any partition.
func TestTypesGetWider(t *testing.T) {
	for name, tt := range map[string]struct {
		columns string // of the table
		fields  []string
		values  []map[string]any // of the messages of each version
		mapped  bool
		turns   int // that lanes take
		want    string
	}{
		"kept": {
			"n BIGINT NOT NULL, w INT", []string{`{"name":"n","type":"int"},{"name":"w","type":["null","int"]}`, `{"name":"n","type":"long"},{"name":"w","type":"long"}`},
			[]map[string]any{{"w": goavro.Union("int", 7)}, {"w": 7}}, false, 0, "w: type=int64",
		},
		"committed first": {
			"n BIGINT NOT NULL, w FLOAT", []string{`{"name":"n","type":"long"},{"name":"w","type":["null","float"]}`, `{"name":"n","type":"long"},{"name":"w","type":"double"}`},
			[]map[string]any{{"w": goavro.Union("float", 0.5)}, {"w": 0.5}}, false, 1, "w: type=float64",
		},
		"committed first, with column mapping": {
			"n BIGINT NOT NULL, w FLOAT", []string{`{"name":"n","type":"long"},{"name":"w","type":["null","float"]}`, `{"name":"n","type":"long"},{"name":"w","type":"double"}`},
			[]map[string]any{{"w": goavro.Union("float", 0.5)}, {"w": 0.5}}, true, 1, "w: type=float64",
		},
		"of a column that is new": { // files of both types would be in a table that never had the first one
			"n BIGINT NOT NULL", []string{`{"name":"n","type":"long"}`, `{"name":"n","type":"long"},{"name":"x","type":"int"}`, `{"name":"n","type":"long"},{"name":"x","type":"long"}`,
				`{"name":"n","type":"long"},{"name":"x","type":"long"},{"name":"y","type":"float"}`, `{"name":"n","type":"long"},{"name":"y","type":"double"}`},
			[]map[string]any{{}, {"x": 1}, {"x": int64(2)}, {"x": int64(3), "y": 0.5}, {"y": 0.5}}, false, 2, "x: type=int64",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEra(t, tt.fields...)
			scenario(t, 2, func(w *world) {
				w.columns = tt.columns
				k := w.start(e.follows(sink.EvolveWidens), func(s *setup) {
					s.Flush.Interval = 30 * time.Second
					s.sink.Properties = map[string]string{"delta.enableTypeWidening": "true"}
					if tt.mapped {
						s.sink.Properties["delta.columnMapping.mode"] = "name"
					}
				})
				w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
				begin := w.version()
				n := int64(0)
				for version := range tt.fields {
					for range 40 / len(tt.fields) {
						e.values(w, int32(n%2), version, maps.Clone(tt.values[version]))
						n++
						time.Sleep(500 * time.Millisecond)
					}
				}
				w.landed()
				k.stop()
				if w.spansTile(); !tt.mapped { // columns have other names in the files then
					w.exactlyOnce()
				}
				if got, tried := e.made.Load(), int64(2*(len(tt.fields)-1)); got < n || got > n+tried { // each lane tries the first message of a schema
					t.Errorf("%d rows were made of %d messages", got, n)
				}
				if got := w.version() - begin; got < int64(tt.turns) || got > int64(2*tt.turns+3) {
					t.Errorf("%d versions for %d turns", got, tt.turns)
				}
				if !strings.Contains(w.columnsNow(), tt.want) {
					t.Errorf("the table has not %s: %s", tt.want, w.columnsNow())
				}
			})
		})
	}
}

// TestPoisonBringsNoSchema: the table follows a schema with the first message of it that becomes a row, and not with those that can't: a body that is none, and a row that the table
// rejects.
func TestPoisonBringsNoSchema(t *testing.T) {
	const nullable = `{"name":"n","type":["null","long"]}`
	for name, tt := range map[string]struct {
		bad    func(e *era, w *world)
		mapped bool
	}{
		"a broken body": {bad: func(e *era, w *world) {
			value, err := e.codecs[1].SingleFromNative(nil, map[string]any{"n": goavro.Union("long", int64(1)), "extra": "e"})
			w.check(err)
			kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{{Topic: topic, Value: value[:len(value)-1]}})
		}},
		"a broken body, with column mapping": {mapped: true, bad: func(e *era, w *world) {
			value, err := e.codecs[1].SingleFromNative(nil, map[string]any{"n": goavro.Union("long", int64(1)), "extra": "e"})
			w.check(err)
			kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{{Topic: topic, Value: value[:len(value)-1]}})
		}},
		"a row that the table rejects": {bad: func(e *era, w *world) {
			value, err := e.codecs[1].SingleFromNative(nil, map[string]any{"n": nil, "extra": "e"})
			w.check(err)
			kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{{Topic: topic, Value: value}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEra(t, nullable, nullable+`,{"name":"extra","type":"string"}`)
			scenario(t, 1, func(w *world) {
				w.columns = "n BIGINT NOT NULL"
				k := w.start(e.follows(sink.EvolveAdd), func(s *setup) {
					s.OnError = pipeline.OnErrorSkip
					if tt.mapped {
						s.sink.Properties = map[string]string{"delta.columnMapping.mode": "name"}
					}
				})
				row := func(version int) {
					w.next++
					value, err := e.codecs[version].SingleFromNative(nil, map[string]any{"n": goavro.Union("long", w.next), "extra": "e"})
					w.check(err)
					r := &kgo.Record{Topic: topic, Value: value}
					kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
					w.want[place{0, r.Offset}] = w.next
				}
				row(0)
				for range 3 {
					tt.bad(e, w)
				}
				row(0)
				w.landed()
				if got := w.columnsNow(); strings.Contains(got, "extra") {
					t.Errorf("messages that are no rows have changed the table: %s", got)
				}
				tt.bad(e, w)
				row(1)
				w.landed()
				k.stop()
				if got := w.columnsNow(); !strings.Contains(got, "extra") {
					t.Errorf("the table has no column of a row: %s", got)
				}
				if got := w.changes(tt.mapped); got != 1 {
					t.Errorf("the table was changed %d times", got)
				}
				if w.spansTile(); !tt.mapped {
					w.exactlyOnce()
				}
			})
		})
	}
}

// TestLeftOutBringsNoSchema: the table follows a schema with the first message of it that the filter keeps. Those that it leaves out are counted, unless one before them stops the
// partition.
func TestLeftOutBringsNoSchema(t *testing.T) {
	const nullable = `{"name":"n","type":["null","long"]}`
	e := newEra(t, nullable, nullable+`,{"name":"extra","type":"string"}`)
	filtering := func(s *setup) {
		s.sink.SchemaEvolution, s.OnError = sink.EvolveAdd, pipeline.OnErrorFail
		s.NewDecoder = func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
			made, err := compute.New(layout.Schema, decode.Config{Filter: "n IS NULL OR n > 0"}, nil, true)
			if err != nil {
				return nil, nil, err
			}
			plan, err := decode.NewPlan(made.Schema(), made.Config())
			if err != nil {
				return nil, nil, err
			}
			plan.Follow = func(want *arrow.Schema) (*arrow.Schema, error) { return layout.Lacks(want, sink.EvolveAdd) }
			return avro.New(plan, avro.Options{Framing: e.framing}), made, nil
		}
	}
	send := func(w *world, messages ...map[string]any) (sent []*kgo.Record) {
		for _, m := range messages {
			version := 0
			if m["extra"] != nil {
				version = 1
			}
			value, err := e.codecs[version].SingleFromNative(nil, m)
			w.check(err)
			sent = append(sent, &kgo.Record{Topic: topic, Value: value})
		}
		kafkatest.ProduceTo(w.t, w.client, sent)
		return sent
	}
	leftOut := map[string]any{"n": goavro.Union("long", int64(-1)), "extra": "e"}
	scenario(t, 1, func(w *world) {
		w.columns = "n BIGINT NOT NULL"
		row := func(more map[string]any) {
			w.next++
			m := map[string]any{"n": goavro.Union("long", w.next)}
			maps.Copy(m, more)
			w.want[place{0, send(w, m)[0].Offset}] = w.next
		}
		k := w.start(filtering)
		row(nil)
		send(w, leftOut, leftOut)
		row(nil)
		w.landed()
		if got := w.columnsNow(); strings.Contains(got, "extra") {
			t.Errorf("messages that are left out have changed the table: %s", got)
		}
		if got := w.told(); got != (checkpoint.Span{Records: 4, Rows: 2, Filtered: 2}) {
			t.Errorf("the spans tell of %+v", got)
		}
		if got := k.metric("kafkadelta_filtered_messages_total"); got != 2 {
			t.Errorf("the metric counts %v filtered messages", got)
		}
		row(map[string]any{"extra": "e"})
		w.landed()
		if got := w.columnsNow(); !strings.Contains(got, "extra") {
			t.Errorf("the table has no column of a row: %s", got)
		}
		k.stop()
		w.spansTile()
		w.exactlyOnce()
	})
	scenario(t, 1, func(w *world) {
		w.columns = "n BIGINT NOT NULL"
		send(w, map[string]any{"n": goavro.Union("long", int64(1))}, map[string]any{"n": nil}, leftOut)
		err := w.start(filtering, func(s *setup) { s.UntilEnd = true }).wait()
		if _, ok := errors.AsType[*pipeline.PoisonError](err); !ok {
			t.Fatalf("the run ends with %v", err)
		}
		if got := w.told(); got != (checkpoint.Span{Records: 1, Rows: 1}) {
			t.Errorf("behind a message that stops its partition, the spans tell of %+v", got)
		}
	})
	scenario(t, 1, func(w *world) { // where none before them can stop the partition, they end no batch
		w.columns = "n BIGINT NOT NULL"
		var messages []map[string]any
		for i := range int64(20) {
			messages = append(messages, map[string]any{"n": goavro.Union("long", i+1)}, leftOut)
		}
		for i, r := range send(w, messages...) {
			if i%2 == 0 {
				w.want[place{0, r.Offset}] = int64(i/2 + 1)
			}
		}
		var batches atomic.Int64
		w.untilEnd(filtering, skip, func(s *setup) {
			compile := s.NewDecoder
			s.NewDecoder = func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
				d, made, err := compile(layout)
				if layout.Schema.HasField("extra") { // it only tries them
					return d, made, err
				}
				return countedBatches{d, &batches}, made, err
			}
		})
		if got := batches.Load(); got > 2 {
			t.Errorf("20 rows between messages that are left out are in %d batches", got)
		}
		if got := w.told(); got != (checkpoint.Span{Records: 40, Rows: 20, Filtered: 20}) {
			t.Errorf("the spans tell of %+v", got)
		}
		w.exactlyOnce()
	})
}

// countedBatches counts the batches of a decoder.
type countedBatches struct {
	pipeline.Decoder
	n *atomic.Int64
}

func (d countedBatches) NewBatch() arrow.RecordBatch {
	d.n.Add(1)
	return d.Decoder.NewBatch()
}

// TestWhatCannotBeFollowed: a column that differs by its case alone can't be added. Its messages are poison; those of other schemas are not.
func TestWhatCannotBeFollowed(t *testing.T) {
	e := newEra(t, `{"name":"n","type":"long"}`, `{"name":"n","type":"long"},{"name":"TEXT","type":"string"}`)
	scenario(t, 1, func(w *world) {
		k := w.start(e.follows(sink.EvolveAdd), func(s *setup) { s.OnError = pipeline.OnErrorSkip })
		for i := range 10 {
			e.produce(w, 0, i%2)
			if i%2 == 1 {
				delete(w.want, place{0, int64(i)})
			}
		}
		w.landed()
		k.stop()
		w.exactlyOnce()
		e.produce(w, 0, 1)
		if poison := w.wantPoison(e.follows(sink.EvolveAdd)); !strings.Contains(poison.Error(), "TEXT") {
			t.Errorf("the poison is told as %v", poison)
		}
	})
}

// TestChangeFromOutsideKeepsWhatFits: another writer adds a column while a worker has messages that are not committed.
func TestChangeFromOutsideKeepsWhatFits(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start(func(s *setup) { s.Flush.Interval = time.Minute })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produce(0, 5)
		time.Sleep(time.Second)
		w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(w.t, columns+", extra STRING") })
		time.Sleep(30 * time.Second) // an idle worker looks
		r := &kgo.Record{Topic: topic, Value: []byte(`{"n": 100, "extra": "new"}`)}
		kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
		w.want[place{0, r.Offset}] = 100
		w.landed()
		k.stop()
		w.exactlyOnce()
		if got := k.Progress().Messages; got != 6 {
			t.Errorf("%d messages were taken, want 6: none again", got)
		}
		if last := string(w.object(fmt.Sprintf("_delta_log/%020d.json", w.version()))); !strings.Contains(last, `\"extra\":\"new\"`) {
			t.Errorf("the new column is not filled: %s", last)
		}
	})
}
