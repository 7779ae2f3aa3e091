package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kafkadelta/delta"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// inspectedVersion is an entry of what `table history -o json` prints. Its field names are documented in docs/table.md and
// stay.
type inspectedVersion struct {
	Version       int64        `json:"version"`
	Time          string       `json:"time"`
	Operation     string       `json:"operation"`
	Engine        string       `json:"engine"`
	Rows          int64        `json:"rows"`
	FilesAdded    int64        `json:"files_added"`
	FilesRemoved  int64        `json:"files_removed"`
	Bytes         int64        `json:"bytes"`
	ChangesSchema bool         `json:"changes_schema"`
	Txns          []versionTxn `json:"txns"`
}

type versionTxn struct {
	AppID   string `json:"app_id"`
	Version int64  `json:"version"`
}

func tableHistoryCommand(stores *storeFlags) *cobra.Command {
	var limit int64
	var output string
	cmd := &cobra.Command{
		Use:   "history URI",
		Short: "Show who made a table's versions, and with what",
		Long: `history shows the newest versions of a table, the newest first: when and by which operation of which engine each was made,
the rows, files and bytes that it added, the files that it took away, and the txns that it moved. It reads the log alone,
as far back as the log was not cleaned.`,
		Example: `  connector table history ./data/web_requests --limit 5
  connector table history ./data/web_requests --limit 0 -o json | jq '.[] | select(.operation == "RESTORE")'`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case output != "text" && output != "json":
				return &configError{fmt.Errorf("--output is %q: use text or json", output)}
			case limit < 0:
				return &configError{fmt.Errorf("--limit is %d: use 1 or more, or 0 for all", limit)}
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			p := printHistoryText
			if output == "json" {
				p = printHistoryJSON
			}
			store, err := stores.open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return errors.Join(history(cmd.Context(), store, args[0], limit, p(out)), out.Flush())
		},
	}
	cmd.Flags().Int64Var(&limit, "limit", 20, "how many versions to show; 0 for all")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// history hands the newest versions to show, one by one, and then nil for the end, also where an error comes after some.
func history(ctx context.Context, store storage.Store, uri string, limit int64, show func(*inspectedVersion) error) error {
	shown := int64(0)
	for e, err := range delta.History(ctx, store) {
		if err != nil {
			err = tableError("reading table "+open.Redact(uri), err)
			if shown > 0 {
				err = cmp.Or(show(nil), err)
			}
			return err
		}
		if err := show(versionOf(e)); err != nil {
			return err
		}
		if shown++; shown == limit {
			break
		}
	}
	return show(nil)
}

func versionOf(e delta.HistoryEntry) *inspectedVersion {
	v := &inspectedVersion{
		Version: e.Version, Time: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), Rows: e.AddedRows, FilesAdded: e.AddedFiles,
		FilesRemoved: e.RemovedFiles, Bytes: e.AddedBytes, ChangesSchema: e.ChangesSchema, Txns: []versionTxn{},
	}
	if e.Info != nil {
		v.Operation, v.Engine = e.Info.Operation, e.Info.EngineInfo
	}
	for _, t := range e.Txns {
		v.Txns = append(v.Txns, versionTxn{t.AppID, t.Version})
	}
	return v
}

// printHistoryJSON writes an array with one version a line.
func printHistoryJSON(w io.Writer) func(*inspectedVersion) error {
	separator := "[\n  "
	return func(v *inspectedVersion) error {
		if v == nil {
			end := "\n]\n"
			if separator != ",\n  " {
				end = "[]\n"
			}
			_, err := io.WriteString(w, end)
			return err
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(v)
		_, err2 := fmt.Fprintf(w, "%s%s", separator, bytes.TrimSpace(b.Bytes()))
		separator = ",\n  "
		return errors.Join(err, err2)
	}
}

const (
	alignedVersions = 1000 // lines that are aligned with each other; more would have to be in memory
	shownTxns       = 4    // of one version in a line of text
)

func printHistoryText(w io.Writer) func(*inspectedVersion) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	lines := 0
	return func(v *inspectedVersion) error {
		if v == nil {
			return t.Flush()
		}
		if lines%alignedVersions == 0 {
			if err := t.Flush(); err != nil {
				return err
			}
			_, _ = fmt.Fprintln(t, "version\ttime\toperation\tengine\trows\tfiles\tbytes\ttxns") // Flush tells errors
		}
		lines++
		files := fmt.Sprintf("+%d", v.FilesAdded)
		if v.FilesRemoved > 0 {
			files += fmt.Sprintf(" -%d", v.FilesRemoved)
		}
		_, err := fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", v.Version, v.Time, orDash(v.Operation), orDash(v.Engine), v.Rows, files, v.Bytes, v.txnText())
		return err
	}
}

func (v *inspectedVersion) txnText() string {
	var texts []string
	for i, t := range v.Txns {
		if i == shownTxns {
			texts = append(texts, fmt.Sprintf("and %d more", len(v.Txns)-shownTxns))
			break
		}
		texts = append(texts, fmt.Sprintf("%s=%d", printable(t.AppID), t.Version))
	}
	return orDash(strings.Join(texts, ", "))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
