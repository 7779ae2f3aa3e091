package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:embed demo-data/flights-10k.jsonl.zst
var sampleFlights []byte

// maxLine bounds one message of an input.
const maxLine = 16 << 20

// input is a JSON lines file that is being read.
type input struct {
	name   string
	digest string // of the file's bytes, so that a second demo knows it again
	io.Reader
	close []func() error
}

// openInput opens a file, plain or compressed; no name opens the flights that are part of the program.
func openInput(name string) (*input, error) {
	if name == "" {
		in := &input{name: "the embedded flights", digest: digestOf(sampleFlights)}
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
	in := &input{name: name, digest: hex.EncodeToString(h.Sum(nil)), close: []func() error{f.Close}}
	return in, in.decompress(f, name)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (in *input) decompress(r io.Reader, name string) error {
	switch {
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r)
		if err != nil {
			return &configError{fmt.Errorf("--input: reading %s: %w", in.name, err)}
		}
		in.Reader = z
		in.close = append(in.close, func() error { z.Close(); return nil })
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return &configError{fmt.Errorf("--input: reading %s: %w", in.name, err)}
		}
		in.Reader = z
	default:
		in.Reader = r
	}
	return nil
}

// lines yields the lines that are not empty. A line is valid until the next one.
func (in *input) lines() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s := bufio.NewScanner(in)
		s.Buffer(make([]byte, 0, 1<<20), maxLine)
		for s.Scan() {
			if line := bytes.TrimSpace(s.Bytes()); len(line) > 0 && !yield(line, nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Close closes what is open.
func (in *input) Close() error {
	var errs []error
	for _, c := range slices.Backward(in.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// ledger remembers at which offsets each input begins in the embedded topic, so that a second demo, also one after a
// crash in the middle of producing, produces no line twice.
type ledger struct {
	path   string
	Format int           `json:"format"`
	Inputs []ledgerInput `json:"inputs"`
}

type ledgerInput struct {
	Digest string  `json:"sha256"`
	Starts []int64 `json:"starts"`
}

const ledgerFormat = 1

func openLedger(path string) (*ledger, error) {
	l := &ledger{path: path, Format: ledgerFormat}
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

// starts returns where the input begins. A new one begins at the topic's present end, which is written down before its
// first line is produced.
func (l *ledger) starts(digest string, end []int64) ([]int64, error) {
	for _, in := range l.Inputs {
		if in.Digest == digest && len(in.Starts) == len(end) {
			return in.Starts, nil
		}
	}
	l.Inputs = append(l.Inputs, ledgerInput{digest, slices.Clone(end)})
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, err
	}
	temp := l.path + ".tmp"
	if err := os.WriteFile(temp, data, 0o666); err != nil {
		return nil, err
	}
	return end, os.Rename(temp, l.path)
}
