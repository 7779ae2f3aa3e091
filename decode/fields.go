package decode

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// MaxFields is how many fields, nested ones included, a schema of messages may have of which a table is made. Each of 40 definitions that uses the next one twice is a line,
// and all of them are 2^40 fields.
const MaxFields = 10_000

// Fields are those of a schema of messages, in any format, of which a table is made: how many there are, and which are given.
type Fields struct {
	Of    string // the schema, for errors: "the JSON Schema"
	Given Given
	Whole string // the column that takes whole messages, as that of keys does, which is not dropped; "": none does

	n int
}

// Count counts one more field, element, key or value, which is an error that says what to do once there are more than MaxFields.
func (f *Fields) Count(path string) error {
	if f.n++; f.n > MaxFields {
		return fmt.Errorf("field %s: with it %s has %d fields, nested ones included, which are too many for a table (at most %d): drop what has so many of them, or give it a type, in table.columns, or name the columns in table.schema",
			path, f.Of, f.n, MaxFields)
	}
	return nil
}

// Column is the column of a field by its derivation, or null where that fails and the field is given: then what is below it does not count.
func (f *Fields) Column(path string, derive func() (arrow.DataType, error)) (arrow.DataType, error) {
	before := f.n
	t, err := derive()
	if err != nil && f.Given != nil && f.Given(path) {
		f.n = before
		return arrow.Null, nil
	}
	if none, ok := err.(*NoColumn); ok { //nolint:errorlint // never wrapped
		none.within(path, f.Whole)
	}
	return t, err
}

// NoColumn says that no column can hold a field by its schema, and, once it has come through Fields.Column, what table.columns can say of that.
type NoColumn struct {
	path, why string
	asText    bool
	column    string // top-level, of the field
	field     string // the innermost that can be dropped; "" where that is a column which can't be
	known     bool   // column and field are
}

// NoColumn is the error for the field at a path. asText tells that a STRING takes its values, as JSON text.
func (f *Fields) NoColumn(path string, asText bool, format string, args ...any) error {
	return &NoColumn{path: path, why: fmt.Sprintf(format, args...), asText: asText}
}

// within notes a field around the error, the innermost first.
func (e *NoColumn) within(field, whole string) {
	if e.column = field; !e.known && field != whole {
		e.field = field
	}
	e.known = true
}

func (e *NoColumn) Error() string {
	named := func(path string) string {
		if path == e.path {
			return "it"
		}
		return path
	}
	switch text := "field " + e.path + e.why; {
	case !e.known: // it is all of the message
		return text + ": name the columns in table.schema"
	case e.asText && e.field == "":
		return fmt.Sprintf("%s: give %s the type STRING in table.columns, which keeps JSON text", text, named(e.column))
	case e.asText:
		return fmt.Sprintf("%s: give %s the type STRING in table.columns, which keeps JSON text, or drop %s there", text, named(e.column), named(e.field))
	case e.field == "":
		return fmt.Sprintf("%s: give %s a type in table.columns", text, named(e.column))
	default:
		return fmt.Sprintf("%s: drop %s in table.columns", text, named(e.field))
	}
}
