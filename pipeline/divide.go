package pipeline

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// Division divides rows that a replay makes of dead letters among a catalog's tables, as a lane's are (ADR 12). It is for one goroutine.
type Division struct {
	Routing *Routing
	Catalog *sink.Table
	Name    string // of the stream
	Topic   string
	Now     func() time.Time
	Log     *slog.Logger

	tables *tables
	router *router // of the unit at hand; nil for none
	spans  map[checkpoint.Partition]*checkpoint.Span
}

// Open begins with what the catalog knows. Work is the context of the tables' upkeep. Where the stream was retired, or the tables were named by other values so far, it is a
// *checkpoint.RefusedError. After it, Close is to be called.
func (d *Division) Open(ctx, work context.Context) error {
	t, err := newTables(ctx, work, &tables{Routing: *d.Routing, name: d.Name, now: d.Now, log: d.Log, catalog: d.Catalog, replay: true})
	if err != nil {
		return err
	}
	d.tables = t
	layout, err := d.Catalog.Layout(ctx)
	if err != nil {
		return err
	}
	var p pinned
	if p.route, err = routeText(d.Routing.Parts, layout.Schema); err != nil {
		return err
	}
	if p.origin, err = d.Catalog.ReplayOrigin(ctx, d.Topic, p.route); err != nil {
		return err
	}
	t.pinned.Store(&p)
	return nil
}

// Settle brings the tables what the catalog has decided about by replays, and returns the slots (see sink.SettleRows). Rows of partitions are for workers: a busy stream decides about more
// all the time.
func (d *Division) Settle(ctx context.Context) (map[string]int64, error) {
	return sink.SettleRows(ctx, d.Catalog, nil, d.tables.decided)
}

// Begin is for the rows of another unit, under a layout of the catalog, or one ahead of it.
func (d *Division) Begin(ctx context.Context, layout *sink.Layout) (err error) {
	d.spans = map[checkpoint.Partition]*checkpoint.Span{}
	d.router, err = newRouter(ctx, d.tables, func() int { return 1 }, layout, sink.NewUploads(d.Catalog.OpenMemory))
	return err
}

// Relayout goes on under another layout. An error says that a table can't follow it.
func (d *Division) Relayout(layout *sink.Layout) error { return d.router.adopt(layout) }

// Write writes rows to their tables, of messages of which kept are in the batch, as Rows.Take says. Where some have no table, nothing is written, and they are told by their number among the messages.
func (d *Division) Write(ctx context.Context, rows arrow.RecordBatch, kept []int, messages []*kgo.Record) (map[int]Misfit, error) {
	held := make([]heldRecord, len(messages))
	for i, r := range messages {
		at := checkpoint.Partition{Topic: r.Topic, ID: r.Partition}
		if d.spans[at] == nil {
			d.spans[at] = &checkpoint.Span{Partition: at}
		}
		held[i] = heldRecord{r, d.spans[at]}
	}
	misfits, err := d.router.take(ctx, rows, kept, held)
	if err != nil || len(misfits) > 0 {
		return misfits, err
	}
	for row := range int(rows.NumRows()) {
		h := held[row]
		if kept != nil {
			h = held[kept[row]]
		}
		if h.span.Routed == 0 {
			h.span.First = h.record.Offset
		}
		h.span.First, h.span.Next, h.span.Routed = min(h.span.First, h.record.Offset), max(h.span.Next, h.record.Offset+1), h.span.Routed+1
	}
	return nil, nil
}

// Finish has a unit of the catalog decide about all that was written (rule T1).
func (d *Division) Finish(ctx context.Context, u *sink.Unit) error {
	var spans []checkpoint.Span
	for _, at := range slices.SortedFunc(maps.Keys(d.spans), checkpoint.Partition.Compare) {
		spans = append(spans, *d.spans[at])
	}
	finish, err := d.router.seal(ctx, spans)
	if err != nil {
		return err
	}
	return finish(ctx, u)
}

// Landed tidies up behind a unit that has landed and is delivered.
func (d *Division) Landed(ctx context.Context, u *sink.Unit) error {
	if err := sink.DropManifests(ctx, d.Catalog, []*sink.Unit{u}); err != nil {
		return err
	}
	return d.tables.trim(ctx)
}

// Abort gives up what was written since Begin; nothing after Finish.
func (d *Division) Abort(ctx context.Context) {
	if d.router != nil {
		d.router.abort(ctx)
	}
}

// Close ends the upkeep of the tables, and waits for that until the context ends.
func (d *Division) Close(ctx context.Context) {
	if d.tables != nil {
		d.tables.close(ctx)
	}
}
