package expr

import (
	"errors"
	"testing"
	"time"
)

// FuzzExpression holds that no text makes the parser, the compiler or the evaluation panic, and that a refusal points into
// the text.
func FuzzExpression(f *testing.F) {
	fixture, rb := readFixture(f)
	for i, c := range fixture.Cases {
		if i%3 == 0 || i < 600 {
			f.Add(c.E)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return
		}
		p, err := compile(text, testSchema, func(_ *compiler, n *node) *node { return n })
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Pos < 0 || e.Pos > len(e.Text) || e.Reason == "" {
				t.Fatalf("%q: %v", text, err)
			}
			_ = e.Error()
			return
		}
		rows := p.Bind(rb, time.Unix(1e9, 0))
		for row := range int(rb.NumRows()) {
			_ = rows.describe(row)
		}
	})
}
