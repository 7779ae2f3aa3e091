package delta

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Violation says that one row of a batch may not be in the table. Path is a field path (PROTOCOL.md, "Field Path").
type Violation struct {
	Row    int
	Path   string
	Reason string
}

// violations are the first violation of each row.
type violations struct {
	found  []Violation
	marked []bool // by row
}

func (v *violations) has(row int) bool { return row < len(v.marked) && v.marked[row] }

// add is for a row that has none yet.
func (v *violations) add(row int, path, reason string) {
	if row >= len(v.marked) {
		v.marked = append(v.marked, make([]bool, row+1-len(v.marked))...)
	}
	v.marked[row] = true
	v.found = append(v.found, Violation{Row: row, Path: path, Reason: reason})
}

func (v *violations) inRowOrder() []Violation {
	slices.SortFunc(v.found, func(a, b Violation) int { return a.Row - b.Row })
	return v.found
}

// compileChecks compiles what the schema and the partition columns ask of rows: no null in a field that is not nullable, nor
// as an element or map value of a type that says so, and no string that is longer than its CHAR or VARCHAR. A null struct
// has no fields, so it is refused where one of them must not be null, as Spark refuses it, though the struct itself
// may be null by the schema; but in lists and maps, which Spark does not look into, a struct may be null. A partition value
// must also survive its way through the log: the empty string reads as null there (PROTOCOL.md, "Partition Value
// Serialization"), binary must be UTF-8, and a date must be of the years 1 to 9999.
func (s *state) compileChecks(r *Rules, refuse func(feature, format string, args ...any)) {
	for i, f := range s.schema.Fields() {
		n := compileNode(f.Name, f.Type, f.Nullable, true)
		if err := limitLengths(n, f); err != nil {
			refuse(charFeature, "column %s: %v", f.Name, err)
		}
		n.each(func(n *node) {
			if n.declared != "" {
				r.texts = append(r.texts, "the length of "+n.path+" "+n.declared)
			}
		})
		if n.binds() {
			r.checks = append(r.checks, columnCheck{i, n.dirty, n.find})
		}
		if slices.Contains(s.metadata.PartitionColumns, f.Name) {
			p := partitionCheck{f.Name, !f.Nullable}
			r.checks = append(r.checks, columnCheck{i, p.dirty, p.find})
			if id := f.Type.ID(); id == arrow.STRING || id == arrow.BINARY {
				r.partitions = append(r.partitions, i)
			}
		}
	}
}

// columnCheck is one rule of one column: dirty is cheap and may say true too often, find is exact for one row.
type columnCheck struct {
	column int
	dirty  func(arrow.Array) bool
	find   func(arr arrow.Array, row int) (Violation, bool)
}

// apply looks at values only where dirty says that something may be wrong.
func (c *columnCheck) apply(arr arrow.Array, v *violations) {
	if !c.dirty(arr) {
		return
	}
	for row := range arr.Len() {
		if v.has(row) {
			continue
		}
		if found, bad := c.find(arr, row); bad {
			v.add(row, found.Path, found.Reason)
		}
	}
}

// node is what one field, element or map value must be, and what is below it.
type node struct {
	path     string
	required bool
	inside   string  // of a struct outside of lists and maps: the first field in it, at any depth of structs, that must not be null
	declared string  // of a string with a length, such as VARCHAR(3)
	limit    int     // the length, in characters
	children []*node // of a struct: one for each field; of a list: the element; of a map: the key, the value
}

func compileNode(path string, t arrow.DataType, nullable, inStructs bool) *node {
	n := &node{path: path, required: !nullable}
	switch t := t.(type) {
	case *arrow.StructType:
		for _, f := range t.Fields() {
			child := compileNode(joinPath(path, f.Name), f.Type, f.Nullable, inStructs)
			n.children = append(n.children, child)
			if inStructs && n.inside == "" {
				n.inside = child.inside
				if child.required {
					n.inside = child.path
				}
			}
		}
	case *arrow.ListType:
		n.children = []*node{compileNode(joinPath(path, "element"), t.Elem(), t.ElemField().Nullable, false)}
	case *arrow.MapType:
		n.children = []*node{
			compileNode(joinPath(path, "key"), t.KeyType(), false, false),
			compileNode(joinPath(path, "value"), t.ItemType(), t.ItemField().Nullable, false),
		}
	}
	return n
}

// binds reports whether the node or one below forbids anything.
func (n *node) binds() bool {
	return n.required || n.declared != "" || slices.ContainsFunc(n.children, (*node).binds)
}

func (n *node) each(visit func(*node)) {
	visit(n)
	for _, child := range n.children {
		child.each(visit)
	}
}

// dirty reports whether a null or a long string is anywhere that forbids it, without regard to what is around it.
func (n *node) dirty(arr arrow.Array) bool {
	if (n.required || n.inside != "") && arr.NullN() > 0 || n.declared != "" && n.mayBeLong(arr) {
		return true
	}
	for i, child := range n.children {
		if child.binds() && child.dirty(childOf(arr, i)) {
			return true
		}
	}
	return false
}

func childOf(arr arrow.Array, i int) arrow.Array {
	switch a := arr.(type) {
	case *array.Struct:
		return a.Field(i)
	case *array.Map: // before List, which it embeds
		if i == 0 {
			return a.Keys()
		}
		return a.Items()
	case *array.List:
		return a.ListValues()
	}
	panic(fmt.Sprintf("delta: a batch whose column is a %s where the table has nested values", arr.DataType()))
}

// find looks for the first violation in one value.
func (n *node) find(arr arrow.Array, row int) (Violation, bool) {
	if arr.IsNull(row) {
		switch {
		case n.required:
			return Violation{Path: n.path, Reason: "NOT NULL: the value is null or missing"}, true
		case n.inside != "": // a null of its own, whether the field's array has one there or not
			return Violation{Path: n.inside, Reason: "NOT NULL: the struct " + n.path + " around it is null or missing"}, true
		}
		return Violation{}, false // elements that are not there have no values
	}
	if n.declared != "" {
		return n.tooLong(arr.(*array.String).Value(row))
	}
	from, to := int64(row), int64(row)+1
	if l, ok := arr.(array.ListLike); ok {
		from, to = l.ValueOffsets(row)
	}
	for i, child := range n.children {
		if !child.binds() {
			continue
		}
		values := childOf(arr, i)
		for j := from; j < to; j++ {
			if v, bad := child.find(values, int(j)); bad {
				return v, true
			}
		}
	}
	return Violation{}, false
}

// partitionCheck is what a partition column's values must be besides NOT NULL.
type partitionCheck struct {
	name     string
	required bool
}

// Days and microseconds since the epoch of 0001-01-01 and 10000-01-01, between which dates have four-digit years.
const (
	minDay, endDay       = -719162, 2932897
	microsPerDay   int64 = 86_400_000_000
)

// dirty runs over plain values, those under nulls too, because it sees every row of every batch.
func (p partitionCheck) dirty(arr arrow.Array) bool {
	switch a := arr.(type) {
	case *array.String:
		return p.required && holdsEmpty(a)
	case *array.Binary:
		return true
	case *array.Date32:
		for _, v := range a.Date32Values() {
			if v < minDay || v >= endDay {
				return true
			}
		}
	case *array.Timestamp:
		for _, v := range a.TimestampValues() {
			if int64(v) < minDay*microsPerDay || int64(v) >= endDay*microsPerDay {
				return true
			}
		}
	}
	return false
}

func hasEmpty(offsets []int32) bool {
	for i := 1; i < len(offsets); i++ {
		if offsets[i] == offsets[i-1] {
			return true
		}
	}
	return false
}

// holdsEmpty reports whether an array of text or bytes may have an empty value.
func holdsEmpty(arr arrow.Array) bool {
	offsets := arr.(interface{ ValueOffsets() []int32 })
	return arr.Len() > 0 && hasEmpty(offsets.ValueOffsets()) // an empty array may have no offsets
}

// emptyToNull gives an array of text or bytes with nulls in the place of empty values.
func emptyToNull(arr arrow.Array) arrow.Array {
	data, lengths := arr.Data(), arr.(array.BinaryLike)
	valid := make([]byte, bitutil.BytesForBits(int64(data.Offset()+arr.Len())))
	for row := range arr.Len() {
		if arr.IsValid(row) && lengths.ValueLen(row) > 0 {
			bitutil.SetBit(valid, data.Offset()+row)
		}
	}
	buffers := slices.Clone(data.Buffers())
	buffers[0] = memory.NewBufferBytes(valid)
	next := array.NewData(data.DataType(), arr.Len(), buffers, nil, array.UnknownNullCount, data.Offset())
	defer next.Release()
	return array.MakeFromData(next)
}

func (p partitionCheck) find(arr arrow.Array, row int) (Violation, bool) {
	if arr.IsNull(row) {
		return Violation{}, false
	}
	switch a := arr.(type) {
	case *array.String:
		return p.empty(a.ValueLen(row))
	case *array.Binary:
		if !utf8.Valid(a.Value(row)) {
			return Violation{Path: p.name, Reason: "a binary partition value must be UTF-8"}, true
		}
		return p.empty(a.ValueLen(row))
	case *array.Date32:
		return p.year(int64(a.Value(row)) < minDay || int64(a.Value(row)) >= endDay)
	case *array.Timestamp:
		return p.year(int64(a.Value(row)) < minDay*microsPerDay || int64(a.Value(row)) >= endDay*microsPerDay)
	}
	return Violation{}, false
}

func (p partitionCheck) empty(length int) (Violation, bool) {
	return Violation{Path: p.name, Reason: "NOT NULL: an empty partition value reads as null"}, p.required && length == 0
}

func (p partitionCheck) year(outside bool) (Violation, bool) {
	return Violation{Path: p.name, Reason: "a partition value must be of the years 1 to 9999"}, outside
}
