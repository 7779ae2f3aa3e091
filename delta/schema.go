package delta

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta/variant"
)

// MetadataKey is the key in arrow.Field.Metadata under which a column's Delta metadata travels, as the JSON object of
// PROTOCOL.md, "Column Metadata". A field without metadata has no such key.
const MetadataKey = "delta.metadata"

// maxNesting bounds how deep types nest, so that no schema from outside can exhaust the stack.
const maxNesting = 100

// Primitive types of Delta and what they are in Arrow (PROTOCOL.md, "Primitive Types").
var primitives = []struct {
	name  string
	arrow arrow.DataType
}{
	{"string", arrow.BinaryTypes.String},
	{"long", arrow.PrimitiveTypes.Int64},
	{"integer", arrow.PrimitiveTypes.Int32},
	{"short", arrow.PrimitiveTypes.Int16},
	{"byte", arrow.PrimitiveTypes.Int8},
	{"double", arrow.PrimitiveTypes.Float64},
	{"float", arrow.PrimitiveTypes.Float32},
	{"boolean", arrow.FixedWidthTypes.Boolean},
	{"binary", arrow.BinaryTypes.Binary},
	{"date", arrow.FixedWidthTypes.Date32},
	{"timestamp", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
	{"timestamp_ntz", &arrow.TimestampType{Unit: arrow.Microsecond}},
}

// SchemaToJSON spells an Arrow schema as a Delta schemaString (PROTOCOL.md, "Schema Serialization Format"). It takes
// exactly the Arrow types that SchemaFromJSON and a table's Schema give; another one is an error that names the column.
func SchemaToJSON(s *arrow.Schema) (string, error) {
	t, err := structToJSON(s.Fields(), "")
	if err != nil {
		return "", err
	}
	out, err := marshal(t)
	return string(out), err
}

type jsonStruct struct {
	Type   string      `json:"type"`
	Fields []jsonField `json:"fields"`
}

type jsonField struct {
	Name     string          `json:"name"`
	Type     any             `json:"type"`
	Nullable bool            `json:"nullable"`
	Metadata json.RawMessage `json:"metadata"`
}

type jsonArray struct {
	Type         string `json:"type"`
	ElementType  any    `json:"elementType"`
	ContainsNull bool   `json:"containsNull"`
}

type jsonMap struct {
	Type              string `json:"type"`
	KeyType           any    `json:"keyType"`
	ValueType         any    `json:"valueType"`
	ValueContainsNull bool   `json:"valueContainsNull"`
}

// marshal is json.Marshal without HTML escapes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func structToJSON(fields []arrow.Field, path string) (jsonStruct, error) {
	out := jsonStruct{Type: "struct", Fields: make([]jsonField, 0, len(fields))}
	for _, f := range fields {
		t, err := typeToJSON(f.Type, joinPath(path, f.Name))
		if err != nil {
			return out, err
		}
		meta := json.RawMessage(`{}`)
		if m, ok := f.Metadata.GetValue(MetadataKey); ok {
			var object map[string]json.RawMessage
			if err := json.Unmarshal([]byte(m), &object); err != nil {
				return out, fmt.Errorf("column %s: its %s is no JSON object: %w", joinPath(path, f.Name), MetadataKey, err)
			}
			meta = json.RawMessage(m)
		}
		out.Fields = append(out.Fields, jsonField{Name: f.Name, Type: t, Nullable: f.Nullable, Metadata: meta})
	}
	return out, nil
}

func typeToJSON(t arrow.DataType, path string) (any, error) {
	switch t := t.(type) {
	case *arrow.StructType:
		return structToJSON(t.Fields(), path)
	case *arrow.ListType:
		elem, err := typeToJSON(t.Elem(), joinPath(path, "element"))
		return jsonArray{Type: "array", ElementType: elem, ContainsNull: t.ElemField().Nullable}, err
	case *arrow.MapType:
		key, err := typeToJSON(t.KeyType(), joinPath(path, "key"))
		if err != nil {
			return nil, err
		}
		value, err := typeToJSON(t.ItemType(), joinPath(path, "value"))
		return jsonMap{Type: "map", KeyType: key, ValueType: value, ValueContainsNull: t.ItemField().Nullable}, err
	case *foreignType:
		return json.RawMessage(t.raw), nil
	case *variant.Type:
		return variantName, nil
	case *arrow.Decimal128Type:
		if err := checkDecimal(int64(t.Precision), int64(t.Scale)); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale), nil
	}
	for _, p := range primitives {
		if arrow.TypeEqual(p.arrow, t) {
			return p.name, nil
		}
	}
	return nil, fmt.Errorf("column %s: the Arrow type %s has no Delta type", path, t)
}

func checkDecimal(precision, scale int64) error {
	if precision < 1 || precision > 38 || scale < 0 || scale > precision {
		return fmt.Errorf("decimal(%d,%d) is out of range: precision is 1 to 38, scale is 0 to the precision", precision, scale)
	}
	return nil
}

// SchemaFromJSON reads a Delta schemaString (PROTOCOL.md, "Schema Serialization Format") into Arrow types: string is
// utf8, long, integer, short, byte are int64 to int8, decimal is decimal128, timestamp is timestamp[us, UTC],
// timestamp_ntz is timestamp[us], array is a list whose child is "element", map has the children "key" and "value". A
// type that this package does not write is an *UnsupportedError that names the column.
func SchemaFromJSON(js string) (*arrow.Schema, error) {
	s, err := readSchema(js)
	if err != nil {
		return nil, err
	}
	if err := checkTypes(s); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	return s, nil
}

// readSchema is SchemaFromJSON, but takes every type: one that this package does not write is a foreignType.
func readSchema(js string) (*arrow.Schema, error) {
	var top json.RawMessage
	if err := json.Unmarshal([]byte(js), &top); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	t, err := typeFromJSON(top, "", 0)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	st, ok := t.(*arrow.StructType)
	if !ok {
		return nil, fmt.Errorf("reading the schema: it is a %s, not a struct", t)
	}
	return arrow.NewSchema(st.Fields(), nil), nil
}

// typeShape is the union of all types' fields.
type typeShape struct {
	Type   string `json:"type"`
	Fields []struct {
		Name     *string         `json:"name"`
		Type     json.RawMessage `json:"type"`
		Nullable *bool           `json:"nullable"`
		Metadata json.RawMessage `json:"metadata"`
	} `json:"fields"`
	ElementType       json.RawMessage `json:"elementType"`
	ContainsNull      *bool           `json:"containsNull"`
	KeyType           json.RawMessage `json:"keyType"`
	ValueType         json.RawMessage `json:"valueType"`
	ValueContainsNull *bool           `json:"valueContainsNull"`
}

func typeFromJSON(raw json.RawMessage, path string, depth int) (arrow.DataType, error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case depth > maxNesting:
		return nil, fmt.Errorf("%s: types nest deeper than %d", place(path), maxNesting)
	case len(raw) == 0:
		return nil, fmt.Errorf("%s: the type is missing", place(path))
	case raw[0] == '"':
		var name string
		if err := json.Unmarshal(raw, &name); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		if name == variantName && depth == 1 { // a column; VARIANT within one is a type that is not written
			return variant.New(), nil
		}
		return primitiveFromName(name, path)
	}
	var shape typeShape
	if err := json.Unmarshal(raw, &shape); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok { // its text has names of Go types
			err = fmt.Errorf("%s is a JSON %s", cmp.Or(e.Field, "the type"), e.Value)
		}
		return nil, fmt.Errorf("%s: %w", place(path), err)
	}
	switch shape.Type {
	case "struct":
		return structFromJSON(&shape, path, depth)
	case "array":
		elem, err := typeFromJSON(shape.ElementType, joinPath(path, "element"), depth+1)
		if err != nil {
			return nil, err
		}
		return listOf(elem, orTrue(shape.ContainsNull)), nil
	case "map":
		key, err := typeFromJSON(shape.KeyType, joinPath(path, "key"), depth+1)
		if err != nil {
			return nil, err
		}
		value, err := typeFromJSON(shape.ValueType, joinPath(path, "value"), depth+1)
		if err != nil {
			return nil, err
		}
		return mapOf(key, value, orTrue(shape.ValueContainsNull)), nil
	}
	if shape.Type == "" {
		return nil, fmt.Errorf("%s: the type has no name", place(path))
	}
	return foreign(shape.Type, raw), nil
}

// variantName is the type's name in a schema (PROTOCOL.md, "Variant Data Type").
const variantName = "variant"

// place says where a schema is wrong.
func place(path string) string {
	if path == "" {
		return "the top level"
	}
	return "column " + path
}

func structFromJSON(shape *typeShape, path string, depth int) (arrow.DataType, error) {
	fields := make([]arrow.Field, 0, len(shape.Fields))
	names := make(map[string]struct{}, len(shape.Fields))
	for i, f := range shape.Fields {
		if f.Name == nil {
			return nil, fmt.Errorf("%s: field %d has no name", place(path), i)
		}
		lower := strings.ToLower(*f.Name)
		if _, twice := names[lower]; twice {
			return nil, fmt.Errorf("column %s is there twice: names of columns differ by more than case", joinPath(path, *f.Name))
		}
		names[lower] = struct{}{}
		t, err := typeFromJSON(f.Type, joinPath(path, *f.Name), depth+1)
		if err != nil {
			return nil, err
		}
		field := arrow.Field{Name: *f.Name, Type: t, Nullable: orTrue(f.Nullable)}
		if field.Metadata, err = fieldMetadata(f.Metadata); err != nil {
			return nil, fmt.Errorf("column %s: %w", joinPath(path, *f.Name), err)
		}
		fields = append(fields, field)
	}
	return arrow.StructOf(fields...), nil
}

func fieldMetadata(raw json.RawMessage) (arrow.Metadata, error) {
	if len(raw) == 0 {
		return arrow.Metadata{}, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return arrow.Metadata{}, fmt.Errorf("its metadata is no JSON object: %.100s", raw)
	}
	if len(object) == 0 {
		return arrow.Metadata{}, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return arrow.Metadata{}, err
	}
	return arrow.NewMetadata([]string{MetadataKey}, []string{b.String()}), nil
}

func primitiveFromName(name, path string) (arrow.DataType, error) {
	for _, p := range primitives {
		if p.name == name {
			return p.arrow, nil
		}
	}
	if name == "decimal" {
		return &arrow.Decimal128Type{Precision: 10, Scale: 0}, nil // Spark's default
	}
	if args, ok := strings.CutPrefix(name, "decimal("); ok {
		p, s, ok := strings.Cut(strings.TrimSuffix(args, ")"), ",")
		precision, err1 := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		scale, err2 := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
		if err := errors.Join(err1, err2); !ok || err != nil {
			return nil, fmt.Errorf("column %s: %q is no decimal type", path, name)
		}
		if err := checkDecimal(precision, scale); err != nil {
			return nil, fmt.Errorf("column %s: %w", path, err)
		}
		return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}, nil
	}
	raw, err := marshal(name)
	return foreign(name, raw), err
}

// fieldMetadataOf reads one key of a column's Delta metadata.
func fieldMetadataOf(f arrow.Field, key string) (json.RawMessage, bool) {
	m, ok := f.Metadata.GetValue(MetadataKey)
	if !ok {
		return nil, false
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(m), &object) != nil {
		return nil, false
	}
	raw, ok := object[key]
	return raw, ok
}

func listOf(elem arrow.DataType, nullable bool) *arrow.ListType {
	return arrow.ListOfField(arrow.Field{Name: "element", Type: elem, Nullable: nullable})
}

func mapOf(key, value arrow.DataType, nullable bool) *arrow.MapType {
	t := arrow.MapOf(key, value)
	t.SetItemNullable(nullable)
	return t
}

func orTrue(b *bool) bool { return b == nil || *b }

// joinPath extends a field path (PROTOCOL.md, "Field Path").
func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// walkFields visits every struct field of a schema, nested ones too, with its field path.
func walkFields(fields []arrow.Field, path string, visit func(path string, f arrow.Field) error) error {
	for _, f := range fields {
		p := joinPath(path, f.Name)
		if err := visit(p, f); err != nil {
			return err
		}
		if err := walkType(f.Type, p, visit); err != nil {
			return err
		}
	}
	return nil
}

func walkType(t arrow.DataType, path string, visit func(path string, f arrow.Field) error) error {
	switch t := t.(type) {
	case *arrow.StructType:
		return walkFields(t.Fields(), path, visit)
	case *arrow.ListType:
		return walkType(t.Elem(), joinPath(path, "element"), visit)
	case *arrow.MapType:
		if err := walkType(t.KeyType(), joinPath(path, "key"), visit); err != nil {
			return err
		}
		return walkType(t.ItemType(), joinPath(path, "value"), visit)
	}
	return nil
}
