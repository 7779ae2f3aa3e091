package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/internal/storetest"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// cloud is a bucket or container of a test's own, on a server that stands for a cloud.
type cloud struct {
	address string            // host:port of the server
	env     map[string]string // by which the cloud's own tools, and the connector, reach it
	options map[string]string // by which delta-rs does
	root    string            // location of the bucket or container
}

// clouds are the servers, each with what starts it the first time.
var clouds = []struct {
	name  string
	start func(t testing.TB) cloud
}{
	{"azurite", func(t testing.TB) cloud {
		a := storetest.Azurite(t)
		return cloud{
			address: address(a.Endpoint), root: "az://" + a.Container,
			env:     map[string]string{"AZURE_STORAGE_CONNECTION_STRING": a.ConnectionString},
			options: map[string]string{"account_name": a.Account, "account_key": a.Key, "endpoint": a.Endpoint, "allow_http": "true"},
		}
	}},
	{"versitygw", func(t testing.TB) cloud { return s3Cloud(storetest.Versitygw(t)) }},
	{"moto", func(t testing.TB) cloud { return s3Cloud(storetest.Moto(t)) }},
	{"fake-gcs-server", func(t testing.TB) cloud {
		g := storetest.FakeGCS(t)
		// Of a service account's key, delta-rs takes these two to reach an emulator; the others have to be there.
		key := fmt.Sprintf(`{"gcs_base_url": %q, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}`, g.Endpoint)
		return cloud{
			address: address(g.Endpoint), root: "gs://" + g.Bucket,
			env:     map[string]string{"STORAGE_EMULATOR_HOST": g.Endpoint},
			options: map[string]string{"google_service_account_key": key},
		}
	}},
}

func s3Cloud(s storetest.S3) cloud {
	return cloud{address: address(s.Endpoint), root: "s3://" + s.Bucket, env: s.Env(), options: s.Env()}
}

// through is how a store of this process is opened at another address of the server, such as a proxy's. The SDK of AWS reads the
// environment itself, so that it has to be told by a setting.
func (c cloud) through(address string) open.Options {
	o := open.Options{Getenv: func(name string) string { return strings.ReplaceAll(c.env[name], c.address, address) }}
	o.Config.S3.Endpoint = "http://" + address
	return o
}

// environment is that of a process which reaches the cloud at another address of the server.
func (c cloud) environment(address string) []string {
	var env []string
	for name, value := range c.env {
		env = append(env, name+"="+strings.ReplaceAll(value, c.address, address))
	}
	return env
}

// address is host:port of a URL.
func address(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// onClouds runs a test on each cloud, or on those named, with the environment that the connector needs. The tests don't run
// beside each other.
func onClouds(t *testing.T, test func(t *testing.T, c cloud), only ...string) {
	for _, tt := range clouds {
		if len(only) > 0 && !slices.Contains(only, tt.name) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			c := tt.start(t)
			options, err := json.Marshal(c.options)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("STORAGE_OPTIONS", string(options)) // of readers/*.py
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			test(t, c)
		})
	}
}

// TestAppendRaceOnClouds is TestAppendRace on each cloud. By hand, with the numbers of results/clouds.txt:
//
//	go test ./test/e2e -run TestAppendRaceOnClouds -v -writers 8 -appends 20 -results results/clouds.txt
func TestAppendRaceOnClouds(t *testing.T) {
	onClouds(t, func(t *testing.T, c cloud) {
		appendRace(t, numbersTableAt(t, c.root+"/numbers"), *writers, *appends)
	})
}

// TestDatasetOnClouds runs the connector over real data from a real Kafka into a table on each cloud, which delta-rs reads
// back: every row is compared with its message by partition and offset, every column, each exactly once. CI takes one flight of
// eight; by hand all of them: -every 1.
func TestDatasetOnClouds(t *testing.T) {
	kafka := realKafka(t)
	const partitions = 4
	createTopic(t, kafka.brokers(), "clouds", partitions)
	var lines [][]byte
	for i, line := range flights.lines(t) {
		if i%*every == 0 {
			lines = append(lines, line)
		}
	}
	kafkatest.Produce(t, kafka.brokers(), "clouds", partitions, lines)
	sent := dealt(lines, partitions)
	e := expect(t, "clouds", sent, flights.row)
	onClouds(t, func(t *testing.T, c cloud) {
		table := c.root + "/some folder/flights=1"
		s := stream{
			name: fmt.Sprintf("e2e-%s", c.address), topic: "clouds", brokers: kafka.brokers(), table: fmt.Sprintf("%q", table),
			schema: flights.schema, partitionBy: flights.partitionBy,
		}
		s.name = strings.ReplaceAll(s.name, ":", "-")
		config := s.write(t)
		untilEnd(t, config)
		log := readLog(t, table, s.name)
		log.wantNext(t, sent.next())
		if log.rows != int64(len(lines)) {
			t.Fatalf("the table's log tells %d rows, %d messages were produced", log.rows, len(lines))
		}
		wantReported(t, kafka.brokers(), s.name, "clouds", sent.next())
		if left := log.orphans(t, table); len(left) > 0 {
			t.Errorf("a run that ended well left objects that no version names: %v", left)
		}
		untilEnd(t, config) // nothing is new
		if again := readLog(t, table, s.name); again.version != log.version {
			t.Errorf("a second run went from version %d to %d without a new message", log.version, again.version)
		}
		e.checkWith(t, deltaRS, table)
	})
}

// TestCallsAreRequests holds what docs/storage.md says of costs on each cloud: its table counts calls on a store, which
// pipeline's TestCosts does with the store in memory, and here each call is one request, but for files of several parts.
func TestCallsAreRequests(t *testing.T) {
	write := func(size int) func(context.Context, storage.Store) error {
		return func(ctx context.Context, s storage.Store) error {
			w, err := s.Create(ctx, "file")
			if err != nil {
				return err
			}
			if _, err := w.Write(make([]byte, size)); err != nil {
				return errors.Join(err, w.Abort())
			}
			return w.Close()
		}
	}
	parts := map[string]string{ // of the requests for S3 and GCS one begins, and GCS completes with the last part
		"az": "complete ok 1, part ok 3", "s3": "complete ok 1, part ok 4", "gs": "complete ok 1, part ok 3",
	}
	onClouds(t, func(t *testing.T, c cloud) {
		scheme, _, _ := strings.Cut(c.root, ":")
		var mu sync.Mutex
		seen := map[string]int{}
		options := c.through(c.address)
		options.Observe = func(operation, outcome string) {
			mu.Lock()
			defer mu.Unlock()
			seen[operation+" "+outcome]++
		}
		s, err := open.Open(t.Context(), c.root+"/calls", options)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name, want string
			call       func(context.Context, storage.Store) error
		}{
			{"a version", "put_if_absent ok 1", func(ctx context.Context, s storage.Store) error { return s.PutIfAbsent(ctx, "version", []byte("ours")) }},
			{"a race lost", "put_if_absent exists 1", func(ctx context.Context, s storage.Store) error {
				return s.PutIfAbsent(ctx, "version", []byte("theirs"))
			}},
			{"a put", "put ok 1", func(ctx context.Context, s storage.Store) error { return s.Put(ctx, "pointer", []byte("x")) }},
			{"a file of 1 MiB", "put ok 1", write(1 << 20)},
			{"a file of 20 MiB", parts[scheme], write(20 << 20)},
			{"a look for what is not there", "get not_found 1", func(ctx context.Context, s storage.Store) error {
				_, err := s.Get(ctx, "next version", 0, -1)
				return err
			}},
			{"a listing", "list ok 1", func(ctx context.Context, s storage.Store) error {
				for _, err := range s.List(ctx, "", "") {
					if err != nil {
						return err
					}
				}
				return nil
			}},
			{"a deletion", "delete ok 1", func(ctx context.Context, s storage.Store) error { return s.Delete(ctx, "file") }},
		} {
			clear(seen)
			if err := tt.call(t.Context(), s); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s: %v", tt.name, err)
			}
			var got []string
			for _, what := range slices.Sorted(maps.Keys(seen)) {
				got = append(got, fmt.Sprintf("%s %d", what, seen[what]))
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("%s: sent %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}
