package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
)

// exitTable is the exit code of a table that only an operator can mend.
const exitTable = 4

// command runs one that must end with the code, and returns what it says.
func command(t testing.TB, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("connector %s ends with %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}

// generations is the part of `verify -o json` that tells of them.
type generations struct {
	Rows       int64    `json:"rows"`
	Notes      []string `json:"notes"`
	Partitions []struct {
		Partition  int32  `json:"partition"`
		Generation int64  `json:"generation"`
		From       int64  `json:"from"`
		Next       int64  `json:"next"`
		Rows       int64  `json:"rows"`
		Txn        *int64 `json:"txn"`
	} `json:"partitions"`
}

func generationsOf(t testing.TB, config string) generations {
	t.Helper()
	var g generations
	if err := json.Unmarshal([]byte(command(t, exitOK, "verify", "-c", config, "-o", "json")), &g); err != nil {
		t.Fatal(err)
	}
	return g
}

const rewoundLine = "the stream was rewound in the table: what is not committed is dropped, and reading goes on where the rewind says"

// waitRewound waits until the worker has seen as many rewinds.
func (p *process) waitRewound(n int) {
	p.t.Helper()
	p.waitFor(fmt.Sprintf("rewind number %d", n), 30*time.Second, func(l logLine) bool {
		if l.msg() == rewoundLine {
			n--
		}
		return n <= 0
	})
}

// TestRewindUnderRunningWorkers: two workers, a third that joins later, messages that come in all the time, and two rewinds. Each
// generation has each message once, by `verify` and by the script over delta-rs.
func TestRewindUnderRunningWorkers(t *testing.T) {
	for name, brokers := range brokersOf(t) {
		t.Run(name, func(t *testing.T) {
			const partitions = 4
			b := brokers(t, "rewind", partitions)
			l := startLoad(t, b, "rewind", partitions, 1000, number)
			s := stream{
				name: "rewind", topic: "rewind", brokers: b, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
				interval: 50 * time.Millisecond, source: shortTimeouts,
			}
			config := s.write(t)
			workers := []*process{run(t, config), run(t, config)}
			for _, p := range workers {
				p.waitCommit(3)
			}
			since := time.Now()
			time.Sleep(300 * time.Millisecond)
			out := command(t, exitOK, "rewind", "-c", config, "--to-offsets", "0=5,1=earliest", "--yes")
			if !strings.Contains(out, "begins generation 1; workers that run go on") || !strings.Contains(out, "stays") {
				t.Errorf("rewind says\n%s", out)
			}
			for _, p := range workers {
				p.waitRewound(1)
				p.waitCommit(10)
			}
			command(t, exitOK, "rewind", "-c", config, "--to-time", since.UTC().Format(time.RFC3339Nano), "--yes")
			for _, p := range workers {
				p.waitRewound(2)
			}
			late := run(t, config)
			late.waitCommit(2)
			sent := l.stop()
			for _, p := range append(workers, late) {
				p.signal(stopSignal)
				p.wantExit(exitOK, 30*time.Second)
			}
			untilEnd(t, config)
			wantVerified(t, config, s.table)

			g := generationsOf(t, config)
			rows, last := int64(0), 0
			for _, p := range g.Partitions {
				rows += p.Rows
				if p.Rows != p.Next-p.From {
					t.Errorf("partition %d, generation %d: %d rows in [%d, %d)", p.Partition, p.Generation, p.Rows, p.From, p.Next)
				}
				first := map[int64]map[int32]int64{0: {0: 0, 1: 0}, 1: {0: 5, 1: 0}}[p.Generation]
				if want, ok := first[p.Partition]; ok && p.From != want {
					t.Errorf("partition %d, generation %d begins at %d, want %d", p.Partition, p.Generation, p.From, want)
				}
				if p.Generation == 2 {
					last++
					if end := sent.next()[p.Partition]; p.Next != end || p.From == 0 || p.From >= end {
						t.Errorf("partition %d of the last generation has [%d, %d), the topic ends at %d", p.Partition, p.From, p.Next, end)
					}
				}
			}
			if len(g.Partitions) != 3*partitions || last != partitions || rows != g.Rows || rows <= int64(len(sent)) {
				t.Errorf("%d rows by spans, %d in the table, %d messages: %+v", rows, g.Rows, len(sent), g)
			}
		})
	}
}

// TestRewindAfterARestoreByDeltaRs: RESTORE ends a worker, which names the command; after the rewind each message is there once.
func TestRewindAfterARestoreByDeltaRs(t *testing.T) {
	interpreter := python(t)
	restoreUnderAWorker(t, "restored-delta-rs", func(table string, version int64) {
		out, err := exec.Command(interpreter, "-B", filepath.Join("readers", "restore.py"), table, fmt.Sprint(version)).CombinedOutput()
		if err != nil {
			t.Fatalf("delta-rs: %v\n%s", err, out)
		}
	})
}

// TestRestoreThatWasCleanedFromTheLog: while no worker runs, delta-rs restores the table, writes a log checkpoint, and the log before it is gone.
// The start finds that the files of the stream's last commit are not in the table (rule A6a).
func TestRestoreThatWasCleanedFromTheLog(t *testing.T) {
	b := realKafka(t).brokers()
	createTopic(t, b, "cleaned", 2)
	s := stream{name: "e2e-cleaned", topic: "cleaned", brokers: b, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema}
	config := s.write(t)
	kafkatest.Produce(t, b, "cleaned", 2, numbers(100))
	untilEnd(t, config)
	version := readLog(t, s.table, s.name).version
	kafkatest.Produce(t, b, "cleaned", 2, numbers(50))
	untilEnd(t, config)
	out, err := exec.Command(python(t), "-B", filepath.Join("readers", "restore.py"), s.table, fmt.Sprint(version), "clean").CombinedOutput()
	if err != nil {
		t.Fatalf("delta-rs: %v\n%s", err, out)
	}
	if commits, _ := filepath.Glob(filepath.Join(s.table, "_delta_log", "*[0-9].json")); len(commits) > 0 {
		t.Fatalf("the log still has %q", commits)
	}
	start := run(t, config)
	start.wantExit(exitTable, 30*time.Second)
	for _, word := range []string{"restored", "connector rewind"} {
		if said := start.tail(1); !strings.Contains(said, word) {
			t.Errorf("a start does not say %q:\n%s", word, said)
		}
	}
	command(t, exitOK, "rewind", "-c", config, "--to-offsets", "0=50,1=50", "--yes")
	untilEnd(t, config)
	if got := reader(t, "distinct.py", s.table, "n"); got != "150 100" { // numbers 0 to 49 were produced twice
		t.Errorf("the table has %s rows and distinct ones, want all 150 messages", got)
	}
}

// TestRewindAfterARestoreBySpark is the same with Spark.
func TestRewindAfterARestoreBySpark(t *testing.T) {
	engine := spark(t)
	restoreUnderAWorker(t, "restored-spark", func(table string, version int64) {
		engine.sql(t, table, fmt.Sprintf("RESTORE TABLE {t} TO VERSION AS OF %d", version))
	})
}

func restoreUnderAWorker(t *testing.T, topic string, restore func(table string, version int64)) {
	t.Helper()
	b := realKafka(t).brokers()
	createTopic(t, b, topic, 2)
	s := stream{
		name: "e2e-" + topic, topic: topic, brokers: b, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
		interval: 100 * time.Millisecond, source: shortTimeouts,
	}
	config := s.write(t)
	var sent [][]byte
	produce := func(n int) {
		more := make([][]byte, n)
		for i := range more {
			more[i] = number(len(sent) + i)
		}
		kafkatest.Produce(t, b, topic, 2, more)
		sent = append(sent, more...)
	}
	produce(100)
	untilEnd(t, config)
	version := readLog(t, s.table, s.name).version
	produce(100)
	untilEnd(t, config)

	worker := run(t, config)
	worker.waitFor("its partitions", 30*time.Second, func(l logLine) bool { return l.msg() == "partitions assigned" })
	restore(s.table, version)
	produce(50)
	worker.wantExit(exitTable, 30*time.Second)
	const remedy = "`connector rewind --to-table-version N`"
	if !strings.Contains(worker.stderr(), remedy) {
		t.Errorf("the worker does not name %s:\n%s", remedy, worker.tail(3))
	}
	if out := command(t, exitTable, "run", "-c", config); !strings.Contains(out, remedy) {
		t.Errorf("a start does not name %s:\n%s", remedy, out)
	}
	command(t, exitFaults, "verify", "-c", config)
	command(t, exitOK, "rewind", "-c", config, "--to-table-version", fmt.Sprint(version), "--yes")
	untilEnd(t, config)
	if v := wantVerified(t, config, s.table); v.Rows != int64(len(sent)) {
		t.Errorf("the table has %d rows, want each of the %d messages once", v.Rows, len(sent))
	}
	expect(t, topic, dealt(sent, 2), nil).check(t, s.table)
}

// TestVerifyFindsFaultsOfGenerations plants faults that only a rewind makes possible. Both `verify` and the script find them.
func TestVerifyFindsFaultsOfGenerations(t *testing.T) {
	config, clean := verifiedTable(t, "")                                              // versions 2 to 4
	command(t, exitOK, "rewind", "-c", config, "--to-offsets", "0=120,1=120", "--yes") // within the last spans
	untilEnd(t, config)
	wantVerified(t, config, clean)
	for name, tt := range map[string]struct {
		plant func(d onDisk)
		kind  string
	}{
		"a unit of a generation that is over": {func(d onDisk) { d.edit(6, false, `"gen":1`, `"gen":0`) }, "wrong_generation"},
		"a generation left out":               {func(d onDisk) { d.edit(5, false, `"gen":1`, `"gen":2`) }, "wrong_generation"},
		"a record of other offsets":           {func(d onDisk) { d.edit(5, true, `"from":[150,150]`, `"from":[149,150]`) }, "forged_txn"},
		"a rewind to elsewhere": {func(d onDisk) {
			d.edit(5, true, `"appId":"verify-0","version":119`, `"appId":"verify-0","version":118`)
		}, "forged_txn"},
		"rows that were not read again": {func(d onDisk) {
			a := d.add(4)
			d.write(d.commitFile(7), `{"commitInfo":{"operation":"OPTIMIZE","engineInfo":"somebody"}}`+"\n"+d.action("remove", delta.Remove{Path: a.Path, Size: &a.Size})+"\n")
		}, "lost_rows"},
		"a record that is gone": {func(d onDisk) { d.edit(5, true, `"kafkadelta":`, `"elsewhere":`) }, "forged_txn"},
		"a row twice in its generation": {func(d onDisk) {
			a := d.add(6)
			d.write(filepath.Join(d.folder, "again.parquet"), d.read(filepath.Join(d.folder, a.Path)))
			a.Path, a.Tags = "again.parquet", nil
			text := d.action("add", a)
			d.write(d.commitFile(7), `{"commitInfo":{"operation":"WRITE","engineInfo":"somebody"}}`+"\n"+text+"\n")
		}, "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			d := onDisk{t, filepath.Join(t.TempDir(), "table")}
			must(t, os.CopyFS(d.folder, os.DirFS(clean)))
			tt.plant(d)
			out := command(t, exitFaults, "verify", "--table", d.folder)
			if !strings.Contains(out, "FAULT "+tt.kind+": ") {
				t.Errorf("verify finds no %s:\n%s", tt.kind, out)
			}
			if kinds, output := foreignVerify(t, d.folder); !kinds[tt.kind] {
				t.Errorf("verify.py finds no %s:\n%s", tt.kind, output)
			}
		})
	}
}

// TestVerifyAfterARestoreToBeforeARewind: what the generation had that the rewind began is not missed, and what the one before has again must be there.
func TestVerifyAfterARestoreToBeforeARewind(t *testing.T) {
	config, table := verifiedTable(t, "") // versions 2 to 4
	command(t, exitOK, "rewind", "-c", config, "--to-offsets", "0=120,1=120", "--yes")
	untilEnd(t, config)
	if out, err := exec.Command(python(t), "-B", filepath.Join("readers", "restore.py"), table, "4").CombinedOutput(); err != nil {
		t.Fatalf("delta-rs: %v\n%s", err, out)
	}
	command(t, exitOK, "rewind", "-c", config, "--to-table-version", "4", "--yes")
	untilEnd(t, config)
	wantVerified(t, config, table)
	d := onDisk{t, table}
	a := d.add(4)
	versions, err := filepath.Glob(filepath.Join(table, "_delta_log", "*.json"))
	must(t, err)
	d.write(d.commitFile(int64(len(versions))), `{"commitInfo":{"operation":"OPTIMIZE","engineInfo":"somebody"}}`+"\n"+d.action("remove", delta.Remove{Path: a.Path, Size: &a.Size})+"\n")
	if out := command(t, exitFaults, "verify", "--table", table); !strings.Contains(out, "[100, 150)") {
		t.Errorf("verify does not find that rows are lost:\n%s", out)
	}
	if kinds, output := foreignVerify(t, table); !kinds["lost_rows"] {
		t.Errorf("verify.py does not find that rows are lost:\n%s", output)
	}
}
