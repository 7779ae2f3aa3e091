package main

import (
	"context"
	"os"

	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// openStore opens the store of a table. Observe is told of each request to it; it may be nil.
func openStore(ctx context.Context, uri string, c open.Config, observe func(operation, outcome string)) (storage.Store, error) {
	return open.Open(ctx, uri, open.Options{Config: c, Getenv: os.Getenv, Observe: observe})
}
