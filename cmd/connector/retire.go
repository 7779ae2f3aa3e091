package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// retireFlags say which stream.
type retireFlags struct {
	consent
	config, table, stream string
	force                 bool
}

func retireCommand() *cobra.Command {
	var f retireFlags
	cmd := &cobra.Command{
		Use:   "retire -c FILE | --table URI --stream NAME",
		Short: "End a stream for good, so that another may bring its topic into the table",
		Long: `retire ends a stream: the table says from then on that it brings no topic any more. Its rows and offsets stay. Workers of it
stop within 15 seconds, what they have not committed can't land any more, and none starts again.

It is for a stream that is to go on under another name, or whose topic another stream is to bring: as long as the table knows
of one, a second stream of the topic is refused. The other stream begins where its source.start says: what the retired one has
taken, and the plan shows how far that is, comes a second time unless the other begins behind it.

Of a catalog (docs/pipelines.md), what it has decided about is brought to its tables, and then each of them is freed for another
stream of the topic, in a commit of its own. If that is interrupted, run it again. It takes -c, which says where the tables are.

Kafka is not asked. A stream that is in no configuration any more is named by --stream, "connector table inspect" lists them.
"connector rewind" has a retired stream go on after all.

` + exitCodesHelp,
		Example: `  connector retire -c connector.yaml --dry-run
  connector retire -c daemon.yaml#all --stream all.orders-eu
  connector retire --table s3://bucket/web_requests --stream web_requests --yes`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file of the stream; with --table only its storage section counts")
	cmd.Flags().StringVar(&f.table, "table", "", "URI of the table, instead of the configuration's")
	cmd.Flags().StringVar(&f.stream, "stream", "", "name of the stream, instead of the configuration's")
	cmd.Flags().BoolVar(&f.force, "force", false, "leave dead letters that are decided about and not delivered, and give up rows for many tables that can't be")
	cmd.MarkFlagsOneRequired("config", "table")
	f.consent.add(cmd)
	return cmd
}

func (f *retireFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	uri, r, store, err := f.open(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	plan, err := admin.PlanRetirement(ctx, store, r)
	if err != nil {
		return adminError("planning the retirement in "+uri, err)
	}
	if err := printRetirement(cmd.OutOrStdout(), uri, r.Name, plan); err != nil {
		return err
	}
	if ok, err := f.agreed(cmd); !ok {
		return err
	}
	if !plan.Ended {
		version, err := plan.Commit(ctx)
		if err != nil {
			return adminError("retiring a stream of "+uri, err)
		}
		if _, err = fmt.Fprintf(cmd.OutOrStdout(), "version %d ends the stream; workers of it that run stop within 15 s\n", version); err != nil {
			return err
		}
	}
	freed, given, err := plan.Free(ctx)
	tellGivenUp(cmd.OutOrStdout(), given)
	if len(freed) > 0 {
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d tables are free for another stream of the topic\n", len(freed))
	}
	if err != nil {
		return fmt.Errorf("the stream has ended, but not all of its tables are free for another one of the topic (mend the cause, and run this again): %w", tableError("freeing tables", err))
	}
	return nil
}

// open finds out which stream of which table is meant.
func (f *retireFlags) open(ctx context.Context, stderr io.Writer) (uri string, r admin.Retirement, store storage.Store, err error) {
	r = admin.Retirement{Writer: newWriter(stderr), Name: f.stream, Force: f.force}
	if f.table != "" {
		if f.stream == "" {
			return "", r, nil, &configError{errors.New("--table needs --stream: name the stream that is to end, `connector table inspect` lists them")}
		}
		store, err = (&storeFlags{f.config}).open(ctx, f.table)
	} else {
		var c config
		if c, err = loadConfig(f.config); err != nil {
			return "", r, nil, err
		}
		if f.stream == "" {
			r.Name = c.Name
		}
		c.Name = r.Name
		f.table = c.tableURI()
		if store, err = openStore(ctx, f.table, c.Storage, nil); err != nil {
			return "", r, nil, &configError{err}
		}
		r.Routed = c.routed(store)
		if c.DeadLetters.URI != "" {
			r.Letters, err = c.deadLetterStore(ctx)
		}
	}
	if err == nil {
		if bad := checkpoint.ValidateName(r.Name); bad != nil {
			err = &configError{fmt.Errorf("--stream: %w", bad)}
		}
	}
	return open.Redact(f.table), r, store, err
}

// printRetirement shows what would be done.
func printRetirement(w io.Writer, uri, name string, p *admin.RetirementPlan) error {
	var b strings.Builder
	what := "this ends it"
	if p.Ended {
		what = "it has ended, and this frees its tables"
	}
	fmt.Fprintf(&b, "stream %s, table %s at version %d: %s\n", name, printable(uri), p.Version, what)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "partition\tnext offset") // Flush tells errors
	for _, id := range slices.Sorted(maps.Keys(p.Next)) {
		_, _ = fmt.Fprintf(t, "%d\t%d\n", id, p.Next[id])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, id := range p.Topics {
		fmt.Fprintf(&b, "another stream may bring the topic with id %s of cluster %s then, and brings again what it does not begin behind\n", printable(id.TopicID), printable(id.ClusterID))
	}
	if n := len(p.Tables); n > 0 {
		fmt.Fprintf(&b, "%d tables have its rows, and may get those of another stream of the topic then\n", n)
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(&b, "note: %s\n", printable(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
