package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"kafkadelta/admin"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// routed reaches the tables of a stream that has many, for commands that bring them what is on its way; the zero value where it has one.
func (c config) routed(catalog storage.Store) admin.Routed {
	if !c.divided() {
		return admin.Routed{}
	}
	stores := c.keyStores(nil, open.Parts{})
	return admin.Routed{
		Open:   func(ctx context.Context, key string) (delta.LogStore, error) { return stores(ctx, key) },
		Settle: func(ctx context.Context, giveUp bool) ([]string, error) { return c.settleAll(ctx, catalog, giveUp) },
	}
}

// settleAll brings the tables what the catalog has decided about.
func (c config) settleAll(ctx context.Context, store storage.Store, giveUp bool) ([]string, error) {
	catalog, parts, err := c.openToSettle(ctx, store)
	if err != nil {
		return nil, err
	}
	routing, err := c.routing(runOptions{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if giveUp {
		return sink.GiveUpRows(ctx, catalog, parts, followers(routing, catalog, c.Name))
	}
	_, err = sink.SettleRows(ctx, catalog, parts, followers(routing, catalog, c.Name))
	return nil, err
}

// openToSettle opens the stream's table, or catalog, and tells its partitions.
func (c config) openToSettle(ctx context.Context, store storage.Store) (*sink.Table, []int32, error) {
	stream, err := sink.Open(ctx, store, c.Table.Sink, sink.Options{Name: c.Name, Engine: engine(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	next, err := stream.Positions(ctx)
	return stream, slices.Sorted(maps.Keys(next)), err
}
