package avro

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// generator makes random schemas, and values for goavro to encode.
type generator struct {
	*rand.Rand
	names int
}

func (g *generator) name() string {
	g.names++
	return fmt.Sprintf("n%d", g.names)
}

// schema gives a type as JSON.
func (g *generator) schema(depth int) any {
	n := 16
	if depth <= 0 {
		n = 12
	}
	switch g.IntN(n) {
	case 0:
		return "boolean"
	case 1:
		return "int"
	case 2:
		return "long"
	case 3:
		return "float"
	case 4:
		return "double"
	case 5:
		return "bytes"
	case 6:
		return "string"
	case 7:
		return map[string]any{"type": "enum", "name": g.name(), "symbols": []string{"A", "LONGER_SYMBOL", "c"}}
	case 8:
		return map[string]any{"type": "fixed", "name": g.name(), "size": 1 + g.IntN(20)}
	case 9:
		return map[string]any{"type": "long", "logicalType": []string{"timestamp-millis", "timestamp-micros"}[g.IntN(2)]}
	case 10:
		return map[string]any{"type": "int", "logicalType": "date"}
	case 11:
		precision := 1 + g.IntN(38)
		return map[string]any{"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": g.IntN(precision + 1)}
	case 12:
		return map[string]any{"type": "array", "items": g.schema(depth - 1)}
	case 13:
		return map[string]any{"type": "map", "values": g.schema(depth - 1)}
	case 14:
		return g.union(depth)
	default:
		return g.record(depth - 1)
	}
}

func (g *generator) record(depth int) any {
	var fields []any
	for i := range 1 + g.IntN(5) {
		fields = append(fields, map[string]any{"name": fmt.Sprintf("f%d", i), "type": g.schema(depth)})
	}
	return map[string]any{"type": "record", "name": g.name(), "fields": fields}
}

// union is of null and something, in either order, or of several.
func (g *generator) union(depth int) any {
	switch g.IntN(3) {
	case 0:
		return []any{"null", g.single(depth)}
	case 1:
		return []any{g.single(depth), "null"}
	}
	return []any{"null", "int", "string", g.record(depth - 1)}
}

func (g *generator) single(depth int) any {
	for {
		if s := g.schema(depth - 1); reflect.TypeOf(s).Kind() != reflect.Slice {
			return s
		}
	}
}

// value gives a value of a type as goavro takes it, and as a batch shows it (see shown).
func (g *generator) value(n *node) (native, want any) {
	switch n.kind {
	case kindNull:
		return nil, nil
	case kindBoolean:
		v := g.IntN(2) == 0
		return v, v
	case kindInt:
		v := int32(g.Uint32() >> g.IntN(32))
		if n.logical == date {
			day := int32(g.IntN(40000))
			return time.Unix(int64(day)*86400, 0).UTC(), float64(day)
		}
		return v, float64(v)
	case kindLong:
		switch n.logical {
		case timestampMillis:
			v := int64(g.Uint64() % (1 << 42))
			return time.UnixMilli(v).UTC(), fmt.Sprint(v * 1000)
		case timestampMicros:
			v := int64(g.Uint64() % (1 << 52))
			return time.UnixMicro(v).UTC(), fmt.Sprint(v)
		default:
		}
		v := int64(g.Uint64() >> g.IntN(64))
		return v, fmt.Sprint(v)
	case kindFloat:
		v := g.Float32()
		return v, float64(v)
	case kindDouble:
		v := g.NormFloat64()
		return v, v
	case kindBytes, kindFixed:
		return g.bytes(n)
	case kindString:
		v := strings.Repeat("wörd ", g.IntN(30))
		return v, v
	case kindEnum:
		v := n.symbols[g.IntN(len(n.symbols))]
		return v, v
	case kindArray:
		native, want := []any{}, []any{}
		for range g.IntN(4) {
			v, w := g.value(n.items)
			native, want = append(native, v), append(want, w)
		}
		return native, want
	case kindMap:
		native, want := map[string]any{}, map[string]any{}
		for range g.IntN(4) {
			key := fmt.Sprint("k", g.IntN(100))
			native[key], want[key] = g.value(n.items)
		}
		return native, want
	case kindUnion:
		return g.unionValue(n)
	default:
		native, want := map[string]any{}, map[string]any{}
		for _, f := range n.fields {
			native[f.name], want[f.name] = g.value(f.typ)
		}
		return native, want
	}
}

// source is a random place in messages: its path, its type, and the type of a column for it. It begins at a field with that column.
func (g *generator) source(f arrow.Field, n *node) (path string, at *node, column arrow.DataType) {
	path, column = f.Name, f.Type
	for {
		if n.kind == kindUnion && len(n.branches) == 2 {
			n = n.branches[slices.IndexFunc(n.branches, func(b *node) bool { return b.kind != kindNull })]
		}
		if g.IntN(3) == 0 {
			return path, n, column
		}
		switch t := column.(type) {
		case *arrow.MapType:
			path, n, column = path+fmt.Sprint(".k", g.IntN(100)), n.items, t.ItemType()
		case *arrow.StructType:
			f := t.Field(g.IntN(t.NumFields()))
			path, column = path+"."+f.Name, f.Type
			if n.kind == kindUnion {
				n = n.branches[slices.Index(memberNames(n), f.Name)]
			} else {
				n = n.fieldNamed(f.Name).typ
			}
		default:
			return path, n, column
		}
	}
}

// computed is another table for messages of a schema: columns of the first are left out, renamed, and there more than once, and others are taken of fields below,
// by casts too: with all that a type has, or those that no value is refused by. row is what a row of the first table becomes.
func (g *generator) computed(root *node, table *arrow.Schema, all bool) (other *arrow.Schema, cfg decode.Config, row func(any) map[string]any) {
	cfg.Columns = map[string]decode.Column{}
	var fields []arrow.Field
	values := map[string]func(row any) any{}
	for i, f := range table.Fields() {
		if len(fields) == 0 || g.IntN(2) == 0 {
			fields = append(fields, f)
			values[f.Name] = func(row any) any { return row.(map[string]any)[f.Name] }
		}
		for range g.IntN(4) {
			path, n, column := g.source(f, root.fields[i].typ)
			name, c, of := fmt.Sprint("c", len(fields)), decode.Column{From: path}, func(v any) any { return v }
			switch cast := g.IntN(2) == 0; {
			case cast && (n.kind == kindEnum || n.kind == kindString && (!all || g.IntN(2) == 0)):
				c.Cast = "substring(1, 2)"
				of = func(v any) any { return string([]rune(v.(string))[:min(2, len([]rune(v.(string))))]) }
			case cast && (n.logical == timestampMillis || n.logical == timestampMicros):
				c.Cast, column = "hour", arrow.PrimitiveTypes.Int32
				of = func(v any) any {
					micros, _ := strconv.ParseInt(v.(string), 10, 64)
					return micros / 3_600_000_000 % 24
				}
			case cast && all && (n.kind == kindString || n.kind == kindInt || n.kind == kindLong):
				c.Cast, column = "date", arrow.FixedWidthTypes.Date32
			}
			cfg.Columns[name] = c
			fields = append(fields, arrow.Field{Name: name, Type: column, Nullable: true})
			values[name] = func(row any) any {
				for part := range strings.SplitSeq(path, ".") {
					at, _ := row.(map[string]any)
					row = at[part]
				}
				if row == nil {
					return nil
				}
				return of(row)
			}
		}
	}
	return arrow.NewSchema(fields, nil), cfg, func(of any) map[string]any {
		out := map[string]any{}
		for name, value := range values {
			out[name] = value(of)
		}
		return out
	}
}

func (g *generator) bytes(n *node) (native, want any) {
	if n.logical == decimal {
		digits := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(1+g.IntN(int(n.precision)))), nil)
		unscaled := new(big.Int).SetUint64(g.Uint64())
		unscaled.Mul(unscaled, new(big.Int).SetUint64(g.Uint64())).Mod(unscaled, digits)
		if g.IntN(2) == 0 {
			unscaled.Neg(unscaled)
		}
		v := new(big.Rat).SetFrac(unscaled, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n.scale)), nil))
		return v, v.FloatString(int(n.scale))
	}
	size := n.size
	if n.kind == kindBytes {
		size = g.IntN(20)
	}
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(g.Uint32())
	}
	return v, fmt.Sprintf("%x", v)
}

func (g *generator) unionValue(n *node) (native, want any) {
	i := g.IntN(len(n.branches))
	branch := n.branches[i]
	if branch.kind == kindNull {
		return nil, nil
	}
	v, w := g.value(branch)
	name := branch.kind.String()
	switch {
	case branch.name != "":
		name = branch.name
	case branch.logical != plain:
		for text, l := range logicals {
			if l.logical == branch.logical {
				name += "." + text
			}
		}
	}
	native = map[string]any{name: v}
	if len(n.branches) == 2 {
		return native, w
	}
	switch wider(n) {
	case arrow.PrimitiveTypes.Int64:
		return native, fmt.Sprint(v)
	case arrow.PrimitiveTypes.Float64:
		return native, w
	}
	members := map[string]any{}
	for j, b := range n.branches {
		if b.kind == kindNull {
			continue
		}
		members[memberNames(n)[j]] = nil
		if j == i {
			members[memberNames(n)[j]] = w
		}
	}
	return native, members
}

// shown is a value of an array as the generator expects it.
func shown(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Int32:
		return float64(a.Value(i))
	case *array.Date32:
		return float64(a.Value(i))
	case *array.Int64:
		return fmt.Sprint(a.Value(i))
	case *array.Timestamp:
		return fmt.Sprint(int64(a.Value(i)))
	case *array.Float32:
		return float64(a.Value(i))
	case *array.Float64:
		return a.Value(i)
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return fmt.Sprintf("%x", a.Value(i))
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Map:
		out := map[string]any{}
		begin, end := a.ValueOffsets(i)
		for j := begin; j < end; j++ {
			out[a.Keys().(*array.String).Value(int(j))] = shown(a.Items(), int(j))
		}
		return out
	case *array.List:
		out := []any{}
		begin, end := a.ValueOffsets(i)
		for j := begin; j < end; j++ {
			out = append(out, shown(a.ListValues(), int(j)))
		}
		return out
	case *array.Struct:
		out := map[string]any{}
		for j, f := range a.DataType().(*arrow.StructType).Fields() {
			out[f.Name] = shown(a.Field(j), i)
		}
		return out
	}
	return fmt.Sprintf("%T", a)
}

func rowShown(b arrow.RecordBatch, i int) map[string]any {
	out := map[string]any{}
	for j, f := range b.Schema().Fields() {
		out[f.Name] = shown(b.Column(j), i)
	}
	return out
}

func planFor(t testing.TB, table *arrow.Schema, cfg decode.Config) *decode.Plan {
	t.Helper()
	plan, err := decode.NewPlan(table, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// FuzzAgainstGoavro holds that random values of random schemas come out of goavro's encoder and this decoder as they went in, also into columns of other names, and
// into several of them.
func FuzzAgainstGoavro(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		text, err := json.Marshal(g.record(3))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse("", string(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		codec, err := goavro.NewCodec(string(text))
		if err != nil {
			t.Skip(err) // goavro refuses some decimals
		}
		table, err := TableSchema(s)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		other, cfg, computed := g.computed(s.root, table, false)
		d, of := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(s)}), New(planFor(t, other, cfg), Options{Framing: Bare(s)})
		var want, wantOf []any
		for range 20 {
			native, row := g.value(s.root)
			message, err := codec.BinaryFromNative(nil, native)
			if err != nil {
				t.Fatalf("%s: goavro: %v", text, err)
			}
			if err := errors.Join(d.Append(&kgo.Record{Value: message}), of.Append(&kgo.Record{Value: message})); err != nil {
				t.Fatalf("%s\n%v\n%v: %v", text, cfg.Columns, native, err)
			}
			want, wantOf = append(want, row), append(wantOf, computed(row))
			if len(message) > 0 { // and nothing is left of one that is cut off, or longer
				for _, broken := range [][]byte{message[:len(message)-1], append(slices.Clip(message), 0)} {
					if err := d.Append(&kgo.Record{Value: broken}); err == nil {
						t.Fatalf("%s: a broken message was taken: %x", text, broken)
					}
				}
			}
		}
		holds(t, string(text), d, want)
		holds(t, fmt.Sprintf("%s\n%v", text, cfg.Columns), of, wantOf)
	})
}

// holds compares the rows that a decoder holds.
func holds(t *testing.T, what string, d *Decoder, want []any) {
	t.Helper()
	b := d.NewBatch()
	defer b.Release()
	if err := validate(b); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if b.NumRows() != int64(len(want)) {
		t.Fatalf("%s: %d rows of %d", what, b.NumRows(), len(want))
	}
	for i := range want {
		if got := rowShown(b, i); !equal(got, want[i]) {
			t.Fatalf("%s\nrow %d\ngot  %v\nwant %v", what, i, got, want[i])
		}
	}
}

func equal(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// validate has arrow check lengths and offsets of all columns.
func validate(b arrow.RecordBatch) error {
	for i, c := range b.Columns() {
		if c.Len() != int(b.NumRows()) {
			return fmt.Errorf("column %s has %d rows of %d", b.ColumnName(i), c.Len(), b.NumRows())
		}
	}
	_, err := b.MarshalJSON()
	return err
}

// FuzzBytes holds that no bytes make the decoder panic, loop, or leave a trace when it refuses them.
func FuzzBytes(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, []byte{0, 2, 4, byte(seed), 1, 255, 127, 3})
	}
	f.Fuzz(func(t *testing.T, seed uint64, message []byte) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		text, err := json.Marshal(g.record(3))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse("", string(text))
		if err != nil {
			t.Fatal(err)
		}
		table, err := TableSchema(s)
		if err != nil {
			t.Fatal(err)
		}
		kept := arrow.NewSchema(table.Fields()[:1], nil) // what is passed over is attacked as well
		other, cfg, _ := g.computed(s.root, table, true)
		for _, plan := range []*decode.Plan{planFor(t, table, decode.Config{}), planFor(t, kept, decode.Config{}), planFor(t, other, cfg)} {
			d := New(plan, Options{Framing: Bare(s)})
			good, rows := []byte(nil), 0
			if codec, err := goavro.NewCodec(string(text)); err == nil {
				native, _ := g.value(s.root)
				if good, err = codec.BinaryFromNative(nil, native); err != nil {
					t.Fatal(err)
				}
			}
			messages := [][]byte{good, message, good}
			for range min(len(good), 20) { // and what is good but for a byte
				broken := slices.Clone(good)
				broken[g.IntN(len(broken))] = byte(g.Uint32())
				messages = append(messages, broken, good)
			}
			for _, m := range messages {
				if d.Append(&kgo.Record{Value: m}) == nil {
					rows++
				}
			}
			b := d.NewBatch()
			if b.NumRows() != int64(rows) || validate(b) != nil {
				t.Fatalf("%s: %x: %d rows of %d, %v", text, message, b.NumRows(), rows, validate(b))
			}
			b.Release()
		}
	})
}
