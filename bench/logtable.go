package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// logTable is a table that is only a log: its files are named and described, but not there. Nobody who reads logs alone
// can tell.
type logTable struct {
	files     int64 // in the base versions
	base      int64 // the last of the base versions, which begin at 0; 0 for baseVersions
	following int64 // versions after them, each with followedFiles files and one txn
	v2        bool  // log checkpoints are of the V2 spec
}

const (
	baseVersions  = 100
	followedFiles = 4
	logTableID    = "6b2f4a5e-9d0c-4a7b-8f0e-5b1c2d3e4f50"
)

const logTableSchema = `{\"type\":\"struct\",\"fields\":[` +
	`{\"name\":\"id\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}},` +
	`{\"name\":\"at\",\"type\":\"timestamp\",\"nullable\":true,\"metadata\":{}},` +
	`{\"name\":\"url\",\"type\":\"string\",\"nullable\":true,\"metadata\":{}},` +
	`{\"name\":\"status\",\"type\":\"integer\",\"nullable\":true,\"metadata\":{}},` +
	`{\"name\":\"bytes\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},` +
	`{\"name\":\"date\",\"type\":\"date\",\"nullable\":true,\"metadata\":{}}]}`

// writeBase makes the base versions in dir.
func (t logTable) writeBase(ctx context.Context, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "_delta_log"), 0o777); err != nil {
		return err
	}
	number := int64(0)
	last := t.lastOfBase()
	for v := int64(0); v <= last; v++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		count := (t.files - number) / (last - v + 1)
		if err := t.writeVersion(dir, v, number, count); err != nil {
			return err
		}
		number += count
	}
	return nil
}

// writeFollowing makes the versions after the base in a folder of their own.
func (t logTable) writeFollowing(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "_delta_log"), 0o777); err != nil {
		return err
	}
	for i := range t.following {
		if err := t.writeVersion(dir, t.lastOfBase()+1+i, t.files+i*followedFiles, followedFiles); err != nil {
			return err
		}
	}
	return nil
}

func (t logTable) lastOfBase() int64 { return cmp.Or(t.base, baseVersions) }

func (t logTable) newest() int64 { return t.lastOfBase() + t.following }

func logEntry(dir string, version int64) string {
	return filepath.Join(dir, "_delta_log", fmt.Sprintf("%020d.json", version))
}

func (t logTable) writeVersion(dir string, version, first, count int64) error {
	f, err := os.Create(logEntry(dir, version))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	ms := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + version*10_000
	_, _ = fmt.Fprintf(w, `{"commitInfo":{"timestamp":%d,"operation":"STREAMING UPDATE","operationParameters":{"outputMode":"Append"},`+
		`"isBlindAppend":true,"engineInfo":"bench","txnId":"00000000-0000-4000-8000-%012d"}}`+"\n", ms, version)
	if version == 0 {
		protocol, configuration := `"minReaderVersion":1,"minWriterVersion":2`, ""
		if t.v2 {
			protocol = `"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["v2Checkpoint"],"writerFeatures":["v2Checkpoint"]`
			configuration = `"delta.checkpointPolicy":"v2"`
		}
		_, _ = fmt.Fprintf(w, `{"protocol":{%s}}`+"\n"+
			`{"metaData":{"id":"%s","format":{"provider":"parquet","options":{}},"schemaString":"%s","partitionColumns":["date"],`+
			`"createdTime":%d,"configuration":{%s}}}`+"\n", protocol, logTableID, logTableSchema, ms, configuration)
	}
	_, _ = fmt.Fprintf(w, `{"txn":{"appId":"web_requests-%d","version":%d,"lastUpdated":%d}}`+"\n", version%64, version, ms)
	for n := first; n < first+count; n++ {
		t.writeAdd(w, n, ms)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// writeAdd describes file n: a day has a thousand files, of 10,000 rows each.
func (t logTable) writeAdd(w *bufio.Writer, n, ms int64) {
	day := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(n/1000)).Format("2006-01-02")
	second := n % 1000 * 86
	at := fmt.Sprintf("%sT%02d:%02d:%02d", day, second/3600, second/60%60, second%60)
	id := uint64(n) * 0x9e3779b97f4a7c15 // spreads, so that names don't compress away
	_, _ = fmt.Fprintf(w, `{"add":{"path":"date=%s/part-%05d-%016x-%08x.c000.zstd.parquet","partitionValues":{"date":"%s"},"size":%d,`+
		`"modificationTime":%d,"dataChange":true,"stats":"{\"numRecords\":10000,\"minValues\":{\"id\":%d,\"at\":\"%s.000Z\",`+
		`\"url\":\"/a/%04x\",\"status\":200,\"bytes\":0.5},\"maxValues\":{\"id\":%d,\"at\":\"%s.999Z\",\"url\":\"/z/%04x\",\"status\":504,`+
		`\"bytes\":98304.25},\"nullCount\":{\"id\":0,\"at\":0,\"url\":3,\"status\":0,\"bytes\":17}}"}}`+"\n",
		day, n%64, id, uint32(n), day, 400_000+id%100_000, ms, n*10_000, at, id&0xffff, n*10_000+9_999, at, id>>48)
}
