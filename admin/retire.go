package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Retirement is what an operator asks for: a stream is to bring nothing any more, so that another one may bring its topic.
type Retirement struct {
	Writer

	Name string
	// Routed reaches the stream's tables where they are many.
	Routed Routed
	// Letters is the store of the stream's dead-letter table; nil where none is known.
	Letters delta.LogStore
	// Force leaves dead letters that are decided about and not delivered, and gives up rows that can't be.
	Force bool
}

// RetirementPlan is what a retirement would do, as of a version of the table.
type RetirementPlan struct {
	Version  int64
	Next     map[int32]int64       // first offsets that were not taken, by partition
	Topics   []checkpoint.Identity // that the stream brings so far
	Ended    bool                  // it was retired before: what is left to be done is Free
	Tables   []string              // of a catalog, by key, that say that they have its rows
	Warnings []string

	r          Retirement
	store      delta.LogStore
	table      *delta.Table
	generation int64
}

// PlanRetirement finds out what a retirement would do, and writes nothing.
func PlanRetirement(ctx context.Context, store delta.LogStore, r Retirement) (*RetirementPlan, error) {
	t, err := openForWriting(ctx, store, r.Writer)
	if err != nil {
		return nil, err
	}
	p := &RetirementPlan{r: r, store: store, table: t, Version: t.Version()}
	if err := p.read(); err != nil {
		return nil, err
	}
	if err := p.readTables(ctx); err != nil || p.Ended {
		return p, err
	}
	restored, unsure, err := restoredSince(ctx, store, t, t.Version(), r.Name)
	if err != nil {
		return nil, err
	}
	if restored != nil { // this commit would hide it, should the stream go on one day
		return nil, &checkpoint.RefusedError{
			Cause:  restored.text + ", and the stream's offsets did not go back with the rows",
			Remedy: fmt.Sprintf("take them back first: `connector rewind --to-table-version %s`", restored),
		}
	}
	if unsure != "" {
		p.Warnings = append(p.Warnings, unsure+": run `connector verify` first")
	}
	return p, p.checkLetters(ctx)
}

// readTables finds out what is to be done about the tables of a catalog.
func (p *RetirementPlan) readTables(ctx context.Context) error {
	keys, err := Tables(ctx, p.store, p.r.Name)
	if err != nil {
		return err
	}
	if len(keys) > 0 && p.r.Routed.Open == nil {
		text := fmt.Sprintf("the table is the catalog of %d others, which say that they have the stream's rows", len(keys))
		if !p.r.Force && !p.Ended {
			return &checkpoint.RefusedError{Cause: text, Remedy: "name the configuration with their table.uri, by -c alone, so that they are reached; --force ends the stream, and other streams of the topic are refused there"}
		}
		p.Warnings = append(p.Warnings, text+": they are left like that")
	}
	var mu sync.Mutex
	err = p.r.Routed.each(ctx, p.store, p.r.Name, func(key string, store delta.LogStore) error {
		snap, err := delta.OpenSnapshot(ctx, store, -1)
		if err == nil && len(catalogsOf(p.r.Name, snap.Txns())) > 0 {
			mu.Lock()
			p.Tables = append(p.Tables, key)
			mu.Unlock()
		}
		return err
	})
	slices.Sort(p.Tables)
	unseen := err != nil
	switch {
	case unseen && !p.r.Force:
		return err
	case unseen:
		p.Warnings = append(p.Warnings, fmt.Sprintf("%v: it is not freed before that is mended and this is run again", err))
	}
	pending, err := p.r.Routed.pending(ctx, p.store, p.r.Name)
	for _, rows := range pending {
		what := ": they are brought there"
		switch {
		case rows.Lost == "" && rows.Broken == "":
		case !p.r.Force:
			return &checkpoint.RefusedError{Cause: rows.String(), Remedy: "have them read again, or the table mended, first: a start of the stream is refused, and says how; or give them up, by `connector settle --give-up`. --force gives up what can't be brought"}
		default:
			what = ": what can't be brought is given up"
		}
		p.Warnings = append(p.Warnings, rows.String()+what)
	}
	if err == nil && p.Ended && len(pending) == 0 && len(p.Tables) == 0 && !unseen {
		return &checkpoint.RefusedError{Cause: fmt.Sprintf("stream %q was retired already", p.r.Name), Remedy: "there is nothing to be done"}
	}
	return err
}

// read takes what the newest version says of the stream.
func (p *RetirementPlan) read() error {
	now, err := progressOf(p.r.Name, p.table.Txns())
	switch {
	case err != nil:
		return err
	case now.Retired():
		p.Ended = true
	case len(now.Identities) == 0:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the table does not say that a stream %q brings a topic", p.r.Name),
			Remedy: "`connector table inspect` lists the streams; of a pipeline with several topics each has one of its own, <name>.<topic>",
		}
	}
	p.Topics = slices.SortedFunc(maps.Keys(now.Identities), func(a, b checkpoint.Identity) int { return strings.Compare(a.TopicID, b.TopicID) })
	p.generation, p.Next = now.Generation, map[int32]int64{}
	for id, last := range now.Last {
		p.Next[id] = last + 1
	}
	return nil
}

// checkLetters refuses to leave behind dead letters that the stream's table names and the dead-letter table does not have: no worker will come.
func (p *RetirementPlan) checkLetters(ctx context.Context) error {
	have := map[string]int64{}
	if p.r.Letters != nil {
		letters, err := delta.OpenSnapshot(ctx, p.r.Letters, -1)
		if err != nil {
			return fmt.Errorf("opening the dead-letter table: %w", err)
		}
		have = maps.Collect(versions(letters.Txns()))
	}
	for appID, id := range versions(p.table.Txns()) {
		at, ok := have[appID]
		follows := appID == checkpoint.ReplayAppID(p.r.Name) || strings.HasPrefix(appID, checkpoint.DeadLetterPrefix(p.r.Name))
		switch {
		case !follows || ok && at == id:
		case p.r.Letters == nil:
			p.Warnings = append(p.Warnings, "the stream has dead letters, and their table is not known here: `connector settle` tells whether it has them all")
			return nil
		case !p.r.Force:
			return &checkpoint.RefusedError{
				Cause:  fmt.Sprintf("the stream's table names dead letters (txn %q) that the dead-letter table does not have", appID),
				Remedy: "`connector settle` brings them there; --force leaves them",
			}
		}
	}
	return nil
}

// Commit ends the stream, in one version, which it returns. Of a catalog, Free is to follow.
func (p *RetirementPlan) Commit(ctx context.Context) (int64, error) {
	return p.r.land(ctx, p.table, func() (*delta.Transaction, error) {
		if err := p.read(); err != nil || p.Ended {
			return nil, err
		}
		if err := p.checkLetters(ctx); err != nil {
			return nil, err
		}
		return p.transaction(), nil
	})
}

// Free has the tables of a catalog that has ended get what it has decided about, and then say that they have no catalog any more, so that another
// stream may bring them the topic (rule T7); each in a version of its own. It returns the tables that it has freed, and what was given up, a line each.
// After an error, or a crash, it is to be called again, by a new plan: no row of the stream can come meanwhile. Those that were decided about before its
// end are there, or given up, before the first table is freed, and none is decided about after it.
func (p *RetirementPlan) Free(ctx context.Context) (freed, given []string, err error) {
	given, err = p.r.Routed.settle(ctx, p.r.Force)
	if err != nil {
		return nil, given, fmt.Errorf("bringing the tables what was decided about: %w", err)
	}
	var mu sync.Mutex
	err = p.r.Routed.each(ctx, p.store, p.r.Name, func(key string, store delta.LogStore) error {
		done, err := p.free(ctx, store)
		if done {
			mu.Lock()
			freed = append(freed, key)
			mu.Unlock()
		}
		return err
	})
	slices.Sort(freed)
	return freed, given, err
}

// free frees one table; false where there is nothing to be done.
func (p *RetirementPlan) free(ctx context.Context, store delta.LogStore) (done bool, err error) {
	t, err := openForWriting(ctx, store, p.r.Writer)
	if err != nil {
		return false, err
	}
	_, err = p.r.land(ctx, t, func() (*delta.Transaction, error) {
		tx := p.operation()
		for _, appID := range catalogsOf(p.r.Name, t.Txns()) {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: appID}) // 0: no catalog's any more
		}
		gen, _ := t.Txn(checkpoint.GenerationAppID(p.r.Name))
		if done = len(tx.Txns) > 0; !done {
			return nil, nil
		}
		if gen.Version > p.generation {
			return nil, &checkpoint.RefusedError{Cause: fmt.Sprintf("the table has rows of generation %d, and stream %q was retired in generation %d: it was rewound since, and goes on", gen.Version, p.r.Name, p.generation), Remedy: "make a new plan"}
		}
		return tx, nil
	})
	return done && err == nil, err
}

func (p *RetirementPlan) operation() *delta.Transaction {
	return &delta.Transaction{Operation: "RETIRE", Parameters: map[string]string{"name": p.r.Name}}
}

// transaction ends the stream on top of the newest version. The txns of all partitions stay as they are, and are written all the same: whatever a
// worker has taken and not committed is fenced by them (rule A1d).
func (p *RetirementPlan) transaction() *delta.Transaction {
	tx := p.operation()
	for _, id := range slices.Sorted(maps.Keys(p.Next)) {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.AppID(p.r.Name, id), Version: p.Next[id] - 1})
	}
	for _, id := range p.Topics {
		tx.Txns = append(tx.Txns, delta.Txn{AppID: checkpoint.IdentityAppID(p.r.Name, id)}) // 0: it has ended
	}
	return tx
}
