package delta

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Protocol is the protocol action: what a client must implement to read and to write the table (PROTOCOL.md, "Protocol
// Evolution"). ReaderFeatures exists only with reader version 3, WriterFeatures only with writer version 7.
type Protocol struct {
	MinReaderVersion int      `json:"minReaderVersion"`
	MinWriterVersion int      `json:"minWriterVersion"`
	ReaderFeatures   []string `json:"readerFeatures,omitempty"`
	WriterFeatures   []string `json:"writerFeatures,omitempty"`
}

// Format is the encoding of a table's data files; the provider is always parquet (PROTOCOL.md, "Format Specification").
type Format struct {
	Provider string            `json:"provider"`
	Options  map[string]string `json:"options"`
}

// Metadata is the metaData action (PROTOCOL.md, "Change Metadata"). CreatedTime is in milliseconds since the epoch.
type Metadata struct {
	ID               string            `json:"id"`
	Name             string            `json:"name,omitempty"`
	Description      string            `json:"description,omitempty"`
	Format           Format            `json:"format"`
	SchemaString     string            `json:"schemaString"`
	PartitionColumns []string          `json:"partitionColumns"`
	CreatedTime      *int64            `json:"createdTime,omitempty"`
	Configuration    map[string]string `json:"configuration"`
}

// DeletionVector describes which rows of a data file are deleted (PROTOCOL.md, "Deletion Vector Descriptor Schema").
// Cardinality is the number of deleted rows.
type DeletionVector struct {
	StorageType    string `json:"storageType"`
	PathOrInlineDv string `json:"pathOrInlineDv"`
	Offset         *int32 `json:"offset,omitempty"`
	SizeInBytes    int32  `json:"sizeInBytes"`
	Cardinality    int64  `json:"cardinality"`
}

// Add is the add action: one logical file (PROTOCOL.md, "Add File and Remove File"). Path is URI-encoded (EncodePath) and
// relative to the table's folder. PartitionValues has a key for every partition column; nil is null. Size is in bytes,
// ModificationTime in milliseconds since the epoch. Stats is the statistics JSON, "" when there is none.
type Add struct {
	Path                    string             `json:"path"`
	PartitionValues         map[string]*string `json:"partitionValues"`
	Size                    int64              `json:"size"`
	ModificationTime        int64              `json:"modificationTime"`
	DataChange              bool               `json:"dataChange"`
	Stats                   string             `json:"stats,omitempty"`
	Tags                    map[string]string  `json:"tags,omitempty"`
	DeletionVector          *DeletionVector    `json:"deletionVector,omitempty"`
	BaseRowID               *int64             `json:"baseRowId,omitempty"`
	DefaultRowCommitVersion *int64             `json:"defaultRowCommitVersion,omitempty"`
	ClusteringProvider      string             `json:"clusteringProvider,omitempty"`
}

// Remove is the remove action: a logical file that is no longer part of the table (PROTOCOL.md, "Add File and Remove
// File"). All fields are kept but stats and tags, which a log checkpoint has no place for ("Checkpoint Schema").
type Remove struct {
	Path                    string             `json:"path"`
	DeletionTimestamp       *int64             `json:"deletionTimestamp,omitempty"`
	DataChange              bool               `json:"dataChange"`
	ExtendedFileMetadata    *bool              `json:"extendedFileMetadata,omitempty"`
	PartitionValues         map[string]*string `json:"partitionValues,omitempty"`
	Size                    *int64             `json:"size,omitempty"`
	DeletionVector          *DeletionVector    `json:"deletionVector,omitempty"`
	BaseRowID               *int64             `json:"baseRowId,omitempty"`
	DefaultRowCommitVersion *int64             `json:"defaultRowCommitVersion,omitempty"`
}

// Sidecar is the sidecar action of a V2 log checkpoint: a file with a part of its file actions (PROTOCOL.md, "Sidecar File
// Information"). Path is URI-encoded, ModificationTime in milliseconds since the epoch.
type Sidecar struct {
	Path             string            `json:"path"`
	SizeInBytes      int64             `json:"sizeInBytes"`
	ModificationTime int64             `json:"modificationTime"`
	Tags             map[string]string `json:"tags,omitempty"`
}

// Txn is the txn action: the progress of one application (PROTOCOL.md, "Transaction Identifiers"). Version may go down:
// the protocol does not ask for monotonic versions. LastUpdated is in milliseconds since the epoch; a commit of this
// package always writes it (rule C4), because retention drops txns without it, and those that it has not reached yet are kept.
type Txn struct {
	AppID       string `json:"appId"`
	Version     int64  `json:"version"`
	LastUpdated *int64 `json:"lastUpdated,omitempty"`
}

// lasting is the LastUpdated of a txn that never expires: 9999-12-31T00:00:00Z, which others can count in microseconds, too.
const lasting int64 = 253_402_214_400_000

// Lasts tells of a txn that never expires. It does not say when it was written.
func (t Txn) Lasts() bool { return t.LastUpdated != nil && *t.LastUpdated == lasting }

// DomainMetadata is the domainMetadata action (PROTOCOL.md, "Domain Metadata"); Removed is a tombstone.
type DomainMetadata struct {
	Domain        string `json:"domain"`
	Configuration string `json:"configuration"`
	Removed       bool   `json:"removed"`
}

// CommitInfo is the commitInfo action (PROTOCOL.md, "Commit Provenance Information"). Writers may put any JSON there, so
// a known field of an unexpected type reads as absent. Fields holds every field as it was written. Times are in
// milliseconds since the epoch.
type CommitInfo struct {
	Timestamp           *int64
	InCommitTimestamp   *int64
	Operation           string
	OperationParameters map[string]json.RawMessage
	OperationMetrics    map[string]string
	EngineInfo          string
	TxnID               string
	IsBlindAppend       bool
	Fields              map[string]json.RawMessage
}

// Commit is one version of the log, without its files, which may be a million. Size is the length of its JSON in bytes.
type Commit struct {
	Version  int64
	Info     *CommitInfo // nil when the writer left none
	Txns     []Txn
	Metadata *Metadata
	Protocol *Protocol
	Added    FileCounts // by its add actions
	Removed  FileCounts // by its remove actions, as far as they tell their size
	Domains  []DomainMetadata
	Size     int64

	sidecars []Sidecar // only in log checkpoints
	kept     keptState // only in log checkpoints of Parquet
	unsized  bool      // some remove does not tell its size
	again    bool      // some add does not change data: its file may have been there before

	tableID string              // metadata id of the table that was followed up to the version before; not known where it looks back
	touched map[string]struct{} // app ids of Txns, built on first use
}

// check refuses a protocol action that the protocol itself forbids (PROTOCOL.md, "Protocol Evolution" and "Table Features").
// An empty list of features is taken for none: older writers put one into log checkpoints.
func (p *Protocol) check() error {
	switch {
	case p.MinReaderVersion < 1 || p.MinWriterVersion < 1:
		return errors.New("protocol without minReaderVersion and minWriterVersion of at least 1")
	case p.MinWriterVersion == 7 && p.WriterFeatures == nil:
		return errors.New("protocol with writer version 7 and without writerFeatures")
	case p.MinReaderVersion == 3 && p.ReaderFeatures == nil:
		return errors.New("protocol with reader version 3 and without readerFeatures")
	case p.MinReaderVersion == 3 && p.MinWriterVersion < 7:
		return fmt.Errorf("protocol with reader version 3 and writer version %d: it must be 7", p.MinWriterVersion)
	case p.MinReaderVersion < 3 && len(p.ReaderFeatures) > 0:
		return fmt.Errorf("protocol with readerFeatures and reader version %d: it must be 3", p.MinReaderVersion)
	case p.MinWriterVersion < 7 && len(p.WriterFeatures) > 0:
		return fmt.Errorf("protocol with writerFeatures and writer version %d: it must be 7", p.MinWriterVersion)
	}
	for _, name := range p.ReaderFeatures {
		if !slices.Contains(p.WriterFeatures, name) {
			return fmt.Errorf("protocol with the reader feature %s, which is not among the writerFeatures", name)
		}
	}
	return nil
}

// NumRecords is the number of rows in the data file by its statistics, deleted ones included; false when it has none
// (PROTOCOL.md, "Per-file Statistics").
func (a *Add) NumRecords() (int64, bool) {
	if a.Stats == "" {
		return 0, false
	}
	return numRecords(a.Stats)
}

// uniqueID tells versions of a deletion vector apart (PROTOCOL.md, "Derived Fields"); "" without one.
func (d *DeletionVector) uniqueID() string {
	switch {
	case d == nil:
		return ""
	case d.Offset == nil:
		return d.StorageType + d.PathOrInlineDv
	}
	return d.StorageType + d.PathOrInlineDv + "@" + strconv.FormatInt(int64(*d.Offset), 10)
}

// UnmarshalJSON keeps every field and takes the known ones where their type fits: commitInfo may hold any JSON
// (PROTOCOL.md, "Commit Provenance Information"), so a strange one must not make a table unreadable.
func (c *CommitInfo) UnmarshalJSON(data []byte) error {
	*c = CommitInfo{}
	if json.Unmarshal(data, &c.Fields) != nil {
		return nil //nolint:nilerr // see above
	}
	take(c.Fields, "timestamp", &c.Timestamp)
	take(c.Fields, "inCommitTimestamp", &c.InCommitTimestamp)
	take(c.Fields, "operation", &c.Operation)
	take(c.Fields, "operationParameters", &c.OperationParameters)
	take(c.Fields, "engineInfo", &c.EngineInfo)
	take(c.Fields, "txnId", &c.TxnID)
	take(c.Fields, "isBlindAppend", &c.IsBlindAppend)
	var metrics map[string]json.RawMessage
	take(c.Fields, "operationMetrics", &metrics)
	for name, raw := range metrics {
		if c.OperationMetrics == nil {
			c.OperationMetrics = make(map[string]string, len(metrics))
		}
		// Spark writes metrics as strings, delta-rs as numbers.
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		c.OperationMetrics[name] = text
	}
	return nil
}

func take[T any](fields map[string]json.RawMessage, name string, to *T) {
	var v T
	if raw, ok := fields[name]; ok && json.Unmarshal(raw, &v) == nil {
		*to = v
	}
}

// counting counts the file actions.
func (c *Commit) counting() *fileActions {
	return &fileActions{
		totals: true,
		add: func(a *Add) (bool, error) {
			c.Added.add(a.Size, a.DeletionVector)
			c.again = c.again || !a.DataChange
			return true, nil
		},
		remove: func(r *Remove) (bool, error) {
			if r.Size == nil {
				c.unsized = true
			} else {
				c.Removed.add(*r.Size, r.DeletionVector)
			}
			return true, nil
		},
	}
}

// parseActions reads JSON actions (PROTOCOL.md, "Delta Log Entries"); what names them in errors. Each is a line of its own,
// but as Spark and delta-rs do, it takes any sequence of objects. Without files, file actions are passed over.
func parseActions(what string, r io.Reader, c *Commit, files *fileActions) error {
	lines := lineReader{r: bufio.NewReaderSize(r, 64<<10)}
	for n := 1; ; n++ {
		line, err := lines.next()
		c.Size = lines.read
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // the store's, not the log's fault
		}
		for s := (scanner{b: line}); s.peek() != 0 || s.i < len(s.b); {
			start := s.i
			a, err := s.action(files)
			if errors.Is(err, errShort) {
				whole, ok, err := lines.extend(s.b[start:])
				if err != nil {
					return err
				}
				if ok {
					s = scanner{b: whole}
					continue
				}
			}
			if err != nil {
				return corruptf("%s, line %d: %w", what, n, err)
			}
			c.take(&a)
			if files == nil {
				continue
			}
			if err := files.take(a.add, a.remove); err != nil {
				return err
			}
		}
	}
}

// lineReader yields lines of any length in a reused buffer and counts what it read.
type lineReader struct {
	r    *bufio.Reader
	buf  []byte
	read int64
}

// next returns the next line without its line feed, valid until the call after; io.EOF when there is none.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.read += int64(len(part))
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, nil
		default:
			return nil, err
		}
	}
}

// appendAction appends one line of a commit. Bytes such as '<' stay readable: the log is no web page.
func appendAction(b *bytes.Buffer, name string, value any) error {
	b.WriteString(`{"` + name + `":`)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the encoder's line feed
	b.WriteString("}\n")
	return nil
}
