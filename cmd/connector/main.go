// Command connector moves Kafka topics into Delta Lake tables, exactly once. `connector --help` tells how.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// Exit codes, as documented in the help and the README. A supervisor may restart on any of them: nothing is lost.
const (
	exitOK          = 0
	exitInternal    = 1   // an error that fits none of the others
	exitConfig      = 2   // the command line or the configuration
	exitSource      = 3   // Kafka: permission, password, topic, offsets
	exitTable       = 4   // the table: permission, a feature that can't be honoured, a changed schema
	exitPoison      = 5   // a message can't become a row; of a stream, under on_error: fail
	exitRefused     = 6   // going on would lose or double rows
	exitFaults      = 7   // verify found faults
	exitUnverified  = 8   // verify found no fault, and could not check everything
	exitInterrupted = 130 // stopped before everything that was read was committed
)

const exitCodesHelp = `Exit codes:
  0    done, or stopped with everything committed
  1    an error that fits none of the others
  2    the command line or the configuration is wrong
  3    Kafka: a permission, password, topic or offset that only an operator can mend
  4    the table: a permission, feature or schema that only an operator can mend
  5    a message can't become a row (of a stream: and on_error is fail, or too many can't)
  6    refused, because going on would lose or double rows
  7    verify: the table has faults
  8    verify: no fault was found, but not everything can be verified
  130  stopped before everything that was read was committed (it is read again)`

// configError is a mistake in the command line or the configuration.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signals(context.Background())
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// signals gives a context that ends at the first SIGINT or SIGTERM, which asks for a stop. The second one stops at once:
// whatever was not committed is read again by the next start.
func signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ch
		cancel()
		<-ch
		fmt.Fprintln(os.Stderr, "second signal: stopping at once; nothing is lost, the next start reads again what was not committed")
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runRoot(ctx, rootCommand(), args, stdout, stderr)
}

func runRoot(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	begun := false
	noteBegin(root, &begun)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !begun { // the library's own: an unknown command, a flag that is missing
		err = &configError{err}
	}
	_, _ = fmt.Fprintln(stderr, "Error:", err)
	return exitCode(err)
}

// noteBegin has every command below cmd say that it was reached, before it runs.
func noteBegin(cmd *cobra.Command, begun *bool) {
	for _, c := range cmd.Commands() {
		noteBegin(c, begun)
		if runE := c.RunE; runE != nil {
			c.RunE = func(cmd *cobra.Command, args []string) error {
				*begun = true
				return runE(cmd, args)
			}
		}
	}
}

func exitCode(err error) int {
	switch {
	case errors.As(err, new(*configError)):
		return exitConfig
	case errors.As(err, new(*faultsError)):
		return exitFaults
	case errors.As(err, new(*unverifiedError)):
		return exitUnverified
	case errors.As(err, new(*pipeline.PoisonError)), errors.As(err, new(*rowError)), errors.As(err, new(*brokenError)):
		return exitPoison
	case errors.As(err, new(*checkpoint.RefusedError)):
		return exitRefused
	case errors.As(err, new(*source.Error)):
		return exitSource
	case errors.As(err, new(*sink.Error)):
		return exitTable
	case errors.Is(err, pipeline.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitInternal
}

// logFlags are shared by the commands that run for long.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, &configError{fmt.Errorf("--log-level is %q: use debug, info, warn or error", f.level)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, &configError{fmt.Errorf("--log-format is %q: use text or json", f.format)}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "connector",
		Short: "Move Kafka topics into Delta Lake tables, exactly once",
		Long: `connector reads a Kafka topic as a member of a consumer group, writes its messages as rows of a Delta Lake table,
and stores the offsets in the same commits as the rows. Stop it, kill it, or start more of it at any time: each message
is in the table exactly once.

  connector demo                       see it work, with an embedded Kafka and a local table
  connector run -c connector.yaml      the daemon
  connector table append URI --input F  JSON messages into a table, from a shell, cron or a function
  connector table inspect URI          what is in a table, and how far its streams are
  connector verify -c connector.yaml   is each message in the table exactly once?
  connector explain PARTITION OFFSET   where is this one?
  connector dead-letters list -c FILE  messages that could not become rows
  connector schema plan -c FILE        what a new schema of messages would do to the table
  connector rewind -c connector.yaml   go on from other offsets
  connector adopt -c connector.yaml    begin where Spark or Kafka Connect has stopped
  connector retire -c connector.yaml   end a stream for good, so that another may bring its topic

` + exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &configError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(runCommand(), validateCommand(), demoCommand(), tableCommand(), verifyCommand(), explainCommand(), deadLettersCommand(), settleCommand(), schemaCommand(), rewindCommand(), adoptCommand(), retireCommand(), versionCommand())
	return root
}

// exactly is cobra's argument check with our exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return &configError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
}
