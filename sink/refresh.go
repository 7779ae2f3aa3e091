package sink

import (
	"context"
	"slices"
	"strings"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// refreshUnit writes anew the txns of claimed partitions that no unit of the commit moves and that log checkpoints would forget
// (rule A4): an empty unit [next, next), under the rules for every unit, once a quarter of the retention has passed. A blind
// write would lower a txn that another worker has moved. Others may carry it like any unit. It is nil where nothing is due, as in
// every table without delta.setTransactionRetentionDuration.
func (t *Table) refreshUnit(units []*Unit) *Unit {
	if _, expire := t.log.TxnRetention(); !expire {
		return nil
	}
	moved := map[string]bool{}
	for _, u := range units {
		for _, s := range u.Spans {
			moved[checkpoint.AppID(t.opts.Name, s.ID)] = true
		}
	}
	refresh := &Unit{ID: newUnitID(), layout: t.layout}
	for appID, c := range t.claims {
		if !c.fenced && !moved[appID] && t.refreshDue(appID) {
			refresh.Spans = append(refresh.Spans, checkpoint.Span{Partition: c.partition, First: c.last + 1, Next: c.last + 1})
		}
	}
	if len(refresh.Spans) == 0 {
		return nil
	}
	slices.SortFunc(refresh.Spans, func(a, b checkpoint.Span) int { return a.Compare(b.Partition) })
	return refresh
}

// refreshDue tells of a txn that log checkpoints would forget some day, and that a quarter of the retention is old.
func (t *Table) refreshDue(appID string) bool {
	retention, expire := t.log.TxnRetention()
	return expire && t.writtenBefore(appID, t.opts.Now().Add(-retention/4))
}

func (t *Table) writtenBefore(appID string, since time.Time) bool {
	txn, ok := t.log.Txn(appID)
	switch {
	case !ok || txn.Lasts():
		return false
	case txn.LastUpdated == nil:
		return true
	}
	// A clock that was ahead when it was written says nothing: it counts as old once it is as far ahead as it might be behind.
	at, now := time.UnixMilli(*txn.LastUpdated), t.opts.Now()
	return at.Before(since) || at.Sub(now) > now.Sub(since)
}

// presenceUnit writes one of the txns anew once no commit of this worker is younger than a quarter of the log's retention: a log that was
// cleaned of all that the stream has made does not tell a later start whether the table was restored since (rule A6a).
func (t *Table) presenceUnit() *Unit {
	retention := t.log.LogRetention()
	if len(t.claims) == 0 || retention < 24*time.Hour { // of a shorter one an idle stream would commit without end
		return nil
	}
	since := t.opts.Now().Add(-retention / 4)
	var first *claim
	for appID, c := range t.claims {
		if txn, _ := t.log.Txn(appID); c.fenced || txn.LastUpdated == nil || !t.writtenBefore(appID, since) {
			return nil
		}
		if first == nil || c.partition.Compare(first.partition) < 0 {
			first = c
		}
	}
	span := checkpoint.Span{Partition: first.partition, First: first.last + 1, Next: first.last + 1}
	return &Unit{ID: newUnitID(), layout: t.layout, Spans: []checkpoint.Span{span}}
}

// refresh commits the refresh of an idle worker.
func (t *Table) refresh(ctx context.Context) error {
	u := t.refreshUnit(nil)
	if u == nil {
		u = t.presenceUnit()
	}
	if u == nil {
		return nil
	}
	t.opts.Log.Debug("txns of idle partitions are written anew", "partitions", len(u.Spans))
	return t.landAndTidy(ctx, []*Unit{u})
}

// identities are the app ids of the streams' topics, of their generations, of their last replays, of their filters and of a catalog's tables and what
// names those: no unit moves them. Streams of a commit
// are those that it carries, too: whose refresh is carried has no cause to commit for as long.
func (t *Table) identities(streams map[string]bool) []string {
	if _, expire := t.log.TxnRetention(); !expire {
		return nil
	}
	var ids []string
	for txn := range t.log.Txns() {
		name, _, marked := strings.Cut(txn.AppID, "#") // which is in no name
		if !marked || !streams[name] {
			continue
		}
		_, isTable := checkpoint.TableOf(name, txn.AppID)
		if isTable || checkpoint.IsIdentity(txn.AppID, name) || slices.Contains([]string{checkpoint.GenerationAppID(name), checkpoint.ReplayAppID(name), checkpoint.FilterAppID(name), checkpoint.RouteAppID(name)}, txn.AppID) {
			ids = append(ids, txn.AppID)
		}
	}
	return ids
}

// refreshMarks writes anew those of the txns that are due, as they stand, where the commit does not write them anyway: what belongs to the
// streams or to partitions of the commit, and expires like their offsets.
func (t *Table) refreshMarks(tx *delta.Transaction, appIDs []string) {
	if _, expire := t.log.TxnRetention(); !expire {
		return
	}
	written := map[string]bool{}
	for _, txn := range tx.Txns {
		written[txn.AppID] = true
	}
	for _, appID := range appIDs {
		if !written[appID] && t.refreshDue(appID) {
			tx.Txns = append(tx.Txns, delta.Txn{AppID: appID, Version: t.txnVersion(appID)})
		}
	}
}
