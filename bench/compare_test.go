package main

import (
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestRankSumTailIsExact(t *testing.T) {
	// 10 orders of 2 and 3 values; their statistics are 0,1,2,2,3,3,4,4,5,6.
	want := []float64{.1, .2, .4, .6, .8, .9, 1}
	got := rankSumTail(2, 3)
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-12 {
			t.Errorf("P(U <= %d) is %v, want %v", i, got[i], want[i])
		}
	}
	// The published critical value for two samples of 5, two-sided, 5 percent, is 2.
	if five := rankSumTail(5, 5); 2*five[2] > 0.05 || 2*five[3] <= 0.05 {
		t.Errorf("P(U <= 2) is %v and P(U <= 3) is %v", five[2], five[3])
	}
}

func TestCompareValues(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b []float64
		want ratio
	}{
		"one run each says nothing of the spread": {[]float64{2}, []float64{3}, ratio{1.5, 1.5, 1.5, 0}},
		"three runs give 90 percent":              {[]float64{1, 1, 1}, []float64{2, 3, 4}, ratio{3, 2, 4, 0.9}},
		"equal samples":                           {[]float64{5, 5, 5, 5}, []float64{5, 5, 5, 5}, ratio{1, 1, 1, 1 - 2.0/70}},
		"an outlier is cut off":                   {[]float64{1, 1, 1, 1, 1}, []float64{2, 2, 2, 2, 90}, ratio{2, 2, 90, 1 - 2*4.0/252}},
	} {
		t.Run(name, func(t *testing.T) {
			got := compareValues(tc.a, tc.b)
			for i, pair := range [][2]float64{
				{got.Estimate, tc.want.Estimate}, {got.Low, tc.want.Low}, {got.High, tc.want.High}, {got.Confidence, tc.want.Confidence},
			} {
				if math.Abs(pair[0]-pair[1]) > 1e-12 {
					t.Errorf("value %d of %+v: want %+v", i, got, tc.want)
				}
			}
		})
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{1, 2, 7}); got != 2 {
		t.Errorf("median of three is %v", got)
	}
	if got := median([]float64{1, 2, 4, 7}); got != 3 {
		t.Errorf("median of four is %v", got)
	}
}

func TestComparisonIsOfAfterToBefore(t *testing.T) {
	at := func(seconds float64) result {
		r := result{Format: resultFormat}
		for range 3 {
			r.Runs = append(r.Runs, run{Stage: stageDecode, Shape: "flights", Messages: 1e6, Seconds: seconds, UserSeconds: seconds})
		}
		return r
	}
	var b strings.Builder
	if err := printComparison(&b, "old", "new", pick(at(2), variantNow), pick(at(1), variantNow)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"new / old", "0.500 (0.500 to 0.500)", "2.000 (2.000 to 2.000)", "90%"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the comparison lacks %q:\n%s", want, b.String())
		}
	}
	if err := printComparison(&b, "old", "new", nil, pick(at(1), variantNow)); err == nil {
		t.Error("results with nothing in common are compared")
	}
}

// TestScenariosCompare: figures of both files, be they of scenarios or of everything, are compared over all rounds; what one lacks, and what is zero, is left out.
func TestScenariosCompare(t *testing.T) {
	at := func(values ...float64) []figure {
		var all []figure
		for round, value := range values {
			all = append(all, figure{"idle", round + 1, "CPU", value, "%"}, figure{"idle", round + 1, "failures", 0, "1"})
		}
		return all
	}
	folder := t.TempDir()
	old, latest := filepath.Join(folder, "old.json"), filepath.Join(folder, "new.json")
	for file, r := range map[string]any{
		old:    liveResult{Format: resultFormat, Figures: append(at(40, 4, 8), figure{"gone", 1, "x", 1, "s"})},
		latest: allResult{Format: resultFormat, Parts: []part[printed]{{Name: "latency", Result: liveResult{Format: resultFormat, Figures: at(2, 1, 10)}}}},
	} {
		if err := saveJSON(r, file); err != nil {
			t.Fatal(err)
		}
	}
	if err := compareFiles([]string{old, latest}); err != nil {
		t.Error(err)
	}
	before, err := loadSaved(old)
	if err != nil {
		t.Fatal(err)
	}
	after, err := loadSaved(latest)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := printFigures(&b, "old", "new", shared(before.figures, after.figures)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if last := lines[len(lines)-1]; len(lines) != 4 || !strings.Contains(last, "CPU, %") || !strings.Contains(last, "8.000   2.000  0.250 (0.025 to 2.500)") || !strings.Contains(last, "90%") {
		t.Errorf("compared is\n%s", b.String())
	}
}

// TestPartitionsCompareWithTheSame: runs of one stage and shape with another number of topic partitions are others.
func TestPartitionsCompareWithTheSame(t *testing.T) {
	at := func(seconds float64, partitions int) series {
		r := result{Settings: settings{Partitions: partitions}, Runs: []run{{Stage: stagePath, Shape: "flights", Messages: 1e6, Seconds: seconds, UserSeconds: seconds}}}
		return r.series()[0]
	}
	var b strings.Builder
	if err := printComparison(&b, "old", "new", []series{at(8, 4), at(3, 2000)}, []series{at(6, 2000), at(1, 16)}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if last := lines[len(lines)-1]; len(lines) != 4 || !strings.Contains(strings.Join(strings.Fields(last), " "), "flights 2000 2.000") {
		t.Errorf("compared is\n%s", b.String())
	}
}

// TestConditionsAreCompared: what moves a stage or a figure and is not the same in both files is told, and nothing else is.
func TestConditionsAreCompared(t *testing.T) {
	base := settings{Messages: 5, Rounds: 3, Partitions: 4, Compression: "none", Broker: "real"}
	live := liveSettings{Rate: 20_000, Seconds: 30, Files: 100_000, Messages: 2_000_000, Broker: "real"}
	at := func(stages settings, l liveSettings) (s saved) {
		for _, stage := range []string{stageDecode, stagePath} {
			s.series = append(s.series, series{stage: stage, shape: "flights", under: stages.conditions(stage)})
		}
		for _, name := range []string{"fresh", "start", "idle", "processes"} {
			s.figures = append(s.figures, savedFigure{figure{Scenario: name, Name: "CPU"}, l.conditions(name)}, savedFigure{figure{Scenario: name, Name: "RSS"}, l.conditions(name)})
		}
		return s
	}
	for name, tc := range map[string]struct {
		change func(*settings, *liveSettings)
		want   string // of what a difference is told
	}{
		"rounds":             {func(s *settings, _ *liveSettings) { s.Rounds = 9 }, ""},
		"messages":           {func(s *settings, _ *liveSettings) { s.Messages = 9 }, "decode flights+path flights"},
		"broker of stages":   {func(s *settings, _ *liveSettings) { s.Broker = "embedded" }, "path flights"},
		"compression":        {func(s *settings, _ *liveSettings) { s.Compression = "zstd" }, "path flights"},
		"broker of figures":  {func(_ *settings, l *liveSettings) { l.Broker = "embedded" }, "fresh+start+idle+processes"},
		"config of figures":  {func(_ *settings, l *liveSettings) { l.Config = "lanes: 1" }, "fresh+start+idle+processes"},
		"rate":               {func(_ *settings, l *liveSettings) { l.Rate = 9 }, "fresh"},
		"length":             {func(_ *settings, l *liveSettings) { l.Seconds = 9 }, "fresh+idle"},
		"files":              {func(_ *settings, l *liveSettings) { l.Files = 9 }, "start"},
		"messages not known": {func(_ *settings, l *liveSettings) { l.Messages = 0 }, "processes"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := base, live
			tc.change(&s, &l)
			var of []string
			for _, text := range differences(at(base, live), at(s, l)) {
				what, _, _ := strings.Cut(text, ":")
				of = append(of, what)
			}
			if got := strings.Join(of, "+"); got != tc.want {
				t.Errorf("told of %q, want %q", got, tc.want)
			}
		})
	}
}

// TestSavedResultsLoad: every file of results in the repository is compared, or refused where it is of something else.
func TestSavedResultsLoad(t *testing.T) {
	files, err := filepath.Glob("results/20*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no results: %v", err)
	}
	others := regexp.MustCompile(`/(commits|peers|profile|profile-[\w-]+)\.json$`)
	for _, file := range append(files, "results/baseline-2026-11-22.json", "results/log-2026-11-26.json") {
		s, err := loadSaved(filepath.FromSlash(file))
		if other := others.MatchString(filepath.ToSlash(file)) || strings.Contains(file, "log-"); (err != nil) != other {
			t.Errorf("%s: %v", file, err)
		}
		if strings.HasSuffix(filepath.ToSlash(file), "28/all.json") && (len(s.series) != 19 || len(s.figures) == 0) {
			t.Errorf("%s has %d stages and shapes and %d figures", file, len(s.series), len(s.figures))
		}
	}
}
