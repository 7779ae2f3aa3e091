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
	invariant := with("delta.invariants", `"{\"expression\":{\"expression\":\"b > 3\"}}"`)
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
		{"invariant", protocol(1, 2), invariant, "", []string{"invariants"}, "column s.b has an invariant"},
		{"writer 3 without constraints", protocol(1, 3), plain, "", nil, ""},
		{"writer 2 knows no constraints", protocol(1, 2), plain, `{"delta.constraints.x":"a > 1"}`, nil, ""},
		{"constraint", protocol(1, 3), plain, `{"delta.constraints.x":"a > 1","delta.constraints.y":"a > 2"}`, []string{"checkConstraints"}, "CHECK constraint x, y"},
		{"change data feed", protocol(1, 4), plain, `{"delta.enableChangeDataFeed":"true"}`, nil, ""},
		{"generation expression", protocol(1, 4), with("delta.generationExpression", `"a + 1"`), "", []string{"generatedColumns"}, "column s.b"},
		{"column mapping off", protocol(2, 5), plain, `{"delta.columnMapping.mode":"none"}`, nil, ""},
		{"column mapping", protocol(2, 5), plain, `{"delta.columnMapping.mode":"name"}`, []string{"columnMapping"}, "column a has no id or no physical name"},
		{"column mapping without the protocol for it", protocol(1, 2), plain, `{"delta.columnMapping.mode":"name"}`, nil, ""},
		{"identity", protocol(1, 6), with("delta.identity.step", "1"), "", []string{"identityColumns"}, "column s.b has an identity"},
		{"several", protocol(2, 6), invariant, `{"delta.constraints.x":"a","delta.columnMapping.mode":"id"}`, []string{"invariants", "checkConstraints", "columnMapping"}, "column a has no id"},
		{"all honoured features, none used", features(3, `"columnMapping","timestampNtz","deletionVectors","vacuumProtocolCheck"`, all), plain, "", nil, ""},
		{"a default", features(1, "", all), with("CURRENT_DEFAULT", `"3"`), "", []string{"allowColumnDefaults"}, "column s.b has a default"},
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
