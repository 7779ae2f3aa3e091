package delta_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

// one builds an array of one value.
func one[B array.Builder](t *testing.T, mem memory.Allocator, typ arrow.DataType, put func(B)) arrow.Array {
	b := array.NewBuilder(mem, typ)
	defer b.Release()
	put(b.(B))
	a := b.NewArray()
	t.Cleanup(a.Release)
	return a
}

// The values are those that Spark writes.
func TestPartitionValues(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) }) // runs last
	utc := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	ntz := &arrow.TimestampType{Unit: arrow.Microsecond}
	dec := &arrow.Decimal128Type{Precision: 38, Scale: 2}
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC).UnixMicro()
	double := func(v float64) arrow.Array {
		return one(t, mem, arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) { b.Append(v) })
	}
	decimal := func(v int64) arrow.Array {
		return one(t, mem, dec, func(b *array.Decimal128Builder) { b.Append(decimal128.FromI64(v)) })
	}
	date := func(v int32) arrow.Array {
		return one(t, mem, arrow.FixedWidthTypes.Date32, func(b *array.Date32Builder) { b.Append(arrow.Date32(v)) })
	}
	text := func(v string) arrow.Array {
		return one(t, mem, arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.Append(v) })
	}
	for _, c := range []struct {
		name string
		arr  arrow.Array
		want string
		null bool
	}{
		{"string", text("US/East"), "US/East", false},
		{"empty string", text(""), "", true},
		{"null", one(t, mem, arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.AppendNull() }), "", true},
		{"binary", one(t, mem, arrow.BinaryTypes.Binary, func(b *array.BinaryBuilder) { b.Append([]byte("/=%")) }), "/=%", false},
		{"empty binary", one(t, mem, arrow.BinaryTypes.Binary, func(b *array.BinaryBuilder) { b.Append([]byte{}) }), "", true},
		{"long", one(t, mem, arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) { b.Append(math.MinInt64) }), "-9223372036854775808", false},
		{"int", one(t, mem, arrow.PrimitiveTypes.Int32, func(b *array.Int32Builder) { b.Append(-1) }), "-1", false},
		{"short", one(t, mem, arrow.PrimitiveTypes.Int16, func(b *array.Int16Builder) { b.Append(7) }), "7", false},
		{"byte", one(t, mem, arrow.PrimitiveTypes.Int8, func(b *array.Int8Builder) { b.Append(-128) }), "-128", false},
		{"true", one(t, mem, arrow.FixedWidthTypes.Boolean, func(b *array.BooleanBuilder) { b.Append(true) }), "true", false},
		{"date", date(19782), "2024-02-29", false},
		{"first date", date(-719162), "0001-01-01", false},
		{"last date", date(2932896), "9999-12-31", false},
		{"timestamp", one(t, mem, utc, func(b *array.TimestampBuilder) { b.Append(arrow.Timestamp(at)) }), "2024-02-29T23:59:59.123456Z", false},
		{"epoch", one(t, mem, utc, func(b *array.TimestampBuilder) { b.Append(0) }), "1970-01-01T00:00:00.000000Z", false},
		{"before the epoch", one(t, mem, utc, func(b *array.TimestampBuilder) { b.Append(-1) }), "1969-12-31T23:59:59.999999Z", false},
		{"timestamp_ntz", one(t, mem, ntz, func(b *array.TimestampBuilder) { b.Append(arrow.Timestamp(at)) }), "2024-02-29 23:59:59.123456", false},
		{"decimal", decimal(4200), "42.00", false},
		{"small negative decimal", decimal(-5), "-0.05", false},
		{"zero decimal", decimal(0), "0.00", false},
		{"double", double(0.1), "0.1", false},
		{"whole double", double(-3), "-3.0", false},
		{"negative zero", double(math.Copysign(0, -1)), "0.0", false},
		{"large double", double(1e7), "1.0E7", false},
		{"almost large", double(9999999), "9999999.0", false},
		{"largest double", double(math.MaxFloat64), "1.7976931348623157E308", false},
		{"small double", double(0.0001), "1.0E-4", false},
		{"edge of small", double(0.001), "0.001", false},
		{"NaN", double(math.NaN()), "NaN", false},
		{"-Infinity", double(math.Inf(-1)), "-Infinity", false},
		{"float", one(t, mem, arrow.PrimitiveTypes.Float32, func(b *array.Float32Builder) { b.Append(0.1) }), "0.1", false},
		{"largest float", one(t, mem, arrow.PrimitiveTypes.Float32, func(b *array.Float32Builder) { b.Append(math.MaxFloat32) }), "3.4028235E38", false},
	} {
		if got, null := delta.PartitionValue(c.arr, 0); got != c.want || null != c.null {
			t.Errorf("%s: %q %v, want %q %v", c.name, got, null, c.want, c.null)
		}
	}
}

// The rows are those of tables that Spark wrote.
func TestPartitionFoldersAndPaths(t *testing.T) {
	for _, c := range []struct{ value, folder, path string }{
		{"plain", "p=plain", "p=plain"},
		{"", "p=__HIVE_DEFAULT_PARTITION__", "p=__HIVE_DEFAULT_PARTITION__"},
		{"/=%", "p=%2F%3D%25", "p=%252F%253D%2525"},
		{"a{b", "p=a%7Bb", "p=a%257Bb"},
		{"a}b", "p=a}b", "p=a%7Db"},
		{"hello world", "p=hello world", "p=hello%20world"},
		{"München", "p=München", "p=München"},
		{"日本語", "p=日本語", "p=日本語"},
		{"a<b>c|d", "p=a<b>c|d", "p=a%3Cb%3Ec%7Cd"},
		{"a@b!c(d)", "p=a@b!c(d)", "p=a@b!c(d)"},
		{"a&b+c$d;e,f", "p=a&b+c$d;e,f", "p=a&b+c$d;e,f"},
		{"Serbia/srb%", "p=Serbia%2Fsrb%25", "p=Serbia%252Fsrb%2525"},
		{"100%25", "p=100%2525", "p=100%252525"},
		{" ", "p= ", "p=%20"},
		{"2024-06-15T12:30:45.000000Z", "p=2024-06-15T12%3A30%3A45.000000Z", "p=2024-06-15T12%253A30%253A45.000000Z"},
		{"tab\tnul\x00del\x7f", "p=tab%09nul%00del%7F", "p=tab%2509nul%2500del%257F"},
		{"..", "p=..", "p=.."},
		{"`", "p=`", "p=%60"},
		{"🎉e\u0301\u200b\ufffd", "p=🎉e\u0301\u200b\ufffd", "p=🎉e\u0301\u200b\ufffd"},
		{"no\u00a0break\u2028line\u0085", "p=no\u00a0break\u2028line\u0085", "p=no%C2%A0break%E2%80%A8line%C2%85"},
	} {
		folder := delta.PartitionFolder("p", c.value, false)
		if path := delta.EncodePath(folder); folder != c.folder || path != c.path {
			t.Errorf("%q: %s and %s, want %s and %s", c.value, folder, path, c.folder, c.path)
		}
	}
	if got := delta.PartitionFolder("a:b", "x", true); got != "a%3Ab=__HIVE_DEFAULT_PARTITION__" {
		t.Error(got)
	}
}

func TestLongPartitionFolderIsCutToWhatFileSystemsTake(t *testing.T) {
	a := delta.PartitionFolder("p", strings.Repeat("é", 200)+"1", false)
	b := delta.PartitionFolder("p", strings.Repeat("é", 200)+"2", false)
	if len(a) > 255 || len(a) < 250 || a == b || !validUTF8(a) {
		t.Errorf("%d bytes: %s", len(a), a)
	}
}

func FuzzPathCodec(f *testing.F) {
	for _, s := range []string{"", "a b", "100%25", "%", "%2", "ü/日本", "\x00\x7f", "p=a%253Ab/x.parquet"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := delta.UnescapePathName(delta.EscapePathName(s)); got != s {
			t.Errorf("Hive: %q became %q", s, got)
		}
		path := delta.EncodePath(s)
		if got, err := delta.DecodePath(path); err != nil || got != s {
			t.Errorf("URI: %q became %q %v", s, got, err)
		}
		for _, c := range path {
			if c <= ' ' || c == 0x7f || c == utf8.RuneError && !strings.ContainsRune(s, c) {
				t.Errorf("URI: %q has %#x", path, c)
			}
		}
		delta.UnescapePathName(s)
		_, _ = delta.DecodePath(s)
	})
}

// What a partition value spells is the value: other engines read it back.
func FuzzPartitionValue(f *testing.F) {
	f.Add(int64(0), 0.0, "")
	f.Add(int64(-9007199254740993), 1e21, "a\x00b")
	f.Add(int64(math.MaxInt64), math.Inf(-1), "ü")
	f.Add(int64(math.MinInt64), math.SmallestNonzeroFloat64, " ")
	f.Fuzz(func(t *testing.T, i int64, x float64, s string) {
		value := func(typ arrow.DataType, fill func(array.Builder)) (string, bool) {
			return delta.PartitionValue(one(t, memory.DefaultAllocator, typ, fill), 0)
		}
		text, null := value(arrow.PrimitiveTypes.Int64, func(b array.Builder) { b.(*array.Int64Builder).Append(i) })
		if back, err := strconv.ParseInt(text, 10, 64); err != nil || back != i || null {
			t.Errorf("%d is spelled %q", i, text)
		}
		text, null = value(arrow.PrimitiveTypes.Float64, func(b array.Builder) { b.(*array.Float64Builder).Append(x) })
		if back, err := strconv.ParseFloat(text, 64); err != nil || back != x && !math.IsNaN(x) || null {
			t.Errorf("%g is spelled %q", x, text)
		}
		text, null = value(arrow.BinaryTypes.String, func(b array.Builder) { b.(*array.StringBuilder).Append(s) })
		if text != s || null != (s == "") {
			t.Errorf("%q is spelled %q", s, text)
		}
		decimal := &arrow.Decimal128Type{Precision: 38, Scale: 7}
		text, _ = value(decimal, func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(i)) })
		if back, err := decimal128.FromString(text, 38, 7); err != nil || back != decimal128.FromI64(i) {
			t.Errorf("%d E-7 is spelled %q", i, text)
		}
		micros := i % (9000 * 365 * 86400 * 1e6)
		text, _ = value(&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, func(b array.Builder) {
			b.(*array.TimestampBuilder).Append(arrow.Timestamp(micros))
		})
		if back, err := time.Parse(time.RFC3339Nano, text); micros >= -62135596800e6 && (err != nil || back.UnixMicro() != micros) {
			t.Errorf("%d microseconds are spelled %q", micros, text)
		}
	})
}
