package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
)

// Exit codes of verify.
const (
	exitFaults     = 7
	exitUnverified = 8
)

// verification is the part of `verify -o json` that tests look at.
type verification struct {
	Verdict string `json:"verdict"`
	Rows    int64  `json:"rows"`
	Faults  []struct{ Kind, Text string }

	Partitions []struct {
		Lost     int64 `json:"lost"`
		Dead     int64 `json:"dead_letters"`
		Filtered int64 `json:"filtered"`
		Deleted  int64 `json:"deleted_by_others"`
	} `json:"partitions"`
	Kafka *struct {
		Messages int64 `json:"messages"`
		Controls int64 `json:"controls"`
	} `json:"kafka"`
}

// verifyWith runs `connector verify`.
func verifyWith(t testing.TB, args ...string) (verification, int) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"verify", "-o", "json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var v verification
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("verify says %s%s", out, stderr.String())
	}
	return v, cmd.ProcessState.ExitCode()
}

// foreignVerify has a script over delta-rs, which shares no code with us, verify the table. It returns the kinds of faults.
func foreignVerify(t testing.TB, table string) (kinds map[string]bool, output string) {
	t.Helper()
	cmd := exec.Command(python(t), "-B", filepath.Join("readers", "verify.py"), table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	kinds = map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+): `).FindAllStringSubmatch(string(out), -1) {
		kinds[m[1]] = true
	}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && (!failed || len(kinds) == 0 || kinds["ok"]) {
		t.Fatalf("verify.py: %v\n%s%s", err, out, stderr.String())
	}
	delete(kinds, "ok")
	return kinds, string(out)
}

// wantVerified wants a table to be whole: by `verify`, compared with Kafka, and by the script.
func wantVerified(t testing.TB, config, table string) verification {
	t.Helper()
	v, code := verifyWith(t, "-c", config)
	if code != exitOK || v.Verdict != "ok" {
		t.Errorf("verify ends with %d: %+v", code, v)
	}
	if kinds, output := foreignVerify(t, table); len(kinds) > 0 {
		t.Errorf("verify.py finds\n%s", output)
	}
	return v
}

// verifiedTable fills a table by three runs: versions 2 to 4, each with 50 offsets of two partitions. Two messages are skipped.
func verifiedTable(t *testing.T, partitionBy string) (config, table string) {
	t.Helper()
	cluster := kafkatest.Start(t, "verify", 2)
	s := stream{
		name: "verify", topic: "verify", brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT, bucket INT",
		partitionBy: partitionBy, interval: time.Minute, more: "on_error: skip\n",
	}
	config = s.write(t)
	for round := range 3 {
		var values [][]byte
		for i := range 100 {
			values = append(values, fmt.Appendf(nil, `{"n":%d,"bucket":%d}`, 100*round+i, i%3))
		}
		if round == 1 {
			values[0], values[2] = []byte("poison"), []byte("poison")
		}
		kafkatest.Produce(t, s.brokers, "verify", 2, values)
		untilEnd(t, config)
	}
	return config, s.table
}

// onDisk is a table that faults are planted in.
type onDisk struct {
	t      *testing.T
	folder string
}

func (d onDisk) commitFile(version int64) string {
	return filepath.Join(d.folder, "_delta_log", fmt.Sprintf("%020d.json", version))
}

func (d onDisk) read(path string) string {
	d.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data)
}

func (d onDisk) write(path, text string) {
	d.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// edit changes a commit: old becomes other, as it is and, unless plain, as it is spelled within texts.
func (d onDisk) edit(version int64, plain bool, old, other string) {
	d.t.Helper()
	text := d.read(d.commitFile(version))
	changed := strings.ReplaceAll(text, old, other)
	if !plain {
		quoted := func(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }
		changed = strings.ReplaceAll(changed, quoted(old), quoted(other))
	}
	if changed == text {
		d.t.Fatalf("version %d has no %s:\n%s", version, old, text)
	}
	d.write(d.commitFile(version), changed)
}

// foreign makes version 5, as another writer would.
func (d onDisk) foreign(operation string, lines ...string) {
	d.t.Helper()
	info := fmt.Sprintf(`{"commitInfo":{"timestamp":%d,"operation":%q,"engineInfo":"somebody"}}`, time.Now().UnixMilli(), operation)
	d.write(d.commitFile(5), strings.Join(append([]string{info}, lines...), "\n")+"\n")
}

// add is the first file of a version.
func (d onDisk) add(version int64) delta.Add {
	d.t.Helper()
	for line := range strings.Lines(d.read(d.commitFile(version))) {
		var action struct{ Add *delta.Add }
		if err := json.Unmarshal([]byte(line), &action); err != nil {
			d.t.Fatal(err)
		}
		if action.Add != nil {
			return *action.Add
		}
	}
	d.t.Fatalf("version %d has no file", version)
	return delta.Add{}
}

func (d onDisk) action(name string, value any) string {
	d.t.Helper()
	text, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// cleanLog leaves a log checkpoint of the newest version alone, and its commit.
func (d onDisk) cleanLog() {
	d.t.Helper()
	store := openStore(d.t, d.folder)
	r, err := delta.WriteLogCheckpoint(d.t.Context(), store, -1, delta.CheckpointOptions{Now: time.Now})
	if err != nil {
		d.t.Fatal(err)
	}
	for v := range r.Version {
		if err := os.Remove(d.commitFile(v)); err != nil {
			d.t.Fatal(err)
		}
	}
}

const secondSpan = `"first":50,"next":100,"records":50,"rows":48,"skipped":2,"gaps":0`

// TestVerifyFindsPlantedFaults plants a fault at a time in a table on disk: `verify` finds it, and so does the script over
// delta-rs; neither finds anything before.
func TestVerifyFindsPlantedFaults(t *testing.T) {
	config, clean := verifiedTable(t, "")
	v := wantVerified(t, config, clean)
	if v.Rows != 298 || v.Kafka == nil || v.Kafka.Messages != 300 {
		t.Fatalf("the table without faults: %+v", v)
	}
	for name, tt := range map[string]struct {
		plant func(d onDisk)
		kind  string
	}{
		"gap": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":52,"next":100,"records":48,"rows":48,"skipped":0,"gaps":0`)
		}, "gap"},
		"lost commit": {func(d onDisk) { d.edit(3, true, `"kafkadelta":`, `"elsewhere":`) }, "gap"},
		"overlap": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":48,"next":100,"records":50,"rows":48,"skipped":2,"gaps":2`)
		}, "overlap"},
		"missing file": {func(d onDisk) { must(d.t, os.Remove(filepath.Join(d.folder, d.add(3).Path))) }, "missing_file"},
		"broken file": {func(d onDisk) {
			d.write(filepath.Join(d.folder, d.add(3).Path), strings.Repeat("x", int(d.add(3).Size)))
		}, "broken_file"},
		"forged txn": {func(d onDisk) { d.foreign("WRITE", `{"txn":{"appId":"verify-0","version":120}}`) }, "forged_txn"},
		"txn of commit": {func(d onDisk) {
			d.edit(4, true, `"appId":"verify-1","version":149`, `"appId":"verify-1","version":150`)
		}, "forged_txn"},
		"rows by spans": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":50,"next":100,"records":50,"rows":49,"skipped":1,"gaps":0`)
		}, "row_count"},
		"rows as filtered": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":50,"next":100,"records":50,"rows":47,"skipped":2,"filtered":1,"gaps":0`)
		}, "row_count"},
		"too many filtered": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":50,"next":100,"records":50,"rows":48,"skipped":2,"filtered":1,"gaps":0`)
		}, "broken_record"},
		"rows by stats": {func(d onDisk) { d.edit(3, true, `\"numRecords\":98`, `\"numRecords\":99`) }, "row_count"},
		"lying tag": {func(d onDisk) {
			d.edit(3, true, `\"first\":50,\"next\":100,\"records\":50,\"rows\":48,\"skipped\":2,\"gaps\":0`, `\"first\":52,\"next\":100,\"records\":48,\"rows\":48,\"skipped\":0,\"gaps\":0`)
		}, "lying_tag"},
		"outside": {func(d onDisk) {
			d.edit(3, false, secondSpan, `"first":50,"next":99,"records":49,"rows":48,"skipped":1,"gaps":0`)
		}, "outside_span"},
		"lost rows": {func(d onDisk) {
			a := d.add(3)
			d.foreign("OPTIMIZE", d.action("remove", delta.Remove{Path: a.Path, Size: &a.Size}))
		}, "lost_rows"},
		"duplicate": {func(d onDisk) {
			a := d.add(3)
			d.write(filepath.Join(d.folder, "again.parquet"), d.read(filepath.Join(d.folder, a.Path)))
			a.Path, a.Tags = "again.parquet", nil
			d.foreign("WRITE", d.action("add", a))
		}, "duplicate"},
		"duplicate after cleanup": {func(d onDisk) {
			d.cleanLog()
			a := delta.Add{PartitionValues: map[string]*string{}, DataChange: true}
			a.Path, a.Size = "again.parquet", d.copyOfSome("again.parquet")
			d.foreign("WRITE", d.action("add", a))
		}, "duplicate"},
		"missing file after cleanup": {func(d onDisk) { name := d.someFile(); d.cleanLog(); must(d.t, os.Remove(name)) }, "missing_file"},
	} {
		t.Run(name, func(t *testing.T) {
			d := onDisk{t, filepath.Join(t.TempDir(), "table")}
			must(t, os.CopyFS(d.folder, os.DirFS(clean)))
			tt.plant(d)
			found := false
			v, code := verifyWith(t, "--table", d.folder)
			for _, f := range v.Faults {
				found = found || f.Kind == tt.kind
			}
			if code != exitFaults || !found {
				t.Errorf("verify ends with %d and finds no %s: %+v", code, tt.kind, v)
			}
			if kinds, output := foreignVerify(t, d.folder); !kinds[tt.kind] {
				t.Errorf("verify.py finds no %s:\n%s", tt.kind, output)
			}
		})
	}
}

// someFile is a data file of the table.
func (d onDisk) someFile() string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.folder, "part-*.parquet"))
	if err != nil || len(found) == 0 {
		d.t.Fatalf("no data file: %v", err)
	}
	return found[0]
}

func (d onDisk) copyOfSome(name string) (size int64) {
	d.t.Helper()
	text := d.read(d.someFile())
	d.write(filepath.Join(d.folder, name), text)
	return int64(len(text))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerifyCleanTables: tables of several kinds are whole for both.
func TestVerifyCleanTables(t *testing.T) {
	config, table := verifiedTable(t, "bucket")
	wantVerified(t, config, table)
	onDisk{t, table}.cleanLog()
	wantVerified(t, config, table)
	untilEnd(t, config) // goes on with nothing new
	wantVerified(t, config, table)
	if v, code := verifyWith(t, "--table", numbersTable(t)); code != exitUnverified {
		t.Errorf("a table of nobody: %d, %+v", code, v)
	}
}
