package delta

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// fileSet is a set of logical files, by hash.
type fileSet map[fileHash]struct{}

// first reports whether the file was not there, and puts it there.
func (s fileSet) first(path string, dv *DeletionVector) bool {
	h := hashOf(path, dv)
	_, known := s[h]
	s[h] = struct{}{}
	return !known
}

func (s fileSet) has(path string, dv *DeletionVector) bool {
	if len(s) == 0 {
		return false
	}
	_, ok := s[hashOf(path, dv)]
	return ok
}

// conform gives an array of the wanted type with the rows of a, sharing its values: fields are found by name, missing ones
// are null, others are left out. false says that values would have to be converted. The caller releases the array.
func conform(a arrow.Array, want arrow.DataType) (arrow.Array, bool) {
	d, ok := conformData(a.Data(), want)
	if !ok {
		return nil, false
	}
	defer d.Release()
	return array.MakeFromData(d), true
}

func conformData(d arrow.ArrayData, want arrow.DataType) (arrow.ArrayData, bool) {
	var children []arrow.ArrayData
	defer func() {
		for _, c := range children {
			c.Release()
		}
	}()
	switch want := want.(type) {
	case *arrow.StructType:
		have, ok := d.DataType().(*arrow.StructType)
		if !ok {
			return nil, false
		}
		for _, f := range want.Fields() {
			i, ok := have.FieldIdx(f.Name)
			if !ok {
				null := array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, d.Offset()+d.Len())
				null.Data().Retain()
				children = append(children, null.Data())
				null.Release()
				continue
			}
			c, ok := conformData(d.Children()[i], f.Type)
			if !ok {
				return nil, false
			}
			children = append(children, c)
		}
	case *arrow.MapType:
		if _, ok := d.DataType().(*arrow.MapType); !ok {
			return nil, false
		}
		// The names of a map's parts differ between writers, their order does not.
		entries := d.Children()[0]
		for i, t := range []arrow.DataType{want.KeyType(), want.ItemType()} {
			if !arrow.TypeEqual(entries.Children()[i].DataType(), t) {
				return nil, false
			}
		}
		children = append(children, array.NewData(want.Elem(), entries.Len(), entries.Buffers(), entries.Children(), entries.NullN(), entries.Offset()))
	case *arrow.ListType:
		if _, ok := d.DataType().(*arrow.ListType); !ok {
			return nil, false
		}
		c, ok := conformData(d.Children()[0], want.Elem())
		if !ok {
			return nil, false
		}
		children = append(children, c)
	default:
		if !arrow.TypeEqual(d.DataType(), want) {
			return nil, false
		}
		d.Retain()
		return d, true
	}
	return array.NewData(want, d.Len(), d.Buffers(), children, d.NullN(), d.Offset()), true
}

// runs are half-open ranges of rows.
type runs [][2]int

func (r *runs) add(row int) {
	if n := len(*r); n > 0 && (*r)[n-1][1] == row {
		(*r)[n-1][1]++
		return
	}
	*r = append(*r, [2]int{row, row + 1})
}

func (r runs) rows() int {
	n := 0
	for _, x := range r {
		n += x[1] - x[0]
	}
	return n
}

// take gives the rows of the runs, in one array that the caller releases.
func (r runs) take(a arrow.Array) (arrow.Array, error) {
	if len(r) == 1 {
		return array.NewSlice(a, int64(r[0][0]), int64(r[0][1])), nil
	}
	parts := make([]arrow.Array, len(r))
	for i, x := range r {
		parts[i] = array.NewSlice(a, int64(x[0]), int64(x[1]))
		defer parts[i].Release()
	}
	return array.Concatenate(parts, memory.DefaultAllocator)
}
