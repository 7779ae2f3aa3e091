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
	made, err := columns.New(layout.Schema, c.Table.Decode, types)
	if err != nil {
		return nil, err
	}
	for _, name := range made.Reads() {
		if at := layout.Schema.FieldIndices(name); len(at) > 0 && layout.Rules.Generates(at[0]) {
			return nil, fmt.Errorf("columns: an expression reads %s, which the table computes later: read what it is generated from", name)
		}
	}
	return made, nil
}

// validateColumns checks what table.columns and table.filter say, as far as that can be done without a table.
func (c config) validateColumns() error {
	errs := []error{c.Table.Decode.Validate(), columns.Validate(c.Table.Decode)}
	types, err := c.columnTypes()
	errs = append(errs, err)
	if c.Source.Format == formatRaw {
		for name, column := range c.Table.Decode.Columns {
			if column.From != "" || column.Cast != "" || column.Epoch != "" {
				errs = append(errs, fmt.Errorf("table.columns.%s: messages of format raw have no fields to take by from, cast or epoch: use an expression over %s", name, c.Source.Raw.Column))
			}
		}
	}
	for name, column := range c.Table.Decode.Columns {
		if cast, _, _, _ := decode.ParseCast(column.Cast); cast == decode.CastJSON && c.Source.Format != formatJSON {
			errs = append(errs, fmt.Errorf("table.columns.%s.cast: json takes the text of JSON messages, and source.format is %s: take the fields as columns", name, c.Source.Format))
		}
	}
	if key, ok := c.Table.Decode.Columns[c.Source.Key.Column]; ok && c.Source.Key.Format != "" && (key.Computed() || key.Drop) {
		errs = append(errs, fmt.Errorf("table.columns.%s: it is the column of the keys: name another one in source.key.column", c.Source.Key.Column))
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
	made, err := columns.New(schema, c.Table.Decode, types)
	if err == nil {
		_, err = decode.NewPlan(made.Schema(), made.Config())
	}
	return errors.Join(append(errs, err)...)
}

// newColumns are the columns of a new table for messages of a schema, without those of keys and Kafka's metadata.
func (c config) newColumns(ctx context.Context, f *format, messages *arrow.Schema) (*arrow.Schema, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	var others []arrow.Field
	if f.newKey != nil {
		key, err := f.withKey(ctx, arrow.NewSchema(nil, nil))
		if err != nil {
			return nil, err
		}
		others = key.Fields()
	}
	if metadata, ok := c.Table.Decode.Metadata.Field(); ok {
		others = append(others, metadata)
	}
	return columns.NewTable(messages, c.Table.Decode, types, others...)
}

// tellTypes lists where table.columns names another type than the table has, which counts.
func (c config) tellTypes(table *arrow.Schema, log *slog.Logger) {
	types, _ := c.columnTypes() // they were looked at
	for _, f := range table.Fields() {
		if t := types[f.Name]; t != nil && !c.Table.Decode.Columns[f.Name].Drop && !arrow.TypeEqual(t, f.Type) {
			log.Warn("the table's schema differs from the configured one; the table's counts",
				"difference", fmt.Sprintf("column %s is %s, and table.columns.%s.type is %s", f.Name, typeText(f.Type), f.Name, typeText(t)))
		}
	}
}
