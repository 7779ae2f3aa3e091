package main

import (
	"errors"
	"strings"
	"testing"

	"kafkadelta/delta"
)

func TestInferSchema(t *testing.T) {
	for name, tt := range map[string]struct{ input, want string }{
		"plain types":               {`{"i":1,"d":1.5,"b":true,"s":"x"}`, "i BIGINT, d DOUBLE, b BOOLEAN, s STRING"},
		"order of first appearance": {`{"b":1}` + "\n" + `{"a":1,"b":2,"c":3}`, "b BIGINT, a BIGINT, c BIGINT"},
		"whole and fraction":        {`{"a":1,"b":1.5}` + "\n" + `{"a":1.5,"b":1}`, "a DOUBLE, b DOUBLE"},
		"written as a fraction":     {`{"a":7.0,"b":1e3}`, "a DOUBLE, b DOUBLE"},
		"null and later a value":    {`{"a":null,"b":null}` + "\n" + `{"a":1}`, "a BIGINT, b STRING"},
		"nested":                    {`{"a":{"b":{"c":1}}}` + "\n" + `{"a":{"d":"x"}}`, "a STRUCT<b: STRUCT<c: BIGINT>, d: STRING>"},
		"arrays":                    {`{"a":[1,2.5,null],"b":[[true]],"c":[{"x":1},{"y":2}]}`, "a ARRAY<DOUBLE>, b ARRAY<ARRAY<BOOLEAN>>, c ARRAY<STRUCT<x: BIGINT, y: BIGINT>>"},
		"nothing in it":             {`{"a":[],"b":{},"c":[null],"d":[{}]}`, "a ARRAY<STRING>, b STRING, c ARRAY<STRING>, d ARRAY<STRING>"},
		"no dates are guessed":      {`{"a":"2026-01-01","b":"12"}`, "a STRING, b STRING"},
		"odd names":                 {"{\"a.b\":1,\"c`d\":1,\"order\":1,\"ü\":1}", "`a.b` BIGINT, `c``d` BIGINT, order BIGINT, `ü` BIGINT"},
		"the same key twice":        {`{"a":1,"a":2}`, "a BIGINT"},
		"an array of messages":      {`[{"a":1},{"b":"x"}]`, "a BIGINT, b STRING"},
		"largest BIGINT":            {`{"a":9223372036854775807}`, "a BIGINT"},
	} {
		t.Run(name, func(t *testing.T) {
			schema, err := inferSchema("in", messages(strings.NewReader(tt.input)))
			if err != nil {
				t.Fatal(err)
			}
			if got := delta.FormatDDL(schema); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestInferSchemaRefuses(t *testing.T) {
	many := strings.Repeat("[", maxInferredDepth+1) + strings.Repeat("]", maxInferredDepth+1)
	var wide strings.Builder
	for i := range maxInferredFields + 1 {
		wide.WriteString(`{"m":{"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `":1}}` + "\n")
	}
	for name, tt := range map[string]struct{ input, want string }{
		"number and text":   {`{"a":1}` + "\n" + `{"a":"x"}`, `in, line 2: column a: type_mismatch: "x", but the field is BIGINT since line 1`},
		"deep inside":       {`{"a":[{"b":1}]}` + "\n" + `{"a":[{"b":2},{"b":true}]}`, "line 2: column a.element.b: type_mismatch: true"},
		"object and array":  {`{"a":{}}` + "\n\n" + `{"a":[]}`, "line 3: column a: type_mismatch: an array, but the field is STRUCT since line 1"},
		"beyond BIGINT":     {`{"a":9223372036854775808}`, "line 1: column a: out_of_range"},
		"too deep":          {`{"a":` + many + `}`, "too_deep"},
		"keys that are ids": {wide.String(), "MAP"},
		"cut off":           {`{"a":1`, "line 1: invalid_json"},
		"no object":         {`[1]`, "element 1: type_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inferSchema("in", messages(strings.NewReader(tt.input)))
			if !errors.As(err, new(*rowError)) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func FuzzInferSchema(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":null}]}`, `[{"a":1},{"a":2.5}]`, `{"a":{}}` + "\n" + `{"a":{"` + "`" + `":true}}`, `{"":1}`, "[", `{"a":1}{`, "{\"a\":\"\xff\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		schema, err := inferSchema("in", messages(strings.NewReader(input)))
		if err != nil || schema == nil {
			return
		}
		again, err := delta.ParseDDL(delta.FormatDDL(schema))
		if err != nil || !again.Equal(schema) {
			t.Fatalf("the schema %s does not read as itself: %v", delta.FormatDDL(schema), err)
		}
	})
}
