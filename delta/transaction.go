package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Outcome says what is known of an attempt to commit.
type Outcome int

const (
	// Unknown: the put's answer was lost or could not be checked. The attempt may have landed or may still land.
	Unknown Outcome = iota
	// Committed: the version is this transaction's.
	Committed
	// Conflict: the version is another writer's; nothing of this transaction is or will be in it.
	Conflict
	// Refused: this call sent nothing, and the same call will never be accepted. What earlier calls sent stays as it was.
	Refused
)

func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "unknown"
	case Committed:
		return "committed"
	case Conflict:
		return "conflict"
	case Refused:
		return "refused"
	}
	return "outcome " + strconv.Itoa(int(o))
}

// Transaction is one append being prepared. It stays the same over all its attempts and remembers their ids; it must not be
// changed after the first, but by Evolve. The zero value is an empty transaction.
type Transaction struct {
	Adds       []Add                      // new files; DataChange must be true, Path encoded (EncodePath); row ids are set by every attempt
	Txns       []Txn                      // at most one for an app id; LastUpdated is set by every attempt
	Operation  string                     // commitInfo.operation, such as "STREAMING UPDATE"; required
	Parameters map[string]string          // commitInfo.operationParameters
	Metrics    map[string]string          // commitInfo.operationMetrics besides the counts of files, rows and bytes
	Info       map[string]json.RawMessage // further fields of commitInfo
	Metadata   *Metadata                  // the table's new metaData; set by Evolve, nil for none
	Protocol   *Protocol                  // the table's new protocol; set by Evolve, nil for none

	evolved  int64    // version of the table that Metadata and Protocol were prepared on
	attempts []string // the txnId of everything that was ever sent
	open     int64    // version that an attempt may still land at, +1; 0 for none
}

// Pending is the version at which an attempt of the transaction is still Unknown.
func (tx *Transaction) Pending() (version int64, ok bool) { return tx.open - 1, tx.open > 0 }

// Commit makes one attempt to put the transaction at version Version()+1 (rules C4 and C5).
//
//   - Committed, nil: the table moved on to that version.
//   - Conflict, nil: another writer has the version. The table has not moved; Next gives the winner, and when that leaves
//     the transaction valid (Touches, ChangesTable, Replaces), Commit tries the version after it.
//   - Unknown with ErrMissingCommit: the answer came so late that the version may have been cleaned up before. Reload the table:
//     its txns say whether the transaction is in it.
//   - Unknown, cause: nothing is known about the version. Call Commit again with the same transaction after a while: it
//     puts the same version again under a new attempt id. A version that already exists settles it: an id of this
//     transaction in its commitInfo is Committed, another one Conflict. Until then Commit at another version is Refused.
//   - Refused, cause: nothing was sent by this call. The transaction is invalid, the table asks for more than an append
//     honours (CheckAppend), its log is gone (ErrVanished, looked for once a minute), or the transaction is pending at another version.
//
// Everything that depends on the version before is built anew for every attempt. The attempt is never retried here.
func (t *Table) Commit(ctx context.Context, tx *Transaction) (Outcome, error) {
	version := t.version + 1
	if v, ok := tx.Pending(); ok && v != version {
		return Refused, fmt.Errorf("committing version %d: the transaction is still pending at version %d", version, v)
	}
	if version >= maxVersion {
		return Refused, corruptf("the log is at version %d: nobody would find a later one", t.version)
	}
	next, err := t.checkTransaction(tx)
	if err != nil {
		return Refused, fmt.Errorf("committing version %d: %w", version, err)
	}
	if len(t.ahead) > 0 {
		return t.judge(ctx, tx, t.ahead[0]) // read already, for this transaction or another one
	}
	if !t.lately(t.sight.seen) { // a put would make a folder that was removed anew
		if _, err := t.present(ctx); errors.Is(err, ErrVanished) {
			return Refused, fmt.Errorf("committing version %d: %w", version, err)
		} else if err != nil {
			return Unknown, fmt.Errorf("committing version %d: looking for the log: %w", version, err)
		}
	}
	id := uuid.NewString()
	data, landed, err := t.build(tx, next, version, id)
	if err != nil {
		return Refused, fmt.Errorf("committing version %d: %w", version, err)
	}
	tx.attempts = append(tx.attempts, id)
	tx.open = version + 1
	asked := t.opts.Now()
	err = t.store.PutIfAbsent(ctx, commitName(version), data)
	switch {
	case err == nil:
		return t.landed(ctx, tx, landed, asked)
	case errors.Is(err, fs.ErrExist):
		return t.settle(ctx, tx, version)
	}
	return Unknown, fmt.Errorf("committing version %d: %w", version, err)
}

// settle reads a version that exists and finds out whose it is.
func (t *Table) settle(ctx context.Context, tx *Transaction, version int64) (Outcome, error) {
	c, err := readCommit(ctx, t.store, version, true)
	if err == nil && !t.fresh() {
		err = t.standing(ctx)
	}
	if err != nil {
		return Unknown, fmt.Errorf("committing version %d: it exists, reading whose it is: %w", version, err)
	}
	t.ahead = []*Commit{c}
	return t.judge(ctx, tx, c)
}

// landed is told that the version is this transaction's, and believes it (rule C7) if the version before was known to be the
// newest less than freshFor ago. Later a listing has to show it as the newest: a put that is that late may have taken a name
// that was free again, because the log was cleaned up to there, and nobody would ever read it. What is told wrongly to be gone
// costs the work of one flush, and nothing else. The version was the newest at some time since that asked, and not up to the answer: others may have gone on while it was under way. One that
// was read (the zero asked) may have been followed by others for long.
func (t *Table) landed(ctx context.Context, tx *Transaction, c *Commit, asked time.Time) (Outcome, error) {
	if !t.fresh() {
		asked = t.opts.Now()
		l, err := listLog(ctx, t.store, c.Version)
		if err != nil {
			return Unknown, fmt.Errorf("committing version %d: it is there, looking whether it is the newest: %w", c.Version, err)
		}
		if l.newest() > c.Version || l.newestCheckpoint(c.Version, math.MaxInt64, nil) >= 0 {
			return Unknown, fmt.Errorf("committing version %d: the answer came after others had gone on to version %d: %w", c.Version, l.newest(), ErrMissingCommit)
		}
	}
	tx.open = 0
	if !asked.IsZero() {
		t.latest = asked
	}
	if err := t.follow(c); err != nil {
		return Committed, err
	}
	t.arrive()
	return Committed, nil
}

// judge tells whose the commit of the next version is, the first of those that were read ahead. Its name is taken for good, so that
// no attempt at this version can land any more.
func (t *Table) judge(ctx context.Context, tx *Transaction, c *Commit) (Outcome, error) {
	if c.Info != nil && slices.Contains(tx.attempts, c.Info.TxnID) {
		return t.landed(ctx, tx, c, time.Time{})
	}
	tx.open = 0
	return Conflict, nil
}

// checkTransaction refuses what would make an invalid or misleading log entry (PROTOCOL.md, "Delta Log Entries", rule C3).
// The state that comes back has the table's new protocol and metaData, if the transaction changes them: the same commit's
// files are judged by these.
func (t *Table) checkTransaction(tx *Transaction) (*state, error) {
	next, err := t.stateAfter(tx)
	if err != nil {
		return nil, err
	}
	if err := next.checkAppend(); err != nil {
		return nil, err
	}
	if tx.Operation == "" {
		return nil, errors.New("the transaction has no operation")
	}
	ids := make(map[string]struct{}, len(tx.Txns))
	for _, txn := range tx.Txns {
		if _, twice := ids[txn.AppID]; twice || txn.AppID == "" {
			return nil, fmt.Errorf("the transaction has the txn app id %q twice or empty", txn.AppID)
		}
		ids[txn.AppID] = struct{}{}
	}
	for name := range tx.Info {
		if slices.Contains(ownInfo, name) {
			return nil, fmt.Errorf("the commitInfo field %s is written by the commit itself", name)
		}
	}
	return next, next.checkAdds(tx.Adds)
}

// stateAfter is the table's state with the transaction's protocol and metaData, which must have been prepared on the newest
// ones: a winner may have changed what they were made from.
func (t *Table) stateAfter(tx *Transaction) (*state, error) {
	if tx.Metadata == nil && tx.Protocol == nil {
		return &t.state, nil
	}
	if tx.evolved < t.changed {
		return nil, fmt.Errorf("the transaction changes the table as it was at version %d, and version %d changed it: call Evolve again", tx.evolved, t.changed)
	}
	if err := t.checkAppend(); err != nil {
		return nil, err
	}
	return t.with(tx.Metadata, tx.Protocol)
}

// CheckAdds says why an append with these files would be refused at the table's version.
func (s *state) CheckAdds(adds []Add) error { return s.checkAdds(adds) }

func (s *state) checkAdds(adds []Add) error {
	clustering, err := s.clusteringColumns()
	if err != nil {
		return err
	}
	partitions := s.physicalPartitionColumns()
	needsRows := s.icebergCompatible()
	paths := make(map[string]struct{}, len(adds))
	for i := range adds {
		a := &adds[i]
		if _, twice := paths[a.Path]; twice || a.Path == "" {
			return fmt.Errorf("the transaction adds the path %q twice or empty", a.Path)
		}
		paths[a.Path] = struct{}{}
		if !a.DataChange || a.DeletionVector != nil {
			return fmt.Errorf("the add of %s is no append: it needs dataChange and no deletion vector", a.Path)
		}
		if _, ok := a.NumRecords(); needsRows && !ok {
			return fmt.Errorf("the add of %s has no numRecords in its statistics, which icebergCompat needs", a.Path)
		}
		if err := errors.Join(checkPartition(a, partitions), checkClusteringStats(a, clustering)); err != nil {
			return err
		}
	}
	return nil
}

func checkPartition(a *Add, columns []string) error {
	for _, name := range columns {
		if _, ok := a.PartitionValues[name]; !ok {
			return fmt.Errorf("the add of %s has no value for the partition column %s", a.Path, name)
		}
	}
	if len(a.PartitionValues) != len(columns) {
		return fmt.Errorf("the add of %s has values for %v, but the partition columns are %v",
			a.Path, slices.Sorted(maps.Keys(a.PartitionValues)), columns)
	}
	return nil
}

// ownInfo are the fields of commitInfo that Commit writes.
var ownInfo = []string{
	"timestamp", "inCommitTimestamp", "operation", "operationParameters", "operationMetrics", "engineInfo", "txnId", "isBlindAppend", "tags",
}

// build makes the bytes of one attempt and the commit that they are. next is the state before, with the transaction's own
// protocol and metaData. commitInfo comes first (PROTOCOL.md, "In-Commit Timestamps").
func (t *Table) build(tx *Transaction, next *state, version int64, id string) ([]byte, *Commit, error) {
	now := t.opts.Now().UnixMilli()
	c := &Commit{Version: version, Txns: slices.Clone(tx.Txns), Metadata: tx.Metadata, Protocol: tx.Protocol, tableID: t.metadata.ID}
	adds := tx.Adds
	if next.assignsRowIDs() {
		var err error
		if adds, c.Domains, err = next.assignRowIDs(tx.Adds, version); err != nil {
			return nil, nil, err
		}
	}
	fields, err := next.commitInfo(c, tx, now)
	if err != nil {
		return nil, nil, err
	}
	fields["engineInfo"], fields["txnId"] = t.opts.Engine, id
	c.Info.EngineInfo, c.Info.TxnID = t.opts.Engine, id
	var b bytes.Buffer
	err = appendAction(&b, "commitInfo", fields)
	if c.Protocol != nil {
		err = errors.Join(err, appendAction(&b, "protocol", c.Protocol))
	}
	if c.Metadata != nil {
		err = errors.Join(err, appendAction(&b, "metaData", c.Metadata))
	}
	for i := range c.Txns {
		if c.Txns[i].LastUpdated = &now; t.opts.Lasting != nil && t.opts.Lasting(c.Txns[i].AppID) {
			c.Txns[i].LastUpdated = new(lasting)
		}
		err = errors.Join(err, appendAction(&b, "txn", &c.Txns[i]))
	}
	for _, d := range c.Domains {
		err = errors.Join(err, appendAction(&b, "domainMetadata", d))
	}
	for _, a := range adds {
		c.Added.add(a.Size, nil)
		if a.PartitionValues == nil {
			a.PartitionValues = map[string]*string{} // required by the protocol
		}
		err = errors.Join(err, appendAction(&b, "add", &a))
	}
	c.Size = int64(b.Len())
	return b.Bytes(), c, err
}

// commitInfo fills c.Info and gives its fields as they are written.
func (s *state) commitInfo(c *Commit, tx *Transaction, now int64) (map[string]any, error) {
	c.Info = &CommitInfo{Timestamp: &now, Operation: tx.Operation, OperationMetrics: tx.metrics(), IsBlindAppend: true}
	fields := map[string]any{
		"timestamp": now, "operation": tx.Operation, "operationMetrics": c.Info.OperationMetrics, "isBlindAppend": true,
		"operationParameters": map[string]string{},
	}
	if tx.Parameters != nil {
		fields["operationParameters"] = tx.Parameters
	}
	for name, value := range tx.Info {
		fields[name] = value
	}
	if s.active("rowTracking") {
		fields["tags"] = map[string]string{"delta.rowTracking.preserved": "true"} // an append updates and copies no row
	}
	if s.inCommitTimestamps() {
		before, ok := s.inCommitTimestamp()
		if !ok {
			return nil, corruptf("the in-commit timestamp of version %d is neither in its JSON nor in its checksum", s.version)
		}
		ict := max(now, before+1)
		c.Info.InCommitTimestamp = &ict
		fields["inCommitTimestamp"] = ict
	}
	return fields, nil
}

// metrics are what an append did, under Spark's names for a batch or a streaming one. Rows are left out when a file has no
// statistics.
func (tx *Transaction) metrics() map[string]string {
	var rows, size int64
	known := true
	for i := range tx.Adds {
		n, ok := tx.Adds[i].NumRecords()
		known = known && ok
		rows += n
		size += tx.Adds[i].Size
	}
	m := map[string]string{"numOutputBytes": strconv.FormatInt(size, 10)}
	if files := strconv.Itoa(len(tx.Adds)); tx.Operation == "WRITE" {
		m["numFiles"] = files
	} else {
		m["numAddedFiles"], m["numRemovedFiles"] = files, "0"
	}
	if known {
		m["numOutputRows"] = strconv.FormatInt(rows, 10)
	}
	maps.Copy(m, tx.Metrics)
	return m
}
