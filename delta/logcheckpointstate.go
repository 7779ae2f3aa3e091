package delta

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
)

// stateActions are the actions besides files, each with its required field. Spark puts txn before the files and the others
// behind them, near the end that is read ahead.
var stateActions = []struct {
	action, required string
	kind             parquet.Type
	read             func(*fields, *Commit) error
}{
	{"protocol", "minReaderVersion", parquet.Types.Int64, (*fields).protocol},
	{"metaData", "schemaString", parquet.Types.ByteArray, (*fields).metadata},
	{"domainMetadata", "domain", parquet.Types.ByteArray, (*fields).domain},
	{"sidecar", "path", parquet.Types.ByteArray, (*fields).sidecar},
	{"txn", "appId", parquet.Types.ByteArray, (*fields).txn},
}

// state collects what a row group says besides files into a commit: like a commit of all versions so far.
func (rg *rowGroup) state(c *Commit) error {
	for _, a := range stateActions {
		if rg.allNull(a.action, a.required) {
			continue
		}
		if err := rg.readAhead(a.action); err != nil {
			return err
		}
		if err := rg.each(a.action, a.required, a.kind, func(f *fields) error { return a.read(f, c) }); err != nil {
			return err
		}
	}
	return nil
}

// A log checkpoint of a few kilobytes can hold texts of gigabytes: compressed, or one entry of a dictionary in many rows. So
// what its state keeps in memory is counted.
const (
	maxStateBytes    = 256 << 20 // of one log checkpoint, all of its files together
	stateActionBytes = 64        // of an action besides its texts
)

// keptState is what the state of a log checkpoint keeps so far.
type keptState struct {
	bytes         int
	txns, domains map[string]struct{}
}

// keep counts the texts of an action; an error when the state has become too large.
func (c *Commit) keep(more map[string]string, texts ...string) error {
	c.kept.bytes += stateActionBytes
	for _, t := range texts {
		c.kept.bytes += len(t)
	}
	for k, v := range more {
		c.kept.bytes += stateActionBytes + len(k) + len(v)
	}
	if c.kept.bytes > maxStateBytes {
		return fmt.Errorf("what it holds besides files takes more than %d MiB", maxStateBytes>>20)
	}
	return nil
}

// first tells whether a name was not there yet. Of two actions of the same name, which the protocol forbids, the first
// counts.
func first(seen *map[string]struct{}, name *string) bool {
	if _, known := (*seen)[*name]; known {
		return false
	}
	if *seen == nil {
		*seen = map[string]struct{}{}
	}
	*name = ownText(*name)
	(*seen)[*name] = struct{}{}
	return true
}

func (f *fields) protocol(c *Commit) error {
	reader, _ := f.int("minReaderVersion")
	writer, _ := f.int("minWriterVersion")
	if reader == 0 && writer == 0 {
		return f.err // the not-null struct of another action's row
	}
	c.Protocol = &Protocol{
		MinReaderVersion: int(reader), MinWriterVersion: int(writer),
		ReaderFeatures: f.strings("readerFeatures"), WriterFeatures: f.strings("writerFeatures"),
	}
	return errors.Join(f.err, c.keep(nil, slices.Concat(c.Protocol.ReaderFeatures, c.Protocol.WriterFeatures)...), c.Protocol.check())
}

func (f *fields) metadata(c *Commit) error {
	id, hasID := f.text("id")
	c.Metadata = &Metadata{
		ID: id, Name: f.str("name"), Description: f.str("description"),
		Format:       Format{Provider: f.str("format.provider"), Options: f.stringMap("format.options")},
		SchemaString: f.str("schemaString"), PartitionColumns: f.strings("partitionColumns"),
		CreatedTime: f.intPtr("createdTime"), Configuration: f.stringMap("configuration"),
	}
	m := c.Metadata
	if f.err == nil && (!hasID || m.PartitionColumns == nil || m.Configuration == nil) {
		return errors.New("metaData without id, partitionColumns or configuration")
	}
	return errors.Join(f.err, c.keep(m.Configuration, m.PartitionColumns...), c.keep(m.Format.Options, m.ID, m.Name, m.Description, m.Format.Provider, m.SchemaString))
}

func (f *fields) txn(c *Commit) error {
	id := f.str("appId")
	version, ok := f.int("version")
	if !ok && f.err == nil {
		return fmt.Errorf("txn of %.100q without version", id)
	}
	updated := f.intPtr("lastUpdated")
	if f.err != nil || !first(&c.kept.txns, &id) {
		return f.err
	}
	c.Txns = append(c.Txns, Txn{AppID: id, Version: version, LastUpdated: updated})
	return c.keep(nil, id)
}

func (f *fields) domain(c *Commit) error {
	removed, _ := f.bool("removed")
	d := DomainMetadata{Domain: f.str("domain"), Configuration: ownText(f.str("configuration")), Removed: removed}
	if f.err != nil || !first(&c.kept.domains, &d.Domain) {
		return f.err
	}
	c.Domains = append(c.Domains, d)
	return c.keep(nil, d.Domain, d.Configuration)
}

func (f *fields) sidecar(c *Commit) error {
	s := Sidecar{Path: ownText(f.str("path")), Tags: f.stringMap("tags")}
	s.SizeInBytes, _ = f.int("sizeInBytes")
	s.ModificationTime, _ = f.int("modificationTime")
	c.sidecars = append(c.sidecars, s)
	return errors.Join(f.err, c.keep(s.Tags, s.Path))
}
