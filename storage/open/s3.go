package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"kafkadelta/storage"
	"kafkadelta/storage/s3"
)

// s3Forms are what openS3 takes.
const s3Forms = "s3://bucket/folder or s3a://bucket/folder"

// bucketName takes what S3 took at any time; compatible stores are as lenient.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]+$`)

func openS3(ctx context.Context, scheme, rest string, o Options) (storage.Store, error) {
	l, err := s3Location(scheme, rest)
	if err != nil {
		return nil, err
	}
	bucket := s3.Location{Scheme: l.Scheme, Bucket: l.Bucket}
	return o.Clients.in(bucket.String(), l.Prefix, func() (below, error) {
		return s3.New(context.WithoutCancel(ctx), bucket, o.Config.S3, s3.Options{Getenv: o.Getenv, Observe: o.Observe, Parts: o.Parts})
	})
}

// s3Location reads s3://bucket/folder and s3a://bucket/folder. The path is taken as it is, as AWS's tools and Spark do: a %20 in
// it is no space.
func s3Location(scheme, rest string) (s3.Location, error) {
	body, ok := strings.CutPrefix(rest, "//")
	bucket, folder, _ := strings.Cut(body, "/")
	folder = strings.TrimSuffix(folder, "/")
	switch {
	case !ok:
		return s3.Location{}, errors.New("an S3 URI has two slashes: write " + s3Forms)
	case strings.Contains(bucket, "@") || strings.Contains(bucket, ":"):
		return s3.Location{}, errors.New("an S3 URI holds no keys and no port: give keys by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or storage.s3, an endpoint by AWS_ENDPOINT_URL or storage.s3.endpoint")
	case strings.ContainsAny(body, "?#"):
		return s3.Location{}, errors.New("an S3 URI has no query and no fragment: settings are in storage.s3 and AWS's environment variables")
	case len(bucket) > 255 || !bucketName.MatchString(bucket):
		return s3.Location{}, fmt.Errorf("%q is no name of a bucket: write %s", bucket, s3Forms)
	case folder != "" && !fs.ValidPath(folder):
		return s3.Location{}, fmt.Errorf("the folder has an empty, \".\" or \"..\" part: write %s", s3Forms)
	}
	return s3.Location{Scheme: scheme, Bucket: bucket, Prefix: folder}, nil
}
