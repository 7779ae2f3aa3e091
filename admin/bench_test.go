package admin_test

import (
	"context"
	"flag"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/local"
)

var verifyMillions = flag.Int("millions", 4, "`millions` of rows of BenchmarkVerify's table")

// BenchmarkVerify verifies a table of 4 million rows, or of -millions, on the local disk: 4 partitions, a version for each 125,000 rows.
// With -millions 100 -benchtime 1x it is the promise that 100 million rows take minutes: 2 GB of disk, and minutes to make the table.
func BenchmarkVerify(b *testing.B) {
	const partitions, perVersion = 4, 125_000
	versions, rows := *verifyMillions*1_000_000/perVersion, *verifyMillions*1_000_000
	store, err := local.New(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	schema, err := delta.ParseDDL(withMetadata)
	must(err)
	cfg := sink.DefaultConfig()
	cfg.URI = "file://table"
	table, err := sink.Open(b.Context(), store, cfg, sink.Options{Name: stream, Create: schema, Engine: "bench", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	must(err)
	starts := map[int32]int64{}
	var parts []checkpoint.Partition
	for p := range int32(partitions) {
		starts[p] = 0
		parts = append(parts, checkpoint.Partition{Topic: topic, ID: p})
	}
	must(table.Pin(b.Context(), sink.PinRequest{
		Topic: topic, Identity: identity, Partitions: partitions,
		Reported: func(context.Context) (map[int32]int64, error) { return nil, nil },
		Starts:   func(context.Context, bool) (map[int32]int64, error) { return starts, nil },
	}))
	_, err = table.Claim(b.Context(), parts)
	must(err)
	layout, err := table.Layout(b.Context())
	must(err)
	w := table.NewWriter(layout)
	const each = perVersion / partitions
	for v := range int64(versions) {
		var spans []checkpoint.Span
		for _, p := range parts {
			spans = append(spans, checkpoint.Span{Partition: p, First: v * each, Next: (v + 1) * each, Records: each, Rows: each})
		}
		for at := v * each; at < (v+1)*each; at += 1000 { // messages of partitions come in turns
			for _, p := range parts {
				var places []place
				for o := at; o < min(at+1000, (v+1)*each); o++ {
					places = append(places, place{p.ID, o})
				}
				rb := batchOf(layout.Schema, topic, places)
				must(w.Write(b.Context(), rb))
				rb.Release()
			}
		}
		u, err := w.Finish(spans)
		must(err)
		must(table.Commit(b.Context(), []*sink.Unit{u}))
	}
	b.ResetTimer()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		r, err := admin.Verify(b.Context(), store, admin.Options{Since: -1, Until: -1})
		must(err)
		if r.Verdict != admin.OK || r.Rows != int64(rows) {
			b.Fatal(show(r))
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(rows)/float64(b.N), "B/row")
}
