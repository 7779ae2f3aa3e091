package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// router divides the rows of a lane, or of a replay, among tables. The rows of one unit have one manifest. Nothing is done for each message but to compare its values
// with those of the message before.
type router struct {
	ctx     context.Context //nolint:containedctx // of what is written when it turns to another layout
	tables  *tables
	lanes   func() int // that share the open files
	uploads *sink.Uploads
	layout  *sink.Layout // of the catalog, which rows are written under
	keys    []keyColumn
	schema  *arrow.Schema // of the keys
	divider *sink.Divider
	counts  []count // of the batch at hand

	manifest int64
	byValue  map[string]*destination // by the divider's key
	byKey    map[string]*destination // by the table's

	// Of all destinations, when they were looked at last.
	open   int   // data files
	memory int64 // that they take
}

// finishing is how many notes of tables are written, or parcels discarded, at a time.
const finishing = 16

// destination is a table, or why there is none.
type destination struct {
	key    string
	bad    *Misfit
	table  *sink.Table  // nil before its first row
	writer *sink.Writer // of the unit; nil before its first row
	layout *sink.Layout // of the table, when the writer began
	rows   map[checkpoint.Partition]int64

	open   int // as router has them of all
	memory int64
}

// count is a number of rows for a destination, of one partition.
type count struct {
	to   *destination
	part checkpoint.Partition
	rows int64
}

// keyColumn is where a part's values are.
type keyColumn struct {
	column  int   // of the rows; -1 for a header
	fields  []int // below it
	headers *array.BinaryBuilder
	header  string
}

// newRouter is nil where all rows go to one table.
func (d *dispatcher) newRouter(layout *sink.Layout, uploads *sink.Uploads) (*router, error) {
	if d.tables == nil {
		return nil, nil
	}
	return newRouter(d.ctx, d.tables, func() int { return len(d.lanes) }, layout, uploads)
}

func newRouter(ctx context.Context, t *tables, lanes func() int, layout *sink.Layout, uploads *sink.Uploads) (*router, error) {
	r := &router{ctx: ctx, tables: t, lanes: lanes, uploads: uploads, divider: t.catalog.NewDivider(len(t.Parts))}
	r.begin()
	return r, r.adopt(layout)
}

// begin is for the next unit.
func (r *router) begin() {
	r.manifest = sink.NewManifestID()
	r.byValue, r.byKey = map[string]*destination{}, map[string]*destination{}
}

// adopt finds the parts' values under a layout. What is open goes on under it, as far as the tables can follow.
func (r *router) adopt(layout *sink.Layout) error {
	if r.layout != nil {
		if err := r.divider.Rest(r.writer(r.ctx)); err != nil {
			return err
		}
	}
	keys, fields := []keyColumn{}, []arrow.Field{}
	for _, p := range r.tables.Parts {
		k, t, err := placeKey(p, layout.Schema)
		if err != nil {
			return routeError(err)
		}
		keys, fields = append(keys, k), append(fields, arrow.Field{Name: p.String(), Type: t, Nullable: true})
	}
	if err := r.tables.checkRoute(layout); err != nil {
		return err
	}
	r.layout, r.keys, r.schema = layout, keys, arrow.NewSchema(fields, nil)
	for _, to := range r.byKey {
		if to.writer == nil {
			continue
		}
		if err := r.fits(r.ctx, to, layout); err != nil {
			return fmt.Errorf("table %s: %w", to.key, err)
		}
		err := to.writer.Relayout(layout)
		r.note(to)
		if err != nil {
			return err
		}
	}
	return nil
}

func routeError(err error) error {
	return &sink.Error{Op: "finding the values that name a table", Err: err, Hint: "correct table.uri, or give the catalog and the tables the column"}
}

// routeText says by what tables are named. It is fixed for ever, as what the txn of a catalog stands for.
func routeText(parts []RoutePart, schema *arrow.Schema) (string, error) {
	var texts []string
	for _, p := range parts {
		_, t, err := placeKey(p, schema)
		if err != nil {
			return "", routeError(err)
		}
		texts = append(texts, fmt.Sprintf("%s as %s", p, spelling(t)))
	}
	return strings.Join(texts, ", "), nil
}

// CheckRoute refuses a schema by whose types the values that rows had so far, under the schema before, name other tables.
func CheckRoute(parts []RoutePart, before, after *arrow.Schema) error {
	was, err := routeText(parts, before)
	if err != nil {
		return err
	}
	is, err := routeText(parts, after)
	if err == nil && is != was {
		err = routeDiffers(was, is)
	}
	return err
}

func routeDiffers(was, is string) error {
	return fmt.Errorf("tables were named by %s, and are to be by %s: the same values would name others", was, is)
}

// checkRoute is CheckRoute against what the stream was pinned with.
func (t *tables) checkRoute(layout *sink.Layout) error {
	is, err := routeText(t.Parts, layout.Schema)
	if pinned := t.pinned.Load(); err == nil && pinned != nil && is != pinned.route {
		return &sink.Error{
			Op: "finding the values that name a table", Err: routeDiffers(pinned.route, is),
			Hint: "keep the column's type, or begin another stream, with another `name` and tables of its own, by a column that spells the values by an expression",
		}
	}
	return err
}

// spelling is the same for types whose equal values name one table. It is fixed for ever, as a part of routeText.
func spelling(t arrow.DataType) string {
	if d, ok := t.(arrow.DecimalType); ok {
		return fmt.Sprintf("decimal of scale %d", d.GetScale())
	}
	switch t.ID() {
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64:
		return "integer"
	case arrow.STRING:
		return "text"
	case arrow.BINARY:
		return "bytes"
	case arrow.BOOL:
		return "boolean"
	case arrow.FLOAT32:
		return "float"
	case arrow.FLOAT64:
		return "double"
	case arrow.DATE32:
		return "date"
	case arrow.TIMESTAMP:
		if t.(*arrow.TimestampType).TimeZone == "" {
			return "timestamp without a zone"
		}
		return "timestamp"
	default:
		return t.String()
	}
}

// RouteType is the type of a part's values in rows of a schema. An error says why they can't name a table.
func RouteType(p RoutePart, schema *arrow.Schema) (arrow.DataType, error) {
	_, t, err := placeKey(p, schema)
	return t, err
}

func placeKey(p RoutePart, schema *arrow.Schema) (keyColumn, arrow.DataType, error) {
	if p.Field == nil {
		return keyColumn{column: -1, header: p.Header, headers: array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)}, arrow.BinaryTypes.Binary, nil
	}
	at := schema.FieldIndices(p.Field[0])
	if len(at) == 0 {
		return keyColumn{}, nil, fmt.Errorf("%s: the table has no column %q", p, p.Field[0])
	}
	k, t := keyColumn{column: at[0]}, schema.Field(at[0]).Type
	for _, name := range p.Field[1:] {
		st, ok := t.(*arrow.StructType)
		if !ok {
			return keyColumn{}, nil, fmt.Errorf("%s: there is no struct that has %q", p, name)
		}
		i, ok := st.FieldIdx(name)
		if !ok {
			return keyColumn{}, nil, fmt.Errorf("%s: the table has no field %q", p, name)
		}
		k.fields = append(k.fields, i)
		t = st.Field(i).Type
	}
	if err := sink.CheckKey(t); err != nil {
		return keyColumn{}, nil, fmt.Errorf("%s: its values can't name a table: %w", p, err)
	}
	return k, t, nil
}

// of gives the values of the rows. The caller releases them.
func (k *keyColumn) of(rows arrow.RecordBatch, record func(row int) *kgo.Record) arrow.Array {
	if k.column < 0 {
		for row := range int(rows.NumRows()) {
			k.appendHeader(record(row))
		}
		return k.headers.NewArray()
	}
	values := rows.Column(k.column)
	values.Retain()
	for _, i := range k.fields {
		outer, ok := values.(*array.Struct)
		if !ok {
			panic(fmt.Sprintf("pipeline: a struct column is %T", values)) // placeKey has looked
		}
		values = within(outer, i)
		outer.Release()
	}
	return values
}

// appendHeader takes the last header of the name, as Kafka's own clients do.
func (k *keyColumn) appendHeader(r *kgo.Record) {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == k.header {
			k.headers.Append(h.Value)
			return
		}
	}
	k.headers.AppendNull()
}

// within gives a field of structs, null where the struct is. The caller releases it.
func within(outer *array.Struct, i int) arrow.Array {
	inner := outer.Field(i)
	if outer.NullN() == 0 {
		inner.Retain()
		return inner
	}
	data := inner.Data()
	valid := memory.NewResizableBuffer(memory.DefaultAllocator)
	valid.Resize(int(bitutil.BytesForBits(int64(data.Offset() + inner.Len()))))
	defer valid.Release()
	nulls := 0
	for row := range inner.Len() {
		is := outer.IsValid(row) && inner.IsValid(row)
		bitutil.SetBitTo(valid.Bytes(), data.Offset()+row, is)
		if !is {
			nulls++
		}
	}
	buffers := append([]*memory.Buffer{valid}, data.Buffers()[1:]...)
	masked := array.NewData(data.DataType(), data.Len(), buffers, data.Children(), nulls, data.Offset())
	defer masked.Release()
	return array.MakeFromData(masked)
}

// take writes rows to their tables. held are the messages of the rows that the decoder had, and kept says which of them are in the batch, as
// Rows.Take does. Where some have no table, nothing is written, and they are told by their number among the decoder's.
func (r *router) take(ctx context.Context, rows arrow.RecordBatch, kept []int, held []heldRecord) (map[int]Misfit, error) {
	at := func(row int) int {
		if kept != nil {
			return kept[row]
		}
		return row
	}
	columns := make([]arrow.Array, len(r.keys))
	for i := range r.keys {
		columns[i] = r.keys[i].of(rows, func(row int) *kgo.Record { return held[at(row)].record })
		defer columns[i].Release()
	}
	keys := array.NewRecordBatch(r.schema, columns, rows.NumRows())
	defer keys.Release()
	var misfits map[int]Misfit
	r.counts = r.counts[:0]
	err := r.divider.Runs(keys, func(key []byte, first, next int) error {
		to, err := r.destination(ctx, key, keys, first)
		if err != nil {
			return err
		}
		for row := first; row < next; row++ {
			h := &held[at(row)]
			switch n := len(r.counts); {
			case to.bad != nil:
				if misfits == nil {
					misfits = map[int]Misfit{}
				}
				misfits[at(row)] = *to.bad
			case n > 0 && r.counts[n-1].to == to && r.counts[n-1].part == h.span.Partition:
				r.counts[n-1].rows++
			default:
				r.counts = append(r.counts, count{to, h.span.Partition, 1})
			}
		}
		return nil
	})
	if err != nil || len(misfits) > 0 {
		return misfits, err
	}
	if err := r.divider.Write(ctx, keys, rows, r.writer(ctx)); err != nil {
		return nil, err
	}
	for _, c := range r.counts {
		c.to.rows[c.part] += c.rows
	}
	return nil, nil
}

// destination finds where the rows of a key go, by the values of one of them.
func (r *router) destination(ctx context.Context, value []byte, keys arrow.RecordBatch, row int) (*destination, error) {
	if to := r.byValue[string(value)]; to != nil { // this form of lookup does not copy
		return to, nil
	}
	texts := sink.KeyTexts(keys, row)
	key, err := r.tables.Key(texts)
	if err != nil {
		return r.noTable(value, reasonTableName, err), nil
	}
	to := r.byKey[key]
	if to == nil {
		if err := r.tables.meet(ctx, key); errors.Is(err, errTooMany) {
			return r.noTable(value, reasonTooManyTables, fmt.Errorf("table %s would be one more than table.max_tables (%d)", key, r.tables.MaxTables)), nil
		} else if err != nil {
			return nil, err
		}
		to = &destination{key: key, rows: map[checkpoint.Partition]int64{}}
		r.byKey[key] = to
	}
	r.byValue[string(value)] = to
	return to, nil
}

// maxBad bounds the values without a table that a lane remembers in a unit.
const maxBad = 10_000

func (r *router) noTable(value []byte, reason string, cause error) *destination {
	to := &destination{bad: &Misfit{routingPath, reason, cause.Error()}}
	if len(r.byValue) < maxBad+len(r.byKey) {
		r.byValue[string(value)] = to
	}
	return to
}

// writer writes rows to the table of a key.
func (r *router) writer(ctx context.Context) func(key []byte, rows arrow.RecordBatch) error {
	return func(key []byte, rows arrow.RecordBatch) error {
		to := r.byValue[string(key)]
		if to.writer == nil {
			if err := r.openAll(ctx); err != nil {
				return err
			}
		}
		err := to.writer.Write(ctx, rows)
		r.note(to)
		if err != nil {
			return err
		}
		return r.makeRoom()
	}
}

// openAll opens the tables of all destinations that rows wait for, side by side.
func (r *router) openAll(ctx context.Context) error {
	var waiting []*destination
	for _, to := range r.byKey {
		if to.writer == nil {
			waiting = append(waiting, to)
		}
	}
	errs := make([]error, len(waiting))
	room := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, to := range waiting {
		room <- struct{}{}
		wait.Go(func() {
			errs[i] = r.openOne(ctx, to)
			<-room
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (r *router) openOne(ctx context.Context, to *destination) (err error) {
	if to.table, err = r.tables.get(ctx, to.key); err == nil {
		to.layout, err = to.table.Newest(ctx)
	}
	if err == nil {
		err = r.fits(ctx, to, r.layout)
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", to.key, err)
	}
	to.writer = to.table.NewRoutedWriter(r.layout, r.manifest)
	to.writer.Share(r.uploads)
	return nil
}

// behindError says that a table does not take rows of a lane's layout, but would of the catalog's as it is by now: others have brought it there already.
type behindError struct {
	error
	layout *sink.Layout
}

// fits is an error where a table does not take rows of a layout.
func (r *router) fits(ctx context.Context, to *destination, rows *sink.Layout) error {
	err := to.table.CheckRouted(rows, to.layout)
	if err == nil {
		return nil
	}
	newest, failed := r.tables.catalog.Newest(ctx)
	switch {
	case failed != nil:
		return failed
	case !rows.Ahead() && newest != rows && to.table.CheckRouted(newest, to.layout) == nil:
		return &behindError{errors.New("it has followed the catalog further than this lane: " + err.Error()), newest}
	}
	return err
}

// note looks at what a destination has open.
func (r *router) note(to *destination) {
	open, memory := 0, int64(0)
	if to.writer != nil {
		open, memory = to.writer.Open(), to.writer.Memory()
	}
	r.tables.files.Add(int64(open - to.open))
	r.open += open - to.open
	r.memory += memory - to.memory
	to.open, to.memory = open, memory
}

// makeRoom finishes the files of the tables that take most, while the files of all lanes are too many, of which each has its part, or those of
// this one take too much memory together.
func (r *router) makeRoom() error {
	part := max(r.tables.MaxOpen/r.lanes(), 1)
	for {
		tooMany := r.open > part && r.tables.files.Load() > int64(r.tables.MaxOpen)
		if !tooMany && r.memory <= r.tables.catalog.OpenMemory() {
			return nil
		}
		var most *destination
		for _, to := range r.byKey {
			if most == nil || to.memory > most.memory {
				most = to
			}
		}
		if !tooMany && most.memory == r.memory { // it bounds itself
			return nil
		}
		err := most.writer.Rest()
		r.note(most)
		if err != nil {
			return err
		}
	}
}

// bytes is the Parquet output of the unit so far.
func (r *router) bytes() int64 {
	n := r.divider.Bytes()
	for _, to := range r.byKey {
		if to.writer != nil {
			n += to.writer.Bytes()
		}
	}
	return n
}

// seal encodes what is left of the unit. What it returns makes parcels of it, and has the unit decide about them (rule T1); without a unit, or when the
// context is done, all is given up. Spans are the unit's.
func (r *router) seal(ctx context.Context, spans []checkpoint.Span) (func(context.Context, *sink.Unit) error, error) {
	if err := r.divider.Rest(r.writer(ctx)); err != nil {
		return nil, err
	}
	f := &sealedTables{catalog: r.tables.catalog, manifest: r.manifest, origin: r.tables.origin()}
	for _, key := range slices.Sorted(maps.Keys(r.byKey)) {
		to := r.byKey[key]
		if to.writer == nil {
			continue
		}
		files, err := to.writer.Seal()
		if err != nil {
			f.giveUp(ctx)
			return nil, err
		}
		var own []checkpoint.Span
		for _, s := range spans {
			if s.Routed > 0 {
				own = append(own, checkpoint.Span{Partition: s.Partition, First: s.First, Next: s.Next, Rows: to.rows[s.Partition]})
			}
		}
		f.tables = append(f.tables, sealedTable{key, files, to.layout, own})
		to.writer = nil
		r.note(to)
	}
	r.begin()
	return f.finish, nil
}

// sealedTables are the rows of a unit for many tables.
type sealedTables struct {
	catalog  *sink.Table
	manifest int64
	origin   sink.Origin
	tables   []sealedTable
}

type sealedTable struct {
	key    string
	files  *sink.Sealed
	layout *sink.Layout
	spans  []checkpoint.Span
}

func (f *sealedTables) finish(ctx context.Context, u *sink.Unit) error {
	if len(f.tables) == 0 {
		return nil
	}
	if u == nil {
		f.giveUp(ctx)
		return nil
	}
	finished := make([]*sink.Parcel, len(f.tables))
	var notes errgroup.Group // a cloud takes some ten milliseconds for each
	notes.SetLimit(finishing)
	for i, t := range f.tables {
		notes.Go(func() (err error) {
			finished[i], err = t.files.Routed(ctx, t.layout, f.origin, t.spans)
			return err
		})
	}
	if err := notes.Wait(); err != nil {
		cleanup, cancel := dropping(ctx)
		defer cancel()
		var discards errgroup.Group
		discards.SetLimit(finishing)
		for _, p := range finished {
			if p != nil {
				discards.Go(func() error { p.Discard(cleanup); return nil })
			}
		}
		_ = discards.Wait() // they tell no error
		return err
	}
	parcels := map[string]*sink.Parcel{}
	for i, p := range finished {
		parcels[f.tables[i].key] = p
	}
	return f.catalog.Consign(ctx, u, f.manifest, f.origin.Generation, parcels)
}

func (f *sealedTables) giveUp(ctx context.Context) {
	cleanup, cancel := dropping(ctx)
	defer cancel()
	for _, t := range f.tables {
		t.files.Abort(cleanup)
	}
}

// abort gives up what was written of the unit.
func (r *router) abort(ctx context.Context) {
	r.divider.Drop()
	for _, to := range r.byKey {
		if to.writer != nil {
			to.writer.Abort(ctx)
			to.writer = nil
			r.note(to)
		}
	}
	for i := range r.keys {
		if b := r.keys[i].headers; b != nil && b.Len() > 0 {
			b.NewArray().Release()
		}
	}
	r.begin()
}
