package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/internal/savetest"
)

var plainOnce struct {
	sync.Once
	path string
	err  error
}

// plainBinary is the connector without race detector: hundreds of processes of the other one take minutes to start, and
// nothing of what these tests race for is within one process.
func plainBinary(t testing.TB) string {
	t.Helper()
	plainOnce.Do(func() {
		plainOnce.path = binary
		if raceEnabled {
			plainOnce.path = filepath.Join(filepath.Dir(binary), "plain", filepath.Base(binary))
			out, err := exec.Command("go", "build", "-o", plainOnce.path, "kafkadelta/cmd/connector").CombinedOutput()
			if err != nil {
				plainOnce.err = fmt.Errorf("building the connector: %w: %s", err, out)
			}
		}
	})
	if plainOnce.err != nil {
		t.Fatal(plainOnce.err)
	}
	return plainOnce.path
}

// pair is a row of the tables of these tests.
type pair struct{ W, N int }

// appendOne runs one `table append` of one row and returns its exit code and outputs.
func appendOne(t testing.TB, table string, p pair, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(plainBinary(t), append([]string{"table", "append", table, "--input", "-"}, args...)...)
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(fmt.Sprintf(`{"w":%d,"n":%d}`, p.W, p.N)), &out, &log
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Errorf("starting an append: %v", err)
		return killedCode, "", ""
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// appenders runs workers, from `first` on, that append `each` rows with a process each, and waits for them. It returns the
// versions that the processes printed and how many races they lost.
func appenders(t testing.TB, table string, first, workers, each int, args ...string) (versions map[int64]pair, lost int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	versions = map[int64]pair{}
	for w := first; w < first+workers; w++ {
		wg.Go(func() {
			for n := range each {
				code, stdout, stderr := appendOne(t, table, pair{w, n}, append([]string{"--log-level", "debug"}, args...)...)
				var version, rows int64
				_, err := fmt.Sscanf(stdout, "version %d, %d rows\n", &version, &rows)
				if code != exitOK || err != nil || rows != 1 {
					t.Errorf("append %d of worker %d ended with %d and says %q\n%s", n, w, code, stdout, stderr)
				}
				mu.Lock()
				if other, twice := versions[version]; twice {
					t.Errorf("version %d was printed for %v and for %v", version, other, pair{w, n})
				}
				versions[version] = pair{w, n}
				lost += strings.Count(stderr, "another writer made the version first")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return versions, lost
}

func numbersTable(t testing.TB) string {
	t.Helper()
	return numbersTableAt(t, filepath.Join(t.TempDir(), "table"))
}

func numbersTableAt(t testing.TB, table string) string {
	t.Helper()
	if out, err := exec.Command(plainBinary(t), "table", "create", table, "--schema", "w INT, n INT").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return table
}

// wantPairs has delta-rs read the table: each pair is there once, and nothing else.
func wantPairs(t *testing.T, table string, want map[pair]bool) {
	t.Helper()
	cmd := exec.Command(python(t), "-B", filepath.Join("readers", "plainrows.py"), table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	found := map[pair]int{}
	for line := range strings.Lines(string(out)) {
		var p pair
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if found[p]++; found[p] > 1 || !want[p] {
			t.Errorf("row %v is there %d times, expected %v", p, found[p], want[p])
		}
	}
	for p := range want {
		if found[p] == 0 {
			t.Errorf("row %v is lost", p)
		}
	}
}

func pairs(first, workers, each int) map[pair]bool {
	all := map[pair]bool{}
	for w := first; w < first+workers; w++ {
		for n := range each {
			all[pair{w, n}] = true
		}
	}
	return all
}

func newestVersion(t testing.TB, table string) int64 {
	t.Helper()
	s, err := delta.OpenSnapshot(t.Context(), openStore(t, table), -1)
	if err != nil {
		t.Fatal(err)
	}
	return s.Version()
}

// TestAppendRace has many processes of `table append` commit to one table at once: none fails, none is lost, and each makes
// a version of its own.
func TestAppendRace(t *testing.T) {
	for _, tt := range []struct{ workers, each int }{{8, 50}, {32, 20}} {
		t.Run(fmt.Sprintf("%d processes, %d times each", tt.workers, tt.each), func(t *testing.T) {
			appendRace(t, numbersTable(t), tt.workers, tt.each)
		})
	}
}

// appendRace is the experiment: workers append `each` rows with a process each, all at once.
func appendRace(t *testing.T, table string, workers, each int) {
	t.Helper()
	begun := time.Now()
	versions, lost := appenders(t, table, 0, workers, each)
	total := workers * each
	report := fmt.Sprintf("%s: %d appends by %d processes at a time took %v and lost %d races\n",
		t.Name(), total, workers, time.Since(begun).Round(time.Millisecond), lost)
	for v := range int64(total) {
		if _, ok := versions[v+1]; !ok {
			t.Errorf("nobody printed version %d", v+1)
		}
	}
	if got := newestVersion(t, table); got != int64(total) {
		t.Errorf("the table is at version %d, want %d", got, total)
	}
	wantPairs(t, table, pairs(0, workers, each))
	t.Log(report)
	savetest.Result(t, *results, report)
}

// TestAppendRaceToCreate has processes make the table and append to it at once.
func TestAppendRaceToCreate(t *testing.T) {
	table := filepath.Join(t.TempDir(), "table")
	appenders(t, table, 0, 6, 2, "--create")
	if got := newestVersion(t, table); got != 12 {
		t.Errorf("the table is at version %d, want 12", got)
	}
	wantPairs(t, table, pairs(0, 6, 2))
}

// TestAppendRaceOfTwins has several processes append the same input with the same app id and version at once: one lands,
// the others say so and are content.
func TestAppendRaceOfTwins(t *testing.T) {
	table := numbersTable(t)
	const twins, inputs = 4, 10
	for n := range inputs {
		var landed, already int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range twins {
			wg.Go(func() {
				code, stdout, stderr := appendOne(t, table, pair{0, n}, "--app-id", "job", "--version", strconv.Itoa(n))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case code == exitOK && strings.HasPrefix(stdout, "version "):
					landed++
				case code == exitOK && strings.HasPrefix(stdout, "already at version "):
					already++
				default:
					t.Errorf("exit code %d, it says %s%s", code, stdout, stderr)
				}
			})
		}
		wg.Wait()
		if landed != 1 || already != twins-1 {
			t.Errorf("input %d landed %d times, %d processes said already", n, landed, already)
		}
	}
	if got := newestVersion(t, table); got != inputs {
		t.Errorf("the table is at version %d, want %d", got, inputs)
	}
	wantPairs(t, table, pairs(0, 1, inputs))
}

// TestAppendBesideDeltaRS has delta-rs append to the same table at the same time, on the same local disk.
func TestAppendBesideDeltaRS(t *testing.T) {
	table := numbersTable(t)
	interpreter := python(t)
	const each = 25
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			cmd := exec.Command(interpreter, "-B", filepath.Join("readers", "deltaappend.py"), table, strconv.Itoa(w), strconv.Itoa(each))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("delta-rs: %v: %s", err, out)
			}
			t.Logf("delta-rs gave up %s commits, and made them again", strings.TrimSpace(string(out)))
		})
	}
	_, lost := appenders(t, table, 2, 4, each)
	wg.Wait()
	t.Logf("our appends lost %d races", lost)
	if got := newestVersion(t, table); got < 6*each { // delta-rs may make versions of its own, for log checkpoints none
		t.Errorf("the table is at version %d, want %d", got, 6*each)
	}
	wantPairs(t, table, pairs(0, 6, each))
}

// TestAppendKill kills appends with kill -9 at random moments, and when they begin or end their commit. The same command is run
// again until it succeeds: each input is in the table exactly once.
func TestAppendKill(t *testing.T) {
	table := numbersTable(t)
	const enough, limit = 5, 400
	want := map[pair]bool{}
	var before, after int // kills of processes that had not landed, and that had
	for n := 0; n < limit && (before < enough || after < enough || n < 40); n++ {
		want[pair{0, n}] = true
		for life := 0; ; life++ {
			version := newestVersion(t, table)
			code := appendAndKill(t, table, n, life)
			if code == exitOK {
				break
			}
			if code != killedCode {
				t.Fatalf("input %d: exit code %d", n, code)
			}
			if newestVersion(t, table) > version {
				after++
			} else {
				before++
			}
		}
	}
	t.Logf("%d inputs; %d kills before the commit had landed, %d after it", len(want), before, after)
	if before < enough || after < enough {
		t.Errorf("%d kills before the commit and %d after it are too few to prove anything", before, after)
	}
	if got := newestVersion(t, table); got != int64(len(want)) {
		t.Errorf("the table is at version %d, want %d", got, len(want))
	}
	wantPairs(t, table, want)
}

// appendAndKill runs an append of input n and returns its exit code. Its first lives are killed, if they don't end before: at
// a random moment, or with a line of its log.
func appendAndKill(t *testing.T, table string, n, life int) int {
	t.Helper()
	cmd := exec.Command(plainBinary(t), "table", "append", table, "--input", "-", "--app-id", "job", "--version", strconv.Itoa(n), "--log-level", "debug")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"w":0,"n":%d}`, n))
	k := &killAtLine{kill: func() { _ = cmd.Process.Kill() }}
	cmd.Stderr = k
	atRandom := false
	if life < 3 {
		k.line = []string{"", "commit put begins", "commit put ends"}[(n+life)%3]
		atRandom = k.line == ""
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if atRandom {
		timer := time.AfterFunc(rand.N(25*time.Millisecond), k.kill)
		defer timer.Stop()
	}
	_ = cmd.Wait() // the exit code tells
	code := cmd.ProcessState.ExitCode()
	if code != exitOK && code != killedCode {
		t.Logf("input %d: %s", n, k.log.String())
	}
	return code
}

// killAtLine is a process's stderr. It kills the process when the line appears, if there is one.
type killAtLine struct {
	line string
	kill func()
	log  bytes.Buffer
}

func (k *killAtLine) Write(p []byte) (int, error) {
	if k.line != "" && bytes.Contains(p, []byte(k.line)) {
		k.kill()
	}
	return k.log.Write(p)
}
