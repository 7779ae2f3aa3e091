package open

import (
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"kafkadelta/storage/azure"
	"kafkadelta/storage/gcs"
	"kafkadelta/storage/s3"
)

// Place is where a URI leads, for comparing: those of one place have the same, however they are spelled, as far as URI, settings and
// environment tell, and links of folders that are there. Another name for a server is another place. Whatever can't be understood is a
// place of its own. It may be secret as the URI is: see Redact.
func Place(uri string, o Options) string {
	switch scheme, rest := split(uri); scheme {
	case "":
		return folder(uri)
	case "file":
		if path, err := filePath(uri); err == nil {
			return folder(path)
		}
	case "memory":
		return "memory:" + strings.TrimRight(rest, "/")
	case "abfss", "abfs", "wasbs", "wasb", "az", "azure", "https", "http":
		if l, err := azureLocation(scheme, uri); err == nil {
			return azure.Place(l, o.Config.Azure, o.getenv())
		}
	case "s3", "s3a":
		if l, err := s3Location(scheme, rest); err == nil {
			return s3.Place(l, o.Config.S3, o.getenv())
		}
	case "gs":
		if l, err := gcsLocation(rest); err == nil {
			return gcs.Place(l, o.Config.GCS, o.getenv())
		}
	}
	return uri
}

// folder is the absolute path of a folder that need not be there, without links.
func folder(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	there, missing := abs, ""
	for {
		target, err := filepath.EvalSymlinks(there)
		if err == nil {
			return (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(target, missing))}).String()
		}
		above := filepath.Dir(there)
		if !errors.Is(err, fs.ErrNotExist) || above == there {
			return (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}).String()
		}
		there, missing = above, filepath.Join(filepath.Base(there), missing)
	}
}
