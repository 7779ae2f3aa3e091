package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	breakAll = flag.Bool("breaks", false, "break each rule in the code once, and look for a seed that shows it")
	breakOne = flag.String("break", "", "only the `rules`, as TestBreaks names them, with commas")
	report   = flag.String("report", "", "`file` to write what was found to")
)

// broken is a rule that the code does not keep: the text that keeps it is replaced. Where two pieces of the code keep it, each
// without the other, both are: one alone hides that the other is gone.
type broken struct {
	rule    string // of docs/exactly-once.md
	instead string
	shows   string // what a fault of it has, as a regular expression: mostly the invariants that it may break first
	changes
}

type changes []change

const (
	commitGo   = "../../sink/commit.go"
	tableGo    = "../../sink/table.go"
	proposalGo = "../../sink/proposal.go"
	flushGo    = "../../pipeline/flush.go"
	dispatchGo = "../../pipeline/dispatcher.go"
	reclaimGo  = "../../pipeline/reclaim.go"
	lettersGo  = "../../pipeline/deadletters.go"
	parcelGo   = "../../sink/parcel.go"
	settleGo   = "../../sink/settle.go"
	manifestGo = "../../sink/manifest.go"
	tablesGo   = "../../pipeline/tables.go"
	rewindGo   = "../../admin/rewind.go"
	lookbackGo = "../../sink/lookback.go"
	combineGo  = "../../sink/combine.go"
	routedGo   = "../../sink/routed.go"
)

// breaks are all rules that can be broken in the worlds of the simulation. The tests named in docs/exactly-once.md attack the others.
var breaks = []broken{
	{
		"C1", "the winners of a race are not looked at", "I1|I2", changes{{
			tableGo,
			"ok && !holds(own, txn.AppID, t.opts.Name) {", "ok && txn.AppID == \"\" {",
		}},
	},
	{
		"C1b", "a changed table is no reason to judge a unit anew", "I7", changes{{
			commitGo,
			"if u.layout == layout || u.pin != nil {", "if u.layout == layout || u.pin != nil || u.layout != nil {",
		}},
	},
	{
		"C1a", "txns are compared by value, not by whether they were touched", "I2|I6|outside_span", changes{{
			tableGo,
			"ok && !holds(own, txn.AppID, t.opts.Name) {", "ok && !holds(own, txn.AppID, t.opts.Name) && txn.Version != c.last {",
		}, {
			proposalGo,
			"		case t.touched[appID] > record.ReadAt:\n", "		case t.touched[appID] > record.ReadAt && s.First != txn.Version+1:\n",
		}, {
			proposalGo,
			"gen.Version != record.Generation {", "gen.Version < 0 {",
		}},
	},
	{
		"C1c", "a RESTORE by a winner is no reason to stop", "I8", changes{{
			tableGo,
			"	if commit.Replaces() && t.isStream() {\n", "	if commit.Replaces() && !t.isStream() {\n",
		}},
	},
	{
		"C1d", "what is on top of a schema change of one's own is judged by the schema before", "I7", changes{{
			commitGo,
			"			if tx.Metadata != nil {\n				return t.relayout()\n", "			if tx.Metadata != nil && t.log == nil {\n				return t.relayout()\n",
		}},
	},
	{
		"C1e", "what is read while a flush runs out of time, or beside one that waits, is forgotten", "I8", changes{{
			tableGo,
			"	t.lookedBack = false\n", "	t.lookedBack, t.looksAgain = false, false\n",
		}, {
			tableGo,
			"		t.ended = finalError(\"looking back in the table's log\", err) // nil where it was broken off\n", "",
		}, {
			tableGo,
			"		t.ended = t.judge(commit, inFlight)\n		return t.ended\n", "		return t.judge(commit, inFlight)\n",
		}, {
			tableGo,
			"		if final := t.final(op, err); final != nil { //", "		if final := t.final(op, err); final != nil && ctx.Err() == nil { //",
		}, {
			commitGo,
			"	if ctx.Err() != nil && finalError(\"\", err) == nil {\n", "	if ctx.Err() != nil {\n",
		}, {
			commitGo,
			"		if t.ended != nil { // rule C1e", "		if t.log == nil { // rule C1e",
		}},
	},
	{
		"C2", "versions that are gone count as ones that touched nothing", "I2|I6|adds .* again", changes{{
			tableGo,
			"	t.fenceAll()\n	t.judgedFrom", "	t.judgedFrom",
		}},
	},
	{
		"C2a", "what stands in the place of a version is believed though the version before it is gone", "I2|I6|overlap", changes{{
			"../../delta/table.go",
			"func (t *Table) standing(ctx context.Context) error {\n", "func (t *Table) standing(ctx context.Context) error {\n	if t.version >= 0 {\n		return nil\n	}\n",
		}},
	},
	{
		"C3", "a proposal is carried beside another unit of its partition", "I2|C3|app id .* twice", changes{{
			proposalGo,
			"		case cargo.taken[appID]:\n", "		case cargo.taken[appID] && appID == \"\":\n",
		}},
	},
	{
		"C4", "the timestamp is made without a look at the version before", "I9", changes{{
			"../../delta/transaction.go",
			"ict := max(now, before+1)", "ict := max(now, min(before, 1))",
		}},
	},
	{
		"C5", "a unit whose answer was not waited for counts as failed, and its files are deleted", "I4|I5", changes{{
			commitGo,
			"				u.state = Unresolved\n			}\n			if late {", "				u.state, u.sent = Dropped, false\n			}\n			if late {",
		}},
	},
	{
		"C6", "who gives up deletes the files", "I4", changes{{
			"../../sink/cleanup.go",
			"if u.state != Dropped || u.sent || len(u.proposals) > 0 && !u.refuted {", "if u.state == Landed {",
		}},
	},
	{
		"C6a", "files are deleted whenever a unit is dropped, provable or not", "I4", changes{{
			tableGo,
			"		u.sent = true // nothing can be proved of them, so that their files stay\n", "		u.sent = u.state == Landed\n",
		}},
	},
	{
		"C7", "a put that was taken is believed without a look whether the log was cleaned", "I1|I5", changes{{
			"../../delta/transaction.go",
			"	if !t.fresh() {\n		asked = t.opts.Now()\n", "	if !t.fresh() && c == nil {\n		asked = t.opts.Now()\n",
		}},
	},
	{
		"C8", "units are committed however old their files are", "I4", changes{{
			"../../sink/unit.go",
			"		return maxUnitAge\n", "		return 100 * maxUnitAge\n",
		}},
	},
	{
		"C8a", "proposals are carried however old their files are", "I4", changes{{
			proposalGo,
			"+there) > maxUnitAge:\n", "+there) > 100*maxUnitAge:\n",
		}},
	},
	{
		"C8b", "a dead-letter file is delivered however old it is", "I4", changes{{
			parcelGo,
			"	if note.made.IsZero() {\n", "	if note.made.IsZero() && id < 0 {\n",
		}},
	},
	{
		"C9", "what builds on a dropped flush is kept, and need not begin where its claim stands", "I1|I2", changes{{
			reclaimGo,
			"		if p.epoch == d.epoch.id {\n			d.dropLane(p.lane)", "		if p.epoch == d.epoch.id && p.lane == nil {\n			d.dropLane(p.lane)",
		}, {
			commitGo,
			"		case s.First != c.last+1:\n", "		case s.First < 0:\n",
		}},
	},
	{
		"C10", "offsets are reported when they are flushed", "I5", changes{{
			flushGo,
			"		err = d.table.Commit(e.ctx, e.units)\n",
			"	early := map[checkpoint.Partition]checkpoint.Position{}\n	for _, u := range e.units {\n		for _, s := range u.Spans {\n			early[s.Partition] = checkpoint.Position{Next: s.Next, Epoch: s.Epoch}\n		}\n	}\n" +
				"	_ = d.source.Report(d.ctx, early)\n		err = d.table.Commit(e.ctx, e.units)\n",
		}},
	},
	{
		"P1", "a proposal is stamped anew when it is carried, with the offsets of then", "I2", changes{{
			proposalGo,
			"		case t.touched[appID] > record.ReadAt:\n", "		case t.touched[appID] > t.log.Version():\n",
		}, {
			proposalGo,
			"		case !ok || s.First != txn.Version+1:\n", "		case !ok || txn.Version < 0:\n",
		}},
	},
	{
		"P3", "proposals are carried unjudged", "I2|I6|I7|app id .* twice", changes{{
			proposalGo,
			"	record := &p.Record\n	switch {", "	record := &p.Record\n	if record.Version > 0 {\n		return \"\"\n	}\n	switch {",
		}},
	},
	{
		"P4", "a unit is not known again in the versions of others", "I2|I4|I5", changes{{
			"../../sink/unit.go",
			"	var found []*Unit\n	for _, u := range units {\n", "	var found []*Unit\n	for _, u := range units[:0] {\n",
		}},
	},
	{
		"P5", "whoever deletes a proposal that has expired, or is dead, deletes the unit's files as well", "I4", changes{{
			combineGo,
			"	manyAtATime(len(names), func(i int) { t.dropProposal(ctx, names[i]) })\n",
			"	manyAtATime(len(names), func(i int) {\n		t.dropProposal(ctx, names[i])\n		if p := t.combine.read[names[i]]; p != nil {\n			for j := range p.Adds {\n" +
				"				if file, err := delta.DecodePath(p.Adds[j].Path); err == nil {\n					_ = t.store.Delete(ctx, file)\n				}\n			}\n		}\n	})\n",
		}},
	},
	{
		"A1", "starts are pinned again over those of another worker", "I1|I2", changes{{
			commitGo,
			"func (t *Table) pinMisfit(u *Unit) string {\n", "func (t *Table) pinMisfit(u *Unit) string {\n	if u.pin != nil {\n		return \"\"\n	}\n",
		}},
	},
	{
		"A1c", "nobody looks whether another stream brings the topic already", "I2", changes{{
			"../../checkpoint/appid.go",
			"	others, filters := []string{}, map[string]bool{}\n", "	if name != \"\" {\n		return nil\n	}\n	others, filters := []string{}, map[string]bool{}\n",
		}},
	},
	{
		"A1d", "a stream is ended by its identity alone, and workers don't look for it", "I13", changes{{
			"../../admin/retire.go",
			"	for _, id := range slices.Sorted(maps.Keys(p.Next)) {\n		tx.Txns", "	for _, id := range slices.Sorted(maps.Keys(p.Next))[:0] {\n		tx.Txns",
		}, {
			"../../sink/claim.go",
			"	if t.txnVersion(checkpoint.IdentityAppID(t.opts.Name, *t.pinned)) != 0 {", "	if t.txnVersion(checkpoint.IdentityAppID(t.opts.Name, *t.pinned)) > -2 {",
		}},
	},
	{
		"A2", "a flush that is dropped leaves behind what the lanes have of it", "I1", changes{{
			reclaimGo,
			"	for _, l := range d.lanes {\n		l.reset(d.layout, d.layout)\n	}\n	for", "	for",
		}, {
			reclaimGo,
			"	l.reset(d.layout, layout)\n	for", "	for",
		}},
	},
	{
		"A2a", "of a dropped flush only one partition is read again", "I1", changes{{
			flushGo,
			"	for id := range e.parts {\n		d.markReclaim(id)\n	}", "	for id := range e.parts {\n		d.markReclaim(id)\n		break\n	}",
		}},
	},
	{
		"A3", "an idle worker does not look at the log", "I1", changes{{
			reclaimGo,
			"	if d.following || now.Before(d.followAt) {\n", "	if d.following || !now.IsZero() {\n",
		}},
	},
	{
		"A4", "idle txns are refreshed without a look at the log", "I2", changes{{
			commitGo,
			"	case u.pin != nil:\n		return t.pinMisfit(u)\n	}\n	for", "	case u.pin != nil:\n		return t.pinMisfit(u)\n	case u.files == nil && u.Spans[0].Empty():\n		return \"\"\n	}\n	for",
		}},
	},
	{
		"A4b", "what is known of a stream as a whole expires like offsets", "A4b", changes{{
			tableGo,
			", Lasting: checkpoint.Lasts}", "}",
		}},
	},
	{
		"A5", "a worker goes on in the generation in which it has begun", "I6", changes{{
			tableGo,
			"gen := t.generation(); gen != t.gen.Load() {", "gen := t.generation(); gen < t.gen.Load() {",
		}},
	},
	{
		"A5a", "what a rewind leaves where it is, is where the plan has seen it", "A5|forged_txn", changes{{
			rewindGo,
			"	if p.Moves, err = p.moves(now); err != nil {\n", "	if _, err = p.moves(now); err != nil {\n",
		}},
	},
	{
		"A6", "a worker that starts does not look whether the table was restored", "I8|A6", changes{{
			lookbackGo,
			"	if commit.Replaces() {\n", "	if commit.Replaces() && t.log == nil {\n",
		}},
	},
	{
		"A6a", "a worker that starts looks for a RESTORE in the log alone, which may be cleaned", "I8|A6", changes{{
			lookbackGo,
			"		return true, t.lookForLastUnit(ctx)\n", "		if t.log != nil {\n			return true, nil\n		}\n		return true, t.lookForLastUnit(ctx)\n",
		}},
	},
	{
		"A6b", "a worker that opens the log anew, since versions are gone, does not look whether the table was restored", "I8|A6", changes{{
			tableGo,
			"t.looksAgain || t.lookedBack || len(t.claims) > 0 || t.opts.Follows", "t.opts.Follows",
		}},
	},
	{
		"I1", "what the filter leaves out is counted as a gap", "I1", changes{{
			"../../pipeline/lane.go",
			"span.Rows, span.Filtered = span.Rows-1, span.Filtered+1\n", "span.Rows, span.Records = span.Rows-1, span.Records-1\n",
		}},
	},
	{
		"I3", "the files of a unit come without the txn of its last span", "I3", changes{{
			commitGo,
			"			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(r.Name, s.ID), Version: s.Next - 1})\n",
			"			if r.Pin || s.ID != r.Spans[len(r.Spans)-1].ID {\n				tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(r.Name, s.ID), Version: s.Next - 1})\n			}\n",
		}},
	},
	{
		"I9", "row ids are given without a look at those before", "I9", changes{{
			"../../delta/rowtracking.go",
			"	mark, err := s.rowIDHighWaterMark()\n", "	mark, err := int64(-1), error(nil)\n",
		}},
	},
	{
		"D1", "what is known of a dead-letter file is written while the commit that names it is under way", "I10|has no _connector/parcels", changes{{
			parcelGo,
			"	if err := s.table.store.Put(ctx, p.unit.note, note); err != nil {\n		return nil, orFinal(fmt.Errorf(\"writing %s: %w\", p.unit.note, err))\n	}\n",
			"	go func() { _ = s.table.store.Put(context.WithoutCancel(ctx), p.unit.note, note) }()\n",
		}},
	},
	{
		"D2", "the commit does not say that there are dead letters", "I10", changes{{
			commitGo,
			"		for _, s := range slots {\n", "		for _, s := range slots[:0] {\n",
		}},
	},
	{
		"D2a", "dead letters are committed first, the rows after them", "D2|I10|I11", changes{{
			commitGo,
			"		outcome, err := t.put(ctx, tx, fit)\n",
			"		for _, u := range fit {\n			if u.parcel != nil && u.app == nil {\n				_, _ = u.parcel.table.Deliver(ctx, []int64{u.parcel.ID}, u.slots)\n			}\n		}\n		outcome, err := t.put(ctx, tx, fit)\n",
		}},
	},
	{
		"D3", "dead letters are applied without a condition on the dead-letter table", "I11", changes{{
			parcelGo,
			"at != s.From {\n", "at != s.From && len(u.brought) == 0 {\n",
		}},
	},
	{
		"D3a", "the slot is read before the dead-letter table", "I10|has no _connector/parcels", changes{{
			settleGo,
			"	for {\n		have, err := letters.letterSlots(ctx, name)\n		if err != nil {\n			return nil, err\n		}\n		want, err := stream.letterSlots(ctx, name)\n",
			"	for {\n		want, err := stream.letterSlots(ctx, name)\n		if err != nil {\n			return nil, err\n		}\n		have, err := letters.letterSlots(ctx, name)\n",
		}},
	},
	{
		"D3b", "a file with dead letters of several partitions is applied for those alone that are asked for", "I10|I11|has no _connector/parcels", changes{{
			settleGo,
			"if missing(appID) && slices.Contains(parcels, id) {\n", "if missing(appID) && slices.Contains(parcels, id) && slices.Contains(asked, appID) {\n",
		}},
	},
	{
		"D4", "a unit with dead letters does not wait for those before it", "I10", changes{{
			lettersGo,
			"	settled, err := sink.Settle(ctx, d.table, d.dead, parts)\n	if err == nil {", "	settled, err := sink.Settle(ctx, d.table, d.dead, nil)\n	if err == nil {",
		}, {
			lettersGo,
			"	if d.dead == nil {\n		return nil\n	}\n	_, err := sink.Settle(", "	if d.dead == nil || d.table != nil {\n		return nil\n	}\n	_, err := sink.Settle(",
		}},
	},
	{
		"D5", "a dead-letter file that is gone counts as applied", "D5|I10", changes{{
			parcelGo,
			"				return goneError(file, note.Spans)\n", "				return nil\n",
		}},
	},
	{
		"D5a", "what another worker has applied meanwhile counts as lost", "I10|has no _connector/parcels", changes{{
			parcelGo,
			"	if t.slotMisfit(u) != \"\" {\n		return false, nil\n	}\n	return false, lost\n", "	return false, lost\n",
		}},
	},
	{
		"D6", "a replay goes by the marks in the dead-letter table, not by a txn", "I2", changes{{
			settleGo,
			"From: slotAt(settled, appID), To: u.parcel.ID}}, &generation", "From: t.txnVersion(appID), To: u.parcel.ID}}, &generation",
		}},
	},
	{
		"T1", "the tables get their rows first, the catalog decides after them", "T1", changes{{
			commitGo,
			"		outcome, err := t.put(ctx, tx, fit)\n",
			"		for _, u := range fit {\n			for _, p := range u.consigned {\n				var slots []Slot\n				for _, s := range u.slots {\n" +
				"					if checkpoint.IsRows(s.AppID, t.opts.Name) {\n						slots = append(slots, Slot{s.AppID, p.table.txnVersion(s.AppID), s.To})\n					}\n				}\n" +
				"				_, _ = p.table.Deliver(ctx, []int64{p.ID}, slots)\n			}\n		}\n		outcome, err := t.put(ctx, tx, fit)\n",
		}},
	},
	{
		"T2", "rows are delivered without a condition on their table", "I2|the table has those", changes{{
			parcelGo,
			"at != s.From {\n", "at != s.From && len(u.routed) == 0 {\n",
		}},
	},
	{
		"T2a", "the catalog's slots are read before the tables", "I2|has no _connector/parcels", changes{{
			manifestGo,
			"	err := each(ctx, tables, func(ctx context.Context, a *addressee) (err error) {\n		if a.table,",
			"	want, err := s.catalog.rowSlots(ctx, s.catalog.opts.Name)\n	if err != nil {\n		return false, err\n	}\n	err = each(ctx, tables, func(ctx context.Context, a *addressee) (err error) {\n		if a.table,",
		}, {
			manifestGo,
			"	want, err := s.catalog.rowSlots(ctx, s.catalog.opts.Name)\n	if err != nil {\n		return false, err\n	}\n	all := make(", "	all := make(",
		}},
	},
	{
		"T3", "a unit with rows of other tables does not wait for those before it", "I1", changes{{
			tablesGo,
			"	settled, err := sink.SettleRows(ctx, d.table, parts, d.tables.decided)\n	if err == nil {", "	settled, err := sink.SettleRows(ctx, d.table, parts[:0], d.tables.decided)\n	if err == nil {",
		}, {
			tablesGo,
			"	if d.tables == nil {\n		return nil\n	}\n	_, err := sink.SettleRows(", "	if d.tables == nil || d.table != nil {\n		return nil\n	}\n	_, err := sink.SettleRows(",
		}},
	},
	{
		"T4", "the manifest goes with the first partition that has another", "T4|names the manifest", changes{{
			manifestGo,
			" && s.From >= 0 && !named[s.From] {\n", " && s.From >= 0 {\n",
		}},
	},
	{
		"T5", "a file that is gone before its table has it counts as delivered", "T5|I1|I4", changes{{
			parcelGo,
			"				return lostFile(file, note.Routed.Spans)\n", "				return nil\n",
		}},
	},
	{
		"T5a", "a rewind to wherever counts as a word about rows that are gone", "T5", changes{{
			"../../sink/lostrows.go",
			"	again, err := s.catalog.standsBefore(ctx, lost.spans)\n", "	again, err := s.catalog.Generation() > m.Generation, error(nil)\n",
		}},
	},
	{
		"T5b", "a table gets rows of a generation before what is pending of earlier ones", "T5b", changes{{
			manifestGo,
			"	if s.catalog.knowsFormer(generation) {\n", "	if generation >= 0 || s.catalog.knowsFormer(generation) {\n",
		}},
	},
	{
		"T6", "a known table that is not there is made anew", "T6", changes{{
			tablesGo,
			"	if by == \"\" {\n		layout", "	if by = by[:0]; by == \"\" {\n		layout",
		}},
	},
	{
		"E1", "the rows of a new schema come without it", "I7", changes{{
			commitGo,
			"		if layout != t.layout {\n", "		if layout != t.layout && lost < 0 {\n",
		}},
	},
	{
		"E2", "a new column has the type that each unit finds in its messages", "I7", changes{{
			commitGo,
			"	if u.layout.retypes(layout) {\n", "	if u.layout.retypes(layout) && u.pin != nil {\n",
		}},
	},
	{
		"turn", "lanes go on under a schema that messages want with what they hold, which they drop", "I1", changes{{
			"../../pipeline/turn.go",
			"	if d.turn == nil || d.turning || len(d.epoch.parts) > 0 {\n", "	if d.turn == nil || d.turning {\n",
		}, {
			flushGo,
			"	if d.flushNow || d.turn != nil && len(d.epoch.parts) > 0 {\n", "	if d.flushNow {\n",
		}, {
			commitGo,
			"		case s.First != c.last+1:\n", "		case s.First < 0:\n",
		}},
	},
}

// unmet are parts of rules that no world meets. A test is named that fails without each.
var unmet = []struct {
	broken
	folder, test string
}{
	{broken{
		"T7", "a table that is generations ahead of an adopted catalog takes rows of offsets that it has", "", changes{{
			routedGo,
			"		if r.Generation < gen { //", "		if r.Generation < gen && gen < 0 { //",
		}},
	}, "../../admin", "TestAdoptedCatalogBringsNothingTwice"},
}

// TestBreaksFit holds that the code, and Go's, still have what TestBreaks and TestSeeds replace, and that the code without a rule compiles: else
// nobody would notice, before long runs of TestBreaks, that a rule can't be taken out any more.
func TestBreaksFit(t *testing.T) {
	changed(t, slices.Concat(repeatable, smaller))
	var folders []string
	all := slices.Clone(breaks)
	for _, b := range unmet {
		all = append(all, b.broken)
	}
	for _, b := range all {
		for _, c := range b.changes {
			folders = append(folders, filepath.Dir(c.file))
		}
	}
	slices.Sort(folders)
	c := newChecker(t, slices.Compact(folders))
	for _, b := range all {
		t.Run(b.rule, func(t *testing.T) {
			if err := c.check(changed(t, b.changes)); err != nil {
				t.Errorf("the code without the rule does not compile: %v", err)
			}
		})
	}
	nonsense := changed(t, changes{{commitGo, "	fit, layout := t.fitting(units)\n", "	fit, layout := t.fitting(unit)\n"}})
	if c.check(nonsense) == nil {
		t.Error("what does not compile is not found")
	}
}

// TestSightingsAreExplained holds that what was seen of each rule, as it was saved, is what TestBreaks takes for a sighting of it.
func TestSightingsAreExplained(t *testing.T) {
	text, err := os.ReadFile("results/breaks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range breaks {
		if b.shows == "" || b.explains("a fault of no rule") {
			t.Errorf("%s may show as anything", b.rule)
		}
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(line, " | ")
			if len(cells) < 4 || cells[0] != "| "+b.rule || strings.HasPrefix(cells[2], "not in") {
				continue
			}
			if !b.explains(cells[3]) {
				t.Errorf("%s was seen as %q, which does not fit %s", b.rule, cells[3], b.shows)
			}
		}
	}
}

// TestBreaks breaks each rule in the code once. The simulation must see it: by a verdict of its own, and one that the rule explains. A world that breaks down is none,
// since that may be the simulation's fault; one that does not come to its end is. A seed whose world fails with the rule as well shows nothing of
// the rule, and is passed over.
func TestBreaks(t *testing.T) {
	if !*breakAll && *breakOne == "" {
		t.Skip("takes long: -breaks, or -break RULE")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Rules taken out of the code, and what the simulation sees\n\nMade by `go test ./test/sim -run TestBreaks -breaks -report FILE` on %s, %s/%s, %s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.Version())
	text.WriteString("A seed counts only where its world is clean with the rule. Those before it that fail with the rule as well, and those that broke down, or show what the rule does not explain, are counted.\n\n" +
		"| rule | instead | seen by seed | what is seen first | broke down | fail anyhow | not explained |\n|---|---|---|---|---|---|---|\n")
	limit := uint64(*seeds)
	if limit == 0 {
		limit = 300
	}
	isAsked := func(rule string) bool { return *breakOne == "" || slices.Contains(strings.Split(*breakOne, ","), rule) }
	row := func(format string, args ...any) {
		fmt.Fprintf(&text, format, args...)
		if *report != "" {
			if err := os.WriteFile(*report, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := sync.OnceValue(func() string { return build(t, slices.Concat(repeatable, smaller)) })
	for _, b := range breaks {
		if !isAsked(b.rule) {
			continue
		}
		t.Run(b.rule, func(t *testing.T) {
			s := b.look(t, limit, whole)
			which := fmt.Sprint(s.seed)
			if s.what == "" {
				t.Errorf("%s (%s) is not seen in %d seeds", b.rule, b.instead, limit)
				which = fmt.Sprintf("not in %d", limit)
			}
			t.Logf("%s: seed %s: %s; %d worlds broke down %s; these fail with the rule as well: %v; these show what it does not explain: %q", b.rule, which, s.what, s.down, s.how, s.anyhow, s.others)
			row("| %s | %s | %s | %s | %d | %d | %d |\n", b.rule, b.instead, which, strings.ReplaceAll(s.what, "|", "\\|"), s.down, len(s.anyhow), len(s.others))
		})
	}
	for _, b := range unmet {
		if !isAsked(b.rule) {
			continue
		}
		t.Run(b.rule, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlaid(t, t.TempDir(), b.changes), "-run", "^"+b.test+"$", b.folder).CombinedOutput()
			how := "fails"
			if !strings.Contains(string(out), "--- FAIL: "+b.test) {
				how = "does not fail"
				t.Errorf("%s (%s): %s %s: %v\n%s", b.rule, b.instead, b.test, how, err, out)
			}
			row("| %s | %s | met by no world | %s %s | 0 | 0 | 0 |\n", b.rule, b.instead, b.test, how)
		})
	}
}

// sight is what the simulation has seen of a broken rule.
type sight struct {
	seed   uint64
	what   string   // empty: nothing
	down   int      // worlds that broke down before, which proves nothing
	how    string   // the first of them did
	others []string // of seeds before, which the rule does not explain
	anyhow []uint64 // seeds before that fail with the rule as well
}

// look builds the worlds without the rule, and lets seeds live until one shows it that is clean in the whole ones, with the rule: those are
// asked only then.
func (b *broken) look(t *testing.T, limit uint64, whole func() string) (s sight) {
	t.Helper()
	binary := build(t, slices.Concat(repeatable, smaller, b.changes))
	for s.seed = *seed; s.seed < *seed+limit; s.seed++ {
		what, err := seen(t, binary, s.seed)
		switch {
		case err != nil:
			if s.down++; s.down == 1 {
				s.how = err.Error()
			}
		case what == "":
		case !b.explains(what):
			s.others = append(s.others, fmt.Sprintf("%d: %s", s.seed, what))
		default:
			if with, err := seen(t, whole(), s.seed); with != "" || err != nil {
				s.anyhow = append(s.anyhow, s.seed)
				continue
			}
			s.what = what
			return s
		}
	}
	return s
}

// explains tells whether a fault may be of the broken rule. Any may let a world not come to its end.
func (b *broken) explains(what string) bool {
	return strings.Contains(what, errStill.Error()) || regexp.MustCompile(`\b(`+b.shows+`)\b`).MatchString(what)
}

// seen is what is wrong first in the world of a seed, or that it has no end; "" for nothing. The error is of a world that broke down.
func seen(t *testing.T, binary string, seed uint64) (string, error) {
	t.Helper()
	r, _, err := live(t.Context(), binary, seed)
	switch {
	case len(r.Faults) > 0:
		return r.Faults[0], nil
	case errors.Is(err, errStill):
		return err.Error(), nil
	}
	return "", err
}
