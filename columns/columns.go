// Package columns makes the rows of a table out of the rows that a decoder has read: it computes columns by expressions and
// constants, leaves out what is not for the table, and keeps the rows that a filter asks for. docs/columns.md has the meaning.
//
// It owns what decoders are to read for that (the decoded schema, which has a table's columns but the computed ones, and then those
// that only expressions read), and the schema that a new table gets by the messages' own.
//
// It promises that everything is compiled once for a table's schema, with errors that name the column and the place in its expression;
// that a batch without anything to compute is handed on without a look at it; that the same message gives the same row at any time; and
// that a row is either kept, or left out by the filter, or reported with the column that has no value for it.
//
// It never looks at a message's bytes, and never writes.
package columns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/decode"
	"kafkadelta/delta/expr"
	"kafkadelta/delta/variant"
)

// FilterPath stands in the place of a column where the filter has no outcome for a row.
const FilterPath = "table.filter"

// Failure says that an expression has no value for one row of a batch.
type Failure struct {
	Row    int
	Path   string // the column, or FilterPath
	Reason string
}

// Plan is what is done to the batches of one lane. One goroutine uses it.
type Plan struct {
	table   *arrow.Schema
	decoded *arrow.Schema
	config  decode.Config
	filter  *expr.Program
	sources []int      // for each column of the table: where it is among the decoded ones; -1: it is computed
	values  []*value   // for each column of the table: how it is computed; nil: it is decoded
	texts   []int      // of them, those that are VARIANT, and are decoded as JSON text
	kept    []int      // used again
	indices []uint32   // used again
	reads   []int      // decoded columns that expressions read
	order   []computed // of the columns that are computed
}

type computed struct {
	column int
	*value
}

// value is how a column is computed.
type value struct {
	text    string        // of its expression, for errors
	program *expr.Program // nil: a constant
	always  arrow.Array   // of a constant, in as many rows as were asked for so far
	one     constant
}

// Types are the types that the configuration names, by top-level column.
type Types map[string]arrow.DataType

// New compiles the columns of a table. json tells that messages are JSON, so that a VARIANT takes any value of them, and not only a text
// with JSON in it. generated are columns that the table computes where a row has null. Errors name the key, the value and what to do.
func New(table *arrow.Schema, cfg decode.Config, types Types, json bool, generated ...int) (*Plan, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{table: table, config: cfg, sources: make([]int, table.NumFields()), values: make([]*value, table.NumFields())}
	p.config.Columns, p.config.Filter = readColumns(cfg), ""
	if err := p.place(cfg, types, generated); err != nil {
		return nil, err
	}
	if err := p.readTexts(cfg, json); err != nil {
		return nil, err
	}
	var errs []error
	for i, f := range table.Fields() {
		if p.sources[i] >= 0 {
			continue
		}
		v, err := p.compile(f, cfg)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.values[i] = v
		p.order = append(p.order, computed{i, v})
	}
	if cfg.Filter != "" {
		var err error
		if p.filter, err = expr.CompileCondition(cfg.Filter, p.decoded); err != nil {
			errs = append(errs, fmt.Errorf("filter: %w%s", err, p.remedy(err, cfg)))
		} else if err := p.reading(p.filter); err != nil {
			errs = append(errs, fmt.Errorf("filter: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// readColumns are the entries that say how decoders read a column.
func readColumns(cfg decode.Config) map[string]decode.Column {
	out := map[string]decode.Column{}
	for name, c := range cfg.Columns {
		if !c.Computed() && (!c.Drop || c.Type != "") {
			out[name] = decode.Column{From: c.From, Cast: c.Cast, Epoch: c.Epoch}
		}
	}
	return out
}

// place says which columns are decoded: those of the table that are not computed, and then those that only expressions read.
func (p *Plan) place(cfg decode.Config, types Types, generated []int) error {
	var fields []arrow.Field
	for i, f := range p.table.Fields() {
		c, _ := columnOf(cfg, f.Name)
		p.sources[i] = -1
		if !c.Computed() && !c.Drop {
			p.sources[i] = len(fields)
			if variant.Is(f.Type) {
				p.texts = append(p.texts, i)
				f = arrow.Field{Name: f.Name, Type: arrow.BinaryTypes.String, Nullable: f.Nullable}
			}
			fields = append(fields, f)
		}
	}
	metadata, hasMetadata := cfg.Metadata.Field()
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		c := cfg.Columns[name]
		path, err := pathOf(p.table, name)
		switch {
		case err != nil:
			return err
		case len(path) > 1 && (c.Computed() || c.Type != ""):
			return fmt.Errorf("columns.%s: only a top-level column can have a type, a constant or an expression", name)
		case !c.Computed() && !c.Drop:
			continue
		case len(path) > 1 && has(p.table.Fields(), path):
			return fmt.Errorf("columns.%s.drop: the table has that field: drop it from the table first, or remove the entry", name)
		case len(path) > 1:
			continue
		case hasMetadata && path[0] == metadata.Name:
			return fmt.Errorf("columns.%s: it is the metadata column, which is filled from the Kafka record: remove the entry", name)
		}
		at := p.table.FieldIndices(path[0])
		switch {
		case c.Computed() && len(at) == 0:
			return fmt.Errorf("columns.%s: the table has no column %q: add it to the table or remove the entry", name, path[0])
		case c.Drop && len(at) > 0 && !slices.Contains(generated, at[0]) && mustHave(p.table.Field(at[0]), "") != "":
			return fmt.Errorf("columns.%s.drop: the table's column %s is NOT NULL, and nothing would fill it: make it nullable, or remove the entry",
				name, mustHave(p.table.Field(at[0]), ""))
		case c.Drop && c.Type != "":
			fields = append(fields, arrow.Field{Name: path[0], Type: types[path[0]], Nullable: true})
		}
	}
	p.decoded = arrow.NewSchema(fields, nil)
	return nil
}

// readTexts has decoders read JSON text for the columns that are VARIANT.
func (p *Plan) readTexts(cfg decode.Config, json bool) error {
	for _, i := range p.texts {
		name := p.table.Field(i).Name
		c, _ := columnOf(cfg, name)
		if cast, _, _, err := decode.ParseCast(c.Cast); err != nil || cast != decode.CastNone && cast != decode.CastJSON {
			return fmt.Errorf("columns.%s.cast: %s is for other types, and the column is VARIANT: remove it", name, c.Cast)
		}
		if c.Epoch != "" {
			return fmt.Errorf("columns.%s.epoch: the column is VARIANT: remove it", name)
		}
		if json {
			maps.DeleteFunc(p.config.Columns, func(key string, _ decode.Column) bool { // however it is quoted
				path, err := decode.ParsePath(key)
				return err == nil && len(path) == 1 && path[0] == name
			})
			p.config.Columns[name] = decode.Column{From: c.From, Cast: "json"}
		}
	}
	return nil
}

// compile gives how a column of the table is computed.
func (p *Plan) compile(f arrow.Field, cfg decode.Config) (*value, error) {
	c, _ := columnOf(cfg, f.Name)
	switch {
	case c.Expression != "":
		program, err := expr.CompileValue(c.Expression, p.decoded, f.Type)
		if err != nil {
			return nil, fmt.Errorf("columns.%s.expression: %w%s", f.Name, err, p.remedy(err, cfg))
		}
		if err := p.reading(program); err != nil {
			return nil, fmt.Errorf("columns.%s.expression: %w", f.Name, err)
		}
		return &value{text: c.Expression, program: program}, nil
	case c.Constant != nil:
		one, err := newConstant(*c.Constant, f.Type)
		if err != nil {
			return nil, fmt.Errorf("columns.%s.constant: %w", f.Name, err)
		}
		return &value{one: one}, nil
	}
	return &value{one: constant{typ: f.Type}}, nil // dropped: null
}

// reading takes note of the columns that an expression reads, and refuses one whose value depends on when it is asked for.
func (p *Plan) reading(program *expr.Program) error {
	if program.ReadsClock() {
		return errors.New("it reads the clock, and a message has to give the same row whenever it is read: use _kafka.timestamp, the time of the message")
	}
	for _, c := range program.Columns() {
		if !slices.Contains(p.reads, c) {
			p.reads = append(p.reads, c)
		}
	}
	return nil
}

// remedy says what to do about a name that is not known.
func (p *Plan) remedy(err error, cfg decode.Config) string {
	var unknown *expr.Error
	if !errors.As(err, &unknown) || !strings.HasPrefix(unknown.Reason, "there is no column ") {
		return ""
	}
	name := strings.TrimPrefix(unknown.Reason, "there is no column ")
	if c, _ := columnOf(cfg, name); c.Computed() {
		return fmt.Sprintf(": it is computed itself, and expressions read only what messages have; if messages have a field of that name, read it as columns.%s_field: {from: %s, type: ..., drop: true}", name, name)
	}
	return fmt.Sprintf(": if messages have a field of that name, say what it is: columns.%s: {type: ..., drop: true}", name)
}

// Schema is what decoders fill, in this order.
func (p *Plan) Schema() *arrow.Schema { return p.decoded }

// Config says how they do.
func (p *Plan) Config() decode.Config { return p.config }

// Decodes reports whether decoders fill a column of the table. One of its name in Schema may be another, which only expressions read.
func (p *Plan) Decodes(column int) bool { return p.sources[column] >= 0 }

// Reads reports whether an expression reads a column of the table.
func (p *Plan) Reads(column int) bool {
	return p.Decodes(column) && slices.Contains(p.reads, p.sources[column])
}

// idle reports whether decoders fill exactly the table's columns.
func (p *Plan) idle() bool {
	return p == nil || p.filter == nil && p.order == nil && p.texts == nil && p.decoded.NumFields() == p.table.NumFields()
}

// Apply makes rows of the table out of a batch of the decoded schema. kept are the rows that the filter has kept, ascending; nil: all. Where
// bad is not empty, an expression has failed for those rows, and there is no batch. The caller releases the batch besides rb. A nil Plan
// hands on what it gets.
func (p *Plan) Apply(rb arrow.RecordBatch) (rows arrow.RecordBatch, kept []int, bad []Failure) {
	if p.idle() {
		rb.Retain()
		return rb, nil, nil
	}
	n := int(rb.NumRows())
	if p.filter != nil {
		kept, bad = p.keep(rb)
		n = len(kept)
		if n == int(rb.NumRows()) {
			kept = nil
		}
	}
	columns := make([]arrow.Array, p.table.NumFields())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for _, c := range p.order {
		var failed []Failure
		columns[c.column], failed = c.compute(rb, kept, n, p.table.Field(c.column))
		bad = append(bad, failed...)
	}
	for _, i := range p.texts {
		var failed []Failure
		columns[i], failed = variants(rb.Column(p.sources[i]).(*array.String), kept, n, p.table.Field(i).Name)
		bad = append(bad, failed...)
	}
	if len(bad) > 0 {
		slices.SortStableFunc(bad, func(a, b Failure) int { return a.Row - b.Row })
		return nil, nil, slices.CompactFunc(bad, func(a, b Failure) bool { return a.Row == b.Row })
	}
	p.copyDecoded(columns, rb, kept)
	return array.NewRecordBatch(p.table, columns, int64(n)), kept, nil
}

// keep finds the rows for which the filter is true.
func (p *Plan) keep(rb arrow.RecordBatch) (kept []int, bad []Failure) {
	if p.kept == nil {
		p.kept = []int{} // nil is for all rows
	}
	p.kept = p.kept[:0]
	test := p.filter.Bind(rb, time.Time{})
	for row := range int(rb.NumRows()) {
		outcome, err := test.Test(row)
		switch {
		case err != nil:
			bad = append(bad, Failure{row, FilterPath, err.Error()})
		case outcome == expr.True:
			p.kept = append(p.kept, row)
		}
	}
	return p.kept, bad
}

// compute gives the values of a column for the rows that are kept.
func (v *value) compute(rb arrow.RecordBatch, kept []int, n int, f arrow.Field) (arrow.Array, []Failure) {
	if v.program == nil {
		if v.always == nil || v.always.Len() < n {
			if v.always != nil {
				v.always.Release()
			}
			v.always = v.one.repeat(n)
		}
		return array.NewSlice(v.always, 0, int64(n)), nil
	}
	var bad []Failure
	b := array.NewBuilder(memory.DefaultAllocator, f.Type)
	defer b.Release()
	b.Reserve(n)
	rows := v.program.Bind(rb, time.Time{})
	for i := range n {
		row := i
		if kept != nil {
			row = kept[i]
		}
		if err := rows.AppendTo(b, row); err != nil {
			bad = append(bad, Failure{row, f.Name, fmt.Sprintf("the expression %s fails: %v", v.text, err)})
		}
	}
	return b.NewArray(), bad
}

// variants makes VARIANT of the JSON texts of the rows that are kept.
func variants(texts *array.String, kept []int, n int, name string) (arrow.Array, []Failure) {
	var bad []Failure
	b := variant.NewBuilder()
	defer b.Release()
	for i := range n {
		row := i
		if kept != nil {
			row = kept[i]
		}
		if texts.IsNull(row) {
			b.AppendNull()
		} else if err := b.AppendJSON([]byte(texts.Value(row))); err != nil {
			bad = append(bad, Failure{row, name, fmt.Sprintf("it is VARIANT, and the value %s can't be one: %v", decode.Shorten([]byte(texts.Value(row))), err)})
		}
	}
	return b.NewArray(), bad
}

// copyDecoded gathers the rows that are kept of the columns that are decoded. All of them are shared, not copied.
func (p *Plan) copyDecoded(columns []arrow.Array, rb arrow.RecordBatch, kept []int) {
	var indices arrow.Array
	if kept != nil {
		p.indices = p.indices[:0]
		for _, row := range kept {
			p.indices = append(p.indices, uint32(row)) //nolint:gosec // a batch has less than 2^31 rows
		}
		indices = array.NewUint32Data(array.NewData(arrow.PrimitiveTypes.Uint32, len(kept),
			[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Uint32Traits.CastToBytes(p.indices))}, nil, 0, 0))
		defer indices.Release()
	}
	for i, from := range p.sources {
		switch {
		case from < 0, columns[i] != nil:
		case indices == nil:
			columns[i] = rb.Column(from)
			columns[i].Retain()
		default:
			taken, err := compute.TakeArrayOpts(context.Background(), rb.Column(from), indices, compute.TakeOptions{BoundsCheck: false}) //nolint:forbidigo // nothing in it waits
			if err != nil {
				panic(fmt.Sprintf("columns: gathering the rows of column %s: %v", p.table.Field(i).Name, err)) // of a type that no plan of a decoder has
			}
			columns[i] = taken
		}
	}
}
