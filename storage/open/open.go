// Package open turns the URI of a table into the storage backend that holds it.
//
// It owns the schemes and their spelling, and is the only package that imports every backend. It promises that a URI
// is either understood whole or refused with the supported forms and a hint, and that no user info and no query of a
// URI is in an error. It never touches the objects: a folder that does not exist yet opens fine.
//
// # Forms
//
//	/data/table, ./table, C:\data\table    a folder (the last on Windows only)
//	file:///data/table                     the same, percent-encoded; file:/data/table as Hadoop prints it works too
//	s3://bucket/folder, s3a://...          Amazon S3 or a compatible store; not percent-encoded
//	gs://bucket/folder                     Google Cloud Storage; not percent-encoded
//	memory://name                          a store in this process; for tests and demos
//	abfss://container@account.dfs.core.windows.net/path    Azure; also abfs, wasb, wasbs, az, azure, https (azure.go)
//
// All opens of one memory name in a process share one store, as workers share a table, and it lives as long as the
// process. Tests use a name of their own each, such as t.Name().
package open

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"kafkadelta/storage"
	"kafkadelta/storage/azure"
	"kafkadelta/storage/gcs"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/remote"
	"kafkadelta/storage/s3"
)

// Config holds each backend's own settings, as they stand under "storage" in a configuration file.
type Config struct {
	Azure azure.Config `yaml:"azure"`
	S3    s3.Config    `yaml:"s3"`
	GCS   gcs.Config   `yaml:"gcs"`
}

// Validate checks the settings without reaching for a file or a server.
func (c Config) Validate() error {
	return errors.Join(c.Azure.Validate(), c.S3.Validate(), c.GCS.Validate())
}

// Options are what a backend needs to know beside the URI.
type Options struct {
	Config Config
	// Getenv looks up the environment variables of the clouds' own tools (os.Getenv); nil means that none is set. A setting
	// in Config wins over a variable. The SDKs' default credentials read the process's environment themselves.
	Getenv func(string) string
	// Observe is told of every request to a store, by operation and outcome (storage/remote). It must be fast and safe for
	// use by many goroutines. Nil: nobody is told.
	Observe func(operation, outcome string)
	// Parts are those in which a cloud gets a large object. Services have a least size.
	Parts Parts
	// Clients, where it is not nil, has stores of one bucket share a client. The context of the first Open is not kept.
	Clients *Clients
}

// Parts say in what a cloud gets a large object.
type Parts = remote.Parts

func (o Options) getenv() func(string) string {
	if o.Getenv != nil {
		return o.Getenv
	}
	return func(string) string { return "" }
}

// Open returns the store at uri. Its errors are about configuration: trying again does not help.
func Open(ctx context.Context, uri string, o Options) (storage.Store, error) {
	s, err := open(ctx, uri, o)
	if err != nil {
		return nil, fmt.Errorf("opening store %q: %w", Redact(uri), err)
	}
	return s, nil
}

const supported = "supported are a folder (/data/table or ./table), file:///data/table, within one process memory://name, on S3 " + s3Forms +
	", on Google Cloud Storage " + gcsForm + ", and on Azure " + azureForms

func open(ctx context.Context, uri string, o Options) (storage.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scheme, rest := split(uri)
	switch scheme {
	case "":
		s, err := openPath(uri)
		return count(s, o.Observe), err
	case "file":
		s, err := openFile(uri)
		return count(s, o.Observe), err
	case "memory":
		s, err := openMemory(rest)
		return count(s, o.Observe), err
	case "abfss", "abfs", "wasbs", "wasb", "az", "azure", "https", "http":
		return openAzure(scheme, uri, o)
	case "s3", "s3a":
		return openS3(ctx, scheme, rest, o)
	case "gs":
		return openGCS(ctx, rest, o)
	default:
		return nil, fmt.Errorf("scheme %q is not supported: %s; %s", scheme, supported, hint(scheme))
	}
}

// hint guesses what was meant.
func hint(scheme string) string {
	switch scheme {
	case "s3n":
		return "write s3:// or s3a://"
	case "gcs":
		return "write gs://"
	case "adl", "hdfs", "dbfs":
		return "this build has no backend for that store, write to a folder for now"
	default:
		return "is it misspelled? A relative folder with a colon in its name is written ./name"
	}
}

func openPath(path string) (storage.Store, error) {
	switch {
	case path == "":
		return nil, errors.New("the location is empty: " + supported)
	case path == "~" || strings.HasPrefix(path, "~/"):
		return nil, errors.New("~ is expanded by shells only: write the home folder out, or ./~ for a folder of that name")
	case strings.Contains(path, "?"):
		// More likely a URI without its scheme, whose query would become a folder's name for everybody to read.
		return nil, errors.New("a path has no query: put the scheme in front, or write file:/// with %3F for the ?")
	case isDrive(path) && runtime.GOOS != "windows":
		return nil, errors.New("a drive letter means nothing on this operating system: give a path like /data/table")
	}
	return local.New(path)
}

func openFile(uri string) (storage.Store, error) {
	path, err := filePath(uri)
	if err != nil {
		return nil, err
	}
	return local.New(path)
}

// filePath is the path in a file URI.
func filePath(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		// Not err itself: it quotes the URI.
		return "", errors.New("it is not a valid URI: percent-encode special characters (% as %25), or give the plain path")
	}
	switch {
	case u.User != nil || u.Host != "" && u.Host != "localhost":
		return "", errors.New("a file URI names no host: write three slashes, file:///data/table")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("a file URI has no query or fragment: write ? as %3F and # as %23, or give the plain path")
	case u.Opaque != "" || u.Path == "" || u.Path == "/":
		return "", errors.New("a file URI needs an absolute path: file:///data/table")
	}
	path := u.Path
	if isDrive(path[1:]) && runtime.GOOS == "windows" { // file:///C:/data
		path = path[1:]
	}
	return filepath.FromSlash(path), nil
}

var (
	memoryMu     sync.Mutex
	memoryStores = map[string]*memory.Store{}
)

func openMemory(rest string) (storage.Store, error) {
	name, ok := strings.CutPrefix(rest, "//")
	if !ok || strings.Trim(name, "/") == "" || strings.ContainsAny(name, "?#@") {
		return nil, errors.New("a memory URI is memory://name, without ?, # and @")
	}
	name = strings.TrimRight(name, "/")
	memoryMu.Lock()
	defer memoryMu.Unlock()
	s, ok := memoryStores[name]
	if !ok {
		s = memory.New()
		memoryStores[name] = s
	}
	return s, nil
}

// split returns the lower-case scheme of a URI and what follows its colon. Without a scheme it is a path, and so it is
// with one letter, which is a Windows drive.
func split(uri string) (scheme, rest string) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || len(scheme) < 2 || isPunct(scheme[0]) {
		return "", uri
	}
	for i := range len(scheme) {
		if !isLetter(scheme[i]) && !isPunct(scheme[i]) {
			return "", uri
		}
	}
	return strings.ToLower(scheme), rest
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isPunct tells the characters that a scheme may have after its first letter (RFC 3986, section 3.1).
func isPunct(c byte) bool { return '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.' }

func isDrive(path string) bool {
	return len(path) >= 2 && isLetter(path[0]) && path[1] == ':' && (len(path) == 2 || path[2] == '\\' || path[2] == '/')
}
