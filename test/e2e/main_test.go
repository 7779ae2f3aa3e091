package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"kafkadelta/internal/storetest"
)

var (
	kills     = flag.Int("kills", 10, "how many lives of a connector that had committed are killed in TestKill")
	sparkTime = flag.Duration("spark-time", 20*time.Second, "how long Spark changes a table while a connector appends to it")
	writers   = flag.Int("writers", 4, "how many processes append at a time in TestAppendRaceOnClouds")
	appends   = flag.Int("appends", 5, "how many times each of them appends")
	every     = flag.Int("every", 8, "TestDatasetOnClouds takes one message of so many")
	outage    = flag.Duration("outage", 5*time.Second, "for how long TestRegistryDown and TestBrokerDown take away the registry and the broker")
	faultRuns = flag.Int("fault-runs", 20, "how many runs TestNetworkFaults makes on each server")
	results   = flag.String("results", "", "file to which a test of many runs writes its figures")
)

// binary is the built connector.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	folder, err := os.MkdirTemp("", "kafkadelta-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	defer stopBroker()
	defer stopSpark()
	defer storetest.Stop()
	binary = filepath.Join(folder, "connector")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	args := []string{"build", "-o", binary}
	if raceEnabled { // a race in the connector then ends it with an exit code that no test expects
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "kafkadelta/cmd/connector")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the connector:", err)
		return 1
	}
	return m.Run()
}

// missing skips the test because the machine lacks something. Under CI=true everything must be there.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format+" (CI=true: nothing may be skipped)", args...)
	}
	t.Skipf(format, args...)
}
