package envelope

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/json"
	"kafkadelta/decode/protobuf"
	"kafkadelta/decode/raw"
)

func plan(t testing.TB, fields ...arrow.Field) *decode.Plan {
	t.Helper()
	p, err := decode.NewPlan(arrow.NewSchema(fields, nil), decode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func column(name string, typ arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: typ, Nullable: true}
}

func reason(err error) string {
	if e, ok := errors.AsType[*decode.PoisonError](err); ok {
		return e.Reason
	}
	return fmt.Sprint(err)
}

// keyed is a decoder of JSON values, with a key of the type between two columns.
func keyed(t *testing.T, key Decoder, typ arrow.DataType) *Keyed {
	t.Helper()
	a, b := column("a", arrow.PrimitiveTypes.Int64), column("_kafka", arrow.StructOf(column("offset", arrow.PrimitiveTypes.Int64)))
	return NewKeyed(arrow.NewSchema([]arrow.Field{a, column("key", typ), b}, nil), 1, json.New(plan(t, a, b)), key)
}

// TestKeys: a key of each format is in its column, beside the value of the same message, and poison of either leaves no trace of both.
func TestKeys(t *testing.T) {
	order := arrow.StructOf(column("id", arrow.PrimitiveTypes.Int64), column("more", arrow.BinaryTypes.String))
	rawKey := func(typ arrow.DataType) Decoder {
		d, err := raw.New(plan(t, column("key", typ)), "key")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	avroKey := func(schema string, typ arrow.DataType) Decoder {
		s, err := avro.Parse("schema 1", schema)
		if err != nil {
			t.Fatal(err)
		}
		s = s.Single("key")
		return avro.New(plan(t, column("key", typ)), avro.Options{Framing: avro.Registry(decode.KeySchemaHeader, func(decode.SchemaRef) (*avro.Schema, error) { return s, nil })})
	}
	protoSchema, err := protobuf.Parse(t.Context(), "schema 1", `syntax = "proto3"; message Key { int64 id = 1; }`)
	if err != nil {
		t.Fatal(err)
	}
	protoKey := func(typ arrow.DataType) Decoder {
		return protobuf.NewSingle(plan(t, column("key", typ)), protobuf.Registry(decode.KeySchemaHeader, func(decode.SchemaRef) (*protobuf.Schema, error) { return protoSchema, nil }))
	}
	framed := func(b ...byte) []byte { return append(binary.BigEndian.AppendUint32([]byte{0}, 1), b...) }
	record := `{"type":"record","name":"k","fields":[{"name":"id","type":"long"}]}`
	for _, tt := range []struct {
		name  string
		key   Decoder
		typ   arrow.DataType
		bytes []byte
		want  string // the column as JSON, with a message without a key and one more of the same; or the reason
	}{
		{"string", rawKey(arrow.BinaryTypes.String), arrow.BinaryTypes.String, []byte("k"), `["k",null,"k"]`},
		{"string, empty", rawKey(arrow.BinaryTypes.String), arrow.BinaryTypes.String, []byte{}, `["",null,""]`},
		{"string, broken", rawKey(arrow.BinaryTypes.String), arrow.BinaryTypes.String, []byte{0xff}, `invalid_utf8`},
		{"binary", rawKey(arrow.BinaryTypes.Binary), arrow.BinaryTypes.Binary, []byte{0xff}, `["/w==",null,"/w=="]`},
		{"json, an object", json.NewSingle(plan(t, column("key", order)), nil), order, []byte(`{"id":5,"x":1}`), `[{"id":5,"more":null},null,{"id":5,"more":null}]`},
		{"json, a number", json.NewSingle(plan(t, column("key", arrow.PrimitiveTypes.Int64)), nil), arrow.PrimitiveTypes.Int64, []byte(` 7 `), `[7,null,7]`},
		{"json, null", json.NewSingle(plan(t, column("key", order)), nil), order, []byte(`null`), `[null,null,null]`},
		{"json, text into a number", json.NewSingle(plan(t, column("key", arrow.PrimitiveTypes.Int64)), nil), arrow.PrimitiveTypes.Int64, []byte(`"x"`), `type_mismatch`},
		{"json, two", json.NewSingle(plan(t, column("key", arrow.PrimitiveTypes.Int64)), nil), arrow.PrimitiveTypes.Int64, []byte(`1 2`), `trailing_data`},
		{"json, nothing", json.NewSingle(plan(t, column("key", arrow.PrimitiveTypes.Int64)), nil), arrow.PrimitiveTypes.Int64, []byte(` `), `empty`},
		{"avro, a record", avroKey(record, order), order, framed(10), `[{"id":5,"more":null},null,{"id":5,"more":null}]`},
		{"avro, a string", avroKey(`"string"`, arrow.BinaryTypes.String), arrow.BinaryTypes.String, framed(2, 'k'), `["k",null,"k"]`},
		{"avro, a long", avroKey(`"long"`, arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int64, framed(14), `[7,null,7]`},
		{"avro, cut off", avroKey(record, order), order, framed(0x80), `invalid_avro`},
		{"avro, into a number", avroKey(record, arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int64, framed(10), `type_mismatch`},
		{"avro, not framed", avroKey(record, order), order, []byte("x"), `invalid_framing`},
		{"protobuf", protoKey(order), order, framed(0, 8, 5), `[{"id":5,"more":null},null,{"id":5,"more":null}]`},
		{"protobuf, cut off", protoKey(order), order, framed(0, 8), `invalid_protobuf`},
		{"protobuf, into a number", protoKey(arrow.PrimitiveTypes.Int64), arrow.PrimitiveTypes.Int64, framed(0, 8, 5), `type_mismatch`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := keyed(t, tt.key, tt.typ)
			poison := !strings.HasPrefix(tt.want, "[")
			err := d.Append(&kgo.Record{Key: tt.bytes, Value: []byte(`{"a":1}`)})
			if poison {
				e, _ := errors.AsType[*decode.PoisonError](err)
				if reason(err) != tt.want || !strings.HasPrefix(e.Path, "key") {
					t.Fatalf("%v, want %s at the key", err, tt.want)
				}
				tt.bytes, tt.want = nil, "[null,null,null]"
				err = d.Append(&kgo.Record{Value: []byte(`{"a":1}`)})
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Append(&kgo.Record{Key: tt.bytes, Value: []byte(`{"a":"no"}`), Headers: []kgo.RecordHeader{{Key: "h"}}}); reason(err) != decode.ReasonTypeMismatch {
				t.Error(err)
			}
			if err := d.Append(&kgo.Record{Offset: 1, Value: []byte(`{"a":2}`)}); err != nil {
				t.Error(err)
			}
			if err := d.Append(&kgo.Record{Offset: 2, Key: tt.bytes, Value: []byte(`{"a":3}`)}); err != nil {
				t.Error(err)
			}
			b := d.NewBatch()
			defer b.Release()
			for i, want := range []string{`[1,2,3]`, tt.want, `[{"offset":0},{"offset":1},{"offset":2}]`} {
				text, err := b.Column(i).MarshalJSON()
				if got := string(bytes.Join(bytes.Fields(text), nil)); got != want || err != nil {
					t.Errorf("column %d: %s, want %s", i, got, want)
				}
			}
		})
	}
}

// TestSchemasOfKeysAreAskedForAhead: WrittenBy asks for the key's schema beside the value's, and for none where there is no key.
func TestSchemasOfKeysAreAskedForAhead(t *testing.T) {
	var asked []string
	framing := func(what string) json.Framing {
		return json.Registry("", func(ref decode.SchemaRef) (string, error) {
			asked = append(asked, fmt.Sprint(what, " ", ref.ID))
			return "", &decode.RetryLaterError{Cause: errors.New("the registry is slow")}
		})
	}
	a, key := column("a", arrow.PrimitiveTypes.Int64), column("key", arrow.BinaryTypes.String)
	d := NewKeyed(arrow.NewSchema([]arrow.Field{a, key}, nil), 1, json.NewFramed(plan(t, a), framing("value")), json.NewSingle(plan(t, key), framing("key")))
	d.WrittenBy(&kgo.Record{Key: []byte{0, 0, 0, 0, 1}, Value: []byte{0, 0, 0, 0, 2}})
	d.WrittenBy(&kgo.Record{Value: []byte{0, 0, 0, 0, 3}})
	if want := []string{"key 1", "value 2", "value 3"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

// TestKeysOfManyBatches: buffers are used again, and a reset drops keys too.
func TestKeysOfManyBatches(t *testing.T) {
	d := keyed(t, json.NewSingle(plan(t, column("key", arrow.PrimitiveTypes.Int64)), nil), arrow.PrimitiveTypes.Int64)
	for round := range 3 {
		for i := range 1000 {
			value := []byte(`{"a":1}`)
			if i%3 == 2 {
				value = []byte(`{`)
			}
			if err := d.Append(&kgo.Record{Key: fmt.Append(nil, i), Value: value}); (err != nil) != (i%3 == 2) {
				t.Fatal(err)
			}
		}
		if round == 1 {
			d.Reset()
			continue
		}
		b := d.NewBatch()
		if b.NumRows() != 667 || b.Column(1).Len() != 667 || b.Column(1).ValueStr(666) != "999" {
			t.Errorf("%d rows, key %s", b.NumRows(), b.Column(1).ValueStr(666))
		}
		b.Release()
	}
	rec := &kgo.Record{Key: []byte("5"), Value: []byte(`{"a":1}`)}
	broken := &kgo.Record{Key: []byte("5"), Value: []byte(`{"a":`)}
	if n := testing.AllocsPerRun(100, func() {
		if d.Append(rec) != nil {
			t.Fatal("poison")
		}
	}); n > 0 {
		t.Errorf("%.1f allocations for each message", n)
	}
	if err := d.Append(broken); reason(err) != decode.ReasonInvalidJSON {
		t.Error(err)
	}
}

func zipped(t testing.TB, codec string, data []byte) []byte {
	t.Helper()
	if codec == Zstd {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(data, nil)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compressed(t testing.TB, codec string, limit int) *Compressed {
	t.Helper()
	d, err := NewCompressed(codec, limit, "", json.New(plan(t, column("a", arrow.BinaryTypes.String))))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// framed is data as a frame of zstd, uncompressed, that names a window of 2^log bytes and no size (RFC 8878, 3.1.1).
func framed(log int, data string) []byte {
	header := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3}
	block := len(data)<<3 | 1 // the last one, as it is
	return append(append(header, byte(block), byte(block>>8), byte(block>>16)), data...)
}

// TestWindows: a short value that names a large window, as whoever compresses a stream does, is a row however low the limit is for what it becomes.
func TestWindows(t *testing.T) {
	const value = `{"a":"x"}`
	for _, tt := range []struct {
		limit, window int // the window as a power of two
		want          string
	}{
		{1 << 10, 10, ""}, {1 << 10, 23, ""}, {1 << 20, 21, ""}, {4 << 20, 23, ""}, {8 << 20, 23, ""}, {64 << 20, 26, ""}, {128 << 20, 27, ""},
		{1 << 20, 24, "more than 8388608: raise source.max_decompressed to its size, or compress with a smaller one (zstd --long=23)"},
		{64 << 20, 27, "more than 67108864: raise source.max_decompressed to its size, or compress with a smaller one (zstd --long=26)"},
	} {
		d := compressed(t, Zstd, tt.limit)
		err := d.Append(&kgo.Record{Value: framed(tt.window, value)})
		if tt.want != "" && (reason(err) != decode.ReasonTooLarge || !strings.Contains(err.Error(), tt.want)) || tt.want == "" && err != nil {
			t.Errorf("a window of 2^%d bytes under a limit of %d: %v, want %q", tt.window, tt.limit, err, tt.want)
		}
		for what, value := range map[string][]byte{"alone": framed(23, strings.Repeat(" ", 1<<10)+"1"), "in parts": append(framed(23, strings.Repeat(" ", 1<<9)), framed(23, strings.Repeat(" ", 1<<9)+"1")...)} {
			if _, err := compressed(t, Zstd, 1<<10).Decompress(&kgo.Record{Value: value}); reason(err) != decode.ReasonTooLarge {
				t.Errorf("a byte more than the limit, %s: %v", what, err)
			}
		}
		d.Reset()
	}
}

// TestCompression: what was compressed comes out, and what is broken, cut off or too large is poison by its own reason.
func TestCompression(t *testing.T) {
	for _, codec := range []string{Gzip, Zstd} {
		t.Run(codec, func(t *testing.T) {
			const limit = 100_000
			d := compressed(t, codec, limit)
			message := func(n int) []byte { return []byte(`{"a":"` + strings.Repeat("x", n-8) + `"}`) }
			whole := zipped(t, codec, message(20))
			var streamed []byte
			if codec == Zstd { // without the size in the frame's header
				var out bytes.Buffer
				w, err := zstd.NewWriter(&out)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(message(limit + 1)); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				streamed = out.Bytes()
			} else {
				streamed = zipped(t, codec, message(50_000_000))
			}
			damaged := bytes.Clone(whole)
			damaged[len(damaged)-5] ^= 1 // of the data's end, or of a checksum
			for _, tt := range []struct {
				name  string
				value []byte
				want  string // the column's length, or the reason
			}{
				{"small", whole, "12"},
				{"at the limit", zipped(t, codec, message(limit)), "99992"},
				{"above the limit", zipped(t, codec, message(limit+1)), "too_large"},
				{"a bomb", streamed, "too_large"},
				{"two parts", append(zipped(t, codec, []byte(`{"a":`)), zipped(t, codec, []byte(`"xyz"}`))...), "3"},
				{"two parts above the limit", append(zipped(t, codec, message(limit-5)), zipped(t, codec, message(20))...), "too_large"},
				{"not compressed", []byte(`{"a":"x"}`), "invalid_compression"},
				{"cut off", whole[:len(whole)-6], "invalid_compression"},
				{"damaged", damaged, "invalid_compression"},
				{"empty", []byte{}, "invalid_compression"},
				{"no JSON in it", zipped(t, codec, []byte("x")), "invalid_json"},
				{"nothing in it", zipped(t, codec, nil), "empty"},
				{"no value", nil, "tombstone"},
				{"small again", whole, "12"},
			} {
				err := d.Append(&kgo.Record{Value: tt.value})
				if err != nil {
					if reason(err) != tt.want {
						t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
					}
					continue
				}
				b := d.NewBatch()
				if got := fmt.Sprint(len(b.Column(0).ValueStr(0))); b.NumRows() != 1 || got != tt.want {
					t.Errorf("%s: %s bytes in %d rows, want %s", tt.name, got, b.NumRows(), tt.want)
				}
				b.Release()
			}
		})
	}
}

// TestDamagedValuesTellTheirSchema: where a header names the schema, poison that was never decompressed tells it, as what was does.
func TestDamagedValuesTellTheirSchema(t *testing.T) {
	const header = decode.ValueSchemaHeader
	known := func(ref decode.SchemaRef) (string, error) { return ref.String(), nil }
	id7, guid := []byte{0, 0, 0, 0, 7}, append([]byte{1}, "0123456789abcdef"...)
	for _, codec := range []string{Gzip, Zstd} {
		large := zipped(t, codec, []byte(`{"a":"`+strings.Repeat("x", 2000)+`"}`))
		for _, tt := range []struct {
			name       string
			by         string
			header     []byte
			value      []byte
			want, tell string
		}{
			{"damaged", header, id7, []byte("x"), "invalid_compression", "schema id 7"},
			{"empty", header, id7, []byte{}, "invalid_compression", "schema id 7"},
			{"damaged, by a GUID", header, guid, []byte("x"), "invalid_compression", "schema guid 30313233-3435-3637-3839-616263646566"},
			{"too large", header, id7, large, "too_large", "schema id 7"},
			{"nothing in it", header, id7, zipped(t, codec, nil), "empty", "schema id 7"},
			{"no JSON in it", header, id7, zipped(t, codec, []byte("x")), "invalid_json", "schema id 7"},
			{"a damaged header", header, id7[:4], []byte("x"), "invalid_compression", ""},
			{"no header", header, nil, append(id7, "x"...), "invalid_compression", ""},
			{"messages without a registry", "", id7, []byte("x"), "invalid_compression", ""},
		} {
			inner := json.New(plan(t, column("a", arrow.BinaryTypes.String)))
			if tt.by != "" {
				inner = json.NewFramed(plan(t, column("a", arrow.BinaryTypes.String)), json.Registry(tt.by, known))
			}
			d, err := NewCompressed(codec, 1000, tt.by, inner)
			if err != nil {
				t.Fatal(err)
			}
			rec := &kgo.Record{Topic: "t", Partition: 3, Offset: 5, Value: tt.value}
			if tt.header != nil {
				rec.Headers = []kgo.RecordHeader{{Key: header, Value: tt.header}}
			}
			e, ok := errors.AsType[*decode.PoisonError](d.Append(rec))
			if !ok || e.Reason != tt.want || e.Schema != tt.tell || e.Topic != "t" || e.Partition != 3 || e.Offset != 5 {
				t.Errorf("%s, %s: %v with %q, want %s with %q", codec, tt.name, e, e.Schema, tt.want, tt.tell)
			}
		}
	}
}

// TestCompressedBatchesStaySmall: messages that grow a lot end the batch, and nothing is allocated for each of them.
func TestCompressedBatchesStaySmall(t *testing.T) {
	for _, codec := range []string{Gzip, Zstd} {
		d := compressed(t, codec, 10<<20)
		rec := &kgo.Record{Value: zipped(t, codec, []byte(`{"a":"`+strings.Repeat("x", 1<<20)+`"}`))}
		rows := 0
		for ; rows < 100; rows++ {
			if err := d.Append(rec); err != nil {
				if !errors.Is(err, decode.ErrBatchFull) {
					t.Fatal(err)
				}
				break
			}
		}
		if rows != 4 {
			t.Errorf("%s: %d rows of 1 MiB in a batch", codec, rows)
		}
		d.NewBatch().Release()
		if err := d.Append(rec); err != nil {
			t.Errorf("%s: into a new batch: %v", codec, err)
		}
		d.NewBatch().Release()
		small := &kgo.Record{Value: zipped(t, codec, []byte(`{"a":"hello, hello"}`))}
		for range 1000 {
			if err := d.Append(small); err != nil {
				t.Fatal(err)
			}
		}
		d.NewBatch().Release()
		if n := testing.AllocsPerRun(500, func() {
			if d.Append(small) != nil {
				t.Fatal("poison")
			}
		}); n > 0 && !raceEnabled {
			t.Errorf("%s: %.1f allocations for each message", codec, n)
		}
	}
}

// FuzzCompressed: whatever the bytes are, a value becomes a row or poison, and never more than the limit.
func FuzzCompressed(f *testing.F) {
	for _, codec := range []string{Gzip, Zstd} {
		f.Add(zipped(f, codec, []byte(`{"a":"x"}`)))
		f.Add(zipped(f, codec, []byte(`{"a":"`+strings.Repeat("x", 5000)+`"}`)))
	}
	const limit = 2000
	decoders := []*Compressed{compressed(f, Gzip, limit), compressed(f, Zstd, limit)}
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, d := range decoders {
			d.Reset()
			err := d.Append(&kgo.Record{Value: value})
			if err != nil && !errors.As(err, new(*decode.PoisonError)) {
				t.Errorf("%s: %v", d.codec, err)
			}
			if err == nil && d.bytes > limit {
				t.Errorf("%s: %d bytes", d.codec, d.bytes)
			}
		}
	})
}
