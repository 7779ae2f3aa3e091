package sink

import (
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
	// maxCarried bounds the proposals that one commit carries, and maxCarriedBytes their bytes in the store. The oldest go first.
	maxCarried      = 512
	maxCarriedBytes = 16 << 20
	// proposalReads are fetched at a time.
	proposalReads = 64
	// someCrowd is the crowd from which a worker leaves its units first: about every third version carried somebody's.
	someCrowd = 1.3
	// patience is how many times as long as an attempt to commit takes a worker waits for a version before it goes past those ahead of it.
	patience = 4
	// landedKept are the versions at least whose units are known by id: by then who left them has deleted their proposals, or is dead.
	landedKept = 64
	// deadAfter is how old a proposal that can't be carried any more has to be, by the store's time, to be deleted by others than its
	// owner, who is mostly about to do it.
	deadAfter = 5 * time.Second
	// maxSwept are such proposals that one commit deletes.
	maxSwept = 8
	// proposalLife is how long a proposal is kept, by the store's time (rule P5).
	proposalLife = 10 * time.Minute
	// maxUnitAge is how old a unit's oldest file may be when it is committed or carried (rule C8): cleaning of orphans takes
	// none that is younger than 24 h.
	maxUnitAge = time.Hour
)

// combiner is what a Table knows of the competition for its log. It is owned by the holder of Table.working.
type combiner struct {
	until  time.Time            // contention was seen less than contendedFor before
	cycle  time.Duration        // of one attempt to commit, a moving average
	crowd  float64              // workers that have a part in a version, a moving average
	read   map[string]*proposal // by name; nil: never to be carried
	landed map[string]int64     // units of the newest versions, by id

	listed []delta.ObjectInfo // proposals, the oldest first
	looked time.Time          // when they were asked for
}

// Bounds of what the moving averages may say.
const (
	minCycle = 5 * time.Millisecond
	maxCycle = time.Second
)

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
// by all workers at once, and those with dead letters: whether their slots are free (rule D4) is for their owner to know.
func (t *Table) combines(units []*Unit) bool {
	return t.cfg.Combine != CombineOff && !slices.ContainsFunc(units, func(u *Unit) bool {
		return u.app != nil || u.pin != nil || u.refresh || u.parcel != nil || t.changes(u) // P1 and P3: a proposal has no metaData, and a commit with one carries nothing
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
		if err := t.look(ctx, units); err != nil || len(t.pending(units)) == 0 {
			return err
		}
	}
	return t.takeTurns(ctx, units)
}

// look catches up with the log and lists the proposals, both at a time.
func (t *Table) look(ctx context.Context, units []*Unit) error {
	asked := t.opts.Now()
	var listed []delta.ObjectInfo
	var wait sync.WaitGroup
	wait.Go(func() { listed = t.listProposals(ctx) })
	_, err := t.catchUp(ctx, units)
	wait.Wait()
	t.combine.listed, t.combine.looked = listed, asked
	t.forgetProposals()
	return err
}

// listProposals returns what lies there, the oldest first: names begin with the time. It is called beside work on the log.
func (t *Table) listProposals(ctx context.Context) []delta.ObjectInfo {
	var listed []delta.ObjectInfo
	for o, err := range t.store.List(ctx, proposalFolder, "") {
		if err != nil {
			t.opts.Log.Debug("proposals can't be listed: the commit carries none", "error", err)
			return nil
		}
		listed = append(listed, o)
	}
	return listed
}

// pending are the listed proposals of others that are not known to be done with.
func (t *Table) pending(units []*Unit) []delta.ObjectInfo {
	var pending []delta.ObjectInfo
	for _, o := range t.combine.listed {
		unit := proposedUnit(o.Name)
		if !t.isDone(o.Name) && !slices.ContainsFunc(units, func(u *Unit) bool { return u.ID == unit }) {
			pending = append(pending, o)
		}
	}
	return pending
}

// isDone tells of a proposal that can never be carried any more: its unit has landed, its partitions or the table have moved on, or
// it can't be understood.
func (t *Table) isDone(name string) bool {
	if _, landed := t.combine.landed[proposedUnit(name)]; landed {
		return true
	}
	p, known := t.combine.read[name]
	return known && (p == nil || p.Record.ReadAt < t.changed || slices.ContainsFunc(p.Record.Spans, func(s checkpoint.Span) bool {
		appID := checkpoint.AppID(p.Record.Name, s.ID)
		txn, _ := t.log.Txn(appID)
		return t.touched[appID] > p.Record.ReadAt || txn.Version >= s.First
	}))
}

// carried returns the proposals of others that go into the next version with the units. It fails never: without its answer the
// units go alone.
func (t *Table) carried(ctx context.Context, units []*Unit) []*proposal {
	now := t.opts.Now()
	if !t.combine.contended(now) || !t.combines(units) {
		return nil
	}
	taken := map[string]bool{}
	for _, u := range units {
		for _, s := range u.Spans {
			taken[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
		for _, f := range u.files {
			taken[delta.EncodePath(f.Name)] = true
		}
	}
	pending := t.pending(units)
	size := int64(0)
	for i, o := range pending {
		if size += o.Size; i == maxCarried || size > maxCarriedBytes {
			pending = pending[:i]
			break
		}
	}
	t.readProposals(ctx, pending)
	var fit []*proposal
	for _, o := range pending {
		p := t.combine.read[o.Name]
		if p == nil {
			continue
		}
		if reason := p.misfit(t, now, taken); reason != "" {
			t.opts.Log.Debug("a proposal is not carried", "name", o.Name, "reason", reason)
			continue
		}
		p.take(taken)
		fit = append(fit, p)
	}
	return fit
}

// sweep deletes, after a commit, proposals that have expired, or are done with and stay because their owner has died: they would
// stand before others who wait for their turn, and don't know.
func (t *Table) sweep(ctx context.Context) {
	now, left := t.opts.Now(), maxSwept
	for _, o := range t.combine.listed {
		p, read := t.combine.read[o.Name]
		bad := read && p == nil // its owner may understand it
		old := now.Sub(o.ModTime)
		if left > 0 && (old > proposalLife || old > deadAfter && !bad && t.isDone(o.Name)) {
			t.dropProposal(ctx, o.Name)
			left--
		}
	}
}

// readProposals fetches those that were not read yet, many at a time.
func (t *Table) readProposals(ctx context.Context, pending []delta.ObjectInfo) {
	var names []string
	for _, o := range pending {
		if _, known := t.combine.read[o.Name]; !known {
			names = append(names, o.Name)
		}
	}
	found := make([]*proposal, len(names))
	failed := make([]error, len(names))
	var wait sync.WaitGroup
	for worker := range min(proposalReads, len(names)) {
		wait.Go(func() {
			for i := worker; i < len(names); i += proposalReads {
				found[i], failed[i] = t.readProposal(ctx, names[i])
			}
		})
	}
	wait.Wait()
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

// forgetProposals bounds what is remembered by what is there.
func (t *Table) forgetProposals() {
	if len(t.combine.read) <= 2*len(t.combine.listed) {
		return
	}
	there := make(map[string]bool, len(t.combine.listed))
	for _, o := range t.combine.listed {
		there[o.Name] = true
	}
	maps.DeleteFunc(t.combine.read, func(name string, _ *proposal) bool { return !there[name] })
}

// takeTurns is what a worker does under contention instead of trying again at once. It leaves its units as proposals and
// watches the log: most of the time one of the versions that follow has them. Otherwise it commits itself when no proposal is
// left that is older than its own, which a listing has to show that is newer than its own and than the last version.
// So of those who wait one goes, the rest know that it does, and nobody is passed over for long. Where no version comes for
// patience times as long as a commit takes, the first may be dead: the second goes too, then the fourth, and so on.
func (t *Table) takeTurns(ctx context.Context, units []*Unit) error {
	if err := t.leave(ctx, units); err != nil {
		return err
	}
	past := 0 // how many may be ahead
	for since := t.opts.Now(); ; {
		fit, _ := t.fitting(units)
		if len(fit) == 0 || len(fit[0].proposals) == 0 {
			return nil
		}
		if t.ahead(units, fit[0].proposals[0]) <= past {
			if !t.combine.looked.Before(since) {
				return nil
			}
			if err := t.look(ctx, units); err != nil {
				return err
			}
			continue
		}
		cycle := max(t.combine.cycle, minCycle)
		if err := backoff.Sleep(ctx, cycle/8+rand.N(cycle/4)); err != nil {
			return err
		}
		moved, err := t.step(ctx, units)
		switch now := t.opts.Now(); {
		case err != nil:
			return err
		case moved:
			since = now
		case now.Sub(since) > patience*cycle:
			since, past = now, 2*past+1
		}
	}
}

// leave puts the units where others see them, unless that is done, and looks around meanwhile.
func (t *Table) leave(ctx context.Context, units []*Unit) error {
	var wait sync.WaitGroup
	fit, _ := t.fitting(units)
	for _, u := range fit {
		if len(u.proposals) > 0 && u.proposedAt >= t.changed {
			continue
		}
		name, data, err := t.propose(u)
		if err != nil {
			t.opts.Log.Debug("a unit can't be left as a proposal: it goes on alone", "unit", u.ID, "error", err)
			continue
		}
		wait.Go(func() {
			if err := t.store.Put(ctx, name, data); err != nil {
				t.opts.Log.Debug("a unit can't be left as a proposal: it goes on alone", "unit", u.ID, "error", err)
			}
		})
	}
	err := t.look(ctx, units)
	wait.Wait()
	return err
}

// ahead is how many proposals of others are older than the one of that name.
func (t *Table) ahead(units []*Unit, name string) int {
	n := 0
	for _, o := range t.pending(units) {
		if o.Name < name {
			n++
		}
	}
	return n
}
