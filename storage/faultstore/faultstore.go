// Package faultstore decorates a storage.Store so that a test decides what happens to each operation: it fails, it is
// done and its answer is lost, it is late, or it hangs.
//
// It owns the numbering of operations and their trace. Every call to the store is an operation, in the order in which
// calls start: "list", "get", "put", "put-if-absent", "create", "delete"; and of the streams, "write", "close" and
// "abort". With one goroutine the numbers are the same in every run, so a test can fail operation i for i = 0, 1, ...
// until a run has fewer operations.
//
// It promises that an operation refused by a plan never reaches the inner store, and that an injected error is
// ErrInjected and whatever error it was given. A stream with a failed write never becomes an object.
//
// It is for tests only: it never starts a goroutine, keeps its trace for ever, and is slow.
package faultstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"kafkadelta/storage"
)

// ErrInjected is in every injected error, and in no other.
var ErrInjected = errors.New("injected fault")

// Methods of Op.
const (
	MethodList        = "list" // the name is the prefix
	MethodGet         = "get"
	MethodPut         = "put"
	MethodPutIfAbsent = "put-if-absent"
	MethodCreate      = "create"
	MethodDelete      = "delete"
	MethodWrite       = "write" // of a stream, as are the next two
	MethodClose       = "close"
	MethodAbort       = "abort"
)

// Outcome says what became of an operation in the inner store, whatever its caller was told.
type Outcome string

const (
	Running   Outcome = "running"   // not answered yet, or waiting
	Passed    Outcome = "passed"    // done, answered truly
	Erred     Outcome = "erred"     // the inner store itself failed
	Refused   Outcome = "refused"   // injected error, not done
	Landed    Outcome = "landed"    // done, then an injected error
	Postponed Outcome = "postponed" // injected error; done by LandPostponed, if ever
	Cancelled Outcome = "cancelled" // the context ended while the plan let it wait; not done
)

// Op is one operation.
type Op struct {
	Index   int // from 0, in the order of starting
	Method  string
	Name    string
	Outcome Outcome
	Err     error // what the caller was told
}

// Action is what a plan does to one operation. The zero Action lets it pass. Delay comes before the rest and ends early
// with the context's error.
type Action struct {
	Delay    time.Duration
	Block    bool  // wait until the context is done, then answer with its error; not done
	Err      error // the answer; without Landed the operation is not done
	Landed   bool  // do it first, then answer with Err
	Postpone bool  // answer with Err, do it when LandPostponed is called (put, put-if-absent, delete; others are refused)
}

// Pass lets the operation pass.
func Pass() Action { return Action{} }

// Fail answers with an error and does nothing; nil is ErrInjected alone.
func Fail(err error) Action { return Action{Err: injected(err)} }

// LandThenFail does the operation and then answers with an error: the answer was lost. A get breaks off halfway through
// its bytes, a list after its last object.
func LandThenFail(err error) Action { return Action{Err: injected(err), Landed: true} }

// FailThenLand answers with an error at once, and the operation lands when the test calls LandPostponed: the request
// was still on its way.
func FailThenLand(err error) Action { return Action{Err: injected(err), Postpone: true} }

// Delay lets the operation pass after d.
func Delay(d time.Duration) Action { return Action{Delay: d} }

// Block keeps the operation until its context is done.
func Block() Action { return Action{Block: true} }

func injected(err error) error {
	switch {
	case err == nil:
		return ErrInjected
	case errors.Is(err, ErrInjected):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrInjected, err)
	}
}

// Plan decides on an operation before it is done. It is called from the goroutines of the callers, one at a time, and
// must not use the Store; that is the hook's part.
type Plan func(Op) Action

// FailAt fails operation i; landed tells whether it is done first.
func FailAt(i int, err error, landed bool) Plan {
	return func(op Op) Action {
		if op.Index == i {
			return failure(err, landed)
		}
		return Pass()
	}
}

// FailFrom fails operation i as FailAt does and refuses all later ones: to the inner store that is what a process looks
// like that died there.
func FailFrom(i int, err error, landed bool) Plan {
	return func(op Op) Action {
		switch {
		case op.Index == i:
			return failure(err, landed)
		case op.Index > i:
			return Fail(err)
		default:
			return Pass()
		}
	}
}

func failure(err error, landed bool) Action {
	if landed {
		return LandThenFail(err)
	}
	return Fail(err)
}

// When applies the action to the operations that match.
func When(match func(Op) bool, action Action) Plan {
	return func(op Op) Action {
		if match(op) {
			return action
		}
		return Pass()
	}
}

// Once applies the action to the first operation that matches.
func Once(match func(Op) bool, action Action) Plan {
	used := false
	return func(op Op) Action {
		if used || !match(op) {
			return Pass()
		}
		used = true
		return action
	}
}

// First asks the plans in order until one does not let the operation pass.
func First(plans ...Plan) Plan {
	return func(op Op) Action {
		for _, p := range plans {
			if a := p(op); a != Pass() {
				return a
			}
		}
		return Pass()
	}
}

// Store decorates another store. Its methods may be called from any goroutine.
type Store struct {
	inner storage.Store

	mu        sync.Mutex
	plan      Plan
	hook      func(Op)
	down      func(Op) bool
	ops       []Op
	postponed []func() error
}

var _ storage.Store = (*Store)(nil)

// New decorates inner; everything passes until told otherwise.
func New(inner storage.Store) *Store { return &Store{inner: inner} }

// Inner returns the decorated store, to look at or change objects without being an operation.
func (s *Store) Inner() storage.Store { return s.inner }

// SetPlan replaces the plan; nil lets everything pass. The numbering goes on.
func (s *Store) SetPlan(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = p
}

// FailAt sets the plan FailAt(i, err, landed).
func (s *Store) FailAt(i int, err error, landed bool) { s.SetPlan(FailAt(i, err, landed)) }

// SetHook has f called before each operation, in the goroutine of its caller and before the plan is asked. It may use
// all methods of this store; its own operations are hooked as well, so use Inner for those that should not be.
func (s *Store) SetHook(f func(Op)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Down refuses all operations that match, nil for all of them, until Up. It goes before the plan.
func (s *Store) Down(match func(Op) bool) {
	if match == nil {
		match = func(Op) bool { return true }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = match
}

// Up ends Down.
func (s *Store) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = nil
}

// Ops returns the trace so far.
func (s *Store) Ops() []Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ops)
}

// Reset forgets the trace, so that the next operation is number 0, and what was postponed.
func (s *Store) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops, s.postponed = nil, nil
}

// LandPostponed does the postponed operations in the order in which they were asked for and returns their answers,
// which nobody waits for any more.
func (s *Store) LandPostponed() []error {
	s.mu.Lock()
	todo := s.postponed
	s.postponed = nil
	s.mu.Unlock()
	answers := make([]error, len(todo))
	for i, do := range todo {
		answers[i] = do()
	}
	return answers
}

// begin numbers an operation and asks hook and plan about it.
func (s *Store) begin(method, name string) (Op, Action) {
	s.mu.Lock()
	op := Op{Index: len(s.ops), Method: method, Name: name, Outcome: Running}
	s.ops = append(s.ops, op)
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(op)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil && s.down(op) {
		return op, Fail(errors.New("the store is down"))
	}
	if s.plan == nil {
		return op, Pass()
	}
	return op, s.plan(op)
}

// end writes the outcome into the trace and returns err, with the operation in it when it was injected.
func (s *Store) end(op Op, outcome Outcome, err error) error {
	if errors.Is(err, ErrInjected) {
		err = fmt.Errorf("operation %d (%s %q): %w", op.Index, op.Method, op.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if op.Index < len(s.ops) { // else Reset came in between
		s.ops[op.Index].Outcome, s.ops[op.Index].Err = outcome, err
	}
	return err
}

// wait serves the action's delay or block.
func wait(ctx context.Context, a Action) error {
	if a.Block {
		<-ctx.Done()
		return ctx.Err()
	}
	if a.Delay <= 0 {
		return nil
	}
	timer := time.NewTimer(a.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run takes an operation without result through its plan. Postponing needs later: the operation that a context cannot
// stop any more; nil means that this operation cannot be postponed.
func (s *Store) run(ctx context.Context, method, name string, do, later func() error) error {
	op, action := s.begin(method, name)
	if err := wait(ctx, action); err != nil {
		return s.end(op, Cancelled, err)
	}
	switch {
	case action.Postpone && later != nil && ctx.Err() == nil:
		s.mu.Lock()
		s.postponed = append(s.postponed, later)
		s.mu.Unlock()
		return s.end(op, Postponed, injected(action.Err))
	case action.Landed:
		if err := do(); err != nil {
			// Its text only, because the answer is lost: the caller must not find fs.ErrExist in it.
			return s.end(op, Erred, fmt.Errorf("%w (the lost answer: %v)", injected(action.Err), err)) //nolint:errorlint // see above
		}
		return s.end(op, Landed, injected(action.Err))
	case action.Err != nil:
		return s.end(op, Refused, injected(action.Err))
	}
	if err := do(); err != nil {
		return s.end(op, Erred, err)
	}
	return s.end(op, Passed, nil)
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	kept := bytes.Clone(data)
	return s.run(ctx, MethodPut, name,
		func() error { return s.inner.Put(ctx, name, data) },
		func() error { return s.inner.Put(context.WithoutCancel(ctx), name, kept) })
}

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	kept := bytes.Clone(data)
	return s.run(ctx, MethodPutIfAbsent, name,
		func() error { return s.inner.PutIfAbsent(ctx, name, data) },
		func() error { return s.inner.PutIfAbsent(context.WithoutCancel(ctx), name, kept) })
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.run(ctx, MethodDelete, name,
		func() error { return s.inner.Delete(ctx, name) },
		func() error { return s.inner.Delete(context.WithoutCancel(ctx), name) })
}

// List implements storage.Store. The operation is numbered when the ranging starts, and each time it does.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		broken := false // by the consumer, who must not be called again
		err := s.run(ctx, MethodList, prefix, func() error {
			for info, err := range s.inner.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				if broken = !yield(info, nil); broken {
					return nil
				}
			}
			return nil
		}, nil)
		if err != nil && !broken {
			yield(storage.ObjectInfo{}, err)
		}
	}
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	op, action := s.begin(MethodGet, name)
	if err := wait(ctx, action); err != nil {
		return nil, s.end(op, Cancelled, err)
	}
	if action.Err != nil && !action.Landed {
		return nil, s.end(op, Refused, injected(action.Err))
	}
	r, err := s.inner.Get(ctx, name, offset, length)
	if err != nil {
		return nil, s.end(op, Erred, err)
	}
	if !action.Landed {
		return r, s.end(op, Passed, nil)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, s.end(op, Erred, err)
	}
	broken := s.end(op, Landed, injected(action.Err))
	return io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), errReader{broken})), nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
