package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Origin says where the rows of a catalog's tables come from.
type Origin struct {
	Name       string `json:"name"` // of the stream
	Generation int64  `json:"gen"`
	Catalog    string `json:"catalog,omitempty"` // id of its metaData; "" where that is not known
	Topic      string `json:"topic,omitempty"`
	ClusterID  string `json:"cluster_id,omitempty"` // as the next, of checkpoint.Identity
	TopicID    string `json:"topic_id,omitempty"`
	Filtered   bool   `json:"filtered,omitempty"` // a filter leaves messages out
	Replay     bool   `json:"replay,omitempty"`   // the rows were dead letters: they are at offsets that the stream has taken before
}

func (o Origin) identity() checkpoint.Identity {
	return checkpoint.Identity{ClusterID: o.ClusterID, TopicID: o.TopicID}
}

// Origin is that of rows of this catalog, which are of a topic.
func (t *Table) Origin(ctx context.Context, topic string, id checkpoint.Identity) (Origin, error) {
	layout, err := t.Layout(ctx)
	if err != nil {
		return Origin{}, err
	}
	return Origin{
		Name: t.opts.Name, Generation: t.Generation(), Catalog: layout.table, Topic: topic, ClusterID: id.ClusterID, TopicID: id.TopicID, Filtered: t.opts.Filtered,
	}, nil
}

// ReplayOrigin is that of rows which a replay of dead letters makes, which are of the topic that the stream brings. Route is what names their tables. It refuses a stream that brings no topic
// (rule A1d), and tables that were named otherwise (T6a): a *checkpoint.RefusedError.
func (t *Table) ReplayOrigin(ctx context.Context, topic, route string) (Origin, error) {
	if err := t.lock(ctx); err != nil {
		return Origin{}, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return Origin{}, err
	}
	progress, err := checkpoint.ReadProgress(t.opts.Name, t.txns())
	switch {
	case err != nil:
		return Origin{}, err
	case progress.Retired():
		return Origin{}, checkpoint.RetiredError(t.opts.Name)
	case len(progress.Identities) == 0:
		return Origin{}, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the catalog has no offsets of stream %q, so that no dead letter is of it", t.opts.Name),
			Remedy: "is it the right catalog, and the right `name`?",
		}
	}
	o := Origin{Name: t.opts.Name, Generation: t.generation(), Catalog: t.log.Metadata().ID, Topic: topic, Filtered: t.filtered(), Replay: true}
	for id := range progress.Identities {
		o.ClusterID, o.TopicID = id.ClusterID, id.TopicID
	}
	return o, t.checkRoute(checkpoint.UnitMark(route))
}

// retired tells whether the stream brings no topic any more.
func (t *Table) retired() bool {
	progress, err := checkpoint.ReadProgress(t.opts.Name, t.txns())
	return err != nil || progress.Retired()
}

// routedNote is what a parcel's note says of rows of a stream, beside their files.
type routedNote struct {
	Origin
	// Spans are those of the catalog's unit, with this table's rows alone. Of a replay, they go from the first of its letters to the last one, and tile with nothing.
	Spans []checkpoint.Span `json:"spans"`
}

// spans are those that the table's account gets: a replay moves no offset.
func (n *routedNote) spans() []checkpoint.Span {
	if n.Replay {
		return nil
	}
	return n.Spans
}

// routedRows are the rows of one parcel.
type routedRows struct {
	routedNote
	id   int64
	adds []delta.Add
}

// NewRoutedWriter returns a writer of rows that a unit of a catalog decides about, in files that bear the id of its manifest. They are of a
// layout of the catalog, which the table's must take (Layout.Fits).
func (t *Table) NewRoutedWriter(layout *Layout, manifest int64) *Writer {
	w := t.NewWriter(layout)
	w.unit = fmt.Sprintf("%016x", manifest)
	return w
}

// Rest seals the open files. The unit goes on in others.
func (w *Writer) Rest() error { return w.sealAll() }

// Open is the number of files that are open.
func (w *Writer) Open() int { return len(w.open) }

// enterTables has the catalog know of tables that units have rows for (rule T6).
func (t *Table) enterTables(tx *delta.Transaction, units []*Unit) {
	for _, u := range units {
		for key := range u.consigned {
			appID := checkpoint.TableAppID(t.opts.Name, key)
			if _, known := t.log.Txn(appID); known || slices.ContainsFunc(tx.Txns, func(txn delta.Txn) bool { return txn.AppID == appID }) {
				continue
			}
			tx.Txns = append(tx.Txns, delta.Txn{AppID: appID, Version: 1})
		}
	}
}

// Tables are the keys of the tables that a catalog knows by this stream, as of the newest version, sorted; and others, those that it knows by streams
// that share it, by the name of one of those.
func (t *Table) Tables(ctx context.Context) (keys []string, others map[string]string, err error) {
	if err := t.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, nil, err
	}
	others = map[string]string{}
	for appID := range t.txns() {
		switch name, key, ok := checkpoint.TableOfAny(appID); {
		case ok && name == t.opts.Name:
			keys = append(keys, key)
		case ok && (others[key] == "" || name < others[key]):
			others[key] = name
		}
	}
	slices.Sort(keys)
	return keys, others, nil
}

// routedTransaction adds to a delivery what readers of the log need to check it: spans that tile, as those of any stream. What is between this
// table's rows has gone elsewhere, by the catalog. Rows of a replay have none.
func (t *Table) routedTransaction(tx *delta.Transaction, rows []routedRows) error {
	if err := t.checkRouted(rows); err != nil {
		return err
	}
	name := rows[0].Name
	tx.Operation, tx.Parameters = operationName, map[string]string{"outputMode": "Append", "name": name}
	tx.Txns = append(tx.Txns, t.originTxns(rows[len(rows)-1].Origin)...)
	record := checkpoint.CommitRecord{}
	if pin := t.pinRouted(rows); len(pin.Spans) > 0 || pin.Rewind != nil {
		record.Units = append(record.Units, pin)
		if pin.Rewind != nil {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.GenerationAppID(pin.Name), Version: pin.Generation})
		}
		for _, s := range pin.Spans {
			if !hasSpanOf(rows, s.ID) {
				tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(pin.Name, s.ID), Version: s.Next - 1})
			}
		}
	}
	last := ""
	for _, r := range rows {
		if r.Replay {
			tx.Adds = append(tx.Adds, r.adds...)
			continue
		}
		last = fmt.Sprintf("%016x", r.id)
		unit := checkpoint.UnitRecord{Unit: last, Name: r.Name, Generation: r.Generation, ReadAt: t.log.Version()}
		for _, s := range r.Spans {
			s.First = t.firstOf(r, s)
			unit.Spans = append(unit.Spans, s)
			tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(r.Name, s.ID), Version: s.Next - 1})
		}
		unit.Version = checkpoint.FormatOf(unit.Spans)
		record.Units = append(record.Units, unit)
		tag, err := unit.Encode()
		if err != nil {
			return &Error{Op: "encoding a unit's spans", Err: err}
		}
		for _, a := range r.adds {
			a.Tags = map[string]string{checkpoint.TagKey: tag}
			tx.Adds = append(tx.Adds, a)
		}
	}
	if last != "" {
		tx.Txns = append(tx.Txns, t.lastUnitTxns(name, last)...)
	}
	if len(record.Units) == 0 {
		return nil
	}
	value, err := record.Encode()
	if err != nil {
		return &Error{Op: "encoding a commit's spans", Err: err}
	}
	tx.Info = map[string]json.RawMessage{checkpoint.CommitInfoKey: value}
	return nil
}

// originTxns are those that the table lacks to know where its rows come from.
func (t *Table) originTxns(o Origin) (txns []delta.Txn) {
	if o.Catalog == "" {
		return nil
	}
	is := checkpoint.CatalogAppID(o.Name, o.identity())
	for appID, version := range t.txns() {
		if checkpoint.IsCatalog(appID, o.Name) && appID != is && version > 0 { // the catalog was rewound to another topic
			txns = append(txns, delta.Txn{AppID: appID})
		}
	}
	if mark := checkpoint.UnitMark(o.Catalog); t.txnVersion(is) != mark {
		txns = append(txns, delta.Txn{AppID: is, Version: mark})
	}
	if t.filtered() != o.Filtered {
		txns = append(txns, delta.Txn{AppID: checkpoint.FilterAppID(o.Name), Version: checkpoint.FilterMark(o.Filtered)})
	}
	return txns
}

// checkRouted is an error where rows must not come to this table, though a catalog has decided about them: they would be there twice. Those of another catalog are not
// lost by that, and nobody gives them up; offsets that the table has already, and rows of a generation before the table's, are passed over
// as lost ones are, once the catalog was rewound to before them.
func (t *Table) checkRouted(rows []routedRows) error {
	for _, r := range rows {
		if err := t.checkOrigin(r.Origin); err != nil {
			return &Error{Op: "bringing rows to a table", Err: errors.New(err.Error())}
		}
		gen, why := t.generation(), ""
		if r.Generation < gen { // a table is in none before all of earlier ones has come (rule T5b)
			why = fmt.Sprintf("the table is in generation %d, and they are of generation %d", gen, r.Generation)
		}
		for _, s := range r.spans() { // within a later generation a rewind may have put the partition back
			if txn, known := t.log.Txn(checkpoint.AppID(r.Name, s.ID)); known && s.First <= txn.Version && gen == 0 && r.Generation == 0 {
				why = fmt.Sprintf("the table has those up to %d already, and the catalog was never rewound", txn.Version)
			}
		}
		if why != "" {
			had := newLostRows(r.Spans, "%s", why)
			had.Remedy = "where the catalog was lost, moved, or made anew, bring it back, or have table.catalog name it, and start"
			return had
		}
	}
	return nil
}

const otherCatalogHint = "was the catalog lost, moved, or made anew? Bring it back, or have table.catalog name it; to go on with a new one, delete from all tables what it brings again, and say from where by `connector rewind --to-offsets`, " +
	"until its generation is beyond that of the tables"

// checkOrigin refuses rows of a catalog that the table does not follow, unless that was rewound since, and those of a topic that another stream
// brings (rule T7).
func (t *Table) checkOrigin(o Origin) error {
	if o.Catalog == "" {
		return nil
	}
	mark := checkpoint.UnitMark(o.Catalog)
	for appID, version := range t.txns() {
		if checkpoint.IsCatalog(appID, o.Name) && version > 0 && version != mark && o.Generation <= t.generation() {
			return &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the table has rows of another catalog of stream %q, of generation %d, than the one with id %s, of generation %d", o.Name, t.generation(), o.Catalog, o.Generation),
				Remedy: otherCatalogHint,
			}
		}
	}
	return checkpoint.CheckAlone(o.Name, o.Topic, o.identity(), o.Filtered, t.txns())
}

// firstOf is where a span begins in this table: behind what it has taken, in the generation.
func (t *Table) firstOf(r routedRows, s checkpoint.Span) int64 {
	if txn, ok := t.log.Txn(checkpoint.AppID(r.Name, s.ID)); ok && t.generation() >= r.Generation {
		return min(txn.Version+1, s.First)
	}
	return s.First
}

// pinRouted is the record that says where partitions begin: those that the table has nothing of yet, and all in a generation that the catalog has
// begun with a rewind, be it with rows of a replay alone. What comes in that generation of a partition may lie before where it was left to stand then. The rows are of one
// generation.
func (t *Table) pinRouted(rows []routedRows) checkpoint.UnitRecord {
	name, generation := rows[0].Name, rows[0].Generation
	pin := checkpoint.UnitRecord{Version: 1, Unit: uuid.NewString(), Name: name, Generation: generation, ReadAt: t.log.Version(), Pin: true}
	var from []int64
	begins := func(p checkpoint.Partition, at, stood int64) {
		pin.Spans = append(pin.Spans, checkpoint.Span{Partition: p, First: at, Next: at})
		from = append(from, stood)
	}
	next := generation > t.generation()
	rewound := next
	for _, r := range rows {
		for _, s := range r.spans() {
			txn, known := t.log.Txn(checkpoint.AppID(name, s.ID))
			switch {
			case !known:
				begins(s.Partition, s.First, -1)
			case next || s.First <= txn.Version:
				rewound = true
				begins(s.Partition, s.First, txn.Version+1)
			}
		}
	}
	if next {
		for appID, last := range t.txns() {
			if p, ok := checkpoint.PartitionOf(name, appID); ok && !hasSpanOf(rows, p) {
				begins(checkpoint.Partition{Topic: rows[0].Spans[0].Topic, ID: p}, last+1, last+1)
			}
		}
	}
	if rewound {
		pin.Rewind = &checkpoint.Rewind{How: "by the catalog", From: from, Catalog: true}
	}
	return pin
}

func hasSpanOf(rows []routedRows, partition int32) bool {
	return slices.ContainsFunc(rows, func(r routedRows) bool {
		return slices.ContainsFunc(r.spans(), func(s checkpoint.Span) bool { return s.ID == partition })
	})
}

// CheckFollows refuses a table of a catalog that has rows of another one (rule T7), or that was restored or replaced since the stream's last
// commit to it, unless the catalog was rewound since (rules A6 and T5). What befell a table before the stream had anything in it does not matter.
func (t *Table) CheckFollows(ctx context.Context, from Origin) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	if err := t.checkOrigin(from); err != nil {
		return err
	}
	if t.generation() < from.Generation || !t.knowsStream() {
		return nil
	}
	return t.lookBack(ctx)
}

// knowsStream tells whether the stream has committed to the table, or a former one that this was made of.
func (t *Table) knowsStream() bool {
	for appID := range t.txns() {
		if checkpoint.IsStreams(appID, t.opts.Name) {
			return true
		}
	}
	return false
}

// Newest reads the log up to its newest version, and returns the layout.
func (t *Table) Newest(ctx context.Context) (*Layout, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, err
	}
	return t.layout, nil
}

// CheckRouted is an *Error where rows of a layout of the catalog can't be appended to this table, which has another one.
func (t *Table) CheckRouted(rows, table *Layout) error {
	next, err := table.Toward(rows.Schema, t.cfg.SchemaEvolution)
	if err == nil {
		reason := rows.misfit(next)
		for _, f := range rows.Schema.Fields() {
			if len(next.Schema.FieldIndices(f.Name)) == 0 {
				reason = fmt.Sprintf("it lacks the column %s %s", f.Name, f.Type)
			}
		}
		if reason == "" {
			return nil
		}
		err = errors.New(reason)
	}
	return &Error{Op: "fitting a table to its catalog", Err: err, Hint: "give it the columns, the partition columns and the rules of the catalog, or take back what was altered"}
}
