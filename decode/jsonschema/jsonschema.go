// Package jsonschema finds the columns of a table for the messages that a JSON Schema describes.
//
// It owns what each schema becomes, by docs/json.md. It promises that nothing is fetched but the references that it was given, and
// that what no column can hold is refused by the field's name. It sees no message: decode/json decodes them, by the table alone.
package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"kafkadelta/decode"
)

// Reference is a JSON Schema that another one refers to, by the name that its $ref uses.
type Reference struct{ Name, Text string }

// TableSchema is the schema of a table that takes all that messages of the JSON Schema hold: types as decode/json fills
// them, every column nullable, in the order of the schema's text. The error names what no column can hold.
func TableSchema(text string, references ...Reference) (*arrow.Schema, error) {
	return MessageSchema(nil, text, references...)
}

// MessageSchema is TableSchema but for fields that are given: they may be what no column can hold.
func MessageSchema(given decode.Given, text string, references ...Reference) (*arrow.Schema, error) {
	values, err := ValueSchema(given, text, references...)
	if err != nil {
		return nil, err
	}
	return Columns(values), nil
}

// ValueSchema is MessageSchema with two types of Arrow that no table has, for values of which a column has the JSON text: LARGE_STRING is any value, LARGE_BINARY any
// object. Keys of maps, which are texts of whatever type a table has for them, are LARGE_STRING too.
func ValueSchema(given decode.Given, text string, references ...Reference) (*arrow.Schema, error) {
	d, root, err := compileSchema(text, references)
	if err != nil {
		return nil, err
	}
	d.Given = given
	s, err := d.shape(kindObject, []*jsonschema.Schema{root}, "") // nothing else is a row
	if err != nil {
		return nil, err
	}
	if s.kinds != kindObject || len(s.names) == 0 {
		return nil, errors.New("the JSON Schema names no properties of an object, which are columns: name the columns in table.schema")
	}
	fields, err := d.fields(s, "")
	if err != nil {
		return nil, err
	}
	return arrow.NewSchema(fields, nil), nil
}

// Columns gives the columns for what ValueSchema tells.
func Columns(values *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(Column(arrow.StructOf(values.Fields()...)).(*arrow.StructType).Fields(), nil)
}

// Column gives the column's type for one that ValueSchema tells.
func Column(value arrow.DataType) arrow.DataType {
	switch t := value.(type) {
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		return arrow.BinaryTypes.String
	case *arrow.StructType:
		fields := slices.Clone(t.Fields())
		for i := range fields {
			fields[i].Type = Column(fields[i].Type)
		}
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		return arrow.MapOf(Column(t.KeyType()), Column(t.ItemType()))
	case *arrow.ListType:
		return arrow.ListOf(Column(t.Elem()))
	}
	return value
}

// ColumnSchema is ValueSchema of the column of that name that takes whole messages of the JSON Schema, as keys are.
func ColumnSchema(name string, given decode.Given, text string, references ...Reference) (*arrow.Schema, error) {
	d, root, err := compileSchema(text, references)
	if err != nil {
		return nil, err
	}
	d.Given, d.Whole = given, name
	t, err := d.Column(name, func() (arrow.DataType, error) { return d.typ([]*jsonschema.Schema{root}, name) })
	if err != nil {
		return nil, err
	}
	return arrow.NewSchema([]arrow.Field{{Name: name, Type: t, Nullable: true}}, nil), nil
}

func compileSchema(text string, references []Reference) (*deriver, *jsonschema.Schema, error) {
	d := &deriver{Fields: decode.Fields{Of: "the JSON Schema"}, order: map[string][]string{}, within: map[*jsonschema.Schema]bool{}, texts: map[string]string{}}
	for _, r := range references {
		d.texts[r.Name] = r.Text
	}
	main := mainSchema
	for slices.ContainsFunc(references, func(r Reference) bool { return endsWith(main, r.Name) }) {
		main += "_"
	}
	d.texts[main] = text
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(d)
	compiler.AssertFormat()  // so that it tells formats
	compiler.AssertContent() // and encodings
	root, err := compiler.Compile(main)
	if err != nil {
		err = fmt.Errorf("reading a JSON Schema: %w", err)
	}
	return d, root, err
}

// mainSchema is the address of a schema that has none, but where a reference has that.
const mainSchema = "schema:///main"

// deriver finds columns. It is also the library's loader: nothing is read but what it was given.
type deriver struct {
	decode.Fields
	texts  map[string]string   // of schemas, by the name of a reference
	order  map[string][]string // the keys of each object of a schema's text, as they stand, by address and JSON pointer
	within map[*jsonschema.Schema]bool
}

// Load gives the schema of an address: a reference's name, or one that ends with it, since names may be relative. Of several the longest is meant:
// net/address.json, not address.json.
func (d *deriver) Load(url string) (any, error) {
	text, ok := d.texts[url]
	longest := ""
	for name := range d.texts {
		if !ok && len(name) > len(longest) && endsWith(url, name) {
			longest = name
		}
	}
	if !ok {
		text, ok = d.texts[longest]
	}
	if !ok {
		return nil, fmt.Errorf("%s is not among the schema's references", url)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if err := d.note(dec, url+"#"); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
}

// endsWith tells that an address ends with the name of a reference.
func endsWith(url, name string) bool {
	return strings.HasSuffix(url, "/"+strings.TrimPrefix(name, "/"))
}

// note remembers the order of the keys in the next value.
func (d *deriver) note(dec *json.Decoder, at string) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	for token == json.Delim('{') && dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		d.order[at] = append(d.order[at], name)
		if err := d.note(dec, at+"/"+pointer.Replace(name)); err != nil {
			return err
		}
	}
	for i := 0; token == json.Delim('[') && dec.More(); i++ {
		if err := d.note(dec, at+"/"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	if token == json.Delim('{') || token == json.Delim('[') {
		_, err = dec.Token()
	}
	return err
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// Kinds of values that a schema allows, as bits.
type kinds uint8

const (
	kindBoolean kinds = 1 << iota
	kindInteger
	kindNumber
	kindString
	kindArray
	kindObject
	allKinds = kindBoolean | kindInteger | kindNumber | kindString | kindArray | kindObject
)

var kindOf = map[string]kinds{
	"null": 0, "boolean": kindBoolean, "integer": kindInteger, "number": kindNumber | kindInteger, "string": kindString, "array": kindArray, "object": kindObject,
}

// shape is what the values of one place may be, by all schemas that hold there.
type shape struct {
	kinds    kinds
	format   string
	base64   bool
	names    []string // of an object's properties
	fields   map[string][]*jsonschema.Schema
	values   []*jsonschema.Schema // of an object's other properties
	patterns []*jsonschema.Schema // of those whose names have a pattern
	elements []*jsonschema.Schema
}

// maxSchemas bounds the schemas that hold at one place.
const maxSchemas = 1000

// shape merges schemas that all hold at a place that is of the kinds that fit, with what they refer to. Of alternatives, null aside, there may be one. Where anything fits besides, it only tells of an object's
// properties, if the other schemas leave nothing but objects.
func (d *deriver) shape(fit kinds, all []*jsonschema.Schema, path string) (*shape, error) {
	out := &shape{kinds: fit, fields: map[string][]*jsonschema.Schema{}}
	var maybe []*jsonschema.Schema
	for i := 0; ; i++ {
		if i == len(all) && out.kinds == kindObject {
			all, maybe = append(all, maybe...), nil
		}
		if i == len(all) {
			return out, nil
		}
		s := all[i]
		if i > maxSchemas {
			return nil, fmt.Errorf("field %s: more than %d schemas hold there, or they go in circles", path, maxSchemas)
		}
		if s.Bool != nil {
			continue
		}
		if s.Ref != nil {
			all = append(all, s.Ref)
		}
		all = append(all, s.AllOf...)
		for _, alternatives := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
			one, among, err := alternative(alternatives)
			if err != nil {
				return nil, d.NoColumn(path, true, ": %v", err)
			}
			switch {
			case one == nil:
				out.kinds &= among
			case slices.ContainsFunc(alternatives, anything):
				maybe = append(maybe, one)
			default:
				all = append(all, one)
			}
		}
		out.kinds &= kindsOf(s)
		d.details(out, s)
	}
}

// details notes what a schema says beyond kinds.
func (d *deriver) details(out *shape, s *jsonschema.Schema) {
	if s.Format != nil {
		out.format = s.Format.Name
	}
	out.base64 = out.base64 || s.ContentEncoding != nil && s.ContentEncoding.Name == "base64"
	names := d.order[s.Location+"/properties"]
	for _, name := range append(slices.Clone(names), slices.Sorted(maps.Keys(s.Properties))...) {
		p := s.Properties[name]
		if p == nil || slices.Contains(out.fields[name], p) {
			continue
		}
		if out.fields[name] == nil {
			out.names = append(out.names, name)
		}
		out.fields[name] = append(out.fields[name], p)
	}
	if values, ok := s.AdditionalProperties.(*jsonschema.Schema); ok && !slices.Contains(out.values, values) {
		out.values = append(out.values, values)
	}
	for _, p := range s.PatternProperties {
		if p.Bool == nil || *p.Bool { // else there are none
			out.patterns = append(out.patterns, p)
		}
	}
	for _, element := range []any{s.Items, s.Items2020} {
		if e, ok := element.(*jsonschema.Schema); ok && e != nil && !slices.Contains(out.elements, e) {
			out.elements = append(out.elements, e)
		}
	}
}

// kindsOf are the kinds that the schema itself allows.
func kindsOf(s *jsonschema.Schema) kinds {
	out := allKinds
	if s.Types != nil && !s.Types.IsEmpty() {
		out = 0
		for _, name := range s.Types.ToStrings() {
			out |= kindOf[name]
		}
	}
	var values []any
	switch {
	case s.Enum != nil:
		values = s.Enum.Values
	case s.Const != nil:
		values = []any{*s.Const}
	default:
		return out
	}
	var given kinds
	for _, v := range values {
		switch v := v.(type) {
		case nil:
		case bool:
			given |= kindBoolean
		case string:
			given |= kindString
		case json.Number:
			given |= kindsOfNumber(v)
		case []any:
			given |= kindArray
		default:
			given |= kindObject
		}
	}
	return out & given
}

// kindsOfNumber tells that 1.0 is an integer too, as JSON Schema has it.
func kindsOfNumber(n json.Number) kinds {
	if !strings.ContainsAny(n.String(), ".eE") {
		return kindInteger
	}
	if f, err := n.Float64(); err == nil && f == math.Trunc(f) {
		return kindInteger | kindNumber
	}
	return kindNumber
}

// alternative is the only one of the schemas that is not null, nil where there is none, or the kinds of all of them where these are all that decides.
func alternative(of []*jsonschema.Schema) (*jsonschema.Schema, kinds, error) {
	var out []*jsonschema.Schema
	for _, s := range of {
		if s.Ref != nil || kindsOf(s) != 0 && !silent(s) {
			out = append(out, s)
		}
	}
	switch len(out) {
	case 0:
		return nil, allKinds, nil
	case 1:
		return out[0], allKinds, nil
	}
	var among kinds
	for _, s := range out {
		if !scalar(s) {
			return nil, 0, errors.New("its values are of one of several schemas")
		}
		among |= kindsOf(s)
	}
	if slices.ContainsFunc(of, anything) {
		among = allKinds
	}
	return nil, among, nil
}

// scalar says that the schema's values are texts, numbers and booleans, and that their kinds are all that it tells of columns. Among others a text is one whatever its format.
func scalar(s *jsonschema.Schema) bool {
	return s.Ref == nil && kindsOf(s)&(kindArray|kindObject) == 0 && len(s.AllOf) == 0 && len(s.AnyOf) == 0 && len(s.OneOf) == 0
}

// silent says that the schema tells nothing of columns, as one that only asks for properties.
func silent(s *jsonschema.Schema) bool {
	return kindsOf(s) == allKinds && len(s.Properties) == 0 && s.AdditionalProperties == nil && s.Items == nil && s.Items2020 == nil &&
		len(s.AllOf) == 0 && len(s.AnyOf) == 0 && len(s.OneOf) == 0
}

// anything says that any value fits, as far as columns tell values apart.
func anything(s *jsonschema.Schema) bool {
	return s.Ref == nil && silent(s) && (s.Bool == nil || *s.Bool)
}

func (d *deriver) fields(s *shape, path string) ([]arrow.Field, error) {
	var out []arrow.Field
	for _, name := range s.names {
		at := name
		if path != "" {
			at = path + "." + name
		}
		t, err := d.Column(at, func() (arrow.DataType, error) { return d.typ(s.fields[name], at) })
		if err != nil {
			return nil, err
		}
		out = append(out, arrow.Field{Name: name, Type: t, Nullable: true})
	}
	return out, nil
}

// typ is the column of values that all the schemas describe.
func (d *deriver) typ(all []*jsonschema.Schema, path string) (arrow.DataType, error) {
	if err := d.Count(path); err != nil {
		return nil, err
	}
	for _, s := range all {
		if d.within[s] {
			return nil, d.NoColumn(path, true, " contains itself, which no column can")
		}
		d.within[s] = true
		defer delete(d.within, s)
	}
	s, err := d.shape(allKinds, slices.Clone(all), path)
	if err != nil {
		return nil, err
	}
	if s.kinds&kindNumber != 0 {
		s.kinds &^= kindInteger // which is a number too
	}
	switch s.kinds {
	case kindBoolean:
		return arrow.FixedWidthTypes.Boolean, nil
	case kindInteger:
		return arrow.PrimitiveTypes.Int64, nil
	case kindNumber:
		return arrow.PrimitiveTypes.Float64, nil
	case kindString:
		switch {
		case s.format == "date-time":
			return arrow.FixedWidthTypes.Timestamp_us, nil
		case s.format == "date":
			return arrow.FixedWidthTypes.Date32, nil
		case s.base64:
			return arrow.BinaryTypes.Binary, nil
		}
		return arrow.BinaryTypes.String, nil
	case kindArray:
		element, err := d.typ(s.elements, path+".element") // of no schema: anything
		if err != nil {
			return nil, err
		}
		return arrow.ListOf(element), nil
	case kindObject:
		switch {
		case len(s.names) > 0:
			fields, err := d.fields(s, path)
			if err != nil {
				return nil, err
			}
			return arrow.StructOf(fields...), nil
		case len(s.values) > 0:
			return d.mapType(s, path)
		}
		return arrow.BinaryTypes.LargeBinary, nil
	case 0:
		return nil, d.NoColumn(path, false, " has nothing but nulls, or no value at all")
	case allKinds &^ kindInteger:
		return arrow.BinaryTypes.LargeString, nil
	default:
		return nil, d.NoColumn(path, true, " has values of several types")
	}
}

// mapType is the column of an object whose properties have no names, but may have patterns of them with schemas of their own.
func (d *deriver) mapType(s *shape, path string) (arrow.DataType, error) {
	path += ".value"
	value, err := d.typ(s.values, path)
	if err != nil {
		return nil, err
	}
	for _, p := range s.patterns {
		other, err := d.typ([]*jsonschema.Schema{p}, path)
		if err != nil {
			return nil, err
		}
		if value.ID() != arrow.LARGE_STRING && !arrow.TypeEqual(value, other) {
			return nil, d.NoColumn(path, true, " has values of several types, by patternProperties and additionalProperties")
		}
	}
	return arrow.MapOf(arrow.BinaryTypes.LargeString, value), nil
}
