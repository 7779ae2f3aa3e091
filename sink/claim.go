package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"kafkadelta/checkpoint"
)

// claim is this process's belief that it owns a partition, and what it knows of the partition's txn. While it is not
// fenced, every version in (asOf, newest known] was read as JSON and does not touch the app id.
type claim struct {
	partition checkpoint.Partition
	last      int64 // the txn's version: last offset taken, -1 for none
	asOf      int64 // Delta version at which last was read or written
	fenced    bool  // somebody else has moved the txn, or nothing can be proved any more
}

// Claim reads where the table stands and takes over the partitions: it returns from which offset each is to be read.
// Every partition must have a txn by now (see Pin).
func (t *Table) Claim(ctx context.Context, parts []checkpoint.Partition) (map[checkpoint.Partition]checkpoint.Position, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, err
	}
	next := make(map[checkpoint.Partition]checkpoint.Position, len(parts))
	for _, p := range parts {
		appID := checkpoint.AppID(t.opts.Name, p.ID)
		txn, ok := t.log.Txn(appID)
		if !ok {
			return nil, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the table has no txn %q although %s was pinned", appID, p),
				Remedy: fmt.Sprintf("somebody has removed it from the table's log: say from where to go on with `connector rewind --to-offsets %d=OFFSET`", p.ID),
			}
		}
		t.claims[appID] = &claim{partition: p, last: txn.Version, asOf: t.log.Version()}
		next[p] = checkpoint.Position{Next: txn.Version + 1, Epoch: t.epoch(t.opts.Name, p.ID)}
	}
	return next, nil
}

// epoch is the leader epoch of the last record that was taken of a partition.
func (t *Table) epoch(name string, partition int32) checkpoint.Epoch {
	txn, ok := t.log.Txn(checkpoint.LeaderAppID(name, partition))
	if !ok || txn.Version > math.MaxInt32 {
		return 0
	}
	return checkpoint.EpochOf(int32(txn.Version))
}

// Release gives partitions up. Units that hold them no longer fit.
func (t *Table) Release(ctx context.Context, parts []checkpoint.Partition) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	for _, p := range parts {
		delete(t.claims, checkpoint.AppID(t.opts.Name, p.ID))
	}
	return nil
}

// Follow reads versions that others made, and returns the partitions that must be claimed again, and the present layout: those whose claim is
// fenced (rule A3), and those of the owned ones that have none, since a late Release of before they came back has taken it. It keeps the
// txns of idle partitions from expiring, too (rule A4).
func (t *Table) Follow(ctx context.Context, owned ...checkpoint.Partition) ([]checkpoint.Partition, *Layout, error) {
	if err := t.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, nil, err
	}
	if err := t.refresh(ctx); err != nil {
		return nil, nil, err
	}
	return t.unclaimed(owned), t.layout, nil
}

// Known is Follow by what is known of the log already, as after a commit, which has read what others made: a worker that commits all the time has no other look.
func (t *Table) Known(ctx context.Context, owned ...checkpoint.Partition) ([]checkpoint.Partition, *Layout, error) {
	if err := t.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer t.unlock()
	return t.unclaimed(owned), t.layout, nil
}

// unclaimed are the partitions whose claim is fenced, and the owned ones without a claim.
func (t *Table) unclaimed(owned []checkpoint.Partition) []checkpoint.Partition {
	var parts []checkpoint.Partition
	for _, c := range t.claims {
		if c.fenced {
			parts = append(parts, c.partition)
		}
	}
	for _, p := range owned {
		if t.claims[checkpoint.AppID(t.opts.Name, p.ID)] == nil {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, checkpoint.Partition.Compare)
	return parts
}

// Positions returns, for every partition of the stream that the table knows, the first offset that it has not taken.
func (t *Table) Positions(ctx context.Context) (map[int32]int64, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, err
	}
	progress, err := checkpoint.ReadProgress(t.opts.Name, t.txns())
	if err != nil {
		return nil, err
	}
	next := maps.Clone(progress.Last)
	for p := range next {
		next[p]++
	}
	return next, nil
}

// pin is the content of a unit that fixes starts: the identity of the topic and the number of its partitions.
type pin struct {
	topic      string
	identity   checkpoint.Identity
	partitions int32
	route      int64
	begins     bool // to bring messages, all of them, or of those that a filter has left out so far
	marks      bool // whether the stream leaves messages out by a filter
}

// PinRequest describes the topic as Kafka has it.
type PinRequest struct {
	Topic      string
	Identity   checkpoint.Identity
	Partitions int32
	// Route is UnitMark of the spelling of what names the tables that rows go to (rule T6); 0 where they go into this one.
	Route int64
	// Reported asks what the group has reported for partitions: a partition that the table does not know but that was
	// reported has lost its txn.
	Reported func(ctx context.Context) (map[int32]int64, error)
	// Starts finds the first offset to read of every partition that Kafka has: by the stream's start policy if the stream is fresh, else,
	// of a table that kafka-delta-ingest has filled, from the beginning. Of a stream that was pinned it is not asked: what is added to its
	// topic begins at offset 0, so that what retention has removed of it since is missed (rule K1).
	Starts func(ctx context.Context, fresh bool) (map[int32]int64, error)
}

// Pin makes sure that every partition has a txn before the first row of it lands (rule A1), in one commit for all that
// lack one, together with the identity of the topic. Otherwise a crash would resolve a start policy such as `latest`
// again, later, and lose the messages between.
func (t *Table) Pin(ctx context.Context, r PinRequest) error {
	// Asked before the log is read: what was reported by then was committed before, so that the log must show it.
	reported, err := r.Reported(ctx)
	if err != nil {
		return err
	}
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	for {
		if err := t.advance(ctx, nil); err != nil {
			return err
		}
		unit, err := t.pinUnit(ctx, r, reported)
		if err != nil {
			return err
		}
		if unit == nil {
			t.pinned = &r.Identity
			return nil
		}
		if err := t.land(ctx, []*Unit{unit}); err != nil {
			return err
		}
		switch unit.state {
		case Landed:
			t.pinned = &r.Identity
			return nil
		case Unresolved, Pending:
			if err := ctx.Err(); err != nil {
				return err
			}
		case Dropped: // somebody pinned meanwhile
		} // look again
	}
}

// pinUnit is nil where nothing is to be pinned.
func (t *Table) pinUnit(ctx context.Context, r PinRequest, reported map[int32]int64) (*Unit, error) {
	progress, err := checkpoint.ReadProgress(t.opts.Name, t.txns())
	if err != nil {
		return nil, err
	}
	missing, fresh, err := progress.Pins(t.opts.Name, r.Identity, r.Partitions)
	if err != nil {
		return nil, err
	}
	if err := t.checkRoute(r.Route); err != nil {
		return nil, err
	}
	if !fresh {
		if err := t.lookBack(ctx); err != nil {
			return nil, err
		}
	}
	if len(missing) > 0 && !fresh {
		if err := t.refuseReported(reported, missing); err != nil {
			return nil, err
		}
	}
	if fresh && len(reported) > 0 {
		return nil, RefuseFresh(t.opts.Name, reported)
	}
	pinned, known := progress.Identities[r.Identity]
	begins := !known || t.filtered() && !t.opts.Filtered
	if begins {
		if err := checkpoint.CheckAlone(t.opts.Name, r.Topic, r.Identity, t.opts.Filtered, t.txns()); err != nil {
			return nil, err
		}
	}
	marks := t.pinned == nil && t.filtered() != t.opts.Filtered // the worker that started last has the word
	if len(missing) == 0 && known && pinned >= r.Partitions && !marks && t.knowsRoute(r.Route) {
		return nil, nil
	}
	unit := &Unit{ID: newUnitID(), pin: &pin{r.Topic, r.Identity, max(r.Partitions, pinned), r.Route, begins, marks}}
	if len(missing) == 0 {
		return unit, nil
	}
	var starts map[int32]int64
	if !known {
		if starts, err = r.Starts(ctx, fresh); err != nil {
			return nil, err
		}
	}
	for _, n := range missing {
		start, ok := starts[n]
		if !ok && !known {
			return nil, errors.New("Kafka told no first offset for partition " + fmt.Sprint(n))
		}
		unit.Spans = append(unit.Spans, checkpoint.Span{
			Partition: checkpoint.Partition{Topic: r.Topic, ID: n}, First: start, Next: start,
		})
	}
	return unit, nil
}

// filtered tells whether the stream leaves messages out by a filter, by what the table knows.
func (t *Table) filtered() bool { return t.txnVersion(checkpoint.FilterAppID(t.opts.Name)) > 0 }

// knowsRoute tells whether the table knows what names those that rows go to; true where they go into this one.
func (t *Table) knowsRoute(route int64) bool {
	return route == 0 || t.txnVersion(checkpoint.RouteAppID(t.opts.Name)) == route
}

// checkRoute refuses another division among tables than the catalog's: by its keys, rows would go to other tables than those of before (rule T6).
func (t *Table) checkRoute(route int64) error {
	if at := t.txnVersion(checkpoint.RouteAppID(t.opts.Name)); at >= 0 && at != route {
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table is the catalog of stream %q, whose rows go to tables by other values than table.uri has now, or by a column of another type", t.opts.Name),
			Remedy: "have in table.uri what was there in braces, and the columns that it names as they were; for another division, or for one table instead of many, use another `name` and tables of its own",
		}
	}
	return nil
}

// outruled is a *checkpoint.RefusedError where another has said, since this process has pinned the stream, what this process does not keep to: that
// the stream leaves messages out by a filter, so that others of its topic may be beside it (rule A1c), that it was retired (A1d), or that its offsets are
// those of another topic (K5).
func (t *Table) outruled() error {
	if t.pinned == nil {
		return nil
	}
	if t.filtered() && !t.opts.Filtered {
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table says by now that stream %q leaves messages out by a filter, and this process brings all of them", t.opts.Name),
			Remedy: "a worker with a table.filter was started beside this one: give all workers of the stream the same configuration. One that is started without a filter takes it back, unless another stream brings the topic",
		}
	}
	if t.txnVersion(checkpoint.IdentityAppID(t.opts.Name, *t.pinned)) != 0 {
		return nil
	}
	progress, err := checkpoint.ReadProgress(t.opts.Name, t.txns())
	if err != nil || progress.Retired() {
		return cmp.Or(err, error(checkpoint.RetiredError(t.opts.Name)))
	}
	return &checkpoint.RefusedError{
		Cause:  fmt.Sprintf("a rewind has led stream %q to another topic, and this process reads the former one (id %s in cluster %s)", t.opts.Name, t.pinned.TopicID, t.pinned.ClusterID),
		Remedy: "start it again with the source.brokers and source.topic of the new one; if those are the same, the topic was made anew, and a start is all that it takes",
	}
}

// RefuseFresh is a *checkpoint.RefusedError for a table that has never heard of the stream, or that is not there at all, although offsets
// were reported, which is done after commits alone: the table was another one. To begin again would lose, or double elsewhere, what was
// taken since.
func RefuseFresh(stream string, reported map[int32]int64) error {
	n := slices.Min(slices.Collect(maps.Keys(reported)))
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("the table knows nothing of stream %q, but the consumer group has reported offsets of the topic (%d of partition %d)", stream, reported[n], n),
		Remedy: "the table that the stream wrote to was removed, or is another one: check table.uri. If it has rows of the stream, all its txns are lost, as an earlier version let them expire: " +
			"`connector adopt --from-group` goes on behind what the group was told, or the table's files tell where that is further. To begin a new table, delete the group's offsets (kafka-consumer-groups.sh --delete), " +
			"or use another `name` or source.group",
	}
}

// refuseReported refuses partitions that the table does not know, but whose offsets were reported after a commit.
func (t *Table) refuseReported(reported map[int32]int64, missing []int32) error {
	for _, n := range missing {
		if offset, ok := reported[n]; ok {
			return &checkpoint.RefusedError{
				Cause: fmt.Sprintf("the table has no offset of partition %d of stream %q, but offset %d was reported to the consumer group",
					n, t.opts.Name, offset),
				Remedy: "the table has lost the txn, or another program uses the same consumer group: set source.group to one of your own, or say from where to go on with " +
					fmt.Sprintf("`connector rewind --to-offsets %d=OFFSET`", n),
			}
		}
	}
	return nil
}
