package delta_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

// lengthSchema is what Spark 4.0 writes for v VARCHAR(3), c CHAR(5), a ARRAY<VARCHAR(2)>, m MAP<VARCHAR(2), CHAR(3)>,
// s STRUCT<v: VARCHAR(2), n: INT, d: DECIMAL(10,2), w: STRING>, of which w was added later.
const lengthSchema = `{"type":"struct","fields":[
	{"name":"v","type":"string","nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"varchar(3)"}},
	{"name":"c","type":"string","nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"char(5)"}},
	{"name":"a","type":{"type":"array","elementType":"string","containsNull":true},"nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"array<varchar(2)>"}},
	{"name":"m","type":{"type":"map","keyType":"string","valueType":"string","valueContainsNull":true},"nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"map<varchar(2),char(3)>"}},
	{"name":"s","type":{"type":"struct","fields":[{"name":"v","type":"string","nullable":true,"metadata":{}},{"name":"n","type":"integer","nullable":true,"metadata":{}},
		{"name":"d","type":"decimal(10,2)","nullable":true,"metadata":{}},{"name":"w","type":"string","nullable":true,"metadata":{}}]},"nullable":true,
		"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"struct<v:varchar(2),n:int,d:decimal(10,2)>"}}]}`

func TestLengths(t *testing.T) {
	table := tableOf(t, lengthSchema)
	check(t, table.CheckAppend())
	rules := rowCheckOf(t, table)
	for _, c := range []struct{ row, want string }{
		{`{}`, ""},
		{`{"v":"äöü","c":"äöüßé","a":["äö",null,"",""],"m":[{"key":"äö","value":"äöü"},{"key":"","value":null}],"s":{"v":"äö","w":"as long as it likes"}}`, ""},
		{`{"v":"😀😀😀","c":"ab"}`, ""}, // code points; Spark pads c when it reads
		{`{"v":"abcd"}`, "v VARCHAR(3): the value has 4 characters; send a shorter one"},
		{`{"v":"äöüß"}`, "v VARCHAR(3): the value has 4 characters"},
		{`{"v":"abc "}`, "v VARCHAR(3): the value has 4 characters"},
		{`{"c":"abcdef"}`, "c CHAR(5): the value has 6 characters"},
		{`{"a":["ab",null,"abc"]}`, "a.element VARCHAR(2): the value has 3 characters"},
		{`{"m":[{"key":"abc","value":"a"}]}`, "m.key VARCHAR(2): the value has 3 characters"},
		{`{"m":[{"key":"a","value":"abcd"}]}`, "m.value CHAR(3): the value has 4 characters"},
		{`{"s":{"v":"abc"}}`, "s.v VARCHAR(2): the value has 3 characters"},
	} {
		rb := rowsOf(t, memory.NewGoAllocator(), table.Schema(), `[{"v":"a"},`+c.row+`]`)
		var want []string
		if c.want != "" {
			want = []string{"1 " + c.want}
		}
		compareViolations(t, rules(rb), want)
	}
}

// TestLengthsAdded shows that rows that were checked by an older length are not taken for the newer one.
func TestLengthsAdded(t *testing.T) {
	before := rulesOf(t, tableOf(t, lengthSchema))
	after := rulesOf(t, tableOf(t, strings.Replace(lengthSchema, "array<varchar(2)>", "array<varchar(1)>", 1)))
	if before.Equal(after) || before.Added(after) != "the length of a.element VARCHAR(1)" {
		t.Errorf("added is %q", before.Added(after))
	}
}

func TestLengthsThatCannotBeRead(t *testing.T) {
	const of = `{"type":"struct","fields":[
		{"name":"n","type":"integer","nullable":true,"metadata":{%s}},
		{"name":"v","type":"string","nullable":true,"metadata":{%s}},
		{"name":"s","type":{"type":"struct","fields":[{"name":"v","type":"string","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{%s}}]}`
	for _, c := range []struct {
		column int
		text   string
		want   string // "" where it is taken
	}{
		{1, `"varchar(7)"`, ""},
		{1, `"VarChar( 7 )"`, ""},
		{1, `"string collate UTF8_LCASE"`, ""},
		{1, `"interval day to second"`, ""},
		{1, `null`, ""},
		{2, `"struct<old name:varchar(2)>"`, "expected ':'"},
		{2, "\"struct<`old name`:varchar(2)>\"", ""},
		{0, `"varchar(7)"`, "the table has a int32 here"},
		{1, `7`, "is no string: 7"},
		{1, `""`, "expected a type"},
		{1, `"varchar"`, "expected '(' and a length"},
		{1, `"varchar(x)"`, "expected a number"},
		{1, `"varchar(99999999999)"`, "expected a number"},
		{1, `"varchar(7"`, "expected ')'"},
		{1, `"varchar(7) collate UTF8_LCASE"`, "expected the end"},
		{1, `"decimal(x)"`, "expected a number"},
		{1, `"decimal(10,2"`, "expected ')'"},
		{1, `"array<varchar(7)>"`, "the table has a utf8 here"},
		{1, `"` + strings.Repeat("array<", 200) + `"`, "the table has a utf8 here"},
		{2, `"struct<v:varchar(2),w:int>"`, "the table has 1 fields here"},
		{2, `"struct<>"`, "expected a field's name"},
		{2, `"struct"`, "expected '<'"},
		{2, `"struct<v:varchar(2);"`, "expected ',' or '>'"},
	} {
		t.Run(c.text, func(t *testing.T) {
			metadatas := []any{"", "", ""}
			metadatas[c.column] = `"__CHAR_VARCHAR_TYPE_STRING":` + c.text
			table := tableOf(t, fmt.Sprintf(of, metadatas...))
			err := table.CheckAppend()
			if c.want == "" {
				check(t, err)
				return
			}
			var refused *delta.UnsupportedError
			name := []string{"n", "v", "s"}[c.column]
			if !errors.As(err, &refused) || !strings.Contains(refused.Detail, "column "+name+": ") || !strings.Contains(refused.Detail, c.want) {
				t.Fatalf("the append is refused with %v, want column %s and %s", err, name, c.want)
			}
			if _, err := table.Rules(newClock().now); err == nil {
				t.Error("there are rules")
			}
		})
	}
}
