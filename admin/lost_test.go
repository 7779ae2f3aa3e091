package admin_test

import (
	"strings"
	"testing"

	"kafkadelta/admin"
)

// TestLostOffsetsAreAccountedFor: what on_data_loss: continue has passed over is no fault, is told apart from other gaps, and is explained.
func TestLostOffsetsAreAccountedFor(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{first: 0, next: 5})
	f.lost = 11
	f.commit(take{first: 5, next: 20, rows: []int64{16, 17, 19}})
	f.lost = 10
	f.commit(take{first: 20, next: 30, rows: []int64{}}) // nothing came behind the loss yet
	r, err := admin.Verify(f.t.Context(), f.store, admin.Options{Since: -1, Until: -1})
	f.check(err)
	if p := r.Partitions[0]; r.Verdict != admin.OK || p.Lost != 21 || p.Gaps != 22 {
		t.Errorf("the verdict is %s with %d gaps, %d of them lost; want %s, 22 and 21: %+v", r.Verdict, p.Gaps, p.Lost, admin.OK, r.Faults)
	}
	for offset, want := range map[int64]string{7: "11 offsets that Kafka had deleted", 18: "a gap of Kafka", 25: "10 offsets that Kafka had deleted"} {
		e, err := admin.Explain(t.Context(), f.store, 0, offset, admin.Options{Since: -1, Until: -1})
		f.check(err)
		if e.Fate != admin.NoRow || !strings.Contains(e.Text, want) {
			t.Errorf("offset %d: %s, %q, which does not say %q", offset, e.Fate, e.Text, want)
		}
	}
	if e, err := admin.Explain(t.Context(), f.store, 0, 25, admin.Options{Since: -1, Until: -1}); err != nil || strings.Contains(e.Text, "a gap of Kafka") {
		t.Errorf("all offsets of the span are lost, but it is told: %q, %v", e.Text, err)
	}
}
