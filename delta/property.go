package delta

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// propertyValue is what a table property may be.
type propertyValue struct {
	form string // as an error tells it
	ok   func(string) bool
}

var (
	anyBool     = oneOf("true or false", "true", "false")
	anyInterval = propertyValue{`an interval without months and years, such as "interval 30 days"`, matching(
		`^(interval +)?\d+(\.\d+ +seconds?| +(weeks?|days?|hours?|minutes?|seconds?|milliseconds?|microseconds?))` +
			`( +\d+(\.\d+ +seconds?| +(weeks?|days?|hours?|minutes?|seconds?|milliseconds?|microseconds?)))*$`)}
)

// knownProperties are Delta's table properties that need nothing of the protocol, in PROTOCOL.md and in the reference
// implementation, with the values that the latter takes: it can't open a table that has another one. A property that
// starts with "delta." and is not known is refused: it is a spelling mistake or a feature.
var knownProperties = map[string]propertyValue{
	"delta.appendOnly":                                  anyBool,
	"delta.autoOptimize.autoCompact":                    oneOf("true, false, auto or legacy", "true", "false", "auto", "legacy"),
	"delta.autoOptimize.optimizeWrite":                  anyBool,
	"delta.checkpoint.writeStatsAsJson":                 anyBool,
	"delta.checkpoint.writeStatsAsStruct":               anyBool,
	"delta.checkpointInterval":                          atLeast(1),
	"delta.checkpointRetentionDuration":                 anyInterval,
	"delta.compatibility.symlinkFormatManifest.enabled": anyBool,
	"delta.dataSkippingNumIndexedCols":                  atLeast(-1),
	"delta.dataSkippingStatsColumns":                    {"names of columns, separated by commas", func(v string) bool { return strings.TrimSpace(v) != "" }},
	"delta.deletedFileRetentionDuration":                anyInterval,
	"delta.enableExpiredLogCleanup":                     anyBool,
	"delta.enableFullRetentionRollback":                 anyBool,
	"delta.isolationLevel":                              oneOf("Serializable or WriteSerializable", "Serializable", "WriteSerializable"),
	"delta.logRetentionDuration":                        anyInterval,
	"delta.parquet.compression.codec": oneOf("a codec such as zstd, snappy or none",
		"none", "uncompressed", "snappy", "gzip", "lzo", "brotli", "lz4", "lz4_raw", "zstd"),
	"delta.parquet.format.version":          {"a version such as 2.12.0", matching(`^\d+\.\d+\.\d+$`)},
	"delta.randomizeFilePrefixes":           anyBool,
	"delta.randomPrefixLength":              atLeast(1),
	"delta.sampleRetentionDuration":         anyInterval,
	"delta.setTransactionRetentionDuration": anyInterval,
	"delta.targetFileSize":                  {"a size above 0 such as 104857600 or 100mb", matching(`^0*[1-9]\d*([kmgtp]b?|b)?$`)},
	"delta.tuneFileSizesForRewrites":        anyBool,
	"delta.enableChangeDataFeed":            anyBool,
	"delta.enableInCommitTimestamps":        anyBool,
}

// neutralProperties ask for a feature unless they have this value.
var neutralProperties = map[string]string{
	"delta.columnMapping.mode": "none", "delta.checkpointPolicy": "classic", "delta.enableDeletionVectors": "false",
	"delta.enableRowTracking": "false", "delta.enableTypeWidening": "false", "delta.enableVariantShredding": "false",
	"delta.enableIcebergCompatV1": "false", "delta.enableIcebergCompatV2": "false",
}

func oneOf(form string, values ...string) propertyValue {
	return propertyValue{form, func(v string) bool {
		return slices.ContainsFunc(values, func(allowed string) bool { return strings.EqualFold(allowed, v) })
	}}
}

func atLeast(least int64) propertyValue {
	return propertyValue{fmt.Sprintf("a whole number of at least %d", least), func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 32)
		return err == nil && n >= least
	}}
}

// matching does not tell upper from lower case, as Delta does not.
func matching(pattern string) func(string) bool {
	return regexp.MustCompile("(?i)" + pattern).MatchString
}

func checkProperties(properties map[string]string) error {
	var errs []error
	var unsupported, details []string
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		value := properties[key]
		known, isKnown := knownProperties[key]
		neutral, feature := neutralProperties[key]
		switch {
		case isKnown:
			if !known.ok(value) {
				errs = append(errs, fmt.Errorf("the table property %s is %q: use %s", key, value, known.form))
			}
		case !strings.HasPrefix(strings.ToLower(key), "delta."), feature && strings.EqualFold(value, neutral):
		case feature, strings.HasPrefix(key, "delta.feature."), strings.HasPrefix(key, "delta.constraints."),
			key == "delta.minReaderVersion", key == "delta.minWriterVersion":
			unsupported = append(unsupported, key)
			details = append(details, fmt.Sprintf("the property %s = %s needs a feature that cannot be created here", key, value))
		default:
			errs = append(errs, unknownProperty(key))
		}
	}
	if unsupported != nil {
		errs = append(errs, &UnsupportedError{
			Features: unsupported, Detail: strings.Join(details, "; "), Remedy: "leave the property out, or create the table with another engine",
		})
	}
	return errors.Join(errs...)
}

func unknownProperty(key string) error {
	for _, known := range slices.Concat(slices.Collect(maps.Keys(knownProperties)), slices.Collect(maps.Keys(neutralProperties))) {
		if strings.EqualFold(known, key) {
			return fmt.Errorf("unknown table property %s; did you mean %s?", key, known)
		}
	}
	return fmt.Errorf("unknown table property %s; names that start with delta. are Delta's own", key)
}
