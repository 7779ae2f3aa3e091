package sink_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// openAs opens the table for a stream of another name, which leaves messages out by a filter or not.
func (b *bench) openAs(name string, filtered bool) *sink.Table {
	b.t.Helper()
	b.name, b.filtered = name, filtered
	defer func() { b.name, b.filtered = "", false }()
	return b.open()
}

func mustRefuse(t *testing.T, err error, words ...string) {
	t.Helper()
	var refused *checkpoint.RefusedError
	if !errors.As(err, &refused) || refused.Remedy == "" {
		t.Fatalf("Pin answered %v, want a refusal with a remedy", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// TestTopicIsBroughtOnce: a second stream of a topic in a table is let be only where both leave messages out by a filter.
func TestTopicIsBroughtOnce(t *testing.T) {
	for name, tt := range map[string]struct{ first, second, refused bool }{
		"neither has a filter":   {false, false, true},
		"the first has a filter": {true, false, true},
		"the second has one":     {false, true, true},
		"both have one":          {true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.check(b.openAs("a", tt.first).Pin(t.Context(), pins(2)))
			before := b.version()
			err := b.openAs("b", tt.second).Pin(t.Context(), pins(2))
			if tt.refused {
				mustRefuse(t, err, `stream "a"`, `stream "b"`, "topic "+topic, "table.filter")
				if b.version() != before {
					t.Error("something was written")
				}
				return
			}
			b.check(err)
			anew := pins(2)
			anew.Identity.TopicID = "another"
			b.check(b.openAs("c", false).Pin(t.Context(), anew)) // of another topic
		})
	}
}

// TestTopicIsBroughtOnceInARace: who loses the race of two first commits looks again.
func TestTopicIsBroughtOnceInARace(t *testing.T) {
	b := newBench(t)
	one, two := b.openAs("one", false), b.openAs("two", false)
	b.beforePut(func() { b.check(two.Pin(t.Context(), pins(2))) }) // between one's look and its put
	mustRefuse(t, one.Pin(t.Context(), pins(2)), `stream "one"`, `stream "two"`)
	if got := b.version(); got != 1 {
		t.Errorf("the table is at version %d, want 1: one pin", got)
	}
}

// TestPinIsNoWayBackIntoATopic: the stream was retired, or rewound to another topic, between a pin's look and its put (rule A1d).
func TestPinIsNoWayBackIntoATopic(t *testing.T) {
	b := newBench(t)
	b.check(b.open().Pin(t.Context(), pins(2)))
	ended := fmt.Sprintf(`{"txn":{"appId":%q,"version":0}}`, checkpoint.IdentityAppID(stream, identity))
	b.beforePut(func() { b.foreign(txnLine(0, -1), txnLine(1, -1), ended) })
	mustRefuse(t, b.open().Pin(t.Context(), pins(3)), "retired")
	if v := b.version(); v != 2 {
		t.Errorf("the table is at version %d, want 2: the pin has landed", v)
	}
}

// TestFilterIsRemembered: the table tells whether a stream has a filter now, and one that no longer has one is refused beside another.
func TestFilterIsRemembered(t *testing.T) {
	b := newBench(t)
	mark := func() (int64, bool) {
		txn, ok := b.snapshot().Txn(checkpoint.FilterAppID("a"))
		return txn.Version, ok
	}
	b.check(b.openAs("a", false).Pin(t.Context(), pins(1)))
	if v, ok := mark(); ok {
		t.Errorf("a stream without filter has the mark %d", v)
	}
	for _, want := range []int64{1, 0, 1} {
		version := b.version()
		b.check(b.openAs("a", want == 1).Pin(t.Context(), pins(1)))
		b.check(b.openAs("a", want == 1).Pin(t.Context(), pins(1)))
		if v, ok := mark(); !ok || v != want {
			t.Errorf("the mark is %d, %v; want %d", v, ok, want)
		}
		if got := b.version(); got != version+1 {
			t.Errorf("%d versions were written, want 1", got-version)
		}
	}
	other := b.openAs("b", true)
	b.check(other.Pin(t.Context(), pins(1)))
	mustRefuse(t, b.openAs("a", false).Pin(t.Context(), pins(1)), `stream "a"`, `stream "b"`)
	b.check(b.openAs("a", true).Pin(t.Context(), pins(1)))
}

// TestFilterIsRememberedOnceByTwo: two workers that start at once write the mark once.
func TestFilterIsRememberedOnceByTwo(t *testing.T) {
	b := newBench(t)
	b.check(b.openAs("a", false).Pin(t.Context(), pins(1)))
	one, two := b.openAs("a", true), b.openAs("a", true)
	b.beforePut(func() { b.check(two.Pin(t.Context(), pins(1))) })
	b.check(one.Pin(t.Context(), pins(1)))
	if got := b.version(); got != 2 {
		t.Errorf("the table is at version %d, want 2", got)
	}
}

// TestAWorkerWithoutTheFilterOfItsStreamIsRefused: once the table says that a stream leaves messages out, another stream of the topic may come. What
// a worker of the first one that brings all messages has taken by then, or takes since, must not land.
func TestAWorkerWithoutTheFilterOfItsStreamIsRefused(t *testing.T) {
	comes := func(b *bench) { // a worker with a filter, and then the other stream
		b.check(b.openAs("a", true).Pin(t.Context(), pins(1)))
		b.check(b.openAs("b", true).Pin(t.Context(), pins(1)))
	}
	words := []string{`stream "a"`, "by a filter", "the same configuration"}
	for name, does := range map[string]func(b *bench, old *sink.Table, u *sink.Unit) error{
		"it commits": func(b *bench, old *sink.Table, u *sink.Unit) error {
			comes(b)
			return old.Commit(t.Context(), []*sink.Unit{u})
		},
		"it loses the race": func(b *bench, old *sink.Table, u *sink.Unit) error {
			b.beforePut(func() { comes(b) })
			return old.Commit(t.Context(), []*sink.Unit{u})
		},
		"it idles": func(b *bench, old *sink.Table, _ *sink.Unit) error {
			comes(b)
			_, _, err := old.Follow(t.Context())
			return err
		},
		"it gets more partitions": func(b *bench, old *sink.Table, _ *sink.Unit) error {
			comes(b)
			return old.Pin(t.Context(), pins(1))
		},
		"the log is cleaned before it looks": func(b *bench, old *sink.Table, _ *sink.Unit) error {
			comes(b)
			b.foreign(contended)
			b.clean()
			b.passed.Add(int64(2 * time.Minute)) // until then, what is not there is not there yet
			_, _, err := old.Follow(t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			old := b.openAs("a", false)
			b.check(old.Pin(t.Context(), pins(1)))
			b.claim(old, 0)
			u := b.unit(old, span(0, 0, 3))
			mustRefuse(t, does(b, old, u), words...)
			if u.State() == sink.Landed || b.consistent() > 0 {
				t.Error("what it has taken has landed")
			}
			b.check(b.openAs("a", true).Pin(t.Context(), pins(1))) // with the configuration of the other, it goes on
		})
	}
}

// TestAWorkerWithAFilterStays: that another one of its stream brings all messages by now doubles none, and it leaves the word to that one.
func TestAWorkerWithAFilterStays(t *testing.T) {
	b := newBench(t)
	old := b.openAs("a", true)
	b.check(old.Pin(t.Context(), pins(1)))
	b.claim(old, 0)
	b.check(b.openAs("a", false).Pin(t.Context(), pins(1)))
	version := b.version()
	b.check(old.Pin(t.Context(), pins(1)))
	if got := b.version(); got != version {
		t.Errorf("it has written version %d", got)
	}
	u := b.unit(old, span(0, 0, 3))
	b.commit(old, u)
	b.want(u, sink.Landed)
	mustRefuse(t, b.openAs("b", true).Pin(t.Context(), pins(1)), "has none as far as the table knows")
}

// TestWhatAWorkerWithoutTheFilterHasProposedIsNotCarried: it was taken before the stream had one.
func TestWhatAWorkerWithoutTheFilterHasProposedIsNotCarried(t *testing.T) {
	b := newBench(t)
	loser := b.owner(2)
	carrier := b.open(b.memory)
	b.claim(carrier, 1)
	u, w := b.unit(loser, span(0, 0, 3)), b.unit(carrier, span(1, 0, 4))
	var record checkpoint.CommitRecord
	b.left(func() { mustRefuse(t, loser.Commit(t.Context(), []*sink.Unit{u}), "by a filter") }, func() {
		b.foreign(fmt.Sprintf(`{"txn":{"appId":%q,"version":1}}`, checkpoint.FilterAppID(stream)))
		b.commit(carrier, w)
		b.want(w, sink.Landed)
		record = b.record()
	})
	if record.Carried != 0 || len(record.Units) != 1 {
		t.Errorf("the carrier's version has %d units, %d of them carried", len(record.Units), record.Carried)
	}
}

// TestTakingOverATopicThatIsBrought: a stream that kafka-delta-ingest has left has offsets and no identity. It is not fresh, and begins all the same.
func TestTakingOverATopicThatIsBrought(t *testing.T) {
	b := newBench(t)
	b.check(b.openAs("a", false).Pin(t.Context(), pins(1)))
	b.foreign(`{"txn":{"appId":"kdi-0","version":7}}`)
	mustRefuse(t, b.openAs("kdi", false).Pin(t.Context(), pins(1)), `stream "a"`, `stream "kdi"`)
}
