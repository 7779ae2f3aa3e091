// Package variant makes the values of VARIANT columns (PROTOCOL.md, "Variant Data Type") out of JSON.
//
// It owns the Arrow type that stands for such a column, and the encoding of JSON, by arrow-go's encoder. It promises that numbers keep
// their digits, as in Spark's parse_json: whole ones that fit 64 bits, then decimals of up to 38 digits, then doubles; and that what it
// refuses leaves nothing behind.
//
// It never shreds a value.
package variant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/variant"
)

// maxSize is what Spark reads of a value and of its keys, in bytes (VariantUtil.SIZE_LIMIT).
const maxSize = 16 << 20

// maxDepth bounds how deep a value nests, as it does messages of JSON: each level moves all that is within it once more.
const maxDepth = 512

// Storage is how data files hold a VARIANT (PROTOCOL.md, "Variant data in Parquet").
var Storage = arrow.StructOf(arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary}, arrow.Field{Name: "metadata", Type: arrow.BinaryTypes.Binary})

// Type is the Arrow type of a VARIANT column. Its values are stored as Storage.
type Type struct{ arrow.ExtensionBase }

// New returns the type.
func New() *Type { return &Type{arrow.ExtensionBase{Storage: Storage}} }

// Is reports whether a type is a VARIANT.
func Is(t arrow.DataType) bool {
	_, ok := t.(*Type)
	return ok
}

// ArrayType implements arrow.ExtensionType.
func (*Type) ArrayType() reflect.Type { return reflect.TypeFor[Array]() }

// ExtensionName implements arrow.ExtensionType.
func (*Type) ExtensionName() string { return "delta.variant" }

// String implements arrow.DataType.
func (*Type) String() string { return "variant" }

// Serialize implements arrow.ExtensionType.
func (*Type) Serialize() string { return "" }

// ExtensionEquals implements arrow.ExtensionType.
func (*Type) ExtensionEquals(o arrow.ExtensionType) bool { return Is(o) }

// Deserialize implements arrow.ExtensionType.
func (*Type) Deserialize(arrow.DataType, string) (arrow.ExtensionType, error) { return New(), nil }

// Array holds values of the type.
type Array struct{ array.ExtensionArrayBase }

// Builder makes an Array.
type Builder struct {
	b               *array.StructBuilder
	value, metadata *array.BinaryBuilder
}

// NewBuilder returns an empty one.
func NewBuilder() *Builder {
	b := array.NewStructBuilder(memory.DefaultAllocator, Storage)
	return &Builder{b, b.FieldBuilder(0).(*array.BinaryBuilder), b.FieldBuilder(1).(*array.BinaryBuilder)}
}

// AppendNull appends a NULL, which is something else than JSON's null.
func (b *Builder) AppendNull() { b.b.AppendNull() }

// AppendJSON appends the value of a JSON text, or a NULL with an error.
func (b *Builder) AppendJSON(text []byte) error {
	value, metadata, err := Encode(text)
	if err != nil {
		b.AppendNull()
		return err
	}
	b.b.Append(true)
	b.value.Append(value)
	b.metadata.Append(metadata)
	return nil
}

// NewArray gives what was appended.
func (b *Builder) NewArray() arrow.Array {
	storage := b.b.NewArray()
	defer storage.Release()
	return array.NewExtensionArrayWithStorage(New(), storage)
}

// Release frees the builder.
func (b *Builder) Release() { b.b.Release() }

// Encode gives the bytes of one JSON value. Of equal keys the last one wins.
func Encode(text []byte) (value, metadata []byte, err error) {
	if !json.Valid(text) {
		return nil, nil, errors.New("it is no JSON")
	}
	var b variant.Builder
	b.SetAllowDuplicates(true)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := appendValue(&b, dec, 0); err != nil {
		return nil, nil, err
	}
	v, err := b.Build()
	if err != nil {
		return nil, nil, err
	}
	value, metadata = v.Bytes(), v.Metadata().Bytes()
	if len(value) > maxSize || len(metadata) > maxSize {
		return nil, nil, fmt.Errorf("its value has %d bytes and its keys have %d, and a VARIANT may have %d of each", len(value), len(metadata), maxSize)
	}
	return value, metadata, nil
}

// appendValue takes the next value of valid JSON.
func appendValue(b *variant.Builder, dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case json.Delim:
		switch {
		case depth >= maxDepth:
			return fmt.Errorf("it nests deeper than %d", maxDepth)
		case v == '[':
			return appendArray(b, dec, depth+1)
		}
		return appendObject(b, dec, depth+1)
	case string:
		return b.AppendString(v)
	case bool:
		return b.AppendBool(v)
	case json.Number:
		return appendNumber(b, v)
	}
	return b.AppendNull()
}

func appendArray(b *variant.Builder, dec *json.Decoder, depth int) error {
	start := b.Offset()
	var offsets []int
	for dec.More() {
		offsets = append(offsets, b.NextElement(start))
		if err := appendValue(b, dec, depth); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	return b.FinishArray(start, offsets)
}

func appendObject(b *variant.Builder, dec *json.Decoder, depth int) error {
	start := b.Offset()
	var fields []variant.FieldEntry
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		fields = append(fields, b.NextField(start, name))
		if err := appendValue(b, dec, depth); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	return b.FinishObject(start, fields)
}

const maxDigits = 38

// appendNumber keeps a number's digits where it can: a number with an exponent is a double, as in Spark.
func appendNumber(b *variant.Builder, n json.Number) error {
	text := n.String()
	if v, err := n.Int64(); err == nil {
		return b.AppendInt(v)
	}
	if len(text) <= 2*maxDigits+len("-.") && !strings.ContainsAny(text, "eE") { // no more digits than can matter are read
		whole, fraction, _ := strings.Cut(text, ".")
		unscaled, ok := new(big.Int).SetString(whole+fraction, 10)
		digits := max(len(new(big.Int).Abs(unscaled).String()), len(fraction)) // a scale is no larger than its kind's precision, which Spark checks
		if ok && digits <= maxDigits {
			scale := uint8(len(fraction))
			switch {
			case digits <= 9:
				return b.AppendDecimal4(scale, decimal.Decimal32(unscaled.Int64()))
			case digits <= 18:
				return b.AppendDecimal8(scale, decimal.Decimal64(unscaled.Int64()))
			}
			return b.AppendDecimal16(scale, decimal128.FromBigInt(unscaled))
		}
	}
	v, err := n.Float64()
	if err != nil {
		return fmt.Errorf("the number %.40s is too large", text)
	}
	return b.AppendFloat64(v)
}
