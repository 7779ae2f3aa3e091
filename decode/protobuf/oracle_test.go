package protobuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"kafkadelta/decode"
)

// generator makes random message types, as source text, and random messages.
type generator struct {
	*rand.Rand
	text  strings.Builder
	names int
}

var scalars = []string{
	"bool", "int32", "sint32", "uint32", "fixed32", "sfixed32", "int64", "sint64", "uint64", "fixed64", "sfixed64", "float", "double", "string", "bytes",
}

// file writes a file with one message type that uses others.
func (g *generator) file() string {
	proto2 := g.IntN(4) == 0
	if proto2 {
		g.text.WriteString("syntax = \"proto2\";\n")
	} else {
		g.text.WriteString("syntax = \"proto3\";\n")
	}
	for _, known := range []string{"timestamp", "duration", "struct", "wrappers"} {
		fmt.Fprintf(&g.text, "import \"google/protobuf/%s.proto\";\n", known)
	}
	g.message("Top", 3, proto2, "")
	return g.text.String()
}

func (g *generator) message(name string, depth int, proto2 bool, indent string) {
	fmt.Fprintf(&g.text, "%smessage %s {\n", indent, name)
	number := 0
	next := func() int { number += 1 + g.IntN(30)*g.IntN(2); return number }
	for i := range 1 + g.IntN(6) {
		typ := g.typ(depth, proto2, indent+"  ")
		label := ""
		if proto2 {
			label = "optional "
		}
		switch g.IntN(6) {
		case 0:
			label = "optional "
		case 1:
			label = "repeated "
		case 2:
			fmt.Fprintf(&g.text, "%s  map<%s, %s> f%d = %d;\n", indent, []string{"string", "int32", "bool", "uint64"}[g.IntN(4)], typ, i, next())
			continue
		case 3:
			fmt.Fprintf(&g.text, "%s  oneof o%d { %s a%d = %d; %s b%d = %d; string c%d = %d; }\n", indent, i, typ, i, next(), scalars[g.IntN(len(scalars))], i, next(), i, next())
			continue
		}
		options := ""
		if label == "repeated " && slices.Contains(scalars[:13], typ) && g.IntN(2) == 0 {
			options = fmt.Sprintf(" [packed = %v]", g.IntN(2) == 0)
		}
		fmt.Fprintf(&g.text, "%s  %s%s f%d = %d%s;\n", indent, label, typ, i, next(), options)
	}
	fmt.Fprintf(&g.text, "%s}\n", indent)
}

func (g *generator) typ(depth int, proto2 bool, indent string) string {
	switch n := g.IntN(24); {
	case n < len(scalars):
		return scalars[n]
	case n < 20:
		return "google.protobuf." + []string{"Timestamp", "Duration", "Struct", "Int64Value", "StringValue"}[n-15]
	case n == 20 || depth == 0:
		g.names++
		name := fmt.Sprintf("E%d", g.names)
		fmt.Fprintf(&g.text, "%senum %s { %s_ZERO = 0; %s_ONE = 1; %s_MANY = 1000; }\n", indent, name, name, name, name)
		return name
	default:
		g.names++
		name := fmt.Sprintf("M%d", g.names)
		g.message(name, depth-1, proto2, indent)
		return name
	}
}

// fill sets random fields of a message.
func (g *generator) fill(m protoreflect.Message) {
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfInt64(g.Int64N(1<<33)))
		m.Set(m.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfInt32(g.Int32N(1_000_000_000)))
		return
	case "google.protobuf.Duration":
		m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfInt64(g.Int64N(100000)))
		m.Set(m.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfInt32([]int32{0, 5_000_000, 12_000, 7}[g.IntN(4)]))
		return
	case "google.protobuf.Struct":
		s, err := structpb.NewStruct(map[string]any{"a": g.Float64(), "b": []any{"x", nil, true}, "c": map[string]any{"d": "<&>"}})
		if err != nil {
			panic(err)
		}
		data, err := proto.Marshal(s)
		if err != nil || proto.Unmarshal(data, m.Interface()) != nil {
			panic(err)
		}
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		switch {
		case g.IntN(4) == 0:
		case f.IsMap():
			v := m.NewField(f)
			for range g.IntN(4) {
				value := v.Map().NewValue()
				if f.MapValue().Message() != nil {
					g.fill(value.Message())
				} else {
					value = g.value(f.MapValue())
				}
				v.Map().Set(g.value(f.MapKey()).MapKey(), value)
			}
			m.Set(f, v)
		case f.IsList():
			v := m.NewField(f)
			for range g.IntN(4) {
				if f.Message() != nil {
					g.fill(v.List().AppendMutable().Message())
				} else {
					v.List().Append(g.value(f))
				}
			}
			m.Set(f, v)
		case f.Message() != nil:
			g.fill(m.Mutable(f).Message())
		default:
			m.Set(f, g.value(f))
		}
	}
}

func (g *generator) value(f protoreflect.FieldDescriptor) protoreflect.Value {
	word := g.Uint64() >> g.IntN(64)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(word&1 != 0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(word))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(word))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(word))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(word)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(g.Float32())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(g.NormFloat64())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.Repeat("ö", g.IntN(20)))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(word), byte(word >> 8)})
	default:
		return protoreflect.ValueOfEnum([]protoreflect.EnumNumber{0, 1, 1000, 7}[g.IntN(4)])
	}
}

// wanted is a message as a row shows it.
func wanted(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		name := string(f.Name())
		switch {
		case f.IsMap():
			entries := map[string]any{}
			m.Get(f).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries[fmt.Sprint(plain(f.MapKey(), k.Value()))] = plain(f.MapValue(), v)
				return true
			})
			out[name] = entries
		case f.IsList():
			items := []any{}
			for i := range m.Get(f).List().Len() {
				items = append(items, plain(f, m.Get(f).List().Get(i)))
			}
			out[name] = items
		case f.HasPresence() && !m.Has(f):
			out[name] = nil
		default:
			out[name] = plain(f, m.Get(f))
		}
	}
	return out
}

func plain(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.BytesKind:
		return fmt.Sprintf("%x", v.Bytes())
	case protoreflect.EnumKind:
		if name := f.Enum().Values().ByNumber(v.Enum()); name != nil {
			return string(name.Name())
		}
		return fmt.Sprint(v.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
	default:
		return fmt.Sprint(v.Interface())
	}
	m := v.Message()
	number := func(n protoreflect.FieldNumber) int64 { return m.Get(m.Descriptor().Fields().ByNumber(n)).Int() }
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		return fmt.Sprint(number(1)*1_000_000 + number(2)/1000)
	case "google.protobuf.Duration":
		text, err := protojson.Marshal(&durationpb.Duration{Seconds: number(1), Nanos: int32(number(2))})
		if err != nil {
			return err
		}
		return strings.Trim(string(text), `"`)
	case "google.protobuf.Struct":
		data, err := proto.Marshal(m.Interface())
		s := &structpb.Struct{}
		if err != nil || proto.Unmarshal(data, s) != nil {
			panic(err)
		}
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false) // as protojson
		if err := enc.Encode(s.AsMap()); err != nil {
			return err
		}
		return strings.TrimSuffix(text.String(), "\n")
	case "google.protobuf.Int64Value", "google.protobuf.StringValue":
		return fmt.Sprint(m.Get(m.Descriptor().Fields().ByNumber(1)).Interface())
	}
	return wanted(m)
}

// shown is a value of an array as wanted tells it.
func shown(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Binary:
		return fmt.Sprintf("%x", a.Value(i))
	case *array.Timestamp:
		return fmt.Sprint(int64(a.Value(i)))
	case *array.Date32:
		return fmt.Sprint(int32(a.Value(i)))
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.Map:
		out := map[string]any{}
		begin, end := a.ValueOffsets(i)
		for j := begin; j < end; j++ {
			out[fmt.Sprint(shown(a.Keys(), int(j)))] = shown(a.Items(), int(j))
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
	case *array.Float32:
		return fmt.Sprint(a.Value(i))
	case *array.Float64:
		return fmt.Sprint(a.Value(i))
	}
	return a.ValueStr(i)
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

func parsed(t testing.TB, text string) *Type {
	t.Helper()
	s, err := Parse(t.Context(), "schema 7", text)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	typ, err := s.First()
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// validate has arrow walk through all values.
func validate(b arrow.RecordBatch) error {
	for i, c := range b.Columns() {
		if c.Len() != int(b.NumRows()) {
			return fmt.Errorf("column %s has %d rows of %d", b.ColumnName(i), c.Len(), b.NumRows())
		}
	}
	for i := range int(b.NumRows()) {
		rowShown(b, i)
	}
	return nil
}

// unmarshal is the official runtime's, which panics on some maps without a key that fits.
func unmarshal(data []byte, m proto.Message) (err error, panicked bool) { //nolint:revive // the error is the answer
	defer func() { panicked = recover() != nil }()
	return proto.Unmarshal(data, m), false
}

// FuzzAgainstOfficial holds that random messages of random types are read as the official runtime reads them: as they were
// written, in parts that have to be merged, and changed byte by byte.
func FuzzAgainstOfficial(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, []byte{byte(seed), byte(seed >> 3), 0xff})
	}
	f.Fuzz(func(t *testing.T, seed uint64, noise []byte) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
		text := g.file()
		typ := parsed(t, text)
		table, err := TableSchema(typ)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		d := New(planFor(t, table, decode.Config{}), Bare(typ))
		var want []map[string]any
		var before []byte
		for i := range 10 {
			m := dynamicpb.NewMessage(typ.descriptor)
			g.fill(m)
			data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if data == nil {
				data = []byte{} // no bytes, which are a message; no value is a tombstone
			}
			message := data
			switch {
			case i%3 == 1: // merged with the one before
				message = append(append([]byte{}, before...), data...)
			case i%3 == 2 && len(data) > 0 && len(noise) > 0:
				message = slices.Clone(data)
				for _, b := range noise {
					message[g.IntN(len(message))] ^= b
				}
			}
			before = data
			official := dynamicpb.NewMessage(typ.descriptor)
			refused, panicked := unmarshal(message, official)
			if panicked {
				continue
			}
			err = d.Append(&kgo.Record{Value: message})
			poison, isPoison := errors.AsType[*decode.PoisonError](err)
			switch {
			case err == nil && refused == nil:
				want = append(want, wanted(official))
			case err == nil:
				t.Fatalf("%s\n%x: taken, but the official runtime says %v", text, message, refused)
			case !isPoison:
				t.Fatal(err)
			case refused == nil && !slices.Contains([]string{decode.ReasonInvalidUTF8, decode.ReasonOutOfRange, decode.ReasonInvalidValue}, poison.Reason):
				t.Fatalf("%s\n%x: %v, but the official runtime takes it", text, message, err)
			case refused == nil && i%3 != 2:
				t.Fatalf("%s\n%v: %v", text, official, err)
			}
		}
		b := d.NewBatch()
		defer b.Release()
		if err := validate(b); err != nil || b.NumRows() != int64(len(want)) {
			t.Fatalf("%s: %v, %d rows of %d", text, err, b.NumRows(), len(want))
		}
		for i := range want {
			if got := rowShown(b, i); fmt.Sprint(got) != fmt.Sprint(want[i]) {
				t.Fatalf("%s\nrow %d\ngot  %v\nwant %v", text, i, got, want[i])
			}
		}
	})
}

// FuzzBytes holds that no bytes make the decoder panic, loop, or leave a trace when it refuses them; also where the table has one
// column only.
func FuzzBytes(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, []byte{0x0a, 2, 0x08, byte(seed), 0x12, 0})
	}
	f.Fuzz(func(t *testing.T, seed uint64, message []byte) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
		typ := parsed(t, g.file())
		table, err := TableSchema(typ)
		if err != nil {
			t.Fatal(err)
		}
		good := dynamicpb.NewMessage(typ.descriptor)
		g.fill(good)
		data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		for _, schema := range []*arrow.Schema{table, arrow.NewSchema(table.Fields()[:1], nil)} {
			d := New(planFor(t, schema, decode.Config{}), Bare(typ))
			rows := int64(0)
			for _, m := range [][]byte{data, message, data} {
				if d.Append(&kgo.Record{Value: m}) == nil {
					rows++
				}
			}
			b := d.NewBatch()
			if b.NumRows() != rows || validate(b) != nil {
				t.Fatalf("%x: %d rows of %d, %v", message, b.NumRows(), rows, validate(b))
			}
			b.Release()
		}
	})
}
