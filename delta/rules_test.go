package delta_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	memstore "kafkadelta/storage/memory"
)

// ruled is a table with rules of every kind, as Spark writes them.
func ruled(t testing.TB, configuration string) *delta.Table {
	t.Helper()
	field := func(name, kind string, metadata ...string) string {
		return fmt.Sprintf(`{"name":%q,"type":%q,"nullable":true,"metadata":{%s}}`, name, kind, strings.Join(metadata, ","))
	}
	schema := `{"type":"struct","fields":[` + strings.Join([]string{
		field("a", "integer", `"delta.invariants":"{\"expression\":{\"expression\":\"a < 1000\"}}"`),
		field("b", "string", `"CURRENT_DEFAULT":"'none'"`),
		field("ts", "timestamp"),
		field("day", "date", `"delta.generationExpression":"CAST(ts AS DATE)"`),
		field("twice", "long", `"delta.generationExpression":"a * 2L"`),
		field("at", "timestamp", `"CURRENT_DEFAULT":"current_timestamp()"`),
	}, ",") + `]}`
	s := memstore.New()
	p := strings.Replace(protocol(1, 7), "}}", `,"writerFeatures":["invariants","checkConstraints","generatedColumns","allowColumnDefaults"]}}`, 1)
	putLog(t, s, 0, p, metadata(schema, configuration, "day"))
	return open(t, s, newClock())
}

func rulesOf(t testing.TB, table *delta.Table) *delta.Rules {
	t.Helper()
	check(t, table.CheckAppend())
	rules, err := table.Rules(newClock().now)
	check(t, err)
	return rules
}

func TestRules(t *testing.T) {
	table := ruled(t, `{"delta.constraints.positive":"a > 0 AND b <> 'bad'"}`)
	rules := rulesOf(t, table)
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })

	const good = `{"a":1,"b":"x","ts":"2020-02-29T23:59:59Z"}, {"a":2,"b":"x","ts":null}, {"a":3,"b":"x","ts":"1969-12-31T00:00:00Z","day":"1969-12-31","twice":6}`
	rb := rowsOf(t, mem, table.Schema(), "["+good+"]")
	out, bad := rules.Apply(rb)
	if bad != nil {
		t.Fatal(bad)
	}
	for column, want := range map[string]string{"day": `["2020-02-29",null,"1969-12-31"]`, "twice": "[2,4,6]", "a": "[1,2,3]"} {
		got, err := out.Column(table.Schema().FieldIndices(column)[0]).MarshalJSON()
		check(t, err)
		if string(got) != want {
			t.Errorf("%s is %s, want %s", column, got, want)
		}
	}
	out.Release()

	for _, c := range []struct{ row, want string }{
		{`{"a":0,"b":"x"}`, "a, b the CHECK constraint positive (a > 0 AND b <> 'bad') is FALSE"},
		{`{"a":1,"b":null}`, "a, b the CHECK constraint positive (a > 0 AND b <> 'bad') is NULL"},
		{`{"a":1000,"b":"x"}`, "a the invariant of column a (a < 1000) is FALSE"},
		{`{"a":1,"b":"x","ts":"2020-02-29T00:00:00Z","day":"2020-03-01"}`, "day the value differs from the generation expression CAST(ts AS DATE)"},
		{`{"a":1,"b":"x","ts":null,"day":"2020-03-01"}`, "day the value differs"},
		{`{"a":1,"b":"x","twice":3}`, "twice the value differs"},
		{`{"a":0,"b":"x","twice":3,"ts":"2020-02-29T00:00:00Z"}`, "twice the value differs"}, // one violation for a row
	} {
		rb := rowsOf(t, mem, table.Schema(), "["+good+","+c.row+"]")
		out, bad := rules.Apply(rb)
		if out != nil {
			t.Errorf("%s: there is a batch besides the violation", c.row)
			out.Release()
		}
		compareViolations(t, bad, []string{"3 " + c.want})
	}
}

// TestRulesSeeWhatReadersGet: an empty value of a partition column reads as null, and a constraint is about that.
func TestRulesSeeWhatReadersGet(t *testing.T) {
	schema := `{"type":"struct","fields":[{"name":"a","type":"integer","nullable":true,"metadata":{}},{"name":"b","type":"string","nullable":true,"metadata":{}},` +
		`{"name":"c","type":"binary","nullable":true,"metadata":{}},{"name":"d","type":"string","nullable":true,"metadata":{"delta.invariants":"{\"expression\":{\"expression\":\"d <> 'x' OR a = 1\"}}"}}]}`
	s := memstore.New()
	putLog(t, s, 0, protocol(1, 3), metadata(schema, `{"delta.constraints.set":"b IS NOT NULL","delta.constraints.bytes":"c IS NOT NULL","delta.constraints.any":"length(b) >= 0 OR a = 2"}`, "b", "c", "d"))
	table := open(t, s, newClock())
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	all := rowsOf(t, mem, table.Schema(), `[{"b":"","c":""},{"a":1,"b":"y","c":"eA==","d":"z"},{"a":2,"b":"","c":"eA==","d":"z"},{"a":1,"b":"y","c":"","d":"z"},{"b":"y","c":"eA==","d":""},{"b":null,"c":"eA==","d":"z"}]`)
	rb := all.NewSlice(1, 6)
	out, bad := rulesOf(t, table).Apply(rb)
	rb.Release()
	if out != nil {
		out.Release()
		t.Error("there is a batch besides the violations")
	}
	compareViolations(t, bad, []string{
		"1 b the CHECK constraint set (b IS NOT NULL) is FALSE",
		"2 c the CHECK constraint bytes (c IS NOT NULL) is FALSE",
		"3 a, d the invariant of column d (d <> 'x' OR a = 1) is NULL",
		"4 a, b the CHECK constraint any (length(b) >= 0 OR a = 2) is NULL",
	})
	rb = all.NewSlice(1, 2)
	out, bad = rulesOf(t, table).Apply(rb)
	rb.Release()
	compareViolations(t, bad, nil)
	out.Release()
}

func TestRulesThatFail(t *testing.T) {
	table := ruled(t, `{"delta.constraints.c":"100 / a >= 0 OR b = 'x'"}`)
	rb := rowsOf(t, memory.NewGoAllocator(), table.Schema(), `[{"a":0},{"a":1},{"a":0,"b":"x"},{"a":null},{"a":null,"b":"x"}]`)
	_, bad := rulesOf(t, table).Apply(rb)
	compareViolations(t, bad, []string{
		"0 a, b the CHECK constraint c (100 / a >= 0 OR b = 'x') fails: division by zero",
		"2 a, b the CHECK constraint c (100 / a >= 0 OR b = 'x') fails: division by zero", // Spark evaluates the left side first
		"3 a the invariant of column a (a < 1000) is NULL",                                // invariants come first
		"4 a the invariant of column a (a < 1000) is NULL",
	})
}

// TestRulesWithoutWork shows that a batch is given back as it is where nothing is to be computed.
func TestRulesWithoutWork(t *testing.T) {
	table := ruled(t, "")
	rb := rowsOf(t, memory.NewGoAllocator(), table.Schema(), `[{"a":1,"ts":"2020-02-29T00:00:00Z","day":"2020-02-29","twice":2}]`)
	out, bad := rulesOf(t, table).Apply(rb)
	if bad != nil || out != rb {
		t.Errorf("%v, the same batch: %v", bad, out == rb)
	}
	out.Release()
}

func TestDefaults(t *testing.T) {
	rules := rulesOf(t, ruled(t, ""))
	d := rules.Defaults()
	if len(d) != 2 || d[0].Column != 1 || d[1].Column != 5 {
		t.Fatalf("defaults %v, want those of the columns 1 and 5", d)
	}
	b, now := d[0].Value().(*array.String), d[1].Value().(*array.Timestamp)
	if b.Value(0) != "none" || now.Value(0) != arrow.Timestamp(newClock().now().UnixMicro()) && now.Value(0) <= 0 {
		t.Errorf("the defaults are %v and %v", b, now)
	}
}

func TestRulesEqual(t *testing.T) {
	a, b, c := rulesOf(t, ruled(t, "")), rulesOf(t, ruled(t, "")), rulesOf(t, ruled(t, `{"delta.constraints.c":"a > 0"}`))
	if !a.Equal(b) || a.Equal(c) {
		t.Error("rules are not told apart by their expressions")
	}
}

func TestGeneratedColumnReadsAnother(t *testing.T) {
	schema := `{"type":"struct","fields":[{"name":"a","type":"integer","nullable":true,"metadata":{}},
		{"name":"b","type":"integer","nullable":true,"metadata":{"delta.generationExpression":"a + 1"}},
		{"name":"c","type":"integer","nullable":true,"metadata":{"delta.generationExpression":"b + 1"}}]}`
	s := memstore.New()
	putLog(t, s, 0, protocol(1, 4), metadata(schema, ""))
	if err := open(t, s, newClock()).CheckAppend(); err == nil || !strings.Contains(err.Error(), "reads the generated column b") {
		t.Errorf("%v, want a refusal", err)
	}
}

func BenchmarkRules(b *testing.B) {
	for _, c := range []struct{ name, configuration, day string }{
		{"check", `{"delta.constraints.c":"a > 0 AND b IS NOT NULL"}`, "given"},
		{"generated", "", "null"},
	} {
		b.Run(c.name, func(b *testing.B) {
			field := func(name, kind, metadata string) string {
				return fmt.Sprintf(`{"name":%q,"type":%q,"nullable":true,"metadata":{%s}}`, name, kind, metadata)
			}
			generation := `"delta.generationExpression":"CAST(ts AS DATE)"`
			if c.day == "given" {
				generation = ""
			}
			s := memstore.New()
			putLog(b, s, 0, protocol(1, 4), metadata(`{"type":"struct","fields":[`+field("a", "integer", "")+","+field("b", "string", "")+","+
				field("ts", "timestamp", "")+","+field("day", "date", generation)+"]}", c.configuration))
			table := open(b, s, newClock())
			rules := rulesOf(b, table)
			rb := array.NewRecordBuilder(memory.NewGoAllocator(), table.Schema())
			defer rb.Release()
			for i := range 8192 {
				rb.Field(0).(*array.Int32Builder).Append(int32(i + 1))
				rb.Field(1).(*array.StringBuilder).Append("x")
				rb.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(i) * 1e9)
				rb.Field(3).AppendNull()
			}
			batch := rb.NewRecordBatch()
			defer batch.Release()
			b.ReportAllocs()
			for b.Loop() {
				out, bad := rules.Apply(batch)
				if bad != nil {
					b.Fatal(bad)
				}
				out.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8192, "ns/row")
		})
	}
}
