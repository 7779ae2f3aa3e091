package pipeline

import (
	"runtime"
	"testing"
)

func TestMemoryIsDivided(t *testing.T) {
	for name, tc := range map[string]struct {
		memory       int64 // 0 for the default
		all, least   int
		part         int
		lanes, share int
		tables       int
		write        int64
	}{
		"by default":                  {0, 1000, 10, 1000, 2, 0, 1, 64 << 20},
		"half":                        {DefaultMemory / 2, 1000, 10, 500, 2, 0, 1, 32 << 20},
		"more":                        {4 * DefaultMemory, 1000, 10, 1000, 4, 0, 1, 128 << 20},
		"hardly any":                  {1 << 20, 1000, 10, 10, 1, 0, 1, 256 << 10},
		"many tables":                 {0, 1000, 10, 1000, 2, 0, 16, 4 << 20},
		"one of many, with few cores": {DefaultMemory / 50, 64 << 20, 1 << 20, 64 << 20 / 50, 1, 50, 1, DefaultMemory / 50 / 4},
	} {
		var o Options
		if tc.memory != 0 {
			o.Memory = func() int64 { return tc.memory }
		}
		if got := o.part(tc.all, tc.least); got < tc.part-tc.part/1000 || got > tc.part {
			t.Errorf("%s: the part of %d is %d, want about %d", name, tc.all, got, tc.part)
		}
		if got := (Config{Lanes: tc.lanes}).WriterMemory(tc.share, o.Memory, tc.tables)(); got != tc.write {
			t.Errorf("%s: a writer has %d bytes, want %d", name, got, tc.write)
		}
	}
}

// TestLanesHaveMemory: each lane keeps a minimum, so there are no more than there is memory for, however many cores there are.
func TestLanesHaveMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64))
	for name, tc := range map[string]struct {
		lanes, share int
		memory       int64
		want         int
	}{
		"a lane for each core":         {0, 1, 16 << 30, 64},
		"no memory for so many":        {0, 1, 384 << 20, 12},
		"hardly any":                   {0, 1, 1 << 20, 1},
		"cores that are shared":        {0, 16, 1 << 30, 4},
		"cores and memory, shared":     {0, 16, 64 << 20, 2},
		"as many as somebody asks for": {20, 1, 128 << 20, 20},
	} {
		c := Config{Lanes: tc.lanes}
		if got := c.laneCount(tc.share, tc.memory); got != tc.want {
			t.Errorf("%s: %d lanes, want %d", name, got, tc.want)
		}
		if got, want := c.WriterMemory(tc.share, func() int64 { return tc.memory }, 1)(), tc.memory/filesPart/int64(tc.want); got != want {
			t.Errorf("%s: a writer has %d bytes, want %d", name, got, want)
		}
	}
}

// TestLargeMessagesTakeFewLanes: each lane that is at a large message takes several times its size.
func TestLargeMessagesTakeFewLanes(t *testing.T) {
	for name, tc := range map[string]struct {
		lanes, largest int
		memory         int64
		want           int
	}{
		"nothing came":        {16, 0, 512 << 20, 16},
		"small ones":          {16, 10 << 10, 512 << 20, 16},
		"of 1 MiB":            {6, 1 << 20, 192 << 20, 6},
		"of 10 MiB":           {16, 10 << 20, 512 << 20, 2},
		"of 10 MiB, and more": {16, 10 << 20, 4 << 30, 16},
		"as large as all":     {16, 512 << 20, 512 << 20, 1},
	} {
		d := &dispatcher{Options: Options{Memory: func() int64 { return tc.memory }}, lanes: make([]*lane, tc.lanes), largest: tc.largest}
		if got := d.width(); got != tc.want {
			t.Errorf("%s: %d lanes, want %d", name, got, tc.want)
		}
	}
}

// TestPartsHaveMemory: what is sent to a cloud at a time is a sixteenth of the memory, in at least two parts for each lane.
func TestPartsHaveMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64))
	for name, tc := range map[string]struct {
		lanes, share int
		memory       int64
		size, sent   int
	}{
		"by default":     {2, 0, DefaultMemory, 8 << 20, 32 << 20},
		"one lane":       {1, 0, DefaultMemory, 8 << 20, 32 << 20},
		"many lanes":     {0, 0, 16 << 30, 8 << 20, 1 << 30},
		"little memory":  {2, 0, 64 << 20, 1 << 20, 4 << 20},
		"for many lanes": {0, 0, 512 << 20, 1 << 20, 32 << 20},
		"one of many":    {0, 64, 16 << 20, 256 << 10, 1 << 20},
		"hardly any":     {0, 64, 1 << 20, 256 << 10, 64 << 10},
	} {
		size, sent := Config{Lanes: tc.lanes}.Parts(tc.share, func() int64 { return tc.memory })
		if size != tc.size || sent != tc.sent {
			t.Errorf("%s: parts of %d, and %d that are sent, want %d and %d", name, size, sent, tc.size, tc.sent)
		}
	}
}
