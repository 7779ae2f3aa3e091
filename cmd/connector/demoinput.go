package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"kafkadelta/storage/local"
)

//go:embed demo-data/flights-10k.jsonl.zst
var sampleFlights []byte

// demoInput is a file of messages that is being read.
type demoInput struct {
	name   string
	digest string // of the file's bytes, so that a second demo knows it again
	reader io.Reader
	close  []func() error
}

// openDemoInput opens a file, plain or compressed; no name opens the flights that are part of the program.
func openDemoInput(name string) (*demoInput, error) {
	if name == "" {
		in := &demoInput{name: "the embedded flights", digest: digestOf(sampleFlights)}
		return in, in.decompress(bytes.NewReader(sampleFlights), ".zst")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &configError{fmt.Errorf("--input: %w", err)}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", name, err), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", name, err), f.Close())
	}
	in := &demoInput{name: name, digest: hex.EncodeToString(h.Sum(nil)), close: []func() error{f.Close}}
	return in, in.decompress(f, name)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (in *demoInput) decompress(r io.Reader, name string) error {
	content, stop, err := decompress(r, name)
	if err != nil {
		return &configError{fmt.Errorf("--input: reading %s: %w", in.name, err)}
	}
	in.reader = content
	in.close = append(in.close, func() error { stop(); return nil })
	return nil
}

// Close closes what is open.
func (in *demoInput) Close() error {
	var errs []error
	for _, c := range slices.Backward(in.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// ledger remembers at which offsets each input begins in the embedded topic, so that a second demo, also one after a
// crash in the middle of producing, produces no line twice. Only the last input may be incomplete: where a line stands is
// told by its number, which holds as long as no other input comes in between.
type ledger struct {
	folder string
	Format int            `json:"format"`
	Inputs []*ledgerInput `json:"inputs"`
}

type ledgerInput struct {
	Name     string  `json:"name"`
	Digest   string  `json:"sha256"`
	Starts   []int64 `json:"starts"`
	Complete bool    `json:"complete"` // the topic holds all of its lines
}

const (
	ledgerName   = "inputs.json"
	ledgerFormat = 1
)

func openLedger(folder string) (*ledger, error) {
	l := &ledger{folder: folder, Format: ledgerFormat}
	path := filepath.Join(folder, ledgerName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(data, l)
	}
	if err == nil && l.Format != ledgerFormat {
		err = fmt.Errorf("format %d is not known", l.Format)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w; `--fresh` starts over", path, err)
	}
	return l, nil
}

// begin returns where the input begins. A new one begins at the topic's present end, which is written down before its
// first line is produced; it is refused while the one before is incomplete.
func (l *ledger) begin(ctx context.Context, in *demoInput, end []int64) (*ledgerInput, error) {
	known := slices.IndexFunc(l.Inputs, func(i *ledgerInput) bool { return i.Digest == in.digest && len(i.Starts) == len(end) })
	if known >= 0 && (l.Inputs[known].Complete || known == len(l.Inputs)-1) {
		return l.Inputs[known], nil
	}
	if n := len(l.Inputs); n > 0 && !l.Inputs[n-1].Complete {
		last := l.Inputs[n-1]
		again := fmt.Sprintf("with --input %s, unchanged", quoteShell(last.Name))
		if last.Digest == digestOf(sampleFlights) {
			again = "without --input"
		}
		return nil, &configError{fmt.Errorf("an earlier demo stopped before all of %s was in the topic: run it again first, %s; or start over with --fresh", last.Name, again)}
	}
	if known >= 0 {
		return l.Inputs[known], nil
	}
	entry := &ledgerInput{Name: in.name, Digest: in.digest, Starts: slices.Clone(end)}
	l.Inputs = append(l.Inputs, entry)
	return entry, l.save(ctx)
}

// finish writes down that the topic holds the whole input.
func (l *ledger) finish(ctx context.Context, entry *ledgerInput) error {
	entry.Complete = true
	return l.save(ctx)
}

// save is durable: the topic must never hold an input that the ledger does not know.
func (l *ledger) save(ctx context.Context) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	store, err := local.New(l.folder)
	if err != nil {
		return err
	}
	return store.Put(ctx, ledgerName, data)
}
