package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// processConfig is what the process has one of, however many pipelines it runs.
type processConfig struct {
	HTTP   httpConfig   `yaml:"http"`
	Memory memoryConfig `yaml:"memory"`
}

// memoryConfig bounds the process's memory.
type memoryConfig struct {
	// Limit, in bytes, is for everything that the process holds. 0 (default) stands for 256 MiB for each core, at least 512 MiB, and at least
	// 32 MiB for each pipeline, but for no more than three quarters of what the machine or the container has.
	Limit int64 `yaml:"limit" unit:"bytes"`
}

// leastMemory is too little for more than a trickle of small messages.
const leastMemory = 64 << 20

func (c memoryConfig) Validate() error {
	if c.Limit != 0 && c.Limit < leastMemory {
		return fmt.Errorf("memory.limit is %d bytes: use at least 64MiB, or leave it out", c.Limit)
	}
	return nil
}

// leastOfPipeline is what a pipeline catches up with at no great loss: TestFiftyTopics has seen half of it in use.
const leastOfPipeline = 32 << 20

// budget is the process's memory, divided among its pipelines.
type budget struct {
	memoryConfig
	log    *slog.Logger
	there  int64        // three quarters of what the container or the machine has, in bytes
	part   atomic.Int64 // what each pipeline has now
	warned bool
}

func (c memoryConfig) budget(log *slog.Logger) *budget {
	b := &budget{memoryConfig: c, log: log, there: math.MaxInt64}
	for _, there := range []memlimit.Provider{memlimit.FromCgroup, memlimit.FromSystem} {
		if has, err := there(); err == nil && has < math.MaxInt64 { // an error stands for a system without
			b.there = min(b.there, int64(has)/4*3)
		}
	}
	return b
}

// bytes is the limit with so many pipelines.
func (b *budget) bytes(pipelines int) int64 {
	if b.Limit != 0 {
		return b.Limit
	}
	limit := max(int64(runtime.GOMAXPROCS(0))*(256<<20), 512<<20, int64(pipelines)*leastOfPipeline)
	return max(min(limit, b.there), leastMemory)
}

// divide gives each of so many pipelines its part, those that run included. Go's collector keeps to the whole, unless the environment says
// another limit.
func (b *budget) divide(pipelines int) {
	limit := b.bytes(pipelines)
	b.part.Store(limit / int64(pipelines))
	if !b.warned && b.part.Load() < leastOfPipeline {
		b.warned = true
		b.log.Warn("there is little memory for so many pipelines: fetches and row groups are small, and garbage is collected often", "limit", limit, "pipelines", pipelines)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// A process is idle that has allocated less than idleAllocations since idleCheck ago. With 2,000 partitions the fetches that find nothing take 8 MiB in that
// time, and each look at the metrics 4 MiB, which several servers may do every few seconds. Where little comes it takes no more than that: to count it as
// idle costs a collection once in a while.
const (
	idleCheck       = 10 * time.Second
	idleAllocations = 64 << 20
)

// releaseIdle gives memory back to the system whenever the process becomes idle, until ctx is done. The collector by itself would keep what the
// last rush took for minutes.
func releaseIdle(ctx context.Context) {
	ticker := time.NewTicker(idleCheck)
	defer ticker.Stop()
	idle := idleness{checked: allocated()}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if idle.due(allocated()) {
			debug.FreeOSMemory()
			_ = releaseProgram() // where the system does not let it, no more is lost than pages that it can take itself
		}
	}
}

// idleness tells when there is something to give back: the process is idle, and has allocated idleAllocations since it did so last, be it little by little.
type idleness struct {
	checked, released uint64 // what was allocated by then, in bytes
	ever              bool   // released
}

func (i *idleness) due(now uint64) bool {
	idle := now-i.checked < idleAllocations
	i.checked = now
	if !idle || i.ever && now-i.released < idleAllocations {
		return false
	}
	i.ever, i.released = true, now
	return true
}

// allocated is what was allocated since the process began, in bytes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
