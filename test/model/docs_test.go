package model

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// TestDocumentHasEveryMutant holds the table of docs/exactly-once.md to the mutants, and its rules to having one.
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
	for family, n := range map[string]int{"C": 10, "P": 5, "D": 6, "T": 7, "A": 6, "E": 2, "K": 6} {
		for i := 1; i <= n; i++ {
			id := fmt.Sprintf("%s%d", family, i)
			if strings.Count(text, "\n**"+id+"** ") != 1 {
				t.Errorf("docs/exactly-once.md has no entry, or several, of %s", id)
			}
			exempt := slices.Contains([]string{"P2"}, id)
			if strings.Contains(text, "\n| "+id+" |") == exempt {
				t.Errorf("%s: a mutant is missing, or one of a rule that is said to have none", id)
			}
		}
	}
	for _, part := range regexp.MustCompile(`\*\*([A-Z]\d+[a-z])\*\*`).FindAllStringSubmatch(text, -1) {
		exempt := slices.Contains([]string{"C1e", "A4a", "A4b", "T5a", "T5b"}, part[1])
		if strings.Contains(text, "\n| "+part[1]+" |") == exempt {
			t.Errorf("%s: a mutant is missing, or one of a part that is said to have none", part[1])
		}
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
