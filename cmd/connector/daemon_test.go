package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kafkadelta/internal/kafkatest"
)

// rowCount is how many rows a table has; -1 where there is none.
func rowCount(t testing.TB, table string) int {
	t.Helper()
	o := command(t, "table", "history", table, "-o", "json", "--limit", "1")
	if o.code != exitOK {
		return -1
	}
	o = mustRun(t, "table", "inspect", table, "-o", "json")
	var rows int
	for line := range strings.Lines(o.stdout) {
		if _, err := fmt.Sscanf(strings.TrimSpace(line), `"rows": %d`, &rows); err == nil {
			return rows
		}
	}
	return 0
}

// TestManyPipelines: two of a file go on though a third one can't, which is started again; its metrics and /readyz tell of it.
func TestManyPipelines(t *testing.T) {
	cluster := kafkatest.Start(t, "one", 2)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	if err := cluster.CreateTopic("two", 1, nil); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	config := file(t, "many.yaml", fmt.Sprintf(`source: {brokers: [%q], session_timeout: 1s}
flush: {interval: 100ms}
table: {schema: "n BIGINT"}
http: {listen: "127.0.0.1:0"}
pipelines:
  - {name: first, source: {topic: one}, table: {uri: %[2]q}}
  - {name: second, source: {topic: two}, table: {uri: %[3]q, schema: "n BIGINT, text STRING"}}
  - {name: third, source: {topic: missing}, table: {uri: %[4]q}}
`, cluster.ListenAddrs()[0], filepath.Join(folder, "first"), filepath.Join(folder, "second"), filepath.Join(folder, "third")))
	if o := mustRun(t, "validate", "-c", config); strings.Count(o.stdout, "is valid") != 3 {
		t.Error(o.stdout)
	}
	d := startDaemon(t, config)
	d.wait("an end of the third", func() bool { return strings.Contains(d.stderr.String(), "the others go on") })
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 2, values(10))
	kafkatest.Produce(t, cluster.ListenAddrs(), "two", 1, values(7))
	d.wait("rows", func() bool {
		return rowCount(t, filepath.Join(folder, "first")) == 10 && rowCount(t, filepath.Join(folder, "second")) == 7
	})
	if code, body := d.get("/readyz"); code != 503 || !strings.Contains(body, "third:") || strings.Contains(body, "first:") {
		t.Errorf("/readyz answers %d, %s", code, body)
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, `kafkadelta_up{stream="third"} 0`) || !strings.Contains(body, `kafkadelta_up{stream="first"} 1`) ||
		!strings.Contains(body, `kafkadelta_ready{stream="third"} 0`) || !strings.Contains(body, `kafkadelta_ready{stream="first"} 1`) ||
		!strings.Contains(body, `kafkadelta_committed_rows_total{stream="second"} 7`) {
		t.Errorf("/metrics has not what pipelines tell: %s", body)
	}
	if err := cluster.CreateTopic("missing", 1, nil); err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "missing", 1, values(3))
	d.wait("the third", func() bool { return rowCount(t, filepath.Join(folder, "third")) == 3 })
	d.wait("readiness", func() bool { code, _ := d.get("/readyz"); return code == 200 })
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
	if o := mustRun(t, "verify", "-c", config+"#second"); !strings.Contains(o.stdout, "7 rows") {
		t.Error(o.stdout)
	}
	if o := command(t, "verify", "-c", config); o.code != exitConfig || !strings.Contains(o.stderr, "first, second, third") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestTopicsOfAPattern: each topic has a table of its own, also one that comes later.
func TestTopicsOfAPattern(t *testing.T) {
	cluster := kafkatest.Start(t, "orders-eu", 2)
	for _, topic := range []string{"orders-us", "invoices"} {
		if err := cluster.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	config := file(t, "c.yaml", fmt.Sprintf("name: shop\nsource: {brokers: [%q], topic_pattern: \"orders-.*\"}\ntable: {uri: %q, schema: \"n BIGINT\"}\nhttp: {listen: \"off\"}\n",
		cluster.ListenAddrs()[0], filepath.Join(folder, "{topic}")))
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders-eu", 2, values(10))
	mustRun(t, "run", "-c", config, "--until-end")
	if got := rowCount(t, filepath.Join(folder, "orders-eu")); got != 10 {
		t.Errorf("%d rows", got)
	}
	if got := rowCount(t, filepath.Join(folder, "orders-us")); got != 0 {
		t.Errorf("%d rows of a topic without messages", got)
	}
	if _, err := os.Stat(filepath.Join(folder, "invoices")); err == nil {
		t.Error("a topic that does not match has a table")
	}
	if err := cluster.CreateTopic("orders-jp", 1, nil); err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders-jp", 1, values(5))
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "verify", "-c", config+"#shop.orders-jp"); !strings.Contains(o.stdout, "5 rows") {
		t.Error(o.stdout)
	}
}

// TestTopicsThatComeLaterBeginAtTheirBeginning: `latest` is about what is there at the start; what is written to a new topic before it is found is read.
func TestTopicsThatComeLaterBeginAtTheirBeginning(t *testing.T) {
	cluster := kafkatest.Start(t, "orders-eu", 1)
	folder := t.TempDir()
	config := file(t, "c.yaml", fmt.Sprintf("name: shop\nsource: {brokers: [%q], topic_pattern: \"orders-.*\", start: latest, discovery_interval: 1s}\nflush: {interval: 100ms}\ntable: {uri: %q, schema: \"n BIGINT\"}\nhttp: {listen: \"127.0.0.1:0\"}\n",
		cluster.ListenAddrs()[0], filepath.Join(folder, "{topic}")))
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders-eu", 1, values(10))
	d := startDaemon(t, config)
	d.wait("the first", func() bool { code, _ := d.get("/readyz"); return code == 200 })
	if err := cluster.CreateTopic("orders-jp", 1, nil); err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders-jp", 1, values(5))
	d.wait("the rows of the second", func() bool { return rowCount(t, filepath.Join(folder, "orders-jp")) == 5 })
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
	if got := rowCount(t, filepath.Join(folder, "orders-eu")); got != 0 {
		t.Errorf("%d rows of before the start", got)
	}
}

// TestPatternLeavesDeadLettersOut: a topic of dead letters is not read though the pattern matches it.
func TestPatternLeavesDeadLettersOut(t *testing.T) {
	for to, letters := range map[string]string{"orders-dead": "orders-dead", "{topic}.dlq": "orders-eu.dlq", "orders-{topic}-dead": "orders-orders-eu-dead"} {
		t.Run(letters, func(t *testing.T) { // whose folder has no {topic} in its name
			cluster := kafkatest.Start(t, "orders-eu", 1)
			if err := cluster.CreateTopic(letters, 1, nil); err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			config := file(t, "c.yaml", fmt.Sprintf("name: shop\nsource: {brokers: [%q], topic_pattern: \"orders-.*\"}\ntable: {uri: %q, schema: \"n BIGINT\"}\non_error: dead_letter\ndead_letters: {topic: %q}\nhttp: {listen: \"off\"}\n",
				cluster.ListenAddrs()[0], filepath.Join(folder, "{topic}"), to))
			kafkatest.Produce(t, cluster.ListenAddrs(), "orders-eu", 1, append(values(10), []byte("no JSON")))
			for range 2 {
				mustRun(t, "run", "-c", config, "--until-end")
			}
			if got := rowCount(t, filepath.Join(folder, "orders-eu")); got != 10 {
				t.Errorf("%d rows", got)
			}
			if tables, err := os.ReadDir(folder); err != nil || len(tables) != 1 {
				t.Errorf("tables: %v, %v", tables, err)
			}
			if o := mustRun(t, "validate", "-c", config); !strings.Contains(o.stdout, "each topic that matches orders-.*, but for "+to+" of dead letters, goes to") {
				t.Error(o.stdout)
			}
		})
	}
}

// TestTopicsOfDeadLetters: the names that a pattern leaves out.
func TestTopicsOfDeadLetters(t *testing.T) {
	for _, tt := range []struct{ pattern, to, topic string }{
		{".*", "", "a"}, {".*", "dead", "deadly"}, {".*", "{topic}.dlq", ".dlq"}, {".*", "{topic}.dlq", "a.dlq.x"}, {"a.*|b\\.dlq", "{topic}.dlq", "b.dlq"},
		{".*", "x-{topic}", "x-"}, {".*", "{topic}-{topic}", "a-b"}, {".*", "{topic}-{topic}", "ab-a"}, {".*", "{topic}{topic}", "abc"}, {".*", "long-{topic}", "a"},
		{"-", "dead", "dead"},
	} {
		c := config{Source: sourceSection{TopicPattern: tt.pattern}, DeadLetters: deadLettersConfig{Topic: tt.to}}
		if want := tt.pattern != "-"; c.matches(tt.topic) != want {
			t.Errorf("%s is left out: %+v", tt.topic, tt)
		}
	}
	for _, tt := range []struct{ to, topic string }{
		{"dead", "dead"}, {"{topic}.dlq", "a.dlq"}, {"{topic}.dlq", "a.dlq.dlq"}, {"x-{topic}", "x-a"}, {"x-{topic}-y", "x-a-y"}, {"{topic}-{topic}", "ab-ab"}, {"{topic}{topic}", "abab"},
	} {
		c := config{Source: sourceSection{TopicPattern: ".*"}, DeadLetters: deadLettersConfig{Topic: tt.to}}
		if c.matches(tt.topic) {
			t.Errorf("%s is read: %+v", tt.topic, tt)
		}
	}
}

// TestFolderOfFiles: one process for all files of a folder.
func TestFolderOfFiles(t *testing.T) {
	cluster := kafkatest.Start(t, "one", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 1, values(4))
	folder, tables := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		write(name+".yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], topic: one}\ntable: {uri: %q, schema: \"n BIGINT\"}\nhttp: {listen: \"off\"}\n", name, cluster.ListenAddrs()[0], filepath.Join(tables, name)))
	}
	write("notes.txt", "no YAML")
	mustRun(t, "run", "-c", folder, "--until-end")
	for _, name := range []string{"a", "b"} {
		if got := rowCount(t, filepath.Join(tables, name)); got != 4 {
			t.Errorf("table %s has %d rows", name, got)
		}
	}
	write("c.yaml", "name: a\nsource: {brokers: [b:1], topic: one}\ntable: {uri: /t, schema: \"n BIGINT\"}\nhttp: {listen: \"off\"}\n")
	if o := command(t, "validate", "-c", folder); o.code != exitConfig || !strings.Contains(o.stderr, `two pipelines have the name "a"`) {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	write("0.yaml", "sauce: {}\n") // the mistakes of all files are told at once, and none that is not there
	write("c.yaml", "name: c\nsource: {brokers: [b:1], topic: one}\ntable: {uri: /t, schema: \"n BIGINT\"}\nhttp: {listen: \":1\"}\n")
	o := command(t, "validate", "-c", folder)
	if o.code != exitConfig || !strings.Contains(o.stderr, "sauce") || !strings.Contains(o.stderr, `c.yaml: http.listen is ":1", but "off" in `) || strings.Contains(o.stderr, "b.yaml: ") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestPipelineStands: one whose brokers don't answer holds up no other, and a stop does not wait for one that is to be started again.
func TestPipelineStands(t *testing.T) {
	cluster := kafkatest.Start(t, "one", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 1, values(10))
	table := filepath.Join(t.TempDir(), "{topic}")
	d := startDaemon(t, file(t, "many.yaml", fmt.Sprintf(`source: {brokers: [%q], session_timeout: 1s}
flush: {interval: 100ms}
table: {schema: "n BIGINT", uri: %q}
http: {listen: "127.0.0.1:0"}
pipelines:
  - {name: stands, source: {topic: two, brokers: ["127.0.0.1:1"]}}
  - {name: searches, source: {topic_pattern: "three.*", brokers: ["127.0.0.1:1"]}}
  - {name: fails, source: {topic: missing}}
  - {name: first, source: {topic: one}}
`, cluster.ListenAddrs()[0], table)))
	d.wait("their names", func() bool {
		code, body := d.get("/readyz")
		if code != 503 { // from the beginning on
			t.Errorf("/readyz answers %d, %s", code, body)
		}
		return strings.Contains(body, "stands: ") && strings.Contains(body, "searches: ") && strings.Contains(body, "fails: ")
	})
	d.wait("rows", func() bool { return rowCount(t, strings.Replace(table, topicMark, "one", 1)) == 10 })
	d.wait("an end", func() bool { return strings.Contains(d.stderr.String(), "the others go on") })
	if code := d.end(); code != exitSource {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// untilEndOfMany runs pipelines to their end, beside a Kafka whose topic one has ten messages. rows are those that its table gets.
func untilEndOfMany(t *testing.T, pipelines string) (o outcome, rows int) {
	t.Helper()
	cluster := kafkatest.Start(t, "one", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 1, values(10))
	folder := t.TempDir()
	o = command(t, "run", "--until-end", "-c", file(t, "many.yaml", fmt.Sprintf(`source: {brokers: [%q]}
table: {schema: "n BIGINT", uri: %q}
http: {listen: "off"}
pipelines:
`, cluster.ListenAddrs()[0], filepath.Join(folder, topicMark))+pipelines))
	return o, rowCount(t, filepath.Join(folder, "one"))
}

// TestManyUntilTheEnd: those that can reach their ends, and the exit code is that of the one that can't.
func TestManyUntilTheEnd(t *testing.T) {
	o, rows := untilEndOfMany(t, `  - {name: none, source: {topic_pattern: "none-.*"}}
  - {name: some, source: {topics: [missing, one]}}
`)
	if o.code != exitSource || !strings.Contains(o.stderr, "some.missing: ") || !strings.Contains(o.stderr, "none: ") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	if rows != 10 {
		t.Errorf("%d rows", rows)
	}
}

// TestTopicGoes: the pipeline of a topic that a pattern has found ends with the topic, and comes back with one of that name. Its table has
// the offsets of the topic before, so that it is refused then, and no other is touched.
func TestTopicGoes(t *testing.T) {
	cluster := kafkatest.Start(t, "go-a", 1)
	if err := cluster.CreateTopic("go-b", 1, nil); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	d := startDaemon(t, file(t, "c.yaml", fmt.Sprintf(`name: all
source: {brokers: [%q], session_timeout: 1s, topic_pattern: "go-.*", discovery_interval: 1s}
flush: {interval: 100ms}
table: {schema: "n BIGINT", uri: %q}
http: {listen: "127.0.0.1:0"}
`, cluster.ListenAddrs()[0], filepath.Join(folder, topicMark))))
	kafkatest.Produce(t, cluster.ListenAddrs(), "go-a", 1, values(3))
	kafkatest.Produce(t, cluster.ListenAddrs(), "go-b", 1, values(4))
	d.wait("rows", func() bool {
		return rowCount(t, filepath.Join(folder, "go-a")) == 3 && rowCount(t, filepath.Join(folder, "go-b")) == 4
	})
	if err := cluster.DeleteTopic("go-a"); err != nil {
		t.Fatal(err)
	}
	// The client believes in the topic for some ten seconds more.
	d.waitFor(2*time.Minute, "the end of its pipeline", func() bool {
		_, body := d.get("/metrics")
		return !strings.Contains(body, `stream="all.go-a"`)
	})
	d.wait("readiness", func() bool { code, _ := d.get("/readyz"); return code == 200 })
	if err := cluster.CreateTopic("go-a", 1, nil); err != nil {
		t.Fatal(err)
	}
	d.wait("the refusal", func() bool { _, body := d.get("/readyz"); return strings.Contains(body, "belong to topic id") })
	kafkatest.Produce(t, cluster.ListenAddrs(), "go-b", 1, values(2))
	d.wait("more rows", func() bool { return rowCount(t, filepath.Join(folder, "go-b")) == 6 })
	if code := d.end(); code != exitRefused {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// TestTopicOfTwoPatterns: the second pipeline to find it does not bring its messages a second time.
func TestTopicOfTwoPatterns(t *testing.T) {
	o, rows := untilEndOfMany(t, `  - {name: given, source: {topic: one}}
  - {name: found, source: {topic_pattern: "o.*"}}
`)
	if o.code != exitConfig || !strings.Contains(o.stderr, `"given" and "found.one" both bring the topic one into the table`) {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	if rows != 10 {
		t.Errorf("%d rows", rows)
	}
}

// txnsOf are a table's txns, by app id.
func txnsOf(t testing.TB, table string) map[string]int64 {
	t.Helper()
	var i inspection
	if err := json.Unmarshal([]byte(mustRun(t, "table", "inspect", table, "-o", "json").stdout), &i); err != nil {
		t.Fatal(err)
	}
	txns := map[string]int64{}
	for _, txn := range i.Txns {
		txns[txn.AppID] = txn.Version
	}
	return txns
}

// TestManyTopicsToOneTable: each topic is a stream of its own in the table, also where one's name is how another's begins. A topic more
// changes no app id that is there.
func TestManyTopicsToOneTable(t *testing.T) {
	topics := []string{"t", "t-0", "t.t", "t-0-1", "all.t"}
	cluster := kafkatest.Start(t, topics[0], 2)
	for _, topic := range topics[1:] {
		if err := cluster.CreateTopic(topic, 2, nil); err != nil {
			t.Fatal(err)
		}
	}
	table := filepath.Join(t.TempDir(), "table")
	config := func(n int) string {
		return file(t, "c.yaml", fmt.Sprintf("name: all\nsource: {brokers: [%q], topics: [%s]}\ntable: {uri: %q, schema: \"n BIGINT\"}\nflush: {interval: 50ms}\nhttp: {listen: \"off\"}\n",
			cluster.ListenAddrs()[0], strings.Join(topics[:n], ", "), table))
	}
	rows := 0
	produce := func(n int) {
		t.Helper()
		for i, topic := range topics[:n] {
			kafkatest.Produce(t, cluster.ListenAddrs(), topic, 2, values(10+i))
			rows += 10 + i
		}
	}
	produce(2)
	mustRun(t, "run", "-c", config(2), "--until-end")
	before := txnsOf(t, table)
	for _, appID := range []string{"all.t-0", "all.t-1", "all.t-0-0", "all.t-0-1"} {
		if _, ok := before[appID]; !ok {
			t.Errorf("there is no txn %s: %v", appID, before)
		}
	}
	produce(len(topics))
	mustRun(t, "run", "-c", config(len(topics)), "--until-end")
	if got := rowCount(t, table); got != rows {
		t.Errorf("%d rows, want %d", got, rows)
	}
	after := txnsOf(t, table)
	for appID, version := range before {
		if got, ok := after[appID]; !ok || got < version && !strings.HasSuffix(appID, "#last") {
			t.Errorf("txn %s was %d and is %d, %v", appID, version, got, ok)
		}
	}
	if want := len(topics) * len(before) / 2; len(after) != want {
		t.Errorf("%d txns, want %d: %v", len(after), want, after)
	}
	for _, topic := range topics {
		mustRun(t, "verify", "-c", config(len(topics))+"#all."+topic)
	}
	if o := mustRun(t, "explain", "-c", config(len(topics))+"#all.t-0-1", "1", "0"); !strings.Contains(o.stdout, "t-0-1") {
		t.Error(o.stdout)
	}
	mustRun(t, "rewind", "-c", config(len(topics))+"#all.t", "--to", "earliest", "--yes")
	for appID, version := range txnsOf(t, table) {
		own := appID == "all.t-0" || appID == "all.t-1" || strings.HasPrefix(appID, "all.t#")
		if !own && version != after[appID] {
			t.Errorf("the rewind of another stream has moved %s from %d to %d", appID, after[appID], version)
		}
	}
	if own := txnsOf(t, table); own["all.t-0"] != -1 || own["all.t-1"] != -1 {
		t.Errorf("the stream was not rewound: %v", own)
	}
}

// TestOneTopicToManyTables: each message is in the table of the filter that it meets.
func TestOneTopicToManyTables(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 2)
	var messages [][]byte
	want := map[string]int{}
	for i := range 100 {
		country, pipeline := []string{`"de"`, `"us"`, `"fr"`, "null"}[i%4], []string{"de", "us", "rest", "rest"}[i%4]
		messages = append(messages, fmt.Appendf(nil, `{"id":%d,"country":%s}`, i, country))
		want[pipeline]++
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, messages)
	folder := t.TempDir()
	config := file(t, "c.yaml", fmt.Sprintf(`source: {brokers: [%q], topic: orders}
table: {schema: "id BIGINT NOT NULL, country STRING"}
http: {listen: "off"}
pipelines:
  - {name: de, table: {uri: %[2]q, filter: "country = 'de'"}}
  - {name: us, table: {uri: %[3]q, filter: "country = 'us'"}}
  - {name: rest, table: {uri: %[4]q, filter: "country IS NULL OR country NOT IN ('de', 'us')"}}
`, cluster.ListenAddrs()[0], filepath.Join(folder, "de"), filepath.Join(folder, "us"), filepath.Join(folder, "rest")))
	mustRun(t, "run", "-c", config, "--until-end")
	for pipeline, rows := range want {
		if got := rowCount(t, filepath.Join(folder, pipeline)); got != rows {
			t.Errorf("table %s has %d rows, want %d", pipeline, got, rows)
		}
		mustRun(t, "verify", "-c", config+"#"+pipeline)
	}
}

// TestTopicUnderTwoNames: a topic that a stream has brought into a table is not brought again by one of another name, as when a pipeline
// of one topic is turned into one of a list, unless both have a filter. They are of two files, and spell brokers and table in two ways.
func TestTopicUnderTwoNames(t *testing.T) {
	cluster := kafkatest.Start(t, "one", 2)
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 2, values(10))
	_, port, err := net.SplitHostPort(cluster.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	run := func(name, topics, table, filter string) outcome {
		t.Helper()
		broker, uri := "127.0.0.1", filepath.Join(folder, table)
		if name != "all" || topics != "topic: one" {
			broker, uri = "localhost", "file://"+uri
		}
		return command(t, "run", "--until-end", "-c", file(t, "c.yaml", fmt.Sprintf("name: %s\nsource: {brokers: [\"%s:%s\"], %s}\ntable: {uri: %q, schema: \"n BIGINT\"%s}\nhttp: {listen: \"off\"}\n",
			name, broker, port, topics, uri, filter)))
	}
	const low, high = `, filter: "n < 4"`, `, filter: "n >= 4"`
	for _, tt := range []struct{ name, topics, table, filter, refused string }{
		{"all", "topic: one", "whole", "", ""},
		{"all", "topics: [one]", "whole", "", `by stream "all": stream "all.one" would bring them a second time`},
		{"other", "topic: one", "whole", "", `by stream "all": stream "other" would bring them a second time; go on as stream "all"`},
		{"other", "topic: one", "whole", high, `stream "all" has none as far as the table knows`},
		{"all", "topic: one", "whole", "", ""},
		{"low", "topic: one", "parts", low, ""},
		{"rest", "topic: one", "parts", "", "table.filter"},
		{"high", "topic: one", "parts", high, ""},
	} {
		o := run(tt.name, tt.topics, tt.table, tt.filter)
		if want := map[bool]int{true: exitOK, false: exitRefused}[tt.refused == ""]; o.code != want || !strings.Contains(o.stderr, tt.refused) {
			t.Errorf("%v: exit code %d: %s", tt, o.code, o.stderr)
		}
	}
	for _, table := range []string{"whole", "parts"} {
		if got := rowCount(t, filepath.Join(folder, table)); got != 10 {
			t.Errorf("%s has %d rows", table, got)
		}
	}
}

func TestRestarts(t *testing.T) {
	var r restarts
	for range 100 {
		if wait := r.after(time.Millisecond); wait < shortestRestart || wait > 2*longestRestart {
			t.Fatalf("a wait of %v", wait)
		}
	}
	if wait := r.after(time.Millisecond); wait < longestRestart/2 {
		t.Errorf("after 100 ends it waits for %v", wait)
	}
	if wait := r.after(longestRestart + 1); wait != shortestRestart {
		t.Errorf("after a long run it waits for %v", wait)
	}
}

func TestPipelineSettings(t *testing.T) {
	const rest = "\nhttp: {listen: \"off\"}\n"
	for settings, want := range map[string]string{
		"name: n\nsource: {brokers: [b:1], topics: [a, a.dlq]}\ntable: {uri: \"/{topic}\"}\non_error: dead_letter\ndead_letters: {topic: \"{topic}.dlq\"}":     `source.topics has "a.dlq", the dead_letters.topic of a: each`,
		"name: n\nsource: {brokers: [b:1], topics: [a, a]}\ntable: {uri: \"/{topic}\"}":                                                                        `source.topics has "a" twice`,
		"name: n\nsource: {brokers: [b:1], topic: t, topics: [a]}\ntable: {uri: \"/{topic}\"}":                                                                 "exclude each other",
		"name: n\nsource: {brokers: [b:1], topic_pattern: \"(\"}\ntable: {uri: \"/{topic}\"}":                                                                  "source.topic_pattern",
		"name: n\nsource: {brokers: [b:1], topics: [a], group: g}\ntable: {uri: \"/{topic}\"}":                                                                 "source.group",
		"name: n\nsource: {brokers: [b:1], topics: [a]}\ntable: {uri: \"/{topic}\", create: sometimes}":                                                        "table.create",
		"name: n\nsource: {brokers: [b:1], topic_pattern: a, discovery_interval: 1ms}\ntable: {uri: \"/{topic}\"}":                                             "source.discovery_interval is 1ms",
		"source: {brokers: [b:1], topic: t}\ntable: {uri: /t}\npipelines: [{name: a}, {name: b}]":                                                              `"a" and "b" both bring the topic t into the table /t`,
		"source: {topic: t}\ntable: {uri: /t}\npipelines: [{name: a, source: {brokers: [b:1, c:1]}}, {name: b, source: {brokers: [d:1, B:1]}}]":                `"a" and "b" both bring the topic t into the table /t`,
		"source: {brokers: [b], topic: t}\npipelines: [{name: a, table: {uri: /t}}, {name: b, source: {brokers: [\"b:9092\"]}, table: {uri: \"file:///t/\"}}]": `"a" and "b" both bring the topic t into the table file:///t/`,
		"source: {brokers: [b:1], topic: t}\ntable: {uri: /t}\npipelines: [{name: a}, {name: b, table: {filter: \"n > 1\"}}]":                                  `"a" and "b" both bring the topic t into the table /t`,
		"source: {brokers: [b:1], topic: t, group: g}\npipelines: [{name: a, table: {uri: /a}}, {name: b, table: {uri: /b}}]":                                  `"a" and "b" have the consumer group "g"`,
		"source: {brokers: [b:1]}\ntable: {uri: \"/{topic}\"}\npipelines: [{name: a, source: {topics: [b.c]}}, {name: a.b, source: {topics: [c]}}]":            `two pipelines have the name "a.b.c"`,
		"pipelines: [{name: n}, {name: a/b}]":                                                       "pipelines[1] (a/b): ",
		"source: {brokers: [b:1], topics: [a], group: g}\npipelines: [{name: x, table: {uri: /t}}]": "source.group is",
		"pipelines: []":                             "pipelines is empty",
		"pipelines: [{name: n, sauce: {}}]":         `unknown key "pipelines[0].sauce"`,
		"pipelines: [{name: n}]":                    "pipelines[0] (n): ",
		"pipelines: [{name: n, http: {listen: x}}]": "http",
	} {
		if o := command(t, "validate", "-c", file(t, "c.yaml", settings+rest)); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", settings, o.code, o.stderr, want)
		}
	}
	if o := command(t, "validate", "-c", t.TempDir()); o.code != exitConfig || !strings.Contains(o.stderr, "has no file *.yaml") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestNameOfAPipelineOfMany: -c FILE#NAME is the pipeline of that name, and only then one of a topic that a pattern may find.
func TestNameOfAPipelineOfMany(t *testing.T) {
	path := file(t, "c.yaml", `source: {brokers: [b:1]}
table: {uri: "/{topic}"}
pipelines:
  - {name: a, source: {topic_pattern: ".*"}}
  - {name: a.b, source: {topic_pattern: "c.*"}}
  - {name: a.list, source: {topics: [t]}}
  - {name: a.single, source: {topic: s}}
`)
	for name, topic := range map[string]string{"a.single": "s", "a.list.t": "t", "a.x": "x", "a.b": "b"} {
		c, err := loadConfig(path + "#" + name)
		if err != nil || c.Name != name || c.Source.Kafka.Topic != topic {
			t.Errorf("%s is %s, of topic %s, want %s: %v", name, c.Name, c.Source.Kafka.Topic, topic, err)
		}
	}
	if _, err := loadConfig(path + "#a.b.cd"); err == nil || !strings.Contains(err.Error(), `the topic "b.cd" of the pipeline "a", or the topic "cd" of the pipeline "a.b"`) {
		t.Errorf("a name of two topics: %v", err)
	}
	if _, err := loadConfig(path + "#other"); err == nil || !strings.Contains(err.Error(), "a.<topic>, a.b.<topic>, a.list.t, a.single") {
		t.Errorf("a name of none: %v", err)
	}
}

// TestFinderAndStreamOfOneName: what a pattern finds may have the name of a pipeline with another pattern. Each tells for itself.
func TestFinderAndStreamOfOneName(t *testing.T) {
	cluster := kafkatest.Start(t, "y", 1)
	d := startDaemon(t, file(t, "c.yaml", fmt.Sprintf(`source: {brokers: [%q], session_timeout: 1s, discovery_interval: 1s}
flush: {interval: 100ms}
table: {schema: "n BIGINT", uri: %q}
http: {listen: "127.0.0.1:0"}
pipelines:
  - {name: x, source: {topic_pattern: "y"}}
  - {name: x.y, source: {topic_pattern: "none-.*"}}
`, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), topicMark))))
	d.wait("a search that finds nothing, beside a stream that runs", func() bool {
		code, body := d.get("/readyz")
		_, metrics := d.get("/metrics")
		return code == 503 && strings.Contains(body, "topics of x.y: ") && strings.Count(strings.TrimSpace(body), "\n") == 0 &&
			strings.Contains(metrics, `kafkadelta_ready{stream="x.y"} 1`) && strings.Contains(metrics, `kafkadelta_up{stream="x.y"} 1`)
	})
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// TestFilesOfATopic: {topic} in the names of files stands for the topic as well, also where a pattern has yet to find it.
func TestFilesOfATopic(t *testing.T) {
	cluster := kafkatest.Start(t, "one", 1)
	if err := cluster.CreateTopic("two", 1, nil); err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "one", 1, values(3))
	kafkatest.Produce(t, cluster.ListenAddrs(), "two", 1, [][]byte{[]byte(`{"text":"a"}`)})
	folder := t.TempDir()
	for topic, field := range map[string]string{"one": `{"name":"n","type":"long"}`, "two": `{"name":"text","type":"string"}`} {
		if err := os.WriteFile(filepath.Join(folder, topic+".avsc"), []byte(`{"type":"record","name":"r","fields":[`+field+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := func(name, topics string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], %s}\ntable: {uri: %q, schema_file: %q}\nhttp: {listen: \"off\"}\n",
			name, cluster.ListenAddrs()[0], topics, filepath.Join(folder, name, "{topic}"), filepath.Join(folder, "{topic}.avsc")))
	}
	for name, topics := range map[string]string{"list": "topics: [one, two]", "pattern": `topic_pattern: "one|two"`} {
		mustRun(t, "validate", "-c", config(name, topics))
		mustRun(t, "run", "--until-end", "-c", config(name, topics))
		for topic, column := range map[string]string{"one": "n BIGINT", "two": "text STRING"} {
			if o := mustRun(t, "table", "inspect", filepath.Join(folder, name, topic)); !strings.Contains(o.stdout, column) {
				t.Errorf("%s of %s has no column %s: %s", topics, topic, column, o.stdout)
			}
		}
	}
	if o := command(t, "validate", "-c", config("list", "topics: [one, three]")); o.code != exitConfig || !strings.Contains(o.stderr, "three.avsc") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestTopicInAllSettings: what names a file, a type, a subject or a place may have {topic}.
func TestTopicInAllSettings(t *testing.T) {
	var c config
	settings := []*string{
		&c.Table.Sink.URI, &c.Table.SchemaFile, &c.DeadLetters.URI, &c.DeadLetters.Topic, &c.Source.Kafka.Group, &c.Source.Avro.Schema, &c.Source.Avro.ReaderSchema,
		&c.Source.Avro.Subject, &c.Source.Protobuf.DescriptorSet, &c.Source.Protobuf.Message, &c.Source.Protobuf.Subject, &c.Source.JSON.Subject, &c.Source.Key.Subject,
	}
	for i, text := range settings {
		*text = fmt.Sprintf("%d-{topic}", i)
	}
	c.Name = "all"
	got := fmt.Sprintf("%+v", c.forTopic("t"))
	if strings.Contains(got, topicMark) {
		t.Errorf("{topic} is left in %s", got)
	}
	for i := range settings {
		if !strings.Contains(got, fmt.Sprintf("%d-t", i)) {
			t.Errorf("setting %d has lost its text: %s", i, got)
		}
	}
}
