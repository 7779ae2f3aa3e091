package sink_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

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
