package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/local"
)

// childLog is the hidden subcommand that runs one operation on a table's log in a process of its own.
const childLog = "child-log"

// The operations of `bench log`. Each is run by this module and by delta-rs, which has three ways to open.
const (
	logOpen       = "open"               // for appending: everything but the files
	logOpenBare   = "open_without_files" // delta-rs only, to compare with logOpen
	logOpenLight  = "open_skip_stats"    // delta-rs only, to compare with logOpen
	logFollow     = "follow"             // read the versions that came after the open
	logCheckpoint = "checkpoint"         // write a classic log checkpoint of the newest version
	logLoaded     = "checkpoint_loaded"  // delta-rs only: the same, by a process that has the table in memory already
	logV2         = "checkpoint_v2"      // kafkadelta only: write one that refers to the sidecars of the one before
)

var logOps = []string{logOpen, logOpenBare, logOpenLight, logFollow, logCheckpoint, logLoaded, logV2}

// engineOwn and engineOther are whose code a run is of.
const (
	engineOwn   = "kafkadelta"
	engineOther = "delta-rs"
)

// logRun is one operation, measured.
type logRun struct {
	Engine     string  `json:"engine"`
	Op         string  `json:"op"`
	Round      int     `json:"round"`
	Version    int64   `json:"version"` // of the table, at the end
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakRSS    int64   `json:"peak_rss_bytes"` // of the whole process
	IdleRSS    int64   `json:"idle_rss_bytes"` // peak before the table was opened

	WrittenBytes int64 `json:"written_bytes,omitzero"` // kafkadelta's log checkpoints
}

// logResult is what is saved.
type logResult struct {
	Format    int       `json:"format"`
	At        time.Time `json:"at"`
	Machine   machine   `json:"machine"`
	Files     int64     `json:"files"`
	Following int64     `json:"following_versions"`
	DeltaRS   string    `json:"delta_rs"`
	Runs      []logRun  `json:"runs"`
}

// logSuite is one call of `bench log`.
type logSuite struct {
	table       logTable
	rounds      int
	python, dir string

	self, root, work string
}

func logCommand(ctx context.Context, args []string) (m measurement, err error) {
	var s logSuite
	f := flag.NewFlagSet("bench log", flag.ContinueOnError)
	f.Int64Var(&s.table.files, "files", 1_000_000, "data files of the table")
	f.Int64Var(&s.table.following, "following", 1_000, "versions to follow")
	f.IntVar(&s.rounds, "rounds", 5, "times that everything is run")
	f.StringVar(&s.python, "python", "python3", "Python with the package deltalake")
	f.StringVar(&s.dir, "dir", "", "folder for the tables (default: the system's folder for temporary files)")
	f.StringVar(&m.output, "o", "", "file for the results (default: a new one in bench/results)")
	if err := f.Parse(args); err != nil {
		return m, err
	}
	if f.NArg() > 0 || s.table.files < 1 || s.table.following < 1 || s.rounds < 1 {
		return m, errors.New("bench log takes flags only, and -files, -following and -rounds must be at least 1")
	}
	if s.self, err = os.Executable(); err != nil {
		return m, err
	}
	var leave func() error
	if s.root, s.work, leave, err = workplace(ctx, s.dir); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	r, err := s.run(ctx)
	m.kind, m.result = "log-", r
	return m, err
}

func (s *logSuite) run(ctx context.Context) (logResult, error) {
	r := logResult{
		Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, s.root),
		Files: s.table.files, Following: s.table.following,
	}
	progress("making a log of %d files", s.table.files)
	if err := errors.Join(s.table.writeBase(ctx, s.base()), s.table.writeFollowing(s.later())); err != nil {
		return r, err
	}
	// The base's log checkpoint is delta-rs's own, so that neither side reads what suits it alone.
	made, err := s.other(ctx, logCheckpoint, s.base())
	if err != nil {
		return r, err
	}
	r.DeltaRS = made.Engine
	if err := dropCovered(s.base()); err != nil {
		return r, err
	}
	v2 := s.table
	v2.v2 = true
	if err := v2.writeBase(ctx, s.baseV2()); err != nil {
		return r, err
	}
	if _, err := s.own(ctx, logV2, s.baseV2()); err != nil {
		return r, err
	}
	if err := dropCovered(s.baseV2()); err != nil {
		return r, err
	}
	for round := range s.rounds {
		for _, op := range logOps {
			engines := []string{engineOwn, engineOther}
			switch op {
			case logOpenBare, logOpenLight, logLoaded:
				engines = engines[1:]
			case logV2:
				engines = engines[:1]
			}
			if round%2 == 1 {
				slices.Reverse(engines)
			}
			for _, engine := range engines {
				x, err := s.once(ctx, engine, op)
				if err != nil {
					return r, err
				}
				x.Engine, x.Op, x.Round = engine, op, round+1
				r.Runs = append(r.Runs, x)
				progress("round %d  %-18s %-10s %7.3f s  %7.3f CPU s  %6.0f MiB", x.Round, op, engine, x.Seconds, x.CPUSeconds, float64(x.PeakRSS)/(1<<20))
			}
		}
	}
	return r, nil
}

// dropCovered removes what the log checkpoint of the base covers, so that nobody can read that instead.
func dropCovered(dir string) error {
	for v := range int64(baseVersions) {
		if err := os.Remove(logEntry(dir, v)); err != nil {
			return err
		}
	}
	return nil
}

func (s *logSuite) base() string   { return filepath.Join(s.work, "base") }
func (s *logSuite) baseV2() string { return filepath.Join(s.work, "base-v2") }
func (s *logSuite) later() string  { return filepath.Join(s.work, "later") }

// once runs one operation on a copy of the table, made of links.
func (s *logSuite) once(ctx context.Context, engine, op string) (x logRun, err error) {
	dir := filepath.Join(s.work, "run")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	from := []string{s.base()}
	want := int64(baseVersions)
	switch op {
	case logCheckpoint, logLoaded:
		from, want = append(from, s.later()), s.table.newest()
	case logV2:
		from, want = []string{s.baseV2(), s.later()}, s.table.newest()
	case logFollow:
		want = s.table.newest()
	}
	for _, f := range from {
		if err := linkAll(f, dir); err != nil {
			return x, err
		}
	}
	if engine == engineOwn {
		x, err = s.own(ctx, op, dir)
	} else {
		x, err = s.other(ctx, op, dir)
	}
	if err == nil && x.Version != want {
		err = fmt.Errorf("%s, %s: ended at version %d, want %d", engine, op, x.Version, want)
	}
	return x, err
}

func (s *logSuite) own(ctx context.Context, op, dir string) (logRun, error) {
	return child(ctx, s.self, childLog, op, dir, s.later())
}

func (s *logSuite) other(ctx context.Context, op, dir string) (logRun, error) {
	return child(ctx, s.python, filepath.Join(s.root, "bench", "deltars", "log.py"), op, dir, s.later())
}

func child(ctx context.Context, name string, args ...string) (x logRun, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &x)
	}
	if err != nil {
		return x, fmt.Errorf("running %s %v: %w", name, args, err)
	}
	return x, nil
}

func linkAll(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o777)
		}
		return os.Link(path, filepath.Join(to, name))
	})
}

// logChild runs one operation of this module and prints its figures.
func logChild(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s takes an operation and two folders", childLog)
	}
	op, dir, later := args[0], args[1], args[2]
	store, err := local.New(dir)
	if err != nil {
		return err
	}
	x := logRun{IdleRSS: peakRSS(os.Getpid())}
	var table *delta.Table
	open := func() (err error) {
		table, err = delta.Open(ctx, store, delta.Options{Now: time.Now, Engine: "bench"})
		return err
	}
	measured := open
	switch op {
	case logFollow:
		if err := errors.Join(open(), linkAll(later, dir)); err != nil {
			return err
		}
		measured = func() error {
			for {
				if _, err := table.Next(ctx); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}
	case logCheckpoint, logV2:
		measured = func() error {
			made, err := delta.WriteLogCheckpoint(ctx, store, -1, delta.CheckpointOptions{Now: time.Now})
			x.Version, x.WrittenBytes = made.Version, made.Bytes
			if err == nil && !made.Written {
				err = errors.New("nothing was written")
			}
			return err
		}
	}
	var r run
	if err := r.measure(measured); err != nil {
		return err
	}
	x.Seconds, x.CPUSeconds, x.PeakRSS = r.Seconds, r.UserSeconds+r.SystemSeconds, peakRSS(os.Getpid())
	if table != nil {
		x.Version = table.Version()
	}
	runtime.KeepAlive(table)
	return json.NewEncoder(os.Stdout).Encode(x)
}

// print writes the table of figures, over the rounds.
func (r logResult) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%v\n%d files, %d versions to follow, %s\n\n", r.Machine, r.Files, r.Following, r.DeltaRS)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "operation\tengine\tseconds: min\tmedian\tmax\tCPU s: median\tpeak RSS MiB: max\tbefore\tseconds by kafkadelta's: median (interval)\t")
	for _, op := range []struct{ name, against string }{
		{logOpen, logOpen}, {logOpenBare, logOpen}, {logOpenLight, logOpen}, {logFollow, logFollow}, {logCheckpoint, logCheckpoint}, {logLoaded, logCheckpoint}, {logV2, logV2},
	} {
		own := r.seconds(engineOwn, op.against)
		for _, engine := range []string{engineOwn, engineOther} {
			wall := r.seconds(engine, op.name)
			if len(wall) == 0 {
				continue
			}
			times := ""
			if engine == engineOther {
				c := compareValues(own, wall)
				times = fmt.Sprintf("%.1f (%.1f to %.1f)", c.Estimate, c.Low, c.High)
			}
			cpu := r.values(engine, op.name, func(x logRun) float64 { return x.CPUSeconds })
			rss := r.values(engine, op.name, func(x logRun) float64 { return float64(x.PeakRSS) / (1 << 20) })
			idle := r.values(engine, op.name, func(x logRun) float64 { return float64(x.IdleRSS) / (1 << 20) })
			_, _ = fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f\t%.0f\t%s\t\n", op.name, engine, wall[0], median(wall), wall[len(wall)-1],
				median(cpu), rss[len(rss)-1], idle[len(idle)-1], times)
		}
	}
	return t.Flush()
}

func (r logResult) seconds(engine, op string) []float64 {
	return r.values(engine, op, func(x logRun) float64 { return x.Seconds })
}

// values are sorted.
func (r logResult) values(engine, op string, figure func(logRun) float64) []float64 {
	var v []float64
	for _, x := range r.Runs {
		if x.Engine == engine && x.Op == op {
			v = append(v, figure(x))
		}
	}
	slices.Sort(v)
	return v
}
