package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestPartsTakeTheirFlags: the commands of all parts know the flags that they are called with.
func TestPartsTakeTheirFlags(t *testing.T) {
	for _, p := range parts {
		args := strings.Fields(p.args)
		for name := range strings.FieldsSeq(p.takes) {
			args = append(args, "-"+name, "1")
		}
		if _, err := p.command(t.Context(), append(args, "-unknown")); err == nil || !strings.HasSuffix(err.Error(), "not defined: -unknown") {
			t.Errorf("%s with %v: %v", p.name, args, err)
		}
	}
	flags, only, output, err := allOptions(strings.Fields("-rounds 2 -only log,stages -o x.json"))
	if want := map[string]string{"rounds": "2", "only": "log,stages", "o": "x.json"}; err != nil || !reflect.DeepEqual(flags, want) || strings.Join(only, "+") != "log+stages" || output != "x.json" {
		t.Errorf("flags %v, parts %v, output %q, %v", flags, only, output, err)
	}
	for _, wrong := range []string{"-only nothing", "more"} {
		if _, _, _, err := allOptions(strings.Fields(wrong)); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// TestResultsThatDocsQuoteAreThere: a file or folder of results that a guide names is in the repository.
func TestResultsThatDocsQuoteAreThere(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, doc := range append(docs, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`bench/(results/[\w.-]+(/[\w.-]+)*)`).FindAllSubmatch(text, -1) {
			found++
			if _, err := os.Stat(string(name[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
	if found == 0 {
		t.Error("the docs quote no results")
	}
}

// TestStagesOfEverythingCompare: the result of everything can be compared by the stages of all its parts, and tells of a part that has failed.
func TestStagesOfEverythingCompare(t *testing.T) {
	stages := result{Format: resultFormat, Settings: settings{Messages: 5}, Runs: []run{{Stage: stagePath, Shape: "flights", Round: 1, Messages: 5, Seconds: 1.5, UserSeconds: 1}}}
	many := stages
	many.Settings.Partitions = 2000
	all := allResult{Format: resultFormat, Parts: []part[printed]{
		{Name: "log", Error: "there is no Python"}, {Name: "stages", Result: stages}, {Name: "partitions", Result: many}, {Name: "contention-commits", Result: commitsResult{Runs: []commitRun{
			{Engine: engineOwn, Processes: 8, Asked: 160, Landed: 160, Seconds: 2, Waits: []float64{.1, .2}},
			{Engine: engineOther, Library: "delta-rs 1", Processes: 8, Asked: 160, Landed: 159, Seconds: 4, Refusal: "too many tries"},
		}}},
	}}
	path := filepath.Join(t.TempDir(), "all.json")
	if err := saveJSON(all, path); err != nil {
		t.Fatal(err)
	}
	if got, err := loadSaved(path); err != nil || !reflect.DeepEqual(got.series, append(stages.series(), many.series()...)) {
		t.Errorf("loaded %+v, %v", got, err)
	}
	var text strings.Builder
	if err := all.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failed: there is no Python", "flights", "delta-rs 1, 8 processes, round 0: 1 commits did not land; the first: too many tries"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, &text)
		}
	}
	saved, err := os.ReadFile(path)
	if err != nil || !json.Valid(saved) || !strings.Contains(string(saved), `"error": "there is no Python"`) {
		t.Errorf("saved is %s, %v", saved, err)
	}
}
