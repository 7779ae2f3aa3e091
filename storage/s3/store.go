package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// writeID is the metadata that tells whose an object is.
const writeID = "kafkadelta-write"

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && (folder == "./" || !fs.ValidPath(strings.TrimSuffix(folder, "/"))) {
			yield(storage.ObjectInfo{}, fmt.Errorf("listing %q: invalid prefix: %w", prefix, fs.ErrInvalid))
			return
		}
		if err := ctx.Err(); err != nil {
			yield(storage.ObjectInfo{}, fmt.Errorf("listing %q: %w", s.uri(prefix), err))
			return
		}
		if s.log != nil {
			if err := s.log.beforeList(ctx, prefix, after); err != nil {
				yield(storage.ObjectInfo{}, err)
				return
			}
		}
		s.list(ctx, prefix, after, yield)
	}
}

// list asks page by page. The service filters by what is valid UTF-8 of prefix and after, the rest is done here.
func (s *Store) list(ctx context.Context, prefix, after string, yield func(storage.ObjectInfo, error) bool) {
	in := &s3.ListObjectsV2Input{Bucket: &s.where.Bucket, Prefix: aws.String(s.key(valid(prefix)))}
	if after := valid(after); after != "" {
		in.StartAfter = aws.String(s.key(after))
	}
	root, last := s.key(""), ""
	for {
		var page *s3.ListObjectsV2Output
		if _, err := s.do(ctx, remote.List, prefix, false, func(ctx context.Context, c *s3.Client) (err error) {
			page, err = c.ListObjectsV2(ctx, in)
			return err
		}); err != nil {
			yield(storage.ObjectInfo{}, err)
			return
		}
		for _, o := range page.Contents {
			name, ok := strings.CutPrefix(aws.ToString(o.Key), root)
			if !ok || strings.HasSuffix(name, "/") || name == "" || !strings.HasPrefix(name, prefix) || name <= after || s.log.hides(name) {
				continue
			}
			if name <= last {
				yield(storage.ObjectInfo{}, fmt.Errorf("listing %q: %q came after %q: this store does not list in byte order of names, which a Delta log needs", s.uri(prefix), name, last))
				return
			}
			last = name
			if !yield(storage.ObjectInfo{Name: name, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)}, nil) {
				return
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return
		}
		in.StartAfter, in.ContinuationToken = nil, page.NextContinuationToken
	}
}

// valid cuts a string off where it stops being UTF-8, which is all that the service takes.
func valid(s string) string {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return s[:i]
		}
	}
	return s
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.check(ctx, "getting", name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("getting %q: offset %d is negative: %w", s.uri(name), offset, fs.ErrInvalid)
	}
	body, err := s.get(ctx, name, offset, length)
	if s.log != nil && errors.Is(err, fs.ErrNotExist) && isCommit(name) {
		switch there, logErr := s.log.recover(ctx, name); {
		case logErr != nil:
			return nil, logErr
		case there:
			return s.get(ctx, name, offset, length)
		}
	}
	return body, err
}

func (s *Store) get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 { // no range says so
		if _, err := s.head(ctx, name); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	in := &s3.GetObjectInput{Bucket: &s.where.Bucket, Key: aws.String(s.key(name)), Range: byteRange(offset, length)}
	var out *s3.GetObjectOutput
	_, err := s.do(ctx, remote.Get, name, false, func(ctx context.Context, c *s3.Client) (err error) {
		out, err = c.GetObject(ctx, in)
		return err
	})
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.HTTPStatusCode() == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(bytes.NewReader(nil)), nil // past the end
	}
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

// byteRange is nil for the whole object, since an empty one has no range at all.
func byteRange(offset, length int64) *string {
	switch {
	case offset == 0 && length < 0:
		return nil
	case length < 0 || offset > math.MaxInt64-length:
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	default:
		return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
}

func (s *Store) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	var out *s3.HeadObjectOutput
	_, err := s.do(ctx, remote.Head, name, false, func(ctx context.Context, c *s3.Client) (err error) {
		out, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.where.Bucket, Key: aws.String(s.key(name))})
		return err
	})
	return out, err
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := s.check(ctx, "putting", name); err != nil {
		return err
	}
	return s.put(ctx, remote.Put, name, data, s.object(name))
}

// object is what every new object has in common.
func (s *Store) object(name string) s3.PutObjectInput {
	in := s3.PutObjectInput{Bucket: &s.where.Bucket, Key: aws.String(s.key(name))}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	return in
}

func (s *Store) encryption() (types.ServerSideEncryption, *string) {
	switch s.cfg.Encryption {
	case EncryptionS3:
		return types.ServerSideEncryptionAes256, nil
	case EncryptionKMS:
		if s.cfg.KMSKeyID == "" {
			return types.ServerSideEncryptionAwsKms, nil
		}
		return types.ServerSideEncryptionAwsKms, &s.cfg.KMSKeyID
	}
	return "", nil
}

func (s *Store) put(ctx context.Context, op, name string, data []byte, in s3.PutObjectInput) error {
	_, err := s.do(ctx, op, name, true, putting(in, data))
	return err
}

func putting(in s3.PutObjectInput, data []byte) func(context.Context, *s3.Client) error {
	in.ContentLength = aws.Int64(int64(len(data)))
	return func(ctx context.Context, c *s3.Client) error {
		try := in
		try.Body = bytes.NewReader(data)
		_, err := c.PutObject(ctx, &try)
		return err
	}
}

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := s.check(ctx, "putting if absent", name); err != nil {
		return err
	}
	if s.log != nil && isCommit(name) {
		return s.log.commit(ctx, name, data)
	}
	in := s.object(name)
	in.IfNoneMatch = aws.String("*")
	in.Metadata = map[string]string{writeID: rand.Text()}
	var found string
	return s.remote.PutIfAbsent(ctx, s.uri(name), in.Metadata[writeID], s.follow(putting(in, data)), func(ctx context.Context) (string, error) {
		err := s.follow(func(ctx context.Context, c *s3.Client) error {
			out, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: in.Bucket, Key: in.Key})
			if err == nil {
				found = out.Metadata[writeID]
			}
			return err
		})(ctx)
		return found, err
	})
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.check(ctx, "deleting", name); err != nil {
		return err
	}
	_, err := s.do(ctx, remote.Delete, name, true, func(ctx context.Context, c *s3.Client) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.where.Bucket, Key: aws.String(s.key(name))})
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
