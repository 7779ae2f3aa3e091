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
// gathered row by row.
type splitter struct {
	columns []int // of the partition columns in the table's schema

	keyers []keyer
	key    []byte // of the row at hand; reused
	runs   []run
	groups map[string]*group
	order  []*group
}

// run is a stretch of rows with equal partition values.
type run struct{ first, next int }

// group collects the rows of one combination of values.
type group struct {
	key  []byte
	row  int // one of its rows
	rows []uint32
}

// minSliceRows is the average length of runs from which slices are written instead of gathered rows.
const minSliceRows = 256

func newSplitter(l *Layout) splitter {
	s := splitter{groups: map[string]*group{}}
	for _, p := range l.files.Partitions {
		s.columns = append(s.columns, p.Column)
	}
	return s
}

// each calls write once or more for every combination of partition values in rb, with the rows of data that have it, one
// of those rows' numbers, and a key that is equal for equal values.
func (s *splitter) each(ctx context.Context, rb, data arrow.RecordBatch, write func(key []byte, row int, part arrow.RecordBatch) error) error {
	if err := s.bind(rb); err != nil {
		return err
	}
	rows := int(rb.NumRows())
	s.findRuns(rows)
	if len(s.runs) == 1 {
		return write(s.keyOf(0), 0, data)
	}
	if rows >= len(s.runs)*minSliceRows {
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
	return s.gather(ctx, data, write)
}

func (s *splitter) gather(ctx context.Context, data arrow.RecordBatch, write func(key []byte, row int, part arrow.RecordBatch) error) error {
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
	for _, g := range s.order {
		part, err := take(ctx, data, g.rows)
		if err != nil {
			return err
		}
		err = write(g.key, g.row, part)
		part.Release()
		if err != nil {
			return err
		}
	}
	if len(s.groups) > 4*maxOpenFiles { // values that have passed, such as old dates
		clear(s.groups)
		s.order = nil
	}
	return nil
}

// take copies the given rows into a batch of their own.
func take(ctx context.Context, data arrow.RecordBatch, rows []uint32) (arrow.RecordBatch, error) {
	indices := array.NewUint32Data(array.NewData(arrow.PrimitiveTypes.Uint32, len(rows),
		[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Uint32Traits.CastToBytes(rows))}, nil, 0, 0))
	defer indices.Release()
	cols := make([]arrow.Array, data.NumCols())
	for i := range cols {
		col, err := compute.TakeArrayOpts(ctx, data.Column(i), indices, compute.TakeOptions{BoundsCheck: false})
		if err != nil {
			for _, c := range cols[:i] {
				c.Release()
			}
			return nil, fmt.Errorf("gathering the rows of a partition value, column %s: %w", data.ColumnName(i), err)
		}
		cols[i] = col
	}
	part := array.NewRecordBatch(data.Schema(), cols, int64(len(rows)))
	for _, c := range cols {
		c.Release()
	}
	return part, nil
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
		k, err := newKeyer(rb.Column(c))
		if err != nil {
			return fmt.Errorf("partition column %s: %w", rb.ColumnName(c), err)
		}
		s.keyers = append(s.keyers, k)
	}
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
