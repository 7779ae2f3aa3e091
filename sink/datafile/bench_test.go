//go:build unix

package datafile

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
)

const batchRows = 8192

// shape is a table to write in benchmarks; fill appends row i.
type shape struct {
	name   string
	schema *arrow.Schema
	fill   func(b *array.RecordBuilder, rng *rand.Rand, i int)
}

func shapes() []shape { return []shape{webRequests(), flights()} }

// requiredKafka has the same fields, all NOT NULL.
func requiredKafka() arrow.Field {
	f := kafkaField()
	inner := slices.Clone(f.Type.(*arrow.StructType).Fields())
	for i := range inner {
		inner[i].Nullable = false
	}
	return arrow.Field{Name: f.Name, Type: arrow.StructOf(inner...)}
}

// onlyKafka is nothing but NOT NULL metadata.
func onlyKafka() shape {
	return shape{"_kafka", arrow.NewSchema([]arrow.Field{requiredKafka()}, nil), func(b *array.RecordBuilder, _ *rand.Rand, i int) {
		appendKafka(b.Field(0), i)
	}}
}

// kafkaField is the metadata column.
func kafkaField() arrow.Field {
	return field("_kafka", arrow.StructOf(field("topic", arrow.BinaryTypes.String), field("partition", arrow.PrimitiveTypes.Int32),
		field("offset", arrow.PrimitiveTypes.Int64), field("timestamp", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})))
}

func appendKafka(b array.Builder, i int) {
	k := b.(*array.StructBuilder)
	k.Append(true)
	k.FieldBuilder(0).(*array.StringBuilder).Append("web_requests")
	k.FieldBuilder(1).(*array.Int32Builder).Append(int32(i / 500 % 4)) // fetched in runs
	k.FieldBuilder(2).(*array.Int64Builder).Append(int64(i/2000*500 + i%500))
	k.FieldBuilder(3).(*array.TimestampBuilder).Append(arrow.Timestamp(1616598377321000 + int64(i)*137/1000*1000))
}

func webRequests() shape {
	s := arrow.BinaryTypes.String
	methods := []string{"GET", "POST", "PUT", "DELETE", "HEAD"}
	status := []int32{200, 201, 204, 301, 400, 401, 404, 500}
	urls := make([]string, 500)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://www.site%d.com/%s", i, "abcabcabcabc"[:3*(i%5)])
	}
	start := time.Date(2021, 3, 24, 15, 6, 17, 321710000, time.UTC)
	uuid := func(rng *rand.Rand) string {
		a, b := rng.Uint64(), rng.Uint64()
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
	}
	return shape{
		"web_requests",
		arrow.NewSchema([]arrow.Field{
			field("meta", arrow.StructOf(field("producer", arrow.StructOf(field("timestamp", s))))),
			field("method", s), field("session_id", s), field("status", arrow.PrimitiveTypes.Int32), field("url", s), field("uuid", s), kafkaField(),
		}, nil),
		func(b *array.RecordBuilder, rng *rand.Rand, i int) {
			meta := b.Field(0).(*array.StructBuilder)
			meta.Append(true)
			producer := meta.FieldBuilder(0).(*array.StructBuilder)
			producer.Append(true)
			producer.FieldBuilder(0).(*array.StringBuilder).Append(start.Add(time.Duration(i*137) * time.Microsecond).Format("2006-01-02T15:04:05.000000-07:00"))
			b.Field(1).(*array.StringBuilder).Append(methods[rng.IntN(5)])
			b.Field(2).(*array.StringBuilder).Append(uuid(rng))
			b.Field(3).(*array.Int32Builder).Append(status[rng.IntN(8)])
			b.Field(4).(*array.StringBuilder).Append(urls[rng.IntN(500)])
			b.Field(5).(*array.StringBuilder).Append(uuid(rng))
			appendKafka(b.Field(6), i)
		},
	}
}

func flights() shape {
	number := func(name string) arrow.Field { return field(name, arrow.PrimitiveTypes.Int64) }
	s := arrow.BinaryTypes.String
	// name, distinct values, nulls per thousand
	numbers := []struct {
		name            string
		distinct, nulls int
	}{{"year", 1, 0}, {"month", 12, 0}, {"day", 31, 0}, {"dep_time", 1318, 25}, {"sched_dep_time", 1021, 0}, {"dep_delay", 527, 25},
		{"arr_time", 1411, 26}, {"sched_arr_time", 1163, 0}, {"arr_delay", 577, 28}, {"flight", 3844, 0}, {"air_time", 509, 28},
		{"distance", 214, 0}, {"hour", 20, 0}, {"minute", 60, 0}}
	var fields []arrow.Field
	for _, n := range numbers {
		fields = append(fields, number(n.name))
	}
	fields = append(fields, field("carrier", s), field("tailnum", s), field("origin", s), field("dest", s),
		field("time_hour", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}), kafkaField())
	return shape{
		"flights",
		arrow.NewSchema(fields, nil),
		func(b *array.RecordBuilder, rng *rand.Rand, i int) {
			for c, n := range numbers {
				switch {
				case rng.IntN(1000) < n.nulls:
					b.Field(c).AppendNull()
				case n.name == "year" || n.name == "month" || n.name == "day": // sorted by time
					b.Field(c).(*array.Int64Builder).Append(2013 + int64(i/920%n.distinct))
				default:
					b.Field(c).(*array.Int64Builder).Append(int64(min(rng.IntN(n.distinct), rng.IntN(n.distinct))))
				}
			}
			at := len(numbers)
			b.Field(at).(*array.StringBuilder).Append([]string{"UA", "AA", "B6", "DL", "EV"}[rng.IntN(5)])
			b.Field(at + 1).(*array.StringBuilder).Append(fmt.Sprintf("N%dUA", 10000+rng.IntN(4043)))
			b.Field(at + 2).(*array.StringBuilder).Append([]string{"EWR", "LGA", "JFK"}[rng.IntN(3)])
			b.Field(at + 3).(*array.StringBuilder).Append(fmt.Sprintf("%03d", rng.IntN(105)))
			b.Field(at + 4).(*array.TimestampBuilder).Append(arrow.Timestamp(1357002000000000 + int64(i)/48*3600_000_000))
			appendKafka(b.Field(at+5), i)
		},
	}
}

func (s shape) batches(rows int) []arrow.RecordBatch {
	rng := rand.New(rand.NewPCG(42, 42))
	b := array.NewRecordBuilder(memory.DefaultAllocator, s.schema)
	var all []arrow.RecordBatch
	for i := range rows {
		s.fill(b, rng, i)
		if (i+1)%batchRows == 0 {
			all = append(all, b.NewRecordBatch())
		}
	}
	return all
}

func writeAll(tb testing.TB, s shape, batches []arrow.RecordBatch, opts Options, tn tuning) Info {
	f := newTestFile(tb, &object{}, s.schema, opts, tn)
	for _, rb := range batches {
		if err := f.Write(rb); err != nil {
			tb.Fatal(err)
		}
	}
	info, err := f.Close()
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

// BenchmarkWrite is one file of 524,288 rows in batches of 8,192.
func BenchmarkWrite(b *testing.B) {
	for _, s := range shapes() {
		batches := s.batches(64 * batchRows)
		for _, compression := range compressions {
			b.Run(s.name+"/"+compression, func(b *testing.B) {
				b.ReportAllocs()
				cpu := cpuTime()
				var info Info
				for range b.N {
					info = writeAll(b, s, batches, Options{Config: Config{Compression: compression}}, defaultTuning())
				}
				rows := float64(b.N) * float64(info.Rows)
				b.ReportMetric(float64(cpuTime()-cpu)/rows, "cpu-ns/row")
				b.ReportMetric(float64(info.Size)/float64(info.Rows), "bytes/row")
			})
		}
	}
}

// TestTuning compares settings by CPU time, interleaved in one process, as the median of paired ratios. It runs when
// DATAFILE_TUNING is set, and prints.
func TestTuning(t *testing.T) {
	if os.Getenv("DATAFILE_TUNING") == "" {
		t.Skip("set DATAFILE_TUNING=1 to compare settings")
	}
	with := func(change func(*tuning)) tuning {
		tn := defaultTuning()
		change(&tn)
		return tn
	}
	always := func(integers parquet.Encoding, dictionary bool) func(*tuning) {
		return func(tn *tuning) {
			tn.choose = func(dt arrow.DataType, s sampled) columnEncoding {
				e := chooseEncoding(dt, s)
				if fixed, ok := dt.(arrow.FixedWidthDataType); ok && fixed.BitWidth() > 1 {
					e = columnEncoding{dictionary, integers}
				}
				return e
			}
		}
	}
	variants := []struct {
		name string
		tn   tuning
	}{
		{"default", defaultTuning()},
		{"all dictionary, PLAIN", with(func(tn *tuning) {
			tn.choose = func(dt arrow.DataType, s sampled) columnEncoding {
				return columnEncoding{dt.ID() != arrow.BOOL, parquet.Encodings.Plain}
			}
		})},
		{"numbers PLAIN", with(always(parquet.Encodings.Plain, false))},
		{"numbers DELTA", with(always(parquet.Encodings.DeltaBinaryPacked, false))},
		{"numbers dictionary", with(always(parquet.Encodings.Plain, true))},
		{"page 64 KiB", with(func(tn *tuning) { tn.pageBytes = 64 << 10 })},
		{"page 128 KiB", with(func(tn *tuning) { tn.pageBytes = 128 << 10 })},
		{"page 512 KiB", with(func(tn *tuning) { tn.pageBytes = 512 << 10 })},
		{"page 1 MiB", with(func(tn *tuning) { tn.pageBytes = 1 << 20 })},
		{"row group 8 MiB", with(func(tn *tuning) { tn.groupEncoded = 8 << 20 })},
		{"steps of 1024", with(func(tn *tuning) { tn.sliceRows = 1024 })},
	}
	const rounds = 5
	for _, s := range append(shapes(), onlyKafka()) {
		batches := s.batches(32 * batchRows)
		times := make([][]float64, len(variants))
		sizes := make([]int64, len(variants))
		for round := range rounds + 1 {
			for i := range variants {
				v := (i + round) % len(variants)
				cpu := cpuTime()
				sizes[v] = writeAll(t, s, batches, Options{}, variants[v].tn).Size
				if round > 0 {
					times[v] = append(times[v], float64(cpuTime()-cpu))
				}
			}
		}
		for v := range variants {
			ratios := make([]float64, rounds)
			for r := range ratios {
				ratios[r] = times[0][r] / times[v][r]
			}
			rows := float64(len(batches) * batchRows)
			fmt.Printf("%-13s %-24s %6.0f cpu-ns/row   speed x%.2f   %6.2f bytes/row\n", s.name, variants[v].name, median(times[v])/rows, median(ratios), float64(sizes[v])/rows)
		}
	}
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// cpuTime is what the process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
