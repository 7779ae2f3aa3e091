package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// Limits of a multipart upload: S3 takes at most 10,000 parts of at least 5 MiB. Parts grow with their number, so that
// 4.8 TiB fit, and with parts of 8 MiB 5 TiB, the largest object; the first thousand are of one size, as some stores ask for (R2).
const (
	leastPart = 5 << 20
	sameParts = 1000 // parts until the size doubles
	abortTime = 30 * time.Second
)

func partSize(first, number int) int { return first << ((number - 1) / sameParts) }

// writer streams one object: small ones in one put at Close, others in parts while they are written.
type writer struct {
	ctx    context.Context
	cancel context.CancelFunc // ends the parts under way
	store  *Store
	name   string
	id     string
	first  int    // size of the first part
	part   []byte // being filled
	number int    // of that part, from 1
	upload string // id of the multipart upload; "" before the first full part
	sent   sync.WaitGroup
	done   bool

	mu     sync.Mutex
	parts  []types.CompletedPart
	failed error
}

// Create implements storage.Store. The context rules the whole stream.
func (s *Store) Create(ctx context.Context, name string) (storage.Writer, error) {
	if err := s.check(ctx, "creating", name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &writer{ctx: ctx, cancel: cancel, store: s, name: name, id: rand.Text(), first: s.remote.PartSize(), number: 1}, nil
}

// Held is the memory that the part takes that fills, in bytes. It is for who writes.
func (w *writer) Held() int { return cap(w.part) }

// Write implements io.Writer. It waits while as many parts are sent as may be.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.usable("writing"); err != nil {
		return 0, err
	}
	written := 0
	for len(p) > 0 {
		if w.part == nil && w.number > 1 {
			w.part = make([]byte, 0, partSize(w.first, w.number))
		}
		n := min(len(p), partSize(w.first, w.number)-len(w.part))
		w.part = append(w.part, p[:n]...)
		p, written = p[n:], written+n
		if len(w.part) == partSize(w.first, w.number) {
			if err := w.send(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// usable tells why nothing more can be written.
func (w *writer) usable(op string) error {
	if w.done {
		return fmt.Errorf("%s %q: the writer is closed: %w", op, w.store.uri(w.name), fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", op, w.store.uri(w.name), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// send gives the filled part away, and begins the upload before the first.
func (w *writer) send() error {
	if w.upload == "" {
		if err := w.begin(); err != nil {
			return w.fail(err)
		}
	}
	sent, err := w.store.remote.AwaitPart(w.ctx)
	if err != nil {
		return w.usable("writing")
	}
	number, data := int32(w.number), w.part
	w.part = nil
	w.number++
	w.sent.Go(func() {
		defer sent()
		if err := w.sendPart(number, data); err != nil {
			_ = w.fail(err)
		}
	})
	return w.usable("writing")
}

// fail keeps the first failure, which every later call answers.
func (w *writer) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
	return w.failed
}

func (w *writer) begin() error {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &w.store.where.Bucket, Key: aws.String(w.store.key(w.name)), Metadata: map[string]string{writeID: w.id},
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = w.store.encryption()
	_, err := w.store.do(w.ctx, remote.Part, w.name, true, func(ctx context.Context, c *s3.Client) error {
		in.ChecksumAlgorithm = partChecksum(c)
		out, err := c.CreateMultipartUpload(ctx, in)
		if err == nil {
			w.upload = aws.ToString(out.UploadId)
		}
		return err
	})
	return err
}

// partChecksum is the algorithm by which the SDK checks each part, which the upload has to name from its beginning.
func partChecksum(c *s3.Client) types.ChecksumAlgorithm {
	if c.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenSupported {
		return types.ChecksumAlgorithmCrc32
	}
	return ""
}

func (w *writer) sendPart(number int32, data []byte) error {
	in := s3.UploadPartInput{
		Bucket: &w.store.where.Bucket, Key: aws.String(w.store.key(w.name)), UploadId: &w.upload, PartNumber: &number,
		ContentLength: aws.Int64(int64(len(data))),
	}
	_, err := w.store.do(w.ctx, remote.Part, w.name, true, func(ctx context.Context, c *s3.Client) error {
		try := in
		try.Body = bytes.NewReader(data)
		try.ChecksumAlgorithm = partChecksum(c)
		out, err := c.UploadPart(ctx, &try)
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for len(w.parts) < int(number) {
			w.parts = append(w.parts, types.CompletedPart{})
		}
		w.parts[number-1] = types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
		return nil
	})
	return err
}

// Close makes the object visible. After an error nothing is known of it, but that no parts are left behind.
func (w *writer) Close() error {
	err := w.usable("closing")
	if w.done {
		return err
	}
	w.done = true
	defer w.cancel()
	if w.upload == "" && err == nil {
		return w.store.put(w.ctx, remote.Put, w.name, w.part, w.store.object(w.name))
	}
	if err == nil && len(w.part) > 0 {
		err = w.sendPart(int32(w.number), w.part)
	}
	w.sent.Wait()
	if err == nil {
		w.mu.Lock()
		err = w.failed
		w.mu.Unlock()
	}
	if err == nil {
		err = w.complete()
	}
	if err != nil {
		return errors.Join(err, w.remove())
	}
	return nil
}

func (w *writer) complete() error {
	doubtful, err := w.store.do(w.ctx, remote.Complete, w.name, true, func(ctx context.Context, c *s3.Client) error {
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &w.store.where.Bucket, Key: aws.String(w.store.key(w.name)), UploadId: &w.upload,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: w.parts},
		})
		return err
	})
	if failed, ok := errors.AsType[*remote.Error](err); ok && doubtful && failed.Outcome == remote.NotFound {
		// The upload is gone: an earlier try has completed it, if the object has our id.
		if out, headErr := w.store.head(w.ctx, w.name); headErr == nil && out.Metadata[writeID] == w.id {
			return nil
		}
	}
	return err
}

// Abort implements storage.Writer.
func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done, w.part = true, nil
	w.cancel()
	w.sent.Wait()
	return w.remove()
}

// remove gives the parts back, also when the caller has given up: they would cost until somebody finds them.
func (w *writer) remove() error {
	if w.upload == "" {
		return nil
	}
	w.cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
	defer cancel()
	_, err := w.store.do(ctx, remote.Abort, w.name, true, func(ctx context.Context, c *s3.Client) error {
		_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &w.store.where.Bucket, Key: aws.String(w.store.key(w.name)), UploadId: &w.upload,
		})
		return err
	})
	if failed, ok := errors.AsType[*remote.Error](err); ok && failed.Outcome == remote.NotFound {
		return nil
	}
	return err
}
