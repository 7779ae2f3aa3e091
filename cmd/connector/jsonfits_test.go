package main

import (
	"errors"
	"fmt"
	"slices"
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

// TestJSONKeyFits: the word of a plan for keys of maps of one type in a column with keys of another is what the decoder makes of such keys' texts.
func TestJSONKeyFits(t *testing.T) {
	types := []string{"STRING", "TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(5,1)", "BOOLEAN", "BINARY", "DATE", "TIMESTAMP", "TIMESTAMP_NTZ"}
	whole := []string{"7", "-1", "1234"}
	samples := map[string][]string{ // as their producers spell them
		"TINYINT": {"7", "-1"}, "SMALLINT": whole, "INT": whole, "BIGINT": append(slices.Clone(whole), "9007199254740993"), "FLOAT": {"7", "7.5", "NaN", "1234"}, "DOUBLE": {"7", "7.5", "Infinity", "1e300"},
		"DECIMAL(5,1)": {"7", "7.5", "1234"}, "BOOLEAN": {"true", "false"}, "BINARY": {"abcd", "1234", "10e0", "true", "x/8="}, "DATE": {"2021-03-24", "18710", "1234", "7"},
		"TIMESTAMP": {"2021-03-24T10:00:00Z", "2021-03-24 10:00:00", "1616580000000000", "7"}, "TIMESTAMP_NTZ": {"2021-03-24T10:00:00", "1616580000000000", "7"},
	}
	for _, of := range samples {
		samples["STRING"] = append(samples["STRING"], of...)
	}
	key := func(typ string) arrow.DataType {
		table, err := delta.ParseDDL("c MAP<" + typ + ", INT>")
		if err != nil {
			t.Fatal(err)
		}
		return table.Field(0).Type.(*arrow.MapType).KeyType()
	}
	for _, to := range types {
		off := false
		plan, err := decode.NewPlan(arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.MapOf(key(to), arrow.PrimitiveTypes.Int32), Nullable: true}}, nil), decode.Config{Metadata: decode.MetadataConfig{Enabled: &off}})
		if err != nil {
			t.Fatal(err)
		}
		d := json.New(plan)
		for _, from := range types {
			if from == to {
				continue
			}
			var taken []string
			for _, sample := range samples[from] {
				err := d.Append(&kgo.Record{Value: fmt.Appendf(nil, `{"c":{"%s":1}}`, sample)})
				if _, bad := errors.AsType[*decode.PoisonError](err); err != nil && !bad {
					t.Fatal(err)
				}
				if err == nil {
					taken = append(taken, sample)
				}
			}
			switch word := jsonKeyFits(key(to), key(from)); {
			case word == sink.ChangeBreaks && len(taken) > 0, word == sink.ChangeChecks && len(taken) == 0, word == "" && len(taken) < len(samples[from]):
				t.Errorf("%s into %s: %q, and the decoder takes %s of %s", from, to, word, taken, samples[from])
			}
		}
		d.Reset()
	}
}
