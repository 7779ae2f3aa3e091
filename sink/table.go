// Package sink writes one Delta table: batches and spans in, versions out.
//
// It owns the table's followed log, the claims that this process holds on partitions, and the rules in docs/design.md by
// which a unit may land (C1 to C6, C9). It promises that a unit lands whole or never, that it lands only if every version
// since its bases were read is known not to touch them, that a lost answer is never taken for a failure, and that a data
// file is deleted only after proof that it can never be part of a version (cleanup.go). It never sees a Kafka client.
// A dead-letter table is another Table: its files are a Parcel that a unit of the stream's table decides about (parcel.go, settle.go).
//
// A Table may be used from any goroutine; one at a time works on the log. A Writer belongs to one goroutine.
package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
)

// Options are what a Table needs beside its configuration.
type Options struct {
	Name string // stream name, the prefix of its app ids; "" for Append alone
	// Filtered says that the stream leaves messages out by a filter. Others of its topic in the table may be beside it then, if they do so, too.
	Filtered bool
	// Follows tells of a table that follows a catalog: Name is that of the catalog's stream (ADR 12).
	Follows bool
	Create  *arrow.Schema // schema of a new table; nil: never create
	Engine  string        // for commitInfo.engineInfo
	Memory  func() int64  // bytes that the open files of one Writer may take together now, with the rows held for them; nil stands for DefaultMemory
	Now     func() time.Time
	Log     *slog.Logger
	Events  Events
}

// Events tell of what an operator watches. Any may be nil.
type Events struct {
	// Retry is called when the store failed and the same is tried again after the wait.
	Retry func(op string, err error, wait time.Duration)
	// Recovered is called when the store answers again after a Retry.
	Recovered func(op string)
	// RaceLost is called when another writer made the version that was tried.
	RaceLost func(version int64)
	// Proposed is called when a unit was left for others to carry, Carried with the number of proposals that a commit of this
	// process brought into the table, BadProposal when one can't be understood.
	Proposed    func()
	Carried     func(proposals int)
	BadProposal func()
	// Maintained is called when a log checkpoint or a cleanup is done, UpkeepFailed when some upkeep failed. Both are called
	// from the goroutine that Maintain starts.
	Maintained   func(task Upkeep, took time.Duration, bytes int64)
	UpkeepFailed func(task Upkeep)
	// Creating is asked before a table is made where there is none; its error keeps that from happening.
	Creating func(ctx context.Context) error
}

// Table is one Delta table, written by this process for one stream.
type Table struct {
	store delta.LogStore
	cfg   Config
	opts  Options

	working chan struct{} // holds one token: its holder owns what follows
	log     *delta.Table
	layout  *Layout
	changed int64                // newest version after Open with metaData or protocol; units that still fit were judged against it
	gen     atomic.Int64         // the stream's generation, as of the newest known version (rule A5); written by the token's holder
	claims  map[string]*claim    // by app id
	pinned  *checkpoint.Identity // of the topic, by this process

	// What proposals of others are judged by (rule C1): every version after judgedFrom was read, and touched has the newest of
	// them that has a txn of an app id.
	judgedFrom int64
	touched    map[string]int64
	lookedBack bool  // for a RESTORE before the start
	looksAgain bool  // for one among versions that are gone
	ended      error // what a version said that ends the process: the log has moved on to it, and says it once
	combine    combiner

	rowsMu      sync.Mutex
	rowsSettled map[string]int64      // of a catalog: slots of rows that all tables are known to have followed, by app id
	rowsSince   int64                 // of a catalog: the generation that all tables are known to have what came before of
	notes       map[int64]*parcelNote // of parcels of rows that this process has written, until they are delivered

	upkeep *upkeep // nil until Maintain
}

// Error is an error of the table's side that trying again does not mend.
type Error struct {
	Op   string
	Err  error
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error() + "; " + e.Hint
}

func (e *Error) Unwrap() error { return e.Err }

// Open opens the table, or makes it where Options.Create says how. It tries for as long as the store is down.
func Open(ctx context.Context, store delta.LogStore, cfg Config, opts Options) (*Table, error) {
	t := &Table{store: store, cfg: cfg, opts: opts, working: make(chan struct{}, 1), claims: map[string]*claim{}, touched: map[string]int64{}, rowsSettled: map[string]int64{}}
	t.combine.read, t.combine.landed, t.combine.passed = map[string]*proposal{}, map[string]int64{}, map[string]bool{}
	if err := t.retry(ctx, "opening the table", func() error { return t.openOrCreate(ctx) }); err != nil {
		return nil, err
	}
	layout, err := LayoutOf(t.log.Shape(), t.opts.Now)
	if err != nil {
		return nil, err
	}
	layout.asOf = t.log.Version()
	t.layout, t.judgedFrom = layout, layout.asOf
	t.gen.Store(t.generation())
	return t, nil
}

func (t *Table) openOrCreate(ctx context.Context) error {
	if err := delta.CheckWrites(ctx, t.store); errors.Is(err, errors.ErrUnsupported) {
		return &Error{Op: "opening the table", Err: err}
	} else if err != nil {
		return err
	}
	options := delta.Options{Now: t.opts.Now, Engine: t.opts.Engine, Lasting: checkpoint.Lasts}
	log, err := delta.Open(ctx, t.store, options)
	if errors.Is(err, delta.ErrNotTable) {
		if t.opts.Create == nil {
			return &Error{Op: "opening the table", Err: err, Hint: "set table.create: if_missing, and table.schema, table.schema_file or table.infer; or make it with `table create`"}
		}
		create := delta.CreateOptions{
			Schema: t.opts.Create, PartitionBy: t.cfg.PartitionBy, Properties: t.cfg.Properties,
			Description: t.cfg.Comment, Now: t.opts.Now, Engine: t.opts.Engine,
		}
		if err := delta.CheckCreate(create); err != nil {
			return &Error{Op: "creating the table", Err: err, Hint: "correct the table section of the configuration"}
		}
		var refused error
		if t.opts.Events.Creating != nil {
			refused = t.opts.Events.Creating(ctx)
		}
		if refused == nil {
			err = delta.Create(ctx, t.store, create)
			if err != nil && !errors.Is(err, fs.ErrExist) { // another worker was faster: its table it is
				return fmt.Errorf("creating the table: %w", err)
			}
		}
		log, err = delta.Open(ctx, t.store, options)
		if refused != nil && errors.Is(err, delta.ErrNotTable) { // else what it was refused for is of a table that others have made meanwhile
			return creatingError{refused}
		}
	}
	if err != nil {
		return err // retry says what was being done
	}
	if err := log.CheckAppend(); err != nil {
		return &Error{Op: "opening the table", Err: err}
	}
	t.log = log
	return nil
}

// creatingError is one of Events.Creating, which tries again by itself what can be mended so.
type creatingError struct{ error }

// Layout returns the table's present layout.
func (t *Table) Layout(ctx context.Context) (*Layout, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	return t.layout, nil
}

func (t *Table) lock(ctx context.Context) error {
	select {
	case t.working <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Table) unlock() { <-t.working }

// txns yields the app ids and versions that the table holds.
func (t *Table) txns() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for txn := range t.log.Txns() {
			if !yield(txn.AppID, txn.Version) {
				return
			}
		}
	}
}

// retry calls try until it succeeds, fails for good, or the context is done.
func (t *Table) retry(ctx context.Context, op string, try func() error) error {
	var wait backoff.Backoff
	for failed := false; ; failed = true {
		err := try()
		if err == nil {
			if failed && t.opts.Events.Recovered != nil {
				t.opts.Events.Recovered(op)
			}
			return nil
		}
		if final := t.final(op, err); final != nil { // though the context is done: nothing might find it again
			return final
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := t.pause(ctx, op, err, &wait); err != nil {
			return err
		}
	}
}

// pause tells of the failure, and waits.
func (t *Table) pause(ctx context.Context, op string, cause error, wait *backoff.Backoff) error {
	d := wait.Next()
	if t.opts.Events.Retry != nil {
		t.opts.Events.Retry(op, cause, d)
	}
	return backoff.Sleep(ctx, d)
}

// final is finalError where a log is read, which may be gone.
func (t *Table) final(op string, err error) error {
	final := finalError(op, err)
	if final == nil && (errors.Is(err, delta.ErrVanished) || errors.Is(err, delta.ErrNotTable)) {
		return t.vanished(op, err)
	}
	return final
}

// finalError returns an *Error, or a *checkpoint.RefusedError, if trying again cannot mend err; else nil.
func finalError(op string, err error) error {
	if creating, ok := errors.AsType[creatingError](err); ok {
		return creating.error
	}
	var own *Error
	var refused *checkpoint.RefusedError
	var unsupported *delta.UnsupportedError
	switch {
	case errors.As(err, &own), errors.As(err, &refused):
		return err
	case errors.As(err, &unsupported), errors.Is(err, delta.ErrCorrupt):
		return &Error{Op: op, Err: err}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Op: op, Err: err, Hint: "grant this process read, list and write access to the table's folder"}
	case errors.Is(err, fs.ErrInvalid): // the store refuses the request itself; its error says what to do
		return &Error{Op: op, Err: err}
	}
	return nil
}

// advance reads every version after the known one, as JSON, and judges it against the claims (rule C1). Units in flight
// that a version holds have landed (recognised by unit id). Where there are two there may be many: they are read at a time.
func (t *Table) advance(ctx context.Context, inFlight []*Unit) error {
	for n := 1; ; n++ {
		if moved, err := t.step(ctx, inFlight); err != nil || !moved {
			return err
		}
		if n%2 != 0 {
			continue
		}
		if all, err := t.catchUp(ctx, inFlight); err != nil || all {
			return err
		}
	}
}

// catchUp reads the versions that a listing shows, many at a time; false where that could not be all of them.
func (t *Table) catchUp(ctx context.Context, inFlight []*Unit) (all bool, err error) {
	var read int
	err = t.retry(ctx, "reading the table's log", func() (err error) {
		read, all, err = t.log.ReadAhead(ctx)
		return err
	})
	for range read {
		if _, err := t.step(ctx, inFlight); err != nil {
			return false, err
		}
	}
	return all, err
}

// step is advance for one version; false where there is none yet.
func (t *Table) step(ctx context.Context, inFlight []*Unit) (moved bool, err error) {
	if t.ended != nil {
		return false, t.ended
	}
	if err := t.lookAgain(ctx); err != nil {
		return false, err
	}
	err = t.retry(ctx, "reading the table's log", func() error {
		commit, err := t.log.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, delta.ErrMissingCommit):
			moved = true
			return t.reload(ctx, inFlight, err)
		case err != nil:
			return err
		}
		moved = true
		t.ended = t.judge(commit, inFlight)
		return t.ended
	})
	return moved, err
}

// reload opens the newest state, after versions are gone that were not read: nothing can be proved any more (rule C2), so that
// every claim is fenced.
func (t *Table) reload(ctx context.Context, inFlight []*Unit, reason error) error {
	t.opts.Log.Warn("versions of the table are gone before they were read: starting again from its newest state",
		"known_version", t.log.Version(), "reason", reason)
	for _, u := range inFlight {
		u.sent = true // nothing can be proved of them, so that their files stay
	}
	table := t.log.Metadata().ID
	if err := t.retry(ctx, "opening the table again", func() error { return t.log.Reload(ctx) }); err != nil {
		return err
	}
	// The log has moved on: what follows from that must not depend on whether the context is done meanwhile.
	t.looksAgain = t.looksAgain || t.lookedBack || len(t.claims) > 0 || t.opts.Follows && t.knowsStream()
	t.fenceAll()
	t.judgedFrom = t.log.Version()
	t.gen.Store(t.generation())
	clear(t.touched)
	moved := t.isStream() && t.log.Metadata().ID != table
	t.looksAgain = t.looksAgain || moved
	if _, told := t.log.Txn(checkpoint.HomeAppID(t.opts.Name)); moved && !told { // rule C1c, as in judge
		t.ended = t.replaced(t.log.Version(), "its id has changed")
	} else if t.ended = t.outruled(); t.ended == nil {
		t.ended = t.relayout()
	}
	if t.ended != nil {
		return t.ended
	}
	return t.lookAgain(ctx)
}

// lookAgain looks back once more, since one of the versions that are gone may have been a RESTORE (rules A6 and A6b).
func (t *Table) lookAgain(ctx context.Context) error {
	if !t.looksAgain {
		return nil
	}
	t.lookedBack = false
	if err := t.lookBack(ctx); err != nil {
		t.ended = finalError("looking back in the table's log", err) // nil where it was broken off
		return err
	}
	t.looksAgain = false
	return nil
}

// judge applies one version made by somebody (perhaps by this process, under an answer that was lost).
func (t *Table) judge(commit *delta.Commit, inFlight []*Unit) error {
	if commit.Replaces() && t.isStream() {
		return t.replaced(commit.Version, operation(commit))
	}
	record, understood := summaryOf(commit)
	if !understood {
		for _, u := range inFlight {
			u.sent = u.sent || len(u.proposals) > 0 // whoever made it may have carried them: their files stay (rule C6)
		}
	}
	t.combine.saw(commit.Version, record)
	if record.Contended {
		t.combine.until = t.opts.Now().Add(contendedFor)
	}
	own := unitsIn(record, inFlight)
	for _, u := range own {
		t.landed(u, commit.Version)
	}
	for _, txn := range commit.Txns {
		t.touched[txn.AppID] = commit.Version
		if c, ok := t.claims[txn.AppID]; ok && !holds(own, txn.AppID, t.opts.Name) {
			c.fenced = true
			t.opts.Log.Info("another writer has moved a partition's offset in the table: its uncommitted messages are dropped and read again",
				"app_id", txn.AppID, "table_offset", txn.Version, "own_offset", c.last, "version", commit.Version)
		}
	}
	if gen := t.generation(); gen != t.gen.Load() {
		t.opts.Log.Warn("the stream was rewound in the table: what is not committed is dropped, and reading goes on where the rewind says",
			"generation", gen, "version", commit.Version)
		t.gen.Store(gen)
		t.fenceAll()
	}
	if err := t.outruled(); err != nil {
		return err
	}
	if !commit.ChangesTable() {
		return nil
	}
	if err := t.log.CheckAppend(); err != nil {
		return &Error{Op: fmt.Sprintf("following the table to version %d", commit.Version), Err: err}
	}
	return t.relayout()
}

// generation is the number of the stream's rewinds, as of the newest known version. What is committed on top of that version is of
// it (rule A5): a rewind has every txn of the stream, and so it fences all that was taken before, here and elsewhere.
func (t *Table) generation() int64 {
	txn, _ := t.log.Txn(checkpoint.GenerationAppID(t.opts.Name))
	return txn.Version
}

func (t *Table) fenceAll() {
	for _, c := range t.claims {
		c.fenced = true
	}
}

// relayout takes over what the log says of rows and files. An equal layout stays, so that nobody has to begin anew.
func (t *Table) relayout() error {
	next, err := LayoutOf(t.log.Shape(), t.opts.Now)
	if err != nil {
		return err
	}
	t.changed = t.log.Version()
	if !next.equal(t.layout) {
		t.opts.Log.Info("the table's schema has changed: messages are read under the new one from now on", "version", t.log.Version())
		next.asOf = t.log.Version()
		t.layout = next
	}
	return nil
}

// isStream tells whether offsets go with the rows. Without them an append may follow whatever it finds, also a RESTORE.
func (t *Table) isStream() bool { return t.opts.Name != "" }

func (t *Table) vanished(op string, err error) error {
	hint := "the table's folder was removed, moved, or is not mounted: bring it back, and start"
	switch {
	case t.opts.Follows:
		hint += "; or, where its rows are not wanted any more, make an empty one in its place with `connector table create` and the schema that `connector table inspect` shows of the catalog"
	case t.isStream():
		hint += ". To begin a new table instead, use another name, or delete the consumer group's offsets first"
	}
	return &Error{Op: op, Err: err, Hint: hint}
}

func (t *Table) replaced(version int64, how string) error {
	return t.wentBack(fmt.Errorf("version %d replaced or restored the table (%s)", version, how))
}

// wentBack says what to do where rows went back or away, and the offsets did not.
func (t *Table) wentBack(err error) error {
	hint := cmp.Or(t.followsHint(), "rows went back or away but the offsets did not, so that going on would lose rows silently: after a RESTORE to version N, `connector rewind --to-table-version N` takes the offsets back to that version; in a table that was replaced, `connector rewind --to earliest`, or `--to-offsets`, says which messages are to be in it (look first whether the stream's rows are still there: then they are the offsets behind them); start again then")
	return &Error{Op: "reading the table's log", Err: err, Hint: hint}
}

// followsHint is what to do where rows of one of a catalog's tables went back; "" for any other table.
func (t *Table) followsHint() string {
	if !t.opts.Follows {
		return ""
	}
	return "rows went back or away that the catalog counts as delivered: bring them back with a RESTORE to the version before, or delete what other tables have from some offsets on; " +
		"then `connector rewind --to-offsets` goes on, at those offsets or where the catalog stands"
}

func operation(c *delta.Commit) string {
	if c.Info == nil || c.Info.Operation == "" {
		return "operation unknown"
	}
	return c.Info.Operation
}
