package decode

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"
)

// DefaultMetadataColumn is the name of the metadata column unless configured otherwise.
const DefaultMetadataColumn = "_kafka"

// noTimestampMillis is Kafka's "no timestamp".
const noTimestampMillis = -1

var headersType = arrow.ListOf(arrow.StructOf(
	arrow.Field{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true},
	arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true},
))

// metadataFields are the known fields of the metadata struct, in the order in which a created table has them.
var metadataFields = []arrow.Field{
	{Name: "topic", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "partition", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "offset", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "timestamp", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	{Name: "key", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "headers", Type: headersType, Nullable: true},
}

// Indexes into metadataFields.
const (
	metaTopic = iota
	metaPartition
	metaOffset
	metaTimestamp
	metaKey
	metaHeaders
	metaFieldCount
)

func (m MetadataConfig) enabled() bool { return m.Enabled == nil || *m.Enabled }

func (m MetadataConfig) column() string {
	if m.Column == "" {
		return DefaultMetadataColumn
	}
	return m.Column
}

// Field returns the column to append when a table is created; false when metadata is switched off.
func (m MetadataConfig) Field() (arrow.Field, bool) {
	if !m.enabled() {
		return arrow.Field{}, false
	}
	fields := append([]arrow.Field(nil), metadataFields[:metaKey]...)
	if m.Key {
		fields = append(fields, metadataFields[metaKey])
	}
	if m.Headers {
		fields = append(fields, metadataFields[metaHeaders])
	}
	return arrow.Field{Name: m.column(), Type: arrow.StructOf(fields...), Nullable: true}, true
}

// metadataPlan says where in the metadata struct each known field is.
type metadataPlan struct {
	column  int
	fields  [metaFieldCount]int // index in the struct; -1: the table does not have it
	unknown []int               // fields of the struct that we do not know; they are nullable and become null
}

// planMetadata finds the metadata column of a table. Nil: the table has none, and none was asked for by name.
func planMetadata(table *arrow.Schema, m MetadataConfig) (*metadataPlan, error) {
	if !m.enabled() {
		return nil, nil
	}
	name := m.column()
	at := table.FieldIndices(name)
	if len(at) == 0 {
		if m.Enabled != nil || m.Column != "" || m.Key || m.Headers {
			return nil, fmt.Errorf("kafka_metadata: the table has no column %q: add it (%s %s) or set kafka_metadata.enabled: false",
				name, name, m.ddl())
		}
		return nil, nil
	}
	p := &metadataPlan{column: at[0]}
	st, ok := table.Field(at[0]).Type.(*arrow.StructType)
	if !ok {
		return nil, fmt.Errorf("kafka_metadata: column %q is %s, not %s: name another column in kafka_metadata.column or set kafka_metadata.enabled: false",
			name, TypeName(table.Field(at[0]).Type), m.ddl())
	}
	for i := range p.fields {
		p.fields[i] = -1
	}
	for i, f := range st.Fields() {
		known := knownMetadata(f.Name)
		switch {
		case known >= 0 && sameShape(f.Type, metadataFields[known].Type):
			p.fields[known] = i
		case known >= 0:
			return nil, fmt.Errorf("kafka_metadata: field %s.%s is %s, not %s: name another column in kafka_metadata.column or set kafka_metadata.enabled: false",
				name, f.Name, TypeName(f.Type), TypeName(metadataFields[known].Type))
		case f.Nullable:
			p.unknown = append(p.unknown, i)
		default:
			return nil, fmt.Errorf("kafka_metadata: field %s.%s is NOT NULL and nothing is known to fill it: make it nullable, or name another column in kafka_metadata.column",
				name, f.Name)
		}
	}
	if m.Key && p.fields[metaKey] < 0 {
		return nil, fmt.Errorf("kafka_metadata.key: the table's column %q has no field key: add it (key BINARY) or set key: false", name)
	}
	if m.Headers && p.fields[metaHeaders] < 0 {
		return nil, fmt.Errorf("kafka_metadata.headers: the table's column %q has no field headers: add it (headers ARRAY<STRUCT<key: STRING, value: BINARY>>) or set headers: false", name)
	}
	return p, nil
}

func (m MetadataConfig) ddl() string {
	s := "STRUCT<topic: STRING, partition: INT, offset: BIGINT, timestamp: TIMESTAMP"
	if m.Key {
		s += ", key: BINARY"
	}
	if m.Headers {
		s += ", headers: ARRAY<STRUCT<key: STRING, value: BINARY>>"
	}
	return s + ">"
}

func knownMetadata(name string) int {
	for i, f := range metadataFields {
		if f.Name == name {
			return i
		}
	}
	return -1
}

// sameShape compares types by structure and field names; nullability and metadata do not matter.
func sameShape(a, b arrow.DataType) bool {
	if a.ID() != b.ID() {
		return false
	}
	switch a := a.(type) {
	case *arrow.StructType:
		bs := b.(*arrow.StructType)
		if a.NumFields() != bs.NumFields() {
			return false
		}
		for i, f := range a.Fields() {
			if f.Name != bs.Field(i).Name || !sameShape(f.Type, bs.Field(i).Type) {
				return false
			}
		}
		return true
	case *arrow.ListType:
		return sameShape(a.Elem(), b.(*arrow.ListType).Elem())
	}
	return arrow.TypeEqual(a, b)
}

// metadata fills the metadata struct. Topic and partition are kept as runs and spread when the batch is taken:
// they cost one comparison per message.
type metadata struct {
	*metadataPlan
	row        *Builder
	at         [metaFieldCount]*Builder // nil: not in the table
	runs       []metadataRun
	topicWidth int // of the longest topic name in the batch, which materialize will add per row
}

type metadataRun struct {
	topic     string
	partition int32
	rows      int
}

func newMetadata(p *metadataPlan, row *Builder) *metadata {
	m := &metadata{metadataPlan: p, row: row}
	for k, i := range p.fields {
		if i >= 0 {
			m.at[k] = row.Children[i]
		}
	}
	return m
}

func (m *metadata) append(rec *kgo.Record) {
	if n := len(m.runs); n > 0 && m.runs[n-1].partition == rec.Partition && m.runs[n-1].topic == rec.Topic {
		m.runs[n-1].rows++
	} else {
		m.runs = append(m.runs, metadataRun{rec.Topic, rec.Partition, 1})
		m.topicWidth = max(m.topicWidth, len(rec.Topic))
	}
	if b := m.at[metaOffset]; b != nil {
		b.AppendInt64(rec.Offset)
	}
	if b := m.at[metaTimestamp]; b != nil {
		if rec.Timestamp.IsZero() || rec.Attrs.TimestampType() < 0 || rec.Timestamp.UnixMilli() == noTimestampMillis {
			b.AppendNull()
		} else {
			b.AppendInt64(rec.Timestamp.UnixMicro())
		}
	}
	if b := m.at[metaKey]; b != nil {
		if rec.Key == nil {
			b.AppendNull()
		} else {
			b.AppendBytes(rec.Key)
		}
	}
	if b := m.at[metaHeaders]; b != nil {
		m.appendHeaders(b, rec.Headers)
	}
}

// appendHeaders writes an empty list for a record without headers: it is known that there are none.
func (m *metadata) appendHeaders(b *Builder, headers []kgo.RecordHeader) {
	entry := b.Children[0]
	for i := range headers {
		entry.Children[0].AppendString(validUTF8(headers[i].Key))
		if headers[i].Value == nil {
			entry.Children[1].AppendNull()
		} else {
			entry.Children[1].AppendBytes(headers[i].Value)
		}
		entry.EndRow()
	}
	b.EndRow()
}

// materialize spreads the runs into the topic and partition builders and completes the struct's rows.
func (m *metadata) materialize() {
	for _, run := range m.runs {
		if b := m.at[metaTopic]; b != nil {
			for range run.rows {
				b.AppendString(run.topic)
			}
		}
		if b := m.at[metaPartition]; b != nil {
			for range run.rows {
				b.AppendInt32(run.partition)
			}
		}
		for _, i := range m.unknown {
			for range run.rows {
				m.row.Children[i].AppendNull()
			}
		}
		m.row.Len += run.rows
	}
	m.runs = m.runs[:0]
}

func (m *metadata) reset() { m.runs, m.topicWidth = m.runs[:0], 0 }

// validUTF8 replaces bytes that are not UTF-8: Kafka defines header keys as text, so this is for broken producers only.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
