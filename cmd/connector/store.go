package main

import (
	"context"
	"fmt"
	"os"

	"kafkadelta/internal/strictyaml"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// openStore opens the store of a table. Observe is told of each request to it; it may be nil.
func openStore(ctx context.Context, uri string, c open.Config, observe func(operation, outcome string)) (storage.Store, error) {
	return openStoreOf(ctx, uri, c, observe, open.Parts{})
}

// openStoreOf is openStore for large files in such parts.
func openStoreOf(ctx context.Context, uri string, c open.Config, observe func(operation, outcome string), parts open.Parts) (storage.Store, error) {
	return open.Open(ctx, uri, open.Options{Config: c, Getenv: os.Getenv, Observe: observe, Parts: parts})
}

// parts are those in which a pipeline's store gets large files.
func (c config) parts(o runOptions) open.Parts {
	size, sent := c.Pipeline.Parts(o.share, o.memory)
	return open.Parts{Size: size, Sent: sent}
}

// storeFlags are shared by the commands about tables.
type storeFlags struct{ config string }

// open opens a table's store with the settings of --config. Without one the environment alone tells how to reach it. The
// file may be that of a stream or have a storage section only.
func (f *storeFlags) open(ctx context.Context, uri string) (storage.Store, error) {
	c := defaultConfig()
	if f.config != "" {
		var err error
		if c, err = storageOnly(f.config); err != nil {
			return nil, err
		}
	}
	s, err := openStore(ctx, uri, c.Storage, nil)
	if err != nil {
		return nil, &configError{err}
	}
	return s, nil
}

// storageOnly reads a configuration of which only the storage section counts.
func storageOnly(path string) (config, error) {
	c := defaultConfig()
	data, err := os.ReadFile(path)
	if err != nil {
		return c, &configError{fmt.Errorf("--config: %w", err)}
	}
	if err := strictyaml.Load(data, path, os.LookupEnv, &c); err != nil {
		return c, &configError{err}
	}
	if err := c.Storage.Validate(); err != nil {
		return c, &configError{fmt.Errorf("%s: %w", path, err)}
	}
	return c, nil
}
