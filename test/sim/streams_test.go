package sim

import (
	"slices"
	"time"

	"kafkadelta/checkpoint"
)

// streams are those that a table may have: each world has the first, some have the second beside it (ADR 11). The app ids of one look much like
// those of the other. The third is one of the first's topic.
var streams = []struct{ name, topic string }{{streamName, topic}, {streamName + "-0", "second-topic"}, {streamName + "-twice", topic}}

const (
	// ofStream is from where the partitions of the second stream are counted here.
	ofStream = 1000
	// secondPartitions are those of the second stream's topic.
	secondPartitions = 2
	// intruder is the stream that brings what another one brings.
	intruder = 2
)

func appOf(partition int32) string {
	return checkpoint.AppID(streams[partition/ofStream].name, partition%ofStream)
}

// partitionOf is where a partition of a topic is counted here.
func partitionOf(topic string, id int32) int32 {
	for i, s := range streams {
		if s.topic == topic {
			return int32(i)*ofStream + id
		}
	}
	return -1
}

// isBeside tells of an app id that it is the second stream's.
func isBeside(app string) bool { return checkpoint.IsStreams(app, streams[1].name) }

// beside is the second stream of a world. Workers of its own write it, one at a time and beside all others, so that it may be idle for long and its
// txns be kept from expiring all the same.
type beside struct {
	process *process
	idle    bool // it gets no messages but the first
}

// joinBeside starts the second stream's worker. It is far from the store, so that others are mostly faster and carry what it has left.
func (w *world) joinBeside() {
	w.second.process = w.startOf(1)
	far := w.usual
	far.slow *= 5
	w.second.process.set(far)
}

// turnOver has the second stream's worker killed or asked to stop, and another one come.
func (w *world) turnOver() {
	w.count.Turnovers++
	p := w.second.process
	w.gone = append(w.gone, p)
	if w.rnd.IntN(2) == 0 {
		w.trace.add(p.name, "is killed")
		p.kill()
	} else {
		w.trace.add(p.name, "is asked to stop")
		p.cancel()
	}
	w.joinBeside()
}

// intrude starts a stream of another name on the topic, which would bring each message a second time: it must refuse (rule A1c).
func (w *world) intrude() {
	w.mu.Lock()
	pinned := len(w.ledger.next) > 0
	w.mu.Unlock()
	if pinned {
		w.gone = append(w.gone, w.startOf(intruder))
	}
}

// secondDue tells the producer whether the second stream gets a message now.
func (w *world) secondDue(number int) bool {
	return w.second != nil && (time.Since(w.trace.begun) < 10*time.Second || !w.second.idle && number == 0)
}

// processes are all that were started.
func (w *world) processes() []*process {
	all := slices.Concat(w.live, w.frozen, w.gone)
	if w.second != nil {
		all = append(all, w.second.process)
	}
	return all
}
