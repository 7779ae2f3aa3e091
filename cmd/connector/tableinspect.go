package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/delta"
	"kafkadelta/storage"
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
	Append           string            `json:"append"`
	Schema           string            `json:"schema"`
	PartitionColumns []string          `json:"partition_columns"`
	Properties       map[string]string `json:"properties"`
	Files            int64             `json:"files"`
	Rows             int64             `json:"rows"`
	FilesWithoutRows int64             `json:"files_without_row_count"`
	Bytes            int64             `json:"bytes"`
	Txns             []inspectedTxn    `json:"txns"`
	LogCheckpoint    *int64            `json:"last_log_checkpoint"`
	FileList         []inspectedFile   `json:"file_list,omitempty"` // printed one by one
}

type inspectedTxn struct {
	AppID       string `json:"app_id"`
	Version     int64  `json:"version"`
	LastUpdated *int64 `json:"last_updated_ms"`
}

// inspectedFile is a data file, with --files.
type inspectedFile struct {
	Path            string             `json:"path"`
	Size            int64              `json:"size"`
	Rows            *int64             `json:"rows"`
	PartitionValues map[string]*string `json:"partition_values"`
	DeletionVector  *inspectedDV       `json:"deletion_vector"`
}

type inspectedDV struct {
	StorageType string `json:"storage_type"`
	Cardinality int64  `json:"cardinality"`
}

// inspectFlags are what `table inspect` takes.
type inspectFlags struct {
	version           int64
	timestamp, output string
	files             bool
}

func tableInspectCommand(stores *storeFlags) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect URI",
		Short: "Show what is in a table, and how far its streams are",
		Long: `inspect shows one version of a table, the newest unless asked for another one. It reads the log alone and writes nothing,
also where the table can't be appended to.`,
		Example: `  connector table inspect ./data/web_requests
  connector table inspect ./data/web_requests --timestamp 2026-01-31T12:00:00Z
  connector table inspect ./data/web_requests --version 7 --files -o json | jq -r '.file_list[].path'`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.output != "text" && f.output != "json" {
				return &configError{fmt.Errorf("--output is %q: use text or json", f.output)}
			}
			if cmd.Flags().Changed("version") && f.version < 0 {
				return &configError{fmt.Errorf("--version is %d: use 0 or more", f.version)}
			}
			store, err := stores.open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			s, i, err := f.inspect(cmd.Context(), store, args[0])
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			switch {
			case f.output == "text":
				err = i.print(out)
			default:
				err = i.printJSON(out, f.files)
			}
			if err == nil && f.files {
				err = printFiles(cmd.Context(), out, s, f.output)
			}
			return errors.Join(err, out.Flush())
		},
	}
	cmd.Flags().Int64Var(&f.version, "version", -1, "version to show (default the newest)")
	cmd.Flags().StringVar(&f.timestamp, "timestamp", "", "show the version of this time: RFC 3339, a date (midnight UTC), or milliseconds since 1970")
	cmd.Flags().BoolVar(&f.files, "files", false, "list the data files too")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.MarkFlagsMutuallyExclusive("version", "timestamp")
	return cmd
}

// parseTimestamp reads what --timestamp takes. What has no zone is UTC.
func parseTimestamp(text string) (time.Time, error) {
	for _, form := range []string{time.RFC3339Nano, time.DateOnly, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	return time.Time{}, &configError{fmt.Errorf("--timestamp is %q: use RFC 3339 (2026-01-31T12:00:00Z), a date (2026-01-31), or milliseconds since 1970", text)}
}

// inspect reads the newest version of a table.
func inspect(ctx context.Context, store storage.Store, uri string) (inspection, error) {
	_, i, err := inspectFlags{version: -1}.inspect(ctx, store, uri)
	return i, err
}

func (f inspectFlags) inspect(ctx context.Context, store storage.Store, uri string) (*delta.Snapshot, inspection, error) {
	version := f.version
	if f.timestamp != "" {
		at, err := parseTimestamp(f.timestamp)
		if err != nil {
			return nil, inspection{}, err
		}
		if version, err = versionAt(ctx, store, at, time.Now()); err != nil {
			return nil, inspection{}, tableError("reading table "+open.Redact(uri), err)
		}
	}
	s, err := delta.OpenSnapshot(ctx, store, version)
	if err != nil {
		return nil, inspection{}, tableError("reading table "+open.Redact(uri), err)
	}
	i, err := inspectSnapshot(ctx, uri, s)
	return s, i, err
}

// versionAt is delta.VersionAt, but for times after the newest commit, up to now, it is that: nothing has come since.
func versionAt(ctx context.Context, store storage.Store, at, now time.Time) (int64, error) {
	version, err := delta.VersionAt(ctx, store, at)
	if !errors.Is(err, fs.ErrNotExist) || at.After(now) {
		return version, err
	}
	for newest, failed := range delta.History(ctx, store) {
		if failed == nil && newest.Time.Before(at) {
			return newest.Version, nil
		}
		break
	}
	return version, err
}

func inspectSnapshot(ctx context.Context, uri string, s *delta.Snapshot) (inspection, error) {
	totals, err := s.Totals(ctx)
	if err != nil {
		return inspection{}, tableError("reading the files of table "+open.Redact(uri), err)
	}
	m, p := s.Metadata(), s.Protocol()
	i := inspection{
		URI: open.Redact(uri), Version: s.Version(), TableID: m.ID, Name: m.Name, Comment: m.Description,
		MinReaderVersion: p.MinReaderVersion, MinWriterVersion: p.MinWriterVersion,
		ReaderFeatures: append([]string{}, p.ReaderFeatures...), WriterFeatures: append([]string{}, p.WriterFeatures...), Append: "supported",
		Schema: delta.FormatDDL(s.Schema()), PartitionColumns: append([]string{}, s.PartitionColumns()...), Properties: map[string]string{},
		Files: totals.Files, Rows: totals.Rows, FilesWithoutRows: totals.FilesWithoutRows, Bytes: totals.Bytes, Txns: []inspectedTxn{},
	}
	if err := s.CheckAppend(); err != nil {
		i.Append = "refused: " + err.Error()
	}
	maps.Copy(i.Properties, m.Configuration)
	for t := range s.Txns() {
		if t.Lasts() {
			t.LastUpdated = nil
		}
		i.Txns = append(i.Txns, inspectedTxn{t.AppID, t.Version, t.LastUpdated})
	}
	slices.SortFunc(i.Txns, func(a, b inspectedTxn) int { return strings.Compare(a.AppID, b.AppID) })
	if v, ok := s.LogCheckpoint(); ok {
		i.LogCheckpoint = &v
	}
	return i, nil
}

// printJSON leaves the object open for the files where they follow.
func (i inspection) printJSON(w io.Writer, filesFollow bool) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(i)
	text := b.Bytes()
	if filesFollow {
		text = append(bytes.TrimSuffix(text, []byte("\n}\n")), ",\n  \"file_list\": ["...)
	}
	_, err2 := w.Write(text)
	return errors.Join(err, err2)
}

// printFiles writes each file as it is read from the log, so that a list of any length needs no memory.
func printFiles(ctx context.Context, w io.Writer, s *delta.Snapshot, output string) error {
	if output == "text" {
		if _, err := fmt.Fprintln(w, "\npath\tsize\trows\tdeleted\tpartition values"); err != nil {
			return err
		}
	}
	separator := "\n    "
	for a, err := range s.Files(ctx) {
		if err != nil {
			return tableError("reading the files of the table", err)
		}
		f := fileOf(s, &a)
		if output == "text" {
			err = f.print(w, s.PartitionColumns())
		} else {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err = enc.Encode(f)
			_, err2 := fmt.Fprintf(w, "%s%s", separator, bytes.TrimSpace(b.Bytes()))
			err, separator = errors.Join(err, err2), ",\n    "
		}
		if err != nil {
			return err
		}
	}
	if output == "json" {
		_, err := fmt.Fprint(w, "\n  ]\n}\n")
		return err
	}
	return nil
}

func fileOf(s *delta.Snapshot, a *delta.Add) inspectedFile {
	f := inspectedFile{Path: a.Path, Size: a.Size, PartitionValues: s.PartitionValues(a)}
	if name, err := delta.DecodePath(a.Path); err == nil {
		f.Path = name
	}
	if rows, ok := a.NumRecords(); ok {
		f.Rows = &rows
	}
	if dv := a.DeletionVector; dv != nil {
		f.DeletionVector = &inspectedDV{dv.StorageType, dv.Cardinality}
		if f.Rows != nil {
			*f.Rows -= dv.Cardinality
		}
	}
	return f
}

// print writes the file as fields between tabs.
func (f inspectedFile) print(w io.Writer, columns []string) error {
	rows, deleted := "?", int64(0)
	if f.Rows != nil {
		rows = strconv.FormatInt(*f.Rows, 10)
	}
	if f.DeletionVector != nil {
		deleted = f.DeletionVector.Cardinality
	}
	var values []string
	for _, c := range columns {
		value := "null"
		if v := f.PartitionValues[c]; v != nil {
			value = *v
		}
		values = append(values, c+"="+value)
	}
	_, err := fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", printable(f.Path), f.Size, rows, deleted, printable(strings.Join(values, ", ")))
	return err
}

// printable quotes a text of the log that a terminal would take for more than text.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

func (i inspection) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
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
	line("append", "%s", i.Append)
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
