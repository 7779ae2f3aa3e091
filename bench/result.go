package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// resultFormat is the version of the saved JSON.
const resultFormat = 1

// result is what is saved.
type result struct {
	Format   int       `json:"format"`
	At       time.Time `json:"at"`
	Machine  machine   `json:"machine"`
	Settings settings  `json:"settings"`
	Runs     []run     `json:"runs"`
}

// printed is a result of any kind.
type printed interface{ print(w io.Writer) error }

// measurement is what a command has found out.
type measurement struct {
	result printed
	kind   string // before the name of a new file
	output string // file; "" for a new one in bench/results
}

// report prints and saves a measurement.
func (m measurement) report(ctx context.Context) error {
	if err := m.result.print(os.Stdout); err != nil {
		return err
	}
	if m.output == "" {
		root, err := moduleRoot(ctx)
		if err != nil {
			return err
		}
		m.output = filepath.Join(root, "bench", "results", m.kind+resultName(time.Now(), commitOf(ctx, root)))
	}
	if err := saveJSON(m.result, m.output); err != nil {
		return err
	}
	_, err := fmt.Printf("\nsaved as %s\n", m.output)
	return err
}

// settings are those that change the figures.
type settings struct {
	Messages    int64  `json:"messages"`
	Rounds      int    `json:"rounds,omitzero"`
	Partitions  int    `json:"partitions,omitzero"`
	Compression string `json:"compression,omitzero"`
	Broker      string `json:"broker,omitzero"`
	Config      string `json:"config,omitzero"`
	Against     string `json:"against,omitzero"` // revision of the runs of variant "against"
}

// conditions are the settings that move the figures of a stage: the others than path know no topic and no connector.
func (s settings) conditions(stage string) settings {
	if stage != stagePath {
		return settings{Messages: s.Messages}
	}
	s.Rounds, s.Against = 0, ""
	return s
}

// Variants of the code that a run used.
const (
	variantNow     = ""
	variantAgainst = "against"
)

// run is one run of one stage.
type run struct {
	Variant  string `json:"variant,omitzero"`
	Stage    string `json:"stage"`
	Shape    string `json:"shape"`
	Round    int    `json:"round"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"input_bytes"` // of the messages' values
	// Seconds is wall time: of the measured parts; for path, from the assignment of the partitions to the process's end.
	Seconds float64 `json:"seconds"`
	// StartSeconds is, for path, wall time from the process's start to the assignment: the broker lets a new group wait.
	StartSeconds float64 `json:"start_seconds,omitzero"`
	// CPU time: of the measured parts; for path, of the whole process.
	UserSeconds   float64 `json:"user_seconds"`
	SystemSeconds float64 `json:"system_seconds"`
	PeakRSS       int64   `json:"peak_rss_bytes,omitzero"` // 0: not known on this system
	Files         int64   `json:"files,omitzero"`
	FileBytes     int64   `json:"file_bytes,omitzero"`
	Versions      int64   `json:"table_version,omitzero"`
}

// measure adds what f takes.
func (r *run) measure(f func() error) error {
	user, system, err := cpuTime()
	if err != nil {
		return err
	}
	begun := time.Now()
	err = f()
	r.Seconds += time.Since(begun).Seconds()
	if err != nil {
		return err
	}
	userNow, systemNow, err := cpuTime()
	r.UserSeconds += (userNow - user).Seconds()
	r.SystemSeconds += (systemNow - system).Seconds()
	return err
}

// Figures of a run.
func (r run) perSecond() float64 { return float64(r.Messages) / r.Seconds }
func (r run) megabytes() float64 { return float64(r.Bytes) / 1e6 / r.Seconds }
func (r run) cpuPerMillion() float64 {
	return (r.UserSeconds + r.SystemSeconds) / float64(r.Messages) * 1e6
}
func (r run) peakMiB() float64 { return float64(r.PeakRSS) / (1 << 20) }

// series are the runs of one stage, shape and variant.
type series struct {
	stage, shape, variant string
	under                 settings // that move its figures
	runs                  []run
}

// series groups the runs, in the order of the stages.
func (r result) series() []series {
	var all []series
	for _, x := range r.Runs {
		i := slices.IndexFunc(all, func(s series) bool { return s.stage == x.Stage && s.shape == x.Shape && s.variant == x.Variant })
		if i < 0 {
			i = len(all)
			all = append(all, series{stage: x.Stage, shape: x.Shape, variant: x.Variant, under: r.Settings.conditions(x.Stage)})
		}
		all[i].runs = append(all[i].runs, x)
	}
	slices.SortStableFunc(all, func(a, b series) int {
		if c := slices.Index(allStages, a.stage) - slices.Index(allStages, b.stage); c != 0 {
			return c
		}
		if c := slices.Index(shapeNames(), a.shape) - slices.Index(shapeNames(), b.shape); c != 0 {
			return c
		}
		return strings.Compare(b.variant, a.variant)
	})
	return all
}

func (s series) values(figure func(run) float64) []float64 {
	var v []float64
	for _, r := range s.runs {
		v = append(v, figure(r))
	}
	slices.Sort(v)
	return v
}

// median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// print writes the table of figures: minimum, median and maximum over the rounds; and the comparison, where there is something to compare.
func (r result) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%v\n", r.Machine)
	_, _ = fmt.Fprintf(w, "%d messages, %d rounds, %d partitions, compression %s, broker %s\n\n", r.Settings.Messages, r.Settings.Rounds,
		r.Settings.Partitions, r.Settings.Compression, r.Settings.Broker)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "stage\tshape\tCPU s per million: min\tmedian\tmax\tmessages/s: min\tmedian\tmax\tMB/s: median\tpeak RSS MiB: median\tmax\t")
	for _, s := range r.series() {
		name := s.stage
		if s.variant != variantNow {
			name += " (" + s.variant + ")"
		}
		cpu, rate := s.values(run.cpuPerMillion), s.values(run.perSecond)
		rss := s.values(run.peakMiB)
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.3f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", name, s.shape, cpu[0], median(cpu), cpu[len(cpu)-1],
			rate[0], median(rate), rate[len(rate)-1], median(s.values(run.megabytes)), median(rss), rss[len(rss)-1])
	}
	if err := t.Flush(); err != nil || r.Settings.Against == "" {
		return err
	}
	return printComparison(w, r.Settings.Against, r.Machine.Commit, pick(r, variantAgainst), pick(r, variantNow))
}

func saveJSON(r any, path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("saving the results: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o666); err != nil {
		return fmt.Errorf("saving the results: %w", err)
	}
	return nil
}

// saved is what two files are compared by: stages, figures of scenarios, or both.
type saved struct {
	machine machine
	series  []series // of the code of that commit
	figures []savedFigure
}

var errNoStage = errors.New("its runs are of no stage")

// savedFigure is a figure with what moves it.
type savedFigure struct {
	figure
	under liveSettings
}

// loadSaved reads a saved result of stages or scenarios, or one of everything: of that all parts that are one of these.
func loadSaved(path string) (s saved, err error) {
	data, err := os.ReadFile(path)
	var all struct {
		Machine machine
		Parts   []part[json.RawMessage]
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	s.machine = all.Machine
	if err == nil && len(all.Parts) == 0 {
		err = s.add(data)
	}
	for _, p := range all.Parts {
		if err == nil && p.Error == "" {
			if err = s.add(p.Result); errors.Is(err, errNoStage) {
				err = nil // commits to one table and the log are for people to read
			}
		}
	}
	if err == nil && len(s.series)+len(s.figures) == 0 {
		err = errors.New("it has no stages and no figures of scenarios")
	}
	if err != nil {
		return s, fmt.Errorf("reading results %s: %w; compare takes what `bench`, `bench scenarios` and `bench all` save", path, err)
	}
	return s, nil
}

// add adds one result, of stages or of scenarios.
func (s *saved) add(data []byte) error {
	var stages result
	var live liveResult
	if err := errors.Join(json.Unmarshal(data, &stages), json.Unmarshal(data, &live)); err != nil {
		return err
	}
	if slices.ContainsFunc(stages.Runs, func(r run) bool { return !slices.Contains(allStages, r.Stage) }) {
		return errNoStage
	}
	if stages.Format != resultFormat {
		return fmt.Errorf("format %d is not known, only %d", stages.Format, resultFormat)
	}
	s.series = append(s.series, pick(stages, variantNow)...)
	for _, f := range live.Figures {
		s.figures = append(s.figures, savedFigure{f, live.liveSettings.conditions(f.Scenario)})
	}
	return nil
}
