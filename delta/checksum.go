package delta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// How many txns and domains a checksum lists at most: above, the list is left out, as Spark does, because every commit
// would write it anew.
const (
	maxChecksumTxns    = 100
	maxChecksumDomains = 100
)

// versionChecksum is the content of a version's .crc file (PROTOCOL.md, "Version Checksum File Schema").
type versionChecksum struct {
	TxnID             string           `json:"txnId,omitempty"`
	TableSizeBytes    int64            `json:"tableSizeBytes"`
	NumFiles          int64            `json:"numFiles"`
	NumDeletedRecords *int64           `json:"numDeletedRecordsOpt,omitempty"`
	NumDeletionVec    *int64           `json:"numDeletionVectorsOpt,omitempty"`
	NumMetadata       int64            `json:"numMetadata"`
	NumProtocol       int64            `json:"numProtocol"`
	InCommitTimestamp *int64           `json:"inCommitTimestampOpt,omitempty"`
	SetTransactions   []Txn            `json:"setTransactions,omitzero"`
	DomainMetadata    []DomainMetadata `json:"domainMetadata,omitzero"`
	Metadata          *Metadata        `json:"metadata"`
	Protocol          *Protocol        `json:"protocol"`
}

func checksumName(version int64) string { return fmt.Sprintf("%s%020d.crc", logFolder, version) }

// checksum spells the version's checksum, given its files; nil when it cannot be told exactly.
func (s *state) checksum(files FileCounts) ([]byte, error) {
	metadata := s.metadata // with what the protocol requires, which may be null in the log
	metadata.Configuration, metadata.Format.Options = orEmpty(metadata.Configuration), orEmpty(metadata.Format.Options)
	metadata.PartitionColumns = append([]string{}, metadata.PartitionColumns...)
	c := versionChecksum{
		TableSizeBytes: files.Bytes, NumFiles: files.Files, NumMetadata: 1, NumProtocol: 1,
		Metadata: &metadata, Protocol: &s.protocol,
	}
	if s.info != nil {
		c.TxnID = s.info.TxnID
	}
	if s.inCommitTimestamps() {
		ict, ok := s.inCommitTimestamp()
		if !ok {
			return nil, nil
		}
		c.InCommitTimestamp = &ict
	}
	if s.supports("deletionVectors") {
		c.NumDeletedRecords, c.NumDeletionVec = &files.Deletions, &files.DeletionVectors
	}
	// With a retention it would depend on the clock which txns are listed.
	if _, expire := s.metadata.Configuration["delta.setTransactionRetentionDuration"]; !expire && len(s.txns) <= maxChecksumTxns {
		c.SetTransactions = slices.AppendSeq([]Txn{}, s.Txns())
	}
	if len(s.domains) <= maxChecksumDomains {
		c.DomainMetadata = slices.AppendSeq([]DomainMetadata{}, s.Domains())
	}
	data, err := marshal(c)
	return append(data, '\n'), err
}

// putChecksum writes a version's checksum unless there is one (PROTOCOL.md, "Version Checksum File": never overwritten).
func putChecksum(ctx context.Context, store LogStore, s *state, files FileCounts) error {
	data, err := s.checksum(files)
	if err != nil || data == nil {
		return err
	}
	return PutChecksum(ctx, store, s.version, data)
}

// PutChecksum puts the checksum of a version that exists, as Table.Checksum gave it. One that is there already stays.
func PutChecksum(ctx context.Context, store LogStore, version int64, data []byte) error {
	if err := store.PutIfAbsent(ctx, checksumName(version), data); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("putting the checksum of version %d: %w", version, err)
	}
	return nil
}

// fileTally carries the files of a followed table from version to version, as far as they can be told from commits.
type fileTally struct {
	known *FileCounts  // of the table's version; nil when not known
	steps []FileCounts // what each of the last versions changed, the table's own last
}

// maxTallySteps bounds how far back a version's counts can still be carried to the newest.
const maxTallySteps = 10_000

// follow moves the table on to a commit.
func (t *Table) follow(c *Commit) error {
	if err := t.apply(c); err != nil {
		return err
	}
	step, ok := c.fileStep()
	if !ok {
		t.files = fileTally{}
		return nil
	}
	if len(t.files.steps) == maxTallySteps {
		t.files.steps = slices.Clone(t.files.steps[maxTallySteps/2:])
	}
	t.files.steps = append(t.files.steps, step)
	if t.files.known != nil {
		t.files.known.plus(step)
	}
	return nil
}

// countedOperations are those of others whose removes speak of files that were there and whose adds of files that were not.
// Statistics computed again, tags and restored files are not among them.
var countedOperations = []string{"WRITE", "STREAMING UPDATE", "DELETE", "UPDATE", "MERGE", "OPTIMIZE", "TRUNCATE"}

// fileStep is what a commit changes in the number of files; false when that cannot be told exactly.
func (c *Commit) fileStep() (step FileCounts, ok bool) {
	gone := c.Removed
	switch {
	case c.Added.Files+gone.Files == 0 && !c.unsized:
		return step, true
	case c.unsized, c.again && gone.Files == 0, c.Info == nil || !slices.Contains(countedOperations, c.Info.Operation):
		return step, false
	}
	step = c.Added
	step.plus(FileCounts{-gone.Files, -gone.Bytes, -gone.DeletionVectors, -gone.Deletions})
	return step, true
}

// CountFiles tells the table what a version at or before its own holds, so that Checksum knows what later versions do. It
// is false when commits since then can't be accounted for.
func (t *Table) CountFiles(version int64, files FileCounts) bool {
	back := t.version - version
	if back < 0 || back > int64(len(t.files.steps)) {
		return false
	}
	for _, step := range t.files.steps[int64(len(t.files.steps))-back:] {
		files.plus(step)
	}
	t.files.known = &files
	return true
}

// ReadChecksum takes the counts out of the checksum of the table's version, when there is one that tells them. The first
// version needs none.
func (t *Table) ReadChecksum(ctx context.Context) error {
	data, err := readHint(ctx, t.store, checksumName(t.version))
	if errors.Is(err, fs.ErrNotExist) {
		if t.version > 0 {
			return nil
		}
		if t.first != nil {
			t.CountFiles(0, *t.first)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the checksum of version %d: %w", t.version, err)
	}
	var c struct {
		TableSizeBytes    *int64 `json:"tableSizeBytes"`
		NumFiles          *int64 `json:"numFiles"`
		NumDeletedRecords *int64 `json:"numDeletedRecordsOpt"`
		NumDeletionVec    *int64 `json:"numDeletionVectorsOpt"`
	}
	if json.Unmarshal(data, &c) != nil || c.TableSizeBytes == nil || c.NumFiles == nil {
		return nil //nolint:nilerr // a checksum that can't be understood is none
	}
	files := FileCounts{Files: *c.NumFiles, Bytes: *c.TableSizeBytes}
	if t.supports("deletionVectors") {
		if c.NumDeletedRecords == nil || c.NumDeletionVec == nil {
			return nil
		}
		files.Deletions, files.DeletionVectors = *c.NumDeletedRecords, *c.NumDeletionVec
	}
	t.CountFiles(t.version, files)
	return nil
}

// Checksum spells the checksum of the table's version, for PutChecksum; nil when its files are not known. They are after
// ReadChecksum or CountFiles, until a commit of another writer can't be accounted for.
func (t *Table) Checksum() ([]byte, error) {
	if t.files.known == nil {
		return nil, nil
	}
	return t.checksum(*t.files.known)
}
