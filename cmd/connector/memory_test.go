package main

import (
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"
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
