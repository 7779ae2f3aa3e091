package e2e

import (
	"archive/zip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/internal/kafkatest"
)

// TestAdoptFromARealSparkCheckpoint goes on with a table that Spark's structured streaming has filled from Kafka, by what Spark has
// left (fixtures/make_sparkstream.py): after a stop in order, and after a crash between the sink's commit and Spark's own note of it.
// Each message is in the table exactly once.
func TestAdoptFromARealSparkCheckpoint(t *testing.T) {
	for name, crash := range map[string]bool{"stopped in order": false, "crashed before the last batch was noted": true} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			unzip(t, filepath.Join("..", "fixtures", "sparkstream.zip"), folder)
			if crash {
				must(t, os.Remove(filepath.Join(folder, "checkpoint", "commits", "2")))
			}
			b := kafkatest.Start(t, "numbers", 3).ListenAddrs()
			kafkatest.Produce(t, b, "numbers", 3, numbers(150)) // Spark has read 120
			s := stream{
				name: "numbers", topic: "numbers", brokers: b, table: filepath.Join(folder, "table"), schema: "n BIGINT", interval: time.Minute,
			}
			config := s.write(t)
			out := command(t, exitOK, "adopt", "-c", config, "--from-spark-checkpoint", filepath.Join(folder, "checkpoint"), "--yes")
			want := "note: batch 2 is done, and none was begun after it"
			if crash {
				want = "note: batch 2 is in the table"
			}
			if !strings.Contains(out, want) || strings.Count(out, "10 messages at most are waiting") != 3 {
				t.Errorf("adopt says\n%s", out)
			}
			untilEnd(t, config)
			if got, want := reader(t, "distinct.py", s.table, "n"), fmt.Sprintf("%d %d", 150, 150); got != want {
				t.Errorf("the table has %s rows and distinct numbers, want %s", got, want)
			}
			if others := wantNoFaults(t, config, s.table, exitOK); others != 120 {
				t.Errorf("verify counts %d rows of others, want Spark's 120", others)
			}
		})
	}
}

func unzip(t testing.TB, name, folder string) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	must(t, os.CopyFS(folder, z))
}
