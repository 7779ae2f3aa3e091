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

// gcsBucket is what a name of 3 to 222 characters may be (cloud.google.com/storage/docs/buckets#naming), those with a domain included.
var gcsBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]+[a-z0-9]$`)

func openGCS(_ context.Context, rest string, o Options) (storage.Store, error) {
	l, err := gcsLocation(rest)
	if err != nil {
		return nil, err
	}
	return o.Clients.in("gs://"+l.Bucket, l.Folder, func() (below, error) {
		return gcs.New(gcs.Location{Bucket: l.Bucket}, o.Config.GCS, gcs.Options{Getenv: o.getenv(), Observe: o.Observe, Parts: o.Parts})
	})
}

// gcsLocation reads gs://bucket/folder. The path is taken as it is, as Google's tools and Spark do: a %20 in it is no space.
func gcsLocation(rest string) (gcs.Location, error) {
	body, ok := strings.CutPrefix(rest, "//")
	bucket, folder, _ := strings.Cut(body, "/")
	folder = strings.TrimSuffix(folder, "/")
	switch {
	case !ok:
		return gcs.Location{}, errors.New("a GCS URI has two slashes: write " + gcsForm)
	case strings.Contains(bucket, "@") || strings.Contains(bucket, ":"):
		return gcs.Location{}, errors.New("a GCS URI holds no keys and no port: give credentials by GOOGLE_APPLICATION_CREDENTIALS or storage.gcs, an endpoint by STORAGE_EMULATOR_HOST or storage.gcs.endpoint")
	case strings.ContainsAny(body, "?#"):
		return gcs.Location{}, errors.New("a GCS URI has no query and no fragment: settings are in storage.gcs and Google's environment variables")
	case len(bucket) > 222 || !gcsBucket.MatchString(bucket):
		return gcs.Location{}, fmt.Errorf("%q is no name of a bucket: write %s", bucket, gcsForm)
	case folder != "" && !fs.ValidPath(folder):
		return gcs.Location{}, fmt.Errorf("the folder has an empty, \".\" or \"..\" part: write %s", gcsForm)
	}
	return gcs.Location{Bucket: bucket, Folder: folder}, nil
}
