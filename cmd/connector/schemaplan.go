package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"kafkadelta/decode"
	"kafkadelta/delta"
	"kafkadelta/sink"
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

A schema's file is what table.schema_file takes: Avro (.avsc), JSON Schema (.json), Protobuf (.proto, .pb), Arrow (.arrow).

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
	want, err := c.nextSchema(ctx, messages, file)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, c.Table.Sink.URI, c.Storage, nil)
	if err != nil {
		return nil, &configError{fmt.Errorf("table.uri: %w", err)}
	}
	table, err := delta.Open(ctx, store, delta.Options{Now: time.Now, Engine: engine()})
	if err != nil {
		return nil, tableError("opening the table", err)
	}
	if err := table.CheckAppend(); err != nil {
		return nil, tableError("opening the table", err)
	}
	metadata, _ := c.Table.Decode.Metadata.Field()
	filled := []string{metadata.Name, c.Source.Key.Column}
	want, misfit := c.ownFields(want, table.Shape().Schema())
	if want == nil {
		return []sink.Change{{Kind: sink.ChangeBreaks, Detail: misfit.Error()}}, nil
	}
	for name, column := range c.Table.Decode.Columns {
		if own := want.FieldIndices(name); len(own) == 0 && column != (decode.Column{Epoch: column.Epoch, Type: column.Type}) {
			filled = append(filled, name)
		}
	}
	changes, layout, err := sink.PlanEvolution(table.Shape(), time.Now, want, c.Table.Sink.SchemaEvolution, filled...)
	if err != nil {
		return nil, err
	}
	if misfit != nil {
		return append(changes, sink.Change{Kind: sink.ChangeBreaks, Detail: misfit.Error()}), nil
	}
	var plan *decode.Plan
	made, err := c.columnsOf(layout)
	if err == nil {
		plan, err = messages.plan(layout, made)
	}
	if err != nil {
		return nil, &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	if messages.compile == nil {
		return changes, nil
	}
	err = messages.compile(ctx, plan, file)
	if misfit, ok := errors.AsType[*decode.Mismatch](err); ok {
		err = nil
		changes = slices.DeleteFunc(changes, func(c sink.Change) bool { return c.Path == misfit.Path && c.Kind != sink.ChangeAdds })
		changes = append(changes, sink.Change{Kind: sink.ChangeBreaks, Path: misfit.Path, Detail: misfit.Error()})
	}
	return changes, err
}

// nextSchema gives the columns of messages that are to come.
func (c config) nextSchema(ctx context.Context, messages *format, file string) (*arrow.Schema, error) {
	if file != "" {
		schema, err := fileSchema(file)
		if err != nil {
			return nil, &configError{fmt.Errorf("--schema: %w", err)}
		}
		return schema, nil
	}
	if messages.tableSchema == nil {
		return nil, &configError{errors.New("messages of this format tell no schema: name one with --schema")}
	}
	return messages.tableSchema(ctx)
}

// brokenError says that messages of a planned schema could not become rows.
type brokenError struct{ n int }

func (e *brokenError) Error() string {
	return fmt.Sprintf("messages of this schema could not become rows: %d of its columns do not fit the table", e.n)
}

// typeText spells a type as DDL does.
func typeText(t arrow.DataType) string {
	return strings.TrimPrefix(delta.FormatDDL(arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: true}}, nil)), "c ")
}

func showPlan(w io.Writer, output string, how sink.Evolution, changes []sink.Change) error {
	broken := 0
	type line struct {
		Change  sink.ChangeKind `json:"change"`
		Column  string          `json:"column,omitempty"`
		Table   string          `json:"table_type,omitempty"`
		Message string          `json:"message_type,omitempty"`
		Detail  string          `json:"detail,omitempty"`
	}
	lines := []line{}
	for _, c := range changes {
		l := line{Change: c.Kind, Column: c.Path, Detail: c.Detail}
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
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"schema_evolution": how, "changes": lines}); err != nil {
			return err
		}
	} else {
		for _, l := range lines {
			text := map[sink.ChangeKind]string{
				sink.ChangeAdds:   fmt.Sprintf("adds    %s %s", l.Column, l.Message),
				sink.ChangeWidens: fmt.Sprintf("widens  %s from %s to %s", l.Column, l.Table, l.Message),
				sink.ChangeLeaves: fmt.Sprintf("leaves  %s %s: the table has no such column, and table.schema_evolution is %s", l.Column, l.Message, how),
				sink.ChangeJudges: fmt.Sprintf("judges  %s: it is %s, messages have %s; a value that does not fit is poison", l.Column, l.Table, l.Message),
				sink.ChangeBreaks: fmt.Sprintf("BREAKS  %s: it is %s, messages have %s", l.Column, l.Table, l.Message),
			}[l.Change]
			if l.Detail != "" {
				text = map[sink.ChangeKind]string{sink.ChangeJudges: "judges  ", sink.ChangeBreaks: "BREAKS  "}[l.Change] + l.Detail
			}
			if _, err := fmt.Fprintln(w, text); err != nil {
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
