package sim

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"kafkadelta/checkpoint"
)

const proposalFolder = "_connector/proposals/"

// held is a proposal that is under way for long: until another one of the same partition lies there, from the same offset on, or until
// somebody else has taken the partition on.
type held struct {
	who    string
	name   string
	data   []byte
	starts map[string]int64 // first offsets by app id
	beside bool             // it arrives beside another one; else after another's unit
	late   time.Duration    // after that
}

// startsOf reads where the spans of a proposal begin.
func (w *world) startsOf(data []byte) map[string]int64 {
	var p struct {
		Proposal struct {
			Record struct {
				Name  string `json:"name"`
				Spans []struct {
					Partition int32 `json:"partition"`
					First     int64 `json:"first"`
				} `json:"spans"`
			} `json:"record"`
		} `json:"proposal"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		w.fault("a proposal can't be read: %v", err)
	}
	starts := map[string]int64{}
	for _, s := range p.Proposal.Record.Spans {
		starts[checkpoint.AppID(p.Proposal.Record.Name, s.Partition)] = s.First
	}
	return starts
}

// loseProposal has a worker's next proposal be under way for long, and the worker die, or be frozen, before it knows what has become of it.
func (w *world) loseProposal() {
	p := w.pick()
	p.stores[0].hold()
	w.waitFor(p.stores[0].isHolding, 5*time.Second)
	if !p.stores[0].isHolding() {
		p.stores[0].set(w.usual)
		return
	}
	w.count.Held++
	w.live = slices.DeleteFunc(w.live, func(q *process) bool { return q == p })
	if w.rnd.IntN(3) == 0 {
		w.freeze(p)
		return
	}
	w.trace.add(p.name, "is killed")
	p.kill()
	w.gone = append(w.gone, p)
}

// hold keeps the next proposal of the process on its way, and whatever it sends to the store after that.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds, l.holding = true, false
}

func (l *link) isHolding() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holding
}

// holdUp takes a proposal over, to let it arrive later.
func (l *link) holdUp(name string, data []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holds || !strings.HasPrefix(name, proposalFolder) {
		return false
	}
	l.holds, l.holding = false, true
	l.trouble = trouble{cut: true} // until it dies, or wakes
	h := &held{who: l.process.name, name: name, data: data, beside: l.rnd.IntN(3) > 0, late: time.Duration(l.rnd.Int64N(int64(5 * time.Second)))}
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	h.starts = w.startsOf(data)
	w.held = append(w.held, h)
	w.trace.add(h.who, "put %s is held up", name)
	return true
}

// arrives lets proposals arrive that were held up until this one lay there.
func (w *world) arrives(name string, data []byte) {
	if !strings.HasPrefix(name, proposalFolder) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return
	}
	starts := w.startsOf(data)
	w.release(func(h *held) (bool, time.Duration) {
		for _, app := range sorted(h.starts) {
			if first, ok := starts[app]; ok && h.beside && first == h.starts[app] {
				return true, 0
			}
		}
		return false, 0
	})
}

// moved lets proposals arrive that were held up until an offset had moved. The caller holds the lock.
func (w *world) moved(app string, last int64) {
	w.release(func(h *held) (bool, time.Duration) {
		first, ok := h.starts[app]
		return ok && !h.beside && last >= first, h.late
	})
}

func (w *world) release(due func(*held) (bool, time.Duration)) {
	w.held = slices.DeleteFunc(w.held, func(h *held) bool {
		is, after := due(h)
		if is {
			w.others.Go(func() {
				time.Sleep(after)
				err := w.ledger.store.Put(context.Background(), h.name, h.data)
				w.trace.add(h.who, "put %s arrives late: %v", h.name, err == nil)
			})
		}
		return is
	})
}
