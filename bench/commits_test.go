package main

import (
	"sync"
	"testing"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// TestCommitsLand: processes that append at once land all that they were asked for, and the table has the rows.
func TestCommitsLand(t *testing.T) {
	const processes, each, rows = 3, 5, 10
	dir := t.TempDir()
	if _, err := openCommitted(t.Context(), dir, processes); err != nil {
		t.Fatal(err)
	}
	before, _, err := rowsOf(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range int32(processes) {
		table, err := openCommitted(t.Context(), dir, processes)
		if err != nil {
			t.Fatal(err)
		}
		c := &commits{table: table, rows: rows, part: checkpoint.Partition{Topic: committedTopic, ID: i}}
		if err := c.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer table.Close(t.Context())
			for range each {
				if state, err := c.one(t.Context()); err != nil || state != sink.Landed {
					t.Errorf("process %d: the unit is %v, %v", i, state, err)
				}
			}
		})
	}
	all.Wait()
	version, got, err := rowsOf(t.Context(), dir)
	if err != nil || got != processes*each*rows || version <= before || version > before+processes*each {
		t.Errorf("the table has %d rows and went from version %d to %d, %v", got, before, version, err)
	}
}
