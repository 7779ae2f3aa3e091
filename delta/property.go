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

// knownProperties are Delta's table properties that Create takes, in PROTOCOL.md and in the reference implementation, with
// the values that the latter takes: it can't open a table that has another one. A property that starts with "delta." and is
// not known is refused: it is a spelling mistake or a feature.
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
	"delta.checkpointPolicy":                oneOf("classic or v2", "classic", "v2"),
	"delta.columnMapping.mode":              oneOf("none, name or id", "none", "name", "id"),
	changeDataFeedKey:                       anyBool,
	"delta.enableDeletionVectors":           anyBool,
	"delta.enableIcebergCompatV1":           anyBool,
	"delta.enableIcebergCompatV2":           anyBool,
	"delta.enableInCommitTimestamps":        anyBool,
	"delta.enableRowTracking":               anyBool,
	"delta.enableTypeWidening":              anyBool,
	"delta.enableVariantShredding":          anyBool,
	"delta.rowTrackingSuspended":            anyBool,
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

// ownProperties follow from others.
var ownProperties = map[string]string{
	maxColumnIDKey:                  "it follows from delta.columnMapping.mode",
	materializedRowIDKey:            "it follows from delta.enableRowTracking",
	materializedRowCommitVersionKey: "it follows from delta.enableRowTracking",
	"delta.minReaderVersion":        "it follows from the features",
	"delta.minWriterVersion":        "it follows from the features",
}

func checkProperties(properties map[string]string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		value := properties[key]
		known, isKnown := knownProperties[key]
		why, own := ownProperties[key]
		_, isConstraint := constraintName(key)
		switch {
		case isKnown && !known.ok(value):
			errs = append(errs, fmt.Errorf("the table property %s is %q: use %s", key, value, known.form))
		case own:
			errs = append(errs, fmt.Errorf("the table property %s cannot be set: %s; leave it out", key, why))
		case strings.HasPrefix(key, featurePrefix) && !strings.EqualFold(value, "supported") && !strings.EqualFold(value, "enabled"):
			errs = append(errs, fmt.Errorf("the table property %s is %q: use supported", key, value))
		case strings.EqualFold(key, constraintPrefix), isConstraint && strings.TrimSpace(value) == "":
			errs = append(errs, fmt.Errorf("the table property %s is %q: a constraint has a name and an expression", key, value))
		case isKnown, isConstraint, strings.HasPrefix(key, featurePrefix), !strings.HasPrefix(strings.ToLower(key), "delta."):
		default:
			errs = append(errs, unknownProperty(key))
		}
	}
	return errors.Join(errs...)
}

func unknownProperty(key string) error {
	for known := range knownProperties {
		if strings.EqualFold(known, key) {
			return fmt.Errorf("unknown table property %s; did you mean %s?", key, known)
		}
	}
	return fmt.Errorf("unknown table property %s; names that start with delta. are Delta's own", key)
}

// active reports whether the table supports a feature and one of its properties turns it on (PROTOCOL.md, "Active Features").
func (s *state) active(feature string) bool {
	return s.supports(feature) && slices.ContainsFunc(featureProperties, func(p featureProperty) bool {
		return p.feature == feature && s.isSet(p.key, p.value)
	})
}

// isTrue reports whether a property is set to true.
func (s *state) isTrue(property string) bool { return s.isSet(property, "true") }

// isFalse reports whether a property whose default is true is set to false.
func (s *state) isFalse(property string) bool { return s.isSet(property, "false") }

func (s *state) isSet(property, value string) bool {
	return strings.EqualFold(strings.TrimSpace(s.metadata.Configuration[property]), value)
}
