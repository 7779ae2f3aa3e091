package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/pprof/profile"
)

// profileRows are what a CPU profile is divided into. A sample belongs to the first row that has a frame of its stack, from the leaf on: so
// what is allocated or copied for a row is counted there.
var profileRows = []struct {
	name  string
	frame *regexp.Regexp
}{
	{"zstd", regexp.MustCompile(`klauspost/compress|DataDog/zstd`)},
	{"data file: dictionaries", regexp.MustCompile(`sink/datafile.*[dD]ictionar|parquet/internal/encoding.*[dD]ict|hashing\.|[mM]emoTable`)},
	{"data file: pages, copies, levels, packing, footer", regexp.MustCompile(`kafkadelta/sink/datafile|arrow-go/v18/parquet`)},
	{"decode", regexp.MustCompile(`kafkadelta/decode|kafkadelta/columns`)},
	{"Kafka client: reading the socket", regexp.MustCompile(`^internal/poll\.\(\*FD\)\.Read|^net\.\(\*conn\)\.Read`)},
	{"Kafka client: records out of batches, checksums, pools", regexp.MustCompile(`twmb/franz-go`)},
	{"lanes, dispatcher", regexp.MustCompile(`kafkadelta/(pipeline|batch|source)\.`)},
	{"partition columns, files, commits", regexp.MustCompile(`kafkadelta/`)},
	{"making the messages, which is not measured", regexp.MustCompile(`^main\.\(\*chunk\)\.fill`)}, // of decode and parquet
	{"garbage collector, in the background", regexp.MustCompile(`^runtime\.(gcBgMarkWorker|bgsweep|bgscavenge)`)},
}

const profileRest = "everything else"

// profileTable is where the CPU time of runs of one kind went.
type profileTable struct {
	Runs  string `json:"runs"` // stage, shape and variant
	Files int    `json:"profiles"`
	// Messages of each run; before it was said here the file had them for all of its tables together.
	Messages int64              `json:"messages_of_a_run"`
	Nanos    map[string]float64 `json:"nanoseconds_per_message"` // by row
}

// profileResult is what is saved.
type profileResult struct {
	Format  int            `json:"format"`
	At      time.Time      `json:"at"`
	Machine machine        `json:"machine"`
	Tables  []profileTable `json:"tables"`
}

var profileName = regexp.MustCompile(`^(\w+-(\w+)(?:-\w+)?)-\d+\.pprof$`)

// profileCommand adds up the profiles that `-cpuprofile` has left.
func profileCommand(ctx context.Context, args []string) (m measurement, err error) {
	f := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	messages := f.Int64("messages", 1_000_000, "messages, as given to the runs that were profiled: of shapes with large or slow ones each has as many fewer")
	f.StringVar(&m.output, "o", "", "file for the results (default: a new one in bench/results)")
	if err := f.Parse(args); err != nil {
		return m, err
	}
	if f.NArg() != 1 || *messages < 1 {
		return m, errors.New("use bench profile [-messages N] FOLDER, that of -cpuprofile")
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return m, err
	}
	r := profileResult{Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, root)}
	r.Tables, err = profileTables(f.Arg(0), *messages)
	m.kind, m.result = "profile-", r
	return m, err
}

// profileTables averages the profiles in a folder over the messages of their runs, which were asked for so many.
func profileTables(dir string, asked int64) ([]profileTable, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.pprof"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s has no profiles: make some with -cpuprofile %s", dir, dir)
	}
	if err != nil {
		return nil, err
	}
	var tables []profileTable
	for _, path := range paths { // in order, so that runs of one kind are together
		name := profileName.FindStringSubmatch(filepath.Base(path))
		if name == nil {
			return nil, fmt.Errorf("%s is no profile of a run: -cpuprofile names them STAGE-SHAPE-ROUND.pprof", path)
		}
		if len(tables) == 0 || tables[len(tables)-1].Runs != name[1] {
			sh, err := shapeOf(name[2])
			if err != nil {
				return nil, fmt.Errorf("reading the profile %s: %w", path, err)
			}
			tables = append(tables, profileTable{Runs: name[1], Messages: sh.messages(asked), Nanos: map[string]float64{}})
		}
		t := &tables[len(tables)-1]
		t.Files++
		if err := t.add(path); err != nil {
			return nil, fmt.Errorf("reading the profile %s: %w", path, err)
		}
	}
	for _, t := range tables {
		for row := range t.Nanos {
			t.Nanos[row] /= float64(t.Messages) * float64(t.Files)
		}
	}
	return tables, nil
}

// add adds the CPU time of a profile.
func (t *profileTable) add(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := profile.Parse(f)
	if err != nil {
		return err
	}
	cpu := slices.IndexFunc(p.SampleType, func(v *profile.ValueType) bool { return v.Type == "cpu" && v.Unit == "nanoseconds" })
	if cpu < 0 {
		return errors.New("it is not one of CPU time")
	}
	for _, s := range p.Sample {
		t.Nanos[profileRow(s)] += float64(s.Value[cpu])
	}
	return nil
}

func profileRow(s *profile.Sample) string {
	for _, at := range s.Location {
		for _, line := range at.Line {
			for _, row := range profileRows {
				if row.frame.MatchString(line.Function.Name) {
					return row.name
				}
			}
		}
	}
	return profileRest
}

// print writes a column for each kind of run.
func (r profileResult) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%v\nCPU nanoseconds a message\n\n", r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, cell func(profileTable) string) {
		_, _ = fmt.Fprint(t, name)
		for _, table := range r.Tables {
			_, _ = fmt.Fprint(t, "\t", cell(table))
		}
		_, _ = fmt.Fprintln(t, "\t")
	}
	line("", func(p profileTable) string { return fmt.Sprintf("%s (%d of %d messages)", p.Runs, p.Files, p.Messages) })
	var names []string
	for _, row := range profileRows {
		names = append(names, row.name)
	}
	for _, name := range append(names, profileRest) {
		line(name, func(p profileTable) string { return fmt.Sprintf("%.0f", p.Nanos[name]) })
	}
	line("all", func(p profileTable) string {
		sum := 0.0
		for _, n := range p.Nanos {
			sum += n
		}
		return fmt.Sprintf("%.0f", sum)
	})
	return t.Flush()
}
