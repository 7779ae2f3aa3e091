package delta_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

func TestCheckAppend(t *testing.T) {
	plain := ddl(t, "a INT, s STRUCT<b: INT>")
	with := func(key, value string) string {
		return strings.Replace(plain, `"name":"b","type":"integer","nullable":true,"metadata":{}`, `"name":"b","type":"integer","nullable":true,"metadata":{"`+key+`":`+value+`}`, 1)
	}
	invariantOf := func(text string) string {
		return with("delta.invariants", `"{\"expression\":{\"expression\":\"`+text+`\"}}"`)
	}
	invariant := invariantOf("transform(s.b)")
	features := func(reader int, readers, writers string) string {
		return strings.Replace(protocol(reader, 7), "}}", `,"readerFeatures":[`+readers+`],"writerFeatures":[`+writers+`]}}`, 1)
	}
	const all = `"appendOnly","invariants","checkConstraints","generatedColumns","changeDataFeed","columnMapping","identityColumns","allowColumnDefaults","timestampNtz","deletionVectors","domainMetadata","vacuumProtocolCheck","inCommitTimestamp"`
	for _, c := range []struct {
		name, protocol, schema, configuration string
		refused                               []string
		detail                                string
	}{
		{"writer 1 knows no invariants", protocol(1, 1), invariant, "", nil, ""},
		{"writer 2", protocol(1, 2), plain, `{"delta.appendOnly":"true"}`, nil, ""},
		{"invariant", protocol(1, 2), invariant, "", []string{"invariants"}, "the invariant of column s.b: expression \"transform(s.b)\", at character 1: the function transform is not understood"},
		{"invariant that is understood", protocol(1, 2), invariantOf("s.b > 3"), "", nil, ""},
		{"invariant that is no JSON", protocol(1, 2), with("delta.invariants", `"b > 3"`), "", []string{"invariants"}, "the invariant of column s.b: invalid"},
		{"writer 3 without constraints", protocol(1, 3), plain, "", nil, ""},
		{"writer 2 knows no constraints", protocol(1, 2), plain, `{"delta.constraints.x":"a > 1"}`, nil, ""},
		{"constraint", protocol(1, 3), plain, `{"delta.constraints.x":"a > 1","delta.constraints.Y":"a"}`, []string{"checkConstraints"}, "the CHECK constraint Y: expression \"a\", at character 1: it is INT, and BOOLEAN is wanted"},
		{"constraints that are understood", protocol(1, 3), plain, `{"delta.constraints.x":"a > 1 AND s.b IS NOT NULL","Delta.Constraints.y":"A < 2"}`, nil, ""},
		{"constraint on no column", protocol(1, 3), plain, `{"delta.constraints.x":"c > 1"}`, []string{"checkConstraints"}, "there is no column c"},
		{"change data feed", protocol(1, 4), plain, `{"delta.enableChangeDataFeed":"true"}`, nil, ""},
		{"generation expression", protocol(1, 4), with("delta.generationExpression", `"a + 1"`), "", []string{"generatedColumns"}, "the field s.b has a generation expression"},
		{"column mapping off", protocol(2, 5), plain, `{"delta.columnMapping.mode":"none"}`, nil, ""},
		{"column mapping", protocol(2, 5), plain, `{"delta.columnMapping.mode":"name"}`, []string{"columnMapping"}, "column a has no id or no physical name"},
		{"column mapping without the protocol for it", protocol(1, 2), plain, `{"delta.columnMapping.mode":"name"}`, nil, ""},
		{"identity", protocol(1, 6), with("delta.identity.step", "1"), "", []string{"identityColumns"}, "column s.b has an identity"},
		{"several", protocol(2, 6), invariant, `{"delta.constraints.x":"a > udf(1)","delta.columnMapping.mode":"id"}`, []string{"invariants", "checkConstraints", "columnMapping"}, "column a has no id"},
		{"all honoured features, none used", features(3, `"columnMapping","timestampNtz","deletionVectors","vacuumProtocolCheck"`, all), plain, "", nil, ""},
		{"a default", features(1, "", all), with("CURRENT_DEFAULT", `"3"`), "", []string{"allowColumnDefaults"}, "the field s.b has a default"},
		{"unlisted feature is not active", features(1, "", `"appendOnly"`), invariant, `{"delta.constraints.x":"a"}`, nil, ""},
		{"features that are unknown", features(3, `"typeWidening","fromMars"`, `"appendOnly","rowTracking","typeWidening","fromVenus","fromMars","domainMetadata"`), plain, "", []string{"fromVenus", "fromMars"}, "lists fromVenus, and what it asks of writers is unknown"},
		{"a known feature's name in another case is unknown", features(1, "", `"AppendOnly"`), plain, "", []string{"AppendOnly"}, "unknown"},
		{"an unknown mapping mode", protocol(2, 5), plain, `{"delta.columnMapping.mode":"both"}`, []string{"columnMapping"}, "mode is both"},
		{"from the future", protocol(4, 9), plain, "", []string{"writer version 9"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memory.New()
			p := c.protocol
			if c.name == "from the future" {
				p = protocol(1, 9)
			}
			putLog(t, s, 0, p, metadata(c.schema, c.configuration))
			err := open(t, s, newClock()).CheckAppend()
			if c.refused == nil {
				check(t, err)
				return
			}
			var e *delta.UnsupportedError
			if !errors.As(err, &e) || !slices.Equal(e.Features, c.refused) || !strings.Contains(e.Detail, c.detail) || e.Remedy == "" {
				t.Errorf("%v, want %v refused: %s", err, c.refused, c.detail)
			}
		})
	}
}

// Every attempt of every commit asks whether the table can be appended to, so the answer is kept until a commit may change it.
func TestCheckAppendIsKeptUntilTheTableChanges(t *testing.T) {
	s := memory.New()
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["checkConstraints","clustering","domainMetadata"]}}`,
		metadata(ddl(t, "a INT, b INT"), `{"delta.constraints.x":"a > 1 AND b < 5"}`))
	table := open(t, s, newClock())
	check(t, table.CheckAppend())
	if n := testing.AllocsPerRun(10, func() { check(t, table.CheckAppend()) }); n > 0 {
		t.Errorf("asked again, it allocates %v times", n)
	}
	version := int64(0)
	for _, step := range []struct {
		line string
		ok   bool
	}{
		{`{"txn":{"appId":"x","version":1}}`, true},
		{metadata(ddl(t, "a INT, b INT"), `{"delta.constraints.x":"c > 1"}`), false},
		{metadata(ddl(t, "a INT, c INT"), `{"delta.constraints.x":"c > 1"}`), true},
		{domain("delta.clustering", "?"), false},
		{domain("delta.clustering", `{"clusteringColumns":[["a"]]}`), true},
		{`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["fromMars"]}}`, false},
	} {
		version++
		putLog(t, s, version, step.line)
		_, err := table.Next(ctx)
		check(t, err)
		if err := table.CheckAppend(); (err == nil) != step.ok {
			t.Errorf("after %s: %v", step.line, err)
		}
	}
}
