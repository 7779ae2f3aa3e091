package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// restoration is a RESTORE that no commit of the stream has followed.
type restoration struct {
	at   int64 // -1: its version was cleaned from the log
	to   int64 // -1: it does not say
	text string
}

// String is the version that it went back to, as a person has to put it.
func (r *restoration) String() string {
	if r.to < 0 {
		return "N"
	}
	return strconv.FormatInt(r.to, 10)
}

// restoredSince looks from a version of the table back through the log to the stream's last commit before it, as a worker that starts does (rule A6).
// Unsure says why it can't be told.
func restoredSince(ctx context.Context, store delta.LogStore, t *delta.Table, version int64, name string) (r *restoration, unsure string, err error) {
	if home, ok := t.Txn(checkpoint.HomeAppID(name)); ok && home.Version != checkpoint.UnitMark(t.Metadata().ID) {
		if r, _, err := restoredByFiles(ctx, store, version, name); err != nil || r != nil {
			return r, "", err
		}
	}
	const atOnce = 32
	for v := version; v >= 0; {
		commits, err := t.Past(ctx, v, int(min(atOnce, v+1)))
		if err != nil {
			return nil, "", err
		}
		v -= int64(len(commits))
		for _, c := range commits {
			switch {
			case c == nil:
				return restoredByFiles(ctx, store, version, name)
			case c.Replaces():
				return restorationOf(c), "", nil
			case slices.ContainsFunc(c.Txns, func(txn delta.Txn) bool { return checkpoint.IsStreams(txn.AppID, name) }):
				return nil, "", nil
			}
		}
	}
	return nil, "", nil
}

func restorationOf(c *delta.Commit) *restoration {
	r := &restoration{at: c.Version, to: -1}
	if c.Info != nil {
		r.to = number(c.Info.OperationParameters["version"])
	}
	if r.text = fmt.Sprintf("version %d restored the table to version %s", c.Version, r); r.to < 0 {
		r.text = fmt.Sprintf("version %d restored or replaced the table", c.Version)
	}
	return r
}

// restoredByFiles looks in a version for the files of the stream's last unit with rows, where the log was cleaned (rule A6a).
func restoredByFiles(ctx context.Context, store delta.LogStore, version int64, name string) (*restoration, string, error) {
	snap, err := delta.OpenSnapshot(ctx, store, version)
	if err != nil {
		return nil, "", err
	}
	home, ok := snap.Txn(checkpoint.HomeAppID(name))
	moved := ok && home.Version != checkpoint.UnitMark(snap.Metadata().ID)
	replaced := &restoration{at: -1, to: -1, text: "the table's id is another one than when the stream committed last, and the files of that commit are not in it, so that it was replaced since"}
	txn, ok := snap.Txn(checkpoint.LastUnitAppID(name))
	if !ok {
		txn.Version = -1
	}
	last, ok := checkpoint.NewLastUnit(name, txn.Version, txn.LastUpdated)
	switch {
	case !ok && moved:
		return replaced, "", nil
	case !ok:
		return nil, "the log of the stream's last commit was cleaned, and nothing is recorded that tells whether the table was restored since", nil
	}
	if err := showFiles(ctx, snap, last); err != nil || last.Found {
		return nil, "", err
	}
	if moved {
		return replaced, "", nil
	}
	if last.Rewritten() {
		return nil, "the log of the stream's last commit was cleaned, and its files were rewritten: whether the table was restored since can't be told", nil
	}
	return &restoration{at: -1, to: -1, text: fmt.Sprintf("the files that the stream's last commit with rows has brought, at %s, are not in the table, and the log that would tell why was cleaned, "+
		"so most likely a RESTORE has restored the table", last.At.UTC().Format(time.RFC3339))}, "", nil
}

// showFiles has who looks for the stream's last unit see the files of a version, until it is found.
func showFiles(ctx context.Context, snap *delta.Snapshot, last *checkpoint.LastUnit) error {
	for add, err := range snap.Files(ctx) {
		if err != nil || last.See(add.Tags[checkpoint.TagKey], add.ModificationTime, add.Stats) {
			return err
		}
	}
	return nil
}

// checkRowsOf refuses the offsets of a version that lies between a RESTORE and the rewind after it: its rows had gone back, and its offsets not yet.
func (p *RewindPlan) checkRowsOf(ctx context.Context, store delta.LogStore, version int64) error {
	restored, unsure, err := restoredSince(ctx, store, p.table, version, p.r.Name)
	switch {
	case err != nil:
		return err
	case restored != nil:
		first := restored.text
		for restored.to >= 0 { // which may itself lie so
			earlier, _, err := restoredSince(ctx, store, p.table, restored.to, p.r.Name)
			if err != nil || earlier == nil { // a version that can't be opened any more is refused once it is asked for
				break
			}
			restored = earlier
		}
		remedy := fmt.Sprintf("version %d has the rows of the version that the table went back to then: use --to-table-version %s", version, restored)
		if restored.to < 0 {
			remedy += ", or where nobody knows which that was, say --to-offsets, with what `SELECT max(_kafka.offset)` finds in each partition + 1"
		}
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s, and the offsets of version %d are from before that: the rows between would not come back", first, version),
			Remedy: remedy,
		}
	case unsure != "":
		p.warn("as of version %d, %s: its offsets may be beyond its rows; run `connector verify` afterwards", version, unsure)
	}
	return nil
}

// wholeAfterRestore refuses to leave partitions where they are after a RESTORE: their rows went back, too, and once the stream has
// committed, nothing tells of it any more.
func (p *RewindPlan) wholeAfterRestore(restored *restoration, unsure string) error {
	at := slices.IndexFunc(p.Moves, func(m Move) bool {
		_, named := p.r.To[m.Partition]
		return !named
	})
	switch {
	case at < 0:
	case unsure != "":
		p.warn("%s: what a RESTORE took back of partitions that stay where they are would be lost, and no start would tell of it any more; run `connector verify` first", unsure)
	case restored != nil && !p.r.Force:
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s, and partition %d would stay where it is: what RESTORE took back of it would be lost", restored.text, p.Moves[at].Partition),
			Remedy: fmt.Sprintf("`--to-table-version %s` takes back the offsets of all partitions; or name each in --to-offsets; --force leaves it as it is", restored),
		}
	}
	return nil
}

// number reads a whole number that may be spelled as a text; -1 for what is none.
func number(value json.RawMessage) int64 {
	text := string(value)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
