package decode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config says how messages become rows, beyond what the table's schema says by itself.
type Config struct {
	// Columns by name; a nested field by its path: "a.b", a list's "tags.element", a map's "tags.value". A name with a
	// dot that is not a top-level column's is back-quoted.
	Columns map[string]Column `yaml:"columns"`
	// Filter is an expression over what is decoded: only messages for which it is true become rows. Package columns evaluates it.
	Filter string `yaml:"filter"`
	// Metadata is the column that holds topic, partition, offset, ... of each message.
	Metadata MetadataConfig `yaml:"kafka_metadata"`
}

// Column overrides how one column is filled. The zero value changes nothing: the column takes the field of its name. A plan knows From,
// Cast and Epoch; package columns does the rest.
type Column struct {
	// From is the path of the source field, for a top-level column. It need not be a column of the table. "." is the whole message, for the cast json.
	From string `yaml:"from"`
	// Cast is date, year, month, day, hour, minute (of an instant, in UTC), substring(start, length), or json, the text of any value.
	Cast string `yaml:"cast"`
	// Epoch is the unit of numbers that are read as instants since 1970: days (the default of a DATE column), seconds,
	// millis (the default of everything else), micros or nanos.
	Epoch string `yaml:"epoch"`
	// Constant is the text of a value that all rows have.
	Constant *string `yaml:"constant"`
	// Expression computes the value of what is decoded.
	Expression string `yaml:"expression"`
	// Type is that of the column in a new table, as DDL, and of a dropped column for those expressions that read it.
	Type string `yaml:"type"`
	// Drop leaves the column out of the table. With a Type, expressions can still read it.
	Drop bool `yaml:"drop"`
}

// Computed reports whether no decoder fills the column.
func (c Column) Computed() bool { return c.Expression != "" || c.Constant != nil }

// MetadataConfig describes the metadata column, STRUCT<topic: STRING, partition: INT, offset: BIGINT, timestamp:
// TIMESTAMP>, with key: BINARY and headers: ARRAY<STRUCT<key: STRING, value: BINARY>> on request.
type MetadataConfig struct {
	Column  string `yaml:"column"`  // default "_kafka"
	Enabled *bool  `yaml:"enabled"` // default true; false: the column is an ordinary one, if the table has it
	Key     bool   `yaml:"key"`
	Headers bool   `yaml:"headers"`
}

// Validate checks what can be checked without a table; NewPlan checks the rest.
func (c Config) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Columns)) {
		if err := c.Columns[name].validate(); err != nil {
			errs = append(errs, fmt.Errorf("columns.%s.%w", name, err))
		}
		if name == "" {
			errs = append(errs, errors.New("columns: an entry has no name"))
		}
	}
	if err := c.Metadata.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Column) validate() error {
	read := c.From != "" || c.Cast != "" || c.Epoch != ""
	switch {
	case c.Expression != "" && c.Constant != nil:
		return errors.New("constant: the column has an expression too: keep one of them")
	case c.Expression != "" && (read || c.Drop):
		return errors.New("expression: it computes the whole column: remove from, cast, epoch and drop, or put the expression into another column")
	case c.Constant != nil && (read || c.Drop):
		return errors.New("constant: it is the whole column: remove from, cast, epoch and drop, or put the constant into another column")
	case c.Drop && read && c.Type == "":
		return errors.New("drop: from, cast and epoch say how a column is read, and a dropped one is read by expressions only: give it a type, or remove them")
	}
	if c.From == WholeMessage {
		if cast, _, _, _ := ParseCast(c.Cast); cast != CastJSON {
			return fmt.Errorf("from: %s is the whole message, which a column can have as text: say cast: json, or name a field", WholeMessage)
		}
	} else if c.From != "" {
		if _, err := ParsePath(c.From); err != nil {
			return fmt.Errorf("from: %w", err)
		}
	}
	if _, _, _, err := ParseCast(c.Cast); err != nil {
		return fmt.Errorf("cast: %w", err)
	}
	if _, ok := epochs[c.Epoch]; !ok {
		return fmt.Errorf("epoch: %q is not a unit: use %s", c.Epoch, epochWords)
	}
	return nil
}

// Validate checks the column's name and that nothing is asked of a column that is switched off.
func (m MetadataConfig) Validate() error {
	if strings.ContainsAny(m.Column, " ,;{}()\n\t=") {
		return fmt.Errorf("kafka_metadata.column: %q has a character that Delta forbids in names: use letters, digits, '_' and '-'", m.Column)
	}
	if !m.enabled() && (m.Key || m.Headers) {
		return errors.New("kafka_metadata: key and headers need the column: set enabled: true or remove them")
	}
	return nil
}
