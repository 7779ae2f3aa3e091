package sim

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
)

// strandRows lets all workers die while rows wait to be brought to their tables. Either several come at once then, or somebody cleans the tables'
// folders before one comes (rule T5): that one must refuse to go on until an operator has done what it says.
func (w *world) strandRows() {
	w.endFaults()
	w.killAllPending()
	if w.rnd.IntN(3) == 0 {
		if w.strays {
			w.stray(nil)
		}
		w.joinSeveral()
		return
	}
	time.Sleep(5 * time.Minute) // until nothing is under way any more
	lost := w.vacuumTables()
	w.troubled(true)
	w.live = append(w.live, w.afterRefusals(lost))
	w.troubled(false)
}

func (w *world) troubled(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.divided.troubled = is
}

// killAllPending waits until rows can't be brought to their tables, and kills all.
func (w *world) killAllPending() {
	for _, p := range w.live {
		p.setFollowers(undeliverable(w.usual))
	}
	w.waitFor(w.divided.isPending, 30*time.Second)
	time.Sleep(time.Duration(w.rnd.Int64N(int64(10 * time.Second)))) // until more of them are
	w.killAll()
}

func (w *world) killAll() {
	for _, p := range slices.Concat(w.live, w.gone) {
		if !p.ended() {
			w.trace.add(p.name, "is killed, as all are")
			p.kill()
			<-p.done
		}
	}
	w.gone, w.live = append(w.gone, w.live...), nil
}

// joinSeveral has several workers come at once, of which some can't reach the tables for a while.
func (w *world) joinSeveral() {
	for range 3 {
		w.join()
		if p := w.live[len(w.live)-1]; w.rnd.IntN(2) == 0 {
			p.setFollowers(undeliverable(w.usual))
			w.during(20*time.Second, func() { p.setFollowers(w.usual) })
		}
	}
	time.Sleep(time.Duration(w.rnd.Int64N(int64(w.calm))))
}

// vacuumTables deletes some of the files that no version of a table names, and tells whether any of them was to be delivered yet.
func (w *world) vacuumTables() (lost bool) {
	pending := w.divided.pendingRows()
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx := context.Background()
	for _, key := range sorted(w.divided.tables) {
		t := w.divided.tables[key]
		for o, err := range t.store.List(ctx, "", "") {
			w.check(err)
			if _, live := t.files[o.Name]; live || strings.HasPrefix(o.Name, "_") || w.rnd.IntN(2) == 0 {
				continue
			}
			w.trace.add("others", "VACUUM deletes %s%s", t.name, o.Name)
			t.deleted[o.Name] = true
			w.check(t.store.Delete(ctx, o.Name))
			lost = lost || slices.ContainsFunc(pending[key], func(id int64) bool { return strings.Contains(o.Name, fmt.Sprintf("%016x.", id)) }) // copies have more behind the id
		}
	}
	if lost {
		w.count.RowsGone++
	}
	return lost
}

var toOffsets = regexp.MustCompile(`--to-offsets ([0-9=,]+)`)

// afterRefusals starts a worker, and does what it says where it refuses to go on, until one goes on.
func (w *world) afterRefusals(lost bool) *process {
	isTold := false
	for n := 0; ; n++ {
		p := w.start()
		w.waitFor(func() bool { return p.ended() || !w.divided.isPending() }, 2*time.Minute)
		if !p.ended() || w.broken() {
			if lost && !isTold {
				w.fault("T5: rows are gone before they were delivered, and %s has not refused to go on", p.name)
			}
			return p
		}
		w.gone = append(w.gone, p)
		refused, ok := errors.AsType[*checkpoint.RefusedError](p.err)
		if !ok || n == 20 {
			w.fault("T5: rows are gone before they were delivered, and %s has ended: %v", p.name, p.err)
			return p
		}
		told := toldOffsets(w, refused)
		if n == 0 && w.strays && w.stray(told) { // which is no word about what is lost (rule T5a)
			continue
		}
		isTold = true
		if w.rewindAsTold(told, refused); w.rnd.IntN(2) == 0 { // what is to be given up waits then, while more is decided about
			for range 3 {
				w.join()
				w.live[len(w.live)-1].setFollowers(undeliverable(w.usual))
			}
			time.Sleep(20 * time.Second)
			w.killAll()
		}
	}
}

// toldOffsets are those that the remedies of a refusal say to rewind to.
func toldOffsets(w *world, refused *checkpoint.RefusedError) map[int32]int64 {
	to := map[int32]int64{}
	for _, m := range toOffsets.FindAllStringSubmatch(refused.Remedy, -1) {
		for pair := range strings.SplitSeq(m[1], ",") {
			partition, offset, _ := strings.Cut(pair, "=")
			id, err := strconv.Atoi(partition)
			w.check(err)
			at, err := strconv.ParseInt(offset, 10, 64)
			w.check(err)
			if before, ok := to[int32(id)]; !ok || at < before {
				to[int32(id)] = at
			}
		}
	}
	return to
}

// rewindAsTold does what the remedies of a refusal say.
func (w *world) rewindAsTold(to map[int32]int64, refused *checkpoint.RefusedError) {
	if len(to) == 0 {
		w.fault("T5: nothing says what to do: %v", refused)
		return
	}
	if err := w.rewind(0, admin.Rewinding{How: fmt.Sprintf("--to-offsets %v", to), To: to, ToVersion: -1}); err != nil {
		w.fault("T5: %v", err)
	}
}

// removeTable has somebody remove the folder of a table under the workers, and bring it back after a while. Meanwhile those with messages for it
// stop (rule T6), and nobody may make it anew.
func (w *world) removeTable() {
	w.mu.Lock()
	var known []*table
	for _, key := range sorted(w.divided.tables) {
		if _, ok := w.ledger.txns[checkpoint.TableAppID(streamName, key)]; ok {
			known = append(known, w.divided.tables[key])
		}
	}
	if len(known) == 0 || len(w.undo) > 0 { // a store that is slow as well would hide who makes it anew
		w.mu.Unlock()
		return
	}
	w.count.Removed++
	t := known[w.rnd.IntN(len(known))]
	w.trace.add("others", "remove the table %s", t.key)
	t.takeAway()
	w.divided.removed[t.key] = true
	w.mu.Unlock()
	w.during(90*time.Second, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.trace.add("others", "bring the table %s back", t.key)
		t.bringBack()
	})
}
