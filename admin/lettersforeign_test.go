package admin_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/admin"
	"kafkadelta/delta"
)

const lettersDDL = `topic STRING NOT NULL, partition INT NOT NULL, offset BIGINT NOT NULL, timestamp TIMESTAMP, key BINARY, value BINARY,
headers ARRAY<STRUCT<key: STRING, value: BINARY>>, schema_id STRING, reason STRING NOT NULL, field_path STRING, error STRING NOT NULL,
connector STRING NOT NULL, generation BIGINT NOT NULL, time TIMESTAMP NOT NULL`

// foreignLetter has another writer put a file with one letter into the table, or its mark, with the fields as that writer has them in memory.
func (f *fixture) foreignLetter(name, reason string, fields []arrow.Field) {
	f.t.Helper()
	schema := arrow.NewSchema(fields, nil)
	rb, _, err := array.RecordFromJSON(arrowmemory.DefaultAllocator, schema, strings.NewReader(fmt.Sprintf(
		`[{"topic": %q, "partition": 1, "offset": 7, "timestamp": "2026-01-02T03:04:05Z", "key": "a2V5", "value": "dmFsdWU=", "headers": [{"key": "h", "value": "eA=="}],
		"schema_id": "schema id 3", "reason": %q, "field_path": "a.b", "error": "no", "connector": %q, "generation": 2, "time": "2026-01-02T03:04:05Z"}]`, topic, reason, stream)))
	f.check(err)
	defer rb.Release()
	var file bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &file, parquet.NewWriterProperties(), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	f.check(err)
	f.check(w.Write(rb))
	f.check(w.Close())
	f.check(f.store.Put(f.t.Context(), name, file.Bytes()))
	f.foreign("WRITE", delta.Add{Path: name, PartitionValues: map[string]*string{}, Size: int64(file.Len()), ModificationTime: 1, DataChange: true},
		delta.Txn{AppID: stream + "#replay", Version: 9})
}

// TestLettersOfOtherWriters: what another writer has rewritten is the same letters and marks, however it had them in memory: it notes that in its
// files. A file whose columns have other types than the table's is refused: what it has is not known, and a letter whose mark is missed is
// replayed twice.
func TestLettersOfOtherWriters(t *testing.T) {
	schema, err := delta.ParseDDL(lettersDDL)
	if err != nil {
		t.Fatal(err)
	}
	// with gives the columns under other types, by name; nil leaves a column out.
	with := func(change func(arrow.Field) arrow.DataType) []arrow.Field {
		var out []arrow.Field
		for _, f := range schema.Fields() {
			if f.Type = change(f); f.Type != nil {
				out = append(out, f)
			}
		}
		return out
	}
	one := func(name string, as arrow.DataType) []arrow.Field {
		return with(func(f arrow.Field) arrow.DataType {
			if f.Name == name {
				return as
			}
			return f.Type
		})
	}
	header := func(key, value arrow.DataType) arrow.DataType {
		return arrow.StructOf(arrow.Field{Name: "key", Type: key, Nullable: true}, arrow.Field{Name: "value", Type: value, Nullable: true})
	}
	binary, text := arrow.BinaryTypes.Binary, arrow.BinaryTypes.String
	forms := map[string][]arrow.Field{
		"its own": schema.Fields(),
		"large": with(func(f arrow.Field) arrow.DataType {
			switch f.Type.ID() {
			case arrow.STRING:
				return arrow.BinaryTypes.LargeString
			case arrow.BINARY:
				return arrow.BinaryTypes.LargeBinary
			case arrow.LIST:
				return arrow.LargeListOf(header(arrow.BinaryTypes.LargeString, arrow.BinaryTypes.LargeBinary))
			default:
				return f.Type
			}
		}),
		"dictionaries": with(func(f arrow.Field) arrow.DataType {
			if f.Type.ID() == arrow.STRING {
				return &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: text}
			}
			return f.Type
		}),
		"wider numbers": one("partition", arrow.PrimitiveTypes.Int64),
		"no timestamp":  one("timestamp", nil),
	}
	for name, fields := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{columns: lettersDDL})
			list := func() (all []admin.Letter) {
				f.check(admin.Letters(t.Context(), f.store, admin.LetterFilter{Connector: stream, Partition: 1, Offset: 7}, func(l *admin.Letter) bool {
					all = append(all, *l)
					return true
				}))
				return all
			}
			f.foreignLetter("letter.parquet", "type_mismatch", fields)
			want := `topic/1/7 key=key value=value h=x schema id 3 type_mismatch a.b no events 2`
			for _, replayed := range []bool{false, true} {
				all := list()
				if len(all) != 1 || all[0].Replayed != replayed || len(all[0].Headers) != 1 {
					t.Fatalf("letters: %+v, want one, replayed: %v", all, replayed)
				}
				l := all[0]
				if got := fmt.Sprintf("%s/%d/%d key=%s value=%s %s=%s %s %s %s %s %s %d", l.Topic, l.Partition, l.Offset, l.Key, l.Value, l.Headers[0].Key, l.Headers[0].Value, l.SchemaID, l.Reason, l.FieldPath, l.Error, l.Connector, l.Generation); got != want {
					t.Errorf("the letter is %s, want %s", got, want)
				}
				if l.Time.Year() != 2026 || l.Timestamp.IsZero() != (name == "no timestamp") {
					t.Errorf("times: %v and %v", l.Time, l.Timestamp)
				}
				f.foreignLetter("mark.parquet", "replayed", fields)
			}
		})
	}
	for want, fields := range map[string][]arrow.Field{
		"its column reason has the type binary":          one("reason", binary),
		"its column value has the type utf8":             one("value", text),
		"its column offset has the type float64":         one("offset", arrow.PrimitiveTypes.Float64),
		"its column headers has the type list<element: ": one("headers", arrow.ListOf(header(text, text))),
	} {
		f := newFixture(t, setup{columns: lettersDDL})
		f.foreignLetter("letter.parquet", "none", fields) // which is base64 as well
		err := admin.Letters(t.Context(), f.store, admin.LetterFilter{Partition: -1, Offset: -1}, func(l *admin.Letter) bool {
			t.Errorf("%s: it has %+v", want, l)
			return true
		})
		if err == nil || !strings.Contains(err.Error(), "letter.parquet: "+want) {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}
