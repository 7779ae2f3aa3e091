// Package pipeline is the one place where the stages are called in order: poll, decode, batch, write, commit, report.
//
// It owns every goroutine between Kafka and the table. The dispatcher (dispatcher.go) is the goroutine that called Run:
// it alone polls, owns the assignment, and decides when to flush. Lanes (lane.go) own decoder, open files and ledger. The
// committer (flush.go) lands one flush after the other. Callbacks of the Kafka client and all of those tell the
// dispatcher what happened by events, functions that run on its goroutine.
//
// It promises that each message of the topic becomes a row of the table exactly once, is in the
// dead-letter table exactly once, or is counted as skipped, and that
// Run returns only when every goroutine that it started has ended. It never looks into a message and never at the log.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/batch"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// Values of Config.OnError.
const (
	OnErrorFail       = "fail"
	OnErrorSkip       = "skip"
	OnErrorDeadLetter = "dead_letter"
)

// Config says when to flush and what to do with messages that can't become rows.
type Config struct {
	Flush batch.Config `yaml:"flush"`
	// OnError is fail (default): commit everything before the first poison message and stop with its own exit code; or
	// skip: count it and go on; or dead_letter: put it into the dead-letter table or topic and go on.
	OnError string `yaml:"on_error"`
	// Limits end the run, as fail does, at a bad message too many.
	Limits LimitsConfig `yaml:"limits"`
	// Lanes is the number of goroutines that decode and write. 0 (default): one for each core, but no more than there is memory for.
	Lanes int `yaml:"lanes"`
	// ShutdownTimeout is how long a stop may take to flush, to commit and to end a log checkpoint that is due; a run that ends by itself has as
	// long for the latter. Default 30s. What is not committed by then is read again by the next start.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// DefaultConfig returns the settings used where the configuration is silent.
func DefaultConfig() Config {
	return Config{Flush: batch.DefaultConfig(), OnError: OnErrorFail, Limits: LimitsConfig{Window: time.Minute}, ShutdownTimeout: 30 * time.Second}
}

// maxLanes bounds the lanes; more than this never helped, and each holds open files.
const maxLanes = 256

// Validate checks the settings.
func (c Config) Validate() error {
	errs := []error{c.Flush.Validate(), c.Limits.validate(c.OnError)}
	if !slices.Contains([]string{OnErrorFail, OnErrorSkip, OnErrorDeadLetter}, c.OnError) {
		errs = append(errs, fmt.Errorf("on_error is %q: use %s, %s or %s", c.OnError, OnErrorFail, OnErrorSkip, OnErrorDeadLetter))
	}
	if c.Lanes < 0 || c.Lanes > maxLanes {
		errs = append(errs, fmt.Errorf("lanes is %d: use 0 (one for each core) to %d", c.Lanes, maxLanes))
	}
	if c.ShutdownTimeout < time.Second {
		errs = append(errs, fmt.Errorf("shutdown_timeout is %v: use at least 1s", c.ShutdownTimeout))
	}
	return errors.Join(errs...)
}

// Decoder turns messages into the rows of one Arrow batch. One goroutine uses it.
type Decoder interface {
	// Append decodes one message. nil: there is exactly one row more. An error that has a method Poison() (path, reason
	// string) means that the message can never become a row; one that has RetryLater() time.Duration, that it may, after
	// the batch was taken and the time has passed. Either leaves no trace.
	Append(rec *kgo.Record) error
	// NewBatch takes the rows. The batch must be released before the next Append.
	NewBatch() arrow.RecordBatch
	// Reset drops the rows.
	Reset()
}

// Options hand in what a pipeline is made of.
type Options struct {
	Config
	Name   string
	Source source.Config
	// UntilEnd ends the run once the table holds everything up to the end offsets seen at the start.
	UntilEnd bool
	// OpenTable opens the table; it tries for as long as the store is down.
	OpenTable func(ctx context.Context, events sink.Events) (*sink.Table, error)
	// OpenDeadLetters opens the table of dead letters, which has at least the columns of DeadLetterSchema. Nil under any other
	// on_error than dead_letter.
	OpenDeadLetters func(ctx context.Context, events sink.Events) (*sink.Table, error)
	// Routing has the rows go to many tables. Nil: they go to that of OpenTable.
	Routing *Routing
	// DeadLetterTopic is a topic for dead letters instead of a table; "" for none.
	DeadLetterTopic string
	// NewDecoder compiles a decoder for the table's schema and defaults. It is called for every lane, and again when the schema changes.
	NewDecoder NewDecoder
	// ClientOptions are added to the Kafka client's own: dialers of tests.
	ClientOptions []kgo.Opt
	// Share is the number of pipelines in the process, among which cores are divided; 0 for one.
	Share int
	// Memory is what the pipeline may hold of messages now, in all stages, in bytes; nil stands for DefaultMemory. It is asked anew each time, by
	// any goroutine, since it becomes less as other pipelines begin. How it is divided is in memory.go.
	Memory  func() int64
	Metrics *Metrics
	Log     *slog.Logger
	Now     func() time.Time
}

// PoisonError ends a run under on_error: fail, or at a bad message too many. Everything before the message is committed.
type PoisonError struct{ Err error }

func (e *PoisonError) Error() string {
	if errors.As(e.Err, new(*limitError)) {
		return fmt.Sprintf("stopped because too many messages cannot become rows: %v; everything up to it is committed, and what was bad is a dead letter or was skipped; mend the cause, and start again: the limits begin anew", e.Err)
	}
	return fmt.Sprintf("stopped at a message that cannot become a row: %v; everything before it is committed; mend the message's cause, or set on_error: dead_letter or skip", e.Err)
}

func (e *PoisonError) Unwrap() error { return e.Err }

// ErrInterrupted says that a stop took longer than Config.ShutdownTimeout: what was not committed is read again.
var ErrInterrupted = errors.New("stopped before everything that was read could be committed; nothing is lost: the next start reads it again")

// Run moves messages until ctx is done, which asks for a stop: it polls no more, flushes, commits, reports and leaves the
// group. It returns nil after a stop in time, or after UntilEnd. Other errors are *source.Error, *sink.Error,
// *checkpoint.RefusedError, *PoisonError, *PanicError and ErrInterrupted.
func Run(ctx context.Context, o Options) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a stop must not cut off the last commit
	defer cancel()
	d := newDispatcher(work, o)
	defer d.shutdown()
	group := o.Source.Group
	if group == "" {
		group = o.Name
	}
	var err error
	if d.source, err = source.New(o.Source, group, d.callbacks(), o.ClientOptions...); err != nil {
		return err
	}
	if d.table, err = o.OpenTable(ctx, d.tableEvents()); err != nil {
		return unlessStopped(ctx, err)
	}
	if err := d.table.Maintain(work); err != nil {
		return unlessStopped(ctx, err)
	}
	if d.layout, err = d.table.Layout(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	if err := d.openDeadLetters(ctx, work); err != nil {
		return unlessStopped(ctx, err)
	}
	if err := d.openTables(ctx, work); err != nil {
		return unlessStopped(ctx, err)
	}
	if err := d.startLanes(o.laneCount(o.Share, o.memory())); err != nil {
		return err
	}
	d.startCommitter()
	d.startReporter()
	if err := d.findTopic(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	d.source.Start()
	return d.loop(ctx)
}

// unlessStopped turns an error that only says that a stop was asked for into a good end.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
