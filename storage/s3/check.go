package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kafkadelta/storage/remote"
)

// errUnsafe says that this store, as it is configured, can't hold a table that more than one process writes.
var errUnsafe = fmt.Errorf("commits here would not be safe: %w", errors.ErrUnsupported)

const (
	probeFolder = "_delta_log/.probe-" // readers skip names with a dot, and cleaning removes what a crash leaves of it
	probeTime   = 30 * time.Second     // to remove the probe
	temps       = "_delta_log/.tmp/"   // where S3DynamoDBLogStore keeps commits before they are visible
)

// CheckWrites finds out whether commits are safe, before the first write of a process; a second call costs nothing, and one for
// another folder of the bucket (Below) not the first of these:
//
//   - A store that is not Amazon's is asked to put one name twice, which it must refuse the second time (3 requests; the name
//     is removed). Stores that lack conditional puts either refuse the first put or ignore the condition.
//   - A table that Spark writes through S3DynamoDBLogStore is written through it here, too, and the other way round: Spark would
//     take a version that it did not get for its own (1 request).
//
// The error wraps errors.ErrUnsupported when that is the answer; else there was none.
func (s *Store) CheckWrites(ctx context.Context) error {
	s.checking.Lock()
	defer s.checking.Unlock()
	if s.checked {
		return nil
	}
	var err error
	if s.log != nil {
		err = s.log.check(ctx)
	} else if err = s.checkForeign(ctx); err == nil && !s.aws && !s.probed.Load() {
		err = s.probe(ctx)
		s.probed.Store(err == nil)
	}
	s.checked = err == nil
	return err
}

// checkForeign looks for what S3DynamoDBLogStore leaves behind.
func (s *Store) checkForeign(ctx context.Context) error {
	for info, err := range s.List(ctx, temps, "") {
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: %s was written by S3DynamoDBLogStore, which keeps its order of commits in DynamoDB and does not see others': set storage.s3.log_store: %s, or, if nobody writes the table that way any more, delete %s",
			errUnsafe, s.uri(info.Name), LogStoreDynamoDB, s.uri(temps))
	}
	return nil
}

func (s *Store) probe(ctx context.Context) (err error) {
	id := rand.Text()
	name := probeFolder + id
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
		defer cancel()
		err = errors.Join(err, s.Delete(ctx, name))
	}()
	if err := s.PutIfAbsent(ctx, name, []byte(id)); err != nil {
		if failed, ok := errors.AsType[*remote.Error](err); ok && failed.Outcome == remote.Invalid {
			return fmt.Errorf("%w: the store at %s refuses conditional puts: %w: %s", errUnsafe, s.endpoint(), err, lacksRemedy)
		}
		return fmt.Errorf("asking the store whether it knows conditional puts: %w", err)
	}
	switch err := s.PutIfAbsent(ctx, name, []byte(id)); {
	case err == nil:
		return fmt.Errorf("%w: the store at %s ignores If-None-Match, so that two writers would overwrite each other's commits: %s", errUnsafe, s.endpoint(), lacksRemedy)
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("asking the store whether it knows conditional puts: %w", err)
	}
	return nil
}

const lacksRemedy = "use a release of the store that has conditional writes (docs/storage.md lists some), or storage.s3.log_store: " + LogStoreDynamoDB

func (s *Store) endpoint() string { return aws.ToString(s.client.Load().Options().BaseEndpoint) }
