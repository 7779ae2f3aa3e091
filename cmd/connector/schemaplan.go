package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/delta"
	"kafkadelta/delta/variant"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

func schemaCommand() *cobra.Command {
	cmd := groupCommand("schema", "What a schema of messages means for a table")
	cmd.AddCommand(schemaPlanCommand())
	return cmd
}

func schemaPlanCommand() *cobra.Command {
	var file, output string
	var schemas nextSchemas
	cmd := &cobra.Command{
		Use:   "plan -c FILE [--schema NEW] [--key-schema NEW]",
		Short: "Show what messages of another schema would do to the table, before they come",
		Long: `plan compares the table with a schema: that of a file, or the latest one of the registry's subject. It tells which columns the table would
get, which types would get wider, and which messages could not become rows, under table.schema_evolution as it is configured.
Nothing is changed.

--schema is for a schema of values, --key-schema for one of keys. With one of them the plan is for that one alone; with neither it is for the latest ones of both
subjects, where keys are decoded by a registry.

A schema's file is what table.schema_file takes: Avro (.avsc), JSON Schema (.json), Protobuf (.proto, .pb), Arrow (.arrow). What it refers to is
taken from the files beside it: a type of Avro from the .avsc that defines it, a $ref and an import by the file's name.

It ends with 5 where messages of the schema could not become rows, so that a pipeline of CI can stop a schema before it is registered.`,
		Example: `  connector schema plan -c orders.yaml
  connector schema plan -c orders.yaml --schema order-v2.avsc
  connector schema plan -c orders.yaml --key-schema order-key-v2.avsc`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return &configError{fmt.Errorf("-o is %q: use text or json", output)}
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			changes, err := c.planSchema(cmd.Context(), schemas, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			return showPlan(cmd.OutOrStdout(), output, c.Table.Sink.SchemaEvolution, changes)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file; - reads standard input (required)")
	cmd.Flags().StringVar(&schemas.values, "schema", "", "file with the new schema of values; without one for keys either, the latest ones of the registry's subjects")
	cmd.Flags().StringVar(&schemas.keys, "key-schema", "", "file with the new schema of keys")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	must(cmd.MarkFlagRequired("config"))
	return cmd
}

// nextSchemas are the schemas to plan for: files, or the latest ones of the registry's subjects where neither is named.
type nextSchemas struct{ values, keys string }

// sides are those that there is a schema for: of a file, or else the latest ones.
func (n nextSchemas) sides(c config, messages *format) (values, keys bool, err error) {
	switch {
	case n.keys != "" && messages.keys == nil:
		return false, false, &configError{errors.New("--key-schema is for keys that are decoded: say in source.key.format what they are")}
	case n.keys != "" && (c.Source.Key.Format == formatString || c.Source.Key.Format == formatBinary):
		return false, false, &configError{fmt.Errorf("--key-schema: keys of source.key.format %s are kept as they are, and have no schema: leave it out", c.Source.Key.Format)}
	case n != nextSchemas{}:
		return n.values != "", n.keys != "", nil
	}
	values, keys = messages.values.schema != nil, messages.keys != nil && c.Source.Key.byRegistry()
	if !values && !keys {
		err = &configError{errors.New("messages of this format tell no schema: name one with --schema, or of keys with --key-schema")}
	}
	return values, keys, err
}

// planSchema is what new schemas would do to the configured table.
func (c config) planSchema(ctx context.Context, files nextSchemas, log *slog.Logger) ([]sink.Change, error) {
	messages, err := openFormat(ctx, c.Source, log)
	if err != nil {
		return nil, &configError{err}
	}
	defer messages.close()
	ofValues, ofKeys, err := files.sides(c, messages)
	if err != nil {
		return nil, err
	}
	messages.values.of("--schema", files.values)
	if messages.keys != nil {
		messages.keys.of("--key-schema", files.keys)
	}
	table, changes, err := c.openPlanned(ctx, messages, log)
	if err != nil {
		return nil, err
	}
	if err := table.CheckAppend(); err != nil {
		return nil, tableError("opening the table", err)
	}
	layout, err := sink.LayoutOf(table.Shape(), time.Now)
	if err != nil {
		return nil, err
	}
	plan := planned{c, messages, table, layout}
	if ofValues {
		if changes, err = plan.values(ctx, files.values, changes); err != nil {
			return nil, err
		}
	}
	if ofKeys {
		changes, err = plan.keys(ctx, files.keys, changes)
	}
	return changes, err
}

// of has the schema of a file, if one is named, in the place of the latest one.
func (s *side) of(flag, file string) {
	if file == "" {
		return
	}
	s.schema = func(_ context.Context, given decode.Given, table *decode.Plan) (columns, values *arrow.Schema, err error) {
		if columns, values, err = s.file(file, given, table); err != nil {
			err = &configError{fmt.Errorf("%s: %w", flag, err)}
		}
		return columns, values, err
	}
}

// planned is what is planned for.
type planned struct {
	config
	messages *format
	table    *delta.Table
	layout   *sink.Layout
}

// values adds what the next schema of values does.
func (p planned) values(ctx context.Context, file string, changes []sink.Change) ([]sink.Change, error) {
	metadata, _ := p.Table.Decode.Metadata.Field()
	filled := []string{metadata.Name}
	if p.messages.keys != nil {
		filled = append(filled, p.messages.key)
	}
	planOf := func(layout *sink.Layout) (*decode.Plan, error) {
		values, _, err := p.plansOf(p.messages, layout)
		return values, err
	}
	return p.side(ctx, &p.messages.values, file, p.Source.Format == formatJSON, p.ownFields, planOf, filled, changes)
}

// keys adds what the next schema of keys does.
func (p planned) keys(ctx context.Context, file string, changes []sink.Change) ([]sink.Change, error) {
	var filled []string
	for _, f := range p.layout.Schema.Fields() {
		if f.Name != p.messages.key {
			filled = append(filled, f.Name)
		}
	}
	planOf := func(layout *sink.Layout) (*decode.Plan, error) {
		_, keys, err := p.plansOf(p.messages, layout)
		return keys, err
	}
	return p.side(ctx, p.messages.keys, file, p.Source.Key.Format == formatJSON, p.keyFields, planOf, filled, changes)
}

// side adds what the next schema of values, or of keys, does. fields are what they fill of the table, filled what they don't.
func (p planned) side(ctx context.Context, s *side, file string, ofJSON bool, fields func(messages, table *arrow.Schema) (*arrow.Schema, error),
	planOf func(*sink.Layout) (*decode.Plan, error), filled []string, changes []sink.Change,
) ([]sink.Change, error) {
	breaks := func(misfit error) ([]sink.Change, error) {
		return append(changes, sink.Change{Kind: sink.ChangeBreaks, Detail: misfit.Error()}), nil
	}
	named, _ := planOf(p.layout) // where there is none, the plan for the next table tells why
	next, values, err := s.schema(ctx, p.given(p.layout.Schema), named)
	if err != nil {
		return nil, err
	}
	ofJSONSchema := values != next
	if ofJSON && !ofJSONSchema {
		values = arrow.NewSchema(textKeys(arrow.StructOf(values.Fields()...)).(*arrow.StructType).Fields(), nil)
	}
	have, misfit := columns.Fields(values, p.layout.Schema, p.Table.Decode, nil)
	if misfit != nil {
		return breaks(misfit)
	}
	want, misfit := fields(next, p.layout.Schema)
	if want == nil {
		return nil, misfit
	}
	for name, column := range p.Table.Decode.Columns {
		if own := want.FieldIndices(name); len(own) == 0 && column != (decode.Column{Epoch: column.Epoch, Type: column.Type}) {
			filled = append(filled, name)
		}
	}
	for _, f := range p.layout.Schema.Fields() {
		if variant.Is(f.Type) {
			filled = append(filled, f.Name)
		}
	}
	found, later, err := sink.PlanEvolution(p.table.Shape(), time.Now, want, have, p.Table.Sink.SchemaEvolution, filled...)
	if err != nil {
		return nil, err
	}
	changes = append(changes, judge(found, ofJSON, ofJSONSchema)...)
	if misfit != nil {
		return breaks(misfit)
	}
	if misfit := p.fits(p.layout, later); misfit != nil && p.fitsColumns(p.layout) == nil {
		return breaks(misfit)
	}
	plan, err := planOf(later)
	if err != nil && named != nil {
		return breaks(err)
	} else if err != nil {
		return nil, &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	if s.compile == nil {
		return changes, nil
	}
	err = s.compile(ctx, plan, file)
	if misfit, ok := errors.AsType[*decode.Mismatch](err); ok {
		err = nil
		misfits := append([]*decode.Mismatch{misfit}, misfit.Others...)
		changes = slices.DeleteFunc(changes, func(c sink.Change) bool {
			return c.Kind != sink.ChangeAdds && slices.ContainsFunc(misfits, func(m *decode.Mismatch) bool { return m.Path == c.Path })
		})
		for _, m := range misfits {
			changes = append(changes, sink.Change{Kind: sink.ChangeBreaks, Path: m.Path, Detail: m.Detail})
		}
	}
	return changes, err
}

// plansOf are how messages become rows under a layout.
func (c config) plansOf(messages *format, layout *sink.Layout) (values, keys *decode.Plan, err error) {
	computed, err := c.columnsOf(layout)
	if err != nil {
		return nil, nil, err
	}
	return messages.plans(layout, computed)
}

// judge looks at what becomes of values whose column has another type. Those that a column takes, whatever they are, are left out: VARIANT takes any value. json says that
// messages are JSON, and schema that they have a JSON Schema.
func judge(changes []sink.Change, json, schema bool) []sink.Change {
	var out []sink.Change
	for _, change := range changes {
		typed := (change.Kind == sink.ChangeChecks || change.Kind == sink.ChangeBreaks) && change.Detail == "" && change.Wanted != nil
		switch {
		case change.Wanted != nil && change.Wanted.ID() == arrow.NULL: // given: messages may have what no column can hold
			continue
		case typed && variant.Is(change.Table):
			continue
		case typed && json && change.MapKey:
			change.Kind = jsonKeyFits(change.Table, change.Wanted)
		case typed && json:
			change.Kind = jsonFits(change.Table, change.Wanted, schema)
		}
		if change.Kind == "" {
			continue
		}
		if change.Wanted != nil {
			change.Wanted = jsonschema.Column(change.Wanted)
		}
		out = append(out, change)
	}
	return out
}

// openPlanned opens the table. Where there is none yet, it is one in memory, as the start would make it, and its columns are told.
func (c config) openPlanned(ctx context.Context, messages *format, log *slog.Logger) (table *delta.Table, made []sink.Change, err error) {
	store, err := openStore(ctx, c.tableURI(), c.Storage, nil)
	if err != nil {
		return nil, nil, &configError{fmt.Errorf("table.uri: %w", err)}
	}
	table, err = delta.Open(ctx, store, delta.Options{Now: time.Now, Engine: engine()})
	if err == nil {
		return table, nil, nil
	}
	if !errors.Is(err, delta.ErrNotTable) || c.Table.Sink.Create == sink.CreateNever {
		return nil, nil, tableError("opening the table", err)
	}
	log.Info("there is no table yet: the plan is for the one that the start makes")
	said, err := c.configuredSchema()
	if err != nil {
		return nil, nil, &configError{err}
	}
	var next *arrow.Schema
	switch {
	case said != nil:
	case messages.values.schema == nil:
		return nil, nil, &configError{errors.New("messages of this format tell no schema, of which the table would be made: name one with --schema")}
	default:
		if next, _, err = messages.values.schema(ctx, c.given(nil), nil); err != nil {
			return nil, nil, err
		}
	}
	return c.plannedTable(ctx, messages, next)
}

// plannedTable makes the table in memory, as the start would make it, and tells its columns.
func (c config) plannedTable(ctx context.Context, messages *format, next *arrow.Schema) (*delta.Table, []sink.Change, error) {
	schema, err := c.configuredSchema()
	if err == nil && schema == nil {
		schema, err = c.newColumns(ctx, messages, next)
	}
	if err == nil && messages.keys != nil && c.Table.Sink.Schema == "" {
		schema, err = c.withKey(ctx, messages, schema)
	}
	if err == nil {
		schema, err = c.withMetadata(schema)
	}
	if err != nil {
		return nil, nil, &configError{fmt.Errorf("making the table: %w", err)}
	}
	var made []sink.Change
	for _, f := range schema.Fields() {
		made = append(made, sink.Change{Kind: sink.ChangeAdds, Path: f.Name, Wanted: f.Type})
	}
	shadow := memory.New()
	if _, err := sink.Open(ctx, shadow, c.Table.Sink, sink.Options{Name: c.Name, Create: schema, Engine: engine(), Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, nil, err
	}
	table, err := delta.Open(ctx, shadow, delta.Options{Now: time.Now, Engine: engine()})
	if err != nil {
		err = tableError("making the table", err)
	}
	return table, made, err
}

// brokenError says that messages of a planned schema could not become rows.
type brokenError struct{ n int }

func (e *brokenError) Error() string {
	if e.n == 1 {
		return "messages of this schema could not become rows: one thing about it does not fit the table"
	}
	return fmt.Sprintf("messages of this schema could not become rows: %d things about it do not fit the table", e.n)
}

// typeText spells a type as DDL does.
func typeText(t arrow.DataType) string {
	return strings.TrimPrefix(delta.FormatDDL(arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: true}}, nil)), "c ")
}

// planLine is a change as it is shown.
type planLine struct {
	Change  sink.ChangeKind `json:"change"`
	Column  string          `json:"column,omitempty"`
	Table   string          `json:"table_type,omitempty"`
	Message string          `json:"message_type,omitempty"`
	Detail  string          `json:"detail,omitempty"`
}

func (l planLine) text(how sink.Evolution) string {
	types := fmt.Sprintf("it is %s in the table, and messages have %s", l.Table, l.Message)
	subject := ""
	if l.Column != "" {
		subject = "column " + l.Column + ": "
	}
	switch l.Change {
	case sink.ChangeAdds:
		return fmt.Sprintf("adds     column %s %s", l.Column, l.Message)
	case sink.ChangeWidens:
		return fmt.Sprintf("widens   column %s from %s to %s", l.Column, l.Table, l.Message)
	case sink.ChangeIgnores:
		return fmt.Sprintf("ignores  field %s %s: the table has no column for it, and table.schema_evolution is %s", l.Column, l.Message, how)
	case sink.ChangeChecks:
		return fmt.Sprintf("checks   %s%s: what does not fit is poison", subject, cmp.Or(l.Detail, types))
	case sink.ChangeBreaks:
		return fmt.Sprintf("BREAKS   %s%s: all such messages are poison", subject, cmp.Or(l.Detail, types))
	}
	return string(l.Change)
}

func showPlan(w io.Writer, output string, how sink.Evolution, changes []sink.Change) error {
	broken := 0
	lines := []planLine{}
	for _, c := range changes {
		l := planLine{Change: c.Kind, Column: c.Path, Detail: c.Detail}
		if c.Table != nil {
			l.Table = typeText(c.Table)
		}
		if c.Wanted != nil {
			l.Message = typeText(c.Wanted)
		}
		if c.Kind == sink.ChangeBreaks {
			broken++
		}
		lines = append(lines, l)
	}
	if output == "json" {
		if err := printIndented(w, map[string]any{"schema_evolution": how, "changes": lines}); err != nil {
			return err
		}
	} else {
		for _, l := range lines {
			if _, err := fmt.Fprintln(w, printable(l.text(how))); err != nil {
				return err
			}
		}
		if len(lines) == 0 {
			if _, err := fmt.Fprintln(w, "nothing: the table takes messages of this schema as it is"); err != nil {
				return err
			}
		}
	}
	if broken > 0 {
		return &brokenError{broken}
	}
	return nil
}
