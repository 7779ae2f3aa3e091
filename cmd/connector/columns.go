package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/delta"
	"kafkadelta/delta/variant"
	"kafkadelta/internal/strictyaml"
	"kafkadelta/sink"
)

// columnTypes are the types that table.columns names, by top-level column.
func (c config) columnTypes() (columns.Types, error) {
	types := columns.Types{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Table.Decode.Columns)) {
		text := c.Table.Decode.Columns[name].Type
		if text == "" {
			continue
		}
		schema, err := delta.ParseDDL("c " + text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("table.columns.%s.type: %q is no type: use one of Spark's SQL, such as BIGINT, DECIMAL(10,2) or ARRAY<STRING>", name, text))
			continue
		case schema.NumFields() != 1 || !schema.Field(0).Nullable || schema.Field(0).HasMetadata():
			errs = append(errs, fmt.Errorf("table.columns.%s.type: %q is more than a type: leave out what follows it", name, text))
			continue
		case variant.Is(schema.Field(0).Type) && c.Table.Decode.Columns[name].Drop:
			errs = append(errs, fmt.Errorf("table.columns.%s.type: expressions read no VARIANT: read the field as STRING, with cast: json where messages are JSON", name))
			continue
		}
		column := name
		if path, err := decode.ParsePath(name); err == nil && len(path) == 1 {
			column = path[0]
		}
		types[column] = schema.Field(0).Type
	}
	return types, errors.Join(errs...)
}

// columnsOf compiles the columns that are computed, and the filter, for a table.
func (c config) columnsOf(layout *sink.Layout) (*columns.Plan, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	var generated []int
	for i := range layout.Schema.NumFields() {
		if layout.Rules.Generates(i) {
			generated = append(generated, i)
		}
	}
	cfg, _ := c.arriving(layout.Schema)
	made, err := columns.New(layout.Schema, cfg, types, c.Source.Format == formatJSON, generated...)
	if err != nil {
		return nil, err
	}
	for i, f := range layout.Schema.Fields() {
		switch {
		case !made.Reads(i):
		case layout.Rules.Generates(i):
			return nil, fmt.Errorf("columns: an expression reads %s, which the table computes later: read what it is generated from", f.Name)
		case layout.Rules.DefaultsToNow(i) && (c.Source.Key.Format == "" || f.Name != c.Source.Key.Column): // a key that is missing is null
			return nil, fmt.Errorf("columns: an expression reads %s, whose default reads the clock, and a message has to give the same outcome whenever it is read: "+
				"use _kafka.timestamp, the time of the message, or read the field under another name: {from: %s, type: ..., drop: true}", f.Name, f.Name)
		}
	}
	return made, nil
}

// arriving is what table.columns says for a table as it is, and the names of the entries that are for columns which it is still to get by
// table.schema_evolution.
func (c config) arriving(table *arrow.Schema) (decode.Config, []string) {
	if c.Table.Sink.SchemaEvolution == sink.EvolveNone {
		return c.Table.Decode, nil
	}
	if c.Source.valuesTell() {
		return columns.Arriving(table, c.Table.Decode)
	}
	keys, cfg := c.keyColumns() // the table follows them alone
	keys, waiting := columns.Arriving(table, keys)
	maps.Copy(cfg.Columns, keys.Columns)
	return cfg, waiting
}

// validateColumns checks what table.columns and table.filter say, as far as that can be done without a table.
func (c config) validateColumns() error {
	errs := []error{c.Table.Decode.Validate(), columns.Validate(c.Table.Decode), c.validateKeyColumns()}
	types, err := c.columnTypes()
	errs = append(errs, err)
	_, values := c.keyColumns()
	if c.Source.Format == formatRaw {
		for name, column := range values.Columns {
			if column.From != "" || column.Cast != "" || column.Epoch != "" {
				errs = append(errs, fmt.Errorf("table.columns.%s: messages of format raw have no fields to take by from, cast or epoch: use an expression over %s", name, c.Source.Raw.Column))
			}
		}
	}
	for name, column := range values.Columns {
		if cast, _, _, _ := decode.ParseCast(column.Cast); cast == decode.CastJSON && c.Source.Format != formatJSON {
			errs = append(errs, fmt.Errorf("table.columns.%s.cast: json takes the text of JSON messages, and source.format is %s: take the fields as columns", name, c.Source.Format))
		}
	}
	if err := errors.Join(errs...); err != nil || c.Table.Sink.Schema == "" && c.Table.SchemaFile == "" {
		return err
	}
	schema, err := c.createSchema()
	if err != nil {
		return nil //nolint:nilerr // validate tells it
	}
	for _, f := range schema.Fields() {
		dropped := c.Table.Decode.Columns[f.Name].Drop
		if t := types[f.Name]; t != nil && !dropped && !arrow.TypeEqual(t, f.Type) {
			errs = append(errs, fmt.Errorf("table.columns.%s.type is %s, but the new table's schema says %s: keep one of them", f.Name, typeText(t), typeText(f.Type)))
		}
	}
	cfg, _ := c.arriving(schema)
	made, err := columns.New(schema, cfg, types, c.Source.Format == formatJSON, generatedColumns(schema)...)
	if err == nil {
		_, err = decode.NewPlan(made.Schema(), made.Config())
	}
	return errors.Join(append(errs, err)...)
}

// generatedColumns are those that a new table of the schema computes.
func generatedColumns(schema *arrow.Schema) []int {
	var generated []int
	for i, f := range schema.Fields() {
		if delta.IsGenerated(f) {
			generated = append(generated, i)
		}
	}
	return generated
}

// newColumns are the columns of a new table for messages of a schema, without those of keys and Kafka's metadata.
func (c config) newColumns(ctx context.Context, f *format, messages *arrow.Schema) (*arrow.Schema, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	var others []arrow.Field
	if f.keys != nil {
		key, _, err := c.newKey(ctx, f)
		if err != nil {
			return nil, err
		}
		others = []arrow.Field{key}
	}
	if metadata, ok := c.Table.Decode.Metadata.Field(); ok {
		others = append(others, metadata)
	}
	_, cfg := c.keyColumns()
	if _, waiting := c.arriving(messages); len(waiting) > 0 {
		cfg.Columns = maps.Clone(cfg.Columns)
		for _, name := range waiting {
			if column := cfg.Columns[name]; column.Type == "" && (column.From == "" || messages.FieldIndices(column.From) == nil) {
				delete(cfg.Columns, name) // nothing tells yet what it is
			}
		}
	}
	return columns.NewTable(messages, cfg, types, others...)
}

// tellTypes lists where table.columns names another type than the table has, which counts, and what it says of columns that are to come.
func (c config) tellTypes(table *arrow.Schema, log *slog.Logger) {
	_, waiting := c.arriving(table)
	for _, name := range waiting {
		if near := misspelt(table, name, c.Table.Decode.Columns[name].From); near != "" {
			log.Warn("the table lacks a column of table.columns whose name, or from, is close to that of one that it has: is it misspelt?", "column", name, "near", near)
			continue
		}
		log.Info("the table lacks a column of table.columns, and gets it with the first messages that have the field", "column", name)
	}
	types, _ := c.columnTypes() // they were looked at
	for _, f := range table.Fields() {
		if t := types[f.Name]; t != nil && !c.Table.Decode.Columns[f.Name].Drop && !arrow.TypeEqual(t, f.Type) {
			log.Warn("the table's schema differs from the configured one; the table's counts",
				"difference", fmt.Sprintf("column %s is %s, and table.columns.%s.type is %s", f.Name, typeText(f.Type), f.Name, typeText(t)))
		}
	}
}

// minMisspelt is how long a name is at least that is looked at for slips: shorter ones are close to any.
const minMisspelt = 4

// misspelt is a column of the table, or a field in one, that an entry of table.columns may be meant for which is none; "" for none.
func misspelt(table *arrow.Schema, name, from string) string {
	there := fieldPaths(table.Fields(), "")
	for _, text := range []string{name, from} {
		if len(text) < minMisspelt || slices.Contains(there, text) {
			continue
		}
		if near := strictyaml.Nearest(text, there); near != "" {
			return near
		}
	}
	return ""
}

// fieldPaths are those of columns and of what is in structs.
func fieldPaths(fields []arrow.Field, prefix string) []string {
	var paths []string
	for _, f := range fields {
		paths = append(paths, prefix+f.Name)
		if t, ok := f.Type.(*arrow.StructType); ok {
			paths = append(paths, fieldPaths(t.Fields(), prefix+f.Name+".")...)
		}
	}
	return paths
}
