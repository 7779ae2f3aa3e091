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
	return t, err
}
