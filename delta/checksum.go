package delta

import (
	"context"
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
	c := versionChecksum{
		TableSizeBytes: files.Bytes, NumFiles: files.Files, NumMetadata: 1, NumProtocol: 1,
		Metadata: &s.metadata, Protocol: &s.protocol,
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
