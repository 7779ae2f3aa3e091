package jsonschema

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// generator makes random JSON Schemas.
type generator struct{ *rand.Rand }

var words = []string{"string", "integer", "number", "boolean", "null", "array", "object"}

// schema is one of any kind, with more than one keyword where that comes.
func (g generator) schema(depth int) any {
	if g.IntN(20) == 0 {
		return g.IntN(2) == 0
	}
	s := map[string]any{}
	switch word := words[g.IntN(len(words))]; g.IntN(6) {
	case 0: // of any type
	case 1:
		s["type"] = []string{word, words[g.IntN(len(words))]}[:1+g.IntN(2)]
		if of := s["type"].([]string); len(of) == 2 && of[0] == of[1] {
			s["type"] = of[0]
		}
	default:
		s["type"] = word
	}
	if depth <= 0 {
		return s
	}
	for range g.IntN(3) {
		g.keyword(s, depth-1)
	}
	return s
}

func (g generator) keyword(s map[string]any, depth int) {
	switch g.IntN(12) {
	case 0, 1, 2:
		s["items"] = g.schema(depth)
	case 3, 4, 5:
		properties := map[string]any{}
		for range g.IntN(4) {
			properties[fmt.Sprint("f", g.IntN(10))] = g.schema(depth)
		}
		s["properties"] = properties
	case 6, 7:
		s["additionalProperties"] = g.schema(depth)
	case 8:
		s[[]string{"anyOf", "oneOf", "allOf"}[g.IntN(3)]] = []any{g.schema(depth), g.schema(depth)}[:1+g.IntN(2)]
	case 9:
		s["$ref"] = []string{"#", "#/$defs/a", "#/$defs/b"}[g.IntN(3)]
	case 10:
		s["enum"] = []any{[]any{"x", 1, 2.5, nil, true, []any{}, map[string]any{}}[g.IntN(7)], nil}[:1+g.IntN(2)]
	default:
		s["format"] = []string{"date", "date-time", "uuid"}[g.IntN(3)]
	}
}

// FuzzTableSchema: a JSON Schema of any kind has columns that a table can have, or is refused by the name of a field. Where all that it lets be refused is given,
// nothing of it is.
func FuzzTableSchema(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		main := g.schema(4)
		if s, ok := main.(map[string]any); ok {
			s["type"] = "object"
			s["$defs"] = map[string]any{"a": g.schema(2), "b": g.schema(2)}
			if s["properties"] == nil {
				s["properties"] = map[string]any{"f0": g.schema(3), "f1": g.schema(3)}
			}
		}
		raw, err := json.Marshal(main)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		schema, err := TableSchema(text)
		refused := err != nil
		switch {
		case refused && !strings.HasPrefix(err.Error(), "field ") && !strings.Contains(err.Error(), "names no properties"):
			t.Fatalf("%s: %v", text, err)
		case !refused:
			usable(t, text, schema)
		}
		given, err := MessageSchema(func(string) bool { return true }, text)
		switch {
		case err != nil && !refused:
			t.Fatalf("%s: %v, which some fields being given has brought", text, err)
		case err == nil && !refused && !schema.Equal(given):
			t.Fatalf("%s: %s, and %s where fields are given", text, schema, given)
		}
		if column, err := ColumnSchema("c", nil, text); err == nil {
			usable(t, text, Columns(column))
		}
	})
}

func usable(t *testing.T, text string, s *arrow.Schema) {
	t.Helper()
	if _, err := decode.NewPlan(s, decode.Config{}); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
