package batch

import (
	"testing"
	"time"

	"kafkadelta/checkpoint"
)

func TestSpansTileOverGaps(t *testing.T) {
	p := checkpoint.Partition{Topic: "t", ID: 3}
	l := NewLedger()
	s, err := l.Open(p, 10)
	if err != nil {
		t.Fatal(err)
	}
	s.Records, s.Rows, s.Next = 2, 2, 15 // offsets 10 to 14, two of them with a message
	if s, err = l.Open(p, 15); err != nil {
		t.Fatal(err)
	}
	s.Records, s.Skipped, s.Next = 5, 1, 19 // 15 to 18, one of them with a message
	got := l.Spans()
	want := checkpoint.Span{Partition: p, First: 10, Next: 19, Records: 5, Rows: 2, Skipped: 1}
	if len(got) != 1 || got[0] != want {
		t.Fatalf("spans are %+v, want %+v", got, want)
	}
	if gaps := got[0].Gaps(); gaps != 4 {
		t.Errorf("gaps are %d, want 4", gaps)
	}
}

// TestOffsetsAreTakenInARow: neither twice, nor with some between that were taken by nobody.
func TestOffsetsAreTakenInARow(t *testing.T) {
	p := checkpoint.Partition{Topic: "t"}
	l := NewLedger()
	s, err := l.Open(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Next = 5
	for _, first := range []int64{4, 6} {
		if _, err := l.Open(p, first); err == nil {
			t.Errorf("offset %d was accepted where 5 comes next", first)
		}
	}
}

func TestEmptySpansAreLeftOut(t *testing.T) {
	l := NewLedger()
	if _, err := l.Open(checkpoint.Partition{Topic: "t"}, 7); err != nil {
		t.Fatal(err)
	}
	if len(l.Spans()) != 0 {
		t.Errorf("a ledger without an offset taken is not empty: %+v", l.Spans())
	}
}

func TestConfigValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"default":            {func(*Config) {}, true},
		"interval too short": {func(c *Config) { c.Interval = time.Millisecond }, false},
		"interval too long":  {func(c *Config) { c.Interval = 2 * time.Hour }, false},
		"adaptive":           {func(c *Config) { c.Mode = ModeAdaptive }, true},
		"unknown mode":       {func(c *Config) { c.Mode = "" }, false},
		"freshness too low":  {func(c *Config) { c.Freshness = time.Millisecond }, false},
		"freshness too long": {func(c *Config) { c.Freshness = time.Hour }, false},
		"bytes too small":    {func(c *Config) { c.Bytes = 1 }, false},
		"negative rows":      {func(c *Config) { c.Rows = -1 }, false},
	} {
		c := DefaultConfig()
		tc.change(&c)
		if err := c.Validate(); (err == nil) != tc.ok {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
