package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/s3"
)

// logTable is a table on moto whose order of commits is in DynamoDB, with a look behind the store's back.
type logTable struct {
	storetest.S3
	where  s3.Location
	name   string // of the DynamoDB table
	client *dynamodb.Client
}

func newLogTable(t *testing.T) logTable {
	t.Helper()
	b := storetest.Moto(t)
	name, client := b.LogTable(t)
	return logTable{b, s3.Location{Scheme: "s3a", Bucket: b.Bucket, Prefix: "some folder/t"}, name, client}
}

func (l logTable) config() s3.Config {
	cfg := settings(l.S3)
	cfg.LogStore = s3.LogStoreDynamoDB
	cfg.DynamoDB = s3.DynamoDBConfig{Table: l.name, Endpoint: l.Endpoint}
	return cfg
}

// open returns a handle as a process of its own would have. At names another address of the server.
func (l logTable) open(t *testing.T, at string, observe func(operation, outcome string)) *s3.Store {
	t.Helper()
	cfg := l.config()
	if at != "" {
		cfg.Endpoint, cfg.DynamoDB.Endpoint = at, at
	}
	return openIn(t, l.S3, l.where, cfg, observe)
}

// entries are the items of the table, by the version's name, as text.
func (l logTable) entries(t *testing.T) map[string]map[string]string {
	t.Helper()
	out, err := l.client.Scan(t.Context(), &dynamodb.ScanInput{TableName: &l.name, ConsistentRead: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for _, item := range out.Items {
		e := map[string]string{}
		for name, value := range item {
			switch v := value.(type) {
			case *types.AttributeValueMemberS:
				e[name] = v.Value
			case *types.AttributeValueMemberN:
				e[name] = "number " + v.Value
			default:
				e[name] = fmt.Sprintf("%T", v)
			}
		}
		all[e["fileName"]] = e
	}
	return all
}

// enter writes an entry as S3DynamoDBLogStore does.
func (l logTable) enter(t *testing.T, path, file, temp, complete string) {
	t.Helper()
	item := map[string]types.AttributeValue{}
	for name, value := range map[string]string{"tablePath": path, "fileName": file, "tempPath": temp, "complete": complete} {
		item[name] = &types.AttributeValueMemberS{Value: value}
	}
	if _, err := l.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &l.name, Item: item}); err != nil {
		t.Fatal(err)
	}
}

func version(n int) string { return fmt.Sprintf("_delta_log/%020d.json", n) }

func read(t *testing.T, s *s3.Store, name string) (string, error) {
	t.Helper()
	body, err := s.Get(t.Context(), name, 0, -1)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

func list(t *testing.T, s *s3.Store) (names []string) {
	t.Helper()
	for info, err := range s.List(t.Context(), "_delta_log/", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func mustCommit(t *testing.T, s *s3.Store, versions ...int) {
	t.Helper()
	for _, v := range versions {
		if err := s.PutIfAbsent(t.Context(), version(v), fmt.Appendf(nil, "first %d", v)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogStoreEntries: what a commit leaves is what io.delta.storage.S3DynamoDBLogStore reads, but for T(N), which we remove.
func TestLogStoreEntries(t *testing.T) {
	l := newLogTable(t)
	var observed []string
	s := l.open(t, "", func(operation, outcome string) { observed = append(observed, operation+" "+outcome) })
	begun := time.Now().Unix()
	mustCommit(t, s, 0)
	observed = nil
	mustCommit(t, s, 1)
	if got, want := strings.Join(observed, ", "), "head not_found, log_store ok, head ok, put ok, log_store ok, put ok, log_store ok, delete ok"; got != want {
		t.Errorf("a commit sent %s, want %s", got, want)
	}
	for v := range 2 {
		file := fmt.Sprintf("%020d.json", v)
		e := l.entries(t)[file]
		if want := []string{"complete", "expireTime", "fileName", "tablePath", "tempPath"}; !slices.Equal(slices.Sorted(maps.Keys(e)), want) {
			t.Fatalf("entry %v, want the attributes %v", e, want)
		}
		var expires int64
		if _, err := fmt.Sscanf(e["expireTime"], "number %d", &expires); err != nil || expires < begun+86400 || expires > begun+86460 {
			t.Errorf("expireTime is %q, want a day from now, in seconds", e["expireTime"])
		}
		id, ok := strings.CutPrefix(e["tempPath"], ".tmp/"+file+".")
		if !ok || len(id) != len("b66a4a1c-5a52-4b5b-b3f0-5e7b5c3a2f11") {
			t.Errorf("tempPath is %q, want .tmp/%s.UUID", e["tempPath"], file)
		}
		if e["complete"] != "true" || e["tablePath"] != "s3a://"+l.Bucket+"/some folder/t" {
			t.Errorf("entry %v", e)
		}
	}
	out, err := l.Client().ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: &l.Bucket})
	if err != nil || len(out.Contents) != 2 {
		t.Errorf("%d objects, %v: want the two commits alone", len(out.Contents), err)
	}
	if err := s.PutIfAbsent(t.Context(), version(1), nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the version again: %v, want fs.ErrExist", err)
	}
	if err := s.PutIfAbsent(t.Context(), version(3), nil); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("a version without the one before it: %v", err)
	}
}

// TestLogStoreOfABucketsRoot: Hadoop's Path keeps the slash of a bucket's root.
func TestLogStoreOfABucketsRoot(t *testing.T) {
	l := newLogTable(t)
	l.where.Prefix = ""
	mustCommit(t, l.open(t, "", nil), 0)
	if got := l.entries(t)["00000000000000000000.json"]["tablePath"]; got != "s3a://"+l.Bucket+"/" {
		t.Errorf("tablePath is %q", got)
	}
}

// TestLogStoreFinishesSparksCommit: Spark died after its entry. Whoever comes next, reader or writer, finishes its commit.
func TestLogStoreFinishesSparksCommit(t *testing.T) {
	for name, next := range map[string]func(*testing.T, *s3.Store) error{
		"a listing": func(t *testing.T, s *s3.Store) error {
			if got, want := list(t, s), []string{version(0), version(1)}; !slices.Equal(got, want) {
				t.Errorf("listed %q, want %q", got, want)
			}
			return nil
		},
		"a read": func(t *testing.T, s *s3.Store) error { _, err := read(t, s, version(1)); return err },
		"a writer of the same version": func(t *testing.T, s *s3.Store) error {
			if err := s.PutIfAbsent(t.Context(), version(1), []byte("ours")); !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("got %w, want fs.ErrExist", err)
			}
			return nil
		},
		"a writer of the next one": func(t *testing.T, s *s3.Store) error { return s.PutIfAbsent(t.Context(), version(2), []byte("ours")) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogTable(t)
			s := l.open(t, "", nil)
			mustCommit(t, s, 0)
			file := "00000000000000000001.json"
			temp := ".tmp/" + file + ".b66a4a1c-5a52-4b5b-b3f0-5e7b5c3a2f11"
			if err := s.Put(t.Context(), "_delta_log/"+temp, []byte("Spark's")); err != nil {
				t.Fatal(err)
			}
			l.enter(t, l.where.String(), file, temp, "false")
			if err := next(t, l.open(t, "", nil)); err != nil {
				t.Fatal(err)
			}
			if got, err := read(t, s, version(1)); got != "Spark's" {
				t.Errorf("version 1 is %q, %v", got, err)
			}
			if got := l.entries(t)[file]["complete"]; got != "true" {
				t.Errorf("complete is %q", got)
			}
		})
	}
}

// interrupt stands between a store and its servers and calls before or after the n-th request is carried out.
type interrupt struct {
	mu     sync.Mutex
	n      int // requests until then
	lands  bool
	then   func()
	client *http.Client
	target string
}

func (i *interrupt) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	hit := i.n == 0
	i.n--
	i.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || hit && !i.lands {
		i.then()
		panic(http.ErrAbortHandler)
	}
	out, _ := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, i.target+r.URL.RequestURI(), bytes.NewReader(body))
	out.Header, out.Host, out.ContentLength = r.Header.Clone(), r.Host, int64(len(body))
	response, err := i.client.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || hit {
		i.then()
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(answer)
}

// through opens a handle whose n-th request is lost on its way, or its answer is.
func (l logTable) through(t *testing.T, n int, lands bool, then func()) (*s3.Store, *interrupt) {
	i := &interrupt{n: n, lands: lands, then: then, target: l.Endpoint, client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	server := httptest.NewServer(i)
	t.Cleanup(func() { server.Close(); i.client.CloseIdleConnections() })
	return l.open(t, server.URL, nil), i
}

// TestLogStoreLostAnswers: each request of a commit once gets no answer. The commit succeeds, and is there once.
func TestLogStoreLostAnswers(t *testing.T) {
	for _, lands := range []bool{false, true} {
		for n, more := 0, true; more; n++ {
			t.Run(fmt.Sprintf("request %d, carried out: %v", n, lands), func(t *testing.T) {
				more = false // a test that ends early is the last
				l := newLogTable(t)
				mustCommit(t, l.open(t, "", nil), 0)
				s, i := l.through(t, n, lands, func() {})
				if err := s.PutIfAbsent(t.Context(), version(1), []byte("ours")); err != nil {
					t.Errorf("got %v, want success", err)
				}
				l.wantWhole(t, "ours")
				more = i.n < 0
			})
		}
	}
}

// TestLogStoreDies: a writer dies before or after each request of its commit. The next writer, and every reader, go on: the
// version is the dead one's, whole, or it is free.
func TestLogStoreDies(t *testing.T) {
	committed, free := 0, 0
	for _, lands := range []bool{false, true} {
		for n, more := 0, true; more; n++ {
			t.Run(fmt.Sprintf("request %d, carried out: %v", n, lands), func(t *testing.T) {
				more = false // a test that ends early is the last
				l := newLogTable(t)
				mustCommit(t, l.open(t, "", nil), 0)
				ctx, die := context.WithCancel(t.Context())
				defer die()
				s, i := l.through(t, n, lands, die)
				dead := s.PutIfAbsent(ctx, version(1), []byte("the dead one's"))
				more = i.n < 0
				if errors.Is(dead, fs.ErrExist) {
					t.Errorf("the dead one got %v", dead)
				}
				switch err := l.open(t, "", nil).PutIfAbsent(t.Context(), version(1), []byte("the next one's")); {
				case err == nil && dead != nil:
					free++
					l.wantWhole(t, "the next one's")
				case errors.Is(err, fs.ErrExist):
					committed++
					l.wantWhole(t, "the dead one's")
				default:
					t.Errorf("the dead one got %v, the next one %v", dead, err)
				}
			})
		}
	}
	if committed == 0 || free == 0 {
		t.Errorf("%d commits of dead writers stayed, %d versions were free: want some of both", committed, free)
	}
}

// wantWhole expects version 1 to be this, for who reads and for who looks into the bucket, and finished.
func (l logTable) wantWhole(t *testing.T, want string) {
	t.Helper()
	s := l.open(t, "", nil)
	if got := list(t, s); !slices.Equal(got, []string{version(0), version(1)}) {
		t.Errorf("listed %q", got)
	}
	if got, err := read(t, s, version(1)); got != want {
		t.Errorf("version 1 is %q, %v; want %q", got, err, want)
	}
	mustCommit(t, s, 2)
	for file, e := range l.entries(t) {
		if e["complete"] != "true" {
			t.Errorf("the entry of %s is not complete", file)
		}
	}
}

// TestLogStoreRace: writers with handles of their own race for each version, and one wins.
func TestLogStoreRace(t *testing.T) {
	const writers, versions = 8, 6
	l := newLogTable(t)
	mustCommit(t, l.open(t, "", nil), 0)
	var stores []*s3.Store
	for range writers {
		stores = append(stores, l.open(t, "", nil))
	}
	for v := 1; v <= versions; v++ {
		var wg sync.WaitGroup
		errs := make([]error, writers)
		for w, s := range stores {
			wg.Go(func() { errs[w] = s.PutIfAbsent(t.Context(), version(v), fmt.Appendf(nil, "of %d", w)) })
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for w, err := range errs {
			if w != winner && !errors.Is(err, fs.ErrExist) {
				t.Errorf("version %d, writer %d: %v, want one winner and fs.ErrExist for the others", v, w, err)
			}
		}
		if got, err := read(t, stores[(winner+1)%writers], version(v)); got != fmt.Sprintf("of %d", winner) {
			t.Errorf("version %d is %q, %v; writer %d was told that it won", v, got, err, winner)
		}
	}
	if got := list(t, stores[0]); len(got) != versions+1 {
		t.Errorf("listed %q", got)
	}
}

// TestLogStoreRefuses what can't be right at the start, and says what to do.
func TestLogStoreRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*testing.T, *logTable)
		is      error
		says    []string
	}{
		"another spelling of the table": {func(t *testing.T, l *logTable) {
			l.enter(t, "s3://"+l.Bucket+"/some folder/t", "00000000000000000007.json", "x", "true")
		}, errors.ErrUnsupported, []string{"s3://", "table.uri"}},
		"entries of a table that is gone": {func(t *testing.T, l *logTable) {
			l.enter(t, l.where.String(), "00000000000000000007.json", "x", "true")
		}, errors.ErrUnsupported, []string{"00000000000000000007.json", "delete"}},
		"no DynamoDB table": {func(_ *testing.T, l *logTable) { l.name = "nothing" }, fs.ErrPermission, []string{"nothing", "storage.s3.dynamodb"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogTable(t)
			tc.prepare(t, &l)
			err := l.open(t, "", nil).CheckWrites(t.Context())
			if !errors.Is(err, tc.is) {
				t.Errorf("got %v, want one that is %q", err, tc.is)
			}
			contains(t, err, tc.says...)
		})
	}
}

// TestLogStorePermissions: what DynamoDB refuses is told with the permission that is missing.
func TestLogStorePermissions(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "" {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}`)
	})
	cfg := f.config()
	cfg.LogStore, cfg.DynamoDB.Endpoint = s3.LogStoreDynamoDB, f.URL
	s := f.open(t, cfg)
	for permission, call := range map[string]func() error{
		"dynamodb:Query":   func() error { return s.CheckWrites(t.Context()) },
		"dynamodb:GetItem": func() error { return s.PutIfAbsent(t.Context(), version(1), nil) },
	} {
		err := call()
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want fs.ErrPermission", err)
		}
		contains(t, err, permission, "log_store")
	}
}
