package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/admin"
	"kafkadelta/source"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// consent says whether what a command is about to write is asked about first.
type consent struct{ yes, dryRun bool }

func (f *consent) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan and write nothing")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do it without asking")
	cmd.MarkFlagsMutuallyExclusive("yes", "dry-run")
}

// changeFlags are shared by the commands that write a stream's offsets.
type changeFlags struct {
	config, topic string
	consent
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file of the stream (required)")
	cmd.Flags().StringVar(&f.topic, "topic", "", "topic that is meant, to be sure: it must be the one of the configuration")
	must(cmd.MarkFlagRequired("config"))
	f.consent.add(cmd)
}

// changed is a stream whose offsets are to be written.
type changed struct {
	config
	store     storage.Store
	inspector *source.Inspector
	topic     admin.KafkaTopic
	writer    admin.Writer
}

func (f *changeFlags) open(ctx context.Context, stderr io.Writer) (*changed, error) {
	c, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	if f.topic != "" && f.topic != c.Source.Kafka.Topic {
		return nil, &configError{fmt.Errorf("--topic is %q, but the configuration's topic is %q", f.topic, c.Source.Kafka.Topic)}
	}
	if err := c.Source.Kafka.CheckSecrets(); err != nil {
		return nil, &configError{err}
	}
	s := &changed{config: c, writer: newWriter(stderr)}
	if s.store, err = openStore(ctx, c.tableURI(), c.Storage, nil); err != nil {
		return nil, &configError{err}
	}
	if s.inspector, err = source.NewInspector(c.Source.Kafka); err != nil {
		return nil, err
	}
	k := kafkaOf{s.inspector}
	if s.topic, err = k.Topic(ctx, c.Source.Kafka.Topic); err != nil {
		s.inspector.Close()
		return nil, err
	}
	return s, nil
}

// newWriter tells of failures of the store.
func newWriter(stderr io.Writer) admin.Writer {
	return admin.Writer{Engine: engine(), Now: time.Now, Retry: func(err error, wait time.Duration) {
		_, _ = fmt.Fprintf(stderr, "the table's store fails (%v): trying again in %v\n", err, wait.Round(time.Millisecond))
	}}
}

// agreed asks whether to go on, on a terminal. Elsewhere --yes must have been given.
func (f *consent) agreed(cmd *cobra.Command) (bool, error) {
	switch {
	case f.dryRun:
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing was written (--dry-run)")
		return false, err
	case f.yes:
		return true, nil
	}
	nobody := &configError{errors.New("nothing was written: there is no terminal to ask; add --yes to do it")}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return false, nobody
	}
	if _, err := fmt.Fprint(cmd.OutOrStdout(), "Do it? [y/N] "); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF) && answer == "": // /dev/null
		return false, nobody
	case err != nil && !errors.Is(err, io.EOF):
		return false, err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return true, nil
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing was written")
	return false, err
}

// rewindFlags say where to.
type rewindFlags struct {
	changeFlags
	offsets         []string
	at, to          string
	version         int64
	newTopic, force bool
}

func rewindCommand() *cobra.Command {
	f := rewindFlags{version: -1}
	cmd := &cobra.Command{
		Use:   "rewind -c FILE (--to-offsets P=OFFSET,... | --to-time TIME | --to-table-version N | --to earliest)",
		Short: "Have a stream go on from other offsets",
		Long: `rewind has a stream go on from other offsets, lower or higher ones: it writes the txns of all its partitions in one commit,
which begins a new generation. Workers may run meanwhile. Each of them drops what it has not committed, sees the new offsets
within 15 seconds, and goes on from there; what was taken before the rewind can't land after it.

Rows that are in the table stay. What is read again comes a second time, as rows of the new generation: each message is in the
table exactly once for each generation that has read it. To have it once, take the old rows away before the rewind:

  DELETE FROM t WHERE _kafka.topic = 'T' AND _kafka.partition = P AND _kafka.offset >= OFFSET
  or RESTORE TABLE t TO VERSION AS OF N, and then rewind --to-table-version N

After a RESTORE of the table the workers stop, because it takes back rows and not offsets: --to-table-version N, with the
version that was restored to, takes back the offsets as well. docs/operations.md tells the rest.

` + exitCodesHelp,
		Example: `  connector rewind -c connector.yaml --to-offsets 0=1200,3=earliest --dry-run
  connector rewind -c connector.yaml --to-time 2026-01-31T12:00:00Z
  connector rewind -c connector.yaml --to-table-version 4711 --yes
  connector rewind -c connector.yaml --to earliest --new-topic   # the topic was deleted and made anew`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&f.offsets, "to-offsets", nil, "for some partitions the first offset to read, as P=OFFSET, P=earliest or P=latest; the others stay where they are")
	cmd.Flags().StringVar(&f.at, "to-time", "", "to the first messages that are not older than this: RFC 3339 (2026-01-31T12:00:00Z) or a date, by the messages' timestamps")
	cmd.Flags().Int64Var(&f.version, "to-table-version", -1, "to the offsets that this version of the table had; after a RESTORE, the version that was restored to")
	cmd.Flags().StringVar(&f.to, "to", "", "earliest or latest, for all partitions")
	cmd.Flags().BoolVar(&f.newTopic, "new-topic", false, "the topic was deleted and made anew: take the offsets for those of the present one")
	cmd.Flags().BoolVar(&f.force, "force", false, "where Kafka no longer has an offset, go on at the first one that it has; after a RESTORE, leave partitions that are not named, and what was replayed of dead letters; go past a table that can't be looked at")
	cmd.MarkFlagsOneRequired("to-offsets", "to-time", "to-table-version", "to")
	cmd.MarkFlagsMutuallyExclusive("to-offsets", "to-time", "to-table-version", "to")
	return cmd
}

func (f *rewindFlags) run(cmd *cobra.Command) error {
	s, err := f.open(cmd.Context(), cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer s.inspector.Close()
	r := admin.Rewinding{
		Writer: s.writer, Name: s.Name, Topic: s.Source.Kafka.Topic, Kafka: s.topic, ToVersion: -1, NewTopic: f.newTopic, Force: f.force,
		Filtered: s.Table.Decode.Filter != "", Routed: s.routed(s.store),
	}
	if err := f.where(cmd, s, &r); err != nil {
		return err
	}
	if s.DeadLetters.URI != "" {
		if r.Letters, err = s.deadLetterStore(cmd.Context()); err != nil {
			return err
		}
	}
	uri := open.Redact(s.tableURI())
	plan, err := admin.PlanRewind(cmd.Context(), s.store, r)
	if err != nil {
		return adminError("planning the rewind of "+uri, err)
	}
	if err := printRewind(cmd.OutOrStdout(), uri, s.config, plan); err != nil {
		return err
	}
	if ok, err := f.agreed(cmd); !ok {
		return err
	}
	version, err := plan.Commit(cmd.Context())
	if err != nil {
		return adminError("rewinding "+uri, err)
	}
	if _, err = fmt.Fprintf(cmd.OutOrStdout(), "version %d begins generation %d; workers that run go on from there within 15 s\n", version, plan.Generation); err != nil {
		return err
	}
	return f.settle(cmd, plan)
}

// settle brings the tables of a catalog what it had decided about. That it can't be done is no news where the plan was forced past it.
func (f *rewindFlags) settle(cmd *cobra.Command, plan *admin.RewindPlan) error {
	err := plan.Settle(cmd.Context())
	switch {
	case err == nil:
		return nil
	case f.force:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "note: the stream does not go on yet: %s\n", printable(err.Error()))
		return err
	}
	return fmt.Errorf("the rewind is done; but the tables lack rows that were decided about before it, and the stream does not go on yet: %w", tableError("settling", err))
}

// where says to which offsets.
func (f *rewindFlags) where(cmd *cobra.Command, s *changed, r *admin.Rewinding) error {
	flags := cmd.Flags()
	var err error
	switch {
	case flags.Changed("to-table-version"):
		if f.version < 0 {
			return &configError{fmt.Errorf("--to-table-version is %d: use a version from 0 on", f.version)}
		}
		r.How, r.ToVersion = fmt.Sprintf("--to-table-version %d", f.version), f.version
	case flags.Changed("to-time"):
		at, e := parseTimestamp(f.at)
		if e != nil {
			return &configError{fmt.Errorf("--to-time is %q: use RFC 3339 (2026-01-31T12:00:00Z) or a date (2026-01-31)", f.at)}
		}
		r.How = "--to-time " + at.UTC().Format(time.RFC3339Nano)
		r.To, err = s.inspector.OffsetsAt(cmd.Context(), at)
	case flags.Changed("to"):
		r.How = "--to " + f.to
		switch f.to {
		case source.StartEarliest:
			r.To = s.topic.Start
		case source.StartLatest:
			r.To = s.topic.End
		default:
			return &configError{fmt.Errorf("--to is %q: use earliest or latest", f.to)}
		}
	default:
		r.How = "--to-offsets " + strings.Join(f.offsets, ",")
		r.To, err = parseOffsets(f.offsets, s.topic)
	}
	return err
}

// parseOffsets reads P=OFFSET, P=earliest and P=latest.
func parseOffsets(texts []string, topic admin.KafkaTopic) (map[int32]int64, error) {
	to := map[int32]int64{}
	for _, text := range texts {
		left, right, ok := strings.Cut(strings.TrimSpace(text), "=")
		id, err := strconv.ParseInt(left, 10, 32)
		if !ok || err != nil || id < 0 {
			return nil, &configError{fmt.Errorf("--to-offsets has %q: use PARTITION=OFFSET, such as 0=1200", text)}
		}
		p := int32(id)
		if _, twice := to[p]; twice {
			return nil, &configError{fmt.Errorf("--to-offsets has partition %d twice", p)}
		}
		switch right {
		case source.StartEarliest:
			to[p] = topic.Start[p]
		case source.StartLatest:
			to[p] = topic.End[p]
		default:
			if to[p], err = strconv.ParseInt(right, 10, 64); err != nil || to[p] < 0 {
				return nil, &configError{fmt.Errorf("--to-offsets has %q: the offset is a whole number from 0 on, or earliest, or latest", text)}
			}
		}
	}
	return to, nil
}

// printRewind shows what would be done.
func printRewind(w io.Writer, uri string, c config, p *admin.RewindPlan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "stream %s, topic %s, table %s at version %d: this begins generation %d\n", c.Name, c.Source.Kafka.Topic, printable(uri), p.Version, p.Generation)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "partition\tfrom\tto\t") // Flush tells errors
	var again, passed int64
	for _, m := range p.Moves {
		from := "none"
		if m.From >= 0 && len(p.Former) == 0 {
			from = strconv.FormatInt(m.From, 10)
			again, passed = again+m.Again(), passed+m.Passed()
		} else {
			m.From = -1 // of another topic
		}
		_, _ = fmt.Fprintf(t, "%d\t%s\t%d\t%s\n", m.Partition, from, m.To, moveText(m))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "%d messages at most are read again, %d at most are never read\n", again, passed)
	for _, id := range p.Former {
		fmt.Fprintf(&b, "the offsets so far are of topic id %s in cluster %s: rows of it stay, and nothing of it is read any more\n", printable(id.TopicID), printable(id.ClusterID))
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(&b, "note: %s\n", printable(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func moveText(m admin.Move) string {
	var text string
	switch {
	case m.From < 0:
		text = "begins there"
	case m.Again() > 0:
		text = fmt.Sprintf("%d messages at most are read again", m.Again())
	case m.Passed() > 0:
		text = fmt.Sprintf("%d messages at most are passed over", m.Passed())
	default:
		text = "stays"
	}
	if m.Gone > 0 {
		text += fmt.Sprintf("; %d before it are gone in Kafka", m.Gone)
	}
	return text
}
