package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// keepCollector has Go's collector keep to its own limit again after the test.
func keepCollector(t *testing.T) {
	t.Helper()
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
}

func TestMemoryLimit(t *testing.T) {
	keepCollector(t)
	limited := func(limit int64) *budget { return memoryConfig{Limit: limit}.budget(slog.New(slog.DiscardHandler)) }
	b := limited(100 << 20)
	b.divide(1)
	if got := b.part.Load(); got != 100<<20 || debug.SetMemoryLimit(-1) != got {
		t.Errorf("a pipeline alone has %d bytes, the collector's limit is %d, want 100 MiB", got, debug.SetMemoryLimit(-1))
	}
	if got := limited(0).bytes(1); got < leastMemory || got > 1<<40 {
		t.Errorf("without a setting the limit is %d bytes", got)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	b = limited(300 << 20)
	b.divide(2)
	if got := b.part.Load(); got != 150<<20 || debug.SetMemoryLimit(-1) != 100<<20 {
		t.Errorf("GOMEMLIMIT was overruled: %d; a pipeline has %d bytes", debug.SetMemoryLimit(-1), got)
	}
}

func TestMemoryLimitInTheFile(t *testing.T) {
	const stream = "name: s\nsource: {brokers: [\"h:1\"], topic: t}\ntable: {uri: ./t, schema: \"n INT\"}\n"
	d, err := loadDaemon(file(t, "c.yaml", stream+"memory: {limit: 300MiB}\n"))
	if err != nil || d.process.Memory.Limit != 300<<20 {
		t.Fatalf("limit %d, error %v", d.process.Memory.Limit, err)
	}
	for text, want := range map[string]string{
		stream + "memory: {limit: 1MiB}\n": "memory.limit is 1048576 bytes",
		"pipelines:\n- {name: a, source: {brokers: [\"h:1\"], topic: t}, table: {uri: ./a, schema: \"n INT\"}, memory: {limit: 300MiB}}\n": "stand beside the pipelines",
	} {
		if _, err := loadDaemon(file(t, "c.yaml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %s", text, err, want)
		}
	}
}

// TestIdleness: what a process is to give back is what it took since it gave back last, all at once or in small bursts.
func TestIdleness(t *testing.T) {
	i, total := idleness{}, uint64(0)
	for n, step := range []struct {
		mib uint64 // allocated since the check before
		due bool
	}{{100, false}, {1, true}, {1, false}, {200, false}, {63, true}, {1, false}, {30, false}, {30, false}, {30, true}, {30, false}, {64, false}, {0, true}} {
		total += step.mib << 20
		if got := i.due(total); got != step.due {
			t.Errorf("check %d, after %d MiB: due is %v", n, step.mib, got)
		}
	}
}

// TestMetricsLeaveAProcessIdle: what it costs to be looked at by two servers, each every five seconds, leaves half for the fetches, with 2,000 partitions.
func TestMetricsLeaveAProcessIdle(t *testing.T) {
	const partitions, looks = 2000, 2 * int(idleCheck/(5*time.Second))
	registry := prometheus.NewRegistry()
	wrapped := prometheus.WrapRegistererWith(prometheus.Labels{"stream": "s"}, registry)
	for _, name := range []string{"kafkadelta_lag_messages", "kafkadelta_committed_offset"} {
		gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, []string{"topic", "partition"})
		wrapped.MustRegister(gauge)
		for i := range partitions {
			gauge.WithLabelValues("t", strconv.Itoa(i)).Set(1e9)
		}
	}
	h := newHub()
	h.runs("s", func() error { return nil }, registry)
	look := func() {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		request.Header.Set("Accept-Encoding", "gzip")
		promhttp.HandlerFor(h.metrics(), promhttp.HandlerOpts{}).ServeHTTP(httptest.NewRecorder(), request)
	}
	look()
	before := allocated()
	for range looks {
		look()
	}
	if took := allocated() - before; took < partitions || took > idleAllocations/2 {
		t.Errorf("%d looks at the metrics of %d partitions allocate %d bytes, a process is idle below %d", looks, partitions, took, idleAllocations)
	}
}
