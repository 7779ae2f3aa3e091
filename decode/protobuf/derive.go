package protobuf

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkadelta/decode"
)

// TableSchema is the schema of a table that takes all that messages of the type hold: types as the package's decoder fills
// them, every column nullable. The error names what no column can hold.
func TableSchema(t *Type) (*arrow.Schema, error) { return MessageSchema(t, nil) }

// MessageSchema is TableSchema but for fields that are given: they may be what no column can hold.
func MessageSchema(t *Type, given decode.Given) (*arrow.Schema, error) {
	d := &deriver{decode.Fields{Of: "the message type " + string(t.descriptor.FullName()), Given: given}, map[protoreflect.FullName]bool{}}
	fields, err := d.fields(t.descriptor, "")
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("the message type %s has no fields, and a table needs a column", t.descriptor.FullName())
	}
	return arrow.NewSchema(fields, nil), nil
}

// ColumnSchema is that of the column of that name that takes whole messages of the type, as keys are, by the rules of MessageSchema.
func ColumnSchema(t *Type, name string, given decode.Given) (*arrow.Schema, error) {
	d := &deriver{decode.Fields{Of: "the message type " + string(t.descriptor.FullName()), Given: given, Whole: name}, map[protoreflect.FullName]bool{}}
	column, err := d.Column(name, func() (arrow.DataType, error) { return d.message(t.descriptor, name) })
	if err != nil {
		return nil, err
	}
	return arrow.NewSchema([]arrow.Field{{Name: name, Type: column, Nullable: true}}, nil), nil
}

type deriver struct {
	decode.Fields
	within map[protoreflect.FullName]bool
}

func (d *deriver) fields(m protoreflect.MessageDescriptor, path string) ([]arrow.Field, error) {
	if d.within[m.FullName()] {
		return nil, d.NoColumn(path, false, ": the message type %s contains itself, which no column can", m.FullName())
	}
	d.within[m.FullName()] = true
	defer delete(d.within, m.FullName())
	var out []arrow.Field
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		at := join(path, string(f.Name()))
		t, err := d.Column(at, func() (arrow.DataType, error) { return d.field(f, at) })
		if err != nil {
			return nil, err
		}
		out = append(out, arrow.Field{Name: string(f.Name()), Type: t, Nullable: true})
	}
	return out, nil
}

func (d *deriver) field(f protoreflect.FieldDescriptor, path string) (arrow.DataType, error) {
	if f.IsMap() {
		key, err := d.single(f.MapKey(), path+".key")
		if err != nil {
			return nil, err
		}
		value, err := d.single(f.MapValue(), path+".value")
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(key, value), nil
	}
	if !f.IsList() {
		return d.single(f, path)
	}
	element, err := d.single(f, path+".element")
	if err != nil {
		return nil, err
	}
	return arrow.ListOf(element), nil
}

func (d *deriver) single(f protoreflect.FieldDescriptor, path string) (arrow.DataType, error) {
	if err := d.Count(path); err != nil {
		return nil, err
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return arrow.FixedWidthTypes.Boolean, nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return arrow.PrimitiveTypes.Int32, nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return arrow.PrimitiveTypes.Int64, nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return &arrow.Decimal128Type{Precision: 20}, nil
	case protoreflect.FloatKind:
		return arrow.PrimitiveTypes.Float32, nil
	case protoreflect.DoubleKind:
		return arrow.PrimitiveTypes.Float64, nil
	case protoreflect.StringKind, protoreflect.EnumKind:
		return arrow.BinaryTypes.String, nil
	case protoreflect.BytesKind:
		return arrow.BinaryTypes.Binary, nil
	default:
	}
	m := f.Message()
	switch wellKnown[m.FullName()] {
	case knownTimestamp:
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, nil
	case knownDuration, knownJSON:
		return arrow.BinaryTypes.String, nil
	case knownWrapper:
		return d.single(m.Fields().ByNumber(1), path)
	default:
	}
	return d.message(m, path)
}

// message is the column of a message that is no well-known one.
func (d *deriver) message(m protoreflect.MessageDescriptor, path string) (arrow.DataType, error) {
	fields, err := d.fields(m, path)
	switch {
	case err != nil:
		return nil, err
	case len(fields) == 0:
		return nil, d.NoColumn(path, false, ": the message type %s has no fields", m.FullName())
	}
	return arrow.StructOf(fields...), nil
}

// known is what a well-known type is to us.
type known uint8

const (
	notKnown known = iota
	knownTimestamp
	knownDuration
	knownWrapper
	knownJSON
)

var wellKnown = map[protoreflect.FullName]known{
	"google.protobuf.Timestamp": knownTimestamp, "google.protobuf.Duration": knownDuration,
	"google.protobuf.Struct": knownJSON, "google.protobuf.Value": knownJSON, "google.protobuf.ListValue": knownJSON,
	"google.protobuf.DoubleValue": knownWrapper, "google.protobuf.FloatValue": knownWrapper, "google.protobuf.Int64Value": knownWrapper,
	"google.protobuf.UInt64Value": knownWrapper, "google.protobuf.Int32Value": knownWrapper, "google.protobuf.UInt32Value": knownWrapper,
	"google.protobuf.BoolValue": knownWrapper, "google.protobuf.StringValue": knownWrapper, "google.protobuf.BytesValue": knownWrapper,
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
