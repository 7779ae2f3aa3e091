package faultstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/storage"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New: func(*testing.T) storage.Store { return faultstore.New(memory.New()) },
		Reopen: func(_ *testing.T, s storage.Store) storage.Store {
			return faultstore.New(s.(*faultstore.Store).Inner())
		},
		StreamMemory: -1,
	})
}

// script does one operation of each kind, in a fixed order, and stops at the first error.
func script(ctx context.Context, s storage.Store) error {
	if err := s.Put(ctx, "put", []byte("0123456789")); err != nil {
		return err
	}
	if err := s.PutIfAbsent(ctx, "absent", []byte("x")); err != nil {
		return err
	}
	w, err := s.Create(ctx, "created")
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte("head")); err != nil {
		return errors.Join(err, w.Abort())
	}
	if _, err := w.Write([]byte("tail")); err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Close(); err != nil {
		return err
	}
	for _, err := range s.List(ctx, "p", "") {
		if err != nil {
			return err
		}
	}
	if _, err := read(ctx, s, "put"); err != nil {
		return err
	}
	return s.Delete(ctx, "absent")
}

const scriptOps = 9

func read(ctx context.Context, s storage.Store, name string) (string, error) {
	r, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

func names(t *testing.T, s storage.Store) string {
	t.Helper()
	var found []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, info.Name)
	}
	return strings.Join(found, " ")
}

func TestTrace(t *testing.T) {
	s := faultstore.New(memory.New())
	var hooked []int
	s.SetHook(func(op faultstore.Op) { hooked = append(hooked, op.Index) })
	must(t, script(t.Context(), s))
	want := []string{"put put", "put-if-absent absent", "create created", "write created", "write created", "close created", "list p", "get put", "delete absent"}
	ops := s.Ops()
	if len(ops) != len(want) || len(ops) != scriptOps {
		t.Fatalf("traced %d operations, want %d: %v", len(ops), len(want), ops)
	}
	for i, op := range ops {
		if op.Index != i || op.Method+" "+op.Name != want[i] || op.Outcome != faultstore.Passed || op.Err != nil || hooked[i] != i {
			t.Errorf("operation %d is %+v, want %s", i, op, want[i])
		}
	}
	s.Reset()
	if len(s.Ops()) != 0 {
		t.Error("Reset kept the trace")
	}
}

// TestFailAtEveryStep fails each operation both ways and looks at what is in the inner store.
func TestFailAtEveryStep(t *testing.T) {
	cause := errors.New("the cause")
	refused := []string{"", "put", "absent put", "absent put", "absent put", "absent put", "absent created put", "absent created put", "absent created put"}
	landed := []string{"put", "absent put", "absent put", "absent put", "absent put", "absent created put", "absent created put", "absent created put", "created put"}
	for i := range scriptOps {
		for _, land := range []bool{false, true} {
			t.Run(fmt.Sprintf("operation %d, landed %v", i, land), func(t *testing.T) {
				inner := memory.New()
				s := faultstore.New(inner)
				s.FailAt(i, cause, land)
				err := script(t.Context(), s)
				if !errors.Is(err, faultstore.ErrInjected) || !errors.Is(err, cause) {
					t.Fatalf("got %v", err)
				}
				want, outcome := refused[i], faultstore.Refused
				if land {
					want, outcome = landed[i], faultstore.Landed
				}
				if got := names(t, inner); got != want {
					t.Errorf("the store holds %q, want %q", got, want)
				}
				if op := s.Ops()[i]; op.Outcome != outcome || !errors.Is(op.Err, cause) {
					t.Errorf("traced %+v, want %s", op, outcome)
				}
			})
		}
	}
	s := faultstore.New(memory.New())
	s.FailAt(scriptOps, nil, false)
	must(t, script(t.Context(), s))
}

func TestFailFrom(t *testing.T) {
	inner := memory.New()
	s := faultstore.New(inner)
	s.SetPlan(faultstore.FailFrom(1, nil, true))
	must(t, s.Put(t.Context(), "a", nil))
	wantInjected(t, s.Put(t.Context(), "b", nil))
	wantInjected(t, s.Put(t.Context(), "c", nil))
	if got := names(t, inner); got != "a b" {
		t.Fatalf("the store holds %q", got)
	}
}

func TestLostAnswerHidesTheInnerError(t *testing.T) {
	s := faultstore.New(memory.New())
	must(t, s.Put(t.Context(), "x", nil))
	s.SetPlan(faultstore.When(on(faultstore.MethodPutIfAbsent), faultstore.LandThenFail(nil)))
	err := s.PutIfAbsent(t.Context(), "x", nil)
	wantInjected(t, err)
	if errors.Is(err, fs.ErrExist) {
		t.Errorf("the lost answer came through: %v", err)
	}
	if op := s.Ops()[1]; op.Outcome != faultstore.Erred {
		t.Errorf("traced %+v", op)
	}
}

func TestReadsThatBreakOff(t *testing.T) {
	s := faultstore.New(memory.New())
	must(t, s.Put(t.Context(), "x", []byte("0123456789")))
	s.SetPlan(faultstore.When(on(faultstore.MethodGet), faultstore.LandThenFail(nil)))
	got, err := read(t.Context(), s, "x")
	wantInjected(t, err)
	if got != "01234" {
		t.Errorf("read %q, want the first half", got)
	}
	s.SetPlan(faultstore.When(on(faultstore.MethodList), faultstore.LandThenFail(nil)))
	listed := 0
	for info, listErr := range s.List(t.Context(), "", "") {
		if err = listErr; err == nil && info.Name == "x" {
			listed++
		}
	}
	wantInjected(t, err)
	if listed != 1 {
		t.Errorf("listed %d objects before the error", listed)
	}
	for _, err := range s.List(t.Context(), "", "") {
		_ = err
		break // must not be called again with the error
	}
}

func TestFailThenLand(t *testing.T) {
	inner := memory.New()
	s := faultstore.New(inner)
	s.SetPlan(faultstore.Once(on(faultstore.MethodPutIfAbsent), faultstore.FailThenLand(nil)))
	ctx, cancel := context.WithCancel(t.Context())
	data := []byte("late")
	wantInjected(t, s.PutIfAbsent(ctx, "x", data))
	cancel()
	copy(data, "XXXX")
	if got := names(t, inner); got != "" {
		t.Fatalf("landed at once: %q", got)
	}
	if answers := s.LandPostponed(); len(answers) != 1 || answers[0] != nil {
		t.Fatalf("answers %v", answers)
	}
	if got, err := read(t.Context(), inner, "x"); err != nil || got != "late" {
		t.Fatalf("landed as %q, %v", got, err)
	}
	if op := s.Ops()[0]; op.Outcome != faultstore.Postponed {
		t.Errorf("traced %+v", op)
	}
	if err := s.PutIfAbsent(t.Context(), "x", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the second try: %v", err)
	}
	if answers := s.LandPostponed(); len(answers) != 0 {
		t.Errorf("landed twice: %v", answers)
	}
}

// TestStreamWithAHole goes on after a failed write, as careless code does.
func TestStreamWithAHole(t *testing.T) {
	inner := memory.New()
	s := faultstore.New(inner)
	s.SetPlan(faultstore.Once(on(faultstore.MethodWrite), faultstore.Fail(nil)))
	w, err := s.Create(t.Context(), "x")
	must(t, err)
	_, err = w.Write([]byte("head"))
	wantInjected(t, err)
	if _, err := w.Write([]byte("tail")); err == nil {
		t.Error("the next write succeeded")
	}
	if err := w.Close(); err == nil {
		t.Error("Close succeeded")
	}
	must(t, w.Abort())
	if got := names(t, inner); got != "" {
		t.Fatalf("the store holds %q", got)
	}
}

// TestNothingStaysStaged counts the streams of the inner store that are never closed nor aborted.
func TestNothingStaysStaged(t *testing.T) {
	for i := range scriptOps {
		for _, landed := range []bool{false, true} {
			inner := &counting{Store: memory.New()}
			s := faultstore.New(inner)
			s.SetPlan(faultstore.First(faultstore.FailAt(i, nil, landed), faultstore.When(on(faultstore.MethodAbort), faultstore.Fail(nil))))
			wantInjected(t, script(t.Context(), s))
			if inner.open != 0 {
				t.Errorf("operation %d, landed %v: %d streams stay open", i, landed, inner.open)
			}
		}
	}
}

type counting struct {
	storage.Store
	open int
}

func (c *counting) Create(ctx context.Context, name string) (storage.Writer, error) {
	w, err := c.Store.Create(ctx, name)
	c.open++
	return &countingWriter{w, c}, err
}

type countingWriter struct {
	storage.Writer
	c *counting
}

func (w *countingWriter) Close() error { w.c.open--; return w.Writer.Close() }
func (w *countingWriter) Abort() error { w.c.open--; return w.Writer.Abort() }

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultstore.New(memory.New())
		s.SetPlan(func(faultstore.Op) faultstore.Action { return faultstore.Delay(time.Minute) })
		start := time.Now()
		must(t, s.Put(t.Context(), "x", nil))
		if d := time.Since(start); d != time.Minute {
			t.Errorf("took %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Put(ctx, "y", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, faultstore.ErrInjected) {
			t.Errorf("got %v", err)
		}
		if got := names(t, s.Inner()); got != "x" {
			t.Errorf("the store holds %q", got)
		}
		if op := s.Ops()[1]; op.Outcome != faultstore.Cancelled {
			t.Errorf("traced %+v", op)
		}
	})
}

func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultstore.New(memory.New())
		ctx, cancel := context.WithCancel(t.Context())
		w, err := s.Create(ctx, "x")
		must(t, err)
		s.SetPlan(func(faultstore.Op) faultstore.Action { return faultstore.Block() })
		var wg sync.WaitGroup
		for name, call := range map[string]func() error{
			"put":   func() error { return s.Put(ctx, "x", nil) },
			"get":   func() error { _, err := s.Get(ctx, "x", 0, -1); return err },
			"close": w.Close,
			"list": func() error {
				for _, err := range s.List(ctx, "", "") {
					return err
				}
				return nil
			},
		} {
			wg.Go(func() {
				if err := call(); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: got %v", name, err)
				}
			})
		}
		synctest.Wait()
		for _, op := range s.Ops()[1:] {
			if op.Outcome != faultstore.Running {
				t.Errorf("not blocked: %+v", op)
			}
		}
		cancel()
		wg.Wait()
		if got := names(t, s.Inner()); got != "" {
			t.Errorf("the store holds %q", got)
		}
	})
}

func TestDownAndUp(t *testing.T) {
	s := faultstore.New(memory.New())
	s.Down(func(op faultstore.Op) bool { return strings.HasPrefix(op.Name, "_delta_log/") })
	wantInjected(t, s.Put(t.Context(), "_delta_log/x", nil))
	must(t, s.Put(t.Context(), "data", nil))
	s.Down(nil)
	wantInjected(t, s.Put(t.Context(), "data", nil))
	s.Up()
	must(t, s.Put(t.Context(), "_delta_log/x", nil))
}

// TestHookActs commits a foreign version just before ours, which is what hooks are for.
func TestHookActs(t *testing.T) {
	s := faultstore.New(memory.New())
	s.SetHook(func(op faultstore.Op) {
		if op.Method == faultstore.MethodPutIfAbsent {
			must(t, s.Inner().Put(t.Context(), op.Name, []byte("theirs")))
		}
	})
	if err := s.PutIfAbsent(t.Context(), "x", []byte("ours")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v", err)
	}
	if op := s.Ops()[0]; op.Outcome != faultstore.Erred || !errors.Is(op.Err, fs.ErrExist) {
		t.Errorf("traced %+v", op)
	}
}

func TestManyGoroutines(t *testing.T) {
	s := faultstore.New(memory.New())
	s.SetPlan(func(op faultstore.Op) faultstore.Action {
		if op.Index%3 == 0 {
			return faultstore.Fail(nil)
		}
		return faultstore.Pass()
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 30 {
				_ = s.Put(t.Context(), "x", nil) // a third of them fails
			}
		})
	}
	wg.Wait()
	ops := s.Ops()
	refused := 0
	for i, op := range ops {
		if op.Index != i {
			t.Fatalf("operation %d has index %d", i, op.Index)
		}
		if op.Outcome == faultstore.Refused {
			refused++
		}
	}
	if len(ops) != 240 || refused != 80 {
		t.Fatalf("%d operations, %d refused", len(ops), refused)
	}
}

func on(methods ...string) func(faultstore.Op) bool {
	return func(op faultstore.Op) bool { return slices.Contains(methods, op.Method) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantInjected(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, faultstore.ErrInjected) {
		t.Fatalf("got error %v, want an injected one", err)
	}
}
