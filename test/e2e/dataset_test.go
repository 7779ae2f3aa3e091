package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// dataset is one kind of messages and the table they go to.
type dataset struct {
	file        string // below test/data
	schema      string
	partitionBy string
	columns     string                   // YAML
	row         func(row map[string]any) // turns a decoded message into the row that is expected
}

var flights = dataset{
	file: "flights-2013.jsonl.zst",
	schema: `year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, ` +
		`arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT, ` +
		`hour INT, minute INT, time_hour TIMESTAMP`,
	partitionBy: "month",
	row:         func(row map[string]any) { row["time_hour"] = instant(row["time_hour"]) },
}

var earthquakes = dataset{
	file: "earthquakes.jsonl.zst",
	schema: `id STRING NOT NULL, type STRING, geometry STRUCT<type: STRING, coordinates: ARRAY<DOUBLE>>, ` +
		`properties STRUCT<mag: DOUBLE, place: STRING, time: TIMESTAMP, updated: TIMESTAMP, tz: INT, url: STRING, detail: STRING, ` +
		`felt: INT, cdi: DOUBLE, mmi: DOUBLE, alert: STRING, status: STRING, tsunami: INT, sig: INT, net: STRING, code: STRING, ` +
		`ids: STRING, sources: STRING, types: STRING, nst: INT, dmin: DOUBLE, rms: DOUBLE, gap: DOUBLE, magType: STRING, ` +
		`type: STRING, title: STRING>`,
	row: func(row map[string]any) {
		p := row["properties"].(map[string]any)
		p["time"], p["updated"] = instant(p["time"]), instant(p["updated"])
	},
}

var webRequests = dataset{
	file: "web_requests.jsonl",
	schema: `meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, ` +
		`uuid STRING, date DATE`,
	partitionBy: "date",
	columns:     "{date: {from: meta.producer.timestamp, cast: date}}",
	row: func(row map[string]any) {
		at := row["meta"].(map[string]any)["producer"].(map[string]any)["timestamp"].(string)
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			panic(err)
		}
		row["date"] = t.UTC().Format(time.DateOnly)
	},
}

// instant is how the readers print a timestamp, whether it was written as text or as milliseconds.
func instant(v any) any {
	var at time.Time
	switch v := v.(type) {
	case nil:
		return nil
	case json.Number:
		ms, err := v.Int64()
		if err != nil {
			panic(err)
		}
		at = time.UnixMilli(ms)
	case string:
		var err error
		if at, err = time.Parse(time.RFC3339Nano, v); err != nil {
			panic(err)
		}
	}
	return at.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
}

// lines are the dataset's messages.
func (d dataset) lines(t testing.TB) [][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "data", d.file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(d.file, ".zst") {
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	var lines [][]byte
	for scan.Scan() {
		lines = append(lines, []byte(scan.Text()))
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}
