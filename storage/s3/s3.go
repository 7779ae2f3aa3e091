// Package s3 keeps objects in a bucket of Amazon S3 or of a store that speaks its protocol.
//
// It owns how a bucket is reached (credentials, region, endpoint), what S3's errors mean, and the two ways to write a
// name only once: a conditional put (If-None-Match), or the protocol of Delta's S3DynamoDBLogStore for tables that Spark
// writes through it. It promises what storage.Store promises, and:
//   - A conditional put whose answer was lost is recognised as its own by an id in the object's metadata.
//   - An object that is streamed is in parts of a multipart upload until Close. Abort and every failure before the end
//     remove them; only a process that dies leaves them, for a lifecycle rule to remove.
//   - CheckWrites finds out, before the first write, whether the store honours conditional puts at all.
//
// It needs a store that is read-after-write consistent, as S3 is, and that lists in byte order of names; a listing out of
// order is an error. It never creates a bucket or a DynamoDB table, and never retries but through storage/remote.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// Location is where a table is.
type Location struct {
	Scheme string // s3 or s3a; only the DynamoDB log store tells them apart
	Bucket string
	Prefix string // the table's folder, without slashes at its ends; "" for the whole bucket
}

// String returns the location as Spark writes it.
func (l Location) String() string {
	return strings.TrimSuffix(l.Scheme+"://"+l.Bucket+"/"+l.Prefix, "/")
}

// Place is the same for all spellings of a location. An endpoint that only a profile names is not looked for.
func Place(l Location, c Config, getenv func(string) string) string {
	endpoint := cmp.Or(c.Endpoint, getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"))
	host := ""
	if u, err := url.Parse(endpoint); err == nil && !isAWS(&endpoint) {
		host = u.Host
	}
	return strings.TrimRight("s3://"+host+"/"+l.Bucket+"/"+l.Prefix, "/")
}

// Options are what a store needs beside its location and settings.
type Options struct {
	Getenv  func(string) string             // looks up the variable of a static key; nil: none is set
	Observe func(operation, outcome string) // as remote.Options.Observe
	Now     func() time.Time                // for the log store's expiry; nil: time.Now
	Parts   remote.Parts                    // of large objects
}

// Store is a storage.Store in a bucket.
type Store struct {
	where  Location
	cfg    Config
	remote *remote.Client
	client *atomic.Pointer[s3.Client] // replaced when the bucket's region is learnt
	aws    bool                       // the endpoint is Amazon's
	ask    bool                       // no region was given: it is learnt from the bucket's answers
	log    *logStore                  // nil: conditional puts
	probed *atomic.Bool               // the endpoint knows conditional puts

	checking sync.Mutex
	checked  bool
}

var _ storage.Store = (*Store)(nil)

// New returns the store at a location. It reads configuration files, but sends no request.
func New(ctx context.Context, where Location, cfg Config, o Options) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if strings.HasSuffix(where.Bucket, "--x-s3") {
		return nil, fmt.Errorf("%s is a directory bucket (S3 Express One Zone), which lists in no order: use a general purpose bucket", where.Bucket)
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	shared, roots, err := load(ctx, cfg, o.Getenv)
	if err != nil {
		return nil, err
	}
	s := &Store{where: where, cfg: cfg, client: &atomic.Pointer[s3.Client]{}, probed: &atomic.Bool{}}
	s.remote = remote.New(remote.Options{Explain: explain, Observe: o.Observe, RootCAs: roots, Parts: o.Parts, LeastPart: leastPart})
	shared.HTTPClient = s.remote.HTTP
	shared.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	known := shared.Region
	if shared.Region == "" {
		shared.Region = defaultRegion
	}
	shared.Credentials = credentials(shared, cfg)
	client := s3.NewFromConfig(shared, s.options)
	if err := foundEndpoints(shared, client); err != nil {
		return nil, err
	}
	s.client.Store(client)
	s.aws = isAWS(client.Options().BaseEndpoint)
	s.ask = s.aws && known == ""
	if cfg.LogStore == LogStoreDynamoDB {
		s.log = newLogStore(s, shared, o.Now)
	}
	return s, nil
}

// Below returns the store in a folder of this one, without slashes at its ends, by the same client.
func (s *Store) Below(folder string) storage.Store {
	where := s.where
	where.Prefix = path.Join(where.Prefix, folder)
	below := &Store{where: where, cfg: s.cfg, remote: s.remote, client: s.client, aws: s.aws, ask: s.ask, probed: s.probed}
	if l := s.log; l != nil {
		below.log = &logStore{store: below, client: l.client, table: l.table, path: hadoopPath(where), now: l.now}
	}
	return below
}

// Location returns where the store is.
func (s *Store) Location() Location { return s.where }

// defaultRegion is asked first where none is known; stores that are not Amazon's take any.
const defaultRegion = "us-east-1"

// options settle what differs between Amazon's S3 and other stores.
func (s *Store) options(o *s3.Options) {
	if s.cfg.Endpoint != "" {
		o.BaseEndpoint = aws.String(s.cfg.Endpoint)
	}
	own := !isAWS(o.BaseEndpoint)
	o.UsePathStyle = own
	if s.cfg.PathStyle != nil {
		o.UsePathStyle = *s.cfg.PathStyle
	}
	if own {
		// The newer checksums are refused or misread by stores that don't know them.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	o.DisableLogOutputChecksumValidationSkipped = true
}

// foundEndpoints refuses what is no endpoint in environment and profile: the SDK would quote it, with the secret that may be in
// it, at each request.
func foundEndpoints(shared aws.Config, client *s3.Client) error {
	for service, found := range map[string]*string{
		"S3":       client.Options().BaseEndpoint,
		"STS":      sts.NewFromConfig(shared).Options().BaseEndpoint,
		"DYNAMODB": dynamodb.NewFromConfig(shared).Options().BaseEndpoint,
	} {
		if found != nil && !isEndpoint(*found) {
			return fmt.Errorf("the endpoint that AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_%s or the profile names is %s", service, notEndpoint)
		}
	}
	return nil
}

// isAWS tells Amazon's endpoints, those of a VPC and of other partitions included.
func isAWS(endpoint *string) bool {
	if endpoint == nil {
		return true
	}
	u, err := url.Parse(*endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// key returns the key of an object in the bucket.
func (s *Store) key(name string) string {
	if s.where.Prefix == "" {
		return name
	}
	return s.where.Prefix + "/" + name
}

// uri names an object in an error.
func (s *Store) uri(name string) string { return s.where.String() + "/" + name }

// check refuses what every backend refuses, before anything is sent.
func (s *Store) check(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", op, s.uri(name), err)
	}
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%s %q: invalid object name: want relative UTF-8 without empty, \".\" or \"..\" parts: %w", op, name, fs.ErrInvalid)
	}
	return nil
}

// do carries out one operation on an object.
func (s *Store) do(ctx context.Context, op, name string, writes bool, try func(context.Context, *s3.Client) error) (doubtful bool, err error) {
	return s.remote.Do(ctx, remote.Operation{Name: op, Object: s.uri(name), Writes: writes}, s.follow(try))
}

// follow calls try with the client of the bucket's region. An answer that names another region than the one asked leads
// there at once: nothing was carried out.
func (s *Store) follow(try func(context.Context, *s3.Client) error) func(context.Context) error {
	return func(ctx context.Context) error {
		client := s.client.Load()
		err := try(ctx, client)
		if region := bucketRegion(err); s.ask && region != "" && region != client.Options().Region {
			client = s3.New(client.Options(), func(o *s3.Options) { o.Region = region })
			s.client.Store(client)
			err = try(ctx, client)
		}
		return err
	}
}

// unknown hides the class of an error behind which a write may have landed: only "unknown" is left.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}
