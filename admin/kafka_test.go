package admin_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// records is a topic: what a reader gets at which offset. What is not in it is a gap.
type records struct {
	identity  checkpoint.Identity
	compacted bool
	start     map[int32]int64
	end       map[int32]int64
	at        map[place]bool // true: a control record
}

func (r *records) Topic(context.Context, string) (admin.KafkaTopic, error) {
	return admin.KafkaTopic{Identity: r.identity, Compacted: r.compacted, Start: r.start, End: r.end}, nil
}

func (r *records) Read(_ context.Context, _ string, ranges map[int32]admin.Range, visit func(admin.Record)) error {
	for p, rg := range ranges {
		for o := max(rg.First, r.start[p]); o < rg.Next; o++ {
			if control, ok := r.at[place{p, o}]; ok {
				visit(admin.Record{Partition: p, Offset: o, Control: control})
			}
		}
	}
	return nil
}

// kafkaOf is the topic that a filled table was filled from: all rows, the skipped messages, and a control record.
func kafkaOf(start int64) *records {
	r := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: start + 30, 1: start + 100}, at: map[place]bool{}}
	put := func(partition int32, control bool, offsets ...int64) {
		for _, o := range offsets {
			r.at[place{partition, start + o}] = control
		}
	}
	for o := range int64(10) {
		put(0, false, o)
	}
	put(0, false, 10, 13, 19, 11, 12) // the last two are skipped
	put(0, true, 14)
	put(0, false, 20, 21, 22, 23)
	put(1, false, 0, 1, 2, 3, 4, 8) // the last one is skipped
	put(1, true, 6)
	for o := int64(9); o < 100; o++ {
		put(1, false, o)
	}
	return r
}

func withKafka(r *records) admin.Options { return admin.Options{Since: -1, Until: -1, Kafka: r} }

func TestKafkaAgrees(t *testing.T) {
	f := filled(t, setup{})
	r := f.verify(withKafka(kafkaOf(0)))
	wantVerdict(t, r, admin.OK)
	if k := r.Kafka; k == nil || k.Messages != 116 || k.Controls != 2 || k.NotRead != 6 || k.Retired != 0 || k.Compacted != 0 || k.OtherGaps != 4+2 {
		t.Errorf("Kafka: %+v", r.Kafka)
	}
	wantVerdict(t, filled(t, setup{columns: "n BIGINT"}).verify(withKafka(kafkaOf(0))), admin.OK)

	// What retention and compaction have removed since is told, and is no fault.
	k := kafkaOf(0)
	k.start[0], k.compacted = 12, true
	delete(k.at, place{1, 30})
	r = f.verify(withKafka(k))
	wantVerdict(t, r, admin.OK)
	if r.Kafka.Retired != 12 || r.Kafka.Compacted != 1 {
		t.Errorf("after retention and compaction: %+v", r.Kafka)
	}
	r = f.verify(admin.Options{Since: 4, Until: -1, Kafka: kafkaOf(0)})
	wantVerdict(t, r, admin.OK)
	if r.Kafka.Messages != 4+92 {
		t.Errorf("of the versions after 4: %+v", r.Kafka)
	}
}

// TestKafkaExplainsWhatIsNotRecorded: where no record of a unit without rows is left, Kafka shows that it had no message.
func TestKafkaExplainsWhatIsNotRecorded(t *testing.T) {
	f := filled(t, setup{})
	f.cleanLog()
	wantVerdict(t, f.verify(), admin.Unverifiable)
	wantVerdict(t, f.verify(withKafka(kafkaOf(0))), admin.OK)
	k := kafkaOf(0)
	k.at[place{1, 5}] = false
	r := f.verify(withKafka(k))
	wantVerdict(t, r, admin.Unverifiable)
	if len(r.Unverified) != 1 || !strings.Contains(r.Unverified[0].Text, "what became of 1 offsets in [5, 8)") {
		t.Errorf("a message that nothing tells of: %s", show(r))
	}
	k.start[1] = 50 // Kafka can't tell of it any more
	wantVerdict(t, f.verify(withKafka(k)), admin.Unverifiable)
}

func TestKafkaDisagrees(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*records)
		kind   admin.Kind
		says   []string
	}{
		"a message that was taken for a gap": {func(r *records) { r.at[place{0, 15}] = false }, admin.MissingMessage, []string{"topic[0]", "6 messages in [10, 20)", "only 5"}},
		"a message beside the rows":          {func(r *records) { delete(r.at, place{1, 9}); r.at[place{1, 7}] = false }, admin.MissingMessage, []string{"topic[1]", "[5, 8)"}},
		"other offsets":                      {func(r *records) { delete(r.at, place{0, 13}); r.at[place{0, 15}] = false }, admin.MissingMessage, []string{"3 messages", "only 2 were skipped", "offset 11"}},
		"a row of no message":                {func(r *records) { delete(r.at, place{1, 42}) }, admin.UnknownMessage, []string{"topic[1]", "1 rows", "[9, 100)"}},
		"another topic":                      {func(r *records) { r.identity.TopicID = "made-anew" }, admin.WrongTopic, []string{"topic-id", "made-anew"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := kafkaOf(0)
			tt.change(k)
			wantFault(t, filled(t, setup{}).verify(withKafka(k)), tt.kind, tt.says...)
		})
	}
	f := filled(t, setup{})
	if _, err := admin.Verify(t.Context(), f.store, admin.Options{Since: -1, Until: -1, Kafka: kafkaOf(0), Topic: "other"}); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("a topic that the table does not have: %v", err)
	}
}

func TestExplainAsksKafka(t *testing.T) {
	f := filled(t, setup{})
	k := kafkaOf(0)
	k.start[1] = 2
	for _, tt := range []struct {
		at   place
		has  string
		says string
	}{
		{place{0, 13}, "message", "row 1 of"},
		{place{0, 11}, "message", "a message that was skipped, or a row that was deleted"},
		{place{0, 14}, "control record", "marker of a producer transaction"},
		{place{0, 15}, "nothing", "aborted"},
		{place{0, 500}, "not yet", "up to 23"},
		{place{1, 1}, "gone", "row"},
	} {
		e, err := admin.Explain(t.Context(), f.store, tt.at.partition, tt.at.offset, withKafka(k))
		if err != nil || e.Kafka == nil || e.Kafka.Has != tt.has || !strings.Contains(e.Text, tt.says) {
			t.Errorf("%v: %+v, Kafka %+v, %v; want %q and %q", tt.at, e, e.Kafka, err, tt.has, tt.says)
		}
	}
}

func TestProgressIsTold(t *testing.T) {
	var told []admin.Progress
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0})
	f.verify(admin.Options{Since: -1, Until: -1, Progress: func(p admin.Progress) { told = append(told, p) }})
	newest, err := delta.OpenSnapshot(t.Context(), f.store, -1)
	if err != nil {
		t.Fatal(err)
	}
	var want []admin.Progress
	for v := range newest.Version() + 1 {
		want = append(want, admin.Progress{Doing: "log", Done: v + 1, Total: newest.Version() + 1})
	}
	if want = append(want, admin.Progress{Doing: "files", Done: 1, Total: 1, Rows: 10}); !slices.Equal(told, want) {
		t.Errorf("told %+v, want %+v", told, want)
	}
	told = nil
	if _, err := admin.Explain(t.Context(), f.store, 0, 3, admin.Options{Since: -1, Until: -1, Progress: func(p admin.Progress) { told = append(told, p) }}); err != nil {
		t.Fatal(err)
	}
	if want = want[:len(want)-1]; !slices.Equal(told, want) {
		t.Errorf("of one message told %+v, want %+v", told, want)
	}
}
