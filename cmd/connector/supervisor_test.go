package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/internal/kafkatest"
)

// patternConfig is a pipeline whose topics are found by a pattern.
func patternConfig(t *testing.T) config {
	t.Helper()
	d, err := loadDaemon(file(t, "c.yaml", "name: all\nsource: {brokers: [b:1], topic_pattern: \"t.*\"}\ntable: {uri: \"/nowhere/{topic}\", schema: \"n BIGINT\"}\nhttp: {listen: \"off\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return d.pipelines[0]
}

// TestOneLifeAtATime: a topic that comes back while the pipeline of the one before still ends gets one only once that has ended.
func TestOneLifeAtATime(t *testing.T) {
	c := patternConfig(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var lives, begun atomic.Int32
		s := &supervisor{log: slog.New(slog.DiscardHandler), options: runOptions{hub: newHub()}, memory: memoryConfig{}.budget(slog.New(slog.DiscardHandler)), running: map[string]*kept{}}
		s.live = func(ctx context.Context, _ config, _ *slog.Logger, _ runOptions) error {
			if begun.Add(1); lives.Add(1) > 1 {
				t.Error("two lives of one pipeline at once")
			}
			<-ctx.Done()
			time.Sleep(10 * time.Second) // the last commit
			lives.Add(-1)
			return nil
		}
		look := func(topics ...config) {
			t.Helper()
			s.letGo(c, topics)
			if err := s.start(ctx, c.Name, topics); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		topic := c.forTopic("t1")
		look(topic)
		look()
		look(topic) // it is back at once
		if begun.Load() != 1 {
			t.Errorf("%d pipelines have begun, want 1", begun.Load())
		}
		time.Sleep(11 * time.Second)
		look(topic)
		if begun.Load() != 2 || lives.Load() != 1 {
			t.Errorf("%d pipelines have begun, %d live; want 2 and 1", begun.Load(), lives.Load())
		}
		if err := s.options.hub.readiness(topic.Name); err == nil || err.Error() != "starting" {
			t.Errorf("the hub says %v of the second", err)
		}
		cancel()
		s.wait.Wait()
		if len(s.errs) > 0 {
			t.Error(s.errs)
		}
	})
}

// TestShareOfARestart: a pipeline that is started again takes the part of the cores that is one's now.
func TestShareOfARestart(t *testing.T) {
	c := patternConfig(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &supervisor{log: slog.New(slog.DiscardHandler), options: runOptions{hub: newHub()}, memory: memoryConfig{}.budget(slog.New(slog.DiscardHandler)), running: map[string]*kept{}}
		var shares []int
		s.live = func(ctx context.Context, p config, _ *slog.Logger, o runOptions) error {
			if p.Source.Kafka.Topic != "t1" {
				<-ctx.Done()
				return nil
			}
			shares = append(shares, o.share)
			if len(shares) > 1 {
				<-ctx.Done()
				return nil
			}
			return errors.New("an error that ends it")
		}
		for _, topics := range [][]config{{c.forTopic("t1")}, {c.forTopic("t1"), c.forTopic("t2"), c.forTopic("t3")}} {
			if err := s.start(ctx, c.Name, topics); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		cancel()
		s.wait.Wait()
		if fmt.Sprint(shares) != "[1 3]" {
			t.Errorf("its shares were %v, want 1 and then 3", shares)
		}
	})
}

// TestMemoryOfManyPipelines: topics that are found one by one have together what the process may hold, though all but the last began when there
// were less of them; and by default that is no less than they need, or the collector would never rest.
func TestMemoryOfManyPipelines(t *testing.T) {
	const topics = 50
	keepCollector(t)
	c := patternConfig(t)
	for name, tc := range map[string]struct {
		limit, there, want int64
		warned             bool
	}{
		"by default":                {0, math.MaxInt64, topics * leastOfPipeline, false},
		"in a small container":      {0, 600 << 20, 600 << 20, true},
		"with a configured limit":   {700 << 20, math.MaxInt64, 700 << 20, true},
		"with much of it":           {8 << 30, math.MaxInt64, 8 << 30, false},
		"more than the machine has": {8 << 30, 4 << 30, 8 << 30, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var logs strings.Builder
				memory := memoryConfig{Limit: tc.limit}.budget(slog.New(slog.NewTextHandler(&logs, nil)))
				memory.there = tc.there
				s := &supervisor{log: slog.New(slog.DiscardHandler), options: runOptions{hub: newHub(), memory: memory.part.Load}, memory: memory, running: map[string]*kept{}}
				var lives sync.Map
				s.live = func(ctx context.Context, c config, _ *slog.Logger, o runOptions) error {
					lives.Store(c.Name, o.memory)
					<-ctx.Done()
					return nil
				}
				var found []config
				for i := range topics {
					found = append(found, c.forTopic(fmt.Sprintf("t%d", i)))
					if err := s.start(ctx, c.Name, found); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					sum, limit := int64(0), memory.bytes(len(found))
					lives.Range(func(_, part any) bool {
						sum += part.(func() int64)()
						return true
					})
					if sum > limit || sum < limit-topics || debug.SetMemoryLimit(-1) != limit {
						t.Errorf("%d pipelines have %d bytes together and the collector %d, the limit is %d", len(found), sum, debug.SetMemoryLimit(-1), limit)
					}
				}
				cores := max(int64(runtime.GOMAXPROCS(0))*(256<<20), 512<<20)
				if got := memory.bytes(topics); got != tc.want && (tc.limit != 0 || got != min(max(cores, tc.want), tc.there)) {
					t.Errorf("the limit is %d, want %d", got, tc.want)
				}
				if warned := strings.Contains(logs.String(), "little memory"); warned != tc.warned {
					t.Errorf("it has warned: %v, want %v", warned, tc.warned)
				}
				cancel()
				s.wait.Wait()
			})
		})
	}
}

// TestMemoryOfWhoIsLeft: pipelines that have reached their end leave their parts of the memory to those that have not.
func TestMemoryOfWhoIsLeft(t *testing.T) {
	keepCollector(t)
	c := patternConfig(t)
	synctest.Test(t, func(t *testing.T) {
		memory := memoryConfig{Limit: 300 << 20}.budget(slog.New(slog.DiscardHandler))
		s := &supervisor{log: slog.New(slog.DiscardHandler), options: runOptions{hub: newHub(), memory: memory.part.Load, untilEnd: true}, memory: memory, running: map[string]*kept{}}
		ends := map[string]chan error{}
		var all []config
		for _, topic := range []string{"t1", "t2", "t3"} {
			ends[topic] = make(chan error)
			all = append(all, c.forTopic(topic))
		}
		s.live = func(_ context.Context, c config, _ *slog.Logger, _ runOptions) error {
			return <-ends[c.Source.Kafka.Topic]
		}
		part := func(want int64, when string) {
			t.Helper()
			synctest.Wait()
			if got := s.options.memory(); got != want<<20 {
				t.Errorf("%s: each has %d MiB, want %d", when, got>>20, want)
			}
		}
		if err := s.start(t.Context(), c.Name, all); err != nil {
			t.Fatal(err)
		}
		part(100, "three run")
		ends["t2"] <- nil
		part(150, "one has reached its end")
		ends["t1"] <- errors.New("an error that ends it")
		part(300, "another has failed")
		if err := s.start(t.Context(), c.Name, all); err != nil {
			t.Fatal(err)
		}
		part(300, "its topics are found again")
		ends["t3"] <- nil
		s.wait.Wait()
	})
}

// TestPatternThatCannotStart: --until-end of a pattern comes to an end, with the cause, where topics can't be asked for.
func TestPatternThatCannotStart(t *testing.T) {
	folder := t.TempDir()
	o := command(t, "run", "--until-end", "-c", file(t, "c.yaml", fmt.Sprintf(`name: all
source: {brokers: ["127.0.0.1:1"], topic_pattern: "t.*", sasl: {mechanism: plain, username: u, password_file: %q}}
table: {uri: %q, schema: "n BIGINT"}
http: {listen: "off"}
`, filepath.Join(folder, "missing"), filepath.Join(folder, topicMark))))
	if o.code != exitConfig || !strings.Contains(o.stderr, "all: ") || !strings.Contains(o.stderr, "source.sasl.password_file") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// stoppedAt is a context that ends when it is asked for the n-th time whether it has.
type stoppedAt struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelFunc
	left            atomic.Int32
}

func (c *stoppedAt) Err() error {
	if c.left.Add(-1) < 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// TestStopAtAnyStep: wherever a stop meets a start, it is a good end.
func TestStopAtAnyStep(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 1, values(10))
	for step := range int32(40) {
		folder := t.TempDir()
		d, err := loadDaemon(file(t, "c.yaml", fmt.Sprintf(`name: step-%d
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "n BIGINT"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, step, cluster.ListenAddrs()[0], filepath.Join(folder, "table"), filepath.Join(folder, "letters"))))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		at := &stoppedAt{Context: ctx, cancel: cancel}
		at.left.Store(step)
		if err := d.run(at, slog.New(slog.DiscardHandler), runOptions{untilEnd: true}); err != nil {
			t.Errorf("stopped at step %d: exit code %d: %v", step, exitCode(err), err)
		}
		cancel()
	}
}
