package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/delta"
)

// Letter is a dead letter: a message that could not become a row, and why.
type Letter struct {
	Topic      string         `json:"topic"`
	Partition  int32          `json:"partition"`
	Offset     int64          `json:"offset"`
	Timestamp  time.Time      `json:"timestamp"`
	Key        []byte         `json:"key"`   // base64 in JSON; null for none
	Value      []byte         `json:"value"` // the same
	Headers    []LetterHeader `json:"headers"`
	SchemaID   string         `json:"schema_id,omitempty"`
	Reason     string         `json:"reason"`
	FieldPath  string         `json:"field_path,omitempty"`
	Error      string         `json:"error"`
	Connector  string         `json:"connector"` // name of the stream
	Generation int64          `json:"generation"`
	Time       time.Time      `json:"time"` // when it was found to be one
	Replayed   bool           `json:"replayed"`
}

// LetterHeader is a header of the message.
type LetterHeader struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// LetterFilter says which dead letters are wanted.
type LetterFilter struct {
	Connector string // "": of any stream
	Partition int32  // -1: of any
	Offset    int64  // -1: any
	Reason    string // "": any
}

func (f LetterFilter) wants(l *Letter) bool {
	return (f.Connector == "" || f.Connector == l.Connector) && (f.Partition < 0 || f.Partition == l.Partition) &&
		(f.Offset < 0 || f.Offset == l.Offset) && (f.Reason == "" || f.Reason == l.Reason)
}

// mayHold looks at a file's statistics.
func (f LetterFilter) mayHold(a *delta.Add) bool {
	var stats struct {
		MinValues, MaxValues struct{ Partition, Offset *int64 }
	}
	if json.Unmarshal([]byte(a.Stats), &stats) != nil {
		return true
	}
	within := func(want int64, low, high *int64) bool {
		return want < 0 || low == nil || high == nil || *low <= want && want <= *high
	}
	return within(int64(f.Partition), stats.MinValues.Partition, stats.MaxValues.Partition) && within(f.Offset, stats.MinValues.Offset, stats.MaxValues.Offset)
}

// replayed is the reason of a row that marks a dead letter as replayed.
const replayed = "replayed"

// letterKey is what a letter and its mark have in common.
type letterKey struct {
	connector, topic   string
	partition          int32
	offset, generation int64
}

func keyOf(l *Letter) letterKey {
	return letterKey{l.Connector, l.Topic, l.Partition, l.Offset, l.Generation}
}

// Letters reads the newest version of a dead-letter table and visits the letters that are wanted, in no order, until visit
// answers false.
func Letters(ctx context.Context, store delta.LogStore, f LetterFilter, visit func(*Letter) bool) error {
	snap, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return err
	}
	marks := map[letterKey]bool{}
	for txn := range snap.Txns() {
		if !strings.HasSuffix(txn.AppID, "#replay") {
			continue
		}
		only := f
		only.Reason = replayed
		if err := eachLetter(ctx, store, snap, only, func(l *Letter) bool { marks[keyOf(l)] = true; return true }); err != nil {
			return err
		}
		break
	}
	return eachLetter(ctx, store, snap, f, func(l *Letter) bool {
		l.Replayed = marks[keyOf(l)]
		return l.Reason == replayed || visit(l)
	})
}

func eachLetter(ctx context.Context, store delta.LogStore, snap *delta.Snapshot, f LetterFilter, visit func(*Letter) bool) error {
	for a, err := range snap.Files(ctx) {
		if err != nil {
			return err
		}
		if !f.mayHold(&a) {
			continue
		}
		var dead *delta.RowSet
		if a.DeletionVector != nil {
			if dead, err = delta.ReadDeletionVector(ctx, store, a.DeletionVector); err != nil {
				return fmt.Errorf("reading the deletion vector of %s: %w", a.Path, err)
			}
		}
		more, err := readLetters(ctx, memory.DefaultAllocator, store, &a, dead, func(l *Letter) bool { return !f.wants(l) || visit(l) })
		if err != nil {
			return fmt.Errorf("reading %s: %w", a.Path, err)
		}
		if !more {
			break
		}
	}
	return nil
}

func readLetters(ctx context.Context, mem memory.Allocator, store delta.LogStore, a *delta.Add, dead *delta.RowSet, visit func(*Letter) bool) (more bool, err error) {
	src, err := openObject(ctx, store, nameOf(a.Path), a.Size)
	if err != nil {
		return false, err
	}
	defer func() {
		if r := recover(); r != nil { // the library does so on some broken files
			err = fmt.Errorf("%v", r)
		}
		if err != nil && src.err != nil {
			err = src.err
		}
	}()
	pf, err := file.NewParquetReader(src, file.WithReadProps(parquet.NewReaderProperties(mem)))
	if err != nil {
		return false, err
	}
	pf.MetaData().FileMetaData.KeyValueMetadata = nil // what its writer had in memory (ARROW:schema) is no matter: the Parquet types decide
	row := int64(0)
	for group := range pf.NumRowGroups() {
		more, err := readGroupOfLetters(ctx, mem, pf, group, func(r letterReader) bool {
			for i := range int(r.NumRows()) {
				if dead == nil || !dead.Has(row+int64(i)) {
					if l := r.letter(i); !visit(&l) {
						return false
					}
				}
			}
			row += r.NumRows()
			return true
		})
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// lettersBytes bounds a batch of letters, by what its row group has for each on average, without compression.
const lettersBytes = 16 << 20

// readGroupOfLetters reads a row group in batches, which never have rows of two: whoever writes one bounds its bytes, and letters may be as large as
// messages are.
func readGroupOfLetters(ctx context.Context, mem memory.Allocator, pf *file.Reader, group int, visit func(letterReader) bool) (more bool, err error) {
	md := pf.MetaData().RowGroup(group)
	each := max(md.TotalByteSize()/max(md.NumRows(), 1), 1)
	fr, err := pqarrow.NewFileReader(pf, pqarrow.ArrowReadProperties{BatchSize: min(max(lettersBytes/each, 1), batchRows)}, mem)
	if err != nil {
		return false, err
	}
	batches, err := fr.GetRecordReader(ctx, nil, []int{group})
	if err != nil {
		return false, err
	}
	defer batches.Release()
	if err := checkLetters(batches.Schema()); err != nil {
		return false, err
	}
	for {
		rb, err := batches.Read()
		if errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if !visit(letterReader{rb}) {
			return false, nil
		}
	}
}

// letterTypes are the types that files may have for columns of letters.
var letterTypes = map[string][]arrow.Type{
	"topic": {arrow.STRING}, "partition": {arrow.INT32, arrow.INT64}, "offset": {arrow.INT32, arrow.INT64}, "timestamp": {arrow.TIMESTAMP},
	"key": {arrow.BINARY}, "value": {arrow.BINARY}, "headers": {arrow.LIST}, "schema_id": {arrow.STRING}, "reason": {arrow.STRING}, "field_path": {arrow.STRING},
	"error": {arrow.STRING}, "connector": {arrow.STRING}, "generation": {arrow.INT32, arrow.INT64}, "time": {arrow.TIMESTAMP},
}

// checkLetters refuses a file whose columns letterReader can't read: a letter whose mark is missed would be replayed twice.
func checkLetters(schema *arrow.Schema) error {
	for _, f := range schema.Fields() {
		types, known := letterTypes[f.Name]
		if known && (!slices.Contains(types, f.Type.ID()) || f.Type.ID() == arrow.LIST && !isHeader(f.Type.(*arrow.ListType).Elem())) {
			return fmt.Errorf("its column %s has the type %s: another writer has written the file against the table's schema: have that rewrite it with the table's types", f.Name, f.Type)
		}
	}
	return nil
}

func isHeader(t arrow.DataType) bool {
	s, ok := t.(*arrow.StructType)
	return ok && s.NumFields() == 2 && s.Field(0).Type.ID() == arrow.STRING && s.Field(1).Type.ID() == arrow.BINARY
}

// letterReader reads rows of a file of dead letters by the names of their columns. What is not there is empty.
type letterReader struct{ arrow.RecordBatch }

func cell[T arrow.Array](r letterReader, name string, i int) (T, bool) {
	var none T
	at := r.Schema().FieldIndices(name)
	if len(at) == 0 || r.Column(at[0]).IsNull(i) {
		return none, false
	}
	c, ok := r.Column(at[0]).(T)
	return c, ok
}

func (r letterReader) letter(i int) Letter {
	return Letter{
		Topic: r.text("topic", i), Partition: int32(r.number("partition", i)), Offset: r.number("offset", i), Timestamp: r.instant("timestamp", i),
		Key: r.bytes("key", i), Value: r.bytes("value", i), Headers: r.headers(i), SchemaID: r.text("schema_id", i), Reason: r.text("reason", i),
		FieldPath: r.text("field_path", i), Error: r.text("error", i), Connector: r.text("connector", i), Generation: r.number("generation", i),
		Time: r.instant("time", i),
	}
}

func (r letterReader) text(name string, i int) string {
	if c, ok := cell[*array.String](r, name, i); ok {
		return c.Value(i)
	}
	return ""
}

func (r letterReader) bytes(name string, i int) []byte {
	if c, ok := cell[*array.Binary](r, name, i); ok {
		return copied(c.Value(i))
	}
	return nil
}

// copied keeps what the batch's buffers hold. An empty value is none of null.
func copied(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

func (r letterReader) number(name string, i int) int64 {
	if c, ok := cell[*array.Int32](r, name, i); ok {
		return int64(c.Value(i))
	}
	if c, ok := cell[*array.Int64](r, name, i); ok {
		return c.Value(i)
	}
	return 0
}

func (r letterReader) instant(name string, i int) time.Time {
	if c, ok := cell[*array.Timestamp](r, name, i); ok {
		return c.Value(i).ToTime(c.DataType().(*arrow.TimestampType).Unit)
	}
	return time.Time{}
}

func (r letterReader) headers(i int) []LetterHeader {
	headers := []LetterHeader{}
	list, ok := cell[*array.List](r, "headers", i)
	if !ok {
		return headers
	}
	entries := list.ListValues().(*array.Struct)
	keys, values := entries.Field(0).(*array.String), entries.Field(1).(*array.Binary)
	for from, to := list.ValueOffsets(i); from < to; from++ {
		h := LetterHeader{Key: keys.Value(int(from))}
		if !values.IsNull(int(from)) {
			h.Value = copied(values.Value(int(from)))
		}
		headers = append(headers, h)
	}
	return headers
}
