package admin_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// TestASpanThatARewindHasCut: where a rewind goes on within a span, what is below must be there, and what is above is read again. Which messages of
// the span were no rows is not known without Kafka: all of them may be below.
func TestASpanThatARewindHasCut(t *testing.T) {
	dense := take{0, 0, 20, nil, 0}
	sparse := take{0, 0, 20, []int64{0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, 0}
	skipping := take{0, 0, 20, sparse.rows, 5} // the same, and Kafka has no gaps
	without := func(offsets ...int64) func(place) bool {
		return func(p place) bool {
			for _, o := range offsets {
				if p.partition == 0 && p.offset == o {
					return false
				}
			}
			return true
		}
	}
	above := func(to int64) func(place) bool { return func(p place) bool { return p.offset < to } }
	remove := func(f *fixture, keep func(place) bool) { // by a writer that does not say how many rows are left
		version := f.rewrite("OPTIMIZE", false, keep)
		stats, err := json.Marshal(f.filesOf(version)[0].Stats)
		f.check(err)
		f.edit(version, string(stats), `""`)
	}
	restore := func(f *fixture, _ func(place) bool) {
		version := f.foreign("RESTORE", removeOf(f.live()[0], true))
		f.edit(version, `"operation":"RESTORE"`, `"operation":"RESTORE","operationParameters":{"version":"1"}`)
	}
	deletes := func(f *fixture, keep func(place) bool) { f.rewrite("DELETE", true, keep) }
	for name, tt := range map[string]struct {
		first   take
		to      int64
		happens func(f *fixture, keep func(place) bool)
		keep    func(place) bool
		alone   admin.Kind // what is told; "" for nothing
		kafka   admin.Kind // with Kafka
		says    string     // of the first of them
		deleted int64      // rows that count as deleted by others, by the table alone
	}{
		"nothing lacks":                               {first: dense, to: 5},
		"all above is deleted":                        {first: dense, to: 5, happens: deletes, keep: above(5)},
		"all above is gone":                           {first: dense, to: 5, happens: remove, keep: above(5)},
		"a row below is gone":                         {dense, 5, remove, without(2), admin.LostRows, admin.LostRows, "1 of 5 rows of offsets [0, 5)", 0},
		"the last one below":                          {dense, 5, remove, without(4), admin.LostRows, admin.LostRows, "1 of 5 rows of offsets [0, 5)", 0},
		"the first one above":                         {first: dense, to: 5, happens: remove, keep: without(5)},
		"a row below is deleted":                      {first: dense, to: 5, happens: deletes, keep: without(2), deleted: 1},
		"all is gone":                                 {dense, 5, remove, above(0), admin.LostRows, admin.LostRows, "5 of 5 rows of offsets [0, 5)", 0},
		"with gaps, nothing lacks":                    {first: sparse, to: 8, happens: remove, keep: above(8)},
		"with gaps, some below":                       {sparse, 8, remove, without(0, 1), "", admin.MissingMessage, "2 messages that Kafka has in [0, 8)", 0},
		"with gaps, more below than there are gaps":   {sparse, 8, remove, without(0, 1, 2), admin.LostRows, admin.LostRows, "1 of 3 rows of offsets [0, 8)", 0},
		"with gaps, deleted below":                    {first: sparse, to: 8, happens: deletes, keep: without(0, 1, 2, 3, 4), deleted: 3},
		"with skipped messages, as many below":        {first: skipping, to: 8, happens: remove, keep: without(0, 1)},
		"with skipped messages, more below than were": {skipping, 8, remove, without(0, 1, 2), admin.LostRows, admin.LostRows, "1 of 3 rows of offsets [0, 8)", 0},
		"a RESTORE took all":                          {dense, 5, restore, nil, admin.Restored, admin.Restored, "took back 5 rows of offsets [0, 5)", 0},
		"a RESTORE took all, read again":              {first: dense, to: 0, happens: restore},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(tt.first)
			if tt.happens != nil { // before the rewind, or the rows of both generations were in one file
				tt.happens(f, tt.keep)
			}
			kafka := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: 30, 1: 0}, at: map[place]bool{}}
			again := take{0, tt.to, 30, []int64{}, 0}
			for o := range int64(30) {
				if gap := tt.first.rows != nil && tt.first.skipped == 0 && 5 <= o && o < 10; !gap {
					kafka.at[place{0, o}] = false
					if o >= tt.to {
						again.rows = append(again.rows, o)
					}
				}
			}
			_, err := f.plan(rewinding(map[int32]int64{0: tt.to, 1: 0})).Commit(t.Context())
			f.check(err)
			f.open(setup{})
			f.commit(again)
			for _, c := range []struct {
				options admin.Options
				want    admin.Kind
			}{{admin.Options{Since: -1, Until: -1}, tt.alone}, {withKafka(kafka), tt.kafka}} {
				r := f.verify(c.options)
				if c.want == "" && len(r.Faults) > 0 || c.want != "" && (len(r.Faults) == 0 || r.Faults[0].Kind != c.want) || len(r.Unverified) > 0 {
					t.Fatalf("compared with Kafka: %t. Want %q: %s", c.options.Kafka != nil, c.want, show(r))
				}
				if c.want != "" {
					wantFault(t, r, c.want, tt.says)
				}
				if c.options.Kafka == nil && r.Partitions[0].Deleted != tt.deleted {
					t.Errorf("%d rows count as deleted, want %d", r.Partitions[0].Deleted, tt.deleted)
				}
			}
		})
	}
}

// TestASpanOfACatalogThatARewindHasCut: the same with rows that go to many tables.
func TestASpanOfACatalogThatARewindHasCut(t *testing.T) {
	for name, tt := range map[string]struct {
		brought []string // tables that have got their rows: de the even offsets, us the others
		to      int64
		says    string // "" for no fault
	}{
		"all are there":                  {[]string{"de", "us"}, 7, ""},
		"none is there":                  {nil, 7, "10 of 10 rows of offsets [0, 10)"},
		"none is there, all read again":  {nil, 0, ""},
		"one table has none":             {[]string{"de"}, 7, "5 of 10 rows of offsets [0, 10)"},
		"one table has none, read again": {[]string{"de"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			c.decides(0, 0, 10, "de", "us")
			slot := checkpoint.RowsAppID(stream, 0)
			txn, _ := c.snapshot().Txn(slot)
			for _, key := range []string{"de", "us"} { // which say that they have got them
				if !slices.Contains(tt.brought, key) {
					c.inTown(key).foreign("WRITE", delta.Txn{AppID: slot, Version: txn.Version})
				}
			}
			c.check(c.settles(t.Context(), 0))
			r := c.rewinding(map[int32]int64{0: tt.to})
			r.Routed = admin.Routed{}
			c.rewind(r)
			c.brings(0, tt.to, 12, "de", "us")
			if tt.says == "" {
				c.wantOK()
				return
			}
			report, _ := c.verifies()
			wantFault(t, report, admin.LostRows, tt.says, "no table has got them")
		})
	}
}

// TestARestoreToBeforeARewind takes back the generation that it began: the one before has the rows again, and must have them.
func TestARestoreToBeforeARewind(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}) // version 2
	f.rewind(rewinding(map[int32]int64{0: 5}))
	f.commit(take{0, 5, 30, nil, 0})
	restore := func(files ...any) {
		version := f.foreign("RESTORE", files...)
		f.edit(version, `"operation":"RESTORE"`, `"operation":"RESTORE","operationParameters":{"version":2}`)
	}
	restore(removeOf(f.filesOf(4)[0], true))
	wantFault(t, f.verify(), admin.Restored, "generation 1", "took back 10 rows of offsets [20, 30)")
	back := rewinding(nil)
	back.ToVersion = 2
	_, err := f.plan(back).Commit(t.Context())
	f.check(err)
	f.open(setup{})
	f.commit(take{0, 20, 40, nil, 0})
	kafka := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: 40, 1: 0}, at: map[place]bool{}}
	for o := range int64(40) {
		kafka.at[place{0, o}] = false
	}
	wantVerdict(t, f.verify(), admin.OK)
	wantVerdict(t, f.verify(withKafka(kafka)), admin.OK)
	restore(removeOf(f.filesOf(7)[0], true)) // once more, before anything tells of the version in between
	_, err = f.plan(back).Commit(t.Context())
	f.check(err)
	f.open(setup{})
	wantVerdict(t, f.verify(withKafka(kafka)), admin.OK)
	version := f.rewrite("OPTIMIZE", false, func(p place) bool { return p.offset != 7 })
	stats, err := json.Marshal(f.filesOf(version)[0].Stats)
	f.check(err)
	f.edit(version, string(stats), `""`)
	wantFault(t, f.verify(), admin.LostRows, "1 of 20 rows of offsets [0, 20)")
}

// TestARestoreThatOnlyAdds brings rows of several generations: none of them is a copy.
func TestARestoreThatOnlyAdds(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 5, nil, 0})
	since := f.rewind(rewinding(map[int32]int64{0: 2}))
	f.commit(take{0, 2, 5, nil, 0})
	at := f.rewrite("OPTIMIZE", false, all)
	file := f.live()[0]
	f.foreign("DELETE", removeOf(file, true))
	version := f.foreign("RESTORE", file)
	f.edit(version, `"operation":"RESTORE"`, fmt.Sprintf(`"operation":"RESTORE","operationParameters":{"version":%d}`, at))
	for _, from := range []int64{-1, since} {
		if r := f.verify(admin.Options{Since: from, Until: -1}); r.FaultCount > 0 {
			t.Errorf("since version %d: %s", from, show(r))
		}
	}
}

// TestARestoreThatAnotherTookBack: what one RESTORE took and the next one brought back is deleted by who deletes it then.
func TestARestoreThatAnotherTookBack(t *testing.T) {
	f := newFixture(t, setup{})
	restore := func(to int64, action any) {
		version := f.foreign("RESTORE", action)
		f.edit(version, `"operation":"RESTORE"`, fmt.Sprintf(`"operation":"RESTORE","operationParameters":{"version":%d}`, to))
		r := rewinding(nil)
		r.ToVersion = to
		_, err := f.plan(r).Commit(t.Context())
		f.check(err)
		f.open(setup{})
	}
	f.commit(take{0, 0, 5, nil, 0})
	brought := f.commit(take{0, 5, 9, nil, 0})
	file := f.filesOf(brought)[0]
	restore(brought-1, removeOf(file, true))
	restore(brought, file)
	wantVerdict(t, f.verify(), admin.OK)
	f.foreign("DELETE", removeOf(file, true))
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if r.Partitions[0].Deleted != 4 {
		t.Errorf("%d rows count as deleted, want 4", r.Partitions[0].Deleted)
	}
}
