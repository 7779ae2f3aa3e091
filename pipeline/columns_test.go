package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	compute "kafkadelta/columns"
	"kafkadelta/decode"
	decodejson "kafkadelta/decode/json"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// computing has a worker compute n of a field that the table does not have, and keep only some messages.
func computing(s *setup) {
	filter := decode.Config{
		Filter:  "keep IS NULL OR keep <> 'no'",
		Columns: map[string]decode.Column{"n": {Expression: "CAST(number AS BIGINT)"}, "number": {Drop: true, Type: "STRING"}, "keep": {Drop: true, Type: "STRING"}},
	}
	s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
		made, err := compute.New(l.Schema, filter, compute.Types{"number": arrow.BinaryTypes.String, "keep": arrow.BinaryTypes.String}, true)
		if err != nil {
			return nil, nil, err
		}
		plan, err := decode.NewPlan(made.Schema(), made.Config())
		if err != nil {
			return nil, nil, err
		}
		return decodejson.New(plan), made, nil
	}
}

// produceNumber sends a message that must become a row.
func (w *world) produceNumber(partition int32) {
	w.t.Helper()
	w.next++
	w.want[place{partition, w.produceRaw(partition, fmt.Sprintf(`{"number": "%d", "keep": "yes"}`, w.next))}] = w.next
}

// told adds up what the spans of the table say.
func (w *world) told() (sum checkpoint.Span) {
	w.t.Helper()
	for v := range w.version() + 1 {
		for _, u := range w.units(v) {
			left := int64(0)
			for _, s := range u.Spans {
				left += s.Filtered
				sum.Records, sum.Rows, sum.Skipped, sum.Dead, sum.Filtered = sum.Records+s.Records, sum.Rows+s.Rows, sum.Skipped+s.Skipped, sum.Dead+s.Dead, sum.Filtered+s.Filtered
			}
			if (left > 0) != (u.Version == 3) {
				w.t.Errorf("version %d: a record of version %d with %d filtered messages", v, u.Version, left)
			}
		}
	}
	return sum
}

// TestFilterAndExpressions: what the filter leaves out is counted, what an expression fails for is a dead letter, and all others are rows.
func TestFilterAndExpressions(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		m.poison(0, 2) // not JSON, and a number that is missing
		for i := range 40 {
			p := int32(i % 2)
			w.produceRaw(p, `{"number": "no number, and nobody asks", "keep": "no"}`)
			w.produceNumber(p)
			if i%10 == 0 {
				m.bad[place{p, w.produceRaw(p, fmt.Sprintf(`{"number": "x%d"}`, i))}] = "expression_failed"
			}
		}
		w.produceRaw(1, `{"number": "1", "keep": "no"}`)
		m.bad[place{1, w.produceRaw(1, `{"text": "no number, behind messages that are left out"}`)}] = "rejected_by_table"
		k := m.run(computing)
		m.exactlyOnce()
		if got := w.told(); got != (checkpoint.Span{Records: 88, Rows: 40, Dead: 7, Filtered: 41}) {
			t.Errorf("the spans count %+v", got)
		}
		if got := k.metric("kafkadelta_filtered_messages_total"); got != 41 {
			t.Errorf("the metric counts %v filtered messages", got)
		}
		for at, rows := range m.rows() {
			if m.bad[at] == "expression_failed" && rows[0].path != "n" {
				t.Errorf("the dead letter at %v names %q", at, rows[0].path)
			}
		}
	})
}

// TestNothingIsKept: messages that are all left out move the offsets, and make no files.
func TestNothingIsKept(t *testing.T) {
	scenario(t, 1, func(w *world) {
		for range 10 {
			w.produceRaw(0, `{"number": "1", "keep": "no"}`)
		}
		w.untilEnd(computing)
		w.exactlyOnce()
		if got := w.told(); got != (checkpoint.Span{Records: 10, Filtered: 10}) {
			t.Errorf("the spans count %+v", got)
		}
		w.produceNumber(0)
		w.untilEnd(computing)
		w.exactlyOnce()
	})
}

// TestExpressionFails: under on_error: fail the partition ends before the message, and what the filter leaves out behind it is not counted yet.
func TestExpressionFails(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produceRaw(0, `{"number": "1", "keep": "no"}`)
		w.produceNumber(0)
		w.produceRaw(0, `{"number": "x", "keep": "yes"}`)
		w.produceRaw(0, `{"number": "1", "keep": "no"}`)
		later := maps.Clone(w.want)
		w.next++
		later[place{0, w.produceRaw(0, fmt.Sprintf(`{"number": "%d"}`, w.next))}] = w.next
		err := w.start(computing, func(s *setup) { s.UntilEnd = true }).wait()
		poison, ok := errors.AsType[*pipeline.PoisonError](err)
		if !ok || !strings.Contains(err.Error(), `events-topic[0] offset 2: column n: the expression CAST(number AS BIGINT) fails: "x" cannot be cast to BIGINT`) {
			t.Fatalf("the run ends with %v", poison)
		}
		w.exactlyOnce()
		if got := w.told(); got != (checkpoint.Span{Records: 2, Rows: 1, Filtered: 1}) {
			t.Errorf("the spans count %+v", got)
		}
		w.want = later
		w.untilEnd(computing, skip)
		w.exactlyOnce()
		if got := w.told(); got != (checkpoint.Span{Records: 5, Rows: 2, Skipped: 1, Filtered: 2}) {
			t.Errorf("the spans count %+v", got)
		}
	})
}
