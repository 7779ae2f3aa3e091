package avro

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// webRequests are messages of the web_requests shape, framed as a schema registry's serializers do.
func webRequests(t testing.TB, n int) (*Schema, []*kgo.Record) {
	text := recordOf(`{"name":"meta","type":{"type":"record","name":"m","fields":[{"name":"producer","type":{"type":"record","name":"p","fields":[
		{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-micros"}}]}}]}},{"name":"method","type":"string"},{"name":"session_id","type":"string"},
		{"name":"status","type":"int"},{"name":"url","type":"string"},{"name":"uuid","type":["null","string"],"default":null}`)
	var records []*kgo.Record
	start := time.Date(2021, 3, 24, 15, 6, 17, 321710000, time.UTC)
	for i := range n {
		value := message(t, text, map[string]any{
			"meta":   map[string]any{"producer": map[string]any{"timestamp": start.Add(time.Duration(i) * 137 * time.Microsecond)}},
			"method": []string{"GET", "POST", "PUT"}[i%3], "status": int32(200 + i%5), "url": fmt.Sprintf("http://www.site%d.com/abc", i%500),
			"session_id": fmt.Sprintf("%08x-49bb-42b6-9c29-%012x", i*7919, i*31), "uuid": map[string]any{"string": fmt.Sprintf("%08x-c2b0-4e1a-8f9e-%012x", i*104729, i*17)},
		})
		records = append(records, &kgo.Record{Topic: "web_requests", Offset: int64(i), Timestamp: start, Value: append([]byte{0, 0, 0, 0, 7}, value...)})
	}
	return parsed(t, text), records
}

func webDecoder(t testing.TB, s *Schema) *Decoder {
	table, err := TableSchema(s)
	if err != nil {
		t.Fatal(err)
	}
	return New(planFor(t, table, decode.Config{}), Options{Framing: Registry(decode.ValueSchemaHeader, func(decode.SchemaRef) (*Schema, error) { return s, nil })})
}

// BenchmarkDecode decodes web_requests into batches.
func BenchmarkDecode(b *testing.B) {
	s, records := webRequests(b, 65536)
	d := webDecoder(b, s)
	b.SetBytes(int64(len(records[0].Value)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := d.Append(records[i]); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(records) {
			i = 0
		}
		if d.Rows() == 8192 {
			d.NewBatch().Release()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// TestAppendDoesNotAllocate: nothing allocates per message once buffers have grown.
func TestAppendDoesNotAllocate(t *testing.T) {
	s, records := webRequests(t, 1000)
	d := webDecoder(t, s)
	for range 3 {
		for _, r := range records {
			if err := d.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		d.NewBatch().Release()
	}
	i := 0
	if n := testing.AllocsPerRun(900, func() {
		if err := d.Append(records[i]); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
