package json

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// The shapes that benchmarks and allocation tests share.

func nullable(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

var (
	tString = arrow.BinaryTypes.String
	tInt    = arrow.PrimitiveTypes.Int32
	tLong   = arrow.PrimitiveTypes.Int64
	tDouble = arrow.PrimitiveTypes.Float64
	tTime   = arrow.FixedWidthTypes.Timestamp_us
	tDate   = arrow.FixedWidthTypes.Date32
)

// sample is a table with messages for it.
type sample struct {
	name     string
	schema   *arrow.Schema
	config   decode.Config
	messages [][]byte
}

func kafkaField() arrow.Field {
	f, _ := decode.MetadataConfig{}.Field()
	return f
}

// webRequests makes messages of the web_requests shape: 500 URLs, 5 methods, 8 states, random ids.
func webRequests(n int) sample {
	rnd := rand.New(rand.NewPCG(42, 0))
	uuid := func() string {
		a, b := rnd.Uint64(), rnd.Uint64()
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
	}
	methods := []string{"GET", "POST", "PUT", "DELETE", "HEAD"}
	states := []int{200, 201, 204, 301, 400, 401, 404, 500}
	start := time.Date(2021, 3, 24, 15, 6, 17, 321710000, time.UTC)
	s := sample{
		name: "web_requests",
		schema: arrow.NewSchema([]arrow.Field{
			nullable("meta", arrow.StructOf(nullable("producer", arrow.StructOf(nullable("timestamp", tString))))),
			nullable("method", tString), nullable("session_id", tString), nullable("status", tInt),
			nullable("url", tString), nullable("uuid", tString), nullable("date", tDate), kafkaField(),
		}, nil),
		config: decode.Config{Columns: map[string]decode.Column{"date": {From: "meta.producer.timestamp", Cast: "date"}}},
	}
	for i := range n {
		at := start.Add(time.Duration(i*137) * time.Microsecond).Format("2006-01-02T15:04:05.000000-07:00")
		url := fmt.Sprintf("http://www.site%d.com/", rnd.IntN(500))
		for range rnd.IntN(5) {
			url += "abc"
		}
		s.messages = append(s.messages, fmt.Appendf(nil,
			`{"meta":{"producer":{"timestamp":"%s"}},"method":"%s","session_id":"%s","status":%d,"url":"%s","uuid":"%s"}`,
			at, methods[rnd.IntN(5)], uuid(), states[rnd.IntN(8)], url, uuid()))
	}
	return s
}

func flights(tb testing.TB) sample {
	s := sample{name: "flights", messages: lines(tb, "testdata/flights.jsonl")}
	var fields []arrow.Field
	for _, name := range []string{"year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"} {
		fields = append(fields, nullable(name, tInt))
	}
	fields = append(fields, nullable("carrier", tString), nullable("flight", tInt), nullable("tailnum", tString),
		nullable("origin", tString), nullable("dest", tString), nullable("air_time", tInt), nullable("distance", tInt),
		nullable("hour", tInt), nullable("minute", tInt), nullable("time_hour", tTime), kafkaField())
	s.schema = arrow.NewSchema(fields, nil)
	return s
}

func earthquakes(tb testing.TB) sample {
	s := sample{name: "earthquakes", messages: lines(tb, "testdata/earthquakes.jsonl")}
	var properties []arrow.Field
	add := func(t arrow.DataType, names ...string) {
		for _, name := range names {
			properties = append(properties, nullable(name, t))
		}
	}
	add(tDouble, "mag")
	add(tString, "place")
	add(tTime, "time", "updated")
	add(tInt, "tz")
	add(tString, "url", "detail")
	add(tInt, "felt")
	add(tDouble, "cdi", "mmi")
	add(tString, "alert", "status")
	add(tInt, "tsunami", "sig")
	add(tString, "net", "code", "ids", "sources", "types")
	add(tInt, "nst")
	add(tDouble, "dmin", "rms", "gap")
	add(tString, "magType", "type", "title")
	s.schema = arrow.NewSchema([]arrow.Field{
		nullable("type", tString),
		nullable("properties", arrow.StructOf(properties...)),
		nullable("geometry", arrow.StructOf(nullable("type", tString), nullable("coordinates", arrow.ListOf(tDouble)))),
		nullable("id", tString), kafkaField(),
	}, nil)
	return s
}

func lines(tb testing.TB, path string) [][]byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// records wraps messages as one partition's records.
func records(messages [][]byte) []*kgo.Record {
	out := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		out[i] = &kgo.Record{Topic: "web_requests", Partition: 3, Offset: int64(i), Timestamp: time.UnixMilli(1616598377321 + int64(i)), Value: m}
	}
	return out
}

func newDecoder(tb testing.TB, schema *arrow.Schema, cfg decode.Config) *Decoder {
	tb.Helper()
	plan, err := decode.NewPlan(schema, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return New(plan)
}
