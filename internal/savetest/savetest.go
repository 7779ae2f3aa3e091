// Package savetest adds what a test of many runs has come to, to the file of results that is kept in the repository. Each of them
// says by which commit it was made, when, and where: without that nobody knows whether it is still true.
package savetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Result adds a report to a file, unless the test has failed, or the file's name is "".
func Result(t testing.TB, file, report string) {
	t.Helper()
	if file == "" || t.Failed() {
		return
	}
	commit, err := exec.CommandContext(t.Context(), "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		t.Fatalf("telling the commit of a result: git describe: %v; it has to be made in a clone of the repository", err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "(%s, %s, %s, %s/%s, %d cores)\n%s\n", strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), strings.TrimRight(report, "\n"))
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
