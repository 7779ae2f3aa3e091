package pipeline

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

// turning is a dispatcher with one lane that does not run, whose table is to follow a schema with one more column.
func turning(t *testing.T) (*dispatcher, checkpoint.Partition, *lane) {
	t.Helper()
	d, one := claimed(t, memory.New())
	l := &lane{d: d, in: make(chan message, laneQueue)}
	l.want.Store(&setup{generation: 1, table: d.layout, layout: d.layout})
	d.lanes = []*lane{l}
	d.parts[one] = &part{Partition: one, next: 5, heldUp: true, lag: d.Metrics.lag(one)}
	d.turn = schemaOf(t, "n BIGINT, more STRING")
	return d, one, l
}

func schemaOf(t *testing.T, columns string) *arrow.Schema {
	t.Helper()
	schema, err := delta.ParseDDL(columns)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestLanesTurnOnceTheyHoldNothing: to what the table becomes, which is not the schema that was wanted where the table has changed meanwhile.
func TestLanesTurnOnceTheyHoldNothing(t *testing.T) {
	for name, changes := range map[string]bool{"": false, "the table changes meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			d, one, l := turning(t)
			d.epoch.parts[one] = struct{}{}
			if d.turnLanes(); d.turning {
				t.Fatal("the lanes turn, and hold messages")
			}
			clear(d.epoch.parts)
			was := d.layout
			d.turnLanes()
			if !d.turning || d.mayPoll() {
				t.Fatalf("turning %v, and messages are polled: %v", d.turning, d.mayPoll())
			}
			if changes {
				changed, err := was.Toward(schemaOf(t, "n BIGINT, other STRING"), sink.EvolveAdd)
				if err != nil {
					t.Fatal(err)
				}
				d.relayout(changed)
			}
			eventsUntil(t, d, func() bool { return !d.turning })
			d.wait.Wait()
			got := l.wanted()
			if got.generation != 2 || got.table != d.layout || changes != (got.layout == d.layout) || got.layout == was {
				t.Errorf("the lane is in generation %d, under the table's layout %v, under that of before %v", got.generation, got.layout == d.layout, got.layout == was)
			}
			if p := d.parts[one]; d.turn != nil || !d.mayPoll() || d.Now().Before(p.heldUntil) {
				t.Error("the messages are not read again at once")
			}
		})
	}
}

// TestNothingGoesToLanesThatTurn: what was lost of a partition is passed over once they have turned, or they would drop that it was.
func TestNothingGoesToLanesThatTurn(t *testing.T) {
	d, one, l := turning(t)
	d.turnLanes()
	d.parts[one].lostTo = 10
	if d.passLost(); len(l.in) > 0 || d.parts[one].lostTo != 10 {
		t.Error("a lane has got something, and then drops all that it has")
	}
	eventsUntil(t, d, func() bool { return !d.turning })
	d.wait.Wait()
}

// TestLanesStayWhereTheTableCannotFollow: the messages stand for a while, and ask again.
func TestLanesStayWhereTheTableCannotFollow(t *testing.T) {
	d, one, l := turning(t)
	d.turn = schemaOf(t, "N BIGINT") // differs by its case alone
	until := d.Now().Add(heldUpPause)
	d.parts[one].heldUntil = until
	d.turnLanes()
	eventsUntil(t, d, func() bool { return !d.turning })
	d.wait.Wait()
	if p := d.parts[one]; d.turn != nil || d.failure != nil || l.wanted().generation != 1 || !p.heldUp || !p.heldUntil.Equal(until) {
		t.Errorf("turn %v, failure %v, generation %d, held until %v", d.turn, d.failure, l.wanted().generation, p.heldUntil)
	}
}
