package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// ratio tells how much larger b is than a.
type ratio struct {
	Estimate   float64 // median of all ratios of one run of b to one of a (Hodges and Lehmann's, on logarithms)
	Low, High  float64 // interval of the true ratio
	Confidence float64 // that it is in there: the nearest to 95 percent from above that so many runs allow, or what they allow
}

// wanted is the confidence of intervals, where there are runs enough.
const wantedConfidence = 0.95

// compareValues compares two samples by the rank-sum test's interval, which asks of the runs only that they are
// independent, whatever their distribution.
func compareValues(a, b []float64) ratio {
	var all []float64
	for _, x := range a {
		for _, y := range b {
			all = append(all, y/x)
		}
	}
	slices.Sort(all)
	tail := rankSumTail(len(a), len(b))
	// The k-th smallest and the k-th largest ratio bound the interval; outside of it is 2*tail[k-1].
	k := 1
	for k < len(all)/2 && 1-2*tail[k] >= wantedConfidence {
		k++
	}
	return ratio{Estimate: median(all), Low: all[k-1], High: all[len(all)-k], Confidence: max(0, 1-2*tail[k-1])}
}

// rankSumTail returns P(U <= u) for u from 0 to n*m of the Mann-Whitney statistic of two samples of one distribution.
func rankSumTail(n, m int) []float64 {
	// ways[i][j][u]: orders of i values of the one and j of the other sample with statistic u. The largest value of all is
	// of the first sample, and adds j, or of the second, and adds nothing.
	ways := make([][][]float64, n+1)
	for i := range ways {
		ways[i] = make([][]float64, m+1)
		for j := range ways[i] {
			ways[i][j] = make([]float64, i*j+1)
			if i == 0 || j == 0 {
				ways[i][j][0] = 1
				continue
			}
			for u := range ways[i][j] {
				if u >= j {
					ways[i][j][u] += ways[i-1][j][u-j]
				}
				if u < len(ways[i][j-1]) {
					ways[i][j][u] += ways[i][j-1][u]
				}
			}
		}
	}
	tail := ways[n][m]
	sum := 0.0
	for u := range tail {
		sum += tail[u]
		tail[u] = sum
	}
	for u := range tail {
		tail[u] /= sum
	}
	return tail
}

func compareFiles(args []string) error {
	if len(args) != 2 {
		return errors.New("compare takes two files: bench compare OLD.json NEW.json")
	}
	before, err := loadSaved(args[0])
	if err != nil {
		return err
	}
	after, err := loadSaved(args[1])
	if err != nil {
		return err
	}
	differ := differences(before, after)
	if before.machine.CPU != after.machine.CPU || before.machine.Cores != after.machine.Cores {
		differ = append([]string{fmt.Sprintf("machine: %s, %d cores; %s, %d cores", before.machine.CPU, before.machine.Cores, after.machine.CPU, after.machine.Cores)}, differ...)
	}
	if len(differ) > 0 {
		fmt.Printf("These were measured under different conditions, before and after:\n  %s\n", strings.Join(differ, "\n  "))
	}
	figures := shared(before.figures, after.figures)
	if len(figures) == 0 || len(pairs(before.series, after.series)) > 0 {
		if err := printComparison(os.Stdout, before.machine.Commit, after.machine.Commit, before.series, after.series); err != nil {
			return err
		}
	}
	return printFigures(os.Stdout, before.machine.Commit, after.machine.Commit, figures)
}

// differences tells of what both have, but not under the same conditions, those of the one and of the other.
func differences(before, after saved) (all []string) {
	tell := func(what string, a, b any) {
		x, errX := json.Marshal(a)
		y, errY := json.Marshal(b)
		if text := fmt.Sprintf("%s: %s; %s", what, x, y); errX == nil && errY == nil && !bytes.Equal(x, y) && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	for _, p := range pairs(before.series, after.series) {
		tell(p[1].stage+" "+p[1].shape, p[0].under, p[1].under)
	}
	for _, b := range after.figures {
		for _, a := range before.figures {
			if a.Scenario == b.Scenario && a.Name == b.Name {
				tell(b.Scenario, a.under, b.under)
			}
		}
	}
	return all
}

// sharedFigure has the values of one figure in two results, of all rounds.
type sharedFigure struct {
	figure
	before, after []float64 // sorted
}

// shared are the figures that both have. One that is nowhere above zero, such as a count of failures, has no ratio.
func shared(before, after []savedFigure) (all []sharedFigure) {
	values := func(of savedFigure, figures []savedFigure) (v []float64) {
		for _, x := range figures {
			if x.Scenario == of.Scenario && x.Name == of.Name && x.Value > 0 {
				v = append(v, x.Value)
			}
		}
		slices.Sort(v)
		return v
	}
	for i, x := range after {
		if slices.ContainsFunc(after[:i], func(y savedFigure) bool { return y.Scenario == x.Scenario && y.Name == x.Name }) {
			continue
		}
		if s := (sharedFigure{x.figure, values(x, before), values(x, after)}); len(s.before) > 0 && len(s.after) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// printFigures shows after/before of scenarios.
func printFigures(w io.Writer, nameBefore, nameAfter string, figures []sharedFigure) error {
	if len(figures) == 0 {
		return nil
	}
	_, _ = fmt.Fprintf(w, "\n%s / %s: ratio, with the interval that holds the true ratio\n\n", nameAfter, nameBefore)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "scenario\tfigure\tbefore\tafter\tratio\tconfidence\truns")
	for _, f := range figures {
		r := compareValues(f.before, f.after)
		_, _ = fmt.Fprintf(t, "%s\t%s, %s\t%.3f\t%.3f\t%v\t%.0f%%\t%d, %d\n", f.Scenario, f.Name, f.Unit, median(f.before), median(f.after), r, 100*r.Confidence, len(f.before), len(f.after))
	}
	return t.Flush()
}

// pick returns the series of one variant.
func pick(r result, variant string) []series {
	return slices.DeleteFunc(r.series(), func(s series) bool { return s.variant != variant })
}

// pairs are what both have: the same stage, shape and number of topic partitions, before and after.
func pairs(before, after []series) (all [][2]series) {
	for _, b := range after {
		if i := slices.IndexFunc(before, func(a series) bool {
			return a.stage == b.stage && a.shape == b.shape && a.under.Partitions == b.under.Partitions
		}); i >= 0 {
			all = append(all, [2]series{before[i], b})
		}
	}
	return all
}

// printComparison shows after/before for what both have.
func printComparison(w io.Writer, nameBefore, nameAfter string, before, after []series) error {
	_, _ = fmt.Fprintf(w, "\n%s / %s: ratio, with the interval that holds the true ratio\n\n", nameAfter, nameBefore)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "stage\tshape\tpartitions\tCPU per message\tmessages/s\tpeak RSS\tconfidence\truns")
	both := pairs(before, after)
	if len(both) == 0 {
		return errors.New("the two results have no stage, shape and number of partitions in common")
	}
	for _, p := range both {
		a, b := p[0], p[1]
		cpu := compareValues(a.values(run.cpuPerMillion), b.values(run.cpuPerMillion))
		rate := compareValues(a.values(run.perSecond), b.values(run.perSecond))
		rss, partitions := "-", "-"
		if b.under.Partitions > 0 {
			partitions = fmt.Sprint(b.under.Partitions)
		}
		if a.runs[0].PeakRSS > 0 && b.runs[0].PeakRSS > 0 {
			rss = compareValues(a.values(run.peakMiB), b.values(run.peakMiB)).String()
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%v\t%v\t%s\t%.0f%%\t%d, %d\n", b.stage, b.shape, partitions, cpu, rate, rss, 100*cpu.Confidence, len(a.runs), len(b.runs))
	}
	return t.Flush()
}

func (r ratio) String() string { return fmt.Sprintf("%.3f (%.3f to %.3f)", r.Estimate, r.Low, r.High) }
