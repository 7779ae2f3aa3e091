package json

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// schemaOf makes the random schema of a seed.
func schemaOf(seed uint64) *arrow.Schema {
	return arrow.NewSchema(newGenerator(seed).fields(3), nil)
}

// checkAgainstReference decodes one message and compares the outcome with the reference's.
func checkAgainstReference(t *testing.T, schema *arrow.Schema, message []byte) {
	t.Helper()
	d := newDecoder(t, schema, decode.Config{})
	want, wantErr := referenceRow(schema.Fields(), message)
	err := d.Append(&kgo.Record{Topic: "t", Offset: 7, Value: message})
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("message %q\nschema %v\ngot error %v, the reference %v %s", message, schema, err, wantErr, want)
	}
	var poison *decode.PoisonError
	if err != nil && (!errors.As(err, &poison) || poison.Reason == "" || poison.Detail == "") {
		t.Fatalf("message %q: not a complete poison error: %#v", message, err)
	}
	batch := d.NewBatch()
	defer batch.Release()
	rows := renderRows(batch)
	if err != nil {
		if len(rows) != 0 {
			t.Fatalf("poison left rows %v", rows)
		}
		return
	}
	if len(rows) != 1 || rows[0] != want {
		t.Fatalf("message %q\nschema %v\ngot  %v\nwant %v", message, schema, rows, want)
	}
}

func TestRandomMessagesAgainstEncodingJSON(t *testing.T) {
	accepted, total := 0, 0
	for seed := range uint64(3000) {
		schema := schemaOf(seed)
		g := newGenerator(seed + 1e6)
		for _, unlikely := range []int{1000, 30} {
			message := []byte(g.object(schema.Fields(), unlikely))
			checkAgainstReference(t, schema, message)
			total++
			if _, err := referenceRow(schema.Fields(), message); err == nil {
				accepted++
			}
			// Damage one byte.
			message[g.IntN(len(message))] = []byte(`{}[]",:\0e-. ntf`)[g.IntN(16)]
			checkAgainstReference(t, schema, message)
		}
	}
	if accepted < total/2 {
		t.Errorf("only %d of %d messages fit: the generator tests too little", accepted, total)
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(60) {
		schema := schemaOf(seed)
		f.Add(seed, []byte(newGenerator(seed+1e6).object(schema.Fields(), 40)))
	}
	for _, message := range []string{"", " ", "null", "{}", "{} {}", "[1]", "\xef\xbb\xbf{}", `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1e999}`, `{"a":01}`} {
		f.Add(uint64(3), []byte(message))
	}
	unknown := arrow.NewSchema([]arrow.Field{nullable("no message has this field", tString)}, nil)
	f.Fuzz(func(t *testing.T, seed uint64, message []byte) {
		checkAgainstReference(t, schemaOf(seed%512), message)

		// Fields that the table does not have are validated all the same.
		d := newDecoder(t, unknown, decode.Config{})
		err := d.Append(&kgo.Record{Value: append([]byte{}, message...)})
		_, noObject := referenceRow(nil, message)
		if (err == nil) != (noObject == nil) {
			t.Fatalf("message %q: error %v, json.Valid %v, utf8.Valid %v", message, err, json.Valid(message), utf8.Valid(message))
		}
	})
}

// withComputed adds computed columns to a schema: from fields that it keeps, where a path can lead to them, or others.
func withComputed(schema *arrow.Schema) (*arrow.Schema, decode.Config) {
	cfg := decode.Config{Columns: map[string]decode.Column{}}
	for _, c := range []struct {
		name string
		decode.Column
	}{
		{"part", decode.Column{From: "b.id", Cast: "substring(1, 3)"}},
		{"day", decode.Column{From: "id", Cast: "date"}},
		{"renamed", decode.Column{From: "url"}},
		{"text", decode.Column{From: "b", Cast: "json"}},
		{"all", decode.Column{From: ".", Cast: "json"}},
		{"unknown", decode.Column{From: "unknown1.a", Cast: "substring(-2, 2)"}},
	} {
		typ := arrow.DataType(tString)
		if c.name == "day" {
			typ = tDate
		}
		if c.name == "renamed" {
			typ = arrow.ListOf(tString)
		}
		wider := arrow.NewSchema(append(slices.Clone(schema.Fields()), nullable(c.name, typ)), nil)
		cfg.Columns[c.name] = c.Column
		if _, err := decode.NewPlan(wider, cfg); err != nil {
			delete(cfg.Columns, c.name)
			continue
		}
		schema = wider
	}
	return schema, cfg
}

// FuzzRollback decodes good, fuzzed, good, and wants each row as if it had been decoded alone.
func FuzzRollback(f *testing.F) {
	for seed := range uint64(60) {
		schema := schemaOf(seed)
		f.Add(seed, []byte(newGenerator(seed+2e6).object(schema.Fields(), 6)))
	}
	f.Fuzz(func(t *testing.T, seed uint64, message []byte) {
		seed %= 512
		schema, cfg := withComputed(schemaOf(seed))
		g := newGenerator(seed + 3e6)
		d := newDecoder(t, schema, cfg)
		var want []string
		appendTo := func(message []byte) {
			alone := newDecoder(t, schema, cfg)
			rec := &kgo.Record{Value: message}
			errAlone := alone.Append(rec)
			if err := d.Append(rec); (err == nil) != (errAlone == nil) {
				t.Fatalf("message %q: in a batch %v, alone %v", message, err, errAlone)
			}
			batch := alone.NewBatch()
			want = append(want, renderRows(batch)...)
			batch.Release()
		}
		for range 2 { // the second batch uses the first one's buffers
			want = nil
			appendTo([]byte(g.object(schema.Fields(), 1000)))
			appendTo(message)
			appendTo([]byte(g.object(schema.Fields(), 1000)))
			appendTo(message)
			appendTo([]byte(g.object(schema.Fields(), 1000)))
			if d.Rows() != len(want) {
				t.Fatalf("%d rows, want %d", d.Rows(), len(want))
			}
			batch := d.NewBatch()
			got := renderRows(batch)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("message %q\nschema %v\nrow %d\ngot  %s\nwant %s", message, schema, i, got[i], want[i])
				}
			}
			batch.Release()
		}
	})
}
