//go:build !wasip1

package sim

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	breakAll = flag.Bool("breaks", false, "break each rule in the code once, and look for a seed that shows it")
	breakOne = flag.String("break", "", "only the `rule`, as TestBreaks names it")
	report   = flag.String("report", "", "`file` to write what was found to")
)

// broken is a rule that the code does not keep: the text that keeps it is replaced.
type broken struct {
	rule    string // of docs/exactly-once.md
	instead string
	file    string
	old     string
	new     string
}

const (
	commitGo   = "sink/commit.go"
	tableGo    = "sink/table.go"
	proposalGo = "sink/proposal.go"
	flushGo    = "pipeline/flush.go"
	dispatchGo = "pipeline/dispatcher.go"
	reclaimGo  = "pipeline/reclaim.go"
)

// breaks are all rules that can be broken in the worlds of the simulation. The tests named in docs/exactly-once.md attack the others.
var breaks = []broken{
	{
		"C1", "the winners of a race are not looked at", tableGo,
		"ok && !holds(own, txn.AppID, t.opts.Name) {", "ok && txn.AppID == \"\" {",
	},
	{
		"C1b", "a changed table is no reason to judge a unit anew", commitGo,
		"if u.layout != layout && u.pin == nil {", "if u.layout != layout && u.pin == nil && u.layout == nil {",
	},
	{
		"C2", "versions that are gone count as ones that touched nothing", tableGo,
		"	t.fenceAll()\n	t.judgedFrom", "	t.judgedFrom",
	},
	{
		"C2a", "what stands in the place of a version is believed though the version before it is gone", "delta/table.go",
		"func (t *Table) standing(ctx context.Context) error {\n", "func (t *Table) standing(ctx context.Context) error {\n	if t.version >= 0 {\n		return nil\n	}\n",
	},
	{
		"C3", "a proposal is carried beside another unit of its partition", proposalGo,
		"		case taken[appID]:\n", "		case taken[appID] && appID == \"\":\n",
	},
	{
		"C4", "the timestamp is made without a look at the version before", "delta/transaction.go",
		"ict := max(now, before+1)", "ict := max(now, min(before, 1))",
	},
	{
		"C5", "a unit whose answer was not waited for counts as failed, and its files are deleted", commitGo,
		"				u.state = Unresolved\n			}\n			if late {", "				u.state, u.sent = Dropped, false\n			}\n			if late {",
	},
	{
		"C6", "who gives up deletes the files", "sink/cleanup.go",
		"if u.state != Dropped || u.sent || len(u.proposals) > 0 && !u.refuted {", "if u.state == Landed {",
	},
	{
		"C7", "a put that was taken is believed without a look whether the log was cleaned", "delta/transaction.go",
		"	if !t.fresh() {\n		l, err := listLog(ctx, t.store, c.Version)", "	if !t.fresh() && c == nil {\n		l, err := listLog(ctx, t.store, c.Version)",
	},
	{
		"C9", "what builds on a dropped flush is kept", reclaimGo,
		"		if p.epoch == d.epoch.id {\n			d.dropLane(p.lane)", "		if p.epoch == d.epoch.id && p.lane == nil {\n			d.dropLane(p.lane)",
	},
	{
		"C9a", "a unit need not begin where its claim stands", commitGo,
		"		case s.First != c.last+1:\n", "		case s.First < 0:\n",
	},
	{
		"C10", "offsets are reported when they are flushed", flushGo,
		"		err = d.table.Commit(e.ctx, e.units)\n",
		"	early := map[checkpoint.Partition]checkpoint.Position{}\n	for _, u := range e.units {\n		for _, s := range u.Spans {\n			early[s.Partition] = checkpoint.Position{Next: s.Next, Epoch: s.Epoch}\n		}\n	}\n" +
			"	_ = d.source.Report(d.ctx, early)\n		err = d.table.Commit(e.ctx, e.units)\n",
	},
	{
		"P1", "a proposal is stamped anew when it is carried", proposalGo,
		"		case t.touched[appID] > record.ReadAt:\n", "		case t.touched[appID] > t.log.Version():\n",
	},
	{
		"P3", "proposals are carried unjudged", proposalGo,
		"	record := &p.Record\n	switch {", "	record := &p.Record\n	if record.Version > 0 {\n		return \"\"\n	}\n	switch {",
	},
	{
		"P4", "a unit is not known again in the versions of others", "sink/unit.go",
		"	var found []*Unit\n	for _, u := range units {\n", "	var found []*Unit\n	for _, u := range units[:0] {\n",
	},
	{
		"A1", "starts are pinned again over those of another worker", commitGo,
		"func (t *Table) pinMisfit(u *Unit) string {\n", "func (t *Table) pinMisfit(u *Unit) string {\n	if u.pin != nil {\n		return \"\"\n	}\n",
	},
	{
		"A2", "of a dropped flush, messages that were polled before its partitions were sought again count", dispatchGo,
		"if p == nil || d.polls < p.validFrom {", "if p == nil {",
	},
	{
		"A2a", "of a dropped flush only one partition is read again", flushGo,
		"	for id := range e.parts {\n		d.markReclaim(id)\n	}", "	for id := range e.parts {\n		d.markReclaim(id)\n		break\n	}",
	},
	{
		"A4", "idle txns are refreshed without a look at the log", commitGo,
		"	case u.pin != nil:\n		return t.pinMisfit(u)\n	}\n	for", "	case u.pin != nil:\n		return t.pinMisfit(u)\n	case u.refresh:\n		return \"\"\n	}\n	for",
	},
}

// TestBreaksFit holds that the code still has what TestBreaks takes away.
func TestBreaksFit(t *testing.T) {
	for _, b := range breaks {
		b.source(t)
	}
}

// source is the file with the rule taken away.
func (b *broken) source(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(b.file)))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(b.old)); n != 1 {
		t.Errorf("%s: %s has the text to break %d times, want once: %q", b.rule, b.file, n, b.old)
	}
	return bytes.Replace(text, []byte(b.old), []byte(b.new), 1)
}

// TestBreaks breaks each rule in the code once. The simulation must see it.
func TestBreaks(t *testing.T) {
	if !*breakAll && *breakOne == "" {
		t.Skip("takes long: -breaks, or -break RULE")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Rules taken out of the code, and what the simulation sees\n\nMade by `go test ./test/sim -run TestBreaks -breaks -report FILE` on %s, %s/%s, %s: native worlds, which don't repeat exactly.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.Version())
	text.WriteString("| rule | instead | seen by seed | what is seen first |\n|---|---|---|---|\n")
	limit := *seeds
	if limit == 0 {
		limit = 300
	}
	for _, b := range breaks {
		if *breakOne != "" && b.rule != *breakOne {
			continue
		}
		t.Run(b.rule, func(t *testing.T) {
			r, seen := b.look(t, limit)
			if !seen {
				t.Errorf("%s (%s) is not seen in %d seeds", b.rule, b.instead, limit)
				fmt.Fprintf(&text, "| %s | %s | not in %d | |\n", b.rule, b.instead, limit)
			} else {
				t.Logf("%s: seed %d: %s", b.rule, r.Seed, r.Faults[0])
				fmt.Fprintf(&text, "| %s | %s | %d | %s |\n", b.rule, b.instead, r.Seed, strings.ReplaceAll(r.Faults[0], "|", "\\|"))
			}
			if *report != "" {
				if err := os.WriteFile(*report, []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// look builds the worlds without the rule, and lets seeds live until one shows it.
func (b *broken) look(t *testing.T, limit int) (result, bool) {
	t.Helper()
	folder := t.TempDir()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	changed, overlay, binary := filepath.Join(folder, "broken.go"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "sim.test")
	where, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, filepath.FromSlash(b.file)): changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{changed: b.source(t), overlay: where} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "synctests", "-overlay", overlay, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building without %s: %v\n%s", b.rule, err, out)
	}
	worlds := exec.CommandContext(t.Context(), binary, "-test.run", "^TestWorld$", "-seeds", fmt.Sprint(limit), "-until-broken")
	out, err := worlds.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, resultMark); ok {
			var r result
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			if len(r.Faults) > 0 {
				return r, true
			}
		}
	}
	if err != nil {
		return result{Faults: []string{"the world broke down: " + lastLine(out)}}, true
	}
	return result{}, false
}

// lastLine is the head of a panic, or the last line of what a process has said.
func lastLine(out []byte) string {
	last := ""
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
		if strings.TrimSpace(line) != "" {
			last = strings.TrimSpace(line)
		}
	}
	return last
}
