package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"kafkadelta/internal/kafkatest"
)

// TestColumns computes, renames, drops and filters, and has foreign engines read what became of each message. Messages that the filter leaves
// out are counted, and `verify` finds that everything adds up.
func TestColumns(t *testing.T) {
	const partitions = 2
	cluster := kafkatest.Start(t, "columns", partitions)
	line := func(i int64) []byte {
		return fmt.Appendf(nil, `{"cust":%d,"price":"%d.25","kind":%q,"at":"2024-02-%02dT23:30:00Z","who":{"name": "Zoë %d"}}`,
			i, i, []string{"sale", "test", "return"}[i%3], 1+i%29, i)
	}
	var lines [][]byte
	for i := range int64(1000) {
		lines = append(lines, line(i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "columns", partitions, lines)
	s := stream{
		name: "e2e-columns", topic: "columns", brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"), partitionBy: "month",
		schema: "customer BIGINT NOT NULL, total DECIMAL(12,2), day DATE, month INT, name STRING, sign INT, source STRING, version INT, nothing STRING, who STRING, message STRING",
		columns: `
    customer: {from: cust}
    price: {type: STRING, drop: true}
    kind: {type: STRING, drop: true}
    at: {type: TIMESTAMP, drop: true}
    nothing: {drop: true}
    who: {cast: json}
    message: {from: ., cast: json}
    total: {expression: "CAST(price AS DECIMAL(10,2)) * CASE kind WHEN 'return' THEN -1 ELSE 1 END"}
    day: {from: at, cast: date}
    month: {expression: "month(at)"}
    name: {from: who.name}
    sign: {expression: "if(customer % 2 = 0, 1, NULL)"}
    source: {constant: "shop's"}
    version: {constant: 3}
  filter: "kind <> 'test'"`,
	}
	config := s.write(t)
	untilEnd(t, config)
	sent := dealt(lines, partitions)
	kept := messages{}
	for at, value := range sent {
		var m struct{ Kind string }
		if err := json.Unmarshal(value, &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind != "test" {
			kept[at] = value
		}
	}
	readLog(t, s.table, s.name).wantNext(t, sent.next())
	expect(t, "columns", kept, func(row map[string]any) {
		n, err := row["cust"].(json.Number).Int64()
		if err != nil {
			t.Error(err)
		}
		total := fmt.Sprintf("%d.25", n)
		if row["kind"] == "return" {
			total = "-" + total
		}
		row["customer"], row["total"], row["day"], row["month"] = row["cust"], total, row["at"].(string)[:10], 2
		row["name"], row["sign"], row["source"], row["version"], row["nothing"] = row["who"].(map[string]any)["name"], any(1), "shop's", 3, nil
		row["message"], row["who"] = string(line(n)), fmt.Sprintf(`{"name": "Zoë %d"}`, n)
		if n%2 != 0 {
			row["sign"] = nil
		}
		for _, gone := range []string{"cust", "price", "kind", "at"} {
			delete(row, gone)
		}
	}).check(t, s.table)
	filtered := int64(0)
	for _, p := range wantVerified(t, config, s.table).Partitions {
		filtered += p.Filtered
	}
	if want := int64(len(sent) - len(kept)); filtered != want {
		t.Errorf("verify counts %d filtered messages, want %d", filtered, want)
	}
}
