package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxMessage bounds one message of an input, in bytes.
const maxMessage = 16 << 20

// message is one JSON message of an input. Its text is valid until the next one.
type message struct {
	number  int64 // of its line, or of the array's element, from 1
	element bool
	place   string // in a topic; then the others are not set
	text    []byte
}

// at says where the message stands, for errors.
func (m message) at() string {
	if m.place != "" {
		return m.place
	}
	if m.element {
		return fmt.Sprintf("element %d", m.number)
	}
	return fmt.Sprintf("line %d", m.number)
}

// tooLongError is a message that is longer than maxMessage.
type tooLongError struct{ message }

func (e *tooLongError) Error() string {
	return fmt.Sprintf("%s: longer than %d bytes", e.at(), maxMessage)
}

// messages yields what is on the lines that are not blank, or the elements of a JSON array where the input is one.
func messages(r io.Reader) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		b := bufio.NewReaderSize(r, 1<<20)
		first, lines, err := skipSpace(b)
		switch {
		case errors.Is(err, io.EOF):
		case err != nil:
			yield(message{}, err)
		case first == '[':
			elements(b, yield)
		default:
			messageLines(b, message{number: lines}, yield)
		}
	}
}

// skipSpace discards JSON's white space, any amount of it. It says what comes next, and how many lines ended before that.
func skipSpace(b *bufio.Reader) (next byte, lines int64, err error) {
	for {
		c, err := b.ReadByte()
		switch {
		case err != nil:
			return 0, lines, err
		case c == '\n':
			lines++
		case c != ' ' && c != '\t' && c != '\r':
			return c, lines, b.UnreadByte()
		}
	}
}

// messageLines yields the messages on the lines after m's.
func messageLines(r io.Reader, m message, yield func(message, error) bool) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1<<20), maxMessage)
	for s.Scan() {
		m.number++
		if m.text = bytes.TrimSpace(s.Bytes()); len(m.text) > 0 && !yield(m, nil) {
			return
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		yield(message{}, &tooLongError{message{number: m.number + 1}})
	} else if err != nil {
		yield(message{}, err)
	}
}

// errLongElement ends the reading of an element that is longer than maxMessage.
var errLongElement = errors.New("longer than a message may be")

// elementReader bounds what the decoder of an array reads, since that holds a whole element, and the white space before it,
// before it can be asked how long they are.
type elementReader struct {
	r       io.Reader
	n, most int64 // bytes that were read, and how many may be
}

// begin makes room for an element that begins behind the offset.
func (e *elementReader) begin(offset int64) {
	const around = 1 << 20 // the comma, white space and what ends the element
	e.most = offset + maxMessage + around
}

func (e *elementReader) Read(p []byte) (int, error) {
	room := e.most - e.n
	if room <= 0 {
		return 0, errLongElement
	}
	n, err := e.r.Read(p[:min(int64(len(p)), room)])
	e.n += int64(n)
	return n, err
}

func elements(r io.Reader, yield func(message, error) bool) {
	in := &elementReader{r: r}
	in.begin(0)
	dec := json.NewDecoder(in)
	m := message{element: true}
	_, err := dec.Token() // the bracket that messages has seen
	for err == nil {
		in.begin(dec.InputOffset())
		if !dec.More() {
			break
		}
		m.number++
		var text json.RawMessage
		if err = dec.Decode(&text); err != nil {
			break
		}
		if len(text) > maxMessage {
			yield(message{}, &tooLongError{m})
			return
		}
		m.text = text
		if !yield(m, nil) {
			return
		}
	}
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, errLongElement) { // white space, before the next element
			m.number++
		}
	}
	if err == nil {
		if _, _, err = skipSpace(bufio.NewReader(io.MultiReader(dec.Buffered(), r))); errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = errors.New("something follows the array")
		}
	}
	if errors.Is(err, errLongElement) {
		yield(message{}, &tooLongError{m})
		return
	}
	yield(message{}, fmt.Errorf("the array, element %d: %w", m.number, err))
}

// decompress gives the content of r, which is compressed where the name ends so. What it opens is closed by stop.
func decompress(r io.Reader, name string) (_ io.Reader, stop func(), err error) {
	switch {
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { _ = z.Close() }, nil // it reads only
	}
	return r, func() {}, nil
}

// inputFile is an input that can be read more than once.
type inputFile struct {
	name string
	file *os.File
	temp bool
}

// openInputFile opens a file; "-" is stdin. What can't be read twice, such as a pipe, is copied into a temporary file
// first, whole.
func openInputFile(ctx context.Context, name string, stdin io.Reader) (*inputFile, error) {
	if name == "-" {
		return spool(ctx, "standard input", stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &configError{fmt.Errorf("--input: %w", err)}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(&configError{fmt.Errorf("--input: %w", err)}, f.Close())
	case info.IsDir():
		return nil, errors.Join(&configError{fmt.Errorf("--input: %s is a folder: name a file", name)}, f.Close())
	case !info.Mode().IsRegular():
		in, err := spool(ctx, name, f)
		return in, errors.Join(err, f.Close())
	}
	return &inputFile{name: name, file: f}, nil
}

func spool(ctx context.Context, name string, r io.Reader) (*inputFile, error) {
	f, err := os.CreateTemp("", "connector-input-*")
	if err != nil {
		return nil, fmt.Errorf("making a temporary copy of %s: %w; TMPDIR names another folder", name, err)
	}
	in := &inputFile{name: name, file: f, temp: true}
	_ = os.Remove(f.Name()) // where the system allows it, so that not even a kill leaves it; Close removes it elsewhere
	copied := make(chan error, 1)
	go func() { // it may wait for ever in a read, which nothing can end but the process
		_, err := io.Copy(f, r)
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copying %s into a temporary file: %w; TMPDIR names another folder", name, err), in.Close())
	}
	return in, nil
}

// messages reads the input from its beginning.
func (in *inputFile) messages() iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			yield(message{}, err)
			return
		}
		r, stop, err := decompress(in.file, in.name)
		if err != nil {
			yield(message{}, err)
			return
		}
		defer stop()
		messages(r)(yield)
	}
}

// Close closes the file, and removes it where it is a temporary one.
func (in *inputFile) Close() error {
	err := in.file.Close()
	if in.temp {
		_ = os.Remove(in.file.Name()) // mostly gone already
	}
	return err
}
