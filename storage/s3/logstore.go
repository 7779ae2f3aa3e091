package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"kafkadelta/storage/remote"
)

// logStore decides which commit is a version by an entry in a DynamoDB table, as Delta's S3DynamoDBLogStore does
// (io.delta.storage.BaseExternalLogStore), so that both may write one table. N is the name of the commit's file:
//
//  1. N must not be in the bucket, since entries expire. N-1 must be, or its entry is completed first.
//  2. The commit is written to a temporary object T(N).
//  3. An entry for N that points to T(N) is put if there is none. This is the commit: from here on every writer and reader
//     that meets the entry finishes what is left.
//  4. T(N) is copied to N. The content is the same whoever does it, and however often.
//  5. The entry is marked complete, with a time to expire.
//
// One step is added: after the last, T(N) is deleted. Who still reads it by an older view of the entry finds N instead.
type logStore struct {
	store  *Store
	client *dynamodb.Client
	table  string
	path   string // the table's name in the entries
	now    func() time.Time
}

// Attributes of an entry. Truth is text, as Spark writes it.
const (
	attrTablePath  = "tablePath"  // partition key: the table's URI
	attrFileName   = "fileName"   // sort key: N
	attrTempPath   = "tempPath"   // relative to _delta_log
	attrComplete   = "complete"   // "true" or "false"
	attrExpireTime = "expireTime" // seconds since 1970, for DynamoDB's TTL; only with complete
)

const (
	defaultLogTable = "delta_log"
	logFolder       = "_delta_log/"
	entryLife       = 24 * time.Hour // of a completed entry, as Spark's: by then everybody sees the file
)

type entry struct {
	file, temp string
	complete   bool
}

func newLogStore(s *Store, shared aws.Config, now func() time.Time) *logStore {
	cfg := s.cfg.DynamoDB
	client := dynamodb.NewFromConfig(shared, func(o *dynamodb.Options) {
		if cfg.Region != "" {
			o.Region = cfg.Region
		}
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	table := cfg.Table
	if table == "" {
		table = defaultLogTable
	}
	return &logStore{store: s, client: client, table: table, path: hadoopPath(s.where), now: now}
}

// hadoopPath is the location as org.apache.hadoop.fs.Path prints it: a bucket's root keeps its slash.
func hadoopPath(where Location) string {
	if where.Prefix == "" {
		return where.String() + "/"
	}
	return where.String()
}

var commitName = regexp.MustCompile(`^_delta_log/[0-9]{20}\.json$`)

func isCommit(name string) bool { return commitName.MatchString(name) }

// hides tells the temporary objects, which are writes that are not finished.
func (l *logStore) hides(name string) bool { return l != nil && strings.HasPrefix(name, temps) }

// commit puts a version's file if there is none.
func (l *logStore) commit(ctx context.Context, name string, data []byte) error {
	file := path.Base(name)
	if err := l.beforeCommit(ctx, name, file); err != nil {
		return err
	}
	e := entry{file: file, temp: ".tmp/" + file + "." + uuid.NewString()}
	if err := l.store.put(ctx, remote.Put, logFolder+e.temp, data, l.store.object(logFolder+e.temp)); err != nil {
		return err // no entry points there
	}
	if err := l.claim(ctx, e); err != nil {
		return err
	}
	// It is committed. Whatever fails now is finished by who comes next, this process included.
	if err := l.store.put(ctx, remote.Put, name, data, l.store.object(name)); err != nil {
		return unknown(fmt.Errorf("committed in DynamoDB, not yet in the bucket: %w", err))
	}
	l.acknowledge(ctx, e)
	return nil
}

// beforeCommit makes sure that the version is free as far as the bucket knows, and that the one before it is there.
func (l *logStore) beforeCommit(ctx context.Context, name, file string) error {
	exists, err := l.exists(ctx, name)
	if err != nil {
		return err
	}
	if exists {
		return fmt.Errorf("putting if absent %q: %w", l.store.uri(name), fs.ErrExist)
	}
	version, err := strconv.ParseInt(strings.TrimSuffix(file, ".json"), 10, 64)
	if err != nil {
		return fmt.Errorf("putting if absent %q: %w", l.store.uri(name), err)
	}
	if version == 0 {
		e, found, err := l.get(ctx, file)
		if err == nil && found && e.complete {
			err = fmt.Errorf("putting if absent %q: DynamoDB table %q still has entries of an older table at %s: delete them, or wait a day", l.store.uri(name), l.table, l.path)
		}
		return err
	}
	before := fmt.Sprintf("%020d.json", version-1)
	there, err := l.recover(ctx, logFolder+before)
	if err == nil && !there {
		if there, err = l.exists(ctx, logFolder+before); err == nil && !there {
			err = fmt.Errorf("putting if absent %q: the version before it is neither in the bucket nor in DynamoDB table %q: do all writers name the same table and the same URI (%s)?", l.store.uri(name), l.table, l.path)
		}
	}
	return err
}

// claim puts the entry that decides. Somebody else's entry is finished, so that who loses finds the winner's file.
func (l *logStore) claim(ctx context.Context, e entry) error {
	doubtful, err := l.put(ctx, e, true)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	other, found, getErr := l.get(ctx, e.file)
	switch {
	case getErr != nil || !found:
		return unknown(fmt.Errorf("%w; looking whose it is: %w", err, getErr))
	case doubtful && other.temp == e.temp:
		return nil
	}
	if other.temp != e.temp {
		l.drop(ctx, e)
	}
	if finishErr := l.finish(ctx, other); finishErr != nil {
		return unknown(fmt.Errorf("%w; finishing the winner's commit: %w", err, finishErr))
	}
	return err
}

// beforeList finishes the newest commit, if a listing is about to show commits and that one is not there yet.
func (l *logStore) beforeList(ctx context.Context, prefix, after string) error {
	if !strings.HasPrefix(logFolder+"0", prefix) && !strings.HasPrefix(prefix, logFolder) || strings.HasPrefix(prefix, temps) || after > logFolder+":" {
		return nil
	}
	e, found, err := l.latest(ctx, l.path)
	if err != nil || !found || e.complete {
		return err
	}
	return l.finish(ctx, e)
}

// recover finishes a commit by its entry and tells whether there was one to finish.
func (l *logStore) recover(ctx context.Context, name string) (bool, error) {
	e, found, err := l.get(ctx, path.Base(name))
	if err != nil || !found || e.complete {
		return false, err
	}
	return true, l.finish(ctx, e)
}

// finish does steps 4 and 5 of a commit that has an entry.
func (l *logStore) finish(ctx context.Context, e entry) error {
	if e.complete {
		return nil
	}
	name := logFolder + e.file
	exists, err := l.exists(ctx, name)
	if err == nil && !exists {
		err = l.copy(ctx, e, name)
	}
	if err != nil {
		return fmt.Errorf("finishing a commit that another writer left behind: %w", err)
	}
	l.acknowledge(ctx, e)
	return nil
}

// copy copies T(N) to N. A temporary object that is gone has been copied in the meantime.
func (l *logStore) copy(ctx context.Context, e entry, name string) error {
	body, err := l.store.get(ctx, logFolder+e.temp, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		if exists, headErr := l.exists(ctx, name); exists || headErr != nil {
			return headErr
		}
		return unknown(fmt.Errorf("%w: neither the commit nor its temporary object is there", err))
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	_ = body.Close()
	if err == nil {
		err = l.store.put(ctx, remote.Put, name, data, l.store.object(name))
	}
	return err
}

// acknowledge marks the entry complete and removes T(N). It fails silently: an entry that stays incomplete is finished
// again by the next writer or reader, which finds N there.
func (l *logStore) acknowledge(ctx context.Context, e entry) {
	e.complete = true
	if _, err := l.put(ctx, e, false); err == nil {
		l.drop(ctx, e)
	}
}

// drop removes T(N). One that stays costs space until a lifecycle rule removes it.
func (l *logStore) drop(ctx context.Context, e entry) { _ = l.store.Delete(ctx, logFolder+e.temp) }

func (l *logStore) exists(ctx context.Context, name string) (bool, error) {
	_, err := l.store.head(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// check looks for the DynamoDB table, for entries of an older table at this place, which would be taken for this one's, and for
// this table under the other spelling of its URI: two names would be two orders of commits.
func (l *logStore) check(ctx context.Context) error {
	newest, found, err := l.latest(ctx, l.path)
	if err != nil {
		return err
	}
	if found && newest.complete {
		there, err := l.exists(ctx, logFolder+newest.file)
		switch {
		case err != nil:
			return err
		case !there:
			return fmt.Errorf("%w: DynamoDB table %q has %s as the newest version of %s, which is not in the bucket: if an older table was removed there, delete its entries, or wait a day",
				errUnsafe, l.table, newest.file, l.path)
		}
	}
	other := l.store.where
	if other.Scheme = "s3a"; l.store.where.Scheme == "s3a" {
		other.Scheme = "s3"
	}
	_, found, err = l.latest(ctx, hadoopPath(other))
	if found {
		return fmt.Errorf("%w: DynamoDB table %q knows the table as %s: write table.uri in that way, or delete these entries", errUnsafe, l.table, other)
	}
	return err
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func (l *logStore) do(ctx context.Context, file string, writes bool, try func(context.Context) error) (doubtful bool, err error) {
	op := remote.Operation{Name: remote.LogStore, Object: "dynamodb:" + l.table + " " + l.path + "/" + logFolder + file, Writes: writes}
	return l.store.remote.Do(ctx, op, try)
}

// put writes an entry; if absent, only where there is none.
func (l *logStore) put(ctx context.Context, e entry, absent bool) (doubtful bool, err error) {
	in := &dynamodb.PutItemInput{TableName: &l.table, Item: map[string]types.AttributeValue{
		attrTablePath: text(l.path), attrFileName: text(e.file), attrTempPath: text(e.temp), attrComplete: text(strconv.FormatBool(e.complete)),
	}}
	if e.complete {
		expires := l.now().Add(entryLife).Unix()
		in.Item[attrExpireTime] = &types.AttributeValueMemberN{Value: strconv.FormatInt(expires, 10)}
	}
	if absent {
		in.ConditionExpression = aws.String("attribute_not_exists(" + attrFileName + ")")
	}
	return l.do(ctx, e.file, true, func(ctx context.Context) error {
		_, err := l.client.PutItem(ctx, in)
		return err
	})
}

func (l *logStore) get(ctx context.Context, file string) (e entry, found bool, err error) {
	_, err = l.do(ctx, file, false, func(ctx context.Context) error {
		out, err := l.client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: &l.table, ConsistentRead: aws.Bool(true),
			Key: map[string]types.AttributeValue{attrTablePath: text(l.path), attrFileName: text(file)},
		})
		if err == nil {
			e, found = parse(out.Item), len(out.Item) > 0
		}
		return err
	})
	return e, found, err
}

// latest is the entry with the highest name.
func (l *logStore) latest(ctx context.Context, table string) (e entry, found bool, err error) {
	_, err = l.do(ctx, "", false, func(ctx context.Context) error {
		out, err := l.client.Query(ctx, &dynamodb.QueryInput{
			TableName: &l.table, ConsistentRead: aws.Bool(true), ScanIndexForward: aws.Bool(false), Limit: aws.Int32(1),
			KeyConditionExpression:    aws.String(attrTablePath + " = :table"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":table": text(table)},
		})
		if err == nil && len(out.Items) > 0 {
			e, found = parse(out.Items[0]), true
		}
		return err
	})
	return e, found, err
}

func parse(item map[string]types.AttributeValue) entry {
	value := func(name string) string {
		s, _ := item[name].(*types.AttributeValueMemberS)
		if s == nil {
			return ""
		}
		return s.Value
	}
	return entry{file: value(attrFileName), temp: value(attrTempPath), complete: value(attrComplete) == "true"}
}
