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
	// Force goes on where Kafka's topic begins now, where an offset is asked for that it has no longer, and leaves partitions that are
	// not named where they are after a RESTORE.
	Force bool
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
}

// PlanRewind finds out what a rewind would do, and writes nothing. It refuses what can't be meant: offsets that Kafka does not
// have, a partition that is not known, another topic.
func PlanRewind(ctx context.Context, store delta.LogStore, r Rewinding) (*RewindPlan, error) {
	t, err := openForWriting(ctx, store, r.Writer)
	if err != nil {
		return nil, err
	}
	p := &RewindPlan{r: r, table: t, Version: t.Version()}
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
	restored, err := p.restoredTo(ctx)
	if err != nil {
		return nil, err
	}
	p.r.To = maps.Clone(r.To)
	if r.ToVersion >= 0 {
		if err := p.takeVersion(ctx, store, progress, restored); err != nil {
			return nil, err
		}
	} else if restored != nil {
		p.warn("version %d restored the table to version %s, and offsets did not go back with the rows: `--to-table-version %s` takes exactly those back",
			restored.at, restored, restored)
	}
	if err := p.checkOffsets(); err != nil {
		return nil, err
	}
	p.Moves, err = p.moves(progress)
	p.Generation = progress.Generation + 1
	if err == nil && restored != nil && r.ToVersion < 0 && !r.Force {
		err = p.wholeAfterRestore(restored)
	}
	if lasting := p.lasting(); lasting != "" && err == nil {
		p.warn("%s", lasting)
	}
	return p, err
}

// wholeAfterRestore refuses to leave partitions where they are after a RESTORE: their rows went back, too, and once the stream has
// committed, nothing tells of it any more.
func (p *RewindPlan) wholeAfterRestore(restored *restoration) error {
	for _, m := range p.Moves {
		if _, named := p.r.To[m.Partition]; !named {
			return &checkpoint.RefusedError{
				Cause: fmt.Sprintf("version %d restored the table to version %s, and partition %d would stay where it is: what RESTORE took back of it would be lost",
					restored.at, restored, m.Partition),
				Remedy: fmt.Sprintf("`--to-table-version %s` takes back the offsets of all partitions; or name each in --to-offsets; --force leaves it as it is", restored),
			}
		}
	}
	return nil
}

func (p *RewindPlan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// restoration is a RESTORE that no commit of the stream has followed.
type restoration struct {
	at int64
	to int64 // -1: it does not say
}

func (r *restoration) String() string {
	if r.to < 0 {
		return "N"
	}
	return strconv.FormatInt(r.to, 10)
}

// restoredTo looks through the log to the stream's last commit, as a worker that starts does (rule A6).
func (p *RewindPlan) restoredTo(ctx context.Context) (*restoration, error) {
	for v := p.table.Version(); v >= 0; v-- {
		c, err := p.table.Past(ctx, v)
		switch {
		case errors.Is(err, delta.ErrMissingCommit):
			return nil, nil
		case err != nil:
			return nil, err
		case c.Replaces():
			r := &restoration{at: v, to: -1}
			if c.Info != nil {
				r.to = number(c.Info.OperationParameters["version"])
			}
			return r, nil
		case slices.ContainsFunc(c.Txns, func(txn delta.Txn) bool { return checkpoint.IsStreams(txn.AppID, p.r.Name) }):
			return nil, nil
		}
	}
	return nil, nil
}

// number reads a whole number that may be spelled as a text; -1 for what is none.
func number(value json.RawMessage) int64 {
	text := string(value)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
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
	case restored != nil && n >= restored.at:
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
	p.r.To = map[int32]int64{}
	for id := range now.Last {
		p.r.To[id] = 0 // a partition that came later is read from its beginning
	}
	for id, last := range then.Last {
		p.r.To[id] = last + 1
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
	pinned := now.Identities[p.r.Kafka.Identity]
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
		case m.From < 0: // new: a worker would pin it there, too (rule A1)
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
	if known || len(now.Identities) == 0 {
		p.Former = nil // a table with both was given both by hand: they stay
		if p.r.NewTopic {
			return false, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("topic %s is the one that the table's offsets are of", p.r.Topic),
				Remedy: "leave --new-topic out",
			}
		}
		return false, nil
	}
	if !p.r.NewTopic {
		_, _, err := now.Pins(p.r.Name, is, 0)
		return false, err
	}
	return true, nil
}

// lasting tells of rows that a rewind leaves.
func (p *RewindPlan) lasting() string {
	for _, m := range p.Moves {
		if m.Again() > 0 && p.r.ToVersion < 0 && !p.r.NewTopic {
			return "rows of what is read again stay in the table, as those of an earlier generation: delete them first where they are not wanted twice"
		}
	}
	return ""
}

// Commit does it, in one version, which it returns.
func (p *RewindPlan) Commit(ctx context.Context) (int64, error) {
	return p.r.land(ctx, p.table, p.transaction)
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
	if _, ok := p.table.Txn(checkpoint.LastUnitAppID(p.r.Name)); ok { // a RESTORE may have taken its files
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.LastUnitAppID(p.r.Name), Version: -1})
	}
	tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.GenerationAppID(p.r.Name), Version: p.Generation})
	for _, id := range p.Former {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(p.r.Name, id)}) // 0: it has ended
	}
	partitions := max(now.Identities[p.r.Kafka.Identity], int32(len(p.r.Kafka.Start)))
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
