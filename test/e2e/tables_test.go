package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"kafkadelta/internal/kafkatest"
)

// lands are what names the tables of TestManyTables; "" is null.
var lands = []string{"de", "us", "", "fr", "a b"}

// tablesOf are the tables of lands.
var tablesOf = map[string]string{"de": "de", "us": "us", "": "__null__", "fr": "fr", "a b": "a~20b"}

// TestManyTables kills workers of a stream that divides its rows among tables, right when a commit to the catalog or to a table begins or has
// ended, two of them at a time, and has foreign engines read every table: each message is in the table of its value, once.
func TestManyTables(t *testing.T) {
	t.Run("in-process Kafka", func(t *testing.T) {
		manyTablesRun(t, kafkatest.Start(t, "many", 3).ListenAddrs(), 10)
	})
	t.Run("real Kafka", func(t *testing.T) {
		kafka := realKafka(t)
		createTopic(t, kafka.brokers(), "many", 3)
		manyTablesRun(t, kafka.brokers(), 6)
	})
}

func manyTablesRun(t *testing.T, brokers []string, lives int) {
	load := startLoad(t, brokers, "many", 3, 1000, func(i int) []byte {
		if land := lands[rand.N(len(lands))]; land != "" {
			return fmt.Appendf(nil, `{"n":%d,"land":%q}`, i, land)
		}
		return fmt.Appendf(nil, `{"n":%d,"land":null}`, i)
	})
	folder := t.TempDir()
	s := stream{
		name: "e2e-many", topic: "many", brokers: brokers, table: filepath.Join(folder, "{field:land}"), schema: "n BIGINT NOT NULL, land STRING",
		interval: 50 * time.Millisecond, source: shortTimeouts,
	}
	config := s.write(t)
	kill := func(life int) *process {
		at, skip := begins[inCommit], 3+rand.N(20)
		if life%2 == 1 {
			at = ends[inCommit]
		}
		var p *process
		ready := make(chan struct{})
		p = startWith(t, nil, func(l logLine) {
			if l.msg() != at {
				return
			}
			if skip--; skip == 0 {
				<-ready
				p.kill()
			}
		}, runArgs(config)...)
		close(ready)
		return p
	}
	for life := range lives / 2 {
		a, b := kill(2*life), kill(2*life+1)
		a.wantExit(killedCode, time.Minute)
		b.wantExit(killedCode, time.Minute)
	}
	sent := load.stop()
	untilEnd(t, config)
	v, code := verifyWith(t, "-c", config)
	if code != exitOK || v.Verdict != "ok" {
		t.Errorf("verify ends with %d: %+v", code, v)
	}
	for land, name := range tablesOf {
		own := messages{}
		for at, value := range sent {
			var m struct{ Land string }
			if must(t, json.Unmarshal(value, &m)); m.Land == land {
				own[at] = value
			}
		}
		expect(t, "many", own, nil).check(t, filepath.Join(folder, name))
		t.Logf("table %s: %d rows in %d versions", name, len(own), newestVersion(t, filepath.Join(folder, name)))
	}
	t.Logf("%d kills; the catalog has %d versions", lives, newestVersion(t, filepath.Join(folder, "_catalog")))
}
