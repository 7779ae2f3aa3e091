package pipeline

import (
	"testing"

	"kafkadelta/delta"
)

// TestWhatNamesTablesIsSpelledForEver: a txn of the catalog stands for the text. Types that spell equal values alike are one word.
func TestWhatNamesTablesIsSpelledForEver(t *testing.T) {
	for ddl, want := range map[string]string{
		"a TINYINT": "integer", "a SMALLINT": "integer", "a INT": "integer", "a BIGINT": "integer", "a STRING": "text", "a BINARY": "bytes", "a BOOLEAN": "boolean",
		"a FLOAT": "float", "a DOUBLE": "double", "a DATE": "date", "a TIMESTAMP": "timestamp", "a TIMESTAMP_NTZ": "timestamp without a zone",
		"a DECIMAL(9,2)": "decimal of scale 2", "a DECIMAL(18,2)": "decimal of scale 2", "a DECIMAL(18,3)": "decimal of scale 3",
	} {
		schema, err := delta.ParseDDL(ddl)
		if err != nil {
			t.Fatal(err)
		}
		got, err := routeText([]RoutePart{{Header: "h"}, {Field: []string{"a"}}}, schema)
		if want := "{header:h} as bytes, {field:a} as " + want; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", ddl, got, err, want)
		}
	}
}
