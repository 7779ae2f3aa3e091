package sink

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
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
	// racers are how many of those who wait for their turn go on after a version, on average.
	racers = 1.5
	// someCrowd is the crowd from which a worker leaves its units first: about every third version carried somebody's.
	someCrowd = 1.3
	// impatience is by how much more likely a worker goes on with each version that has passed it over.
	impatience = 1.25
	// proposalLife is how long a proposal is kept, by the store's time (rule P5).
	proposalLife = 10 * time.Minute
	// maxUnitAge is how old a unit's oldest file may be when it is committed or carried (rule C8): cleaning of orphans takes
	// none that is younger than 24 h.
	maxUnitAge = time.Hour
)

// combiner is what a Table knows of the competition for its log. It is owned by the holder of Table.working.
type combiner struct {
	until time.Time            // contention was seen less than contendedFor before
	cycle time.Duration        // of one attempt to commit, a moving average
	crowd float64              // workers that have a part in a version, a moving average
	read  map[string]*proposal // by name; nil: never to be carried

	found  []string  // names of the proposals of the last listing, the oldest first
	looked time.Time // when that was
}

// Bounds of what the moving averages may say.
const (
	minCycle = 5 * time.Millisecond
	maxCycle = time.Second
)

func (c *combiner) contended(now time.Time) bool { return now.Before(c.until) }

// saw takes note of a version: how many workers have a part in it, and whether its writer met others.
func (c *combiner) saw(now time.Time, record checkpoint.CommitRecord) {
	if record.Contended {
		c.until = now.Add(contendedFor)
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

// carried returns the proposals of others that go into the next version with the units. It fails never: without its answer the
// units go alone.
func (t *Table) carried(ctx context.Context, units []*Unit) []*proposal {
	now := t.opts.Now()
	if !t.combine.contended(now) || !t.combines(units) {
		return nil
	}
	taken := map[string]bool{}
	own := map[string]bool{}
	for _, u := range units {
		own[u.ID] = true
		for _, s := range u.Spans {
			taken[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
		for _, f := range u.files {
			taken[delta.EncodePath(f.Name)] = true
		}
	}
	var fit []*proposal
	// Who has just looked and lost goes on with what it found: as fast as those who carry nothing, or they would always win.
	if now.Sub(t.combine.looked) > 2*t.combine.cycle {
		t.combine.found, t.combine.looked = t.findProposals(ctx, now), t.opts.Now()
	}
	for _, name := range t.combine.found {
		p := t.combine.read[name]
		if p == nil || own[p.Record.Unit] {
			continue
		}
		if reason := p.misfit(t, now, taken); reason != "" {
			t.opts.Log.Debug("a proposal is not carried", "name", name, "reason", reason)
			continue
		}
		p.take(taken)
		fit = append(fit, p)
	}
	return fit
}

// findProposals lists the proposals, reads those that are new, and returns the names of all, the oldest first.
func (t *Table) findProposals(ctx context.Context, now time.Time) []string {
	var listed []delta.ObjectInfo
	for o, err := range t.store.List(ctx, proposalFolder, "") {
		if err != nil {
			t.opts.Log.Debug("proposals can't be listed: the commit carries none", "error", err)
			return nil
		}
		if now.Sub(o.ModTime) > proposalLife {
			t.dropProposal(ctx, o.Name)
			continue
		}
		listed = append(listed, o)
	}
	slices.SortFunc(listed, func(a, b delta.ObjectInfo) int {
		return cmp.Or(a.ModTime.Compare(b.ModTime), cmp.Compare(a.Name, b.Name))
	})
	var names, unread []string
	size := int64(0)
	for _, o := range listed {
		if size += o.Size; len(names) == maxCarried || size > maxCarriedBytes {
			break
		}
		p, known := t.combine.read[o.Name]
		if known && (p == nil || t.landedElsewhere(p)) {
			continue
		}
		names = append(names, o.Name)
		if !known {
			unread = append(unread, o.Name)
		}
	}
	t.readProposals(ctx, unread)
	t.forgetProposals(listed)
	return names
}

// landedElsewhere tells of a proposal that can never be carried any more because its partitions have moved on.
func (t *Table) landedElsewhere(p *proposal) bool {
	return slices.ContainsFunc(p.Record.Spans, func(s checkpoint.Span) bool {
		return t.touched[checkpoint.AppID(p.Record.Name, s.ID)] > p.Record.ReadAt
	})
}

// readProposals fetches many at a time.
func (t *Table) readProposals(ctx context.Context, names []string) {
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
func (t *Table) forgetProposals(listed []delta.ObjectInfo) {
	if len(t.combine.read) <= 2*len(listed) {
		return
	}
	there := make(map[string]bool, len(listed))
	for _, o := range listed {
		there[o.Name] = true
	}
	for name := range t.combine.read {
		if !there[name] {
			delete(t.combine.read, name)
		}
	}
}

// crowded tells that the first try would most likely be in vain, because others wait for their turn.
func (t *Table) crowded(units []*Unit) bool {
	return t.combine.crowd >= someCrowd && t.combine.contended(t.opts.Now()) && t.combines(units)
}

// takeTurns is what a worker does under contention instead of trying again at once. It leaves its units as proposals and
// watches the log: most of the time one of the versions that follow has them. After each version about as many of those who
// wait as racers says go on to commit, by chance, and one of them wins. Where no version comes for half as long again as a
// commit takes, nobody has gone, and the chance doubles: a crowd that has left does not hold up those who remain. It grows by
// impatience with each version that has passed a worker over, too, so that nobody waits for long. moved tells that a version
// was read just now.
func (t *Table) takeTurns(ctx context.Context, units []*Unit, moved bool) error {
	fit, _ := t.fitting(units)
	for _, u := range fit {
		if len(u.proposals) > 0 && u.proposedAt >= t.changed {
			continue
		}
		if err := t.propose(ctx, u); err != nil {
			t.opts.Log.Debug("a unit can't be left as a proposal: it goes on alone", "unit", u.ID, "error", err)
		}
	}
	cycle := max(t.combine.cycle, minCycle)
	for chance := float64(racers); ; {
		for since := t.opts.Now(); !moved && t.opts.Now().Sub(since) < cycle*3/2; {
			if err := backoff.Sleep(ctx, cycle/8+rand.N(cycle/4)); err != nil {
				return err
			}
			var err error
			if moved, err = t.step(ctx, units); err != nil {
				return err
			}
			if fit, _ := t.fitting(units); len(fit) == 0 {
				return nil
			}
		}
		if !moved {
			chance *= 2
		}
		if rand.Float64()*max(t.combine.crowd, 1) < chance {
			return nil
		}
		chance *= impatience
		moved = false
	}
}
