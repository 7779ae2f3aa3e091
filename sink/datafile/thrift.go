package datafile

import "encoding/binary"

// thrift writes Thrift's compact protocol, as far as Parquet's metadata needs it. Fields of a struct are written in the
// order of their ids.
type thrift struct {
	to    []byte
	last  int16    // id of the field before, in this struct
	up    [8]int16 // the same of the structs around it
	depth int
}

// Types of the compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

func (t *thrift) field(id int16, kind byte) {
	if step := id - t.last; step > 0 && step < 16 {
		t.to = append(t.to, byte(step)<<4|kind)
	} else {
		t.to = append(t.to, kind)
		t.varint(int64(id))
	}
	t.last = id
}

func (t *thrift) varint(v int64) { t.to = binary.AppendVarint(t.to, v) }

func (t *thrift) i8(id int16, v int8) {
	t.field(id, thriftByte)
	t.to = append(t.to, byte(v))
}

func (t *thrift) i16(id int16, v int16) {
	t.field(id, thriftI16)
	t.varint(int64(v))
}

func (t *thrift) i32(id int16, v int32) {
	t.field(id, thriftI32)
	t.varint(int64(v))
}

func (t *thrift) i64(id int16, v int64) {
	t.field(id, thriftI64)
	t.varint(v)
}

func (t *thrift) boolean(id int16, v bool) {
	if v {
		t.field(id, thriftTrue)
		return
	}
	t.field(id, thriftFalse)
}

func (t *thrift) text(id int16, v string) {
	t.field(id, thriftBinary)
	t.element(v)
}

// element is a string or binary in a list.
func (t *thrift) element(v string) {
	t.to = binary.AppendUvarint(t.to, uint64(len(v)))
	t.to = append(t.to, v...)
}

// list begins a list of n elements, which follow without field ids: structs between begin and end.
func (t *thrift) list(id int16, kind byte, n int) {
	t.field(id, thriftList)
	if n < 15 {
		t.to = append(t.to, byte(n)<<4|kind)
		return
	}
	t.to = append(t.to, 0xf0|kind)
	t.to = binary.AppendUvarint(t.to, uint64(n))
}

// structure begins a struct that is a field.
func (t *thrift) structure(id int16) {
	t.field(id, thriftStruct)
	t.begin()
}

func (t *thrift) begin() {
	t.up[t.depth] = t.last
	t.depth++
	t.last = 0
}

// end ends the innermost struct, at last the outermost, which has no begin.
func (t *thrift) end() {
	t.to = append(t.to, 0)
	if t.depth > 0 {
		t.depth--
		t.last = t.up[t.depth]
	}
}

// empty is a field that is a struct without fields.
func (t *thrift) empty(id int16) {
	t.structure(id)
	t.end()
}
