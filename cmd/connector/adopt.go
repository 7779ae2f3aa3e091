package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kafkadelta/admin"
	"kafkadelta/delta"
	"kafkadelta/storage/open"
)

// adoptFlags say whom to take over from.
type adoptFlags struct {
	changeFlags
	spark, group string
	force        bool
}

func adoptCommand() *cobra.Command {
	var f adoptFlags
	cmd := &cobra.Command{
		Use:   "adopt -c FILE (--from-spark-checkpoint URI | --from-group GROUP)",
		Short: "Have a stream begin where Spark or Kafka Connect has stopped",
		Long: `adopt has a stream begin where another program has stopped: it writes the txns of all partitions, and which topic they are of, in
one commit, after it has shown them. Stop the other program first, and never start it again.

--from-spark-checkpoint takes the checkpoint folder of a query of Spark's structured streaming that has written to the table.
Of a batch that was begun and not done, the txn that Delta's sink has left in the table tells whether it is in there, so that
each message is in the table exactly once, before and after.

--from-group takes the offsets that a consumer group has committed, as those of a sink of Kafka Connect (connect-<name>). What
such a program wrote and had not yet committed when it was stopped comes a second time: stop it in order. Where the table has lost the
txns of a stream that has filled it, a partition begins behind the rows that its files tell of, if the group was told less.

A table that kafka-delta-ingest has filled needs no adopt. The table must exist ("connector table create").

` + exitCodesHelp,
		Example: `  connector adopt -c connector.yaml --from-spark-checkpoint s3://bucket/checkpoints/web_requests --dry-run
  connector adopt -c connector.yaml --from-group connect-web-requests-sink`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.spark, "from-spark-checkpoint", "", "folder or URI of the query's checkpointLocation; the configuration's storage section tells how to reach it")
	cmd.Flags().StringVar(&f.group, "from-group", "", "consumer group whose committed offsets are taken over")
	cmd.Flags().BoolVar(&f.force, "force", false, "where Kafka no longer has an offset, begin at the first one that it has")
	cmd.MarkFlagsOneRequired("from-spark-checkpoint", "from-group")
	cmd.MarkFlagsMutuallyExclusive("from-spark-checkpoint", "from-group")
	return cmd
}

func (f *adoptFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	s, err := f.open(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer s.inspector.Close()
	if s.divided() && f.spark != "" {
		return &configError{errors.New("--from-spark-checkpoint is for one table, which Spark has written, and table.uri has values: adopt the offsets by --from-group, or begin with source.start")}
	}
	a := admin.Adoption{Writer: s.writer, Name: s.Name, Topic: s.Source.Kafka.Topic, Kafka: s.topic, Filtered: s.Table.Decode.Filter != "", Force: f.force}
	if err := f.other(ctx, s, &a); err != nil {
		return err
	}
	uri := open.Redact(s.tableURI())
	plan, err := admin.PlanAdoption(ctx, s.store, a)
	if errors.Is(err, delta.ErrNotTable) {
		err = fmt.Errorf("%w; make it with `connector table create`", err)
	}
	if err != nil {
		return adminError("planning the adoption of "+uri, err)
	}
	if err := printAdoption(cmd.OutOrStdout(), uri, s, plan); err != nil {
		return err
	}
	if ok, err := f.agreed(cmd); !ok {
		return err
	}
	version, err := plan.Commit(ctx)
	if err != nil {
		return adminError("adopting "+uri, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "version %d says where the stream begins: start it with `connector run`\n", version)
	return err
}

// other reads what the other program has left.
func (f *adoptFlags) other(ctx context.Context, s *changed, a *admin.Adoption) error {
	if f.group != "" {
		g, err := s.inspector.Group(ctx, f.group)
		if err != nil {
			return err
		}
		a.From, a.Group = "--from-group "+f.group, &admin.KafkaGroup{Name: f.group, State: g.State, Offsets: g.Offsets}
		return nil
	}
	uri := open.Redact(f.spark)
	store, err := openStore(ctx, f.spark, s.Storage, nil)
	if err != nil {
		return &configError{fmt.Errorf("--from-spark-checkpoint: %w", err)}
	}
	a.From = "--from-spark-checkpoint " + uri
	if a.Spark, err = admin.ReadSparkCheckpoint(ctx, store, a.Topic); err != nil {
		return adminError("reading the checkpoint "+uri, err)
	}
	return nil
}

// printAdoption shows what would be done.
func printAdoption(w io.Writer, uri string, s *changed, p *admin.AdoptionPlan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "stream %s, topic %s, table %s at version %d\n", s.Name, s.Source.Kafka.Topic, printable(uri), p.Version)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "partition\tbegins at\t") // Flush tells errors
	for _, m := range p.Moves {
		text := fmt.Sprintf("%d messages at most are waiting", s.topic.End[m.Partition]-m.To)
		if m.Gone > 0 {
			text += fmt.Sprintf("; %d before it are gone in Kafka", m.Gone)
		}
		_, _ = fmt.Fprintf(t, "%d\t%d\t%s\n", m.Partition, m.To, text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", printable(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
