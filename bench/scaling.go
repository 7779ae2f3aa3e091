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

// processCounts are how many connectors share a topic in the scenario processes, grownFiles how many data files the tables of the scenario
// grown have.
var (
	processCounts = []int{1, 2, 4}
	grownFiles    = []int64{10, 10_000, 1_000_000}
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

// grownRows are the rows of one lane after which the scenario grown commits, so that commits weigh more than usual.
const grownRows = 50_000

// runGrown asks whether a message costs more as the table grows. Log checkpoints, one in 100 commits, are not in it: `bench log` has them.
func runGrown(ctx context.Context, s *liveSuite, dir string) (figures []figure, err error) {
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
	for _, files := range rotated(grownFiles, s.round) {
		table := filepath.Join(dir, fmt.Sprint(files))
		r, err := s.runOnto(ctx, logTable{files: files}, table, topic)
		if err = errors.Join(err, os.RemoveAll(table)); err != nil {
			return nil, err
		}
		figures = append(figures, figure{Name: fmt.Sprintf("CPU s per million messages, %d files", files), Value: r.cpuPerMillion(), Unit: "s"},
			figure{Name: fmt.Sprintf("commits, %d files", files), Value: float64(r.Versions), Unit: "versions"})
	}
	return figures, nil
}

// runOnto has a connector append the topic to a table that is only a log.
func (s *liveSuite) runOnto(ctx context.Context, t logTable, table, topic string) (run, error) {
	r := run{Messages: s.scaleMessages}
	if err := t.writeBase(ctx, table); err != nil {
		return r, err
	}
	store, err := local.New(table)
	if err != nil {
		return r, err
	}
	if _, err := delta.WriteLogCheckpoint(ctx, store, -1, delta.CheckpointOptions{Now: time.Now}); err != nil {
		return r, err
	}
	config := table + ".yaml"
	text := fmt.Sprintf("name: grown-%d\nsource: {brokers: [%s], topic: %s}\nhttp: {listen: \"127.0.0.1:0\"}\ntable: {uri: %q, create: never}\n%s",
		time.Now().UnixNano(), strings.Join(quoted(s.brokers), ", "), topic, table, s.added(fmt.Sprintf("flush: {rows: %d}", grownRows)))
	if err := os.WriteFile(config, []byte(text), 0o666); err != nil {
		return r, err
	}
	if err := r.measureProcess(exec.CommandContext(ctx, s.connector, "run", "-c", config, "--until-end", "--log-format", "json")); err != nil {
		return r, err
	}
	after, err := delta.Open(ctx, store, delta.Options{Now: time.Now, Engine: "bench"})
	if err != nil {
		return r, err
	}
	r.Versions = after.Version() - t.newest()
	return r, nil
}
