package main

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	logLine    = regexp.MustCompile(`\.(?:Info|Warn|Error)\("((?:[^"\\]|\\.)+)"`)
	metricName = regexp.MustCompile(`"(kafkadelta_[a-z_]+)"`)
)

// TestOperationsGuideNamesEveryLogLineAndMetric reads the sources: whoever is on call looks up what the program says.
func TestOperationsGuideNamesEveryLogLineAndMetric(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(text)
	root := os.DirFS("../..")
	lines, metrics := 0, 0
	for _, folder := range []string{"cmd", "pipeline", "registry", "sink", "source"} {
		err := fs.WalkDir(root, folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			for _, m := range logLine.FindAllStringSubmatch(string(source), -1) {
				lines++
				if !strings.Contains(guide, "`"+m[1]+"`") {
					t.Errorf("docs/operations.md does not explain the log line of %s: %s", path, m[1])
				}
			}
			for _, m := range metricName.FindAllStringSubmatch(string(source), -1) {
				metrics++
				if !strings.Contains(guide, "`"+m[1]+"`") {
					t.Errorf("docs/operations.md does not explain the metric of %s: %s", path, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if lines < 10 || metrics < 10 {
		t.Errorf("found %d log lines and %d metrics: the patterns of this test no longer fit the code", lines, metrics)
	}
}
