package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Codecs that values are compressed with.
const (
	Gzip = "gzip" // RFC 1952, members one behind the other included
	Zstd = "zstd" // RFC 8878, frames one behind the other included
)

const (
	// batchBytes bounds what the values of one batch become: who fills the batch knows only their compressed size.
	batchBytes = 4 << 20
	// keepBuffer is the largest buffer that is kept from batch to batch.
	keepBuffer = 1 << 20
	// leastWindow of zstd is taken whatever the limit: what is compressed as a stream names one of some MiB, however short it is. RFC 8878 (3.1.1.1.2)
	// asks for it.
	leastWindow = 8 << 20
)

// Compressed decompresses values before they are decoded.
type Compressed struct {
	inner      Decoder
	decompress func(dst, src []byte) ([]byte, error) // errTooLarge where it becomes longer than limit, errWindow where it asks for a larger window
	codec      string
	limit      int
	header     string // that may name a message's schema; "" for none
	buf        []byte
	bytes      int        // of the values in the batch
	rec        kgo.Record // with its value decompressed
}

// errTooLarge says that a value becomes larger than the limit, errWindow that its frame names a window that may.
var (
	errTooLarge = errors.New("too large")
	errWindow   = errors.New("the window is too large")
)

// NewCompressed returns a decoder of values that are compressed with the codec, and become at most limit bytes. header is where a schema registry's serializers
// may name the schema, which is told of values that can't be decompressed, too; "" where messages are not framed so. inner may be nil for Decompress alone.
func NewCompressed(codec string, limit int, header string, inner Decoder) (*Compressed, error) {
	d := &Compressed{inner: inner, codec: codec, limit: limit, header: header}
	switch codec {
	case Gzip:
		d.decompress = gunzip(limit)
	case Zstd:
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(d.window())), zstd.WithDecoderLowmem(true)) // of windows, too
		if err != nil {
			return nil, fmt.Errorf("decompressing zstd: %w", err)
		}
		d.decompress = func(dst, src []byte) ([]byte, error) {
			if len(src) == 0 { // which DecodeAll takes
				return dst, io.ErrUnexpectedEOF
			}
			out, err := r.DecodeAll(src, dst)
			switch {
			case errors.Is(err, zstd.ErrWindowSizeExceeded):
				err = errWindow
			case len(out) > limit, errors.Is(err, zstd.ErrDecoderSizeExceeded):
				err = errTooLarge
			}
			return out, err
		}
	default:
		return nil, fmt.Errorf("compression %q: use %s or %s", codec, Gzip, Zstd)
	}
	return d, nil
}

// window is the largest window that is taken, in bytes.
func (d *Compressed) window() int { return max(d.limit, leastWindow) }

// gunzip reuses one reader.
func gunzip(limit int) func(dst, src []byte) ([]byte, error) {
	var in bytes.Reader
	var r *gzip.Reader
	return func(dst, src []byte) (out []byte, err error) {
		in.Reset(src)
		if r == nil {
			r, err = gzip.NewReader(&in)
		} else {
			err = r.Reset(&in)
		}
		if err != nil {
			return dst, err
		}
		for {
			if len(dst) == cap(dst) {
				dst = append(dst, make([]byte, max(len(dst), 4<<10))...)[:len(dst)]
			}
			n, err := r.Read(dst[len(dst):min(cap(dst), limit+1)])
			dst = dst[:len(dst)+n]
			switch {
			case len(dst) > limit:
				return dst, errTooLarge
			case errors.Is(err, io.EOF):
				return dst, nil
			case err != nil:
				return dst, err
			}
		}
	}
}

// Append decompresses a record's value and decodes it. A value that is not compressed so, or becomes too large, is a
// *decode.PoisonError; what the decoder returns is returned. A record without a value is handed on as it is.
func (d *Compressed) Append(rec *kgo.Record) error {
	if rec.Value == nil {
		return d.inner.Append(rec)
	}
	if d.bytes >= batchBytes {
		return &decode.RetryLaterError{Cause: decode.ErrBatchFull}
	}
	out, err := d.Decompress(rec)
	if err != nil {
		return err
	}
	d.rec = *rec
	d.rec.Value = out
	if err := d.inner.Append(&d.rec); err != nil {
		return err
	}
	d.bytes += len(out)
	return nil
}

// WrittenBy tells the schema of a message that Append has taken.
func (d *Compressed) WrittenBy(rec *kgo.Record) string {
	d.rec = *rec
	if rec.Value != nil {
		d.rec.Value, _ = d.Decompress(rec) // it went well before
	}
	return d.inner.WrittenBy(&d.rec)
}

// Decompress gives a record's value, until the next one. The error is a *decode.PoisonError.
func (d *Compressed) Decompress(rec *kgo.Record) ([]byte, error) {
	out, err := d.decompress(d.buf[:0], rec.Value)
	if out != nil {
		d.buf = out
	}
	if err == nil {
		return out, nil
	}
	e := &decode.PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset}
	if d.header != "" {
		if f, err := decode.RegistryFraming(&kgo.Record{Headers: rec.Headers}, d.header); err == nil {
			e.Schema = f.Ref.String()
		}
	}
	switch {
	case errors.Is(err, errTooLarge):
		e.Reason, e.Detail = decode.ReasonTooLarge, fmt.Sprintf("%d bytes of %s become more than %d: source.max_decompressed is the limit", len(rec.Value), d.codec, d.limit)
	case errors.Is(err, errWindow):
		e.Reason = decode.ReasonTooLarge
		e.Detail = fmt.Sprintf("its %d bytes of %s need a window of more than %d: raise source.max_decompressed to its size, or compress with a smaller one (zstd --long=%d)", len(rec.Value), d.codec, d.window(), bits.Len(uint(d.window()))-1)
	default:
		e.Reason, e.Detail = decode.ReasonInvalidCompression, fmt.Sprintf("the value of %d bytes, which begins with %s, is not %s: %v", len(rec.Value), decode.Shorten(rec.Value[:min(len(rec.Value), 8)]), d.codec, err)
	}
	return nil, e
}

// Builders are the rows that are held.
func (d *Compressed) Builders() *decode.Rows { return d.inner.Builders() }

// Bytes is the size of the rows in memory.
func (d *Compressed) Bytes() int { return d.inner.Builders().Bytes() }

// NewBatch returns the rows as the decoder's NewBatch does.
func (d *Compressed) NewBatch() arrow.RecordBatch {
	d.shrink()
	return d.inner.NewBatch()
}

// Reset drops the rows.
func (d *Compressed) Reset() {
	d.shrink()
	d.inner.Reset()
}

func (d *Compressed) shrink() {
	d.bytes = 0
	if cap(d.buf) > keepBuffer {
		d.buf = nil
	}
}
