package main

import (
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// TestAvroMessagesAreTheSame decodes messages of both formats to the same rows.
func TestAvroMessagesAreTheSame(t *testing.T) {
	var rows []string
	for _, name := range []string{"web_requests", "web_requests_avro"} {
		s, err := shapeOf(name)
		if err != nil {
			t.Fatal(err)
		}
		r := stageRun{stage: stageDecode, shape: s, messages: 100, partitions: 1, data: filepath.Join("..", "test", "data")}
		if err := r.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		in, err := s.open(r.data)
		if err != nil {
			t.Fatal(err)
		}
		c := newChunk("t")
		if err := c.fill(in, 0, r.messages, 1); err != nil {
			t.Fatal(err)
		}
		for i := range c.records {
			c.records[i].Timestamp = webStart
			if err := r.decoder.Append(&c.records[i]); err != nil {
				t.Fatal(err)
			}
		}
		rb := r.decoder.NewBatch()
		text, err := array.RecordToStructArray(rb).MarshalJSON()
		rb.Release()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, string(text))
	}
	if rows[0] != rows[1] {
		t.Errorf("the rows differ:\n%.500s\n%.500s", rows[0], rows[1])
	}
}
