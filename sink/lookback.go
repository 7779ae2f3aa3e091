package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// lookBack refuses a table that was restored or replaced while no worker followed its log (rule A6): it goes back from the
// newest version to the stream's last commit. Once is enough: what comes later is judged. Where the log was cleaned
// before that, or the table has another id since, it looks for the files of that commit (rule A6a).
func (t *Table) lookBack(ctx context.Context) error {
	if !t.lookedBack && t.movedHome() {
		if err := t.lookForLastUnit(ctx); err != nil {
			return err
		}
	}
	at := 1 // at once: mostly the newest version is the stream's own
	for version := t.log.Version(); !t.lookedBack && version >= 0; at = pastAtOnce {
		var commits []*delta.Commit
		err := t.retry(ctx, "looking back in the table's log", func() (err error) {
			commits, err = t.log.Past(ctx, version, min(at, int(version)+1))
			return err
		})
		if err != nil {
			return err
		}
		for _, commit := range commits {
			done, err := t.lookAt(ctx, commit)
			if err != nil {
				return err
			}
			if t.lookedBack = done; done {
				break
			}
		}
		version -= int64(len(commits))
	}
	t.lookedBack = true
	return nil
}

// lookAt judges a version that was before; it is nil where it was cleaned. done says that nothing older counts.
func (t *Table) lookAt(ctx context.Context, commit *delta.Commit) (done bool, err error) {
	if commit == nil {
		return true, t.lookForLastUnit(ctx)
	}
	if commit.Replaces() {
		return false, t.replaced(commit.Version, operation(commit))
	}
	return slices.ContainsFunc(commit.Txns, func(txn delta.Txn) bool { return checkpoint.IsStreams(txn.AppID, t.opts.Name) }), nil
}

// pastAtOnce is how many versions are read side by side: after a long time without the stream there are many.
const pastAtOnce = 32

// movedHome tells that the table has another id than when the stream committed rows last: another table is in its place, or somebody gave it another id.
func (t *Table) movedHome() bool {
	home, ok := t.log.Txn(checkpoint.HomeAppID(t.opts.Name))
	return ok && home.Version != t.mark()
}

// hadID tells whether the table has the id, or had it before: an id may change alone, with all rows kept (rule C1c). The log tells, as far as it was not cleaned, back to where another
// table was put in this one's place.
func (t *Table) hadID(ctx context.Context, id string) (bool, error) {
	if t.log.Metadata().ID == id {
		return true, nil
	}
	if err := t.advance(ctx, nil); err != nil { // it may be a newer one
		return false, err
	}
	for version := t.log.Version(); version >= 0; {
		commits, err := t.log.Past(ctx, version, min(pastAtOnce, int(version)+1))
		if err != nil {
			return false, err
		}
		for _, c := range commits {
			switch {
			case c == nil:
				return false, nil
			case c.Metadata != nil && c.Metadata.ID == id:
				return true, nil
			case c.Replaces():
				return false, nil
			}
		}
		version -= int64(len(commits))
	}
	return false, nil
}

// lookForLastUnit refuses a table that lacks the files of the last unit with rows, unless files of another writer are there that
// are younger than the unit's commit and may have rows of Kafka: then its rows may have been moved into those, as by OPTIMIZE; not so in a table with another
// id. Files are told from each other by their tags, and looked at one by one.
func (t *Table) lookForLastUnit(ctx context.Context) error {
	moved := t.movedHome()
	replaced := t.wentBack(errors.New("the table's id is another one than when the stream committed last, and the files of that commit are not in it: it was replaced since"))
	txn, ok := t.log.Txn(checkpoint.LastUnitAppID(t.opts.Name))
	if !ok {
		txn.Version = -1
	}
	last, ok := checkpoint.NewLastUnit(t.opts.Name, txn.Version, txn.LastUpdated)
	switch {
	case !ok && moved:
		return replaced
	case !ok:
		t.opts.Log.Warn("the log of the stream's last commit was cleaned, and nothing is recorded that tells whether the table was restored since: run connector verify")
		return nil
	}
	err := t.retry(ctx, "looking for the files of the stream's last commit", func() error {
		snapshot, err := delta.OpenSnapshot(ctx, t.store, t.log.Version())
		if errors.Is(err, delta.ErrCorrupt) { // cleaned since it was opened, by a process that was frozen: the newest version has the files, too
			snapshot, err = delta.OpenSnapshot(ctx, t.store, -1)
		}
		if err != nil {
			return err
		}
		for add, err := range snapshot.Files(ctx) {
			if err != nil {
				return err
			}
			if last.See(add.Tags[checkpoint.TagKey], add.ModificationTime, add.Stats) {
				return nil
			}
		}
		return nil
	})
	switch {
	case err != nil || last.Found:
		return err
	case moved:
		return replaced
	case last.Rewritten():
		t.opts.Log.Warn("the log of the stream's last commit was cleaned, and its files were rewritten: whether the table was restored since can't be told, run connector verify")
		return nil
	}
	return &Error{
		Op: "looking back in the table's log",
		Err: fmt.Errorf("the files that the stream's last commit with rows has brought, at %s, are not in the table, nor files that were rewritten since; the log that would tell why was cleaned",
			last.At.UTC().Format(time.RFC3339)),
		Hint: cmp.Or(t.followsHint(), "most likely the table was restored, which takes rows back and leaves the offsets: `connector rewind --to-table-version N`, or `--to-offsets`, reads them again; "+
			"if the rows were deleted on purpose, `connector rewind --to-offsets` to where the table stands goes on"),
	}
}
