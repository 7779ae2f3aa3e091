package json

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// op is what a field's value becomes.
type op uint8

const (
	opSkip   op = iota // validated and dropped
	opString           // everything from here on has a builder
	opInt8
	opInt16
	opInt32
	opInt64
	opFloat64
	opFloat32
	opBool
	opDecimal
	opDate
	opTimestamp
	opTimestampNTZ
	opBinary
	opStruct
	opList
	opMap
	opPath // an object that the table does not keep, but with fields below it that computed columns read
)

var ops = map[decode.Kind]op{
	decode.KindString: opString, decode.KindBool: opBool, decode.KindInt8: opInt8, decode.KindInt16: opInt16,
	decode.KindInt32: opInt32, decode.KindInt64: opInt64, decode.KindFloat32: opFloat32, decode.KindFloat64: opFloat64,
	decode.KindDecimal: opDecimal, decode.KindDate: opDate, decode.KindTimestamp: opTimestamp,
	decode.KindTimestampNTZ: opTimestampNTZ, decode.KindBinary: opBinary, decode.KindStruct: opStruct,
	decode.KindList: opList, decode.KindMap: opMap,
}

// field is one compiled field of an object, or the element of a list, or the key or value of a map. Its first part is
// what the scanner touches for every value.
type field struct {
	word0, mask0 uint64 // the key as it stands in a message, quotes and colon included: its first 8 bytes, and which count
	word1, mask1 uint64 // and the next 8
	keyLen       int    // of all of it
	next, alt    *field // the fields that followed this one most recently: the next key to expect
	b            *decode.Builder
	op           op
	extra        bool // below or sub is set
	depth        int  // containers that are open where the value stands

	obj              *object // opStruct, opPath
	elem             *field  // opList; the value of opMap
	key              *field  // opMap
	epoch            decode.Epoch
	precision, scale int32 // opDecimal
	computed         []computed
	below            []*decode.Builder // computed columns that take this value or one below it
	sub              *object           // opMap: fields below that computed columns read

	rawKey string // all of the key as it stands in a message; empty when it is never looked for in that form
	name   string
	path   string
	next1  *field // in the object's hash table
}

// computed is a computed column's part in a field: value is how it reads the value when it has no cast.
type computed struct {
	*decode.Computed
	name  string
	b     *decode.Builder
	value *field
}

// object is a compiled JSON object.
type object struct {
	b      *decode.Builder // nil: the message itself, or opPath
	fields []*field        // those with a builder come first: kept of them
	kept   int
	start  *field // its next is the field that came first most recently
	other  *field // stands for unknown keys that are not remembered
	path   string
	depth  int // containers that are open where the values of its fields stand

	table   []*field // hash table with chains; the size is a power of two
	learned int      // unknown keys in it
}

// maxLearned bounds the unknown keys that one object remembers, so that skipping them needs no hashing either.
const maxLearned = 64

// never is expected where nothing is: masked bytes, all zero, are never equal to its word.
var never = &field{word0: 1, mask0: 0}

func (d *Decoder) compile(plan *decode.Plan) {
	c := &compiler{d: d, names: plan.Schema()}
	d.root = c.object(plan.Root(), nil, d.rows.Columns, 1)
	for _, whole := range plan.Root().Computed { // no other cast takes a message
		d.texts = append(d.texts, d.rows.Columns[whole.Column])
	}
}

// compiler turns the nodes of a plan into objects and fields that point at the decoder's builders.
type compiler struct {
	d     *Decoder
	names *arrow.Schema
}

// object compiles the fields of n. depth counts the open containers, the object included.
func (c *compiler) object(n *decode.Node, b *decode.Builder, children []*decode.Builder, depth int) *object {
	o := &object{b: b, path: n.Path, depth: depth, start: &field{next: never, alt: never},
		other: &field{path: n.Path, depth: depth, next: never, alt: never}}
	size := 64
	for size < 4*(len(n.Fields)+maxLearned) {
		size *= 2
	}
	o.table = make([]*field, size)
	for _, kept := range []bool{true, false} {
		for _, child := range n.Fields {
			if (child.Index >= 0) != kept {
				continue
			}
			var cb *decode.Builder
			if kept {
				cb = children[child.Index]
				o.kept++
			}
			f := c.field(child, cb, depth)
			o.fields = append(o.fields, f)
		}
	}
	// The first guess is the order of the table, with the fields that only computed columns read at the end.
	prev := o.start
	for _, f := range o.fields {
		prev.next = f
		prev = f
		o.insert(f)
	}
	return o
}

func (c *compiler) field(n *decode.Node, b *decode.Builder, depth int) *field {
	f := &field{name: n.Name, path: n.Path, b: b, depth: depth, epoch: n.Epoch, next: never, alt: never}
	f.setKey(n.Name)
	switch {
	case b != nil:
		f.op = ops[b.Kind]
	case len(n.Fields) > 0:
		f.op = opPath
	}
	switch f.op {
	case opStruct:
		f.obj = c.object(n, b, b.Children, depth+1)
	case opPath:
		f.obj = c.object(n, nil, nil, depth+1)
	case opList:
		f.elem = c.field(n.Elem, b.Children[0], depth+1)
	case opDecimal:
		t := n.Type.(*arrow.Decimal128Type)
		f.precision, f.scale = t.Precision, t.Scale
	case opMap:
		f.key = c.field(n.Key, b.Children[0].Children[0], depth+1)
		f.elem = c.field(n.Elem, b.Children[0].Children[1], depth+1)
		if len(n.Fields) > 0 {
			f.sub = c.object(n, nil, nil, depth+1)
		}
	default: // a scalar, or to be passed over: no more is needed
	}
	for _, from := range n.Computed {
		out := computed{Computed: from, name: c.names.Field(from.Column).Name, b: c.d.rows.Columns[from.Column]}
		c.d.computed = append(c.d.computed, out.b)
		if from.Cast == decode.CastNone {
			out.value = c.field(from.Value, out.b, depth)
			out.value.path = n.Path
		}
		f.computed = append(f.computed, out)
	}
	for _, column := range n.Below {
		f.below = append(f.below, c.d.rows.Columns[column])
	}
	f.extra = len(f.below) > 0 || f.sub != nil
	return f
}

// setKey prepares the comparison of the key as most writers put it: no escapes, no space before the colon.
func (f *field) setKey(name string) {
	f.word0, f.mask0 = never.word0, never.mask0
	if !utf8.ValidString(name) {
		return
	}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == '"' || name[i] == '\\' {
			return // it always stands escaped
		}
	}
	f.rawKey = `"` + name + `":`
	f.keyLen = len(f.rawKey)
	var text, mask [16]byte
	for i := range min(f.keyLen, 16) {
		text[i], mask[i] = f.rawKey[i], 0xff
	}
	f.word0, f.mask0 = binary.LittleEndian.Uint64(text[:8]), binary.LittleEndian.Uint64(mask[:8])
	f.word1, f.mask1 = binary.LittleEndian.Uint64(text[8:]), binary.LittleEndian.Uint64(mask[8:])
}

// hash mixes a key's bytes. Keys are known or few (maxLearned), so nobody can make chains long.
func hash[T string | []byte](key T) uint64 {
	h := uint64(len(key))
	i := 0
	for ; i+8 <= len(key); i += 8 {
		w := uint64(key[i]) | uint64(key[i+1])<<8 | uint64(key[i+2])<<16 | uint64(key[i+3])<<24 |
			uint64(key[i+4])<<32 | uint64(key[i+5])<<40 | uint64(key[i+6])<<48 | uint64(key[i+7])<<56
		h = (h ^ w) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	var w uint64
	for ; i < len(key); i++ {
		w = w<<8 | uint64(key[i])
	}
	h = (h ^ w) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}

func (o *object) insert(f *field) {
	slot := &o.table[hash(f.name)&uint64(len(o.table)-1)]
	f.next1, *slot = *slot, f
}

// find returns the field of a key, or nil.
func (o *object) find(key []byte) *field {
	for f := o.table[hash(key)&uint64(len(o.table)-1)]; f != nil; f = f.next1 {
		if f.name == string(key) {
			return f
		}
	}
	return nil
}

// learn remembers an unknown key, so that it is expected where it was met. plain: its text has no escapes.
func (o *object) learn(key []byte, plain bool) *field {
	if o.learned >= maxLearned || len(key) > 256 || !plain {
		return nil
	}
	o.learned++
	f := &field{name: string(key), depth: o.depth, next: never, alt: never}
	f.path = f.name
	if o.path != "" {
		f.path = o.path + "." + f.name
	}
	f.setKey(f.name)
	o.insert(f)
	return f
}
