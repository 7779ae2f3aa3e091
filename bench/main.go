// Command bench measures the message's path, stage by stage, and compares.
//
//	go run ./bench                                    every stage and shape, from an embedded broker
//	go run ./bench -brokers localhost:9092            the whole path from a real broker
//	go run ./bench -against HEAD                      side by side with another revision or source folder
//	go run ./bench compare old.json new.json          ratios of two saved results
//	go run ./bench scenarios                          how fresh the table is, how fast a start, what idling takes
//	go run ./bench commits -python venv/bin/python    many processes that commit to one table, side by side with delta-rs
//	go run ./bench log -python venv/bin/python        a log of a million files, side by side with delta-rs
//	go run ./bench profile FOLDER                     where a message's nanoseconds go, by the profiles that -cpuprofile FOLDER has left
//	go run ./bench all -python venv/bin/python        all of these, one after the other, into one file
//	go run ./bench fill -brokers localhost:9092       fill a topic for others to read; `read` only reads it
//
// It owns the seeded input, the child processes that are measured, and the saved results. It promises that every stage
// runs in a process of its own, so that CPU time and memory are that stage's, that a run whose rows are not all there
// fails, and that figures are printed with their spread. It never gates on time: a slow run is a result.
//
// The stages, each including the one before: decode is JSON bytes to Arrow batches; parquet writes these through
// sink.Writer into a committed table on the local disk; path is the built connector, `run --until-end` with the default
// configuration, reading from a broker in another process. docs/benchmarks.md has results, and how to read them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are the command line of a suite of runs.
type options struct {
	rounds, partitions int
	messages           int64
	stages, shapes     []string
	brokers            []string // empty: an embedded broker
	compression        string
	against            string
	dir, data, output  string
	profiles           string
	connectorYAML      string
	connectorFlags     []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := command(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if run, ok := commands[args[0]]; ok {
			return run(ctx, args[1:])
		}
	}
	return reported(suiteCommand)(ctx, args)
}

// commands are those that have a name; without one, the stages are measured.
var commands = map[string]func(context.Context, []string) error{
	"all":        allCommand,
	"commits":    reported(commitsCommand),
	"compare":    func(_ context.Context, args []string) error { return compareFiles(args) },
	"fill":       fillCommand,
	"log":        reported(logCommand),
	"profile":    reported(profileCommand),
	"read":       readCommand,
	"scenarios":  reported(scenariosCommand),
	childBroker:  brokerChild,
	childCommits: commitsChild,
	childLog:     logChild,
	childStage:   stageChild,
}

// reported prints and saves what a command has measured.
func reported(command func(context.Context, []string) (measurement, error)) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		m, err := command(ctx, args)
		if err != nil {
			return err
		}
		return m.report(ctx)
	}
}

func parseOptions(args []string) (options, error) {
	var o options
	var stages, shapes, brokers, connector string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "times that everything is run")
	f.Int64Var(&o.messages, "messages", 1_000_000, "messages of each run; of shapes with large ones as many fewer")
	f.StringVar(&stages, "stages", strings.Join(allStages, ","), "stages to run")
	f.StringVar(&shapes, "shapes", strings.Join(usualShapes, ","), "shapes of messages to run, of "+strings.Join(shapeNames(), ", "))
	f.StringVar(&brokers, "brokers", "", "brokers of the path stage, host:port,... (default: an embedded broker in a process of its own)")
	f.IntVar(&o.partitions, "partitions", 4, "partitions of the topics")
	f.StringVar(&o.compression, "compression", "none", "of the messages in the topics: none, snappy, lz4 or zstd")
	f.StringVar(&o.against, "against", "", "git revision, or folder with a checkout, to run side by side with this one")
	f.StringVar(&o.dir, "dir", "", "folder for tables and binaries (default: the system's folder for temporary files)")
	f.StringVar(&o.data, "data", filepath.Join("test", "data"), "folder of the sample data")
	f.StringVar(&o.output, "o", "", "file for the results (default: a new one in bench/results)")
	f.StringVar(&o.profiles, "cpuprofile", "", "folder for a CPU profile of every run")
	f.StringVar(&o.connectorYAML, "config", "", "YAML lines to add to the connector's configuration, such as \"flush: {interval: 1s}\"")
	f.StringVar(&connector, "connector-flags", "", "further flags for the connector's run, separated by blanks")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.stages, o.shapes, o.brokers = split(stages), split(shapes), split(brokers)
	o.connectorFlags = strings.Fields(connector)
	return o, o.validate(f.Args())
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func (o *options) validate(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("argument %q is not understood: use flags, or `compare OLD.json NEW.json`", rest[0])
	}
	if o.rounds < 1 || o.messages < 1 || o.partitions < 1 {
		return errors.New("-rounds, -messages and -partitions must be at least 1")
	}
	for _, s := range o.stages {
		if !slices.Contains(allStages, s) {
			return fmt.Errorf("stage %q is not known: use %s", s, strings.Join(allStages, ", "))
		}
	}
	for _, s := range o.shapes {
		if !slices.Contains(shapeNames(), s) {
			return fmt.Errorf("shape %q is not known: use %s", s, strings.Join(shapeNames(), ", "))
		}
	}
	if _, err := codecOf(o.compression); err != nil {
		return err
	}
	for _, path := range []*string{&o.data, &o.dir, &o.profiles, &o.output} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// resultName names a new file of results by time and commit.
func resultName(now time.Time, commit string) string {
	return fmt.Sprintf("%s-%s.json", now.UTC().Format("20060102T150405"), commit)
}
