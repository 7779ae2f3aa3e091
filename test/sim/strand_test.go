package sim

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// strand lets all workers die while dead letters, or marks, wait to be delivered. Either several come at once then, or somebody cleans the dead-letter
// table's folder before one comes (rule D5): that one must refuse to go on. Then an operator gives up what is lost, and has marks made again.
func (w *world) strand() {
	w.endFaults()
	if w.rnd.IntN(2) == 0 && w.isBegun() { // then it is the marks of a replay that wait
		w.mendAll()
		p := w.operate()
		w.gone = append(w.gone, p)
		w.waitFor(w.pendingMarks, 30*time.Second)
		p.stores[1].set(undeliverable(w.usual))
	}
	for _, p := range w.live {
		p.stores[1].set(undeliverable(w.usual))
	}
	w.waitFor(w.pending, 30*time.Second)
	for _, p := range slices.Concat(w.live, w.gone) {
		if !p.ended() {
			w.trace.add(p.name, "is killed, as all are")
			p.kill()
			<-p.done
		}
	}
	w.gone, w.live = append(w.gone, w.live...), nil
	if w.ages {
		w.deliverOld()
		return
	}
	if w.rnd.IntN(2) == 0 {
		for range 3 {
			w.join()
			if p := w.live[len(w.live)-1]; w.rnd.IntN(2) == 0 {
				p.stores[1].set(undeliverable(w.usual))
				w.during(20*time.Second, func() { p.stores[1].set(w.usual) })
			}
		}
		time.Sleep(time.Duration(w.rnd.Int64N(int64(w.calm))))
		return
	}
	time.Sleep(5 * time.Minute) // until nothing is under way any more
	if !w.vacuum() {
		w.join()
		return
	}
	w.count.Stranded++
	first := w.start()
	w.gone = append(w.gone, first)
	select {
	case <-first.done:
	case <-time.After(2 * time.Minute):
	}
	if !first.ended() || !errors.As(first.err, new(*checkpoint.RefusedError)) {
		w.fault("D5: dead letters are gone before they were delivered, and %s has not refused to go on: %v", first.name, first.err)
	}
	w.giveUp()
	w.join()
}

// waitFor waits until something is, but not for long.
func (w *world) waitFor(is func() bool, limit time.Duration) {
	for begun := time.Now(); !is() && time.Since(begun) < limit; {
		time.Sleep(10 * time.Millisecond)
	}
}

// pendingMarks is pending for the marks of replays alone.
func (w *world) pendingMarks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	replay := checkpoint.ReplayAppID(streamName)
	return w.ledger.txns[replay] != w.letters.txns[replay]
}

// undeliverable is trouble in which no commit to the table is answered.
func undeliverable(t trouble) trouble {
	t.undeliverable = true
	return t
}

// strandOne has a worker whose dead letters, or rows of other tables, can't be delivered die, so that others have to.
func (w *world) strandOne() {
	count := &w.count.Undelivered
	if w.divided != nil {
		count = &w.count.Consigned
	}
	*count++
	p := w.pick()
	w.trace.add(p.name, "can't commit to what follows the stream's table")
	p.setFollowers(undeliverable(w.usual))
	w.during(10*time.Second, func() {
		i := slices.Index(w.live, p)
		if i < 0 || w.rnd.IntN(3) == 0 {
			w.trace.add(p.name, "can commit to it")
			p.setFollowers(w.usual)
			return
		}
		w.trace.add(p.name, "is killed")
		w.live = slices.Delete(w.live, i, i+1)
		p.kill()
		w.gone = append(w.gone, p)
	})
}

// pending tells whether the stream's table names what the dead-letter table does not have.
func (w *world) pending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for app, id := range w.ledger.txns {
		isSlot := strings.HasPrefix(app, checkpoint.DeadLetterPrefix(streamName)) || app == checkpoint.ReplayAppID(streamName)
		if isSlot && w.letters.txns[app] != id {
			return true
		}
	}
	return false
}

// vacuum deletes the files that no version of the dead-letter table names; false where dead letters lose nothing by it.
func (w *world) vacuum() bool {
	pending := w.pending()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !pending {
		return false
	}
	ctx := context.Background()
	for o, err := range w.letters.store.List(ctx, "", "") {
		w.check(err)
		if _, live := w.letters.files[o.Name]; !live && !strings.HasPrefix(o.Name, "_") {
			w.trace.add("others", "VACUUM deletes letters/%s", o.Name)
			w.letters.deleted[o.Name] = true
			w.check(w.letters.store.Delete(ctx, o.Name))
		}
	}
	w.letters.cleaned = true
	for _, at := range slices.SortedFunc(maps.Keys(w.want), placeOrder) {
		_, row := w.ledger.brought(at)
		_, dead := w.letters.found[at]
		if !row && !dead && w.want[at].verdict != left && at.offset < w.ledger.next[at.partition] {
			w.letters.lost[at] = true
		}
	}
	return true
}

// hasLost tells whether dead letters, or marks, were lost to a cleaning.
func (w *world) hasLost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buries && w.letters.cleaned
}

// giveUp has an operator go on without what is lost, as `connector settle --give-up` does.
func (w *world) giveUp() {
	p := w.newProcess("operator-gives-up")
	p.set(trouble{slow: w.usual.slow})
	ctx, o := context.Background(), sink.Options{Name: streamName, Engine: "kafkadelta/sim", Now: time.Now, Log: w.logOf(p)}
	stream, err := sink.Open(ctx, p.stores[0], w.tableConfig(), o)
	w.check(err)
	o.Name = ""
	table, err := w.openLetters(ctx, p, o)
	w.check(err)
	partitions, marks, err := sink.GiveUp(ctx, stream, table, func(ctx context.Context, note json.RawMessage) (*sink.Parcel, error) {
		layout, err := table.Layout(ctx)
		w.check(err)
		writer, err := pipeline.NewLetterWriter(table, layout)
		w.check(err)
		w.trace.add(p.name, "makes marks again")
		return writer.MarkAgain(ctx, note, time.Now())
	})
	w.trace.add(p.name, "gives up dead letters of %d partitions: %v", partitions, err)
	if err != nil || marks {
		w.fault("D5: giving up %d partitions, with marks: %v, %v", partitions, marks, err)
	}
}
