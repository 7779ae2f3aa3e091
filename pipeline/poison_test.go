package pipeline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/storage/faultstore"
)

func skip(s *setup) { s.OnError = pipeline.OnErrorSkip }

// wantPoison runs to the end, which must not be reached because of a message.
func (w *world) wantPoison(change ...func(*setup)) *pipeline.PoisonError {
	w.t.Helper()
	k := w.start(append([]func(*setup){func(s *setup) { s.UntilEnd = true }}, change...)...)
	err := k.wait()
	var poison *pipeline.PoisonError
	if !errors.As(err, &poison) {
		w.t.Fatalf("the run ended with %v, want a *PoisonError", err)
	}
	return poison
}

// bad are the ways in which a message can fail: in the decoder, or by the table's own rule (n is NOT NULL).
var bad = map[string]string{
	"not JSON":           `{"n": `,
	"wrong type":         `{"n": "seven"}`,
	"NOT NULL violation": `{"n": null, "text": "no number"}`,
	"missing NOT NULL":   `{"text": "no number"}`,
	"tombstone":          ``,
}

func TestPoisonUnderFailCommitsWhatIsBeforeIt(t *testing.T) {
	for name, value := range bad {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.produce(0, 20)
				at := w.produceRaw(0, value)
				before := len(w.want)
				w.produce(0, 20)
				for i := range 2 { // the second run meets it as its very first message
					if err := w.wantPoison(); !strings.Contains(err.Error(), fmt.Sprint(at)) {
						t.Errorf("the error does not name offset %d: %v", at, err)
					}
					if got := w.txn(0); got != at-1 {
						t.Fatalf("run %d: the table stands at offset %d, want %d", i, got, at-1)
					}
					if got := len(w.rows()); got != before {
						t.Fatalf("run %d: the table holds %d rows, want %d", i, got, before)
					}
				}
				k := w.untilEnd(skip)
				if got := k.Progress().Poison; got != 1 {
					t.Errorf("%d messages are counted as poison, want 1", got)
				}
				w.exactlyOnce()
			})
		})
	}
}

func TestPoisonAsTheVeryFirstMessage(t *testing.T) {
	for name, value := range bad {
		t.Run(name, func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				w.produceRaw(0, value)
				w.produceAll(2, 5)
				_ = w.wantPoison()
				if got := w.txn(0); got != -1 {
					t.Errorf("the table stands at offset %d of partition 0, want -1", got)
				}
				w.untilEnd(skip)
				w.exactlyOnce()
			})
		})
	}
}

// TestPoisonOfBothKindsInOneBatch mixes, in several partitions of one lane, messages that the decoder refuses with rows
// that the table refuses.
func TestPoisonOfBothKindsInOneBatch(t *testing.T) {
	const null, broken = `{"n": null}`, `{`
	cases := map[string][2][]string{ // by partition; "" is a good message
		"null before broken in one partition":    {{"", "", null, "", broken, ""}, {"", ""}},
		"broken before null in one partition":    {{"", "", broken, "", null, ""}, {"", ""}},
		"broken in one and null in the other":    {{"", "", broken, ""}, {"", "", "", null, ""}},
		"null in both":                           {{"", null, "", null}, {"", "", null, ""}},
		"broken in both":                         {{"", broken, ""}, {"", "", broken, ""}},
		"first broken, other null at the end":    {{broken, ""}, {"", "", null}},
		"null first, broken first":               {{null, "", ""}, {broken, "", ""}},
		"all of one partition, none of another":  {{null, null, broken}, {"", "", ""}},
		"a good message between each bad one":    {{"", null, "", broken, "", null, ""}, {null, "", broken, "", null}},
		"the last message of both is not a row ": {{"", "", null}, {"", "", broken}},
	}
	for name, partitions := range cases {
		t.Run(name, func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				var firstBad [2]int64
				total := int64(0)
				for p, messages := range partitions {
					firstBad[p] = int64(len(messages))
					for i, m := range messages {
						if m == "" {
							w.produce(int32(p), 1)
							continue
						}
						w.produceRaw(int32(p), m)
						total++
						firstBad[p] = min(firstBad[p], int64(i))
					}
				}
				one := func(s *setup) { s.Lanes = 1 }
				_ = w.wantPoison(one)
				stopped := 0
				for p := range partitions {
					at := w.txn(int32(p)) + 1
					if at > firstBad[p] {
						t.Errorf("partition %d: the table stands at %d, after its bad message at %d", p, at, firstBad[p])
					}
					if at == firstBad[p] {
						stopped++
					}
				}
				if stopped == 0 {
					t.Error("no partition was brought up to its bad message")
				}
				for at, n := range w.rows() {
					if len(n) != 1 || n[0] != w.want[at] {
						t.Errorf("rows at %v are %v, want %d", at, n, w.want[at])
					}
				}
				w.spansTile()
				k := w.untilEnd(skip, one)
				if got := k.Progress().Poison; got > total {
					t.Errorf("%d messages are counted as poison, there are %d", got, total)
				}
				w.exactlyOnce()
			})
		})
	}
}

func TestPoisonUnderSkipIsCountedOnce(t *testing.T) {
	scenario(t, 3, func(w *world) {
		total := 0
		for p := range int32(3) {
			for _, value := range bad {
				w.produce(p, 3)
				w.produceRaw(p, value)
				total++
			}
		}
		k := w.untilEnd(skip)
		if got := k.Progress().Poison; got != int64(total) {
			t.Errorf("%d messages are counted as poison, want %d", got, total)
		}
		w.exactlyOnce()
	})
}

func TestPoisonAloneIsPassedUnderSkip(t *testing.T) {
	scenario(t, 1, func(w *world) {
		last := int64(0)
		for range 5 {
			last = w.produceRaw(0, "{")
		}
		w.untilEnd(skip)
		if got := w.txn(0); got != last {
			t.Errorf("the table stands at offset %d, want %d", got, last)
		}
		w.exactlyOnce()
	})
}

// TestPoisonInManyBatches has bad messages beyond the first Arrow batch of a lane.
func TestPoisonInManyBatches(t *testing.T) {
	scenario(t, 2, func(w *world) {
		for p := range int32(2) {
			w.produce(p, 9000)
			w.produceRaw(p, `{"n": null}`)
			w.produce(p, 300)
			w.produceRaw(p, `{`)
			w.produce(p, 9000)
		}
		_ = w.wantPoison()
		w.spansTile()
		if k := w.untilEnd(skip); k.Progress().Poison == 0 {
			t.Error("nothing is counted as poison")
		}
		w.exactlyOnce()
	})
}

// TestPoisonAndAFenceAtOnce drops what came before the poison message: it must be read again before the run ends.
func TestPoisonAndAFenceAtOnce(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 10)
		at := w.produceRaw(0, "{")
		w.fencedOnce()
		_ = w.wantPoison()
		if got := w.txn(0); got != at-1 {
			t.Errorf("the table stands at offset %d, want %d", got, at-1)
		}
		w.untilEnd(skip)
		w.exactlyOnce()
	})
}

func TestPoisonWhileTheStoreIsDownEndsOnceItIsBack(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start()
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.store.Down(nil)
		w.produce(0, 5)
		at := w.produceRaw(0, "{")
		time.Sleep(5 * time.Second)
		k.running()
		w.store.Up()
		if err := k.wait(); !errors.As(err, new(*pipeline.PoisonError)) {
			t.Fatalf("the run ended with %v, want a *PoisonError", err)
		}
		if got := w.txn(0); got != at-1 {
			t.Errorf("the table stands at offset %d, want %d", got, at-1)
		}
		if len(w.rows()) != 5 {
			t.Errorf("the table holds %d rows, want 5", len(w.rows()))
		}
	})
}

func TestPoisonOfAPartitionThatGoesAway(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 50)
		w.produceRaw(1, "{")
		w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool {
			return op.Method == faultstore.MethodPutIfAbsent
		}, faultstore.Delay(2*time.Second)))
		a, b := w.start(), w.start()
		aErr, bErr := a.wait(), b.stopped()
		if !errors.As(aErr, new(*pipeline.PoisonError)) && !errors.As(bErr, new(*pipeline.PoisonError)) {
			t.Errorf("the runs ended with %v and %v, want a *PoisonError", aErr, bErr)
		}
		w.untilEnd(skip)
		w.exactlyOnce()
	})
}

// stopped asks for a stop and returns what the worker ended with.
func (k *worker) stopped() error {
	k.w.t.Helper()
	k.cancel()
	return k.wait()
}

func TestMessageWithTwoValuesAndLargeKeyIsPoison(t *testing.T) {
	scenario(t, 1, func(w *world) {
		kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{{Topic: topic, Key: make([]byte, 1<<16), Value: []byte(`{"n":1} {"n":2}`)}})
		_ = w.wantPoison()
		w.untilEnd(skip)
		w.exactlyOnce()
	})
}
