package admin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// txnMove is a txn of a stream in a commit that is not the connector's.
type txnMove struct {
	appID, engine, operation string
	version, value           int64
}

// checkTxns compares the txns of a commit with its spans, and notes those that others have moved.
func (l *ledger) checkTxns(e delta.HistoryEntry, record checkpoint.CommitRecord, ours bool) {
	want := map[string]int64{}
	names := map[string]bool{}
	for _, u := range record.Units {
		names[u.Name] = true
		for _, s := range u.Spans {
			want[checkpoint.AppID(u.Name, s.ID)] = s.Next - 1
		}
	}
	for _, txn := range e.Txns {
		next, ok := want[txn.AppID]
		delete(want, txn.AppID)
		switch {
		case ok && next != txn.Version:
			l.faults.add(Finding{Kind: ForgedTxn, Version: &e.Version, Text: fmt.Sprintf(
				"version %d: the txn %q is %d, but the commit's spans end with offset %d", e.Version, txn.AppID, txn.Version, next)})
		case ok:
		default:
			m := txnMove{appID: txn.AppID, version: e.Version, value: txn.Version}
			if e.Info != nil {
				m.engine, m.operation = e.Info.EngineInfo, e.Info.Operation
			}
			l.moves = append(l.moves, m)
		}
	}
	for appID, last := range want {
		if ours {
			l.faults.add(Finding{Kind: ForgedTxn, Version: &e.Version, Text: fmt.Sprintf(
				"version %d: it has spans up to offset %d, but no txn %q", e.Version, last, appID)})
		}
	}
}

// settle fits the txns, of the newest and the oldest version, to the tracks.
func (l *ledger) settle() {
	for _, removers := range l.pending { // of files of which nothing is known
		for _, other := range removers {
			l.others[other].RowsKnown, l.others[other].others = false, true
		}
	}
	for txn := range l.snap.Txns() {
		if name, _, ok := strings.Cut(txn.AppID, "#topic/"); ok {
			l.streams[name] = true
		}
	}
	l.strays()
	l.traceless()
	for _, tracks := range l.byPlace {
		slices.SortFunc(tracks, func(a, b *track) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.gen, b.gen)) })
		for i, t := range tracks {
			slices.SortFunc(t.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.next, b.next)) })
			appID := checkpoint.AppID(t.name, t.ID)
			later := i < len(tracks)-1 && tracks[i+1].name == t.name
			gen, _ := l.snap.Txn(t.name + "#gen")
			newest := !later && t.gen >= gen.Version
			if txn, ok := l.snap.Txn(appID); ok && newest {
				t.txn = txn.Version
			}
			t.limit = t.txn + 1
			if t.txn == -2 && len(t.spans) > 0 {
				t.limit = t.spans[len(t.spans)-1].next
			}
			if later {
				t.until = tracks[i+1].beginning()
			}
			if l.base == nil {
				continue
			}
			txn, ok := l.base.Txn(appID)
			switch {
			case l.since && ok:
				t.strict, t.floor = txn.Version+1, txn.Version+1
				if t.pin < 0 && t.logged == t.floor || t.logged == math.MaxInt64 {
					t.pin = t.floor
				}
			case t.pin >= 0: // its beginning is in the log
			case ok && (t.logged == txn.Version+1 || newest):
				t.strict = txn.Version + 1
			default:
				t.strict = math.MaxInt64
			}
		}
	}
	l.judgeMoves()
}

// strays tells of the units that only tags know although their commits should be in the log, and takes their word for nothing.
func (l *ledger) strays() {
	found := false
	for i := range l.units {
		if u := &l.units[i]; u.stray {
			found = true
			text := fmt.Sprintf("%s: its tag names unit %s, which no commit has brought", u.file, u.id)
			if l.base != nil {
				text += fmt.Sprintf(" that is left in the log, and which the txns of version %d had not reached: the txn was moved back, or the tag lies", l.base.Version())
			}
			l.faults.add(Finding{Kind: LyingTag, File: u.file, Text: text})
		}
	}
	if !found {
		return
	}
	for _, t := range l.tracks {
		t.spans = slices.DeleteFunc(t.spans, func(s span) bool { return l.units[s.unit].stray })
	}
}

// traceless makes tracks for the txns of partitions of which there is no span. Which topic they are of is known where the
// stream has another partition.
func (l *ledger) traceless() {
	topics := map[string]string{}
	known := map[string]bool{}
	for k := range l.tracks {
		topics[k.name] = k.Topic
		known[checkpoint.AppID(k.name, k.ID)] = true
	}
	for txn := range l.snap.Txns() {
		for name := range l.streams {
			if id, ok := checkpoint.PartitionOf(name, txn.AppID); ok && !known[txn.AppID] {
				gen, _ := l.snap.Txn(name + "#gen")
				l.track(trackKey{name, checkpoint.Partition{Topic: topics[name], ID: id}, gen.Version})
			}
		}
	}
}

// beginning is the lowest offset that a generation has taken or was told to begin with.
func (t *track) beginning() int64 {
	if t.pin >= 0 {
		return t.pin
	}
	if len(t.spans) > 0 {
		return t.spans[0].first
	}
	return math.MaxInt64
}

// judgeMoves looks at the txns that others have written. One before the first commit of the connector is where it took over;
// one that says what was so already is harmless.
func (l *ledger) judgeMoves() {
	for _, m := range l.moves {
		for name := range l.streams {
			id, ok := checkpoint.PartitionOf(name, m.appID)
			if !ok {
				continue
			}
			last, t := l.lastBefore(name, id, m.version)
			switch {
			case t == nil:
				for _, t := range l.tracks {
					if t.name == name && t.ID == id && t.before < 0 { // moves come newest first
						t.before = m.value + 1
					}
				}
			case last != m.value:
				p := t.ID
				l.faults.add(Finding{Kind: ForgedTxn, Stream: name, Topic: t.Topic, Partition: &p, Version: &m.version, Text: fmt.Sprintf(
					"version %d (%s) has moved the txn %q from %d to %d, and is no commit of the stream", m.version, orUnknown(m.operation, m.engine), m.appID, last, m.value)})
				t.faulty = true
			}
		}
	}
}

// lastBefore is the last offset that the connector's commits before a version have taken.
func (l *ledger) lastBefore(name string, id int32, version int64) (last int64, in *track) {
	at := int64(-1)
	for _, t := range l.tracks {
		if t.name != name || t.ID != id {
			continue
		}
		if in == nil && t.pin >= 0 {
			last, in = t.pin-1, t
		}
		for _, s := range t.spans {
			if v := l.units[s.unit].version; v < version && (in == nil || v > at || v == at && s.next-1 > last) {
				at, last, in = v, s.next-1, t
			}
		}
	}
	return last, in
}

func orUnknown(operation, engine string) string {
	switch {
	case operation == "" && engine == "":
		return "of an unknown writer"
	case engine == "":
		return operation
	}
	return operation + " by " + engine
}
