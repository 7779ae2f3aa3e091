package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Rewinding is what an operator asks for: from which offsets a stream is to go on.
type Rewinding struct {
	Writer

	Name, Topic string
	How         string     // the operator's words, for the record
	Kafka       KafkaTopic // the topic as it is now
	// To is the first offset to read, by partition. The others stay where they are.
	To map[int32]int64
	// ToVersion takes To from the txns of this version of the table, after a RESTORE to it. -1: To is given.
	ToVersion int64
	// NewTopic agrees that the table's offsets are those of Kafka's topic from here on, whichever they were of.
	NewTopic bool
	// Force goes on where Kafka's topic begins now, where an offset is asked for that it has no longer. After a RESTORE it leaves partitions
	// that are not named where they are, and goes on without dead letters that were replayed and whose rows it has taken. It goes on past a table
	// of a catalog that can't be looked at.
	Force    bool
	Filtered bool // the stream leaves messages out by a filter
	// Routed reaches the stream's tables where they are many.
	Routed Routed
	// Letters is the store of the stream's dead-letter table; nil where none is configured.
	Letters delta.LogStore
}

// Move is what becomes of one partition. Offsets are the first ones that are not taken.
type Move struct {
	Partition int32
	From      int64 // -1: the table has no offset of it
	To        int64
	Gone      int64 // offsets that were asked for and that Kafka has no longer, with Force
}

// Again is how many offsets are read again, and Passed how many are never read.
func (m Move) Again() int64 { return max(m.From-m.To, 0) }

// Passed is how many offsets are passed over.
func (m Move) Passed() int64 {
	if m.From < 0 {
		return 0
	}
	return max(m.To-m.From, 0)
}

// RewindPlan is what a rewind would do, as of a version of the table.
type RewindPlan struct {
	Version    int64
	Generation int64  // that it begins
	Moves      []Move // of all partitions of the stream, ordered
	Former     []checkpoint.Identity
	Warnings   []string

	r     Rewinding
	table *delta.Table
	lacks int64 // mark of the stream's last unit, where the table has no files of it; -1 where it has
}

// PlanRewind finds out what a rewind would do, and writes nothing. It refuses what can't be meant: offsets that Kafka does not
// have, a partition that is not known, another topic.
func PlanRewind(ctx context.Context, store delta.LogStore, r Rewinding) (*RewindPlan, error) {
	t, err := openForWriting(ctx, store, r.Writer)
	if err != nil {
		return nil, err
	}
	p := &RewindPlan{r: r, table: t, Version: t.Version(), lacks: -1}
	progress, err := progressOf(r.Name, t.Txns())
	if err != nil {
		return nil, err
	}
	if progress.Fresh() {
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table has no offsets of stream %q", r.Name),
			Remedy: "where it begins is said by source.start, or by `connector adopt`; is it the right table, and the right `name`?",
		}
	}
	restored, unsure, err := restoredSince(ctx, store, t, t.Version(), r.Name)
	if err != nil {
		return nil, err
	}
	p.r.To = maps.Clone(r.To)
	if r.ToVersion >= 0 {
		if err := p.takeVersion(ctx, store, progress, restored); err != nil {
			return nil, err
		}
	} else if restored != nil {
		p.warn("%s, and offsets did not go back with the rows: `--to-table-version %s` takes exactly those back", restored.text, restored)
	}
	if err := p.checkOffsets(); err != nil {
		return nil, err
	}
	p.Moves, err = p.moves(progress)
	p.Generation = progress.Generation + 1
	if err == nil && r.ToVersion < 0 {
		err = p.wholeAfterRestore(restored, unsure)
	}
	if err == nil && !r.Force {
		err = p.checkReplays(ctx, store, restored)
	}
	if _, known := progress.Identities[r.Kafka.Identity]; !known && err == nil {
		err = p.checkAloneInTables(ctx, store)
	}
	if err == nil {
		err = p.checkPending(ctx, store)
	}
	if err == nil {
		err = p.findLastUnit(ctx, store)
	}
	for _, m := range p.Moves {
		if start := p.r.Kafka.Start[m.Partition]; m.From < 0 && m.To < start {
			p.warn("partition %d was added since, and Kafka no longer has its first %d messages: workers will refuse to go on without them unless source.on_data_loss is continue; --to-offsets %d=earliest goes on without",
				m.Partition, start, m.Partition)
		}
	}
	if lasting := p.lasting(restored); lasting != "" && err == nil {
		p.warn("%s", lasting)
	}
	return p, err
}

func (p *RewindPlan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// takeVersion takes the offsets of an earlier version of the table.
func (p *RewindPlan) takeVersion(ctx context.Context, store delta.LogStore, now checkpoint.Progress, restored *restoration) error {
	n := p.r.ToVersion
	switch {
	case n >= p.Version:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table is at version %d: version %d is not before it", p.Version, n),
			Remedy: "name the version that the table was restored to, which is an earlier one",
		}
	case restored != nil && restored.at >= 0 && n >= restored.at:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("version %d restored the table, and its offsets and those of version %d are from before that", restored.at, n),
			Remedy: fmt.Sprintf("name the version that it went back to: --to-table-version %s", restored),
		}
	case restored != nil && restored.to >= 0 && n > restored.to:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("version %d restored the table to version %d: the rows between that and version %d would not come back", restored.at, restored.to, n),
			Remedy: fmt.Sprintf("use --to-table-version %d", restored.to),
		}
	}
	snap, err := delta.OpenSnapshot(ctx, store, n)
	if err != nil {
		return fmt.Errorf("opening version %d (if it was cleaned from the log, say --to-offsets, with what `SELECT max(_kafka.offset)` finds + 1): %w", n, err)
	}
	then, err := progressOf(p.r.Name, snap.Txns())
	switch {
	case err != nil:
		return err
	case len(then.Last) == 0:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("version %d has no offsets of stream %q: it is from before its first commit", n, p.r.Name),
			Remedy: "say where to begin: --to earliest, or --to-offsets",
		}
	case len(then.Identities) > 0 && !maps.EqualFunc(then.Identities, now.Identities, func(int32, int32) bool { return true }):
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the offsets of version %d are of another topic than those of version %d", n, p.Version),
			Remedy: "say where to go on in the present topic: --to-offsets, --to-time or --to earliest",
		}
	}
	if err := p.checkRowsOf(ctx, store, n); err != nil {
		return err
	}
	p.r.To = map[int32]int64{}
	for id := range now.Last {
		p.r.To[id] = 0 // a partition that came later is read from its beginning
	}
	for id, last := range then.Last {
		p.r.To[id] = last + 1
	}
	return nil
}

// findLastUnit finds out whether the table has files of the stream's last unit, by which a start tells a RESTORE that comes after the rewind (rule A6a).
func (p *RewindPlan) findLastUnit(ctx context.Context, store delta.LogStore) error {
	txn, ok := p.table.Txn(checkpoint.LastUnitAppID(p.r.Name))
	if !ok {
		return nil
	}
	p.lacks = txn.Version
	last, ok := checkpoint.NewLastUnit(p.r.Name, txn.Version, txn.LastUpdated)
	if !ok {
		return nil
	}
	snap, err := delta.OpenSnapshot(ctx, store, p.Version)
	if err != nil {
		return err
	}
	if err := showFiles(ctx, snap, last); err != nil {
		return err
	}
	if last.Found {
		p.lacks = -1
	}
	return nil
}

// checkOffsets compares where it is to go with what Kafka has.
func (p *RewindPlan) checkOffsets() error {
	for _, id := range slices.Sorted(maps.Keys(p.r.To)) {
		if _, ok := p.r.Kafka.Start[id]; !ok && p.r.ToVersion >= 0 {
			delete(p.r.To, id) // the topic has fewer partitions by now
		} else if err := p.r.Kafka.check(p.r.Topic, id, p.r.To[id], p.r.Force); err != nil {
			return err
		}
	}
	return nil
}

// check says why a partition can't be read from an offset on.
func (k KafkaTopic) check(topic string, id int32, to int64, force bool) error {
	start, ok := k.Start[id]
	switch end := k.End[id]; {
	case !ok:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("topic %s has no partition %d", topic, id),
			Remedy: fmt.Sprintf("it has those from 0 to %d", len(k.Start)-1),
		}
	case to > end:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("offset %d of %s[%d] is beyond the end, which is %d", to, topic, id, end),
			Remedy: "name an offset up to the end; is it the right topic?",
		}
	case to < start && !force:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("Kafka no longer has offset %d of %s[%d]: its first one is %d", to, topic, id, start),
			Remedy: fmt.Sprintf("what is gone can't be read again; with --force it goes on at %d", start),
		}
	}
	return nil
}

// moves are those of all partitions of the stream, for the progress that a version has.
func (p *RewindPlan) moves(now checkpoint.Progress) ([]Move, error) {
	newTopic, err := p.changesTopic(now)
	if err != nil {
		return nil, err
	}
	pinned, known := now.Identities[p.r.Kafka.Identity]
	if !known { // it brings the topic from here on (rule A1c)
		if err := checkpoint.CheckAlone(p.r.Name, p.r.Topic, p.r.Kafka.Identity, p.r.Filtered, versions(p.table.Txns())); err != nil {
			return nil, err
		}
	}
	ids := map[int32]bool{}
	for _, of := range []iter.Seq[int32]{maps.Keys(now.Last), maps.Keys(p.r.Kafka.Start)} {
		for id := range of {
			ids[id] = true
		}
	}
	for id := range pinned {
		ids[id] = true
	}
	var moves []Move
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		m := Move{Partition: id, From: -1}
		if last, ok := now.Last[id]; ok {
			m.From = last + 1
		}
		to, asked := p.r.To[id]
		start, there := p.r.Kafka.Start[id]
		switch {
		case m.From < 0 && !there:
			continue // of the present topic it is none, and nothing of it can be under way
		case asked:
			m.To = max(to, start)
			m.Gone = m.To - to
		case newTopic && !there:
			m.To = 0 // if it comes to be, it is read from its beginning
		case newTopic, m.From < 0 && id < pinned:
			return nil, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("it is not said where partition %d is to go on, and the table has no offset of it in this topic", id),
				Remedy: fmt.Sprintf("name it as well: --to-offsets %d=OFFSET, or --to earliest for all", id),
			}
		case m.From < 0 && len(now.Identities)+len(now.Former) > 0: // new: a worker would pin it there, too (rule A1)
			m.To = 0
		case m.From < 0: // kafka-delta-ingest has no txn of what had no message
			m.To = start
		default:
			m.To = m.From
		}
		moves = append(moves, m)
	}
	return moves, nil
}

// changesTopic tells whether the table's offsets are of another topic so far.
func (p *RewindPlan) changesTopic(now checkpoint.Progress) (bool, error) {
	is := p.r.Kafka.Identity
	_, known := now.Identities[is]
	p.Former = p.Former[:0]
	for id := range now.Identities {
		if id != is {
			p.Former = append(p.Former, id)
		}
	}
	if now.Retired() { // its offsets are of one of those that it had
		p.Former, known = now.Former, slices.Equal(now.Former, []checkpoint.Identity{is})
	}
	if known || len(p.Former) == 0 {
		p.Former = nil // a table with both was given both by hand: they stay
		if p.r.NewTopic {
			return false, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("topic %s is the one that the table's offsets are of", p.r.Topic),
				Remedy: "leave --new-topic out",
			}
		}
		return false, nil
	}
	if !p.r.NewTopic && now.Retired() {
		return false, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("stream %q was retired, and its offsets are not, or not all, of the topic %s as it is now (id %s)", p.r.Name, p.r.Topic, is.TopicID),
			Remedy: "`--to earliest --new-topic`, or --new-topic with an offset for each partition, begins with it",
		}
	}
	if !p.r.NewTopic {
		_, _, err := now.Pins(p.r.Name, is, 0)
		return false, err
	}
	return true, nil
}

// checkAloneInTables refuses a topic that another stream brings into one of a catalog's tables by now (rules A1c and T7).
func (p *RewindPlan) checkAloneInTables(ctx context.Context, store delta.LogStore) error {
	err := p.r.Routed.each(ctx, store, p.r.Name, func(_ string, table delta.LogStore) error {
		snap, err := delta.OpenSnapshot(ctx, table, -1)
		if err != nil {
			return err
		}
		return checkpoint.CheckAlone(p.r.Name, p.r.Topic, p.r.Kafka.Identity, p.r.Filtered, versions(snap.Txns()))
	})
	if err != nil && p.r.Force && !errors.As(err, new(*checkpoint.RefusedError)) {
		p.warn("whether another stream brings the topic into all tables can't be told: %v", err)
		return nil
	}
	return err
}

// checkPending tells of rows that are on their way to the tables of a catalog, and refuses to pass over those that can't come there any more: they are
// in the generation before, below where the catalog stands.
func (p *RewindPlan) checkPending(ctx context.Context, store delta.LogStore) error {
	pending, err := p.r.Routed.pending(ctx, store, p.r.Name)
	for _, rows := range pending {
		at := slices.IndexFunc(p.Moves, func(m Move) bool { return m.Partition == rows.Partition })
		switch {
		case rows.Broken != "" && !p.r.Force:
			return &checkpoint.RefusedError{
				Cause:  rows.String(),
				Remedy: "mend the table or bring it back; or make an empty one in its place, by `connector table create` with the catalog's schema, where its rows are not wanted any more; --force rewinds all the same, and the stream goes on once that is done",
			}
		case rows.Broken != "":
			p.warn("%v: nothing more of the stream is committed before that is mended, whatever table it is for", rows)
		case rows.Lost == "":
			p.warn("%v: they are brought there, as rows of the generation before", rows)
		case rows.First >= 0 && at >= 0 && p.Moves[at].To > rows.First:
			return &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("%v; and offset %d, with which they begin, would not be read again", rows, rows.First),
				Remedy: fmt.Sprintf("have it read: --to-offsets %d=%d, and more for others; or give the rows up first, by `connector settle --give-up`", rows.Partition, rows.First),
			}
		default:
			p.warn("%v", rows)
		}
	}
	return err
}

// lasting tells of rows that a rewind leaves.
func (p *RewindPlan) lasting(restored *restoration) string {
	const stay = "rows of what is read again stay in the table, as those of an earlier generation: "
	switch again := slices.ContainsFunc(p.Moves, func(m Move) bool { return m.Again() > 0 }); {
	case !again || p.r.NewTopic:
	case p.r.ToVersion < 0:
		return stay + "delete them first where they are not wanted twice"
	case restored == nil:
		return stay + fmt.Sprintf("nothing tells that the table was restored since the stream's last commit, so RESTORE it to version %d first where they are not wanted twice", p.r.ToVersion)
	}
	return ""
}

// Commit does it, in one version, which it returns. Of a catalog, Settle is to follow.
func (p *RewindPlan) Commit(ctx context.Context) (int64, error) {
	return p.r.land(ctx, p.table, p.transaction)
}

// Settle brings the tables of a catalog what it had decided about before the rewind. After an error workers do so, or are refused with its cause.
func (p *RewindPlan) Settle(ctx context.Context) error {
	_, err := p.r.Routed.settle(ctx, false)
	return err
}

// transaction is the rewind on top of the newest version. Partitions that are not asked for stay as they are there.
func (p *RewindPlan) transaction() (*delta.Transaction, error) {
	now, err := progressOf(p.r.Name, p.table.Txns())
	if err != nil {
		return nil, err
	}
	if now.Generation+1 != p.Generation {
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the stream was rewound to generation %d while this rewind was prepared", now.Generation),
			Remedy: "make a new plan",
		}
	}
	if p.Moves, err = p.moves(now); err != nil {
		return nil, err
	}
	unit := checkpoint.UnitRecord{
		Unit: uuid.NewString(), Name: p.r.Name, Generation: p.Generation, ReadAt: p.table.Version(), Pin: true,
		Rewind: &checkpoint.Rewind{How: p.r.How, NewTopic: len(p.Former) > 0},
	}
	for _, m := range p.Moves {
		unit.Spans = append(unit.Spans, checkpoint.Span{
			Partition: checkpoint.Partition{Topic: p.r.Topic, ID: m.Partition}, First: m.To, Next: m.To,
		})
		unit.Rewind.From = append(unit.Rewind.From, m.From)
	}
	tx, err := pinning(unit, "REWIND", map[string]string{"name": p.r.Name, "how": p.r.How, "generation": strconv.FormatInt(p.Generation, 10)})
	if err != nil {
		return nil, err
	}
	for _, m := range p.Moves { // the leader epoch is of the last record before, and nothing tells that of another one
		leader := checkpoint.LeaderAppID(p.r.Name, m.Partition)
		if _, ok := p.table.Txn(leader); ok && (m.To != m.From || len(p.Former) > 0) {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: leader, Version: -1})
		}
	}
	last := checkpoint.LastUnitAppID(p.r.Name)
	if txn, ok := p.table.Txn(last); ok && txn.Version >= 0 && txn.Version == p.lacks { // a RESTORE has taken them, or others have rewritten them
		tx.Txns = append(tx.Txns, delta.Txn{AppID: last, Version: -1})
	}
	home := delta.Txn{AppID: checkpoint.HomeAppID(p.r.Name), Version: checkpoint.UnitMark(p.table.Metadata().ID)}
	if known, ok := p.table.Txn(home.AppID); ok && known.Version != home.Version { // it was replaced, and the operator says how it goes on
		tx.Txns = append(tx.Txns, home)
	}
	tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.GenerationAppID(p.r.Name), Version: p.Generation})
	for _, id := range p.Former {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(p.r.Name, id)}) // 0: it has ended
	}
	pinned, known := now.Identities[p.r.Kafka.Identity]
	if filter, _ := p.table.Txn(checkpoint.FilterAppID(p.r.Name)); !known && filter.Version != checkpoint.FilterMark(p.r.Filtered) {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.FilterAppID(p.r.Name), Version: checkpoint.FilterMark(p.r.Filtered)})
	}
	partitions := max(pinned, int32(len(p.r.Kafka.Start)))
	tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(p.r.Name, p.r.Kafka.Identity), Version: int64(partitions)})
	return tx, nil
}

// pinning is a commit of one unit that says where partitions go on.
func pinning(unit checkpoint.UnitRecord, operation string, parameters map[string]string) (*delta.Transaction, error) {
	value, err := checkpoint.CommitRecord{Units: []checkpoint.UnitRecord{unit}}.Encode()
	if err != nil {
		return nil, err
	}
	tx := &delta.Transaction{Operation: operation, Parameters: parameters, Info: map[string]json.RawMessage{checkpoint.CommitInfoKey: value}}
	for _, s := range unit.Spans {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(unit.Name, s.ID), Version: s.Next - 1})
	}
	return tx, nil
}
