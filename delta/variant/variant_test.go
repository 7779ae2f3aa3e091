package variant_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/variant"

	ours "kafkadelta/delta/variant"
)

// read gives what another reader of the encoding sees.
func read(t testing.TB, text string) (variant.Value, bool) {
	t.Helper()
	value, metadata, err := ours.Encode([]byte(text))
	if err != nil {
		return variant.Value{}, false
	}
	v, err := variant.New(metadata, value)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v, true
}

// spelled is a value as JSON. (arrow-go's own has null for an empty array.)
func spelled(t testing.TB, v variant.Value) string {
	t.Helper()
	var parts []string
	switch inner := v.Value().(type) {
	case variant.ArrayValue:
		for e := range inner.Values() {
			parts = append(parts, spelled(t, e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case variant.ObjectValue:
		for i := range inner.NumElements() {
			f, err := inner.FieldAt(i)
			if err != nil {
				t.Fatal(err)
			}
			key, err := json.Marshal(f.Key)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, string(key)+":"+spelled(t, f.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEncode keeps digits and takes the type that Spark's parse_json takes.
func TestEncode(t *testing.T) {
	for text, want := range map[string]struct {
		typ  variant.Type
		json string
	}{
		`null`:                           {variant.Null, `null`},
		`true`:                           {variant.Bool, `true`},
		`7`:                              {variant.Int8, `7`},
		`-129`:                           {variant.Int16, `-129`},
		`9223372036854775807`:            {variant.Int64, `9223372036854775807`},
		`9223372036854775808`:            {variant.Decimal16, `9223372036854775808`},
		`-1.50`:                          {variant.Decimal4, `-1.50`},
		`12345678901.25`:                 {variant.Decimal8, `12345678901.25`},
		`0.0000000001`:                   {variant.Decimal8, `0.0000000001`},
		`0.0000000000000000001`:          {variant.Decimal16, `0.0000000000000000001`},
		`0.` + strings.Repeat("1", 38):   {variant.Decimal16, `0.` + strings.Repeat("1", 38)},
		`0.` + strings.Repeat("1", 39):   {variant.Double, `0.1111111111111111`},
		`1e3`:                            {variant.Double, `1000`},
		`"é\u0000"`:                      {variant.String, "\"é\\u0000\""},
		` [1, [], {}] `:                  {variant.Array, `[1,[],{}]`},
		`{"b":1,"a":{"c":[null]},"b":2}`: {variant.Object, `{"a":{"c":[null]},"b":2}`},
	} {
		v, ok := read(t, text)
		if !ok || v.Type() != want.typ {
			t.Errorf("%s is %v, want %v", text, v.Type(), want.typ)
			continue
		}
		if got := spelled(t, v); got != want.json {
			t.Errorf("%s reads as %s, want %s", text, got, want.json)
		}
	}
	for text, want := range map[string]string{
		``: "no JSON", `1 2`: "no JSON", `{"a":}`: "no JSON", `1e999`: "too large", `"` + strings.Repeat("x", 16<<20) + `"`: "may have 16777216",
		strings.Repeat("[", 513) + strings.Repeat("]", 513): "deeper than 512", strings.Repeat(`{"a":`, 513) + "1" + strings.Repeat("}", 513): "deeper than 512",
	} {
		if _, _, err := ours.Encode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
	if _, _, err := ours.Encode([]byte(strings.Repeat("[", 512) + strings.Repeat("]", 512))); err != nil {
		t.Error(err)
	}
}

// TestBuilder has a NULL for what is refused, and NOT NULL fields in every struct that is there.
func TestBuilder(t *testing.T) {
	b := ours.NewBuilder()
	defer b.Release()
	b.AppendNull()
	if err := b.AppendJSON([]byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := b.AppendJSON([]byte(`{`)); err == nil {
		t.Error("no error")
	}
	arr := b.NewArray()
	defer arr.Release()
	storage := arr.(*ours.Array).Storage().(*array.Struct)
	if arr.Len() != 3 || !ours.Is(arr.DataType()) || arr.NullN() != 2 || arr.IsNull(1) || storage.Field(0).IsNull(1) || storage.Field(1).IsNull(1) {
		t.Errorf("%v", arr)
	}
}

// FuzzEncode: whatever is JSON reads as the same value again, and nothing else is taken.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x",null,true,{"b":{}}]}`, `1e5`, `-0.0`, `[[[]]]`, `"\ud800"`, `{"":1,"":2}`, `00`, `0.0000000001`, `0.0000010000000000000`, `-0.00000000000000000000000000000000000001`, `123456789012345678901234567890.5`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, ok := read(t, text)
		if !json.Valid([]byte(text)) {
			if ok {
				t.Fatalf("%q is taken", text)
			}
			return
		}
		if !ok {
			return // too large for a double, or too deep
		}
		again := spelled(t, v)
		var want, got any
		if json.Unmarshal([]byte(text), &want) != nil {
			return
		}
		if err := json.Unmarshal([]byte(again), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q reads as %q, %v", text, again, err)
		}
	})
}

// TestGathered: rows of a table with partition columns are gathered from the array.
func TestGathered(t *testing.T) {
	b := ours.NewBuilder()
	defer b.Release()
	for _, text := range []string{`1`, `"two"`, `[3]`} {
		if err := b.AppendJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b.AppendNull()
	arr := b.NewArray()
	defer arr.Release()
	ib := array.NewUint32Builder(memory.DefaultAllocator)
	defer ib.Release()
	ib.AppendValues([]uint32{3, 1}, nil)
	indices := ib.NewArray()
	defer indices.Release()
	got, err := compute.TakeArrayOpts(t.Context(), arr, indices, compute.TakeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	storage := got.(*ours.Array).Storage().(*array.Struct)
	v, err := variant.New(storage.Field(1).(*array.Binary).Value(1), storage.Field(0).(*array.Binary).Value(1))
	if err != nil || !got.IsNull(0) || spelled(t, v) != `"two"` {
		t.Errorf("%v, %v", got, err)
	}
}
