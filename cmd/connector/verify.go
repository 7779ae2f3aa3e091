package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/admin"
	"kafkadelta/source"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// faultsError says that a verification found faults, unverifiedError that it could not check everything. The report has been
// printed.
type (
	faultsError     struct{ faults int64 }
	unverifiedError struct{ doubts int }
)

func (e *faultsError) Error() string {
	return fmt.Sprintf("verification found faults: %d; the report says which, docs/verify.md what to do", e.faults)
}

func (e *unverifiedError) Error() string {
	return fmt.Sprintf("no fault was found, but not everything can be verified: %d things; the report says which, docs/verify.md why", e.doubts)
}

// targetFlags say which table is looked at, and which Kafka.
type targetFlags struct {
	config, table, topic, column string
	brokers                      []string
	tableOnly                    bool
	output                       string
}

func (f *targetFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file of the stream; with --table only its storage section counts")
	cmd.Flags().StringVar(&f.table, "table", "", "URI of the table, instead of the configuration's")
	cmd.Flags().StringSliceVar(&f.brokers, "brokers", nil, "with --table: compare with this Kafka, host:port")
	cmd.Flags().StringVar(&f.topic, "topic", "", "topic, where the table has rows of several")
	cmd.Flags().BoolVar(&f.tableOnly, "table-only", false, "don't ask Kafka although the configuration names it")
	cmd.Flags().StringVar(&f.column, "metadata-column", "", "with --table: column with the messages' partition and offset (default "+admin.DefaultColumn+")")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.MarkFlagsOneRequired("config", "table")
	cmd.MarkFlagsMutuallyExclusive("brokers", "table-only")
}

// target is what the flags have named.
type target struct {
	uri   string
	store storage.Store
	kafka *kafkaOf // nil: the table alone
	opts  admin.Options
	many  *config // of a stream whose rows are in many tables, of which the store is the catalog; else nil
}

func (t *target) close() {
	if t.kafka != nil {
		t.kafka.inspector.Close()
	}
}

// open opens what the flags name.
func (f *targetFlags) open(ctx context.Context) (*target, error) {
	if f.output != "text" && f.output != "json" {
		return nil, &configError{fmt.Errorf("--output is %q: use text or json", f.output)}
	}
	t := &target{uri: f.table, opts: admin.Options{Column: f.column, Topic: f.topic, Since: -1, Until: -1}}
	c := defaultConfig()
	switch {
	case f.table == "":
		var err error
		if c, err = loadConfig(f.config); err != nil {
			return nil, err
		}
		if len(f.brokers) > 0 {
			return nil, &configError{errors.New("--brokers is for --table: with -c alone, the configuration names the brokers")}
		}
		if t.uri = c.tableURI(); c.divided() {
			t.many = &c
		}
		if t.opts.Topic == "" {
			t.opts.Topic = c.Source.Kafka.Topic
		}
		if t.opts.Column == "" {
			t.opts.Column = c.Table.Decode.Metadata.Column
		}
	case f.config != "":
		var err error
		if c, err = storageOnly(f.config); err != nil {
			return nil, err
		}
	}
	var err error
	if t.store, err = openStore(ctx, t.uri, c.Storage, nil); err != nil {
		return nil, &configError{err}
	}
	if f.table == "" && c.DeadLetters.URI != "" {
		if t.opts.Letters, err = c.deadLetterStore(ctx); err != nil {
			return nil, err
		}
	}
	if f.table != "" {
		c.Source.Kafka = source.DefaultConfig()
		c.Source.Kafka.Brokers, c.Source.Kafka.Topic = f.brokers, f.topic
		f.tableOnly = len(f.brokers) == 0
	}
	if f.tableOnly {
		return t, nil
	}
	if c.Source.Kafka.Topic == "" {
		return nil, &configError{errors.New("--brokers needs --topic: name the topic that the table is filled from")}
	}
	if err := errors.Join(c.Source.Kafka.Validate(), c.Source.Kafka.CheckSecrets()); err != nil {
		return nil, &configError{err}
	}
	inspector, err := source.NewInspector(c.Source.Kafka)
	if err != nil {
		return nil, err
	}
	t.kafka = &kafkaOf{inspector}
	t.opts.Kafka = t.kafka
	return t, nil
}

// kafkaOf is what admin asks of Kafka, of one topic.
type kafkaOf struct{ inspector *source.Inspector }

func (k *kafkaOf) Topic(ctx context.Context, _ string) (admin.KafkaTopic, error) {
	x, err := k.inspector.Inspect(ctx)
	return admin.KafkaTopic{Identity: x.Identity, Compacted: x.Compacted, Start: x.Start, End: x.End}, err
}

func (k *kafkaOf) Read(ctx context.Context, _ string, ranges map[int32]admin.Range, visit func(admin.Record)) error {
	asked := map[int32]source.OffsetRange{}
	for id, r := range ranges {
		asked[id] = source.OffsetRange(r)
	}
	return k.inspector.Read(ctx, asked, func(r *kgo.Record) bool {
		visit(admin.Record{Partition: r.Partition, Offset: r.Offset, Control: r.Attrs.IsControl()})
		return true
	})
}

func verifyCommand() *cobra.Command {
	var f targetFlags
	var since, until string
	cmd := &cobra.Command{
		Use:   "verify -c FILE | --table URI",
		Short: "Check that each message is in the table exactly once",
		Long: `verify reads the table's log and the offsets in its rows, and checks that the commits have taken each offset once, that
each row that they tell of is there once, and that the txns, from which a start goes on, say the same. With Kafka it also
looks for each message of the topic in the table. It writes nothing, and the stream may run meanwhile.

What can't be told from what is left of a table is never called ok. docs/verify.md explains every finding.

` + exitCodesHelp,
		Example: `  connector verify -c connector.yaml
  connector verify --table ./data/web_requests -o json | jq -r '.faults[].text'
  connector verify --table ./data/web_requests --brokers localhost:9092 --topic web_requests --since 2026-01-31`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer t.close()
			if t.opts.Since, err = versionOrTime(cmd.Context(), t, "--since", since); err != nil {
				return err
			}
			if t.opts.Until, err = versionOrTime(cmd.Context(), t, "--until", until); err != nil {
				return err
			}
			bar := newProgressBar(cmd.ErrOrStderr())
			t.opts.Progress = bar.show
			r, tables, err := t.verify(cmd.Context())
			bar.clear()
			if err != nil {
				return adminError("verifying table "+open.Redact(t.uri), err)
			}
			return printVerification(cmd.OutOrStdout(), t.uri, r, tables, f.output)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&since, "since", "", "only what came after this version or time")
	cmd.Flags().StringVar(&until, "until", "", "only up to this version or time (default the newest)")
	return cmd
}

// adminError keeps an error of Kafka what it is, and makes every other one one of the table.
func adminError(op string, err error) error {
	if _, ok := errors.AsType[*source.Error](err); ok || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return tableError(op, err)
}

// versionOrTime reads a version, or a time as --timestamp takes it; "" is -1.
func versionOrTime(ctx context.Context, t *target, flag, text string) (int64, error) {
	if text == "" {
		return -1, nil
	}
	const earliestMillis = 100_000_000_000 // as milliseconds it is 1973: numbers below are versions
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < earliestMillis {
		if n < 0 {
			return 0, &configError{fmt.Errorf("%s is %d: use a version from 0 on, or a time", flag, n)}
		}
		return n, nil
	}
	at, err := parseTimestamp(text)
	if err != nil {
		return 0, &configError{fmt.Errorf("%s is %q: use a version, RFC 3339 (2026-01-31T12:00:00Z), a date (2026-01-31), or milliseconds since 1970", flag, text)}
	}
	version, err := versionAt(ctx, t.store, at, time.Now())
	if err != nil {
		return 0, tableError("reading table "+open.Redact(t.uri), err)
	}
	return version, nil
}

// verification is what `verify -o json` prints. Its field names are documented in docs/verify.md and stay.
type verification struct {
	URI string `json:"uri"`
	*admin.Report
	Tables []admin.TableReport `json:"tables,omitempty"` // that the table is the catalog of
}

func printVerification(w io.Writer, uri string, r *admin.Report, tables []admin.TableReport, output string) error {
	faults, doubts := r.FaultCount, len(r.Unverified)
	for _, t := range tables {
		faults, doubts = faults+t.FaultCount, doubts+len(t.Unverified)
	}
	var err error
	if output == "json" {
		err = printIndented(w, verification{open.Redact(uri), r, tables})
	} else {
		err = printReport(w, open.Redact(uri), r)
		for _, t := range tables {
			err = errors.Join(err, printReport(w, "table "+t.Table, t.Report))
		}
	}
	switch {
	case err != nil:
		return err
	case faults > 0:
		return &faultsError{faults}
	case doubts > 0:
		return &unverifiedError{doubts}
	}
	return nil
}

func printIndented(w io.Writer, value any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// printReport writes the report for people: the verdict, the partitions, then whatever was found.
func printReport(w io.Writer, uri string, r *admin.Report) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, "%s\n", printable(fmt.Sprintf(format, args...))) }
	line("%s, version %d: %s", uri, r.Version, r.Verdict)
	from := "all of the log is there"
	switch {
	case r.Since != nil:
		from = fmt.Sprintf("only what came after version %d", *r.Since)
	case r.LogFrom == 0:
		from = "the commit of version 0 was cleaned from the log"
	case r.LogFrom > 0:
		from = fmt.Sprintf("the log before version %d was cleaned", r.LogFrom)
	}
	line("%d files, %d rows (%d of them of no stream); %s", r.Files, r.Rows, r.OtherRows, from)
	if len(r.Partitions) > 0 {
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "stream\tpartition\toffsets\tmessages\trows\tskipped\tfiltered\trouted\tdead letters\tgaps\tlost\tdeleted by others\tunknown\tverdict") // Flush tells errors
		for _, p := range r.Partitions {
			name := p.Stream
			if p.Generation > 0 {
				name += fmt.Sprintf(" (generation %d)", p.Generation)
			}
			_, _ = fmt.Fprintf(t, "%s\t%s[%d]\t[%d, %d)\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", printable(name), printable(p.Topic), p.Partition, p.From, p.Next,
				p.Records, p.Rows, p.Skipped, p.Filtered, p.Routed, p.Dead, p.Gaps, p.Lost, p.Deleted, p.Unaccounted, p.Verdict)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if k := r.Kafka; k != nil {
		line("Kafka: %d messages, %d control records, %d other gaps; %d offsets are before what Kafka still has, %d messages were compacted away since, %d are not in the table yet",
			k.Messages, k.Controls, k.OtherGaps, k.Retired, k.Compacted, k.NotRead)
		if k.BeforeFrom > 0 {
			line("Kafka has %d offsets before those that the table is known to have: right if the stream was told to begin later", k.BeforeFrom)
		}
	}
	for _, o := range r.Others {
		line("version %d of %s: %s", o.Version, o.Time.Format(time.RFC3339), otherText(o))
	}
	for _, n := range r.Notes {
		line("note: %s", n)
	}
	for _, x := range r.Unverified {
		line("cannot be verified: %s", x.Text)
	}
	for _, x := range r.Faults {
		line("FAULT %s: %s", x.Kind, x.Text)
	}
	if more := r.FaultCount - int64(len(r.Faults)); more > 0 {
		line("and %d faults more of these kinds", more)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func otherText(o admin.OtherCommit) string {
	did := "moved rows"
	if o.ChangesData {
		did = "changed rows"
	}
	counts := ", how many is not known"
	if o.RowsKnown {
		counts = fmt.Sprintf(": -%d +%d", o.RowsRemoved, o.RowsAdded)
	}
	return fmt.Sprintf("%s by %s %s%s", orUnknown(o.Operation), orUnknown(o.Engine), did, counts)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// place is where a message is in its topic.
type place struct {
	partition int32
	offset    int64
}

// parsePlace reads the arguments PARTITION and OFFSET.
func parsePlace(partition, offset string) (place, error) {
	p, err1 := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if err1 != nil || err2 != nil || p < 0 || o < 0 {
		return place{}, &configError{fmt.Errorf("partition %q, offset %q: use whole numbers from 0 on", partition, offset)}
	}
	return place{int32(p), o}, nil
}

func explainCommand() *cobra.Command {
	var f targetFlags
	cmd := &cobra.Command{
		Use:   "explain PARTITION OFFSET",
		Short: "Say which version and file hold a message, or why none does",
		Example: `  connector explain 3 1207311 -c connector.yaml
  connector explain 3 1207311 --table ./data/web_requests -o json`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parsePlace(args[0], args[1])
			if err != nil {
				return err
			}
			t, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer t.close()
			bar := newProgressBar(cmd.ErrOrStderr())
			t.opts.Progress = bar.show
			e, err := t.explain(cmd.Context(), at)
			bar.clear()
			if err != nil {
				return adminError("looking into table "+open.Redact(t.uri), err)
			}
			if f.output == "json" {
				return printIndented(cmd.OutOrStdout(), e)
			}
			if err := printExplanation(cmd.OutOrStdout(), e.Explanation); err != nil || e.In == nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "\nin table %s:\n", e.In.Table); err != nil {
				return err
			}
			return printExplanation(cmd.OutOrStdout(), e.In.Explanation)
		},
	}
	f.add(cmd)
	return cmd
}

func printExplanation(w io.Writer, e *admin.Explanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "partition %d, offset %d: %s\n%s\n", e.Partition, e.Offset, e.Fate, printable(e.Text))
	for _, s := range e.Spans {
		version := "its commit was cleaned from the log"
		if s.Version != nil {
			version = fmt.Sprintf("version %d", *s.Version)
		}
		fmt.Fprintf(&b, "taken by stream %s with [%d, %d) of %s: %s, unit %s, %d rows, %d skipped, %d filtered, %d rows of other tables, %d dead letters, %d gaps, %d of them lost\n", s.Stream, s.First, s.Next,
			printable(s.Topic), version, printable(s.Unit), s.Rows, s.Skipped, s.Filtered, s.Routed, s.Dead, s.Gaps, s.Lost)
		for _, name := range s.Files {
			fmt.Fprintf(&b, "  file %s\n", printable(name))
		}
	}
	if e.Kafka != nil {
		fmt.Fprintf(&b, "Kafka has there: %s\n", e.Kafka.Has)
	}
	for _, x := range e.Unread {
		fmt.Fprintf(&b, "%s\n", printable(x.Text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// progressBar draws on a terminal, and nothing elsewhere.
type progressBar struct {
	mu    sync.Mutex
	w     io.Writer // nil: no terminal
	begun time.Time
	last  time.Time
	doing string
}

func newProgressBar(w io.Writer) *progressBar {
	b := &progressBar{begun: time.Now()}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			b.w = w
		}
	}
	return b
}

func (b *progressBar) show(p admin.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w == nil || time.Since(b.last) < 100*time.Millisecond {
		return
	}
	if b.last = time.Now(); p.Doing != b.doing {
		b.doing, b.begun = p.Doing, time.Now()
	}
	_, _ = io.WriteString(b.w, "\r\x1b[K"+progressLine(p, time.Since(b.begun)))
}

const barWidth = 30

// progressLine is what a bar shows.
func progressLine(p admin.Progress, took time.Duration) string {
	share := 0.0
	if p.Total > 0 {
		share = min(float64(p.Done)/float64(p.Total), 1)
	}
	full := int(share * barWidth)
	text := fmt.Sprintf("%s [%s%s] %3.0f%%", p.Doing, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), share*100)
	switch p.Doing {
	case "log":
		text += fmt.Sprintf("  %d of %d versions", p.Done, p.Total)
	case "files":
		text += fmt.Sprintf("  %d of %d, %d rows", p.Done, p.Total, p.Rows)
	}
	if share > 0.01 && share < 1 {
		text += fmt.Sprintf("  %v left", (time.Duration(float64(took) * (1 - share) / share)).Round(time.Second))
	}
	return text
}

func (b *progressBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w != nil && !b.last.IsZero() {
		_, _ = io.WriteString(b.w, "\r\x1b[K")
	}
}
