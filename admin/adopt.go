package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Adoption is what an operator asks for: a stream is to begin where another program has stopped. One of Spark and Group is given.
type Adoption struct {
	Writer

	Name, Topic string
	From        string     // the operator's words, for the record
	Kafka       KafkaTopic // the topic as it is now
	Spark       *SparkCheckpoint
	Group       *KafkaGroup
	Filtered    bool // the stream leaves messages out by a filter
	Force       bool // as of Rewinding
}

// KafkaGroup is a consumer group: its state, "" where Kafka does not know it, and the first offset of each partition that it has not
// taken.
type KafkaGroup struct {
	Name, State string
	Offsets     map[int32]int64
}

// AdoptionPlan is what an adoption would do, as of a version of the table. Each partition's From is -1.
type AdoptionPlan struct {
	Version int64
	Moves   []Move
	Notes   []string

	a      Adoption
	table  *delta.Table
	raised map[int32]int64 // by how many offsets a partition begins behind the other program's, by what the table's files tell
	// generation that it begins, behind those that the table's files tell of; 0 where the stream was never rewound.
	generation int64
}

// PlanAdoption finds out what would be done, and writes nothing. It refuses a stream that has begun, a program that may still
// run, and what does not fit the topic.
func PlanAdoption(ctx context.Context, store delta.LogStore, a Adoption) (*AdoptionPlan, error) {
	t, err := openForWriting(ctx, store, a.Writer)
	if err != nil {
		return nil, err
	}
	if err := t.CheckAppend(); err != nil {
		return nil, err
	}
	p := &AdoptionPlan{a: a, table: t, Version: t.Version(), raised: map[int32]int64{}}
	if err := p.fresh(); err != nil {
		return nil, err
	}
	var next map[int32]int64
	if a.Spark != nil {
		var note string
		if next, note, err = a.Spark.taken(t.Txn); err != nil {
			return nil, err
		}
		p.Notes = append(p.Notes, note)
	} else if next, err = a.Group.taken(); err != nil {
		return nil, err
	}
	reach, err := p.reach(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(a.Kafka.Start)) {
		to, ok := next[id]
		switch start := a.Kafka.Start[id]; {
		case ok:
		case start == a.Kafka.End[id]: // there is nothing that it might have taken
			to = start
			p.Notes = append(p.Notes, fmt.Sprintf("the other program has no offset of partition %d, which is empty: it begins with the first message that comes, at offset %d or later", id, start))
		default:
			return nil, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the other program has no offset of %s[%d]", a.Topic, id),
				Remedy: "it has to read every partition once, a new one too, before it is taken over; is it the right topic?",
			}
		}
		if at, has := reach[id]; has && at.next > to {
			p.Notes = append(p.Notes, fmt.Sprintf("the other program has offset %d of partition %d, but files of stream %q that are in the table reach up to %d: it begins there, or their rows would come twice", to, id, a.Name, at.next))
			p.raised[id], to = at.next-to, at.next
		}
		if err := a.Kafka.check(a.Topic, id, to, a.Force); err != nil {
			return nil, err
		}
		m := Move{Partition: id, From: -1, To: max(to, a.Kafka.Start[id])}
		m.Gone = m.To - to
		p.Moves = append(p.Moves, m)
	}
	for _, id := range slices.Sorted(maps.Keys(next)) {
		if _, ok := a.Kafka.Start[id]; !ok {
			return nil, &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the other program has read %s[%d], and Kafka's topic has no such partition", a.Topic, id),
				Remedy: "is it the topic of that program, and the right cluster?",
			}
		}
	}
	return p, nil
}

// stand is up to which offset a generation has rows.
type stand struct{ generation, next int64 }

// reach tells for each partition up to which offset rows of the stream are in the table, by the tags of its files: a table may have lost all txns of a stream that has
// filled it, and what was reported to the group is less where the last report was lost. Of a partition that was rewound, the newest generation counts that has files: those before may
// reach further, up to what was to be read again. Partitions without files have no entry.
func (p *AdoptionPlan) reach(ctx context.Context, store delta.LogStore) (map[int32]stand, error) {
	snap, err := delta.OpenSnapshot(ctx, store, p.Version)
	if err != nil {
		return nil, err
	}
	reach := map[int32]stand{}
	for add, err := range snap.Files(ctx) {
		if err != nil {
			return nil, err
		}
		tag, ok := add.Tags[checkpoint.TagKey]
		if !ok {
			continue
		}
		u, err := checkpoint.DecodeUnit(tag)
		if err != nil {
			return nil, fmt.Errorf("reading up to which offsets file %s has rows: %w", add.Path, err)
		}
		for _, s := range u.Spans {
			switch at := reach[s.ID]; {
			case u.Name != p.a.Name || s.Topic != p.a.Topic:
			case u.Generation > at.generation, u.Generation == at.generation && s.Next > at.next:
				reach[s.ID] = stand{u.Generation, s.Next}
			}
		}
	}
	for _, at := range reach {
		if at.generation > 0 {
			p.generation = max(p.generation, at.generation+1)
		}
	}
	return reach, nil
}

// fresh refuses a stream that the table knows, and one of a topic that another brings.
func (p *AdoptionPlan) fresh() error {
	progress, err := progressOf(p.a.Name, p.table.Txns())
	switch {
	case err != nil:
		return err
	case !progress.Fresh():
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table has offsets of stream %q already: it begins where they say", p.a.Name),
			Remedy: "`connector rewind` has it go on from others; those of kafka-delta-ingest need nothing at all",
		}
	}
	return checkpoint.CheckAlone(p.a.Name, p.a.Topic, p.a.Kafka.Identity, p.a.Filtered, versions(p.table.Txns()))
}

// taken are the group's offsets, if nobody moves them any more.
func (g *KafkaGroup) taken() (map[int32]int64, error) {
	switch {
	case g.State == "":
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("Kafka knows no consumer group %q, or does not show it to this user", g.Name),
			Remedy: "the group of a sink of Kafka Connect is connect-<name of the connector>; `kafka-consumer-groups.sh --list` shows all. Grant DESCRIBE on it",
		}
	case g.State != "Empty" && g.State != "Dead":
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the consumer group %q is in the state %s: it has members, which go on and take more", g.Name, g.State),
			Remedy: "stop the program that uses it, and wait until its session is over",
		}
	case len(g.Offsets) == 0:
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the consumer group %q has no offsets of the topic", g.Name),
			Remedy: "is it the right group, and the right source.topic?",
		}
	}
	return g.Offsets, nil
}

// Commit does it, in one version, which it returns.
func (p *AdoptionPlan) Commit(ctx context.Context) (int64, error) {
	return p.a.land(ctx, p.table, func() (*delta.Transaction, error) {
		if err := p.fresh(); err != nil {
			return nil, err
		}
		if err := p.unmoved(); err != nil {
			return nil, err
		}
		unit := checkpoint.UnitRecord{Unit: uuid.NewString(), Name: p.a.Name, ReadAt: p.table.Version(), Pin: true}
		for _, m := range p.Moves {
			unit.Spans = append(unit.Spans, checkpoint.Span{
				Partition: checkpoint.Partition{Topic: p.a.Topic, ID: m.Partition}, First: m.To, Next: m.To,
			})
		}
		if p.generation > 0 {
			unit.Generation, unit.Rewind = p.generation, &checkpoint.Rewind{How: p.a.From, From: slices.Repeat([]int64{-1}, len(unit.Spans)), Adopted: true}
		}
		tx, err := pinning(unit, "ADOPT", map[string]string{"name": p.a.Name, "from": p.a.From})
		if err != nil {
			return nil, err
		}
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(p.a.Name, p.a.Kafka.Identity), Version: int64(len(p.Moves))})
		if p.generation > 0 {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.GenerationAppID(p.a.Name), Version: p.generation})
		}
		if p.a.Filtered {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.FilterAppID(p.a.Name), Version: checkpoint.FilterMark(true)})
		}
		if p.a.Spark != nil {
			if txn, ok := p.table.Txn(p.a.Spark.Query); ok { // as it is: a query that commits now has read it, and is refused (concurrent transactions)
				tx.Txns = append(tx.Txns, delta.Txn{AppID: txn.AppID, Version: txn.Version})
			}
		}
		return tx, nil
	})
}

// unmoved refuses if the query has committed since the plan was made.
func (p *AdoptionPlan) unmoved() error {
	if p.a.Spark == nil {
		return nil
	}
	next, _, err := p.a.Spark.taken(p.table.Txn)
	if err != nil {
		return err
	}
	for _, m := range p.Moves {
		if to, ok := next[m.Partition]; ok && to != m.To-m.Gone-p.raised[m.Partition] { // of an empty partition there may be none
			return &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the query %s has committed to the table since the plan was made", p.a.Spark.Query),
				Remedy: "stop it, and start again",
			}
		}
	}
	return nil
}
