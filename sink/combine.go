package sink

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
)

// Commit combining (rules P1 to P5): a worker that loses races leaves its unit as a proposal and whoever commits next
// carries it along. Without contention nothing of it happens and no request is made. docs/scale.md has the argument.
const (
	// contendedFor is how long after a sign of contention proposals are looked for before a commit.
	contendedFor = time.Minute
	// maxCarried bounds the proposals that one commit reads, and those that it carries, and maxCarriedBytes the bytes of either in the
	// store. The oldest go first.
	maxCarried      = 512
	maxCarriedBytes = 16 << 20
	// proposalReads are fetched at a time.
	proposalReads = 64
	// someCrowd is the crowd from which a worker leaves its units first: about every third version carried somebody's.
	someCrowd = 1.3
	// patience is how many times as long as an attempt to commit takes a worker waits for the same unit to land before it goes past it.
	patience = 4
	// landedKept are the versions at least whose units are known by id: by then who left them has deleted their proposals, or is dead.
	landedKept = 64
	// deadAfter is how long a worker has to see a proposal that can't be carried any more before it deletes it for its owner, who is mostly
	// about to do it.
	deadAfter = 5 * time.Second
	// maxSwept are such proposals that one commit deletes, proposalReads at a time.
	maxSwept = 256
	// proposalLife is how long a worker sees a proposal before it deletes it whatever it is (rule P5).
	proposalLife = 10 * time.Minute
	// maxUnitAge is how old a unit's oldest file may be when it is committed or carried (rule C8): cleaning of orphans takes
	// none that is younger than 24 h.
	maxUnitAge = time.Hour
	// maxDeliveryAge is that of a delivery, whose copies must all be in one version (rule C8b). It leaves a put as long again.
	maxDeliveryAge = 12 * time.Hour
)

// combiner is what a Table knows of the competition for its log. It is owned by the holder of Table.working.
type combiner struct {
	until  time.Time            // contention was seen less than contendedFor before
	cycle  time.Duration        // of one attempt to commit, a moving average
	crowd  float64              // workers that have a part in a version, a moving average
	read   map[string]*proposal // by name; nil: never to be carried
	landed map[string]int64     // units of the newest versions, by id
	passed map[string]bool      // units that lie there and for which nobody waits any more, by id

	listed []delta.ObjectInfo   // proposals, by the store's time, the oldest first
	looked time.Time            // when they were asked for
	seen   map[string]time.Time // by name, when each was listed first: that the store's clock may be wrong does not matter for how long one lies there
}

// Bounds of what the moving averages may say.
const (
	minCycle = 5 * time.Millisecond
	maxCycle = time.Second
)

// see takes over a listing, and forgets what was known of proposals that are gone.
func (c *combiner) see(listed []delta.ObjectInfo, asked, answered time.Time) {
	slices.SortFunc(listed, func(a, b delta.ObjectInfo) int {
		return cmp.Or(a.ModTime.Compare(b.ModTime), cmp.Compare(a.Name, b.Name))
	})
	c.listed, c.looked = listed, asked
	seen := make(map[string]time.Time, len(listed))
	for _, o := range listed {
		seen[o.Name] = answered
		if before, known := c.seen[o.Name]; known {
			seen[o.Name] = before
		}
	}
	c.seen = seen
	if len(c.passed) == 0 && len(c.read) <= 2*len(listed) {
		return
	}
	units := make(map[string]bool, len(listed))
	for _, o := range listed {
		units[proposedUnit(o.Name)] = true
	}
	maps.DeleteFunc(c.read, func(name string, _ *proposal) bool { _, there := seen[name]; return !there })
	maps.DeleteFunc(c.passed, func(unit string, _ bool) bool { return !units[unit] })
}

// pass lets go of the oldest of the units ahead, which don't land: of one, then of two more, of four, and so on.
func (c *combiner) pass(ahead []string) {
	for _, unit := range ahead[:min(len(ahead), len(c.passed)+1)] {
		c.passed[unit] = true
	}
}

func (c *combiner) contended(now time.Time) bool { return now.Before(c.until) }

// saw takes note of a version: which units are in it, and how many workers have a part in it.
func (c *combiner) saw(version int64, record checkpoint.CommitSummary) {
	for _, id := range record.Units {
		c.landed[id] = version
	}
	if version%landedKept == 0 {
		maps.DeleteFunc(c.landed, func(_ string, at int64) bool { return at <= version-landedKept })
	}
	c.crowd += (float64(1+record.Carried) - c.crowd) / 4
}

func (c *combiner) took(d time.Duration) {
	if c.cycle == 0 {
		c.cycle = d
	}
	c.cycle = min(max(c.cycle+(d-c.cycle)/4, minCycle), maxCycle)
}

// combines tells whether units may be proposed and carried at all: those of a stream, but for pins, which are rare and wanted
// by all workers at once, and those with dead letters or rows of other tables: whether their slots are free (rules D4, T3) is for their owner to know.
func (t *Table) combines(units []*Unit) bool {
	return t.cfg.Combine != CombineOff && !slices.ContainsFunc(units, func(u *Unit) bool {
		return u.app != nil || u.pin != nil || len(u.Spans) == 0 || u.parcel != nil || u.manifest != 0 || t.changes(u) // P1 and P3: a proposal has no metaData, and a commit with one carries nothing
	})
}

// prepare is what comes before an attempt to commit, after so many that were lost. Without contention it is nothing, or reading
// what others have made. Otherwise proposals are looked for, and where there are any, are likely, or two races in a row were
// lost, the worker takes its turn.
func (t *Table) prepare(ctx context.Context, units []*Unit, lost int) error {
	if lost > 0 {
		if lost > 1 && !t.combines(units) {
			if err := backoff.Sleep(ctx, raceWait(lost)); err != nil {
				return err
			}
		}
		if _, err := t.step(ctx, units); err != nil { // to the winner, which was read already
			return err
		}
	}
	now := t.opts.Now()
	if lost > 1 {
		t.combine.until = now.Add(contendedFor)
	}
	t.combine.listed = nil
	switch {
	case !t.combines(units) || !t.combine.contended(now):
		if lost == 0 {
			return nil
		}
		return t.advance(ctx, units)
	case lost < 2 && t.combine.crowd < someCrowd:
		if err := t.look(ctx, units); err != nil || len(t.ahead(units, nil)) == 0 {
			return err
		}
	}
	return t.takeTurns(ctx, units)
}

// look catches up with the log and lists the proposals, both at a time.
func (t *Table) look(ctx context.Context, units []*Unit) error {
	asked := t.opts.Now()
	var listed []delta.ObjectInfo
	var failed error
	var wait sync.WaitGroup
	wait.Go(func() { listed, failed = t.listProposals(ctx) })
	_, err := t.catchUp(ctx, units)
	wait.Wait()
	if failed != nil {
		t.opts.Log.Debug("proposals can't be listed: the commit carries none", "error", failed)
		t.combine.listed, t.combine.looked = nil, asked
		return err
	}
	t.combine.see(listed, asked, t.opts.Now())
	for _, u := range units {
		if len(u.proposals) > 0 && u.left.Before(asked) {
			u.gone = !slices.ContainsFunc(listed, func(o delta.ObjectInfo) bool { return proposedUnit(o.Name) == u.ID })
		}
	}
	return err
}

// listProposals returns what lies there. It is called beside work on the log.
func (t *Table) listProposals(ctx context.Context) (listed []delta.ObjectInfo, err error) {
	for o, err := range t.store.List(ctx, proposalFolder, "") {
		if err != nil {
			return nil, err
		}
		listed = append(listed, o)
	}
	return listed, nil
}

// pending are the listed proposals of others that are not known to be over, those that the worker has passed at the end.
func (t *Table) pending(units []*Unit) []delta.ObjectInfo {
	var pending, passed []delta.ObjectInfo
	for _, o := range t.combine.listed {
		switch unit := proposedUnit(o.Name); {
		case isOf(units, unit) || t.isOver(o.Name):
		case t.combine.passed[unit]:
			passed = append(passed, o)
		default:
			pending = append(pending, o)
		}
	}
	return append(pending, passed...)
}

func isOf(units []*Unit, id string) bool {
	return slices.ContainsFunc(units, func(u *Unit) bool { return u.ID == id })
}

// isOver tells of a proposal whose unit can never land any more: it has landed, or its partitions have moved on. It also tells of one that
// can't be understood.
func (t *Table) isOver(name string) bool {
	if _, landed := t.combine.landed[proposedUnit(name)]; landed {
		return true
	}
	p, known := t.combine.read[name]
	return known && (p == nil || slices.ContainsFunc(p.Record.Spans, func(s checkpoint.Span) bool {
		appID := checkpoint.AppID(p.Record.Name, s.ID)
		txn, _ := t.log.Txn(appID)
		return t.touched[appID] > p.Record.ReadAt || txn.Version >= s.First
	}))
}

// isDead tells of a proposal that can't be carried any more, though its owner may have left the unit once more. Of one that can't be
// understood only its owner knows.
func (t *Table) isDead(name string) bool {
	if _, landed := t.combine.landed[proposedUnit(name)]; landed {
		return true
	}
	p := t.combine.read[name]
	return p != nil && (t.isOver(name) || p.Record.ReadAt < t.changed || p.Table != t.log.Metadata().ID)
}

// carried returns the proposals of others that go into the next version with the units. It fails never: without its answer the
// units go alone.
func (t *Table) carried(ctx context.Context, units []*Unit) []*proposal {
	now := t.opts.Now()
	if !t.combine.contended(now) || !t.combines(units) {
		return nil
	}
	cargo := t.cargoOf(units)
	pending := t.pending(units)
	t.readProposals(ctx, pending)
	var fit []*proposal
	size := int64(0)
	for _, o := range pending {
		p := t.combine.read[o.Name]
		if p == nil {
			continue
		}
		if reason := p.misfit(t, now, o.ModTime, cargo); reason != "" {
			t.opts.Log.Debug("a proposal is not carried", "name", o.Name, "reason", reason)
			continue
		}
		if size += o.Size; len(fit) == maxCarried || size > maxCarriedBytes {
			break
		}
		cargo.take(p)
		fit = append(fit, p)
	}
	return fit
}

// sweep deletes, after a commit, proposals that have expired, or are dead and stay because their owner is, too: they would stand before
// others who wait for their turn, and don't know.
func (t *Table) sweep(ctx context.Context) {
	now := t.opts.Now()
	var names []string
	for _, o := range t.combine.listed {
		if old := now.Sub(t.combine.seen[o.Name]); old > proposalLife || old > deadAfter && t.isDead(o.Name) {
			names = append(names, o.Name)
		}
	}
	names = names[:min(len(names), maxSwept)]
	manyAtATime(len(names), func(i int) { t.dropProposal(ctx, names[i]) })
}

// manyAtATime calls do for each number below n, proposalReads at a time.
func manyAtATime(n int, do func(i int)) {
	var wait sync.WaitGroup
	for worker := range min(proposalReads, n) {
		wait.Go(func() {
			for i := worker; i < n; i += proposalReads {
				do(i)
			}
		})
	}
	wait.Wait()
}

// readProposals fetches those that were not read yet, many at a time.
func (t *Table) readProposals(ctx context.Context, pending []delta.ObjectInfo) {
	var names []string
	size := int64(0)
	for _, o := range pending {
		if _, known := t.combine.read[o.Name]; known {
			continue
		}
		if size += o.Size; len(names) == maxCarried || size > maxCarriedBytes {
			break
		}
		names = append(names, o.Name)
	}
	found := make([]*proposal, len(names))
	failed := make([]error, len(names))
	manyAtATime(len(names), func(i int) { found[i], failed[i] = t.readProposal(ctx, names[i]) })
	for i, name := range names {
		var bad *badProposal
		switch {
		case failed[i] == nil:
			t.combine.read[name] = found[i]
		case errors.As(failed[i], &bad):
			t.combine.read[name] = nil
			t.opts.Log.Warn("a proposal of another worker can't be understood: it is left to its owner", "name", name, "error", bad.error)
			if t.opts.Events.BadProposal != nil {
				t.opts.Events.BadProposal()
			}
		case !errors.Is(failed[i], fs.ErrNotExist): // gone: its unit is done with
			t.opts.Log.Debug("a proposal can't be read", "name", name, "error", failed[i])
		}
	}
}

// takeTurns is what a worker does under contention instead of trying again at once. It leaves its units as proposals and
// watches the log: most of the time one of the versions that follow has them. Otherwise it commits itself when no unit that lies there for
// longer than its own is left, which a listing has to show that is newer than its own and than the last version.
// So of those who wait one goes, the rest know that it does, and nobody is passed over for long: new ones come behind it.
//
// It waits for the head of the row only: where that does not land for patience times as long as a commit takes, whatever else does, its
// owner may be dead, and it is passed, then the next two, then four, and so on. A change of the table makes all proposals worthless
// (rule C1b): each is left once more, at once, and the row stays as it was.
func (t *Table) takeTurns(ctx context.Context, units []*Unit) error {
	var (
		judged       = int64(-1)     // the change of the table that the proposals were judged against
		before       map[string]bool // names that lay there when they were left
		head         string          // the unit for which this worker waits
		since, moved time.Time       // when that began, and when a version was seen last
	)
	for {
		fit, _ := t.fitting(units)
		switch {
		case len(fit) == 0:
			return nil
		case judged < t.changed:
			judged = t.changed
			if err := t.leave(ctx, fit); err != nil {
				return err
			}
			if before == nil {
				before = map[string]bool{}
				for _, o := range t.combine.listed {
					before[o.Name] = true
				}
			}
			continue
		case len(fit[0].proposals) == 0:
			return nil
		}
		ahead, now := t.ahead(fit, before), t.opts.Now()
		cycle := max(t.combine.cycle, minCycle)
		switch {
		case len(ahead) == 0 && !t.combine.looked.Before(moved):
			return nil
		case len(ahead) == 0:
			if err := t.leave(ctx, fit); err != nil {
				return err
			}
			continue
		case ahead[0] != head:
			head, since = ahead[0], now
		case now.Sub(since) > patience*cycle:
			if err := t.leave(ctx, fit); err != nil {
				return err
			}
			if ahead = t.ahead(fit, before); len(ahead) > 0 && ahead[0] == head { // it is not just that its owner has given up
				t.combine.pass(ahead)
			}
			continue
		}
		if err := backoff.Sleep(ctx, cycle/8+rand.N(cycle/4)); err != nil {
			return err
		}
		if ok, err := t.step(ctx, units); err != nil {
			return err
		} else if ok {
			moved = t.opts.Now()
		}
	}
}

// leave puts the units where others see them, unless that is done and they lie there still, and looks around meanwhile.
func (t *Table) leave(ctx context.Context, units []*Unit) error {
	begun := t.opts.Now()
	var put []*Unit
	var wait sync.WaitGroup
	for _, u := range units {
		if len(u.proposals) > 0 && u.proposedAt >= t.changed && !u.gone {
			continue
		}
		name, data, err := t.propose(u)
		if err != nil {
			t.opts.Log.Debug("a unit can't be left as a proposal: it goes on alone", "unit", u.ID, "error", err)
			continue
		}
		put = append(put, u)
		wait.Go(func() {
			if err := t.store.Put(ctx, name, data); err != nil {
				t.opts.Log.Debug("a unit can't be left as a proposal: it goes on alone", "unit", u.ID, "error", err)
			}
		})
	}
	err := t.look(ctx, units)
	wait.Wait()
	for _, u := range put {
		u.left, u.gone = t.opts.Now(), false // what that look has shown was before
	}
	if t.combine.cycle == 0 { // a write and two reads: about what a commit takes
		t.combine.took(t.opts.Now().Sub(begun))
	}
	return err
}

// ahead are the units of others that lie there for longer than the first of these, the oldest first, but for those that were passed. Of
// which none is listed, those count that were there before, nil for all: the put of a proposal may have failed, again and again.
func (t *Table) ahead(units []*Unit, before map[string]bool) []string {
	listed := t.combine.listed
	end := slices.IndexFunc(listed, func(o delta.ObjectInfo) bool { return isOf(units, proposedUnit(o.Name)) })
	var ahead []string
	for i, o := range listed {
		if i == end {
			break
		}
		if end < 0 && before != nil && !before[o.Name] {
			continue
		}
		if unit := proposedUnit(o.Name); !t.combine.passed[unit] && !t.isOver(o.Name) {
			ahead = append(ahead, unit)
		}
	}
	return ahead
}
