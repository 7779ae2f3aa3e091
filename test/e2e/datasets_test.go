package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"kafkadelta/internal/kafkatest"
)

// TestDatasets runs the connector over real data on a real Kafka until the end, and reads the table with three foreign
// engines: every row is compared with its message by partition and offset, every column, each exactly once.
func TestDatasets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		dataset
	}{{"flights", flights}, {"earthquakes", earthquakes}, {"web_requests", webRequests}} {
		t.Run(tt.name, func(t *testing.T) {
			kafka := realKafka(t)
			const partitions = 4
			createTopic(t, kafka.brokers(), tt.name, partitions)
			lines := tt.lines(t)
			kafkatest.Produce(t, kafka.brokers(), tt.name, partitions, lines)
			sent := dealt(lines, partitions)
			table := filepath.Join(t.TempDir(), "table")
			s := stream{
				name: "e2e-" + tt.name, topic: tt.name, brokers: kafka.brokers(), table: table, schema: tt.schema,
				partitionBy: tt.partitionBy, columns: tt.columns, interval: 500 * time.Millisecond,
			}
			config := s.write(t)

			untilEnd(t, config)
			log := readLog(t, table, s.name)
			log.wantNext(t, sent.next())
			if log.rows != int64(len(lines)) {
				t.Fatalf("the table's log tells %d rows, %d messages were produced", log.rows, len(lines))
			}
			if left := log.orphans(t, table); len(left) > 0 {
				t.Errorf("a run that ended well left files that no version names: %v", left)
			}
			wantReported(t, kafka.brokers(), s.name, tt.name, sent.next())

			untilEnd(t, config) // nothing is new
			if again := readLog(t, table, s.name); again.version != log.version {
				t.Errorf("a second run went from version %d to %d without a new message", log.version, again.version)
			}
			e := expect(t, tt.name, sent, tt.row)
			e.check(t, table)
			e.checkWithSpark(t, table)
		})
	}
}
