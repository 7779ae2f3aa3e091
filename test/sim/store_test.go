package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"kafkadelta/delta"
)

var (
	errDead = errors.New("the process is dead")
	errLost = errors.New("the answer was lost")
	errDown = errors.New("the store answers with an error")
)

// trouble is how unreliable a process finds the store, in shares of its requests.
type trouble struct {
	slow          time.Duration // of a request, on average
	fail          float64       // refused
	lose          float64       // of writes: their answers are lost. They landed, land later, or never do
	veryOld       float64       // of writes that land later: after minutes
	cut           bool          // every request hangs
	undeliverable bool          // every write to the log hangs
}

// link is one process's connection to the store that all share. What has left the process may arrive whatever becomes of it.
type link struct {
	*shelf
	process *process

	mu  sync.Mutex
	rnd *rand.Rand
	trouble
	holds   bool          // the next proposal
	holding bool          // one was held up
	stall   chan struct{} // the next such request stands still until it is closed; nil: none does
	stalls  func(what, name string) bool
	stalled bool // one does
}

func (l *link) set(t trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble, l.holds, l.holding = t, false, false
}

// fate is what the network has in mind for one request.
type fate struct {
	there, back        time.Duration
	fail, lose         bool
	lands              int           // of a request without an answer: 0 it has landed, 1 it lands later, 2 never
	late               time.Duration // when
	cut, undeliverable bool
}

func (l *link) fate(writes bool) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	spread := func(d time.Duration) time.Duration { return time.Duration(float64(d) * (0.5 + l.rnd.Float64())) }
	f := fate{there: spread(l.slow / 2), back: spread(l.slow / 2), cut: l.cut, undeliverable: l.undeliverable}
	f.fail = l.rnd.Float64() < l.trouble.fail
	f.lose = writes && l.rnd.Float64() < l.trouble.lose
	f.lands = l.rnd.IntN(3)
	f.late = time.Duration(l.rnd.Int64N(int64(4 * time.Second)))
	if l.rnd.Float64() < l.veryOld {
		f.late *= 60
	}
	return f
}

// request does one request to the store. Of a write, do may run after the request has ended.
func (l *link) request(ctx context.Context, what, name string, writes bool, do func() error) error {
	if err := l.process.thawed(); err != nil {
		return err
	}
	f := l.fate(writes)
	if f.cut || writes && f.undeliverable && strings.HasPrefix(name, "_delta_log/") {
		if err := l.wait(ctx, 20*time.Second); err != nil {
			return err
		}
		return l.told(what, name, "no route", errDown)
	}
	if err := l.wait(ctx, f.there); err != nil {
		if writes && f.lands != 2 { // it was on its way
			l.later(f.late, what, name, do)
		}
		return l.told(what, name, "given up", err)
	}
	switch {
	case f.fail:
		return l.told(what, name, "refused", errDown)
	case f.lose && f.lands == 0:
		_ = do()
		return l.told(what, name, "landed, answer lost", errLost)
	case f.lose && f.lands == 1:
		l.later(f.late, what, name, do)
		return l.told(what, name, "under way, answer lost", errLost)
	case f.lose:
		return l.told(what, name, "lost", errLost)
	}
	err := do()
	if gone := l.wait(ctx, f.back); gone != nil {
		return l.told(what, name, "answer not waited for", gone)
	}
	return l.told(what, name, "", err)
}

// told writes the trace of an answered request, and lets the process hear of it.
func (l *link) told(what, name, how string, err error) error {
	outcome := how
	if how == "" {
		outcome = "ok"
		if err != nil {
			outcome = "no"
		}
	}
	l.w.trace.add(l.process.name, "%s %s%s: %s", what, l.name, name, outcome)
	if dead := l.process.thawed(); dead != nil {
		return dead
	}
	return err
}

// wait lets the request's time pass. A process that dies meanwhile, or is not interested any more, does not wait.
func (l *link) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.process.dead:
		return errDead
	}
}

// later lets a request arrive that nobody waits for any more.
func (l *link) later(d time.Duration, what, name string, do func() error) {
	l.w.others.Go(func() {
		time.Sleep(d)
		err := do()
		l.w.trace.add(l.process.name, "%s %s%s arrives late: %v", what, l.name, name, err == nil)
	})
}

func (l *link) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		if err := l.request(ctx, "list", prefix, false, func() error { return nil }); err != nil {
			yield(delta.ObjectInfo{}, err)
			return
		}
		for o, err := range l.store.List(ctx, prefix, after) {
			if !yield(o, err) {
				return
			}
		}
	}
}

func (l *link) Get(ctx context.Context, name string, offset, length int64) (r io.ReadCloser, err error) {
	if err := l.standStill(ctx, "get", name); err != nil {
		return nil, l.told("get", name, "given up", err)
	}
	err = l.request(ctx, "get", name, false, func() (err error) {
		r, err = l.store.Get(ctx, name, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (l *link) Put(ctx context.Context, name string, data []byte) error {
	data = bytes.Clone(data)
	if l.holdUp(name, data) {
		return l.told("put", name, "held up, answer lost", errLost)
	}
	return l.request(ctx, "put", name, true, func() error {
		err := l.store.Put(context.WithoutCancel(ctx), name, data)
		l.w.arrives(name, data)
		return err
	})
}

func (l *link) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	data = bytes.Clone(data)
	begun := time.Now()
	if err := l.standStill(ctx, "put if absent", name); err != nil {
		return l.told("put if absent", name, "given up", err)
	}
	return l.request(ctx, "put if absent", name, true, func() error { return l.putIfAbsent(l.process.name, name, data, begun) })
}

func (l *link) Delete(ctx context.Context, name string) error {
	return l.request(ctx, "delete", name, true, func() error { return l.remove(l.process.name, name) })
}

// Create collects a stream, and sends it at Close, as object stores do with what is not large.
func (l *link) Create(ctx context.Context, name string) (delta.Writer, error) {
	if err := l.process.thawed(); err != nil {
		return nil, err
	}
	return &stream{link: l, ctx: ctx, name: name}, nil
}

type stream struct {
	link *link
	ctx  context.Context //nolint:containedctx // a stream's, as the contract of stores has it
	name string
	data []byte
	done bool
}

func (s *stream) Write(p []byte) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	s.data = append(s.data, p...)
	return len(p), nil
}

func (s *stream) Close() error {
	if err := s.usable(); err != nil {
		return err
	}
	s.done = true
	return s.link.Put(s.ctx, s.name, s.data)
}

func (s *stream) Abort() error {
	s.done = true
	return nil
}

func (s *stream) usable() error {
	if s.done {
		return fmt.Errorf("writing %s: the stream is closed", s.name)
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	return s.link.process.thawed()
}
