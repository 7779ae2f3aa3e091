package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// writeProfile writes one whose samples have each a stack, from the leaf on, and a thousand nanoseconds.
func writeProfile(t *testing.T, path string, stacks ...[]string) {
	t.Helper()
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}}
	for _, stack := range stacks {
		s := &profile.Sample{Value: []int64{1, 1000}}
		for _, name := range stack {
			f := &profile.Function{ID: uint64(len(p.Function)) + 1, Name: name}
			at := &profile.Location{ID: uint64(len(p.Location)) + 1, Line: []profile.Line{{Function: f}}}
			p.Function, p.Location, s.Location = append(p.Function, f), append(p.Location, at), append(s.Location, at)
		}
		p.Sample = append(p.Sample, s)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestProfilesOfRuns: what is closest to the leaf has the sample, and runs of one kind are averaged.
func TestProfilesOfRuns(t *testing.T) {
	dir := t.TempDir()
	zstd := []string{"runtime.memmove", "github.com/klauspost/compress/zstd.(*Encoder).EncodeAll", "kafkadelta/sink/datafile.(*packer).close", "kafkadelta/pipeline.(*lane).run"}
	socket := []string{"syscall.Syscall", "internal/poll.(*FD).Read", "net.(*conn).Read", "github.com/twmb/franz-go/pkg/kgo.(*brokerCxn).readConn"}
	decoding := []string{"kafkadelta/decode/json.(*Decoder).Append", "kafkadelta/pipeline.(*lane).run"}
	writeProfile(t, filepath.Join(dir, "path-flights-1.pprof"), zstd, zstd, decoding)
	writeProfile(t, filepath.Join(dir, "path-flights-2.pprof"), zstd, zstd, socket)
	writeProfile(t, filepath.Join(dir, "path-flights-against-1.pprof"), []string{"runtime.futex"})
	making := []string{"runtime.memmove", "main.(*tenants).append", "main.(*chunk).fill", "main.stageRun.run", "main.main"}
	writeProfile(t, filepath.Join(dir, "path-tenants-1.pprof"), decoding, making) // an eighth of the messages asked for
	tables, err := profileTables(dir, 16)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := (profileResult{Tables: tables}).print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"path-flights (2 of 16 messages)", "path-tenants (1 of 2 messages)", "zstd 125 0 0", "decode 31 0 500", "reading the socket 31 0 0", "everything else 0 62 0", "making the messages, which is not measured 0 0 500", "all 188 62 1000"} {
		if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), want) {
			t.Errorf("%q is not in\n%s", want, &text)
		}
	}
	writeProfile(t, filepath.Join(dir, "path-unknown-1.pprof"), decoding)
	if _, err := profileTables(dir, 16); err == nil || !strings.Contains(err.Error(), `shape "unknown" is not known`) {
		t.Errorf("a profile of a shape that is not known: %v", err)
	}
	if _, err := profileTables(t.TempDir(), 1); err == nil {
		t.Error("a folder without profiles is taken")
	}
}
