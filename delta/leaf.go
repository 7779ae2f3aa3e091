package delta

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// A log checkpoint is one row per action: nearly every column of nearly every row is null. So its columns are read leaf by
// leaf through definition levels (runs of nulls cost next to nothing) instead of as Arrow arrays.

const (
	leafRows   = 4096      // levels decoded at a time, at most
	firstTexts = 256       // as long as nothing is known of their length
	leafBytes  = 1 << 20   // texts decoded at a time, about: bounds a leaf's memory where statistics are long
	longText   = 4 << 10   // from here on, equal texts share their copy: a dictionary repeats one for nearly nothing
	longBytes  = 16 << 20  // of such texts are remembered from one batch to the next
	rowBytes   = 256 << 20 // of the entries of one list or map
	entryBytes = 32        // of an entry besides its text
)

// leaf reads one leaf column of a row group forwards, row by row. The Parquet library may panic under it: see guard.
type leaf struct {
	chunk    file.ColumnChunkReader
	pages    *checkedPages
	name     string
	maxDef   int16
	maxRep   int16
	entryDef int16 // definition level from which on a repeated leaf has an entry

	row       int64 // row of the level at `at`
	defs      []int16
	reps      []int16
	levels    int // decoded
	at        int // next level
	value     int // next value
	batch     int // levels to decode at a time
	ints      []int64
	int32s    []int32
	bools     []bool
	bytes     []parquet.ByteArray
	texts     []string
	long      map[string]string // texts of at least longText bytes, by themselves
	longs     int               // bytes in it
	exhausted bool
}

// newLeaf opens a leaf. kind is the physical type that the protocol's type stands for; an int may be 32 or 64 bits wide.
func newLeaf(rg *rowGroup, column int, kind parquet.Type) (*leaf, error) {
	descr := rg.MetaData().Schema.Column(column)
	got := descr.PhysicalType()
	if got != kind && (kind != parquet.Types.Int64 || got != parquet.Types.Int32) {
		return nil, fmt.Errorf("the column %s has the Parquet type %s, not %s", descr.Path(), got, kind)
	}
	if descr.MaxRepetitionLevel() > 1 {
		return nil, fmt.Errorf("the column %s is repeated more than once", descr.Path())
	}
	pages, err := rg.GetColumnPageReader(column)
	if err != nil {
		return nil, err
	}
	// The only way to look at pages before the library does. The pool is not shared: what is deprecated is to share one wrongly.
	checked := &checkedPages{PageReader: pages}
	chunk := file.NewColumnReader(descr, checked, rg.mem, &sync.Pool{New: func() any { //nolint:staticcheck // see above
		return memory.NewResizableBuffer(rg.mem)
	}})
	md, err := rg.MetaData().ColumnChunk(column)
	if err != nil {
		return nil, err
	}
	n := int(min(leafRows, max(md.NumValues(), 1)))
	l := &leaf{
		chunk: chunk, pages: checked, name: descr.Path(), maxDef: descr.MaxDefinitionLevel(), maxRep: descr.MaxRepetitionLevel(),
		entryDef: entryLevel(descr.SchemaNode()), batch: n, defs: make([]int16, n), reps: make([]int16, n),
	}
	switch got {
	case parquet.Types.Int64:
		l.ints = make([]int64, n)
	case parquet.Types.Int32:
		l.int32s, l.ints = make([]int32, n), make([]int64, n)
	case parquet.Types.Boolean:
		l.bools = make([]bool, n)
	default:
		l.bytes, l.texts, l.batch = make([]parquet.ByteArray, n), make([]string, n), min(n, firstTexts)
		l.long = map[string]string{}
	}
	return l, nil
}

// entryLevel is the definition level of the repeated node that a leaf is or is below; 0 when there is none.
func entryLevel(n schema.Node) int16 {
	for ; n != nil && n.Parent() != nil; n = n.Parent() {
		if n.RepetitionType() != parquet.Repetitions.Repeated {
			continue
		}
		level := int16(0)
		for ; n != nil && n.Parent() != nil; n = n.Parent() {
			if n.RepetitionType() != parquet.Repetitions.Required {
				level++
			}
		}
		return level
	}
	return 0
}

// fill decodes the next levels and values; false at the end of the column.
func (l *leaf) fill() (bool, error) {
	l.at, l.value, l.levels = 0, 0, 0
	if l.exhausted || !l.chunk.HasNext() {
		l.exhausted = true
		return false, l.chunk.Err()
	}
	var total int64
	var values int
	var err error
	n := int64(min(l.batch, l.pages.batch))
	switch c := l.chunk.(type) {
	case *file.Int64ColumnChunkReader:
		total, values, err = c.ReadBatchInPage(n, l.ints, l.defs, l.reps)
	case *file.Int32ColumnChunkReader:
		total, values, err = c.ReadBatchInPage(n, l.int32s, l.defs, l.reps)
		for i, v := range l.int32s[:values] {
			l.ints[i] = int64(v)
		}
	case *file.BooleanColumnChunkReader:
		total, values, err = c.ReadBatchInPage(n, l.bools, l.defs, l.reps)
	case *file.ByteArrayColumnChunkReader:
		total, values, err = c.ReadBatchInPage(n, l.bytes, l.defs, l.reps)
		if err == nil {
			l.copyTexts(values)
		}
	default:
		err = errors.New("an unexpected Parquet type")
	}
	if err != nil {
		return false, fmt.Errorf("column %s: %w", l.name, err)
	}
	if total <= 0 {
		return false, fmt.Errorf("column %s: a page holds fewer values than it says", l.name)
	}
	l.levels = int(total)
	present := 0
	if l.maxDef == 0 {
		present = l.levels
	}
	for _, d := range l.defs[:l.levels] {
		if d == l.maxDef && l.maxDef > 0 {
			present++
		}
	}
	if present != values {
		return false, fmt.Errorf("column %s: a page has %d values, its levels say %d", l.name, values, present)
	}
	return true, nil
}

// copyTexts makes the decoded bytes, which belong to the page, strings of their own: one allocation for all that are short,
// one for each long one that is not known yet.
func (l *leaf) copyTexts(values int) {
	total, short := 0, 0
	for _, b := range l.bytes[:values] {
		if total += len(b); len(b) < longText {
			short += len(b)
		}
	}
	if values > 0 {
		l.batch = min(max(leafBytes*values/max(total, 1), 1), len(l.texts))
	}
	if l.longs > longBytes { // never within a batch, whose distinct texts are no more than its page and its dictionary
		clear(l.long)
		l.longs = 0
	}
	var all strings.Builder
	all.Grow(short)
	for _, b := range l.bytes[:values] {
		if len(b) < longText {
			all.Write(b)
		}
	}
	rest := all.String()
	for i, b := range l.bytes[:values] {
		if len(b) < longText {
			l.texts[i], rest = rest[:len(b)], rest[len(b):]
			continue
		}
		text, known := l.long[string(b)]
		if !known {
			text = string(b)
			l.long[text] = text
			l.longs += len(b)
		}
		l.texts[i] = text
	}
}

// ownText is a copy of a text that does not keep the short ones in memory that were decoded with it.
func ownText(s string) string {
	if len(s) < longText {
		return strings.Clone(s)
	}
	return s
}

// next finds the next row, from `from` on, where a flat leaf has a value, and moves there; -1 when there is none.
func (l *leaf) next(from int64) (int64, error) {
	if err := l.seek(from); err != nil {
		return -1, err
	}
	for {
		for l.at < l.levels {
			if l.maxDef == 0 || l.defs[l.at] == l.maxDef {
				return l.row, nil
			}
			l.at++
			l.row++
		}
		more, err := l.fill()
		if err != nil || !more {
			return -1, err
		}
	}
}

// seek moves a flat leaf forwards to a row. It may end behind the last one, which reads as null.
func (l *leaf) seek(row int64) error {
	for l.row < row {
		if l.at == l.levels {
			more, err := l.fill()
			if err != nil {
				return err
			}
			if !more {
				l.row = row
				return nil
			}
		}
		n := int(min(row-l.row, int64(l.levels-l.at)))
		if l.maxDef == 0 {
			l.value += n
		} else {
			for _, d := range l.defs[l.at : l.at+n] {
				if d == l.maxDef {
					l.value++
				}
			}
		}
		l.at += n
		l.row += int64(n)
	}
	if l.at == l.levels && !l.exhausted {
		_, err := l.fill()
		return err
	}
	return nil
}

// here moves to a row and tells whether there is a value, at index i. A nil leaf, of a missing column, has none.
func (l *leaf) here(row int64) (i int, ok bool, err error) {
	if l == nil {
		return 0, false, nil
	}
	if err := l.seek(row); err != nil || l.at == l.levels {
		return 0, false, err
	}
	return l.value, l.maxDef == 0 || l.defs[l.at] == l.maxDef, nil
}

// close gives the library's buffers back; they hold no file open, so that there is no error to tell.
func (l *leaf) close() {
	if l != nil {
		_ = l.chunk.Close()
	}
}

// entry is one entry of a list or one side of a map's.
type entry struct {
	text string
	null bool
}

// entries appends the entries of a repeated leaf in a row; rows between are passed over. ok is false when the list or map
// is null: an empty one has no entries either.
func (l *leaf) entries(row int64, into []entry) (_ []entry, ok bool, err error) {
	if l == nil {
		return into, false, nil
	}
	size := 0
	for ; ; l.row++ {
		for first := true; ; first = false {
			if l.at == l.levels {
				more, err := l.fill()
				if err != nil {
					return into, false, err
				}
				if !more {
					return into, ok, nil
				}
			}
			if !first && l.reps[l.at] == 0 {
				break
			}
			def := l.defs[l.at]
			l.at++
			present := def == l.maxDef
			if l.row == row {
				ok = ok || def >= l.entryDef-1
				switch {
				case def < l.entryDef:
				case present:
					into = append(into, entry{text: l.texts[l.value]})
					size += entryBytes + len(l.texts[l.value])
				default:
					into = append(into, entry{null: true})
					size += entryBytes
				}
				if size > rowBytes {
					return into, false, fmt.Errorf("column %s: the entries of one row are longer than %d MiB", l.name, rowBytes>>20)
				}
			}
			if present {
				l.value++
			}
		}
		if l.row >= row {
			l.row++
			return into, ok, nil
		}
	}
}
