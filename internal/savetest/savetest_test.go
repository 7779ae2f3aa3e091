package savetest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"kafkadelta/internal/savetest"
)

func TestAResultNamesItsCommit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.txt")
	for _, report := range []string{"TestX: all is well\n", "TestX: all is well"} {
		savetest.Result(t, file, report)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := regexp.MustCompile(`^(?:\([^ ,]+, \d{4}-\d\d-\d\d, [^,]+, \w+/\w+, \d+ cores\)\nTestX: all is well\n){2}$`); !want.Match(text) {
		t.Errorf("the file has\n%s", text)
	}
	savetest.Result(t, "", "nowhere")
}
