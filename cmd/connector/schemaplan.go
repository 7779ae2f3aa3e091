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
	"kafkadelta/decode/avro"
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
	var file, schema, output string
	cmd := &cobra.Command{
		Use:   "plan -c FILE [--schema NEW]",
		Short: "Show what messages of another schema would do to the table, before they come",
		Long: `plan compares the table with a schema: that of a file, or the latest one of the registry's subject. It tells which columns the table would
get, which types would get wider, and which messages could not become rows, under table.schema_evolution as it is configured.
Nothing is changed.

A schema's file is what table.schema_file takes: Avro (.avsc), JSON Schema (.json), Protobuf (.proto, .pb), Arrow (.arrow). What it refers to is
taken from the files beside it: a type of Avro from the .avsc that defines it, a $ref and an import by the file's name.

It ends with 5 where messages of the schema could not become rows, so that a pipeline of CI can stop a schema before it is registered.`,
		Example: `  connector schema plan -c orders.yaml
  connector schema plan -c orders.yaml --schema order-v2.avsc`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return &configError{fmt.Errorf("-o is %q: use text or json", output)}
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			changes, err := c.planSchema(cmd.Context(), schema, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			return showPlan(cmd.OutOrStdout(), output, c.Table.Sink.SchemaEvolution, changes)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file; - reads standard input (required)")
	cmd.Flags().StringVar(&schema, "schema", "", "file with the new schema; without it, the latest one of the registry's subject")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	must(cmd.MarkFlagRequired("config"))
	return cmd
}

// planSchema is what a new schema would do to the configured table.
func (c config) planSchema(ctx context.Context, file string, log *slog.Logger) ([]sink.Change, error) {
	messages, err := openFormat(ctx, c.Source, log)
	if err != nil {
		return nil, &configError{err}
	}
	defer messages.close()
	table, made, err := c.openPlanned(ctx, messages, file, log)
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
	named, _ := c.planOf(messages, layout) // where there is none, the plan for the next table tells why
	next, values, err := c.nextSchema(ctx, messages, file, c.given(layout.Schema), named)
	if err != nil {
		return nil, err
	}
	ofJSONSchema := values != next
	if c.Source.Format == formatJSON && !ofJSONSchema {
		values = arrow.NewSchema(textKeys(arrow.StructOf(values.Fields()...)).(*arrow.StructType).Fields(), nil)
	}
	metadata, _ := c.Table.Decode.Metadata.Field()
	filled := []string{metadata.Name, c.Source.Key.Column}
	have, misfit := columns.Fields(values, table.Shape().Schema(), c.Table.Decode, nil)
	if misfit != nil {
		return []sink.Change{{Kind: sink.ChangeBreaks, Detail: misfit.Error()}}, nil
	}
	want, misfit := c.ownFields(next, table.Shape().Schema())
	if want == nil {
		return nil, misfit
	}
	for name, column := range c.Table.Decode.Columns {
		if own := want.FieldIndices(name); len(own) == 0 && column != (decode.Column{Epoch: column.Epoch, Type: column.Type}) {
			filled = append(filled, name)
		}
	}
	for _, f := range table.Shape().Schema().Fields() {
		if variant.Is(f.Type) {
			filled = append(filled, f.Name)
		}
	}
	changes, later, err := sink.PlanEvolution(table.Shape(), time.Now, want, have, c.Table.Sink.SchemaEvolution, filled...)
	if err != nil {
		return nil, err
	}
	changes = append(made, c.judge(changes, ofJSONSchema)...)
	if misfit != nil {
		return append(changes, sink.Change{Kind: sink.ChangeBreaks, Detail: misfit.Error()}), nil
	}
	if misfit := c.fits(layout, later); misfit != nil && c.fitsColumns(layout) == nil {
		return append(changes, sink.Change{Kind: sink.ChangeBreaks, Detail: misfit.Error()}), nil
	}
	plan, err := c.planOf(messages, later)
	if err != nil && named != nil {
		return append(changes, sink.Change{Kind: sink.ChangeBreaks, Detail: err.Error()}), nil
	} else if err != nil {
		return nil, &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	if messages.values.compile == nil {
		return changes, nil
	}
	err = messages.values.compile(ctx, plan, file)
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

// planOf is how values become rows under a layout.
func (c config) planOf(messages *format, layout *sink.Layout) (*decode.Plan, error) {
	computed, err := c.columnsOf(layout)
	if err != nil {
		return nil, err
	}
	values, _, err := messages.plans(layout, computed)
	return values, err
}

// judge looks at what becomes of values whose column has another type. Those that a column takes, whatever they are, are left out: VARIANT takes any value. schema says that
// messages have a JSON Schema.
func (c config) judge(changes []sink.Change, schema bool) []sink.Change {
	var out []sink.Change
	for _, change := range changes {
		typed := (change.Kind == sink.ChangeChecks || change.Kind == sink.ChangeBreaks) && change.Detail == "" && change.Wanted != nil
		switch {
		case change.Wanted != nil && change.Wanted.ID() == arrow.NULL: // given: messages may have what no column can hold
			continue
		case typed && variant.Is(change.Table):
			continue
		case typed && c.Source.Format == formatJSON:
			if change.Kind = jsonFits(change.Table, change.Wanted, schema); change.Kind == "" {
				continue
			}
		}
		if change.Wanted != nil {
			change.Wanted = jsonschema.Column(change.Wanted)
		}
		out = append(out, change)
	}
	return out
}

// openPlanned opens the table. Where there is none yet, it is one in memory, as the start would make it, and its columns are told.
func (c config) openPlanned(ctx context.Context, messages *format, file string, log *slog.Logger) (table *delta.Table, made []sink.Change, err error) {
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
	next, _, err := c.nextSchema(ctx, messages, file, c.given(said), nil)
	if err != nil {
		return nil, nil, err
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

// nextSchema gives the columns of messages that are to come, by the names that a table with this plan, if there is one, has for them, and what their values are: of a JSON
// Schema, what jsonschema.ValueSchema tells.
func (c config) nextSchema(ctx context.Context, messages *format, file string, given decode.Given, table *decode.Plan) (next, values *arrow.Schema, err error) {
	switch {
	case file != "":
		next, err = fileSchema(file, given, func(s *avro.Schema) (*arrow.Schema, error) {
			return avro.MessageSchema(s, messages.reader, given, table)
		}, func(given decode.Given, text string, references ...jsonschema.Reference) (_ *arrow.Schema, err error) {
			if values, err = jsonschema.ValueSchema(given, text, references...); err != nil {
				return nil, err
			}
			return jsonschema.Columns(values), nil
		})
		if err != nil {
			return nil, nil, &configError{fmt.Errorf("--schema: %w", err)}
		}
	case messages.values.valueSchema != nil:
		if values, err = messages.values.valueSchema(ctx, given); err == nil {
			next = jsonschema.Columns(values)
		}
	case messages.values.tableSchema != nil:
		next, err = messages.values.tableSchema(ctx, given, table)
	default:
		err = &configError{errors.New("messages of this format tell no schema: name one with --schema")}
	}
	if values == nil {
		values = next
	}
	return next, values, err
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
