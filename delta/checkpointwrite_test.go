package delta_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

const testTable = "id LONG, at TIMESTAMP, local TIMESTAMP_NTZ, day DATE, price DECIMAL(20,3), cheap DECIMAL(9,2), ratio DOUBLE, name STRING, nested STRUCT<a: INT, b: STRUCT<c: STRING>>, list ARRAY<INT>, part DATE, region STRING"

const testStats = `{"numRecords":%d,"minValues":{"id":-5,"at":"2024-02-03T04:05:06.789Z","local":"2024-02-03T04:05:06.789","day":"2024-02-03","price":-12345678901234567.125,"cheap":1.5,"ratio":"NaN","name":"a\u00e9\"b","nested":{"a":1,"b":{"c":"x"}}},"maxValues":{"id":9223372036854775807,"at":"2024-02-04T04:05:06.789Z","day":"2024-02-05","price":12345678901234567.125,"ratio":1e300,"name":"z","nested":{"a":2}},"nullCount":{"id":0,"ratio":3,"list":1,"nested":{"a":0,"b":{"c":4}}}}`

// randomLog makes the log of a table that others write as well: appends, deletes with and without deletion vectors,
// OPTIMIZE, domains, txns, property changes.
type randomLog struct {
	rng     *rand.Rand
	store   delta.LogStore
	version int64
	config  map[string]string
	files   []string // of the table, each with its deletion vector behind a blank
	number  int
	at      int64 // milliseconds
}

func newRandomLog(t testing.TB, seed uint64, config map[string]string) *randomLog {
	l := &randomLog{rng: rand.New(rand.NewPCG(seed, 1)), store: memory.New(), version: -1, config: config, at: 1_700_000_000_000}
	l.put(t, `{"commitInfo":{"timestamp":1,"operation":"CREATE TABLE"}}`, l.protocol(), l.metadata(t))
	return l
}

func (l *randomLog) protocol() string {
	return `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","timestampNtz","v2Checkpoint"],` +
		`"writerFeatures":["deletionVectors","timestampNtz","v2Checkpoint","domainMetadata","appendOnly"]}}`
}

func (l *randomLog) metadata(t testing.TB) string {
	config, _ := json.Marshal(l.config)
	return metadata(ddl(t, testTable), string(config), "part", "region")
}

func (l *randomLog) put(t testing.TB, lines ...string) {
	l.version++
	l.at += 1000
	putLog(t, l.store, l.version, lines...)
}

func (l *randomLog) add(path, dv string) string {
	extra := ""
	if dv != "" {
		extra = fmt.Sprintf(`,"deletionVector":{"storageType":"u","pathOrInlineDv":%q,"offset":1,"sizeInBytes":40,"cardinality":2}`, dv)
	}
	if l.rng.IntN(2) == 0 {
		extra += `,"tags":{"k":"v","z":"","kafkadelta.spans":"{}"},"baseRowId":7,"defaultRowCommitVersion":3,"clusteringProvider":"liquid"`
	}
	if l.rng.IntN(5) > 0 {
		extra += `,"stats":` + quoted(fmt.Sprintf(testStats, l.rng.IntN(1000)+10))
	}
	partition := `{"part":"2024-05-06","region":"e u"}`
	if l.rng.IntN(3) == 0 {
		partition = `{"part":null,"region":""}`
	}
	return fmt.Sprintf(`{"add":{"path":%q,"partitionValues":%s,"size":%d,"modificationTime":%d,"dataChange":true%s}}`, path, partition, 1000*len(path), l.at, extra)
}

func (l *randomLog) remove(file string, at int64) string {
	path, dv, _ := strings.Cut(file, " ")
	extra := ""
	if dv != "" {
		extra = fmt.Sprintf(`,"deletionVector":{"storageType":"u","pathOrInlineDv":%q,"offset":1,"sizeInBytes":40,"cardinality":2}`, dv)
	}
	return fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":%d,"dataChange":true,"extendedFileMetadata":true,"partitionValues":{"part":"2024-05-06","region":null},"size":%d%s}}`, path, at, 1000*len(path), extra)
}

func (l *randomLog) newFile() string {
	l.number++
	return fmt.Sprintf("part=2024-05-06/%%C3%%A9-%d.parquet", l.number)
}

// step puts one random version.
func (l *randomLog) step(t testing.TB) {
	info := func(operation string, blind bool) string {
		return fmt.Sprintf(`{"commitInfo":{"timestamp":%d,"operation":%q,"isBlindAppend":%t,"txnId":"t%d"}}`, l.at, operation, blind, l.version+1)
	}
	switch k := l.rng.IntN(10); {
	case k < 5 || len(l.files) == 0:
		lines := []string{info("WRITE", true), fmt.Sprintf(`{"txn":{"appId":"app-%d","version":%d,"lastUpdated":%d}}`, l.rng.IntN(4), l.version, l.at)}
		for range 1 + l.rng.IntN(4) {
			f := l.newFile()
			lines = append(lines, l.add(f, ""))
			l.files = append(l.files, f)
		}
		l.put(t, lines...)
	case k < 7: // a row is deleted: the file gets another deletion vector
		i := l.rng.IntN(len(l.files))
		old := l.files[i]
		path, _, _ := strings.Cut(old, " ")
		dv := fmt.Sprintf("ab^-aqEH.-t@S}K{vb[*k%d", l.version)
		l.files[i] = path + " " + dv
		l.put(t, info("DELETE", false), l.remove(old, l.at), l.add(path, dv))
	case k < 8: // OPTIMIZE
		n := 1 + l.rng.IntN(min(3, len(l.files)))
		lines := []string{info("OPTIMIZE", false)}
		for _, f := range l.files[:n] {
			lines = append(lines, l.remove(f, l.at-l.rng.Int64N(20)*24*3600*1000))
		}
		f := l.newFile()
		l.files = append(slices.Clone(l.files[n:]), f)
		l.put(t, append(lines, l.add(f, ""))...)
	case k < 9:
		removed := l.rng.IntN(2) == 0
		l.put(t, info("SET", false), fmt.Sprintf(`{"domainMetadata":{"domain":"d%d","configuration":"{\"a\":%d}","removed":%t}}`, l.rng.IntN(3), l.version, removed))
	default: // statistics are computed again
		path, dv, _ := strings.Cut(l.files[0], " ")
		l.put(t, info("COMPUTE STATS", false), l.add(path, dv))
	}
}

// stateOf is a version, spelled out.
func stateOf(t testing.TB, s delta.LogStore, version int64) string {
	t.Helper()
	snap, err := delta.OpenSnapshot(ctx, s, version)
	check(t, err)
	var b bytes.Buffer
	p, _ := json.Marshal(snap.Protocol())
	m, _ := json.Marshal(snap.Metadata())
	fmt.Fprintf(&b, "%d\n%s\n%s\n", snap.Version(), p, m)
	for txn := range snap.Txns() {
		j, _ := json.Marshal(txn)
		fmt.Fprintf(&b, "%s\n", j)
	}
	for d := range snap.Domains() {
		fmt.Fprintf(&b, "%+v\n", d)
	}
	var files []string
	for a, err := range snap.Files(ctx) {
		check(t, err)
		a.DataChange = false
		var stats map[string]any
		if a.Stats != "" {
			check(t, json.Unmarshal([]byte(a.Stats), &stats))
		}
		a.Stats = fmt.Sprint(stats)
		j, _ := json.Marshal(a)
		files = append(files, string(j))
	}
	slices.Sort(files)
	return b.String() + strings.Join(files, "\n")
}

func checkpointAt(t testing.TB, s delta.LogStore, version int64, at int64) delta.CheckpointResult {
	t.Helper()
	r, err := delta.WriteLogCheckpoint(ctx, s, version, delta.CheckpointOptions{Now: func() time.Time { return time.UnixMilli(at) }})
	check(t, err)
	return r
}

var checkpointKinds = map[string]map[string]string{
	"classic":         {},
	"classic struct":  {"delta.checkpoint.writeStatsAsStruct": "true"},
	"v2":              {"delta.checkpointPolicy": "v2"},
	"v2 struct":       {"delta.checkpointPolicy": "v2", "delta.checkpoint.writeStatsAsStruct": "true"},
	"uncompressed v2": {"delta.checkpointPolicy": "v2", "delta.parquet.compression.codec": "none"},
}

// A table whose commits are gone reads the same from its log checkpoints, each built on the one before.
func TestLogCheckpointsKeepTheState(t *testing.T) {
	for name, config := range checkpointKinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				l := newRandomLog(t, seed, config)
				for range 12 {
					for range 1 + l.rng.IntN(12) {
						l.step(t)
					}
					want := stateOf(t, l.store, -1)
					r := checkpointAt(t, l.store, -1, l.at)
					if !r.Written || r.Version != l.version || r.Files.Files != int64(len(l.files)) {
						t.Fatalf("%+v; want version %d, %d files", r, l.version, len(l.files))
					}
					for v := range l.version + 1 {
						drop(t, l.store, delta.CommitName(v))
					}
					if got := stateOf(t, l.store, -1); got != want {
						t.Fatalf("seed %d, version %d:\n%s\nwant\n%s", seed, l.version, got, want)
					}
					if again := checkpointAt(t, l.store, -1, l.at); again.Written {
						t.Fatal("the version has a log checkpoint, but one more was written")
					}
				}
			}
		})
	}
}
