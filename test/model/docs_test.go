package model

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "exactly-once.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withoutMutant are the rules that have none, with the reason as docs/exactly-once.md has it.
var withoutMutant = map[string]string{
	"P2":  "has nothing to model: it says where proposals lie",
	"T8":  "no world of the model reaches: none has both dead letters and many tables",
	"T8a": "is of those worlds",
}

// TestDocumentHasEveryMutant holds the table of docs/exactly-once.md to the mutants, and its rules and their parts to having one.
func TestDocumentHasEveryMutant(t *testing.T) {
	text := document(t)
	want := map[string]bool{}
	for _, m := range Mutants {
		row := fmt.Sprintf("| %s | %s | %s | %d |", m.ID, m.Instead, m.Breaks, m.Steps)
		want[row] = true
		if !strings.Contains(text, row+"\n") {
			t.Errorf("docs/exactly-once.md lacks the row\n%s", row)
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| [CPDTAEK]\d+[a-z]? \|.*$`).FindAllString(text, -1) {
		if !want[row] {
			t.Errorf("docs/exactly-once.md tells of a mutant that is none:\n%s", row)
		}
	}
	attacked := func(id string) {
		reason, exempt := withoutMutant[id]
		if strings.Contains(text, "\n| "+id+" |") == exempt {
			t.Errorf("%s: a mutant is missing, or one of a rule that is said to have none", id)
		}
		if exempt && !strings.Contains(text, id+", which "+reason) {
			t.Errorf("docs/exactly-once.md does not say that %s %s", id, reason)
		}
	}
	for family, n := range map[string]int{"C": 10, "P": 5, "D": 6, "T": 8, "A": 6, "E": 2, "K": 6} {
		for i := 1; i <= n; i++ {
			id := fmt.Sprintf("%s%d", family, i)
			if strings.Count(text, "\n**"+id+"** ") != 1 {
				t.Errorf("docs/exactly-once.md has no entry, or several, of %s", id)
			}
			attacked(id)
		}
	}
	for _, part := range regexp.MustCompile(`\*\*([A-Z]\d+[a-z])\*\*`).FindAllStringSubmatch(text, -1) {
		attacked(part[1])
	}
	for v := Lost; v < violationCount; v++ {
		if !strings.Contains(text, fmt.Sprintf("\n| I%d |", v)) {
			t.Errorf("docs/exactly-once.md has no invariant I%d (%s)", v, v)
		}
	}
}

// TestDocumentNamesWhatExists: files, functions and tests that docs/exactly-once.md names are there.
func TestDocumentNamesWhatExists(t *testing.T) {
	text := strings.ReplaceAll(document(t), "\n", " ")
	places := regexp.MustCompile("`([\\w/]+\\.go)`(: *`\\w+`(, +`\\w+`)*)?").FindAllStringSubmatch(text, -1)
	if len(places) < 20 {
		t.Fatalf("only %d places in the code are named", len(places))
	}
	for _, place := range places {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(place[1])))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range regexp.MustCompile(`\w+`).FindAllString(place[2], -1) {
			if !regexp.MustCompile(`(?m)(^func (\(\w+ \*?\w+\) )?` + name + `\()|(\b` + name + `\s.*=)|(^\s` + name + ` )`).Match(source) {
				t.Errorf("%s: nothing is called %s there", place[1], name)
			}
		}
	}
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, f := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(f[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
		if !tests[name] {
			t.Errorf("no test is called %s", name)
		}
	}
}
