package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

// unfit is a store that is down at first, and then knows that its writes are not safe.
type unfit struct {
	*memory.Store
	asked int
}

func (u *unfit) CheckWrites(context.Context) error {
	if u.asked++; u.asked < 3 {
		return errors.New("no answer")
	}
	return errors.ErrUnsupported
}

// TestOpenAsksTheStore: a store that is down is asked again; its no ends the start, before anything is read or written.
func TestOpenAsksTheStore(t *testing.T) {
	store := &unfit{Store: memory.New()}
	_, err := sink.Open(t.Context(), store, sink.DefaultConfig(), sink.Options{Name: "n", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	var final *sink.Error
	if !errors.As(err, &final) || !errors.Is(err, errors.ErrUnsupported) || store.asked != 3 {
		t.Errorf("got %v after %d questions, want a final refusal after 3", err, store.asked)
	}
}

// TestTableMadeWhileItsMakingIsRefused: a worker may wait long for the answer whether it may make the table. What forbids it may be that
// others have made it meanwhile and reported their offsets; then it is there, and is opened. (Found by the simulation, seed 45.)
func TestTableMadeWhileItsMakingIsRefused(t *testing.T) {
	for _, made := range []bool{true, false} {
		t.Run(fmt.Sprintf("made %v", made), func(t *testing.T) {
			b := newBench(t)
			schema, err := delta.ParseDDL(b.columns)
			b.check(err)
			refused := &checkpoint.RefusedError{Cause: "there are offsets"}
			creating := func(context.Context) error {
				if made {
					b.open()
				}
				return refused
			}
			_, err = sink.Open(t.Context(), b.store, b.cfg, sink.Options{
				Name: stream, Create: schema, Engine: "kafkadelta/test", Now: b.now, Log: slog.New(slog.DiscardHandler),
				Events: sink.Events{Creating: creating},
			})
			if made && err != nil {
				t.Errorf("got %v for a table that is there", err)
			}
			if !made && !errors.Is(err, refused) {
				t.Errorf("got %v, want the refusal", err)
			}
		})
	}
}
