package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTransactions reads what transactional producers committed, and nothing else. Each partition ends with the marker
// of a transaction, which is no message; the run to the end must not wait for one.
func TestTransactions(t *testing.T) {
	kafka := realKafka(t)
	const topic, partitions = "transactions", 2
	createTopic(t, kafka.brokers(), topic, partitions)
	producer, err := kgo.NewClient(kgo.SeedBrokers(kafka.brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("e2e-transactions"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	visible := messages{}
	produced := 0
	transaction := func(n int, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var records []*kgo.Record
		for range n {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(produced % partitions), Value: number(produced)})
			produced++
		}
		if err := producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if end == kgo.TryCommit {
			for _, r := range records {
				visible[place{r.Partition, r.Offset}] = r.Value
			}
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	s := stream{
		name: "e2e-transactions", topic: topic, brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"),
		schema: numberSchema, interval: 100 * time.Millisecond,
	}
	config := s.write(t)
	ends := func() map[int32]int64 {
		listed, err := admin(t, kafka.brokers()).ListCommittedOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		m := map[int32]int64{}
		for p, o := range listed[topic] {
			m[p] = o.Offset
		}
		return m
	}
	check := func(what string) {
		t.Helper()
		untilEnd(t, config)
		log := readLog(t, s.table, s.name)
		log.wantNext(t, ends()) // the markers at the end are taken too
		if log.rows != int64(len(visible)) {
			t.Fatalf("%s: the table has %d rows, %d messages are committed", what, log.rows, len(visible))
		}
		version := log.version
		untilEnd(t, config)
		if again := readLog(t, s.table, s.name); again.version != version {
			t.Errorf("%s: a second run went from version %d to %d", what, version, again.version)
		}
	}

	transaction(50, kgo.TryCommit)
	transaction(30, kgo.TryAbort)
	transaction(20, kgo.TryCommit)
	check("after a committed transaction")
	transaction(40, kgo.TryAbort)
	check("after an aborted transaction")

	// What is not ended yet is not waited for.
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	open := &kgo.Record{Topic: topic, Partition: 0, Value: number(produced)}
	if err := producer.ProduceSync(t.Context(), open).FirstErr(); err != nil {
		t.Fatal(err)
	}
	check("before the end of a transaction")
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	visible[place{0, open.Offset}] = open.Value
	check("after the end of that transaction")
	expect(t, topic, visible, nil).check(t, s.table)
	if v := wantVerified(t, config, s.table); v.Kafka.Messages != int64(len(visible)) || v.Kafka.Controls == 0 {
		t.Errorf("verify has compared %+v of %d messages", v.Kafka, len(visible))
	}
}
