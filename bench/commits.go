package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/local"
)

// commitRun is a crowd of processes that have appended to one new table at the same time, or the part that one of them has in it.
type commitRun struct {
	Engine     string    `json:"engine"`
	Round      int       `json:"round"`
	Processes  int       `json:"processes"`
	Asked      int       `json:"asked"` // commits of all processes
	Landed     int       `json:"landed"`
	Seconds    float64   `json:"seconds"` // wall time, from the moment when all may begin to the end of the last
	CPUSeconds float64   `json:"cpu_seconds"`
	Versions   int64     `json:"versions"`
	Waits      []float64 `json:"commit_seconds"`    // of each commit that has landed, its file included
	Refusal    string    `json:"refusal,omitzero"`  // why the first that has not landed did not
	Library    string    `json:"library,omitempty"` // the other engine's name and version
}

// commitsResult is what is saved.
type commitsResult struct {
	Format  int         `json:"format"`
	At      time.Time   `json:"at"`
	Machine machine     `json:"machine"`
	Commits int         `json:"commits_of_a_process"`
	Rows    int         `json:"rows_of_a_commit"`
	Runs    []commitRun `json:"runs"`
}

// commitsSuite is one call of `bench commits`.
type commitsSuite struct {
	processes             []int
	commits, rows, rounds int
	python, dir           string

	self, root, work string
}

func commitsCommand(ctx context.Context, args []string) (m measurement, err error) {
	var s commitsSuite
	var processes string
	f := flag.NewFlagSet("bench commits", flag.ContinueOnError)
	f.StringVar(&processes, "processes", "8,32", "how many processes append to one table at once")
	f.IntVar(&s.commits, "commits", 20, "commits of each process")
	f.IntVar(&s.rows, "rows", 100, "rows of each commit")
	f.IntVar(&s.rounds, "rounds", 3, "times that everything is run")
	f.StringVar(&s.python, "python", "python3", "Python with the packages deltalake and pyarrow; \"\" leaves delta-rs out")
	f.StringVar(&s.dir, "dir", "", "folder for the tables (default: the system's folder for temporary files)")
	f.StringVar(&m.output, "o", "", "file for the results (default: a new one in bench/results)")
	if err := f.Parse(args); err != nil {
		return m, err
	}
	for _, text := range split(processes) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return m, fmt.Errorf("-processes has %q: use numbers of at least 1, with commas", text)
		}
		s.processes = append(s.processes, n)
	}
	if f.NArg() > 0 || s.commits < 1 || s.rows < 1 || s.rounds < 1 || len(s.processes) == 0 {
		return m, errors.New("bench commits takes flags only, and -processes, -commits, -rows and -rounds must be at least 1")
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
	m.kind, m.result = "commits-", r
	return m, err
}

func (s *commitsSuite) run(ctx context.Context) (commitsResult, error) {
	r := commitsResult{
		Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, s.root), Commits: s.commits, Rows: s.rows,
	}
	engines := []string{engineOwn}
	if s.python != "" {
		engines = append(engines, engineOther)
	}
	for round := range s.rounds {
		for _, n := range s.processes {
			for _, engine := range rotated(engines, round) {
				x, err := s.once(ctx, engine, n)
				if err != nil {
					return r, fmt.Errorf("%d processes of %s: %w", n, engine, err)
				}
				x.Round = round + 1
				r.Runs = append(r.Runs, x)
				progress("round %d  %2d processes  %-10s %4d of %4d commits landed  %7.3f s  %7.3f CPU s", x.Round, n, engine, x.Landed, x.Asked, x.Seconds, x.CPUSeconds)
			}
		}
	}
	return r, nil
}

// once has n processes of an engine begin at one moment, and looks at the table afterwards.
func (s *commitsSuite) once(ctx context.Context, engine string, n int) (x commitRun, err error) {
	x = commitRun{Engine: engine, Processes: n, Asked: n * s.commits}
	dir, err := os.MkdirTemp(s.work, "table-")
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if engine == engineOwn {
		_, err = openCommitted(ctx, dir, n)
	} else {
		err = s.script(ctx, "create", dir).Run()
	}
	if err != nil {
		return x, fmt.Errorf("making the table: %w", err)
	}
	before, _, err := rowsOf(ctx, dir)
	if err != nil {
		return x, err
	}
	if err := s.append(ctx, dir, &x); err != nil {
		return x, err
	}
	after, rows, err := rowsOf(ctx, dir)
	if err == nil && rows != int64(x.Landed*s.rows) {
		err = fmt.Errorf("%d commits of %d rows were told to have landed, but the table has %d rows", x.Landed, s.rows, rows)
	}
	x.Versions = after - before
	return x, err
}

// append runs the processes and adds up what they tell.
func (s *commitsSuite) append(ctx context.Context, dir string, x *commitRun) error {
	ctx, cancel := context.WithCancel(ctx)
	var crowd []*committer
	defer func() {
		cancel() // ends those that are left where one has failed
		for _, c := range crowd {
			_ = c.cmd.Wait()
		}
	}()
	for i := range x.Processes {
		cmd := s.script(ctx, "append", dir, strconv.Itoa(s.commits), strconv.Itoa(s.rows))
		if x.Engine == engineOwn {
			cmd = exec.CommandContext(ctx, s.self, childCommits, dir, strconv.Itoa(i), strconv.Itoa(x.Processes), strconv.Itoa(s.commits), strconv.Itoa(s.rows))
			cmd.Stderr = os.Stderr
		}
		c, err := startCommitter(cmd)
		if err != nil {
			return err
		}
		crowd = append(crowd, c)
	}
	for _, c := range crowd {
		if line, err := c.out.ReadString('\n'); err != nil || line != readyToCommit+"\n" {
			return fmt.Errorf("a process has said %q instead of %q: %w", line, readyToCommit, errors.Join(err, ctx.Err()))
		}
	}
	begun := time.Now()
	for _, c := range crowd {
		if err := c.begin.Close(); err != nil {
			return err
		}
	}
	for _, c := range crowd {
		var part commitRun
		if err := json.NewDecoder(c.out).Decode(&part); err != nil {
			return fmt.Errorf("reading what a process has done: %w", errors.Join(err, ctx.Err()))
		}
		x.Seconds = time.Since(begun).Seconds()
		x.Landed += part.Landed
		x.CPUSeconds += part.CPUSeconds
		x.Waits = append(x.Waits, part.Waits...)
		if x.Library = part.Library; x.Refusal == "" {
			x.Refusal = part.Refusal
		}
	}
	slices.Sort(x.Waits)
	return nil
}

// script runs delta-rs.
func (s *commitsSuite) script(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.python, append([]string{filepath.Join(s.root, "bench", "deltars", "commits.py")}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// readyToCommit is what a process says once it has opened the table. It begins when its standard input ends.
const readyToCommit = "ready"

// committer is one process of a crowd.
type committer struct {
	cmd   *exec.Cmd
	begin io.Closer
	out   *bufio.Reader
}

func startCommitter(cmd *exec.Cmd) (*committer, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &committer{cmd: cmd, begin: in, out: bufio.NewReader(out)}, cmd.Start()
}

// rowsOf is what a table has now.
func rowsOf(ctx context.Context, dir string) (version, rows int64, err error) {
	store, err := local.New(dir)
	if err != nil {
		return 0, 0, err
	}
	snapshot, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return 0, 0, err
	}
	totals, err := snapshot.Totals(ctx)
	if err == nil && totals.FilesWithoutRows > 0 {
		err = fmt.Errorf("%d files of the table don't tell how many rows they have", totals.FilesWithoutRows)
	}
	return snapshot.Version(), totals.Rows, err
}

// print writes the table of figures, over the rounds.
func (r commitsResult) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%v\n%d commits of %d rows by each process into one new table on the local disk\n\n", r.Machine, r.Commits, r.Rows)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "processes\tengine\tasked\tlanded: min\tmax\tseconds: min\tmedian\tmax\tlanded/s: median\ta commit, s: median\tlongest\tCPU ms a commit: median\tversions: median\t")
	var seen []commitRun
	for _, first := range r.Runs {
		same := func(x commitRun) bool { return x.Processes == first.Processes && x.Engine == first.Engine }
		if slices.ContainsFunc(seen, same) {
			continue
		}
		seen = append(seen, first)
		figures := func(of func(commitRun) float64) (all []float64) {
			for _, x := range r.Runs {
				if same(x) {
					all = append(all, of(x))
				}
			}
			slices.Sort(all)
			return all
		}
		landed, seconds := figures(func(x commitRun) float64 { return float64(x.Landed) }), figures(func(x commitRun) float64 { return x.Seconds })
		longest := figures(func(x commitRun) float64 { return x.wait(1) })
		_, _ = fmt.Fprintf(t, "%d\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.3f\t%.2f\t%.1f\t%.0f\t\n", first.Processes, first.name(), first.Asked, landed[0], landed[len(landed)-1],
			seconds[0], median(seconds), seconds[len(seconds)-1], median(figures(func(x commitRun) float64 { return float64(x.Landed) / x.Seconds })),
			median(figures(func(x commitRun) float64 { return x.wait(0.5) })), longest[len(longest)-1],
			median(figures(func(x commitRun) float64 { return 1000 * x.CPUSeconds / float64(max(x.Landed, 1)) })), median(figures(func(x commitRun) float64 { return float64(x.Versions) })))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, x := range r.Runs {
		if x.Landed < x.Asked {
			_, _ = fmt.Fprintf(w, "\n%s, %d processes, round %d: %d commits did not land; the first: %s\n", x.name(), x.Processes, x.Round, x.Asked-x.Landed, x.Refusal)
		}
	}
	return nil
}

// name is the engine's, with its version where it is a library.
func (x commitRun) name() string {
	if x.Library != "" {
		return x.Library
	}
	return x.Engine
}

// wait is how long a share of the commits that have landed took at most.
func (x commitRun) wait(share float64) float64 {
	if len(x.Waits) == 0 {
		return 0
	}
	return x.Waits[int(share*float64(len(x.Waits)-1))]
}
