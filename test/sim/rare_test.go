package sim

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
)

// oldAge is how old files are that a cleaning takes: the limit of rule C8, and far more than what a put may be late by here. It is a day in practice,
// as puts may be late by hours.
const oldAge = 65 * time.Minute

// quiet is how long no message may come until all is flushed, and workers look for proposals no more: no race was lost for a minute then.
const quiet = 75 * time.Second

// makeRare decides about what came last into the worlds, whatever draws there are before.
func (w *world) makeRare(rnd *rand.Rand) {
	w.rare = rnd
	w.dozes = rnd.IntN(4) > 0 && w.forgets
	w.strays = rnd.IntN(2) == 0 && w.divided != nil
	w.haunts = rnd.IntN(2) == 0 && w.rewinds && w.second == nil && !w.forgets
	age := rnd.IntN(8)
	w.ages = (age == 0 || age < 3 && w.crowd > 0) && w.divided == nil && w.second == nil && !w.haunts && !w.forgets
	if w.haunts {
		w.properties["delta.logRetentionDuration"] = keepLog
	}
	if w.ages {
		delete(w.properties, txnRetention) // nobody could keep txns from expiring
	}
}

// makeRarer decides about what came after that.
func (w *world) makeRarer(rnd *rand.Rand) {
	w.queues = rnd.IntN(4) == 0 && !w.buries && w.divided == nil && !w.retires && !w.haunts && !w.ages
	if rnd.IntN(3) == 0 && !w.queues && w.second != nil && !w.second.idle && w.properties["delta.logRetentionDuration"] == "" {
		w.ages = true
		delete(w.properties, txnRetention)
	}
}

// stray has an operator rewind partitions beside those with rows that are lost, or any where nil: what is pending of the generation before comes first
// then (rule T5b). False where there is none to be rewound.
func (w *world) stray(lost map[int32]int64) bool {
	w.mu.Lock()
	stands := partitionsOf(0, w.ledger.next)
	w.mu.Unlock()
	for id := range lost {
		delete(stands, id)
	}
	if len(stands) == 0 {
		return false
	}
	err := w.rewind(0, admin.Rewinding{How: "--to-offsets, beside what is lost", To: someBefore(w.rare, stands), ToVersion: -1})
	if err != nil && !errors.As(err, new(*checkpoint.RefusedError)) {
		w.fault("T5: %v", err)
	}
	if err == nil {
		w.count.Strayed++
	}
	return err == nil
}

// alone kills all workers but one, which has all partitions then; nil where that has ended.
func (w *world) alone() *process {
	w.endFaults()
	if w.bury(); len(w.live) == 0 {
		w.join()
	}
	i := w.rare.IntN(len(w.live))
	p := w.live[i]
	w.live = slices.Delete(w.live, i, i+1)
	w.killAll()
	p.set(w.usual)
	time.Sleep(memberLimit + 10*time.Second)
	if p.ended() {
		w.gone = append(w.gone, p)
		w.join()
		return nil
	}
	return p
}

// standStill lets a request wait that was chosen.
func (l *link) standStill(ctx context.Context, what, name string) error {
	l.mu.Lock()
	until := l.stall
	if until == nil || !l.stalls(what, name) {
		l.mu.Unlock()
		return nil
	}
	l.stall, l.stalled = nil, true
	l.mu.Unlock()
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.process.dead:
		return errDead
	}
}

// stallNext has the next such request stand still until the function is called.
func (l *link) stallNext(such func(what, name string) bool) (release func()) {
	until := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stall, l.stalls, l.stalled = until, such, false
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stall = nil
		close(until)
	}
}

func (l *link) isStalled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stalled
}

// putsVersion tells of a request that it puts a version.
func putsVersion(what, name string) bool {
	return what == "put if absent" && versionName.MatchString(name)
}

// haunt has the log be cleaned up to behind a version in which an operator has rewound the stream, and which a worker does not see: it is frozen, it
// has no way to the store, or its put of that very version stands still (rules C2 and C7). Often another writer's put arrives in the hole then (C2a).
func (w *world) haunt() {
	p := w.alone()
	if p == nil {
		return
	}
	how, haunted := w.rare.IntN(3), w.rare.IntN(3) > 0
	release := func() {}
	switch how {
	case 0:
		w.trace.add(p.name, "is frozen")
		p.freeze()
		release = p.thaw
	case 1:
		w.trace.add(p.name, "loses the store")
		p.set(trouble{cut: true})
	case 2:
		w.trace.add(p.name, "puts a version that stands still")
		release, haunted = p.stores[0].stallNext(putsVersion), false
		w.waitFor(p.stores[0].isStalled, time.Minute)
	}
	if how < 2 {
		time.Sleep(5 * time.Second) // until what is under way has arrived
	}
	w.mu.Lock()
	hole, stands, may := w.ledger.version+1, partitionsOf(0, w.ledger.next), !w.ledger.restored.isPending("")
	w.mu.Unlock()
	if len(stands) > 0 && may {
		if err := w.rewind(0, admin.Rewinding{How: "--to-offsets", To: someBefore(w.rare, stands), ToVersion: -1}); err != nil {
			w.fault("A5: %s can't be rewound: %v", streamName, err)
		}
		if w.cleanBehind() > hole {
			w.count.Haunted++
		}
	}
	if haunted {
		w.mu.Lock()
		err := w.ledger.put("others", versionFile(hole), w.foreignText(w.ledger.shelf, map[string]any{"operation": "WRITE"}))
		w.mu.Unlock()
		w.trace.add("others", "version %d arrives late: %v", hole, err)
		if err == nil {
			w.count.Ghosts++
		}
	}
	w.trace.add(p.name, "goes on")
	p.set(w.usual)
	release()
	w.live = append(w.live, p)
	time.Sleep(20 * time.Second)
}

// queue has somebody restore the table while an idle worker looks for versions. It has that look find the RESTORE, beside which a flush of the same worker
// waits: for the log, which the worker looks at in one place at a time (rule C1e).
func (w *world) queue() {
	p := w.alone()
	if p == nil {
		return
	}
	w.hushed.Store(true)
	time.Sleep(quiet) // who looks for proposals would ask for the log once more
	w.mu.Lock()
	next := versionFile(w.ledger.version + 1)
	w.mu.Unlock()
	release := p.stores[0].stallNext(func(what, name string) bool { return what == "get" && versionName.MatchString(name) && name >= next })
	w.waitFor(p.stores[0].isStalled, time.Minute)
	w.hushed.Store(false)
	time.Sleep(10 * time.Second) // until there is a flush
	isBack := p.stores[0].isStalled() && w.rollBack()
	release()
	w.live = append(w.live, p)
	if isBack {
		w.count.Queued++
		w.refuses(p, true)
		time.Sleep(10 * time.Second) // an operator comes later than what the worker has sent as it ended
		for i := range w.present() {
			w.rewindRestored(i)
		}
	}
}

// growOld lets files get old before they can be in a version: those of a worker's flush, or of a proposal.
func (w *world) growOld() {
	if w.second != nil {
		w.ageBeside()
		return
	}
	if w.crowd > 0 && w.rare.IntN(4) > 0 {
		w.ageProposal()
		return
	}
	w.ageFlush()
}

// ageProposal has a worker die right behind its proposal, while another one is frozen for an hour that knows the log from before. A cleaning takes the
// files of the proposal then. Somebody else has its partition by then, but can't commit yet, and may not be carried by the one that wakes (rule C8a).
func (w *world) ageProposal() {
	w.endFaults()
	for w.bury(); len(w.live) < 2; w.bury() {
		w.join()
		time.Sleep(10 * time.Second)
	}
	w.rare.Shuffle(len(w.live), func(i, j int) { w.live[i], w.live[j] = w.live[j], w.live[i] })
	p, carrier := w.live[0], w.live[1]
	if !w.holdProposal(p) {
		return
	}
	w.trace.add(carrier.name, "is frozen, and sleeps for an hour")
	carrier.freeze()
	w.live = slices.DeleteFunc(w.live, func(q *process) bool { return q == carrier })
	w.ageHeld(p, 0) // what the sleeper itself was about to put stays: a freeze of that length is beyond what is assumed
	w.join()
	next := w.live[0]
	next.set(undeliverable(w.usual))
	time.Sleep(10 * time.Second) // until it has all partitions
	w.hushed.Store(false)
	calmed := w.rush(13)
	w.trace.add(carrier.name, "wakes")
	carrier.set(w.usual)
	carrier.thaw()
	w.live = append(w.live, carrier)
	time.Sleep(30 * time.Second)
	calmed()
	next.set(w.usual)
}

// ageBeside has all workers of the first stream die right behind the proposal of one. The second stream's worker is there all the time, so that it has read each version
// since, and holds none of the proposal's partitions. It commits nothing for an hour, and may not carry the proposal then: a cleaning has taken its files (rule C8a).
func (w *world) ageBeside() {
	w.endFaults()
	if w.bury(); len(w.live) == 0 {
		w.join()
		time.Sleep(memberLimit + 10*time.Second)
	}
	p, carrier := w.live[w.rare.IntN(len(w.live))], w.second.process
	if p.ended() || !w.holdProposal(p) {
		return
	}
	w.hushed.Store(true)
	w.ageHeld(p, quiet)
	w.trace.add(carrier.name, "gets messages again")
	w.hushed.Store(false)
	calmed := w.rush(13)
	time.Sleep(time.Minute)
	calmed()
	w.join()
}

// rush has another program make so many versions that all lose races to it, until the function is called.
func (w *world) rush(draws uint64) (calmed func()) {
	rushes, calmed := context.WithCancel(context.Background())
	w.others.Go(func() { w.write(rushes, rand.New(rand.NewPCG(w.seed, draws))) })
	return calmed
}

// holdProposal waits for a proposal of a process, which stays under way.
func (w *world) holdProposal(p *process) bool {
	defer w.rush(12)()
	p.stores[0].hold()
	w.waitFor(p.stores[0].isHolding, 30*time.Second)
	if !p.stores[0].isHolding() {
		p.stores[0].set(w.usual)
		return false
	}
	return true
}

// ageHeld kills all live workers, has the proposal arrive that one of them has under way, late by so much, and a cleaning take its files an hour later.
func (w *world) ageHeld(p *process, late time.Duration) {
	w.live = slices.DeleteFunc(w.live, func(q *process) bool { return q == p })
	w.gone = append(w.gone, p)
	w.killAll()
	w.mu.Lock()
	var files []string
	w.release(func(h *held) (bool, time.Duration) {
		if h.who == p.name {
			files = w.filesOf(h.data)
		}
		return h.who == p.name, late
	})
	w.mu.Unlock()
	w.hushed.Store(true)
	time.Sleep(oldAge + 5*time.Minute)
	old := w.orphans(w.ledger.shelf)
	w.clean(w.ledger.shelf, slices.DeleteFunc(old, func(name string) bool { return !slices.Contains(files, name) }))
	w.count.Aged++
}

// ageFlush keeps what a worker has flushed from being committed for longer than an hour. A cleaning takes its files then (rule C8).
func (w *world) ageFlush() {
	p := w.alone()
	if p == nil {
		return
	}
	w.trace.add(p.name, "can't commit for an hour")
	p.set(undeliverable(w.usual))
	time.Sleep(10 * time.Second)
	w.hushed.Store(true)
	time.Sleep(oldAge + 5*time.Minute)
	w.clean(w.ledger.shelf, w.orphans(w.ledger.shelf))
	w.count.Aged++
	w.trace.add(p.name, "can commit again")
	p.set(w.usual)
	w.hushed.Store(false)
	w.live = append(w.live, p)
	time.Sleep(10 * time.Second)
}

// deliverOld lets dead letters get old before somebody comes who delivers them, beside a cleaning that has found them before and takes them after
// (rule C8b). No worker is alive.
func (w *world) deliverOld() {
	w.hushed.Store(true)
	time.Sleep(oldAge + 5*time.Minute)
	old := w.orphans(w.letters.shelf)
	w.join()
	w.waitFor(func() bool { return !w.pending() }, time.Minute)
	if !w.pending() {
		w.clean(w.letters.shelf, old)
		w.count.Aged++
	}
	w.hushed.Store(false)
}

// filesOf are the files of a proposal.
func (w *world) filesOf(data []byte) (names []string) {
	var p struct {
		Proposal struct {
			Adds []struct{ Path string } `json:"adds"`
		} `json:"proposal"`
	}
	w.check(json.Unmarshal(data, &p))
	for _, a := range p.Proposal.Adds {
		names = append(names, a.Path)
	}
	return names
}

// orphans are the old files of a table that no version has named so far.
func (w *world) orphans(s *shelf) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for o, err := range s.store.List(context.Background(), "", "") {
		w.check(err)
		if !s.named[o.Name] && !strings.HasPrefix(o.Name, "_") && time.Since(o.ModTime) > oldAge {
			names = append(names, o.Name)
		}
	}
	return names
}

// clean deletes files, as a VACUUM does.
func (w *world) clean(s *shelf, names []string) {
	for _, name := range names {
		w.count.Vacuumed++
		w.trace.add("others", "VACUUM deletes %s%s", s.name, name)
		w.check(s.remove("a VACUUM", name))
	}
}
