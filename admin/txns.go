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
			l.checkSlot(e, u.Name, s)
		}
		if u.Rewind != nil {
			want[checkpoint.GenerationAppID(u.Name)] = u.Generation
		}
	}
	for _, txn := range e.Txns {
		next, ok := want[txn.AppID]
		delete(want, txn.AppID)
		switch {
		case ok && next != txn.Version:
			l.faults.add(Finding{Kind: ForgedTxn, Version: &e.Version, Text: fmt.Sprintf(
				"version %d: the txn %q is %d, but by the commit's spans it is %d", e.Version, txn.AppID, txn.Version, next)})
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
				"version %d: by its spans the txn is %d, but it has no txn %q", e.Version, last, appID)})
		}
	}
}

// checkSlot holds rules D2 and T2: the version that counts dead letters, or rows of other tables, names their files.
func (l *ledger) checkSlot(e delta.HistoryEntry, name string, s checkpoint.Span) {
	check := func(messages int64, are, slot string) {
		if messages > 0 && !slices.ContainsFunc(e.Txns, func(txn delta.Txn) bool { return txn.AppID == slot }) {
			l.faults.add(Finding{Kind: ForgedTxn, Version: &e.Version, Text: fmt.Sprintf(
				"version %d: by its spans %d messages of %s are %s, but it has no txn %q", e.Version, messages, s.Partition, are, slot)})
		}
	}
	check(s.Dead, "dead letters", checkpoint.DeadLetterAppID(name, s.ID))
	check(s.Routed, "rows of other tables", checkpoint.RowsAppID(name, s.ID))
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
	l.judgeGenerations()
	l.traceless()
	lineages := map[string]lineage{}
	for name := range l.streams {
		lineages[name] = l.lineage(name)
	}
	for _, tracks := range l.byPlace {
		slices.SortFunc(tracks, byStream)
		for i, t := range slices.Backward(tracks) {
			slices.SortFunc(t.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.next, b.next)) })
			appID := checkpoint.AppID(t.name, t.ID)
			later := i < len(tracks)-1 && tracks[i+1].name == t.name
			gen, _ := l.snap.Txn(checkpoint.GenerationAppID(t.name))
			newest := !later && t.gen >= gen.Version
			if txn, ok := l.snap.Txn(appID); ok && newest {
				t.txn = txn.Version
			}
			t.limit = max(t.txn+1, t.closed)
			if t.limit < 0 && len(t.spans) > 0 {
				t.limit = t.spans[len(t.spans)-1].next
			}
			_, taken := lineages[t.name].taken[t.gen]
			for _, o := range tracks[i+1:] {
				if _, back := lineages[t.name].taken[o.gen]; o.name == t.name && (taken || !back) {
					t.until = min(t.until, o.beginning())
				}
			}
			if l.base != nil {
				l.fit(t, appID)
			}
		}
	}
	for _, t := range l.tracks {
		if to, taken := lineages[t.name].taken[t.gen]; taken {
			t.since = l.takenBackTo(t, to)
		}
	}
	l.judgeMoves()
	l.recall()
}

// byStream is the order of the tracks of a place.
func byStream(a, b *track) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.gen, b.gen)) }

// fit fits a track to the oldest state: which of its spans must be in commits, and from where on it was asked for.
func (l *ledger) fit(t *track, appID string) {
	txn, ok := l.base.Txn(appID)
	switch gen := l.baseGeneration(t.name); {
	case t.gen > gen: // all of it is in the log
	case t.gen < gen:
		t.strict = math.MaxInt64
		if l.since {
			t.floor = math.MaxInt64
		}
	case l.since && ok:
		t.strict, t.floor = txn.Version+1, txn.Version+1
		if t.pin < 0 && t.logged == t.floor || t.logged == math.MaxInt64 {
			t.pin = t.floor
		}
	case t.pin >= 0: // its beginning is in the log
	case ok:
		t.strict = txn.Version + 1
	default:
		t.strict = math.MaxInt64
	}
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
		if gen, _ := l.snap.Txn(checkpoint.GenerationAppID(k.name)); k.gen >= gen.Version {
			known[checkpoint.AppID(k.name, k.ID)] = true
		}
	}
	for txn := range l.snap.Txns() {
		for name := range l.streams {
			if id, ok := checkpoint.PartitionOf(name, txn.AppID); ok && !known[txn.AppID] {
				gen, _ := l.snap.Txn(checkpoint.GenerationAppID(name))
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
			if m.appID == checkpoint.GenerationAppID(name) && m.value != l.generationAt(name, m.version) {
				l.faults.add(Finding{Kind: ForgedTxn, Stream: name, Version: &m.version, Text: fmt.Sprintf(
					"version %d (%s) has moved the txn %q from %d to %d, and is no rewind", m.version, orUnknown(m.operation, m.engine), m.appID, l.generationAt(name, m.version), m.value)})
			}
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

// lastBefore is the last offset that the connector's commits before a version have taken, or have been told to begin behind.
func (l *ledger) lastBefore(name string, id int32, version int64) (last int64, in *track) {
	at := int64(-1)
	told := func(t *track, v, next int64) {
		if v < version && (in == nil || v > at || v == at && (t.gen > in.gen || t.gen == in.gen && next-1 > last)) {
			at, last, in = v, next-1, t
		}
	}
	for _, t := range l.tracks {
		if t.name != name || t.ID != id {
			continue
		}
		if t.pin >= 0 {
			told(t, t.pinAt, t.pin)
		}
		for _, s := range t.spans {
			told(t, l.units[s.unit].version, s.next)
		}
	}
	// Of commits that are no longer in the log, the txn is what is left: a span without rows has no file that tells of it.
	if in != nil && l.base != nil && at <= l.base.Version() && l.base.Version() < version {
		if txn, ok := l.base.Txn(checkpoint.AppID(name, id)); ok {
			last = txn.Version
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
