package e2e

import (
	bigendian "encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkadelta/internal/savetest"
)

// grownColumns are those of the table after all versions of the schema.
var grownColumns = []string{"n", "extra", "deep", "list", "other"}

// avroVersions and jsonVersions are six versions of a subject. What is in one of them may be gone from the next.
var (
	avroVersions = []string{
		``,
		`,{"name":"extra","type":["null","string"],"default":null}`,
		`,{"name":"deep","type":{"type":"record","name":"d","fields":[{"name":"a","type":"long"}]}}`,
		`,{"name":"deep","type":{"type":"record","name":"d","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}},
		  {"name":"list","type":{"type":"array","items":{"type":"record","name":"l","fields":[{"name":"x","type":"long"}]}}}`,
		`,{"name":"list","type":{"type":"array","items":{"type":"record","name":"l","fields":[{"name":"y","type":"string"},{"name":"x","type":"long"}]}}}`,
		`,{"name":"other","type":"double"},{"name":"extra","type":["null","string"],"default":null}`,
	}
	jsonVersions = []string{
		``,
		`,"extra":{"type":["null","string"]}`,
		`,"deep":{"type":"object","properties":{"a":{"type":"integer"}}}`,
		`,"deep":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}}},
		  "list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}}`,
		`,"list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"string"}}}}`,
		`,"other":{"type":"number"},"extra":{"type":["null","string"]}`,
	}
)

// valuesOf are the fields of message i in a version.
func valuesOf(i, version int) map[string]any {
	row := map[string]any{"n": int64(i)}
	switch version {
	case 1:
		row["extra"] = fmt.Sprint("e", i)
	case 2:
		row["deep"] = map[string]any{"a": int64(i)}
	case 3:
		row["deep"] = map[string]any{"a": int64(i), "b": "b"}
		row["list"] = []any{map[string]any{"x": int64(i)}}
	case 4:
		row["list"] = []any{map[string]any{"x": int64(i), "y": "y"}, map[string]any{"x": int64(1), "y": ""}}
	case 5:
		row["other"] = float64(i) + 0.5
		row["extra"] = nil
	}
	return row
}

// grownRow is the row that the table has of a message in the end: null where its version knew no column.
func grownRow(row map[string]any) {
	for _, c := range grownColumns {
		if _, ok := row[c]; !ok {
			row[c] = nil
		}
	}
	if deep, ok := row["deep"].(map[string]any); ok && deep["b"] == nil {
		deep["b"] = nil
	}
	if list, ok := row["list"].([]any); ok {
		for _, e := range list {
			if e := e.(map[string]any); e["y"] == nil {
				e["y"] = nil
			}
		}
	}
}

// era gives messages of versions that come one after the other, and then interleave.
type era struct {
	ids    []int
	encode []func(row map[string]any) []byte
}

func newEra(t *testing.T, format string, client *sr.Client, subject string) *era {
	t.Helper()
	e := &era{}
	for i := range avroVersions {
		schema := sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"n":{"type":"integer"}` + jsonVersions[i] + `}}`}
		encode := func(row map[string]any) []byte {
			text, err := json.Marshal(row)
			if err != nil {
				panic(err)
			}
			return text
		}
		if format == "avro" {
			schema = sr.Schema{Schema: `{"type":"record","name":"event","fields":[{"name":"n","type":"long"}` + avroVersions[i] + `]}`}
			codec, err := goavro.NewCodec(schema.Schema)
			if err != nil {
				t.Fatal(err)
			}
			encode = func(row map[string]any) []byte {
				if s, ok := row["extra"].(string); ok {
					row["extra"] = goavro.Union("string", s)
				}
				data, err := codec.BinaryFromNative(nil, row)
				if err != nil {
					panic(err)
				}
				return data
			}
		}
		s, err := client.CreateSchema(t.Context(), subject, schema)
		if err != nil {
			t.Fatal(err)
		}
		e.ids, e.encode = append(e.ids, s.ID), append(e.encode, encode)
	}
	return e
}

// version is that of message i: a new one comes with each thousand, and those of before go on.
func (e *era) version(i int) int {
	return rand.New(rand.NewPCG(uint64(i), 1)).IntN(min(len(e.ids), 1+i/1000))
}

func (e *era) message(i int) []byte {
	v := e.version(i)
	return append(bigendian.BigEndian.AppendUint32([]byte{0}, uint32(e.ids[v])), e.encode[v](valuesOf(i, v))...)
}

// TestEvolution: six versions of a schema interleave over eight partitions and three workers, which are killed again and again. Each message
// is one row, with its values, and null in the columns that its version did not know. By hand, with the numbers of results/evolution.txt:
//
//	go test ./test/e2e -run TestEvolution -results results/evolution.txt
func TestEvolution(t *testing.T) {
	for _, format := range []string{"avro", "json"} {
		t.Run(format, func(t *testing.T) { evolutionRun(t, format) })
	}
}

func evolutionRun(t *testing.T, format string) {
	const partitions, kills = 8, 9
	kafka := realKafka(t)
	topic := "evolution-" + format + "-" + fmt.Sprint(time.Now().UnixNano())
	createTopic(t, kafka.brokers(), topic, partitions)
	registry := srfake.New()
	t.Cleanup(registry.Close)
	client, err := sr.NewClient(sr.URLs(registry.URL()))
	if err != nil {
		t.Fatal(err)
	}
	e := newEra(t, format, client, topic+"-value")
	s := stream{
		name: topic, topic: topic, brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT NOT NULL", evolution: "add_columns",
		interval: 100 * time.Millisecond, source: fmt.Sprintf("  session_timeout: 6s\n  format: %s\n  %s: {framing: registry}\n  schema_registry: {urls: [%q]}\n", format, format, registry.URL()),
	}
	config := s.write(t)
	l := startLoad(t, kafka.brokers(), topic, partitions, 800, e.message)
	workers := []*process{run(t, config), run(t, config), run(t, config)}
	for round := range kills {
		p := workers[round%3]
		p.waitCommit(1)
		time.Sleep(500 * time.Millisecond)
		p.kill()
		p.wantExit(killedCode, 10*time.Second)
		workers[round%3] = run(t, config)
	}
	for l.next()[0] < 8000/partitions {
		time.Sleep(100 * time.Millisecond)
	}
	sent := l.stop()
	for _, p := range workers {
		p.kill()
		p.wantExit(killedCode, 10*time.Second)
	}
	untilEnd(t, config)

	rows, count := messages{}, map[int]int{}
	for at := range sent {
		i := int(at.offset)*partitions + int(at.partition)
		row := valuesOf(i, e.version(i))
		count[e.version(i)]++
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		rows[at] = text
	}
	if len(count) != len(e.ids) {
		t.Errorf("messages by version: %v", count)
	}
	wantVerified(t, config, s.table)
	want := expect(t, topic, rows, grownRow)
	agreed := want.check(t, s.table)
	want.checkWithSpark(t, s.table)
	log := readLog(t, s.table, s.name)
	report := fmt.Sprintf("%s: %d messages of six versions of a schema (%v) over %d partitions, three workers that were killed %d times in all; %d versions of the table with rows\n"+
		"  checked by verify, verify.py, and %s and spark: each message is one row, with its values, null in the columns that its version did not know\n", t.Name(), len(sent), count, partitions, kills, log.commits, strings.Join(agreed, ", "))
	t.Log(report)
	savetest.Result(t, *results, report)
	if out := command(t, exitOK, "table", "inspect", s.table); !strings.Contains(out, "deep STRUCT<a: BIGINT, b: STRING>") {
		t.Errorf("the table is\n%s", out)
	}
}
