package sink_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// rewound makes a version as a rewind to the next generation does; txns are the last offsets taken of each partition.
func (b *bench) rewound(gen int64, txns ...int64) {
	b.t.Helper()
	lines := []string{fmt.Sprintf(`{"txn":{"appId":%q,"version":%d}}`, checkpoint.GenerationAppID(stream), gen)}
	for id, last := range txns {
		lines = append(lines, txnLine(int32(id), last))
	}
	b.foreign(lines...)
}

// generations are those of the units of each version, from its commitInfo and from the tags of its files.
func (b *bench) generations(version int64) (ofUnits, ofTags []int64) {
	b.t.Helper()
	for line := range strings.Lines(string(b.object(logFile(version)))) {
		var action struct {
			CommitInfo struct {
				Kafkadelta json.RawMessage `json:"kafkadelta"`
			} `json:"commitInfo"`
			Add struct {
				Tags map[string]string `json:"tags"`
			} `json:"add"`
		}
		b.check(json.Unmarshal([]byte(line), &action))
		if value := action.CommitInfo.Kafkadelta; value != nil {
			record, err := checkpoint.DecodeCommit(value)
			b.check(err)
			for _, u := range record.Units {
				ofUnits = append(ofUnits, u.Generation)
			}
		}
		if tag := action.Add.Tags[checkpoint.TagKey]; tag != "" {
			u, err := checkpoint.DecodeUnit(tag)
			b.check(err)
			ofTags = append(ofTags, u.Generation)
		}
	}
	return ofUnits, ofTags
}

// TestRewindFencesAllThatWasTaken: what was taken before a rewind never lands after it, and what is taken after it is of the new
// generation (rule A5).
func TestRewindFencesAllThatWasTaken(t *testing.T) {
	for name, gen := range map[string]int64{"the first rewind": 1, "a later one": 7} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(2)
			b.commit(table, b.unit(table, span(0, 0, 3)), b.unit(table, span(1, 0, 3)))
			u0, u1 := b.unit(table, span(0, 3, 3)), b.unit(table, span(1, 3, 3))
			b.beforePut(func() { b.rewound(gen, 0, 2) }) // partition 1 stays as it is
			b.commit(table, u0, u1)
			b.want(u0, sink.Dropped)
			b.want(u1, sink.Dropped)
			if next := b.claim(table, 0, 1); next[0] != 1 || next[1] != 3 {
				t.Errorf("the partitions go on at %v, want 1 and 3", next)
			}
			u := b.unit(table, span(0, 1, 3), span(1, 3, 1))
			b.commit(table, u)
			b.want(u, sink.Landed)
			if units, tags := b.generations(b.version()); len(units) != 1 || units[0] != gen || len(tags) != 1 || tags[0] != gen {
				t.Errorf("the unit is of generation %v by commitInfo and %v by its files' tags, want %d", units, tags, gen)
			}
			later := b.owner(2) // a process that has seen no rewind
			b.commit(later, b.unit(later, span(1, 4, 1)))
			if units, _ := b.generations(b.version()); len(units) != 1 || units[0] != gen {
				t.Errorf("a worker that starts later writes generation %v, want %d", units, gen)
			}
		})
	}
}

// TestRewindThatTouchesNoPartitionFences: a generation that moved fences every claim, whatever else the version has.
func TestRewindThatTouchesNoPartitionFences(t *testing.T) {
	b := newBench(t)
	table := b.owner(2)
	u := b.unit(table, span(0, 0, 3))
	b.rewound(1)
	fenced, _, err := table.Follow(t.Context())
	b.check(err)
	if len(fenced) != 2 {
		t.Errorf("fenced are %v, want both partitions", fenced)
	}
	b.commit(table, u)
	b.want(u, sink.Dropped)
}

// TestGenerationIsKeptFromExpiring: without it, a worker would take the stream for one that was never rewound.
func TestGenerationIsKeptFromExpiring(t *testing.T) {
	b, table := expiring(t)
	b.rewound(1, 2, -1)
	b.follow(table)
	b.claim(table, 0, 1)
	for i := range int64(4 * 45) { // no partition is idle
		b.passed.Add(int64(day) / 4)
		b.commit(table, b.unit(table, span(0, 3+i, 1), span(1, i, 1)))
	}
	for appID, days := range b.age() {
		if days > 10 {
			t.Errorf("the txn %q was written %d days ago, and expires after 40", appID, days)
		}
	}
	if fenced, _, err := table.Follow(t.Context()); err != nil || len(fenced) > 0 {
		t.Errorf("writing it anew has fenced %v, %v", fenced, err)
	}
}
