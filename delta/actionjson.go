package delta

import (
	"bytes"
	"errors"
	"io"
	"math"
)

// action is one JSON object of the log. More than one field is set only by strange writers; none for an action that this
// package does not know, which the protocol says to ignore (PROTOCOL.md, "Protocol Evolution").
type action struct {
	info     *CommitInfo
	protocol *Protocol
	metadata *Metadata
	txn      *Txn
	domain   *DomainMetadata
	add      *Add
	remove   *Remove
	sidecar  *Sidecar
}

// action reads one object. Without files, file actions are passed over.
func (s *scanner) action(files *fileActions) (a action, err error) {
	err = s.object(func(name []byte) (err error) {
		if s.null() {
			return nil
		}
		switch string(name) {
		case "add":
			if files != nil {
				a.add, err = s.add(files.totals)
				return err
			}
		case "remove":
			if files != nil {
				a.remove, err = s.remove()
				return err
			}
		case "commitInfo":
			raw, err := s.skip()
			if err == nil {
				a.info = new(CommitInfo)
				_ = a.info.UnmarshalJSON(raw)
			}
			return err
		case "protocol":
			a.protocol, err = s.protocol()
			return err
		case "metaData":
			a.metadata, err = s.metadata()
			return err
		case "txn":
			a.txn, err = s.txn()
			return err
		case "domainMetadata":
			a.domain, err = s.domain()
			return err
		case "sidecar":
			a.sidecar, err = s.sidecar()
			return err
		}
		_, err = s.skip()
		return err
	})
	return a, err
}

// take puts an action's parts into the commit, but for file actions. Of two that speak of the same thing in one commit,
// which the protocol forbids, the first counts, as in Delta Kernel.
func (c *Commit) take(a *action) {
	if c.Info == nil {
		c.Info = a.info
	}
	if c.Protocol == nil {
		c.Protocol = a.protocol
	}
	if c.Metadata == nil {
		c.Metadata = a.metadata
	}
	if a.txn != nil {
		c.Txns = append(c.Txns, *a.txn)
	}
	if a.domain != nil {
		c.Domains = append(c.Domains, *a.domain)
	}
	if a.sidecar != nil {
		c.sidecars = append(c.sidecars, *a.sidecar)
	}
}

func (s *scanner) protocol() (*Protocol, error) {
	var p Protocol
	err := s.object(func(name []byte) (err error) {
		var v int64
		switch string(name) {
		case "minReaderVersion":
			v, err = s.int()
			p.MinReaderVersion = int(min(max(v, math.MinInt32), math.MaxInt32))
		case "minWriterVersion":
			v, err = s.int()
			p.MinWriterVersion = int(min(max(v, math.MinInt32), math.MaxInt32))
		case "readerFeatures":
			p.ReaderFeatures, err = s.strings()
		case "writerFeatures":
			p.WriterFeatures, err = s.strings()
		default:
			_, err = s.skip()
		}
		return err
	})
	if err == nil {
		err = p.check()
	}
	return &p, err
}

func (s *scanner) metadata() (*Metadata, error) {
	var m Metadata
	hasID := false
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "id":
			hasID = true
			m.ID, err = s.text()
		case "name":
			m.Name, err = s.text()
		case "description":
			m.Description, err = s.text()
		case "format":
			err = s.format(&m.Format)
		case "schemaString":
			m.SchemaString, err = s.text()
		case "partitionColumns":
			m.PartitionColumns, err = s.strings()
		case "createdTime":
			m.CreatedTime, err = s.intPtr()
		case "configuration":
			m.Configuration, err = s.stringMap()
		default:
			_, err = s.skip()
		}
		return err
	})
	if err == nil && !hasID {
		err = errors.New("metaData without id")
	}
	return &m, err
}

func (s *scanner) format(f *Format) error {
	if s.null() {
		return nil
	}
	return s.object(func(name []byte) (err error) {
		switch string(name) {
		case "provider":
			f.Provider, err = s.text()
		case "options":
			f.Options, err = s.stringMap()
		default:
			_, err = s.skip()
		}
		return err
	})
}

func (s *scanner) txn() (*Txn, error) {
	var t Txn
	hasID, hasVersion := false, false
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "appId":
			if hasID = !s.null(); hasID { // it may be empty
				t.AppID, err = s.text()
			}
		case "version":
			hasVersion = true
			t.Version, err = s.int()
		case "lastUpdated":
			t.LastUpdated, err = s.intPtr()
		default:
			_, err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
	case !hasID:
		err = errors.New("txn without appId")
	case !hasVersion:
		err = errors.New("txn without version")
	}
	return &t, err
}

func (s *scanner) domain() (*DomainMetadata, error) {
	var d DomainMetadata
	hasName := false
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "domain":
			if hasName = !s.null(); hasName {
				d.Domain, err = s.text()
			}
		case "configuration":
			d.Configuration, err = s.text()
		case "removed":
			d.Removed, err = s.bool()
		default:
			_, err = s.skip()
		}
		return err
	})
	if err == nil && !hasName {
		err = errors.New("domainMetadata without domain")
	}
	return &d, err
}

func (s *scanner) sidecar() (*Sidecar, error) {
	var f Sidecar
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "path":
			f.Path, err = s.text()
		case "sizeInBytes":
			f.SizeInBytes, err = s.int()
		case "modificationTime":
			f.ModificationTime, err = s.int()
		case "tags":
			f.Tags, err = s.stringMap()
		default:
			_, err = s.skip()
		}
		return err
	})
	return &f, err
}

// zeroInt is int, 0 for null.
func (s *scanner) zeroInt() (int64, error) {
	if s.null() {
		return 0, nil
	}
	return s.int()
}

func (s *scanner) add(totals bool) (*Add, error) {
	a := &Add{PartitionValues: map[string]*string{}}
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "path":
			a.Path, err = s.text()
			return err
		case "size":
			a.Size, err = s.zeroInt()
			return err
		case "dataChange":
			a.DataChange, err = s.bool()
			return err
		case "stats":
			a.Stats, err = s.text()
			return err
		case "deletionVector":
			a.DeletionVector, err = s.deletionVector()
			return err
		}
		if totals {
			_, err = s.skip()
			return err
		}
		switch string(name) {
		case "partitionValues":
			if values, err := s.nullableMap(); err != nil || values != nil {
				a.PartitionValues = values
				return err
			}
		case "modificationTime":
			a.ModificationTime, err = s.zeroInt()
		case "tags":
			a.Tags, err = s.stringMap()
		case "baseRowId":
			a.BaseRowID, err = s.intPtr()
		case "defaultRowCommitVersion":
			a.DefaultRowCommitVersion, err = s.intPtr()
		case "clusteringProvider":
			a.ClusteringProvider, err = s.text()
		default:
			_, err = s.skip()
		}
		return err
	})
	if err == nil && a.Path == "" {
		err = errors.New("add without path")
	}
	return a, err
}

func (s *scanner) remove() (*Remove, error) {
	r := &Remove{}
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "path":
			r.Path, err = s.text()
		case "deletionTimestamp":
			r.DeletionTimestamp, err = s.intPtr()
		case "dataChange":
			r.DataChange, err = s.bool()
		case "extendedFileMetadata":
			if !s.null() {
				var v bool
				v, err = s.bool()
				r.ExtendedFileMetadata = &v
			}
		case "partitionValues":
			r.PartitionValues, err = s.nullableMap()
		case "size":
			r.Size, err = s.intPtr()
		case "deletionVector":
			r.DeletionVector, err = s.deletionVector()
		case "baseRowId":
			r.BaseRowID, err = s.intPtr()
		case "defaultRowCommitVersion":
			r.DefaultRowCommitVersion, err = s.intPtr()
		default:
			_, err = s.skip()
		}
		return err
	})
	if err == nil && r.Path == "" {
		err = errors.New("remove without path")
	}
	return r, err
}

func (s *scanner) deletionVector() (*DeletionVector, error) {
	if s.null() {
		return nil, nil
	}
	var d DeletionVector
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "storageType":
			d.StorageType, err = s.text()
		case "pathOrInlineDv":
			d.PathOrInlineDv, err = s.text()
		case "offset":
			var v *int64
			if v, err = s.intPtr(); v != nil && err == nil {
				o := int32(*v)
				d.Offset = &o
				if int64(o) != *v {
					err = s.errorf("the offset %d of a deletion vector is too large", *v)
				}
			}
		case "sizeInBytes":
			var v int64
			v, err = s.zeroInt()
			d.SizeInBytes = int32(v)
		case "cardinality":
			d.Cardinality, err = s.zeroInt()
		default:
			_, err = s.skip()
		}
		return err
	})
	return &d, err
}

// numRecords finds the number of records in statistics (PROTOCOL.md, "Per-file Statistics").
func numRecords(stats string) (n int64, ok bool) {
	s := scanner{b: []byte(stats)}
	err := s.object(func(name []byte) (err error) {
		if string(name) != "numRecords" || s.null() {
			_, err = s.skip()
			return err
		}
		if n, err = s.int(); err != nil {
			return err
		}
		ok = n >= 0
		return errStop
	})
	return n, ok && (err == nil || errors.Is(err, errStop))
}

// frame tells where a JSON value that is cut off at the end of a line goes on: how deep it is open.
type frame struct {
	depth   int
	inText  bool
	escaped bool
}

func (f *frame) add(b []byte) {
	for _, c := range b {
		switch {
		case f.escaped:
			f.escaped = false
		case f.inText:
			f.inText, f.escaped = c != '"', c == '\\'
		case c == '"':
			f.inText = true
		case c == '{' || c == '[':
			f.depth++
		case c == '}' || c == ']':
			f.depth--
		}
	}
}

// extend joins lines to one that a value begins on, until that value is whole; false when it never is.
func (l *lineReader) extend(begin []byte) (whole []byte, ok bool, err error) {
	whole = bytes.Clone(begin)
	var f frame
	for f.add(begin); f.depth > 0 && !f.inText; {
		line, err := l.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return whole, false, err
		}
		f.add(line)
		whole = append(append(whole, '\n'), line...)
		ok = true
	}
	return whole, ok && f.depth == 0 && !f.inText, nil
}
