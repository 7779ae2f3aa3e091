package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"

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
// changed after the first. The zero value is an empty transaction.
type Transaction struct {
	Adds       []Add                      // new files; DataChange must be true, Path encoded (EncodePath)
	Txns       []Txn                      // at most one for an app id; LastUpdated is set by every attempt
	Operation  string                     // commitInfo.operation, such as "STREAMING UPDATE"; required
	Parameters map[string]string          // commitInfo.operationParameters
	Metrics    map[string]string          // commitInfo.operationMetrics besides the counts of files, rows and bytes
	Info       map[string]json.RawMessage // further fields of commitInfo
	Metadata   *Metadata                  // the table's new metaData; set by Evolve, nil for none
	Protocol   *Protocol                  // the table's new protocol; set by Evolve, nil for none

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
//   - Unknown, cause: nothing is known about the version. Call Commit again with the same transaction after a while: it
//     puts the same version again under a new attempt id. A version that already exists settles it: an id of this
//     transaction in its commitInfo is Committed, another one Conflict. Until then Commit at another version is Refused.
//   - Refused, cause: nothing was sent by this call. The transaction is invalid, the table asks for more than an append
//     honours (CheckAppend), or the transaction is pending at another version.
//
// Everything that depends on the version before is built anew for every attempt. The attempt is never retried here.
func (t *Table) Commit(ctx context.Context, tx *Transaction) (Outcome, error) {
	version := t.version + 1
	if v, ok := tx.Pending(); ok && v != version {
		return Refused, fmt.Errorf("committing version %d: the transaction is still pending at version %d", version, v)
	}
	if err := t.checkTransaction(tx); err != nil {
		return Refused, fmt.Errorf("committing version %d: %w", version, err)
	}
	if t.winner != nil {
		return t.judge(tx, t.winner) // read already, for this transaction or another one
	}
	id := uuid.NewString()
	data, landed, err := t.build(tx, version, id)
	if err != nil {
		return Refused, fmt.Errorf("committing version %d: %w", version, err)
	}
	tx.attempts = append(tx.attempts, id)
	tx.open = version + 1
	err = t.store.PutIfAbsent(ctx, commitName(version), data)
	switch {
	case err == nil:
		tx.open = 0
		return Committed, t.apply(landed)
	case errors.Is(err, fs.ErrExist):
		return t.settle(ctx, tx, version)
	}
	return Unknown, fmt.Errorf("committing version %d: %w", version, err)
}

// settle reads a version that exists and finds out whose it is.
func (t *Table) settle(ctx context.Context, tx *Transaction, version int64) (Outcome, error) {
	c, err := readCommit(ctx, t.store, version, true)
	if err != nil {
		return Unknown, fmt.Errorf("committing version %d: it exists, reading whose it is: %w", version, err)
	}
	c.tableID = t.metadata.ID
	return t.judge(tx, c)
}

// judge tells whose the commit of the next version is. Its name is taken for good, so that no attempt at this version can
// land any more.
func (t *Table) judge(tx *Transaction, c *Commit) (Outcome, error) {
	tx.open = 0
	if c.Info != nil && slices.Contains(tx.attempts, c.Info.TxnID) {
		t.winner = nil
		return Committed, t.apply(c)
	}
	t.winner = c
	return Conflict, nil
}

// checkTransaction refuses what would make an invalid or misleading log entry (PROTOCOL.md, "Delta Log Entries", rule C3).
func (t *Table) checkTransaction(tx *Transaction) error {
	if err := t.checkAppend(); err != nil {
		return err
	}
	if tx.Operation == "" {
		return errors.New("the transaction has no operation")
	}
	ids := make(map[string]struct{}, len(tx.Txns))
	for _, txn := range tx.Txns {
		if _, twice := ids[txn.AppID]; twice || txn.AppID == "" {
			return fmt.Errorf("the transaction has the txn app id %q twice or empty", txn.AppID)
		}
		ids[txn.AppID] = struct{}{}
	}
	paths := make(map[string]struct{}, len(tx.Adds))
	for i := range tx.Adds {
		a := &tx.Adds[i]
		if _, twice := paths[a.Path]; twice || a.Path == "" {
			return fmt.Errorf("the transaction adds the path %q twice or empty", a.Path)
		}
		paths[a.Path] = struct{}{}
		if !a.DataChange || a.DeletionVector != nil {
			return fmt.Errorf("the add of %s is no append: it needs dataChange and no deletion vector", a.Path)
		}
		if err := t.checkPartition(a); err != nil {
			return err
		}
	}
	for name := range tx.Info {
		if slices.Contains(ownInfo, name) {
			return fmt.Errorf("the commitInfo field %s is written by the commit itself", name)
		}
	}
	return nil
}

func (t *Table) checkPartition(a *Add) error {
	for _, name := range t.metadata.PartitionColumns {
		if t.columnMappingMode() != "none" { // PROTOCOL.md, "Writer Requirements for Column Mapping"
			name = physicalName(t.schema.Field(t.schema.FieldIndices(name)[0]))
		}
		if _, ok := a.PartitionValues[name]; !ok {
			return fmt.Errorf("the add of %s has no value for the partition column %s", a.Path, name)
		}
	}
	if len(a.PartitionValues) != len(t.metadata.PartitionColumns) {
		return fmt.Errorf("the add of %s has values for %v, but the partition columns are %v",
			a.Path, slices.Sorted(maps.Keys(a.PartitionValues)), t.metadata.PartitionColumns)
	}
	return nil
}

// ownInfo are the fields of commitInfo that Commit writes.
var ownInfo = []string{
	"timestamp", "inCommitTimestamp", "operation", "operationParameters", "operationMetrics", "engineInfo", "txnId", "isBlindAppend",
}

// build makes the bytes of one attempt and the commit that they are: commitInfo first (PROTOCOL.md, "In-Commit
// Timestamps"), then txns, then adds.
func (t *Table) build(tx *Transaction, version int64, id string) ([]byte, *Commit, error) {
	now := t.opts.Now().UnixMilli()
	c := &Commit{Version: version, Txns: slices.Clone(tx.Txns), Adds: tx.Adds, tableID: t.metadata.ID}
	c.Info = &CommitInfo{
		Timestamp: &now, Operation: tx.Operation, OperationMetrics: tx.metrics(), EngineInfo: t.opts.Engine, TxnID: id, IsBlindAppend: true,
	}
	fields := map[string]any{
		"timestamp": now, "operation": tx.Operation, "operationMetrics": c.Info.OperationMetrics, "engineInfo": t.opts.Engine,
		"txnId": id, "isBlindAppend": true, "operationParameters": map[string]string{},
	}
	if tx.Parameters != nil {
		fields["operationParameters"] = tx.Parameters
	}
	for name, value := range tx.Info {
		fields[name] = value
	}
	if t.inCommitTimestamps() {
		before, ok := t.inCommitTimestamp()
		if !ok {
			return nil, nil, corruptf("the in-commit timestamp of version %d is neither in its JSON nor in its checksum", t.version)
		}
		ict := max(now, before+1)
		c.Info.InCommitTimestamp = &ict
		fields["inCommitTimestamp"] = ict
	}
	var b bytes.Buffer
	err := appendAction(&b, "commitInfo", fields)
	for i := range c.Txns {
		c.Txns[i].LastUpdated = &now
		err = errors.Join(err, appendAction(&b, "txn", &c.Txns[i]))
	}
	for _, a := range tx.Adds {
		if a.PartitionValues == nil {
			a.PartitionValues = map[string]*string{} // required by the protocol
		}
		err = errors.Join(err, appendAction(&b, "add", &a))
	}
	c.Size = int64(b.Len())
	return b.Bytes(), c, err
}

// metrics are Spark's names for what a streaming append did. Rows are left out when a file has no statistics.
func (tx *Transaction) metrics() map[string]string {
	var rows, size int64
	known := true
	for i := range tx.Adds {
		n, ok := tx.Adds[i].NumRecords()
		known = known && ok
		rows += n
		size += tx.Adds[i].Size
	}
	m := map[string]string{
		"numAddedFiles": strconv.Itoa(len(tx.Adds)), "numRemovedFiles": "0", "numOutputBytes": strconv.FormatInt(size, 10),
	}
	if known {
		m["numOutputRows"] = strconv.FormatInt(rows, 10)
	}
	maps.Copy(m, tx.Metrics)
	return m
}
