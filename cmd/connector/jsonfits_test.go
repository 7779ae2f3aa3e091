package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
	"kafkadelta/decode/json"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// TestJSONFits: the word of a plan for a column and the values of a JSON Schema is what the decoder makes of such values.
func TestJSONFits(t *testing.T) {
	for schema, samples := range map[string][]string{
		`{"type":"string"}`:                                           {`"x"`, `""`, `"17"`, `"NaN"`, `"abcd"`, `"2021-03-24"`, `"2021-03-24T10:00:00"`},
		`{"type":"string","format":"date"}`:                           {`"2021-03-24"`},
		`{"type":"string","format":"date-time"}`:                      {`"2021-03-24T10:00:00Z"`, `"2021-03-24T10:00:00"`},
		`{"type":"string","contentEncoding":"base64"}`:                {`"abcd"`, `"1234"`, `"Infinity"`, `""`},
		`{"type":"integer"}`:                                          {`7`, `-1`, `9007199254740993`},
		`{"type":"number"}`:                                           {`7`, `7.5`, `1e300`},
		`{"type":"boolean"}`:                                          {`true`, `false`},
		`{"type":"array","items":{"type":"boolean"}}`:                 {`[]`, `[true]`},
		`{"type":"object"}`:                                           {`{}`, `{"x":1}`, `{"x":"a"}`},
		`{"type":"object","properties":{"x":{"type":"boolean"}}}`:     {`{}`, `{"x":true}`},
		`{"type":"object","additionalProperties":{"type":"boolean"}}`: {`{}`, `{"x":true}`},
		`{}`: {`7`, `"x"`, `"2021-03-24"`, `"abcd"`, `true`, `{}`, `[]`, `7.5`},
	} {
		values, err := jsonschema.ValueSchema(nil, `{"type":"object","properties":{"c":`+schema+`}}`)
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range []string{"STRING", "TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(5,1)", "BOOLEAN", "BINARY", "DATE", "TIMESTAMP", "TIMESTAMP_NTZ",
			"STRUCT<x: INT>", "MAP<STRING, INT>", "ARRAY<INT>"} {
			table, err := delta.ParseDDL("c " + typ)
			if err != nil {
				t.Fatal(err)
			}
			off := false
			plan, err := decode.NewPlan(table, decode.Config{Metadata: decode.MetadataConfig{Enabled: &off}})
			if err != nil {
				t.Fatal(err)
			}
			column, value := table.Field(0).Type, values.Field(0).Type
			if column.ID() == value.ID() { // which is no change, or looked at by what is in it
				continue
			}
			d := json.New(plan)
			taken := 0
			for _, sample := range samples {
				err := d.Append(&kgo.Record{Value: fmt.Appendf(nil, `{"c":%s}`, sample)})
				if _, bad := errors.AsType[*decode.PoisonError](err); err != nil && !bad {
					t.Fatal(err)
				}
				if err == nil {
					taken++
				}
			}
			switch word := jsonFits(column, value, true); {
			case word == sink.ChangeBreaks && taken > 0, word == sink.ChangeChecks && taken == 0, word == "" && taken < len(samples):
				t.Errorf("%s into %s: %q, and the decoder takes %d of %s", schema, typ, word, taken, samples)
			}
			d.Reset()
		}
	}
	for name, tt := range map[string]struct {
		column, values arrow.DataType
		want           sink.ChangeKind
	}{
		"instants may be numbers":  {arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Timestamp_us, sink.ChangeChecks},
		"an infinity":              {&arrow.Decimal128Type{Precision: 9}, arrow.PrimitiveTypes.Float64, sink.ChangeChecks},
		"a number, or its text":    {arrow.PrimitiveTypes.Int64, &arrow.Decimal128Type{Precision: 20, Scale: 2}, sink.ChangeChecks},
		"no instant is true":       {arrow.FixedWidthTypes.Boolean, arrow.FixedWidthTypes.Timestamp_us, sink.ChangeBreaks},
		"a text is no number here": {arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String, sink.ChangeBreaks},
	} {
		if got := jsonFits(tt.column, tt.values, false); got != tt.want {
			t.Errorf("without a JSON Schema, %s: %q, want %q", name, got, tt.want)
		}
	}
}
