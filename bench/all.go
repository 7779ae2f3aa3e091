package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// parts are what `bench all` measures, one after the other, each by a command of its own.
var parts = []struct {
	name, what string
	command    func(context.Context, []string) (measurement, error)
	args       string
	takes      string // of the flags of `bench all`
}{
	{"stages", "every stage and the whole path", suiteCommand, "", "brokers rounds messages dir"},
	{"memory", "the whole path with messages of 10 KB, 1 MB and 10 MB: see the peak RSS", suiteCommand, "-stages path -shapes blobs_10k,blobs_1m,blobs_10m", "brokers rounds messages dir"},
	{"values", "1,000 partition values at once, over several flushes", scenariosCommand, "-only values", "brokers rounds messages dir"},
	{"partitions", "2,000 topic partitions", suiteCommand, "-stages path -shapes web_requests -partitions 2000", "brokers rounds messages dir"},
	{"shapes", "nested, wide and long messages", suiteCommand, "-shapes earthquakes,wide,long_strings", "brokers rounds messages dir"},
	{"latency", "how fresh the table is, how fast a start, and what idling takes", scenariosCommand, "-only fresh,start,idle", "brokers rounds dir"},
	{"contention-processes", "1, 2 and 4 connectors with one topic and one table", scenariosCommand, "-only processes", "brokers rounds messages dir"},
	{"contention-commits", "many processes that append small commits to one table, beside delta-rs", commitsCommand, "", "rounds python dir"},
	{"growth", "what a message costs as the table grows", scenariosCommand, "-only grown,grown_long", "brokers rounds messages dir"},
	{"log", "opening, following and checkpointing a log of a million files, beside delta-rs", logCommand, "", "rounds python dir"},
}

// part is what came of one.
type part[T any] struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitzero"` // why there is no result
	Result  T       `json:"result"`
}

// allResult is what is saved.
type allResult struct {
	Format  int             `json:"format"`
	At      time.Time       `json:"at"`
	Machine machine         `json:"machine"`
	Parts   []part[printed] `json:"parts"`
}

// allCommand measures everything. A part that fails keeps the others neither from being measured nor from being saved.
func allCommand(ctx context.Context, args []string) error {
	flags, only, output, err := allOptions(args)
	if err != nil {
		return err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	r := allResult{Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, root)}
	var errs []error
	for _, p := range parts {
		if !slices.Contains(only, p.name) || ctx.Err() != nil {
			continue
		}
		progress("%s: %s", p.name, p.what)
		given := strings.Fields(p.args)
		for name := range strings.FieldsSeq(p.takes) {
			if value, ok := flags[name]; ok {
				given = append(given, "-"+name, value)
			}
		}
		begun := time.Now()
		m, err := p.command(ctx, given)
		done := part[printed]{Name: p.name, What: p.what, Seconds: time.Since(begun).Seconds(), Result: m.result}
		if err != nil {
			done.Error, done.Result = err.Error(), nil
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		r.Parts = append(r.Parts, done)
	}
	return errors.Join(append(errs, measurement{result: r, kind: "all-", output: output}.report(ctx))...)
}

// allOptions are the flags that were given, for the parts, and which of these are wanted.
func allOptions(args []string) (flags map[string]string, only []string, output string, err error) {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	f := flag.NewFlagSet("bench all", flag.ContinueOnError)
	wanted := f.String("only", strings.Join(names, ","), "parts to run")
	f.StringVar(&output, "o", "", "file for the results (default: a new one in bench/results)")
	for name, what := range map[string]string{
		"brokers":  "host:port,... (default: an embedded broker in a process of its own)",
		"dir":      "folder for tables and binaries (default: the system's folder for temporary files)",
		"python":   "Python with the packages deltalake and pyarrow (default: python3)",
		"rounds":   "times that everything is run (default: each part's own)",
		"messages": "of each run (default: each part's own)",
	} {
		f.String(name, "", what)
	}
	if err := f.Parse(args); err != nil {
		return nil, nil, "", err
	}
	if f.NArg() > 0 {
		return nil, nil, "", fmt.Errorf("argument %q is not understood: bench all takes flags only", f.Arg(0))
	}
	flags = map[string]string{}
	f.Visit(func(given *flag.Flag) { flags[given.Name] = given.Value.String() })
	only = split(*wanted)
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, nil, "", fmt.Errorf("part %q is not known: use %s", name, strings.Join(names, ", "))
		}
	}
	return flags, only, output, nil
}

// print writes the tables of all parts.
func (r allResult) print(w io.Writer) error {
	for _, p := range r.Parts {
		if _, err := fmt.Fprintf(w, "\n== %s: %s (%.0f s)\n", p.Name, p.What, p.Seconds); err != nil {
			return err
		}
		if p.Error != "" {
			_, _ = fmt.Fprintf(w, "\nfailed: %s\n", p.Error)
		} else if err := p.Result.print(w); err != nil {
			return err
		}
	}
	return nil
}
