package delta

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"kafkadelta/delta/variant"
)

type featureProperty struct{ key, value, feature string }

// featureProperties are the table properties that need a feature where they have the value, and turn it on; any other value of
// theirs needs none. A property with the prefix featurePrefix asks for the feature itself.
var featureProperties = []featureProperty{
	{changeDataFeedKey, "true", "changeDataFeed"},
	{mappingModeKey, "name", "columnMapping"},
	{mappingModeKey, "id", "columnMapping"},
	{"delta.enableDeletionVectors", "true", "deletionVectors"},
	{"delta.enableRowTracking", "true", "rowTracking"},
	{"delta.enableTypeWidening", "true", "typeWidening"},
	{"delta.checkpointPolicy", "v2", "v2Checkpoint"},
	{"delta.enableIcebergCompatV1", "true", "icebergCompatV1"},
	{"delta.enableIcebergCompatV2", "true", "icebergCompatV2"},
	{"delta.enableInCommitTimestamps", "true", "inCommitTimestamp"},
	{"delta.enableVariantShredding", "true", "variantShredding"},
}

const featurePrefix = "delta.feature."

// protocolFor finds the lowest protocol that the schema, the properties and the features need, so that as many engines as
// possible read the table, and the properties that go into its metaData (PROTOCOL.md, "Table Features for New and Existing
// Tables").
func protocolFor(o CreateOptions) (*Protocol, map[string]string, error) {
	if err := checkProperties(o.Properties); err != nil {
		return nil, nil, err
	}
	asked, err := askedFeatures(o)
	if err != nil {
		return nil, nil, err
	}
	configuration := map[string]string{}
	for key, value := range o.Properties {
		switch name, isConstraint := constraintName(key); {
		case strings.HasPrefix(key, featurePrefix): // asks for something, says nothing of the table
		case isConstraint:
			configuration[constraintPrefix+strings.ToLower(name)] = value // the reference implementation looks for it so
		default:
			configuration[key] = value
		}
	}
	on := func(key string) bool { return strings.EqualFold(configuration[key], "true") }
	if _, set := configuration[mappingModeKey]; !set && (on("delta.enableIcebergCompatV1") || on("delta.enableIcebergCompatV2")) {
		configuration[mappingModeKey] = "name"
	}
	if on("delta.enableRowTracking") {
		if on("delta.rowTrackingSuspended") {
			return nil, nil, fmt.Errorf("the table properties delta.enableRowTracking and delta.rowTrackingSuspended are both true")
		}
		configuration[materializedRowIDKey] = "_row-id-col-" + uuid.NewString()
		configuration[materializedRowCommitVersionKey] = "_row-commit-version-col-" + uuid.NewString()
	}
	if on(changeDataFeedKey) {
		if err := checkReserved(o.Schema.Fields()); err != nil {
			return nil, nil, err
		}
	}
	p := lowestProtocol(asked)
	return &p, configuration, nil
}

const changeDataFeedKey = "delta.enableChangeDataFeed"

// checkReserved refuses columns with the names of those that a change data feed has besides (PROTOCOL.md, "Change Data Files").
func checkReserved(fields []arrow.Field) error {
	for _, f := range fields {
		if slices.ContainsFunc([]string{"_change_type", "_commit_version", "_commit_timestamp"}, func(name string) bool { return strings.EqualFold(f.Name, name) }) {
			return fmt.Errorf("column %s has a name that %s reserves; rename it", f.Name, changeDataFeedKey)
		}
	}
	return nil
}

// askedFeatures are the features that the options ask for, and those that these need.
func askedFeatures(o CreateOptions) ([]string, error) {
	asked := []string{"appendOnly", "invariants"} // writer version 2, below which no engine creates tables
	byName := slices.Clone(o.Features)
	for _, key := range slices.Sorted(maps.Keys(o.Properties)) {
		if name, ok := strings.CutPrefix(key, featurePrefix); ok {
			byName = append(byName, name)
		}
		if _, ok := constraintName(key); ok {
			asked = append(asked, "checkConstraints")
		}
	}
	for _, name := range byName {
		f, known := findFeature(name)
		if !known || !f.create {
			return nil, cannotCreate(name, known)
		}
		asked = append(asked, f.name)
	}
	for _, p := range featureProperties {
		if strings.EqualFold(o.Properties[p.key], p.value) {
			f, _ := findFeature(p.feature)
			if !f.create {
				return nil, &UnsupportedError{
					Features: []string{f.name}, Detail: "the table property " + p.key + " asks for it",
					Remedy: "leave the property out, or create the table with another engine",
				}
			}
			asked = append(asked, p.feature)
		}
	}
	asked = append(asked, schemaFeatures(o.Schema.Fields())...)
	if len(o.ClusterBy) > 0 {
		asked = append(asked, "clustering")
	}
	for i := 0; i < len(asked); i++ { // grows
		f, _ := findFeature(asked[i])
		asked = append(asked, f.needs...)
	}
	return asked, nil
}

func cannotCreate(name string, known bool) error {
	var names []string
	for _, f := range features {
		if f.create {
			names = append(names, f.name)
		}
	}
	detail := "no such feature is known"
	if known {
		detail = "tables with it cannot be created here"
	}
	return &UnsupportedError{Features: []string{name}, Detail: detail, Remedy: "leave it out, or use one of " + strings.Join(names, ", ")}
}

// schemaFeatures are the features that columns need.
func schemaFeatures(fields []arrow.Field) []string {
	var needed []string
	_ = walkFields(fields, "", func(_ string, f arrow.Field) error {
		if hasNTZ(f.Type) {
			needed = append(needed, "timestampNtz")
		}
		if variant.Is(f.Type) {
			needed = append(needed, "variantType")
		}
		for _, m := range []struct{ key, feature string }{
			{generationKey, "generatedColumns"}, {"delta.identity.step", "identityColumns"}, {defaultKey, "allowColumnDefaults"},
		} {
			if _, ok := fieldMetadataOf(f, m.key); ok {
				needed = append(needed, m.feature)
			}
		}
		return nil
	})
	return needed
}

// lowestProtocol has the versions below 3 and 7 where these imply all that is needed.
func lowestProtocol(needed []string) Protocol {
	p := Protocol{MinReaderVersion: 1, MinWriterVersion: 2}
	for _, f := range features {
		if !slices.Contains(needed, f.name) {
			continue
		}
		p.WriterFeatures = append(p.WriterFeatures, f.name)
		if f.reader {
			p.ReaderFeatures = append(p.ReaderFeatures, f.name)
		}
		switch {
		case f.since == 0:
			p.MinWriterVersion = 7
		default:
			p.MinWriterVersion = max(p.MinWriterVersion, f.since)
		}
		switch {
		case f.reader && f.since == 0:
			p.MinReaderVersion = 3
		case f.reader:
			p.MinReaderVersion = max(p.MinReaderVersion, 2) // column mapping
		}
	}
	if p.MinReaderVersion < 3 {
		p.ReaderFeatures = nil
	}
	if p.MinWriterVersion < 7 {
		p.WriterFeatures = nil
	}
	return p
}

// hasNTZ finds timestamp_ntz at any depth.
func hasNTZ(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.TimestampType:
		return t.TimeZone == ""
	case *arrow.StructType:
		return slices.ContainsFunc(t.Fields(), func(f arrow.Field) bool { return hasNTZ(f.Type) })
	case *arrow.ListType:
		return hasNTZ(t.Elem())
	case *arrow.MapType:
		return hasNTZ(t.KeyType()) || hasNTZ(t.ItemType())
	}
	return false
}
