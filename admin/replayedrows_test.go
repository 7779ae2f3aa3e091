package admin_test

import (
	"fmt"
	"testing"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// buries has the catalog decide that all messages of offsets of partition 0 are dead letters.
func (c *country) buries(first, next int64) {
	c.t.Helper()
	layout, err := c.table.Layout(c.t.Context())
	c.check(err)
	u, err := c.table.NewWriter(layout).Finish([]checkpoint.Span{{Partition: checkpoint.Partition{Topic: topic}, First: first, Next: next, Records: next - first, Dead: next - first}})
	c.check(err)
	c.check(c.table.Commit(c.t.Context(), []*sink.Unit{u}))
	c.namesLetters(0)
}

// namesLetters has the newest version of the catalog name the file of its dead letters.
func (c *country) namesLetters(partition int32) {
	c.t.Helper()
	version := c.snapshot().Version()
	text := c.object(logName(version)) + fmt.Sprintf(`{"txn":{"appId":%q,"version":77}}`, checkpoint.DeadLetterAppID(stream, partition)) + "\n"
	c.check(c.store.Put(c.t.Context(), logName(version), []byte(text)))
}

// replays brings a table a row, as a delivery of a replay does.
func (c *country) replays(key string, offset int64) *fixture {
	c.t.Helper()
	f := c.inTown(key)
	version := f.snapshot().Version()
	f.foreign("WRITE", f.write(fmt.Sprintf("part-replay-%d.parquet", version), true, []place{{0, offset}}), delta.Txn{AppID: checkpoint.ReplayedRowsAppID(stream), Version: version})
	return f
}

// optimizes has another engine put all rows of table de into one file: those of offsets 0 to 9 that went there, [first, next), and replayed ones.
func (c *country) optimizes(first, next int64, replayed ...int64) {
	c.t.Helper()
	f := c.inTown("de")
	var actions []any
	for _, a := range f.live() {
		actions = append(actions, removeOf(a, false))
	}
	var places []place
	for o := int64(0); o < 10; o += 2 {
		places = append(places, place{0, o})
	}
	for o := first; o < next; o++ {
		places = append(places, place{0, o})
	}
	for _, o := range replayed {
		places = append(places, place{0, o})
	}
	f.foreign("OPTIMIZE", append(actions, f.write("part-optimized.parquet", false, places))...)
}

// TestReplayedRowsOfTables: a row that a replay has brought to one of a catalog's tables is right where the catalog counts dead letters, once for each generation that does. No span of the table tells of it.
func TestReplayedRowsOfTables(t *testing.T) {
	ok, faulty := admin.OK, admin.Faulty
	for name, tt := range map[string]struct {
		happens func(c *country)
		want    admin.Verdict
	}{
		"beyond where the table stands": {func(c *country) { c.replays("de", 12) }, ok},
		"several":                       {func(c *country) { c.replays("de", 12); c.replays("de", 13); c.replays("us", 10) }, ok},
		"within the table's spans":      {func(c *country) { c.brings(0, 24, 30, "de"); c.replays("de", 12) }, ok},
		"which come over it":            {func(c *country) { c.replays("de", 12); c.brings(0, 24, 30, "de") }, ok},
		"in a table with nothing else": {func(c *country) {
			_, err := c.openTown(c.t.Context(), "fr")
			c.check(err)
			c.foreign("WRITE", delta.Txn{AppID: checkpoint.TableAppID(stream, "fr"), Version: 1})
			c.replays("fr", 12)
		}, ok},
		"twice in a table":                      {func(c *country) { c.replays("de", 12); c.replays("de", 12) }, faulty},
		"twice in its spans":                    {func(c *country) { c.replays("us", 12); c.replays("us", 12) }, faulty},
		"in two tables":                         {func(c *country) { c.replays("de", 12); c.replays("us", 12) }, faulty},
		"of what is a row":                      {func(c *country) { c.replays("us", 4) }, faulty},
		"of what is a row of its own":           {func(c *country) { c.replays("de", 4) }, faulty},
		"beyond it, of what is a row":           {func(c *country) { c.replays("de", 20) }, faulty},
		"beside rows of one unit":               {func(c *country) { c.dead = 1; c.brings(0, 24, 30, "de"); c.replays("de", 30) }, ok},
		"of what is a row beside one in a unit": {func(c *country) { c.dead = 1; c.brings(0, 24, 30, "de"); c.replays("de", 28) }, faulty},
		"of what was never taken":               {func(c *country) { c.replays("de", 40) }, faulty},
		"of a generation that is over": {func(c *country) {
			c.replays("de", 12)
			c.rewind(c.rewinding(map[int32]int64{0: 10}))
			c.claim()
			c.brings(0, 10, 14, "de")
		}, ok},
		"of it, twice": {func(c *country) {
			c.replays("de", 12)
			c.replays("us", 12)
			c.rewind(c.rewinding(map[int32]int64{0: 10}))
			c.claim()
			c.brings(0, 10, 14, "de")
		}, faulty},
		"of both": {func(c *country) {
			c.replays("de", 12)
			c.rewind(c.rewinding(map[int32]int64{0: 10}))
			c.claim()
			c.buries(10, 14)
			c.replays("us", 12)
		}, ok},
		"moved": {func(c *country) { c.brings(0, 24, 30, "de"); c.replays("de", 12); c.optimizes(24, 30, 12) }, ok},
		"moved twice": {func(c *country) {
			c.brings(0, 24, 30, "de")
			c.replays("de", 12)
			c.replays("de", 12).rewrite("OPTIMIZE", false, all)
		}, faulty},
		"and more than there are": {func(c *country) {
			c.brings(0, 24, 30, "de")
			for o := int64(10); o < 16; o++ {
				c.replays("de", o)
			}
			c.optimizes(24, 30, 10, 11, 12, 13, 14, 15)
		}, faulty},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			c.brings(0, 0, 10, "de", "us")
			c.buries(10, 14)
			c.brings(0, 14, 24, "us")
			tt.happens(c)
			if r, worst := c.verifies(); worst != tt.want {
				t.Errorf("the verdict is %q, want %q: %s", worst, tt.want, show(r))
			}
		})
	}
}

// TestReplayedRowsOfATableByItself: without its catalog nothing tells of dead letters. What a replay has brought as far as the log tells is no fault, and what others have rewritten can't be told.
func TestReplayedRowsOfATableByItself(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	c.buries(10, 14)
	f := c.replays("de", 12)
	wantVerdict(t, f.verify(), admin.OK)
	c.brings(0, 14, 24, "de")
	wantVerdict(t, f.verify(), admin.OK)
	c.optimizes(14, 24, 12)
	wantVerdict(t, f.verify(), admin.Unverifiable)
	c.wantOK()
}
