package delta_test

import (
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

func TestCreateChecksValuesOfProperties(t *testing.T) {
	c := newClock()
	bools, intervals := []string{"yes", "1", "", "true "}, []string{
		"", "30", "days", "interval", "interval 30", "interval -1 days", "interval 1 month", "interval 1 year", "30d", "interval 1.5 days",
		"interval 1 day 2", "a day",
	}
	for _, x := range []struct {
		property, form string
		good, bad      []string
	}{
		{"delta.appendOnly", "true or false", []string{"true", "FALSE"}, bools},
		{"delta.autoOptimize.autoCompact", "true, false, auto or legacy", []string{"true", "auto"}, bools},
		{"delta.autoOptimize.optimizeWrite", "true or false", []string{"true"}, bools},
		{"delta.checkpoint.writeStatsAsJson", "true or false", []string{"true"}, bools},
		{"delta.checkpoint.writeStatsAsStruct", "true or false", []string{"true"}, bools},
		{"delta.checkpointInterval", "a whole number of at least 1", []string{"1", "10"}, []string{"0", "-1", "x", "", "1.5", " 1", "2147483648"}},
		{"delta.checkpointRetentionDuration", `such as "interval 30 days"`, []string{"interval 2 days"}, intervals},
		{"delta.compatibility.symlinkFormatManifest.enabled", "true or false", []string{"true"}, bools},
		{"delta.dataSkippingNumIndexedCols", "a whole number of at least -1", []string{"-1", "0", "32"}, []string{"x", "-2", "", "1e3"}},
		{"delta.dataSkippingStatsColumns", "names of columns", []string{"a, b.c", "`a b`"}, []string{"", " "}},
		{"delta.deletedFileRetentionDuration", "interval 30 days", []string{"interval 1 week", "interval 0 hours"}, intervals},
		{"delta.enableExpiredLogCleanup", "true or false", []string{"false"}, bools},
		{"delta.enableFullRetentionRollback", "true or false", []string{"false"}, bools},
		{"delta.isolationLevel", "Serializable or WriteSerializable", []string{"Serializable", "WriteSerializable"}, []string{"", "SnapshotIsolation", "x"}},
		{"delta.logRetentionDuration", "interval 30 days", []string{"interval 30 days", "30 days", "INTERVAL 1 DAY 12 HOURS", "interval 1.5 seconds", "interval 5 milliseconds"}, intervals},
		{"delta.parquet.compression.codec", "zstd", []string{"zstd", "SNAPPY", "none"}, []string{"", "zip"}},
		{"delta.parquet.format.version", "2.12.0", []string{"1.0.0", "2.12.0"}, []string{"", "2", "v1.0.0"}},
		{"delta.randomizeFilePrefixes", "true or false", []string{"false"}, bools},
		{"delta.randomPrefixLength", "a whole number of at least 1", []string{"2"}, []string{"0", "x"}},
		{"delta.sampleRetentionDuration", "interval 30 days", []string{"interval 7 days"}, intervals},
		{"delta.setTransactionRetentionDuration", "interval 30 days", []string{"interval 365 days"}, intervals},
		{"delta.targetFileSize", "104857600 or 100mb", []string{"104857600", "100mb", "1G"}, []string{"", "0", "0mb", "-1", "mb", "1.5gb", "10 mb", "x"}},
		{"delta.tuneFileSizesForRewrites", "true or false", []string{"false"}, bools},
		{"delta.enableChangeDataFeed", "true or false", []string{"false", "True"}, bools},
		{"delta.enableInCommitTimestamps", "true or false", []string{"false", "true"}, bools},
		{"delta.checkpointPolicy", "classic or v2", []string{"classic", "V2"}, []string{"", "v3"}},
		{"delta.columnMapping.mode", "none, name or id", []string{"none", "name", "ID"}, []string{"", "names"}},
		{"delta.enableDeletionVectors", "true or false", []string{"false", "true"}, bools},
		{"delta.enableIcebergCompatV1", "true or false", []string{"false", "true"}, bools},
		{"delta.enableIcebergCompatV2", "true or false", []string{"false", "true"}, bools},
		{"delta.enableRowTracking", "true or false", []string{"false", "true"}, bools},
		{"delta.enableTypeWidening", "true or false", []string{"false", "true"}, bools},
		{"delta.enableVariantShredding", "true or false", []string{"false"}, bools},
		{"delta.rowTrackingSuspended", "true or false", []string{"false", "true"}, bools},
		{"owner", "", []string{"", "anything"}, nil},
	} {
		options := func(value string) delta.CreateOptions {
			return delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{x.property: value}, Now: c.now}
		}
		for _, value := range x.good {
			if err := delta.CheckCreate(options(value)); err != nil {
				t.Errorf("%s = %q: %v", x.property, value, err)
			}
		}
		for _, value := range x.bad {
			s := memory.New()
			err := delta.Create(ctx, s, options(value))
			if err == nil || !strings.Contains(err.Error(), x.property) || !strings.Contains(err.Error(), `"`+value+`"`) || !strings.Contains(err.Error(), x.form) {
				t.Errorf("%s = %q: %v, want the property, the value and %q", x.property, value, err, x.form)
			}
			for info, err := range s.List(ctx, "", "") {
				t.Errorf("%s = %q: wrote %s, %v", x.property, value, info.Name, err)
			}
		}
	}
}

func TestCreateTellsAllWrongPropertiesAtOnce(t *testing.T) {
	err := delta.CheckCreate(delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Now: newClock().now, Properties: map[string]string{
		"delta.appendOnly": "maybe", "delta.checkpointInterval": "0", "delta.foo": "x", "delta.columnMapping.mode": "names",
	}})
	for _, want := range []string{"delta.appendOnly", "delta.checkpointInterval", "delta.foo", "delta.columnMapping.mode"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
}
