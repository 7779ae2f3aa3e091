package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/local"
)

// processCounts are how many connectors share a topic in the scenario processes, grownTables what the tables of the scenarios grown and grown_long
// have. With log checkpoints of the V2 spec, the sidecars of the one before are used again.
var (
	processCounts = []int{1, 2, 4}
	grownTables   = []logTable{{files: 10}, {files: 10_000}, {files: 1_000_000}, {files: 1_000_000, v2: true}}
)

// rotated begins with another one in each round, so that none is always the first or last.
func rotated[T any](all []T, round int) []T {
	n := round % len(all)
	return slices.Concat(all[n:], all[:n])
}

// runProcesses asks what a message costs when several processes read one topic into one table.
func runProcesses(ctx context.Context, s *liveSuite, dir string) (figures []figure, err error) {
	sh, err := shapeOf("web_requests")
	if err != nil {
		return nil, err
	}
	o := s.options
	o.partitions, o.messages = 8, s.scaleMessages
	if err := o.fillTopic(ctx, s.brokers, sh); err != nil {
		return nil, err
	}
	for _, n := range rotated(processCounts, s.round) {
		name := fmt.Sprintf("bench-processes-%d", time.Now().UnixNano())
		table := filepath.Join(dir, fmt.Sprint(n))
		config := table + ".yaml"
		if err := os.WriteFile(config, []byte(o.pathConfig(sh, s.brokers, name, table)), 0o666); err != nil {
			return nil, err
		}
		all, err := s.runTogether(ctx, config, n)
		if err != nil {
			return nil, err
		}
		all.Messages = o.messages
		if err := all.checkTable(ctx, table); err != nil {
			return nil, err
		}
		what := fmt.Sprintf("%d processes", n)
		figures = append(figures, figure{Name: "CPU s per million messages, " + what, Value: all.cpuPerMillion(), Unit: "s"},
			figure{Name: "messages/s, " + what, Value: all.perSecond(), Unit: "1/s"})
	}
	return figures, nil
}

// runTogether runs n connectors of one configuration to the topic's end. The seconds are those from the first assignment on, as they are of one
// that runs alone: how long a group lets its members wait is the broker's setting.
func (s *liveSuite) runTogether(ctx context.Context, config string, n int) (run, error) {
	runs, errs := make([]run, n), make([]error, n)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			errs[i] = runs[i].measureProcess(exec.CommandContext(ctx, s.connector, "run", "-c", config, "--until-end", "--log-format", "json"))
		})
	}
	all.Wait()
	sum := run{Seconds: time.Since(begun).Seconds()}
	first := sum.Seconds
	for _, r := range runs {
		if r.StartSeconds > 0 { // or it was assigned nothing
			first = min(first, r.StartSeconds)
		}
		sum.UserSeconds += r.UserSeconds
		sum.SystemSeconds += r.SystemSeconds
		sum.PeakRSS += r.PeakRSS
	}
	sum.StartSeconds, sum.Seconds = first, sum.Seconds-first
	return sum, errors.Join(errs...)
}

// valuesRows are the rows of one lane after which the scenario values commits: the 250,000 messages of a run take several flushes.
const valuesRows = 20_000

// runValues asks what a thousand partition values at once take, over several flushes.
func runValues(ctx context.Context, s *liveSuite, dir string) ([]figure, error) {
	sh, err := shapeOf("tenants")
	if err != nil {
		return nil, err
	}
	o := s.options
	o.messages, o.connectorYAML = s.scaleMessages, s.added(fmt.Sprintf("flush: {rows: %d}", valuesRows))
	if err := o.fillTopic(ctx, s.brokers, sh); err != nil {
		return nil, err
	}
	r, err := o.runPath(ctx, s.connector, sh, s.brokers, dir, "")
	if err != nil {
		return nil, err
	}
	return []figure{
		{Name: "peak RSS", Value: r.peakMiB(), Unit: "MiB"},
		{Name: "CPU s per million messages", Value: r.cpuPerMillion(), Unit: "s"},
		{Name: "data files", Value: float64(r.Files), Unit: "files"},
		{Name: "version of the table, of which the first two are its making and the pin", Value: float64(r.Versions), Unit: "versions"},
	}, nil
}

// grownRows are the rows of one lane after which the scenario grown commits, so that commits weigh more than usual; grownLongRows those of
// grown_long. That has a log checkpoint in it, too, as every hundredth commit makes one: its tables stand at grownLongBase, 15 versions before.
const (
	grownRows     = 50_000
	grownLongRows = 2_000
	grownLongBase = 185
)

// grownBy asks whether a message costs more as a table grows whose log stands at a version (0: at the usual one).
func grownBy(rows int, base int64) func(context.Context, *liveSuite, string) ([]figure, error) {
	return func(ctx context.Context, s *liveSuite, dir string) ([]figure, error) {
		return s.runGrown(ctx, dir, rows, base)
	}
}

func (s *liveSuite) runGrown(ctx context.Context, dir string, rows int, base int64) (figures []figure, err error) {
	topic := fmt.Sprintf("%s-grown-%d", s.topicPrefix, time.Now().UnixNano())
	if err := s.makeTopic(ctx, topic); err != nil {
		return nil, err
	}
	message := func(i int64) []byte {
		return fmt.Appendf(nil, `{"id":%d,"at":"2026-01-01T00:00:00Z","url":"/a/%x","status":200,"bytes":%d.5,"date":"2026-01-01"}`, i, i%5000, i)
	}
	if err := s.produce(ctx, topic, message, s.scaleMessages); err != nil {
		return nil, err
	}
	for _, t := range rotated(grownTables, s.round) {
		t.base = base
		what := fmt.Sprintf("%d files", t.files)
		if t.v2 {
			what += ", V2 log checkpoints"
		}
		table := filepath.Join(dir, "table")
		r, made, err := s.runOnto(ctx, t, table, topic, rows)
		if err == nil && base == grownLongBase && made == 0 {
			err = fmt.Errorf("%s: no log checkpoint was made in %d commits after version %d: give more -messages", what, r.Versions, base)
		}
		if err = errors.Join(err, os.RemoveAll(table)); err != nil {
			return nil, err
		}
		figures = append(figures, figure{Name: "CPU s per million messages, " + what, Value: r.cpuPerMillion(), Unit: "s"},
			figure{Name: "commits, " + what, Value: float64(r.Versions), Unit: "versions"},
			figure{Name: "log checkpoints, " + what, Value: float64(made), Unit: "files"})
	}
	return figures, nil
}

// runOnto has a connector append the topic to a table that is only a log, and counts the log checkpoints that it has made meanwhile.
func (s *liveSuite) runOnto(ctx context.Context, t logTable, table, topic string, rows int) (r run, made int, err error) {
	r.Messages = s.scaleMessages
	if err := t.writeBase(ctx, table); err != nil {
		return r, 0, err
	}
	store, err := local.New(table)
	if err != nil {
		return r, 0, err
	}
	if _, err := delta.WriteLogCheckpoint(ctx, store, -1, delta.CheckpointOptions{Now: time.Now}); err != nil {
		return r, 0, err
	}
	config := table + ".yaml"
	text := fmt.Sprintf("name: grown-%d\nsource: {brokers: [%s], topic: %s}\nhttp: {listen: \"127.0.0.1:0\"}\ntable: {uri: %q, create: never}\n%s",
		time.Now().UnixNano(), strings.Join(quoted(s.brokers), ", "), topic, table, s.added(fmt.Sprintf("flush: {rows: %d}", rows)))
	if err := os.WriteFile(config, []byte(text), 0o666); err != nil {
		return r, 0, err
	}
	if err := r.measureProcess(exec.CommandContext(ctx, s.connector, "run", "-c", config, "--until-end", "--log-format", "json")); err != nil {
		return r, 0, err
	}
	after, err := delta.Open(ctx, store, delta.Options{Now: time.Now, Engine: "bench"})
	if err != nil {
		return r, 0, err
	}
	r.Versions = after.Version() - t.newest()
	all, err := filepath.Glob(filepath.Join(table, "_delta_log", "*.checkpoint.*"))
	return r, len(all) - 1, err
}
