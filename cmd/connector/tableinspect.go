package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/delta"
	"kafkadelta/storage/open"
)

// Inspection is what `table inspect -o json` prints. Its field names are documented in docs/inspect.md and stay.
type inspection struct {
	URI              string            `json:"uri"`
	Version          int64             `json:"version"`
	TableID          string            `json:"table_id"`
	Name             string            `json:"name,omitzero"`
	Comment          string            `json:"comment,omitzero"`
	MinReaderVersion int               `json:"min_reader_version"`
	MinWriterVersion int               `json:"min_writer_version"`
	ReaderFeatures   []string          `json:"reader_features"`
	WriterFeatures   []string          `json:"writer_features"`
	Schema           string            `json:"schema"`
	PartitionColumns []string          `json:"partition_columns"`
	Properties       map[string]string `json:"properties"`
	Files            int64             `json:"files"`
	Rows             int64             `json:"rows"`
	FilesWithoutRows int64             `json:"files_without_row_count"`
	Bytes            int64             `json:"bytes"`
	Txns             []inspectedTxn    `json:"txns"`
	LogCheckpoint    *int64            `json:"last_log_checkpoint"`
}

type inspectedTxn struct {
	AppID       string `json:"app_id"`
	Version     int64  `json:"version"`
	LastUpdated *int64 `json:"last_updated_ms"`
}

func tableInspectCommand() *cobra.Command {
	var at int64
	var output string
	cmd := &cobra.Command{
		Use:   "inspect URI",
		Short: "Show what is in a table, and how far its streams are",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return &configError{fmt.Errorf("--output is %q: use text or json", output)}
			}
			if cmd.Flags().Changed("version") && at < 0 {
				return &configError{fmt.Errorf("--version is %d: use 0 or more", at)}
			}
			i, err := inspect(cmd.Context(), args[0], at)
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(i)
			}
			return i.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().Int64Var(&at, "version", -1, "version to show (default the newest)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func inspect(ctx context.Context, uri string, version int64) (inspection, error) {
	store, err := open.Open(ctx, uri)
	if err != nil {
		return inspection{}, &configError{err}
	}
	s, err := delta.OpenSnapshot(ctx, store, version)
	if err != nil {
		return inspection{}, tableError("reading table "+open.Redact(uri), err)
	}
	totals, err := s.Totals(ctx)
	if err != nil {
		return inspection{}, tableError("reading the files of table "+open.Redact(uri), err)
	}
	m, p := s.Metadata(), s.Protocol()
	i := inspection{
		URI: open.Redact(uri), Version: s.Version(), TableID: m.ID, Name: m.Name, Comment: m.Description,
		MinReaderVersion: p.MinReaderVersion, MinWriterVersion: p.MinWriterVersion,
		ReaderFeatures: append([]string{}, p.ReaderFeatures...), WriterFeatures: append([]string{}, p.WriterFeatures...),
		Schema: delta.FormatDDL(s.Schema()), PartitionColumns: append([]string{}, s.PartitionColumns()...), Properties: map[string]string{},
		Files: totals.Files, Rows: totals.Rows, FilesWithoutRows: totals.FilesWithoutRows, Bytes: totals.Bytes, Txns: []inspectedTxn{},
	}
	maps.Copy(i.Properties, m.Configuration)
	for t := range s.Txns() {
		i.Txns = append(i.Txns, inspectedTxn{t.AppID, t.Version, t.LastUpdated})
	}
	slices.SortFunc(i.Txns, func(a, b inspectedTxn) int { return strings.Compare(a.AppID, b.AppID) })
	if v, ok := s.LogCheckpoint(); ok {
		i.LogCheckpoint = &v
	}
	return i, nil
}

func (i inspection) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { _, _ = fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("table", "%s", i.URI)
	line("version", "%d", i.Version)
	line("id", "%s", i.TableID)
	if i.Comment != "" {
		line("comment", "%s", i.Comment)
	}
	line("protocol", "reader %d, writer %d", i.MinReaderVersion, i.MinWriterVersion)
	if features := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(i.ReaderFeatures), i.WriterFeatures...)))); len(features) > 0 {
		line("features", "%s", strings.Join(features, ", "))
	}
	line("schema", "%s", i.Schema)
	line("partitioned by", "%s", orNone(strings.Join(i.PartitionColumns, ", ")))
	for _, k := range slices.Sorted(maps.Keys(i.Properties)) {
		line("property", "%s=%s", k, i.Properties[k])
	}
	line("files", "%d", i.Files)
	rows := fmt.Sprint(i.Rows)
	if i.FilesWithoutRows > 0 {
		rows += fmt.Sprintf(", and those of %d files that do not tell", i.FilesWithoutRows)
	}
	line("rows", "%s", rows)
	line("bytes", "%d", i.Bytes)
	if i.LogCheckpoint != nil {
		line("log checkpoint", "version %d", *i.LogCheckpoint)
	} else {
		line("log checkpoint", "none")
	}
	for _, txn := range i.Txns {
		at := ""
		if txn.LastUpdated != nil {
			at = "  (" + time.UnixMilli(*txn.LastUpdated).UTC().Format(time.RFC3339) + ")"
		}
		line("txn", "%s = %d%s", txn.AppID, txn.Version, at)
	}
	return t.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
