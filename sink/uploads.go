package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kafkadelta/sink/datafile"
)

// Uploads puts data files in the background, for the Writers of one lane: they encode, and what they have encoded goes to the store meanwhile. A
// Writer waits only where so much waits for the store that there is no memory for more. An upload that fails says so in the next write to its file, or
// once the file is waited for.
type Uploads struct {
	limit func() int64 // bytes that may wait for the store, of all files together

	mu      sync.Mutex
	taken   sync.Cond // some bytes wait no more, or a goroutine has ended
	waiting []*upload // that have something to do
	working int       // goroutines
	bytes   int64
}

// putting is how many files are put, or deleted, at a time: a cloud takes some ten milliseconds for each, however small it is.
const putting = 16

// NewUploads returns one in which about so many bytes may wait for the store. The limit is asked anew each time.
func NewUploads(limit func() int64) *Uploads {
	u := &Uploads{limit: limit}
	u.taken.L = &u.mu
	return u
}

// Wait waits until no goroutine is at work, which is soon after all files were waited for or given up.
func (u *Uploads) Wait() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.working > 0 {
		u.taken.Wait()
	}
}

// upload is the object of one data file, as the file's encoder sees it: writes and Close. All but ctx, create, now and object is guarded by the
// mutex of Uploads.
type upload struct {
	in     *Uploads
	ctx    context.Context //nolint:containedctx // of the object
	cancel context.CancelFunc
	create func(context.Context) (datafile.Writer, error)
	now    func() time.Time
	open   *atomic.Int64   // of its Writer: what the objects of open files keep
	object datafile.Writer // of the goroutine at work

	queue    [][]byte
	sealed   bool      // nothing is written any more
	busy     bool      // it waits for a goroutine, or has one
	kept     int64     // bytes that the object keeps, since they are too few for a part
	err      error     // the first
	finished time.Time // just before the object was there; zero while it is not, or where nobody can tell
	over     bool
	done     chan struct{} // closed then
}

var errGivenUp = errors.New("the data file was given up")

func (u *Uploads) begin(ctx context.Context, now func() time.Time, open *atomic.Int64, create func(context.Context) (datafile.Writer, error)) *upload {
	f := &upload{in: u, create: create, now: now, open: open, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// Write takes bytes that are not changed any more, and waits while too many others wait.
func (f *upload) Write(p []byte) (int, error) {
	u := f.in
	u.mu.Lock()
	defer u.mu.Unlock()
	if f.err == nil && !u.hasRoom(len(p)) {
		defer context.AfterFunc(f.ctx, func() { // with the mutex: not between a look at the context and the Wait behind it
			u.mu.Lock()
			defer u.mu.Unlock()
			u.taken.Broadcast()
		})()
		for f.err == nil && !u.hasRoom(len(p)) && f.ctx.Err() == nil {
			u.taken.Wait()
		}
	}
	if err := cmp.Or(f.err, f.ctx.Err()); err != nil { // one that is over has a context that is done, too
		return 0, err
	}
	f.queue = append(f.queue, p)
	u.bytes += int64(len(p))
	f.wake()
	return len(p), nil
}

// holder is an object that keeps in memory what is too little for a part, as those of clouds do. Only who writes to it asks.
type holder interface{ Held() int }

// keep notes what the object keeps. It waits for the store once the file is sealed; before, only more rows would have it sent, so that
// it counts as memory of the open file.
func (f *upload) keep(bytes int64) {
	if f.sealed {
		f.in.bytes += bytes - f.kept
	} else {
		f.open.Add(bytes - f.kept)
	}
	f.kept = bytes
}

// keeps is what the object keeps, in bytes. Nil is a file without an object.
func (f *upload) keeps() int64 {
	if f == nil {
		return 0
	}
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	return f.kept
}

// hasRoom lets one write in where none waits, however large.
func (u *Uploads) hasRoom(n int) bool { return u.bytes == 0 || u.bytes+int64(n) <= u.limit() }

// seal has the object closed once all of it was put. It does not wait.
func (f *upload) seal() {
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	kept := f.kept
	f.keep(0)
	f.sealed = true
	f.keep(kept)
	f.wake()
}

// giveUp ends the upload, whatever it is at. It does not wait.
func (f *upload) giveUp() {
	f.cancel()
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	if !f.over {
		f.fail(errGivenUp)
		f.wake()
	}
}

// Close waits until the object is there.
func (f *upload) Close() error {
	f.seal()
	<-f.done
	return f.err
}

// Abort gives up, and waits until nothing is left of it.
func (f *upload) Abort() error {
	f.giveUp()
	<-f.done
	return nil
}

// wake gives the upload to a goroutine.
func (f *upload) wake() {
	u := f.in
	if f.busy || f.over {
		return
	}
	f.busy = true
	u.waiting = append(u.waiting, f)
	if u.working < putting {
		u.working++
		go u.work()
	}
}

func (u *Uploads) work() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.waiting) > 0 {
		f := u.waiting[0]
		u.waiting = slices.Delete(u.waiting, 0, 1)
		for f.busy {
			f.step()
		}
	}
	u.working--
	u.taken.Broadcast()
}

// step does what comes next. The mutex is held, but while the store is waited for.
func (f *upload) step() {
	u := f.in
	switch {
	case f.err != nil:
		for _, p := range f.queue {
			u.bytes -= int64(len(p))
		}
		f.queue = nil
		u.taken.Broadcast()
		u.mu.Unlock()
		if f.object != nil {
			_ = f.object.Abort() // why it is aborted says more
		}
		u.mu.Lock()
		f.end()
	case len(f.queue) > 0:
		p := f.queue[0]
		f.queue = slices.Delete(f.queue, 0, 1)
		u.mu.Unlock()
		err := f.put(p)
		kept := 0
		if h, ok := f.object.(holder); ok {
			kept = h.Held()
		}
		u.mu.Lock()
		u.bytes -= int64(len(p))
		f.keep(int64(kept))
		u.taken.Broadcast()
		f.fail(err)
	case f.sealed:
		u.mu.Unlock()
		begun := f.now() // not behind the call, within which a process may be frozen (rule C8)
		err := f.object.Close()
		u.mu.Lock()
		if err == nil {
			f.finished = begun
		}
		f.fail(err)
		f.end()
	default:
		f.busy = false
	}
}

func (f *upload) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *upload) put(p []byte) error {
	if f.object == nil {
		object, err := f.create(f.ctx)
		if err != nil {
			return fmt.Errorf("opening the object: %w", err)
		}
		f.object = object
	}
	_, err := f.object.Write(p)
	return err
}

func (f *upload) end() {
	f.keep(0)
	f.in.taken.Broadcast()
	f.busy, f.over, f.object = false, true, nil
	f.cancel()
	close(f.done)
}
