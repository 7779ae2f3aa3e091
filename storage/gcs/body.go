package gcs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"kafkadelta/storage/remote"
)

// body is an object that is read. Where the connection breaks off it goes on behind what it has, as long as the budget of storage/remote lasts; what
// is asked for then is asked as often as any request.
type body struct {
	store *Store
	ctx   context.Context // of the caller, for the rest of the object
	name  string
	at    int64 // of the next byte
	left  int64 // to read; -1 for all that there is

	stream     io.ReadCloser
	err        error  // that ended it
	generation string // of the object that was opened first: the rest is of the same
	sum        uint32 // of what was read, from the first byte of the object on
	want       string // the checksum of the whole; "" where it isn't read as a whole
}

var errBroken = errors.New("the connection broke in the middle of the object, too often to go on")

// open asks for what is left.
func (b *body) open(ctx context.Context) error {
	response, err := b.store.api.read(ctx, b.store.folder+b.name, b.at, b.left, b.generation)
	if err != nil {
		return err
	}
	b.stream = response.Body
	if ranged := b.at > 0 || b.left >= 0; ranged && response.StatusCode != http.StatusPartialContent {
		return b.pass(response)
	}
	if b.generation == "" {
		b.generation = response.Header.Get("X-Goog-Generation")
		// One that is stored compressed has the checksum of that, and may be unpacked on the way.
		if b.at == 0 && b.left < 0 && !response.Uncompressed && response.Header.Get("X-Goog-Stored-Content-Encoding") != "gzip" {
			b.want = crc32cOf(response.Header)
		}
	}
	return nil
}

// pass takes its part of an answer that has the whole object though a part was asked for: one that is stored compressed is unpacked on the way, and
// not every emulator or proxy knows ranges.
func (b *body) pass(response *http.Response) error {
	b.generation = cmp.Or(b.generation, response.Header.Get("X-Goog-Generation"))
	if b.left >= 0 {
		b.stream = &limited{io.LimitReader(response.Body, b.at+b.left), response.Body}
	}
	switch _, err := io.CopyN(io.Discard, b.stream, b.at); {
	case err == io.EOF: //nolint:errorlint // as in Read
		_ = b.stream.Close()
		return &answerError{code: http.StatusRequestedRangeNotSatisfiable}
	case err != nil:
		_ = b.stream.Close()
		return short(err)
	}
	return nil
}

// limited is a part of a body.
type limited struct {
	io.Reader
	io.Closer
}

// crc32cOf is the checksum that the service tells of an object; "" for none.
func crc32cOf(h http.Header) string {
	for _, hashes := range h.Values("X-Goog-Hash") {
		for hash := range strings.SplitSeq(hashes, ",") {
			if sum, ok := strings.CutPrefix(strings.TrimSpace(hash), "crc32c="); ok {
				return sum
			}
		}
	}
	return ""
}

// Read implements io.Reader. A broken connection is never taken for the end: one that is closed before it answers is io.EOF to net/http, too.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.stream.Read(p)
	b.at += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if b.want != "" {
		b.sum = crc32.Update(b.sum, castagnoli, p[:n])
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: //nolint:errorlint // one that wraps io.EOF is no end
		if b.want != "" && b.want != checksumText(b.sum) {
			return n, b.failed(fmt.Errorf("its checksum is %s, but that of what has come %s", b.want, checksumText(b.sum)))
		}
		return n, io.EOF
	case b.left == 0:
		return n, io.EOF
	case b.ctx.Err() != nil:
		return n, b.failed(err)
	case !b.store.client.Again(remote.NoAnswer):
		return n, b.failed(fmt.Errorf("%w: %w", errBroken, err))
	}
	_ = b.stream.Close()
	b.stream = http.NoBody // which is at its end
	err = b.store.do(b.ctx, remote.Get, b.name, false, b.open)
	if answer, ok := errors.AsType[*answerError](err); ok && answer.code == http.StatusRequestedRangeNotSatisfiable {
		err = nil // all of it was read
	}
	if err != nil {
		return n, b.failed(err)
	}
	return n, nil
}

// failed ends it with an error that says of which object it is.
func (b *body) failed(err error) error {
	if known, ok := errors.AsType[*remote.Error](err); ok {
		err = known.Cause // which object it is of is said below
	}
	object := b.store.url + "/" + b.name
	if b.err = fmt.Errorf("%s %s: %w", remote.Get, object, short(err)); errors.Is(err, io.EOF) {
		b.err = fmt.Errorf("%s %s: %s: %w", remote.Get, object, short(err).Error(), io.ErrUnexpectedEOF)
	}
	return b.err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.stream.Close() }
