package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
	"kafkadelta/delta"
)

// Bounds of what is inferred. An input beyond them has objects that are maps, or values that are anything.
const (
	maxInferredFields = 5000
	maxInferredDepth  = 50
)

// inferSchema finds the columns that hold every message: BIGINT, DOUBLE, BOOLEAN, STRING, STRUCT and ARRAY, all nullable,
// in the order of their first appearance. Where two messages differ by more than whole numbers and fractions it refuses,
// since a table's types stay. It is nil for an input without messages. docs/table.md has the rules.
func inferSchema(file string, input iter.Seq2[message, error]) (*arrow.Schema, error) {
	in := newInference("--schema")
	for m, err := range input {
		if err != nil {
			return nil, inputError(file, err)
		}
		if err := in.add(file, m); err != nil {
			return nil, err
		}
	}
	return in.schema(file)
}

func newInference(option string) *inference {
	return &inference{root: &inferredType{kind: inferredObject}, option: option}
}

// add takes one more message. The error is a *rowError.
func (in *inference) add(file string, m message) error {
	in.messages++
	err := in.message(m)
	if err == nil {
		return nil
	}
	var own *rowError
	if !errors.As(err, &own) {
		own = &rowError{reason: decode.ReasonInvalidJSON, detail: err.Error()}
	}
	own.file, own.at = file, m.at()
	return own
}

// schema is what all messages fit into; nil where there were none.
func (in *inference) schema(file string) (*arrow.Schema, error) {
	if in.messages == 0 {
		return nil, nil
	}
	if len(in.root.fields) == 0 {
		return nil, &configError{fmt.Errorf("%s: the messages have no fields to make columns of: name the columns with %s", file, in.option)}
	}
	schema, err := delta.ParseDDL(in.root.columns(" "))
	if err != nil {
		return nil, &configError{fmt.Errorf("%s: the schema of the input: %w; name the columns with %s", file, err, in.option)}
	}
	return schema, nil
}

type inferredKind int

const (
	inferredNull inferredKind = iota // nothing but null so far
	inferredBool
	inferredInteger
	inferredNumber
	inferredText
	inferredArray
	inferredObject
)

func (k inferredKind) String() string {
	return [...]string{"null", "BOOLEAN", "BIGINT", "DOUBLE", "STRING", "ARRAY", "STRUCT"}[k]
}

// inferredType is what is known of a field. A field of an object remembers its name.
type inferredType struct {
	name    string
	kind    inferredKind
	since   string          // the message that made it so
	element *inferredType   // of an array
	fields  []*inferredType // of an object, in the order of their appearance
	byName  map[string]*inferredType
}

// inference goes through messages.
type inference struct {
	root     *inferredType
	option   string // that names columns instead
	messages int64
	fields   int
	at       string // the message at hand
	path     []string
}

func (in *inference) message(m message) error {
	in.at, in.path = m.at(), in.path[:0]
	dec := json.NewDecoder(bytes.NewReader(m.text))
	dec.UseNumber()
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return &rowError{reason: decode.ReasonTypeMismatch, detail: fmt.Sprintf("%s where an object should be", shorten(string(m.text)))}
	}
	if err := in.object(dec, in.root); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &rowError{reason: decode.ReasonTrailingData, detail: "something follows the object"}
	}
	return nil
}

// object takes an object whose brace is read already.
func (in *inference) object(dec *json.Decoder, t *inferredType) error {
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder lets nothing else pass here
		field, ok := t.byName[name]
		if !ok {
			if in.fields++; in.fields > maxInferredFields {
				return in.refuse(decode.ReasonTooLarge, fmt.Sprintf("more than %d different fields: one of the objects is a MAP", maxInferredFields))
			}
			field = &inferredType{name: name}
			if t.byName == nil {
				t.byName = map[string]*inferredType{}
			}
			t.byName[name], t.fields = field, append(t.fields, field)
		}
		in.path = append(in.path, name)
		if err := in.value(dec, field); err != nil {
			return err
		}
		in.path = in.path[:len(in.path)-1]
	}
	_, err := dec.Token()
	return err
}

func (in *inference) value(dec *json.Decoder, t *inferredType) error {
	if len(in.path) > maxInferredDepth {
		return in.refuse(decode.ReasonTooDeep, fmt.Sprintf("nested deeper than %d", maxInferredDepth))
	}
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case bool:
		return in.become(t, inferredBool, strconv.FormatBool(v))
	case string:
		return in.become(t, inferredText, strconv.Quote(v))
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return in.become(t, inferredNumber, v.String())
		}
		if _, err := v.Int64(); err != nil {
			return in.refuse(decode.ReasonOutOfRange, fmt.Sprintf("%s is beyond BIGINT: it may be a DECIMAL, a DOUBLE or a STRING", shorten(v.String())))
		}
		return in.become(t, inferredInteger, v.String())
	case json.Delim:
		if v == '{' {
			if err := in.become(t, inferredObject, "an object"); err != nil {
				return err
			}
			return in.object(dec, t)
		}
		if t.element == nil {
			t.element = &inferredType{}
		}
		err := in.become(t, inferredArray, "an array")
		in.path = append(in.path, "element")
		for err == nil && dec.More() {
			err = in.value(dec, t.element)
		}
		in.path = in.path[:len(in.path)-1]
		if err != nil {
			return err
		}
		_, err = dec.Token()
		return err
	}
	return nil // null fits everything
}

// become makes room for a value of the kind.
func (in *inference) become(t *inferredType, kind inferredKind, value string) error {
	switch {
	case t.kind == kind, t.kind == inferredNumber && kind == inferredInteger:
	case t.kind == inferredNull, t.kind == inferredInteger && kind == inferredNumber:
		t.kind, t.since = kind, in.at
	default:
		return in.refuse(decode.ReasonTypeMismatch, fmt.Sprintf("%s, but the field is %s since %s: a STRING takes both", shorten(value), t.kind, t.since))
	}
	return nil
}

func (in *inference) refuse(reason, detail string) error {
	return &rowError{path: strings.Join(in.path, "."), reason: reason, detail: detail, remedy: "name the columns with " + in.option + ", or mend the input"}
}

// columns spells the fields in Spark's SQL notation. What was never seen with a value is a STRING, which takes any.
func (t *inferredType) columns(separator string) string {
	var b strings.Builder
	for i, f := range t.fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("`" + strings.ReplaceAll(f.name, "`", "``") + "`" + separator + f.spell())
	}
	return b.String()
}

func (t *inferredType) spell() string {
	switch {
	case t.kind == inferredArray:
		return "ARRAY<" + t.element.spell() + ">"
	case t.kind == inferredObject && len(t.fields) > 0:
		return "STRUCT<" + t.columns(": ") + ">"
	case t.kind == inferredNull, t.kind == inferredObject: // nothing, or {}, which no Parquet file holds
		return inferredText.String()
	}
	return t.kind.String()
}

// shorten bounds how much of a value an error shows.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
