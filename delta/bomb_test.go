package delta_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"kafkadelta/delta"
)

// bombShape is a log checkpoint of a few kilobytes that would hold gigabytes: one text in a column of many rows, or in many
// entries of one row's map.
type bombShape struct {
	action, column string
	encoding       parquet.Encoding // DeltaByteArray instead of a dictionary
	one            bool             // one row
	refused        bool
}

// leaf is the column of texts.
func (b bombShape) leaf() string {
	switch {
	case b.column == "writerFeatures":
		return b.action + "." + b.column + ".list.element"
	case b.column == "tags" || b.column == "configuration" && b.action == "metaData":
		return b.action + "." + b.column + ".key_value.value"
	}
	return b.action + "." + b.column
}

var bombs = map[string]bombShape{
	"one txn":                 {action: "txn", column: "appId"},
	"one txn, prefixes":       {action: "txn", column: "appId", encoding: parquet.Encodings.DeltaByteArray},
	"one domain":              {action: "domainMetadata", column: "domain"},
	"domains":                 {action: "domainMetadata", column: "configuration", refused: true},
	"sidecars":                {action: "sidecar", column: "path", refused: true},
	"sidecars' tags":          {action: "sidecar", column: "tags", refused: true},
	"metaDatas":               {action: "metaData", column: "schemaString", refused: true},
	"configuration":           {action: "metaData", column: "configuration", one: true, refused: true},
	"configuration, prefixes": {action: "metaData", column: "configuration", one: true, encoding: parquet.Encodings.DeltaByteArray, refused: true},
	"features":                {action: "protocol", column: "writerFeatures", one: true, refused: true},
	"files' paths":            {action: "add", column: "path"},
	"files' tags":             {action: "add", column: "tags"},
	"one file's tags":         {action: "add", column: "tags", one: true, refused: true},
	"files' paths, prefixes":  {action: "add", column: "path", encoding: parquet.Encodings.DeltaByteArray},
}

// bombFields are the columns of an action; the first is the one that must be there, maps and lists begin with "*".
var bombFields = map[string][]string{
	"txn": {"appId", "#version"}, "domainMetadata": {"domain", "configuration"}, "sidecar": {"path", "*tags"},
	"metaData": {"schemaString", "id", "*partitionColumns", "*configuration"}, "protocol": {"#minReaderVersion", "#minWriterVersion", "*writerFeatures"},
	"add": {"path", "*partitionValues", "#size", "*tags"},
}

// bomb writes one.
func bomb(t testing.TB, b bombShape, repeats, size int) []byte {
	t.Helper()
	var nodes schema.FieldList
	for _, name := range bombFields[b.action] {
		switch name[0] {
		case '#':
			nodes = append(nodes, schema.NewInt64Node(name[1:], parquet.Repetitions.Optional, -1))
		case '*':
			entry := must(schema.NewGroupNode("key_value", parquet.Repetitions.Repeated, schema.FieldList{
				schema.NewByteArrayNode("key", parquet.Repetitions.Required, -1), schema.NewByteArrayNode("value", parquet.Repetitions.Optional, -1),
			}, -1))
			if name == "*writerFeatures" || name == "*partitionColumns" {
				entry = must(schema.NewGroupNode("list", parquet.Repetitions.Repeated, schema.FieldList{
					schema.NewByteArrayNode("element", parquet.Repetitions.Required, -1),
				}, -1))
			}
			nodes = append(nodes, must(schema.NewGroupNode(name[1:], parquet.Repetitions.Optional, schema.FieldList{entry}, -1)))
		default:
			nodes = append(nodes, schema.NewByteArrayNode(name, parquet.Repetitions.Optional, -1))
		}
	}
	action := must(schema.NewGroupNode(b.action, parquet.Repetitions.Optional, nodes, -1))
	root := must(schema.NewGroupNode("spark_schema", parquet.Repetitions.Required, schema.FieldList{action}, -1))
	props := []parquet.WriterProperty{
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithStats(false), parquet.WithDictionaryPageSizeLimit(64 << 20),
	}
	if b.encoding != parquet.Encodings.Plain {
		props = append(props, parquet.WithDictionaryFor(b.leaf(), false), parquet.WithEncodingFor(b.leaf(), b.encoding), parquet.WithDataPageSize(64<<20))
	}
	var out bytes.Buffer
	w := file.NewParquetWriter(&out, root, file.WithWriterProps(parquet.NewWriterProperties(props...)))
	rg := must(w.AppendRowGroupChecked())
	rows := repeats
	if b.one {
		rows = 1
	}
	long := strings.Repeat("x", size)
	for range w.Schema.NumColumns() {
		cw := must(rg.NextColumn())
		writeBombColumn(t, b, cw, rows, repeats, long)
		check(t, cw.Close())
	}
	check(t, rg.Close())
	check(t, w.Close())
	return out.Bytes()
}

func writeBombColumn(t testing.TB, b bombShape, cw file.ColumnChunkWriter, rows, repeats int, long string) {
	t.Helper()
	n, text := rows, "x"
	words := strings.Split(cw.Descr().Path(), ".")
	nested := len(words) > 2
	if nested && b.one {
		n = repeats
	}
	if cw.Descr().Path() == b.leaf() {
		text = long
	}
	defs, reps := make([]int16, n), make([]int16, n)
	ints, texts := make([]int64, n), make([]parquet.ByteArray, n)
	for i := range n {
		defs[i], ints[i], texts[i] = cw.Descr().MaxDefinitionLevel(), 7, parquet.ByteArray(text)
		if nested && b.one && i > 0 {
			reps[i] = 1
		}
		if words[len(words)-1] == "key" || words[1] == "domain" && b.column != "domain" {
			texts[i] = parquet.ByteArray(fmt.Sprint(i))
		}
	}
	if !nested {
		reps = nil
	}
	var err error
	switch cw := cw.(type) {
	case *file.Int64ColumnChunkWriter:
		_, err = cw.WriteBatch(ints, defs, reps)
	case *file.ByteArrayColumnChunkWriter:
		_, err = cw.WriteBatch(texts, defs, reps)
	}
	check(t, err)
}

// A log checkpoint of a few kilobytes takes no gigabytes, whatever it repeats: what the table does not keep costs little,
// what it would have to keep is refused.
func TestSmallLogCheckpointsThatHoldGigabytes(t *testing.T) {
	for name, shape := range bombs {
		t.Run(name, func(t *testing.T) {
			data := bomb(t, shape, 600, 1<<20)
			if len(data) > 200<<10 {
				t.Fatalf("the file has %d bytes", len(data))
			}
			c, err := readWithinBounds(t, data)
			if refused := errors.Is(err, delta.ErrCorrupt) && strings.Contains(err.Error(), "MiB"); refused != shape.refused || err != nil && !refused {
				t.Errorf("%v; refused: want %t", err, shape.refused)
			}
			if err == nil && (shape.action == "txn" && len(c.Txns) != 1 || shape.action == "domainMetadata" && len(c.Domains) != 1) {
				t.Errorf("%d txns and %d domains, want one", len(c.Txns), len(c.Domains))
			}
		})
	}
}

// The limit of the Parquet library's buffers holds for a dictionary too.
func TestPagesThatNeedTooMuchMemory(t *testing.T) {
	data := bomb(t, bombs["one txn"], 10, 6<<20)
	for limit, fits := range map[int64]bool{4 << 20: false, 64 << 20: true} {
		restore := delta.SetReaderMemory(limit)
		_, err := readWithinBounds(t, data)
		restore()
		if fits && err != nil || !fits && (!errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "4 MiB of buffers")) {
			t.Errorf("with %d bytes: %v", limit, err)
		}
	}
}
