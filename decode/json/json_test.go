package json

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

func TestSamplesAgainstEncodingJSON(t *testing.T) {
	for _, s := range []sample{flights(t), earthquakes(t), webRequests(500)} {
		t.Run(s.name, func(t *testing.T) {
			var fields []arrow.Field // without what the messages do not have
			for _, f := range s.schema.Fields() {
				if f.Name != "_kafka" && f.Name != "date" {
					fields = append(fields, f)
				}
			}
			d := newDecoder(t, arrow.NewSchema(fields, nil), decode.Config{})
			for round := range 2 {
				for _, rec := range records(s.messages) {
					if err := d.Append(rec); err != nil {
						t.Fatal(err)
					}
				}
				if d.Rows() != len(s.messages) {
					t.Fatalf("%d rows of %d", d.Rows(), len(s.messages))
				}
				batch := d.NewBatch()
				for i, row := range renderRows(batch) {
					want, err := referenceRow(fields, s.messages[i])
					if err != nil || row != want {
						t.Fatalf("round %d, message %s\ngot  %s\nwant %s %v", round, s.messages[i], row, want, err)
					}
				}
				batch.Release()
			}
		})
	}
}

func TestMetadataOfMessages(t *testing.T) {
	cfg := decode.Config{Metadata: decode.MetadataConfig{Key: true, Headers: true}}
	field, _ := cfg.Metadata.Field()
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{nullable("a", tInt), field}, nil), cfg)
	at := time.UnixMicro(1616598377321000)
	recs := []*kgo.Record{
		{Topic: "t", Partition: 1, Offset: 5, Timestamp: at, Key: []byte{0xff}, Value: []byte(`{"a":1}`), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "n"}}},
		{Topic: "t", Partition: 1, Offset: 6, Timestamp: at, Value: []byte(`{"a":`)}, // poison between
		{Topic: "t", Partition: 1, Offset: 7, Timestamp: time.UnixMilli(-1), Key: []byte{}, Value: []byte(`{"a":2}`)},
		{Topic: "other", Partition: 0, Offset: 8, Value: []byte(`{"a":3}`)},
	}
	for round := range 2 {
		for i, rec := range recs {
			if err := d.Append(rec); (err != nil) != (i == 1) {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		batch := d.NewBatch()
		want := []string{
			`{a:1,_kafka:{topic:"t",partition:1,offset:5,timestamp:1616598377321000,key:ff,headers:[{key:"h",value:76},{key:"n",value:null}]}}`,
			`{a:2,_kafka:{topic:"t",partition:1,offset:7,timestamp:null,key:,headers:[]}}`,
			`{a:3,_kafka:{topic:"other",partition:0,offset:8,timestamp:null,key:null,headers:[]}}`,
		}
		for i, row := range renderRows(batch) {
			if row != want[i] {
				t.Errorf("round %d\ngot  %s\nwant %s", round, row, want[i])
			}
		}
		batch.Release()
	}
}

// TestPredictedKeys sends messages whose fields come and go and change places, so that each way to find a key is used.
func TestPredictedKeys(t *testing.T) {
	var fields []arrow.Field
	for i := range 40 {
		name := "f" + strconv.Itoa(i)
		if i%3 == 0 {
			name += strings.Repeat("_long", i%7)
		}
		fields = append(fields, nullable(name, tInt))
	}
	d := newDecoder(t, arrow.NewSchema(fields, nil), decode.Config{})
	rnd := rand.New(rand.NewPCG(1, 2))
	var want []string
	for range 2000 {
		var parts []string
		for _, f := range fields {
			if rnd.IntN(3) > 0 {
				parts = append(parts, fmt.Sprintf("%q:%d", f.Name, rnd.IntN(1000)))
			}
		}
		for range rnd.IntN(5) {
			parts = append(parts, fmt.Sprintf(`"unknown%d":[{"f1":%d}]`, rnd.IntN(200), rnd.IntN(9)))
		}
		if rnd.IntN(2) == 0 {
			rnd.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		}
		message := []byte("{" + strings.Join(parts, ",") + "}")
		if err := d.Append(&kgo.Record{Value: message}); err != nil {
			t.Fatal(err)
		}
		row, err := referenceRow(fields, message)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, row)
	}
	batch := d.NewBatch()
	defer batch.Release()
	for i, row := range renderRows(batch) {
		if row != want[i] {
			t.Fatalf("row %d\ngot  %s\nwant %s", i, row, want[i])
		}
	}
}

// TestStringLengths crosses every limit of the scanner: words, the fast path's room, the buffers' growth.
func TestStringLengths(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{nullable("s", tString)}, nil)
	d := newDecoder(t, schema, decode.Config{})
	var want []string
	for n := range 600 {
		for _, tail := range []string{"", "é", `\n`, `"`} {
			s := strings.Repeat("x", n) + tail
			message := []byte(`{"s":` + strconv.Quote(s) + `}`)
			if tail == "é" {
				message = []byte(`{"s":"` + s + `"}`)
			}
			if err := d.Append(&kgo.Record{Value: message}); err != nil {
				t.Fatal(err)
			}
			want = append(want, s)
		}
	}
	for _, n := range []int{1 << 16, 5 << 20} {
		want = append(want, strings.Repeat("y", n))
		if err := d.Append(&kgo.Record{Value: []byte(`{"s":"` + want[len(want)-1] + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	size := d.Bytes()
	batch := d.NewBatch()
	column := batch.Column(0).(*array.String)
	total := 0
	for i := range want {
		if column.Value(i) != want[i] {
			t.Fatalf("row %d: %d bytes, want %d", i, len(column.Value(i)), len(want[i]))
		}
		total += len(want[i]) + 4
	}
	batch.Release()
	if size < total || size > total+64 {
		t.Errorf("Bytes() = %d, want about %d", size, total)
	}
	if d.Bytes() != 0 || d.Rows() != 0 {
		t.Errorf("behind NewBatch: %d bytes, %d rows", d.Bytes(), d.Rows())
	}
	if len(d.buf) > 2*keepBuffer {
		t.Errorf("the copy of a large message is kept: %d bytes", len(d.buf))
	}
}

// TestMessageEndsAnywhere cuts messages at each byte: no cut may be accepted, and none may read past the padding.
func TestMessageEndsAnywhere(t *testing.T) {
	for _, s := range []sample{flights(t), earthquakes(t), webRequests(3)} {
		d := newDecoder(t, s.schema, s.config)
		for _, message := range s.messages[:3] {
			for n := range message {
				if err := d.Append(&kgo.Record{Value: message[:n:n]}); err == nil {
					t.Fatalf("accepted %q", message[:n])
				}
			}
			if err := d.Append(&kgo.Record{Value: message}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, s := range []sample{webRequests(2000), flights(t), earthquakes(t)} {
		t.Run(s.name, func(t *testing.T) {
			d := newDecoder(t, s.schema, s.config)
			recs := records(s.messages)
			i := 0
			step := func() {
				if err := d.Append(recs[i%len(recs)]); err != nil {
					t.Fatal(err)
				}
				i++
			}
			for range 2 * 3000 {
				step()
			}
			d.NewBatch().Release()
			if n := testing.AllocsPerRun(3000, step); n != 0 {
				t.Errorf("%v allocations per message", n)
			}
		})
	}
}

func TestReset(t *testing.T) {
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{nullable("a", tInt)}, nil), decode.Config{})
	for _, message := range []string{`{"a":1}`, `{"a":null}`} {
		if err := d.Append(&kgo.Record{Value: []byte(message)}); err != nil {
			t.Fatal(err)
		}
	}
	d.Reset()
	if d.Rows() != 0 || d.Bytes() != 0 {
		t.Fatalf("%d rows, %d bytes", d.Rows(), d.Bytes())
	}
	if err := d.Append(&kgo.Record{Value: []byte(`{"a":2}`)}); err != nil {
		t.Fatal(err)
	}
	batch := d.NewBatch()
	defer batch.Release()
	if rows := renderRows(batch); len(rows) != 1 || rows[0] != "{a:2}" {
		t.Errorf("got %v", rows)
	}
}

func TestErrorsShortenValues(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{nullable("a", tInt)}, nil)
	_, poison := decodeOne(t, schema, decode.Config{}, []byte(`{"a":"`+strings.Repeat("é", 5000)+`"}`))
	if poison == nil || len(poison.Detail) > 300 || !strings.Contains(poison.Detail, "é...") && !strings.Contains(poison.Detail, `é"...`) {
		t.Errorf("got %v", poison)
	}
}
