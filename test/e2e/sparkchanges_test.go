package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkadelta/internal/kafkatest"
)

// TestSparkChangesWhileWeAppend lets Spark do with a table what its owners do, over and over, while a connector appends to it.
// In the end every message is there once, but those that Spark deleted, as all three readers see it.
func TestSparkChangesWhileWeAppend(t *testing.T) {
	s := spark(t)
	const topic, partitions = "changed", 2
	cluster := kafkatest.Start(t, topic, partitions)
	table := filepath.Join(t.TempDir(), "table")
	config := stream{
		name: "e2e-changed", topic: topic, brokers: cluster.ListenAddrs(), table: table, schema: "n BIGINT, s STRING, p INT", partitionBy: "p",
		interval: 300 * time.Millisecond,
	}.write(t)
	l := startLoad(t, cluster.ListenAddrs(), topic, partitions, 200, func(i int) []byte {
		return fmt.Appendf(nil, `{"n":%d,"s":"first","p":%d,"extra":%d}`, i, i/1000, i)
	})
	p := run(t, config)
	p.waitCommit(2)
	orphan := filepath.Join(table, "p=0", "part-orphan.parquet")
	hourAgo := time.Now().Add(-time.Hour)
	if err := errors.Join(os.WriteFile(orphan, []byte("left by a crash"), 0o600), os.Chtimes(orphan, hourAgo, hourAgo)); err != nil {
		t.Fatal(err)
	}

	for begun, first := time.Now(), true; first || time.Since(begun) < *sparkTime; first = false {
		s.changeAll(t, table, s.number(t, table, "SELECT max(p) FROM {t}"))
		if first {
			s.change(t, table, "ALTER TABLE {t} ADD COLUMN extra BIGINT")
		}
	}
	p.waitFor("commits with the new column", time.Minute, func(logLine) bool {
		return s.number(t, table, "SELECT count(*) FROM {t} WHERE extra IS NOT NULL") > 0
	})
	if _, err := os.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("VACUUM left an old file that no version names: %v", err)
	}
	sent := l.stop()
	p.kill()
	<-p.done
	untilEnd(t, config)

	if wrong := s.number(t, table, "SELECT count(*) FROM {t} WHERE extra <> n"); wrong != 0 {
		t.Errorf("%d rows have another value in the new column than their message", wrong)
	}
	s.changeAll(t, table, 1<<31-1)
	s.change(t, table, "UPDATE {t} SET extra = NULL")
	kept := maps.Clone(sent)
	maps.DeleteFunc(kept, func(_ place, value []byte) bool { n := numberOf(t, value); return n == 6 || n == 9 })
	e := expect(t, topic, kept, func(row map[string]any) {
		n := row["n"].(json.Number).String()
		switch n[len(n)-1] {
		case '7':
			row["s"] = "merged"
		case '8':
			row["s"] = "updated"
		}
		row["extra"] = nil
	})
	e.check(t, table)
	t.Run("spark", func(t *testing.T) { e.checkWithSpark(t, table) })
	t.Logf("%d messages were sent, %d kept", len(sent), len(kept))

	v, code := verifyWith(t, "-c", config)
	deleted := int64(0)
	for _, p := range v.Partitions {
		deleted += p.Deleted
	}
	if code != exitOK || v.Rows != int64(len(kept)) || deleted != int64(len(sent)-len(kept)) {
		t.Errorf("verify ends with %d and finds %d rows, %d deleted: %+v", code, v.Rows, deleted, v)
	}
}

// changeAll runs one of each operation. Those that change rows keep to the partitions before one, where nothing is appended
// any more: Delta's isolation refuses them where new rows might have met their condition. Each may run any number of
// times, so that the last time, when nothing appends, makes the table what is expected.
func (s *sparkEngine) changeAll(t testing.TB, table string, before int64) {
	t.Helper()
	for _, statement := range []string{
		"OPTIMIZE {t}",
		"DELETE FROM {t} WHERE p < {p} AND n % 10 = 9",
		"UPDATE {t} SET s = 'updated' WHERE p < {p} AND n % 10 = 8",
		"MERGE INTO {t} AS t USING (SELECT id FROM range(10)) AS s ON t.p < {p} AND t.n % 10 = s.id AND s.id >= 6 AND s.id <= 7 " +
			"WHEN MATCHED AND s.id = 6 THEN DELETE WHEN MATCHED THEN UPDATE SET s = 'merged'",
		"OPTIMIZE {t} ZORDER BY (n)",
		// An age that no data file of a flush in flight has, however slow the machine.
		"VACUUM {t} RETAIN 0.5 HOURS",
	} {
		s.change(t, table, strings.ReplaceAll(statement, "{p}", strconv.FormatInt(before, 10)))
	}
}

// numberOf is the last digit of a message's number.
func numberOf(t testing.TB, message []byte) int64 {
	t.Helper()
	var m struct{ N int64 }
	if err := json.Unmarshal(message, &m); err != nil {
		t.Fatal(err)
	}
	return m.N % 10
}

// change runs a statement, anew where another writer was in its way.
func (s *sparkEngine) change(t testing.TB, table, statement string) {
	t.Helper()
	for range 10 {
		_, err := s.do("sql", map[string]any{"text": inSQL(statement, table)})
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "[DELTA_CONCURRENT_") {
			t.Fatalf("Spark, %s: %v", statement, err)
		}
		t.Logf("Spark, %s: %.200v", statement, err)
	}
	t.Fatalf("Spark lost the race of %s ten times", statement)
}

// number is what a query of one number answers.
func (s *sparkEngine) number(t testing.TB, table, query string) int64 {
	t.Helper()
	for _, row := range s.sql(t, table, query) {
		for _, v := range row {
			n, err := v.(json.Number).Int64()
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s answers nothing", query)
	return 0
}
