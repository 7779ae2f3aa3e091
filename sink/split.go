package sink

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// splitter divides batches by the values of the partition columns. Messages mostly come in runs of equal values (dates),
// so it looks for runs first: a batch of one run goes through whole, long runs as slices, and only short runs are
// gathered row by row. Where those are of many values, they are better collected first (scattered): each file takes as much work for ten
// rows as for a hundred.
type splitter struct {
	columns []int // of the partition columns in the table's schema
	memory  memory.Allocator

	keyers []keyer
	key    []byte // of the row at hand; reused
	runs   []run
	seen   map[string]bool
	groups map[string]*group
	order  []*group
	sorted []uint32
}

// run is a stretch of rows with equal partition values.
type run struct{ first, next int }

// group collects the rows of one combination of values.
type group struct {
	key  []byte
	row  int // one of its rows
	rows []uint32
}

const (
	// minSliceRows is the average length of runs from which slices are written instead of gathered rows.
	minSliceRows = 256
	// fewValues is up to how many combinations of values the rows of a batch are written at once: each has enough of them.
	fewValues = 8
)

func newSplitter(columns ...int) splitter {
	return splitter{columns: columns, memory: memory.DefaultAllocator, seen: map[string]bool{}, groups: map[string]*group{}}
}

// layoutSplitter divides by the partition columns of a table.
func layoutSplitter(l *Layout) splitter {
	s := newSplitter()
	for _, p := range l.files.Partitions {
		s.columns = append(s.columns, p.Column)
	}
	return s
}

// look finds the runs of a batch. What each and scattered do is about the batch that was looked at last.
func (s *splitter) look(rb arrow.RecordBatch) error {
	if err := s.bind(rb); err != nil {
		return err
	}
	s.findRuns(int(rb.NumRows()))
	return nil
}

// short tells that the runs are so short that their rows are gathered.
func (s *splitter) short() bool {
	rows := s.runs[len(s.runs)-1].next
	return len(s.runs) > 1 && rows < len(s.runs)*minSliceRows
}

// scattered tells that the runs are short, and of so many values that each has few of the rows.
func (s *splitter) scattered() bool {
	if !s.short() {
		return false
	}
	clear(s.seen)
	for _, r := range s.runs {
		if key := s.keyOf(r.first); !s.seen[string(key)] { // this form of lookup does not copy the key
			s.seen[string(key)] = true
		}
		if len(s.seen) > fewValues {
			return true
		}
	}
	return false
}

// each calls write once or more for every combination of partition values in the batch, with the rows of data that have it, one
// of those rows' numbers, and a key that is equal for equal values.
func (s *splitter) each(ctx context.Context, data arrow.RecordBatch, write func(key []byte, row int, part arrow.RecordBatch) error) error {
	if len(s.runs) == 1 {
		return write(s.keyOf(0), 0, data)
	}
	if s.short() {
		return s.gather(ctx, data, write)
	}
	for _, r := range s.runs {
		part := data.NewSlice(int64(r.first), int64(r.next))
		err := write(s.keyOf(r.first), r.first, part)
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// gather sorts the rows by their values, with one copy of all, and writes slices of that.
func (s *splitter) gather(ctx context.Context, data arrow.RecordBatch, write func(key []byte, row int, part arrow.RecordBatch) error) error {
	s.sort()
	sorted, err := newColumns(data.Schema(), len(s.sorted), func(i int) (arrow.Array, error) { return s.take(ctx, data.Column(i), data.ColumnName(i)) })
	if err != nil {
		return err
	}
	defer sorted.Release()
	return s.eachGroup(sorted, func(g *group, _ int, part arrow.RecordBatch) error { return write(g.key, g.row, part) })
}

// sort makes the groups of the runs, and the order of all rows by them.
func (s *splitter) sort() {
	if len(s.groups) > maxGroups { // values that have passed, such as old dates
		clear(s.groups)
		s.order = nil
	}
	for _, g := range s.order {
		g.rows = g.rows[:0]
	}
	s.order = s.order[:0]
	for _, r := range s.runs {
		key := s.keyOf(r.first)
		g, ok := s.groups[string(key)]
		if !ok {
			g = &group{key: bytes.Clone(key)}
			s.groups[string(key)] = g
		}
		if len(g.rows) == 0 {
			g.row = r.first
			s.order = append(s.order, g)
		}
		for i := r.first; i < r.next; i++ {
			g.rows = append(g.rows, uint32(i))
		}
	}
	s.sorted = s.sorted[:0]
	for _, g := range s.order {
		s.sorted = append(s.sorted, g.rows...)
	}
}

// eachGroup calls write for each group, with its rows in a batch that is sorted, and where they begin there.
func (s *splitter) eachGroup(sorted arrow.RecordBatch, write func(g *group, first int, part arrow.RecordBatch) error) error {
	first := 0
	for _, g := range s.order {
		part := sorted.NewSlice(int64(first), int64(first+len(g.rows)))
		err := write(g, first, part)
		part.Release()
		if err != nil {
			return err
		}
		first += len(g.rows)
	}
	return nil
}

// maxGroups is how many combinations of values are remembered, for the lists of their rows.
const maxGroups = 4096

// take copies a column into the order of the groups.
func (s *splitter) take(ctx context.Context, column arrow.Array, name string) (arrow.Array, error) {
	indices := array.NewUint32Data(array.NewData(arrow.PrimitiveTypes.Uint32, len(s.sorted),
		[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Uint32Traits.CastToBytes(s.sorted))}, nil, 0, 0))
	defer indices.Release()
	taken, err := compute.TakeArrayOpts(compute.WithAllocator(ctx, s.memory), column, indices, compute.TakeOptions{BoundsCheck: false})
	if err != nil {
		return nil, fmt.Errorf("gathering the rows of partition values, column %s: %w", name, err)
	}
	return taken, nil
}

// join copies pieces of a column into one.
func (s *splitter) join(pieces []arrow.Array, name string) (arrow.Array, error) {
	joined, err := array.Concatenate(pieces, s.memory)
	if err != nil {
		return nil, fmt.Errorf("collecting rows, column %s: %w", name, err)
	}
	return joined, nil
}

// newColumns makes a batch of its columns.
func newColumns(schema *arrow.Schema, rows int, column func(int) (arrow.Array, error)) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range schema.NumFields() {
		col, err := column(i)
		if err != nil {
			return nil, err
		}
		cols = append(cols, col)
	}
	return array.NewRecordBatch(schema, cols, int64(rows)), nil
}

func (s *splitter) findRuns(rows int) {
	s.runs = s.runs[:0]
	first := 0
	for i := 1; i < rows; i++ {
		if !s.sameAsBefore(i) {
			s.runs = append(s.runs, run{first, i})
			first = i
		}
	}
	s.runs = append(s.runs, run{first, rows})
}

func (s *splitter) sameAsBefore(i int) bool {
	for k := range s.keyers {
		if !s.keyers[k].same(i-1, i) {
			return false
		}
	}
	return true
}

func (s *splitter) keyOf(row int) []byte {
	s.key = s.key[:0]
	for k := range s.keyers {
		s.key = s.keyers[k].appendKey(s.key, row)
	}
	return s.key
}

// keyer compares and spells out the values of one column. Values equal by bytes are equal; 0.0 and -0.0 are not, which
// only makes two files.
type keyer struct {
	arr   arrow.Array
	fixed []byte // values of fixed width
	width int
	text  func(int) string // values of any width
	bits  func(int) bool
}

func (s *splitter) bind(rb arrow.RecordBatch) error {
	s.keyers = s.keyers[:0]
	for _, c := range s.columns {
		if err := s.bindColumn(rb.Column(c), rb.ColumnName(c)); err != nil {
			return err
		}
	}
	return nil
}

func (s *splitter) bindColumn(column arrow.Array, name string) error {
	k, err := newKeyer(column)
	if err != nil {
		return fmt.Errorf("partition column %s: %w", name, err)
	}
	s.keyers = append(s.keyers, k)
	return nil
}

func newKeyer(arr arrow.Array) (keyer, error) {
	k := keyer{arr: arr}
	switch a := arr.(type) {
	case *array.String:
		k.text = a.Value
	case *array.Binary:
		k.text = a.ValueString
	case *array.Boolean:
		k.bits = a.Value
	default:
		t, ok := arr.DataType().(arrow.FixedWidthDataType)
		if !ok || t.BitWidth()%8 != 0 || len(arr.Data().Buffers()) != 2 {
			return k, fmt.Errorf("type %s cannot be a partition column", arr.DataType())
		}
		k.width = t.BitWidth() / 8
		if buf := arr.Data().Buffers()[1]; buf != nil {
			k.fixed = buf.Bytes()[arr.Data().Offset()*k.width:]
		}
	}
	return k, nil
}

func (k *keyer) same(i, j int) bool {
	if n := k.arr.IsNull(i); n != k.arr.IsNull(j) {
		return false
	} else if n {
		return true
	}
	switch {
	case k.text != nil:
		return k.text(i) == k.text(j)
	case k.bits != nil:
		return k.bits(i) == k.bits(j)
	}
	return bytes.Equal(k.fixed[i*k.width:(i+1)*k.width], k.fixed[j*k.width:(j+1)*k.width])
}

// appendKey spells a value so that different rows of values never spell alike: a length, or a mark for null, goes first.
func (k *keyer) appendKey(key []byte, i int) []byte {
	if k.arr.IsNull(i) {
		return binary.BigEndian.AppendUint32(key, math.MaxUint32)
	}
	switch {
	case k.text != nil:
		v := k.text(i)
		return append(binary.BigEndian.AppendUint32(key, uint32(len(v))), v...)
	case k.bits != nil:
		if k.bits(i) {
			return append(key, 0, 0, 0, 1, 1)
		}
		return append(key, 0, 0, 0, 1, 0)
	}
	key = binary.BigEndian.AppendUint32(key, uint32(k.width))
	return append(key, k.fixed[i*k.width:(i+1)*k.width]...)
}
