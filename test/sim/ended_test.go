package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
)

// retirement is the end of the first stream, until an operator has it go on.
type retirement struct {
	ended   bool
	version int64     // of the newest end
	rewound time.Time // when the newest rewind landed
}

// part decides whether an operator ends the stream now and then (rule A1d). What others may do once it has is not simulated: they bring its topic.
func (w *world) part(rnd *rand.Rand) {
	w.retires = rnd.IntN(2) == 0 && !w.buries && w.divided == nil && !w.restores && !w.rewinds && !w.intrudes
}

// retire has an operator end the stream beside its workers, as `connector retire` does, and another one have it go on after a while.
func (w *world) retire() {
	w.mu.Lock()
	may := len(partitionsOf(0, w.ledger.next)) > 0 && !w.ledger.retired.ended
	w.mu.Unlock()
	if !may {
		return
	}
	p := w.newProcess(fmt.Sprintf("operator-retires-%d", w.count.Ends))
	w.count.Ends++
	p.set(trouble{slow: w.usual.slow})
	plan, err := admin.PlanRetirement(w.t.Context(), p.stores[0], admin.Retirement{Writer: admin.Writer{Engine: "kafkadelta/sim", Now: time.Now}, Name: streamName})
	if err == nil {
		_, err = plan.Commit(w.t.Context())
	}
	w.trace.add(p.name, "ends %s: %v", streamName, err)
	if err != nil {
		w.fault("A1d: %s can't be ended: %v", streamName, err)
		return
	}
	w.during(40*time.Second, w.goOn)
}

// goOn has an operator rewind the stream to where it has ended.
func (w *world) goOn() {
	w.mu.Lock()
	to := partitionsOf(0, w.ledger.next)
	w.mu.Unlock()
	if err := w.rewind(0, admin.Rewinding{How: "--to-offsets", To: to, ToVersion: -1}); err != nil {
		w.fault("A1d: %s can't go on: %v", streamName, err)
	}
}

// readEnd takes over that a version ends the stream. The caller holds the lock.
func (l *ledger) readEnd(version int64, actions []line) {
	for _, a := range actions {
		if a.CommitInfo != nil && a.CommitInfo.Operation == "RETIRE" {
			l.retired.ended, l.retired.version = true, version
		}
	}
}

// isEnded tells of an error with which a process ends whose stream has ended, and whether it may: the stream does not go on yet, or the process has
// begun before that.
func (w *world) isEnded(p *process) bool {
	if !errors.As(p.err, new(*checkpoint.RefusedError)) || !strings.Contains(p.err.Error(), "was retired") {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.ledger.retired; !r.ended && !p.begun.Before(r.rewound) {
		return false
	}
	w.count.Ended++
	return true
}
