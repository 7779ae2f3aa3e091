package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// numbers feeds "0", "1", ...
type numbers struct{ next int }

func (n *numbers) append(to []byte) ([]byte, error) {
	to = fmt.Append(to, n.next)
	n.next++
	return to, nil
}

func TestChunksTileEachPartition(t *testing.T) {
	const partitions = 3
	in := &numbers{}
	next := make([]int64, partitions)
	from := int64(0)
	for _, n := range []int64{7, 1, 12} {
		c := newChunk("t")
		if err := c.fill(in, from, n, partitions); err != nil {
			t.Fatal(err)
		}
		if len(c.records) != int(n) {
			t.Fatalf("%d records, want %d", len(c.records), n)
		}
		for id := range next {
			if c.first[id] != next[id] {
				t.Errorf("from message %d on, partition %d begins at %d, want %d", from, id, c.first[id], next[id])
			}
		}
		for _, r := range c.records {
			if r.Offset != next[r.Partition] {
				t.Errorf("offset %d of partition %d, want %d", r.Offset, r.Partition, next[r.Partition])
			}
			if want := fmt.Sprint(r.Offset*partitions + int64(r.Partition)); string(r.Value) != want {
				t.Errorf("partition %d offset %d is message %s, want %s", r.Partition, r.Offset, r.Value, want)
			}
			next[r.Partition]++
		}
		if !reflect.DeepEqual(c.next, next) {
			t.Errorf("the chunk ends at %v, want %v", c.next, next)
		}
		from += n
	}
}

func TestLinesBeginAgain(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lines.zst")
	if err := os.WriteFile(path, z.EncodeAll([]byte("a\nbc\n"), nil), 0o666); err != nil {
		t.Fatal(err)
	}
	in, err := openLines(path)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for range 5 {
		if text, err = in.append(append(text, ' ')); err != nil {
			t.Fatal(err)
		}
	}
	if string(text) != " a bc a bc a" {
		t.Errorf("got %q", text)
	}
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if in, err = openLines(path); err == nil {
		_, err = in.append(nil)
	}
	if err == nil {
		t.Error("a file without lines is taken")
	}
}

// TestStages runs both in-process stages over every shape: rows are counted, the tables are read back.
func TestStages(t *testing.T) {
	for _, s := range shapes {
		for _, stage := range []string{stageDecode, stageParquet} {
			t.Run(stage+" "+s.name, func(t *testing.T) {
				r := stageRun{stage: stage, shape: s, messages: s.messages(chunkMessages + 1001), partitions: 4, data: filepath.Join("..", "test", "data"), dir: t.TempDir()}
				got, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				size, err := s.bytes(r.data, r.messages)
				if err != nil {
					t.Fatal(err)
				}
				if got.Bytes != size {
					t.Errorf("%d bytes were measured, the input has %d", got.Bytes, size)
				}
				if got.cpuPerMillion() <= 0 || got.Seconds <= 0 {
					t.Errorf("it took nothing: %+v", got)
				}
				if stage == stageParquet && (got.Files == 0 || got.FileBytes == 0 || got.Versions == 0) {
					t.Errorf("it left no table: %+v", got)
				}
			})
		}
	}
}

func TestMissingRowsFailTheRun(t *testing.T) {
	r := stageRun{stage: stageParquet, shape: shapes[0], messages: 1000, partitions: 2, dir: t.TempDir()}
	got, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.Messages++
	if err := got.checkTable(t.Context(), r.dir); err == nil {
		t.Error("a table that lacks a row passes")
	}
}

func TestResultsSurviveSaving(t *testing.T) {
	want := result{
		Format: resultFormat, Machine: machine{CPU: "c", Cores: 2}, Settings: settings{Messages: 5, Broker: "embedded"},
		Runs: []run{{Stage: stagePath, Shape: "flights", Round: 1, Messages: 5, Seconds: 1.5, PeakRSS: 7}},
	}
	path := filepath.Join(t.TempDir(), "new", "r.json")
	if err := saveJSON(want, path); err != nil {
		t.Fatal(err)
	}
	got, err := loadSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.machine != want.Machine || !reflect.DeepEqual(got.series, want.series()) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want.Format++
	if err := saveJSON(want, path); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSaved(path); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a newer format gives error %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for args, want := range map[string]string{
		"-stages encode":     "stage \"encode\" is not known",
		"-shapes x":          "shape \"x\" is not known",
		"-rounds 0":          "at least 1",
		"-compression brotl": "compression \"brotl\" is not known",
		"extra":              "argument \"extra\"",
	} {
		if _, err := parseOptions(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %s", args, err, want)
		}
	}
	o, err := parseOptions([]string{"-stages", "decode,path", "-brokers", "a:1,b:2"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(o.stages, []string{"decode", "path"}) || !reflect.DeepEqual(o.brokers, []string{"a:1", "b:2"}) {
		t.Errorf("got %+v", o)
	}
}
