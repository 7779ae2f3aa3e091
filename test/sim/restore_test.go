package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// turnBack decides whether the table goes back: its rows, by a RESTORE, or its offsets, by a rewind. What a RESTORE leaves of dead letters and of many
// tables is not simulated.
func (w *world) turnBack(rnd *rand.Rand) {
	n := rnd.IntN(8)
	if w.buries || w.divided != nil || n > 3 {
		return
	}
	w.restores, w.rewinds = n < 2, n > 0
	if w.restores && w.second == nil && rnd.IntN(2) == 0 { // txns that expire would leave nothing that tells of it
		w.forgets = true
		w.properties["delta.logRetentionDuration"], w.pauses = keepLog, 150*time.Second
		delete(w.properties, txnRetention)
	}
}

// past is what the table was at a version, for a RESTORE to it.
type past struct {
	files           map[string]*file
	metaData        map[string]json.RawMessage
	columns         map[string]map[string]bool
	next            map[int32]int64 // where partitions stand by the rows, which is not by the txns between a RESTORE and the rewind
	generation      map[string]int64
	ruledAt, freeAt int64
	widened         bool
}

// remember keeps what the table is now. The caller holds the lock.
func (w *world) remember() {
	if !w.restores && !w.rewinds && !w.queues {
		return
	}
	l := w.ledger
	columns := map[string]map[string]bool{}
	for path, types := range l.columns {
		columns[path] = maps.Clone(types)
	}
	l.past = append(l.past, &past{
		maps.Clone(l.files), maps.Clone(l.metaData), columns, l.stands(), maps.Clone(l.generation), l.ruledAt, l.freeAt, w.widened,
	})
}

// stands tells where partitions stand by the rows. A stream that lost none to a RESTORE whose version is cleaned from the log goes on as it was.
func (l *ledger) stands() map[int32]int64 {
	stands := maps.Clone(l.next)
	for id := range stands {
		if name := streams[id/ofStream].name; l.restored.isLost(name) || !l.w.forgets && l.restored.isPending(name) {
			stands[id] = l.past[l.restored.to].next[id]
		}
	}
	return stands
}

// restoration is a RESTORE: rows went back and offsets did not, until an operator takes these back, too.
type restoration struct {
	version, to int64
	lost        map[string]bool    // streams whose rows went
	pending     map[string]bool    // streams that were not rewound since
	rewound     map[string]rewound // the others
}

type rewound struct {
	at      time.Time
	version int64
}

// isPending tells whether a stream, or any for "", is to be rewound.
func (r *restoration) isPending(name string) bool {
	return r != nil && (r.pending[name] || name == "" && len(r.pending) > 0)
}

// isLost tells that nothing of a stream may land.
func (r *restoration) isLost(name string) bool { return r.isPending(name) && r.lost[name] }

func (r *restoration) rewind(name string, version int64) {
	if r.isPending(name) {
		delete(r.pending, name)
		r.rewound[name] = rewound{time.Now(), version}
	}
}

// restoreOf tells to which version a version has restored the table.
func restoreOf(actions []line) (to int64, ok bool) {
	for _, a := range actions {
		if a.CommitInfo != nil && a.CommitInfo.Operation == "RESTORE" {
			to, err := strconv.ParseInt(a.CommitInfo.Parameters.Version, 10, 64)
			return to, err == nil
		}
	}
	return 0, false
}

// readRestore takes a RESTORE over: the table has the files and the schema of then, and what units have brought since is forgotten. The caller
// holds the lock.
func (w *world) readRestore(version, to int64, actions []line) {
	l, then := w.ledger, w.ledger.past[to]
	for _, a := range actions {
		switch {
		case a.CommitInfo != nil:
			l.takeStamp(version, a.CommitInfo.InCommitTimestamp)
		case a.Remove != nil:
			delete(l.files, a.Remove.Path)
		case a.Add != nil:
			back := *then.files[a.Add.Path]
			back.tags, back.action = a.Add.Tags, a.Add.text
			l.files[a.Add.Path] = &back
		}
	}
	if !slices.Equal(sorted(l.files), sorted(then.files)) {
		w.fault("the simulation's own RESTORE of version %d has not the files of version %d", version, to)
	}
	l.restored = &restoration{version: version, to: to, lost: l.lostBehind(to), pending: map[string]bool{}, rewound: map[string]rewound{}}
	for id := range l.next {
		l.restored.pending[streams[id/ofStream].name] = true
	}
	maps.DeleteFunc(l.seen, func(_ taken, unit string) bool { return l.units[unit] > to })
	for p := range l.landed {
		l.landed[p] = slices.DeleteFunc(l.landed[p], func(s spanAt) bool { return s.version > to })
	}
	for g, begins := range l.begins {
		maps.DeleteFunc(begins, func(p int32, _ int64) bool { return int64(g) > then.generation[streams[p/ofStream].name] })
	}
	l.metaData, l.columns = maps.Clone(then.metaData), then.columns
	l.ruledAt, l.freeAt, w.widened = then.ruledAt, then.freeAt, then.widened
}

// lostBehind are the streams that have brought rows since a version.
func (l *ledger) lostBehind(version int64) map[string]bool {
	lost := map[string]bool{}
	for at, unit := range l.seen {
		if l.units[unit] > version {
			lost[streams[at.partition/ofStream].name] = true
		}
	}
	return lost
}

// rollBack has another engine restore the table to an earlier version: as Spark does it, or as delta-rs, which leaves tags out of what it brings
// back. False where there is nothing to go back to.
func (w *world) rollBack() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.ledger
	oldest := int64(0)
	if l.restored != nil {
		oldest = l.restored.version
	}
	if l.restored.isPending("") || len(l.next) == 0 || l.version <= oldest {
		return false
	}
	to := l.version - 1 - w.rnd.Int64N(min(30, l.version-oldest))
	if !w.opens(to) {
		return false
	}
	then := l.past[to]
	lost := l.lostBehind(to)
	for name, generation := range l.generation {
		if w.forgets && generation > then.generation[name] && !lost[name] { // the stream goes on from the rewind, which took no row and keeps its txns: nobody has to tell of that
			return false
		}
	}
	var actions []any
	for _, name := range sorted(l.files) {
		if _, ok := then.files[name]; !ok {
			actions = append(actions, map[string]any{"remove": map[string]any{"path": name, "deletionTimestamp": time.Now().UnixMilli(), "dataChange": true}})
		}
	}
	keepsTags := w.forgets || w.rnd.IntN(2) == 0
	for _, name := range sorted(then.files) {
		if _, ok := l.files[name]; ok {
			continue
		}
		var add map[string]any
		w.check(json.Unmarshal(then.files[name].action, &add))
		if add["dataChange"] = true; !keepsTags {
			delete(add, "tags")
		}
		actions = append(actions, map[string]any{"add": add})
	}
	w.count.Restores++
	w.trace.add("others", "restore the table to version %d", to)
	actions = append([]any{map[string]any{"protocol": l.protocol}, map[string]any{"metaData": then.metaData}}, actions...)
	w.foreignInfo(l.shelf, map[string]any{"operation": "RESTORE", "operationParameters": map[string]string{"version": fmt.Sprint(to)}}, actions...)
	return true
}

// opens tells whether a version can be opened by now. The caller holds the lock.
func (w *world) opens(version int64) bool {
	_, err := delta.OpenSnapshot(context.Background(), w.ledger.store, version)
	return err == nil
}

// restore has somebody roll the table back, under the workers or while none runs. An operator does what their refusals say, after a while.
func (w *world) restore() {
	if w.rnd.IntN(3) == 0 {
		w.restoreAtRest()
		return
	}
	if !w.rollBack() {
		return
	}
	for i := range w.present() {
		w.during(40*time.Second, func() { w.rewindRestored(i) })
	}
}

// present are the streams that the table has.
func (w *world) present() int {
	if w.second != nil {
		return 2
	}
	return 1
}

// restoreAtRest lets all workers die before the table is rolled back. Who comes next must refuse (A6), also where the log that tells of the RESTORE was
// cleaned (A6a). So must a worker that was frozen before, and wakes then (A6b).
func (w *world) restoreAtRest() {
	var zombie *process
	if w.forgets && len(w.live) > 0 {
		zombie = w.take()
		w.trace.add(zombie.name, "is frozen")
		zombie.freeze()
	}
	w.killAll()
	if w.second != nil && !w.second.process.ended() {
		w.trace.add(w.second.process.name, "is killed, as all are")
		w.second.process.kill()
		<-w.second.process.done
	}
	isBack := w.rollBack()
	if isBack && w.forgets {
		w.forget()
	} else {
		time.Sleep(time.Duration(w.rnd.Int64N(int64(10 * time.Second))))
	}
	w.mu.Lock() // a stream of which nothing is in the log begins after the RESTORE
	must := isBack && w.ledger.restored.isPending(streamName) && (!w.forgets || w.ledger.restored.isLost(streamName))
	w.mu.Unlock()
	var come []*process
	if zombie != nil {
		w.trace.add(zombie.name, "wakes")
		zombie.set(w.usual)
		if w.dozes { // so that it has to give its partitions away while it looks back (rule C1e)
			zombie.set(trouble{slow: time.Duration(1+w.rare.IntN(3)) * time.Second})
			w.count.Dozed++
		}
		zombie.thaw()
		w.count.Woken++
		come = append(come, zombie)
		if isBack {
			w.refuses(zombie, must)
		}
	}
	if isBack {
		come = append(come, w.start())
		w.refuses(come[len(come)-1], must)
		for i := range w.present() {
			w.rewindRestored(i)
		}
	}
	w.live = append(w.live, come...)
}

// refuses waits until a process has ended because of a RESTORE, where it must. Where one request in a hundred fails, a log of hundreds of versions without a log
// checkpoint is hardly ever read as a whole; so after a while none does, and Kafka is there.
func (w *world) refuses(p *process, must bool) {
	over := func() bool { return p.ended() || w.broken() }
	w.waitFor(over, 2*time.Minute)
	if !over() {
		p.set(trouble{slow: w.usual.slow})
		p.kafka.heal()
		w.waitFor(over, time.Minute)
		p.set(w.usual)
	}
	if must && !p.ended() {
		w.fault("A6: the table was restored, and %s has not refused to go on", p.name)
	}
}

// forget has another engine clean the log up to behind the RESTORE.
func (w *world) forget() {
	if w.cleanBehind() > w.ledger.restored.version {
		w.count.Forgotten++
	}
}

// cleanBehind has another engine write a version, and clean the log up to that; it tells where the log begins then. Nobody else commits.
func (w *world) cleanBehind() int64 {
	w.mu.Lock()
	w.foreign("WRITE")
	version := w.ledger.version
	w.mu.Unlock()
	ctx := context.Background()
	_, err := delta.WriteLogCheckpoint(ctx, w.ledger.store, version, delta.CheckpointOptions{Now: time.Now})
	w.check(err)
	time.Sleep(logRetention + 10*time.Second)
	w.mu.Lock()
	w.foreign("WRITE") // which shows what time it is by the store's clock
	w.mu.Unlock()
	cleaned, err := delta.CleanLog(ctx, w.ledger.store, delta.CleanOptions{Now: time.Now})
	w.check(err)
	w.trace.add("others", "clean the log before version %d", cleaned.Before)
	return cleaned.Before
}

// isRestored tells of an error with which a process ends where the table was restored, and whether it may: its stream was not rewound yet, or it has
// begun before that.
func (w *world) isRestored(p *process) bool {
	if !errors.As(p.err, new(*sink.Error)) || !strings.Contains(p.err.Error(), "restored") || !strings.Contains(p.err.Error(), "connector rewind") {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.restored == nil {
		return false
	}
	then, isRewound := w.ledger.restored.rewound[streams[p.stream].name]
	if isRewound && !p.begun.Before(then.at) {
		return false
	}
	w.count.Restored++
	return true
}

var toVersion = regexp.MustCompile(`--to-table-version (\d+)`)

// rewindRestored does what the refusals say: it takes a stream's offsets back to the version that the table went back to.
func (w *world) rewindRestored(stream int) {
	w.mu.Lock()
	r := w.ledger.restored
	pending := r.isPending(streams[stream].name)
	all, then := partitionsOf(stream, w.ledger.next), w.ledger.past[r.to].next
	w.mu.Unlock()
	if !pending {
		return
	}
	err := w.rewind(stream, admin.Rewinding{How: fmt.Sprintf("--to-table-version %d", r.to), ToVersion: r.to})
	if refused, ok := errors.AsType[*checkpoint.RefusedError](err); ok && toVersion.MatchString(refused.Remedy) {
		to, parseErr := strconv.ParseInt(toVersion.FindStringSubmatch(refused.Remedy)[1], 10, 64)
		w.check(parseErr)
		err = w.rewind(stream, admin.Rewinding{How: fmt.Sprintf("--to-table-version %d", to), ToVersion: to})
	}
	if err != nil && (strings.Contains(err.Error(), "if it was cleaned from the log, say --to-offsets") || strings.Contains(err.Error(), "nobody knows which that was, say --to-offsets") || strings.Contains(err.Error(), "it is from before its first commit")) {
		to := map[int32]int64{}
		for id := range all {
			to[id%ofStream] = then[id]
		}
		err = w.rewind(stream, admin.Rewinding{How: "--to-offsets", To: to, ToVersion: -1})
	}
	if err != nil {
		w.fault("A6: the table was restored to version %d, and %s can't be rewound to it: %v", r.to, streams[stream].name, err)
	}
}

// rewindBeside has an operator rewind a stream beside the workers, to where it was at an earlier version, or some partitions to anywhere.
func (w *world) rewindBeside() {
	stream := w.rnd.IntN(w.present())
	w.mu.Lock()
	l := w.ledger
	stands := partitionsOf(stream, l.next)
	to := l.version - w.rnd.Int64N(20)
	may := len(stands) > 0 && !l.restored.isPending("")
	back := may && w.rnd.IntN(2) == 0 && to >= 0 && (l.restored == nil || to > l.restored.rewound[streams[stream].name].version) && to < l.version && l.isBehind(l.past[to], stands) && w.opens(to)
	w.mu.Unlock()
	if !may {
		return
	}
	r := admin.Rewinding{How: fmt.Sprintf("--to-table-version %d", to), ToVersion: to}
	if !back {
		r = admin.Rewinding{How: "--to-offsets", To: someBefore(w.rnd, stands), ToVersion: -1}
	}
	if err := w.rewind(stream, r); err != nil && !strings.Contains(err.Error(), "if it was cleaned from the log, say --to-offsets") {
		w.fault("A5: %s can't be rewound %s: %v", streams[stream].name, r.How, err)
	}
}

// isBehind tells whether all partitions stood where they stand, or before: a rewind that passes over offsets would leave messages to the generation
// before.
func (l *ledger) isBehind(then *past, stands map[int32]int64) bool {
	for id, at := range stands {
		if before, ok := then.next[id]; !ok || before > at {
			return false
		}
	}
	return true
}

// someBefore chooses offsets before those where some partitions stand, or these.
func someBefore(rnd *rand.Rand, stands map[int32]int64) map[int32]int64 {
	to := map[int32]int64{}
	for _, id := range sorted(stands) {
		if len(to) == 0 || rnd.IntN(2) == 0 {
			to[id%ofStream] = max(0, stands[id]-rnd.Int64N(40))
		}
	}
	return to
}

// restart has the second stream's worker come again that a RESTORE has ended, once its stream was rewound.
func (w *world) restart() {
	if w.second == nil || !w.second.process.ended() || !w.restores && !w.queues {
		return
	}
	w.mu.Lock()
	pending := w.ledger.restored.isPending(streams[1].name)
	w.mu.Unlock()
	if !pending {
		w.gone = append(w.gone, w.second.process)
		w.joinBeside()
	}
}
