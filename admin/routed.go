package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Routed reaches the tables of a stream that has many (ADR 12). The zero value is for a stream with one table.
type Routed struct {
	Open OpenStore
	// Settle brings the tables what the catalog has decided about, of all partitions, as a worker does that is assigned them. With giveUp it goes on
	// without what can't come any more, and tells that, a line each.
	Settle func(ctx context.Context, giveUp bool) (given []string, err error)
}

// settle is Settle, where there are many tables. Who rewinds or ends a stream settles behind that commit, and not before it: nothing that was taken
// until then can be decided about any more, so that there is an end to it however busy the stream is. Somebody else who delivers rows of the new
// generation first does the same (rule T5b).
func (r Routed) settle(ctx context.Context, giveUp bool) ([]string, error) {
	if r.Settle == nil {
		return nil, nil
	}
	return r.Settle(ctx, giveUp)
}

// pending tells what is on its way to the tables.
func (r Routed) pending(ctx context.Context, catalog delta.LogStore, stream string) ([]Pending, error) {
	if r.Open == nil {
		return nil, nil
	}
	return pendingRows(ctx, catalog, stream, r.Open)
}

// tablesAtOnce is how many tables are looked at, or committed to, side by side.
const tablesAtOnce = 16

// each calls f for all tables that the catalog knows, some at a time. That one is not there is no error: f's delta.ErrNotTable is none.
func (r Routed) each(ctx context.Context, catalog delta.LogStore, stream string, f func(key string, store delta.LogStore) error) error {
	if r.Open == nil {
		return nil
	}
	keys, err := Tables(ctx, catalog, stream)
	if err != nil {
		return err
	}
	errs := make([]error, len(keys))
	room := make(chan struct{}, tablesAtOnce)
	var wait sync.WaitGroup
	for i, key := range keys {
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			store, err := r.Open(ctx, key)
			if err == nil {
				err = f(key, store)
			}
			if err != nil && !errors.Is(err, delta.ErrNotTable) {
				errs[i] = fmt.Errorf("table %s: %w", key, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// catalogsOf are the app ids by which a table says that it has rows of the stream's catalog (rule T7).
func catalogsOf(stream string, txns iter.Seq[delta.Txn]) (ids []string) {
	for txn := range txns {
		if checkpoint.IsCatalog(txn.AppID, stream) && txn.Version > 0 {
			ids = append(ids, txn.AppID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (p Pending) String() string {
	of := fmt.Sprintf("partition %d", p.Partition)
	if p.Partition == ofReplay {
		of = "dead letters that were replayed,"
	}
	switch {
	case p.Broken != "":
		return fmt.Sprintf("whether tables lack rows of %s that the catalog has decided about can't be told: %s", of, p.Broken)
	case p.Lost != "":
		return fmt.Sprintf("rows of %s that the catalog has decided about can't come to their tables any more: %s", of, p.Lost)
	}
	return fmt.Sprintf("rows of %s that the catalog has decided about are on their way to %s", of, strings.Join(p.Tables, ", "))
}
