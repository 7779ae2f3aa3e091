package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"kafkadelta/storage"
	"kafkadelta/storage/gcs"
)

// gcsForm is what openGCS takes.
const gcsForm = "gs://bucket/folder"

// gcsBucket is what a name may be (cloud.google.com/storage/docs/buckets#naming), those with a domain included.
var gcsBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)

// openGCS opens gs://bucket/folder. The path is taken as it is, as Google's tools and Spark do: a %20 in it is no space.
func openGCS(ctx context.Context, rest string, o Options) (storage.Store, error) {
	body, ok := strings.CutPrefix(rest, "//")
	bucket, folder, _ := strings.Cut(body, "/")
	folder = strings.TrimSuffix(folder, "/")
	switch {
	case !ok:
		return nil, errors.New("a GCS URI has two slashes: write " + gcsForm)
	case strings.Contains(bucket, "@") || strings.Contains(bucket, ":"):
		return nil, errors.New("a GCS URI holds no keys and no port: give credentials by GOOGLE_APPLICATION_CREDENTIALS or storage.gcs, an endpoint by STORAGE_EMULATOR_HOST or storage.gcs.endpoint")
	case strings.ContainsAny(body, "?#"):
		return nil, errors.New("a GCS URI has no query and no fragment: settings are in storage.gcs and Google's environment variables")
	case !gcsBucket.MatchString(bucket):
		return nil, fmt.Errorf("%q is no name of a bucket: write %s", bucket, gcsForm)
	case folder != "" && !fs.ValidPath(folder):
		return nil, fmt.Errorf("the folder has an empty, \".\" or \"..\" part: write %s", gcsForm)
	}
	getenv := o.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	return gcs.New(ctx, gcs.Location{Bucket: bucket, Folder: folder}, o.Config.GCS, gcs.Options{Getenv: getenv, Observe: o.Observe})
}
