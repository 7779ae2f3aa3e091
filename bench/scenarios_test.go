package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOffsetsOfAVersion(t *testing.T) {
	text := `{"commitInfo":{"timestamp":1}}
{"txn":{"appId":"s-0","version":41,"lastUpdated":1}}
{"txn":{"appId":"s-12","version":7}}
{"txn":{"appId":"s#topic","version":1}}
{"txn":{"appId":"other-3","version":9}}
`
	got, err := offsetsOf([]byte(text), "s")
	if err != nil {
		t.Fatal(err)
	}
	if want := map[int32]int64{0: 41, 12: 7}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := offsetsOf([]byte(`{"txn":`), "s"); err == nil {
		t.Error("half an entry is taken")
	}
}

// TestAddedSettings: a scenario keeps its own flushes unless -config has some, and takes everything else.
func TestAddedSettings(t *testing.T) {
	for yaml, want := range map[string]string{
		"":                                  "flush: {rows: 5}\n",
		"lanes: 1":                          "flush: {rows: 5}\nlanes: 1\n",
		"lanes: 1\nflush: {interval: 2s}\n": "lanes: 1\nflush: {interval: 2s}\n",
		"memory:\n  limit: 64MiB\nflush:\n  rows: 9": "memory:\n  limit: 64MiB\nflush:\n  rows: 9\n",
	} {
		s := liveSuite{options: options{connectorYAML: yaml}}
		if got := s.added("flush: {rows: 5}"); got != want {
			t.Errorf("%q becomes %q, want %q", yaml, got, want)
		}
	}
	if got := fmt.Sprint(rotated([]int{1, 2, 4}, 0), rotated([]int{1, 2, 4}, 4)); got != "[1 2 4] [2 4 1]" {
		t.Errorf("rounds 0 and 4 have the order %s", got)
	}
}

// TestAgesOfMessages follows a table of two versions: only messages sent after the warm-up have an age.
func TestAgesOfMessages(t *testing.T) {
	table := filepath.Join(t.TempDir(), "table")
	if err := os.MkdirAll(filepath.Join(table, "_delta_log"), 0o777); err != nil {
		t.Fatal(err)
	}
	for version, text := range []string{`{"txn":{"appId":"s-0","version":1}}`, `{"txn":{"appId":"s-0","version":2}}` + "\n" + `{"txn":{"appId":"s-1","version":0}}`} {
		if err := os.WriteFile(logEntry(table, int64(version)), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	w := &watched{sent: [][]time.Time{{now.Add(-time.Hour), now.Add(-time.Minute), now.Add(-time.Second)}, {now}}, held: make([]int64, 2)}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- w.follow(ctx, stream{name: "s", table: table}, now.Add(-2*time.Minute)) }()
	if err := w.await(ctx, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ages := slices.Sorted(slices.Values(w.ages)) // a version tells of its partitions in any order
	if len(ages) != 3 || ages[0] > time.Second || ages[1] < time.Second || ages[1] > time.Minute || ages[2] < time.Minute {
		t.Errorf("ages are %v", w.ages)
	}
	select {
	case err := <-done:
		t.Errorf("it stopped by itself: %v", err)
	default:
	}
}

// TestTopicsOfShapes shows that a shape of large messages stands for fewer, in the topic's name as well.
func TestTopicsOfShapes(t *testing.T) {
	o, s, _, err := topicOptions("fill", []string{"-shape", "blobs_1m", "-messages", "8000", "-partitions", "3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := o.topicName(s); !strings.Contains(got, "-blobs_1m-2-") || !strings.HasSuffix(got, "-3") {
		t.Errorf("the topic is %s", got)
	}
	o.data = filepath.Join("..", "test", "data")
	path := filepath.Join(t.TempDir(), "lines")
	if err := o.writeLines(s, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 2 || len(text) < 2<<20 {
		t.Errorf("%d lines of %d bytes", n, len(text))
	}
	if _, _, _, err := topicOptions("read", []string{"-shape", "x"}); err == nil {
		t.Error("a shape that is not known passes")
	}
}
