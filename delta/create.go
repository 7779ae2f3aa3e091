package delta

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
)

// CreateOptions describe a new table.
type CreateOptions struct {
	Schema            *arrow.Schema     // as ParseDDL or SchemaFromJSON give it; required
	PartitionBy       []string          // top-level columns
	ClusterBy         []string          // columns, nested ones by their field path (PROTOCOL.md, "Clustered Table")
	Properties        map[string]string // table properties
	Features          []string          // table features besides those that the schema and the properties ask for
	Name, Description string            // optional
	Now               func() time.Time  // clock; required
	Engine            string            // engineInfo of the commit, such as "kafkadelta/1.2.3"
}

// forbiddenInNames are the characters that a table without column mapping cannot have in column names.
const forbiddenInNames = " ,;{}()\n\t="

// Create makes a table by writing version 0. fs.ErrExist says that there is one already, also when its first versions were
// cleaned; any other error of the put itself leaves it open whether the table is there, and Create may be called again.
// What no engine would read is refused before anything is written: see CheckCreate.
func Create(ctx context.Context, store LogStore, o CreateOptions) error {
	data, err := createCommit(o)
	if err != nil {
		return fmt.Errorf("creating the table: %w", err)
	}
	l, err := listLog(ctx, store, 0)
	if err != nil {
		return fmt.Errorf("creating the table: %w", err)
	}
	if !l.empty {
		return fmt.Errorf("creating the table: version %d is there: %w", l.newest(), fs.ErrExist)
	}
	if err := store.PutIfAbsent(ctx, commitName(0), data); err != nil {
		return fmt.Errorf("creating the table: %w", err)
	}
	return nil
}

// CheckCreate says why Create would refuse the options, without a store: no columns, column names that are empty, differ
// only by case, or have characters that Delta forbids; partition columns that are unknown, doubled, nested or all
// there are; properties that ask for features that this package does not honour or that do not exist, or whose values
// Delta does not take.
func CheckCreate(o CreateOptions) error {
	_, err := createCommit(o)
	return err
}

func createCommit(o CreateOptions) ([]byte, error) {
	switch {
	case o.Now == nil:
		return nil, errors.New("CreateOptions.Now is required")
	case o.Schema == nil || o.Schema.NumFields() == 0:
		return nil, errors.New("the schema has no columns")
	}
	if err := errors.Join(checkNames(o.Schema.Fields(), ""), checkPartitionColumns(o.Schema, o.PartitionBy)); err != nil {
		return nil, err
	}
	schema, err := SchemaToJSON(o.Schema)
	if err != nil {
		return nil, err
	}
	protocol, err := protocolFor(o)
	if err != nil {
		return nil, err
	}
	now := o.Now().UnixMilli()
	configuration := maps.Clone(o.Properties)
	if configuration == nil {
		configuration = map[string]string{}
	}
	metadata := Metadata{
		ID: uuid.NewString(), Name: o.Name, Description: o.Description, Format: Format{Provider: "parquet", Options: map[string]string{}},
		SchemaString: schema, PartitionColumns: append([]string{}, o.PartitionBy...), CreatedTime: &now, Configuration: configuration,
	}
	// Spark keeps nested values of operationParameters as JSON in a string.
	partitionBy, err1 := json.Marshal(metadata.PartitionColumns)
	properties, err2 := json.Marshal(configuration)
	info := map[string]any{
		"timestamp": now, "operation": "CREATE TABLE", "engineInfo": o.Engine, "txnId": uuid.NewString(), "isBlindAppend": true,
		"operationParameters": map[string]string{
			"isManaged": "false", "description": o.Description, "partitionBy": string(partitionBy), "properties": string(properties),
		},
		"operationMetrics": map[string]string{},
	}
	if slices.Contains(protocol.WriterFeatures, "inCommitTimestamp") {
		info["inCommitTimestamp"] = now
	}
	var b bytes.Buffer
	err = errors.Join(err1, err2, appendAction(&b, "commitInfo", info), appendAction(&b, "protocol", protocol),
		appendAction(&b, "metaData", metadata))
	return b.Bytes(), err
}

// checkNames refuses column names at every depth (PROTOCOL.md, "Schema Serialization Format": unique regardless of case).
func checkNames(fields []arrow.Field, path string) error {
	var errs []error
	seen := map[string]string{}
	for _, f := range fields {
		p := joinPath(path, f.Name)
		folded := strings.ToLower(f.Name)
		switch other, twice := seen[folded]; {
		case f.Name == "":
			errs = append(errs, fmt.Errorf("a column in %q has an empty name", path))
		case twice && other == f.Name:
			errs = append(errs, fmt.Errorf("column %s is there twice", p))
		case twice:
			errs = append(errs, fmt.Errorf("columns %s and %s differ only by case, which Delta does not tell apart; rename one",
				joinPath(path, other), p))
		case strings.ContainsAny(f.Name, forbiddenInNames):
			errs = append(errs, fmt.Errorf("column %q has one of the characters %q, which Delta forbids in names; rename it", p, forbiddenInNames))
		}
		seen[folded] = f.Name
		errs = append(errs, checkTypeNames(f.Type, p))
	}
	return errors.Join(errs...)
}

func checkTypeNames(t arrow.DataType, path string) error {
	switch t := t.(type) {
	case *arrow.StructType:
		if t.NumFields() == 0 {
			return fmt.Errorf("column %s is a struct without fields, which Parquet cannot hold", path)
		}
		return checkNames(t.Fields(), path)
	case *arrow.ListType:
		return checkTypeNames(t.Elem(), joinPath(path, "element"))
	case *arrow.MapType:
		return errors.Join(checkTypeNames(t.KeyType(), joinPath(path, "key")), checkTypeNames(t.ItemType(), joinPath(path, "value")))
	}
	return nil
}

func checkPartitionColumns(schema *arrow.Schema, by []string) error {
	for i, name := range by {
		fields, ok := schema.FieldsByName(name)
		switch {
		case !ok:
			for _, f := range schema.Fields() {
				if strings.EqualFold(f.Name, name) {
					return fmt.Errorf("partition column %q is not in the schema; did you mean %q?", name, f.Name)
				}
			}
			return fmt.Errorf("partition column %q is not in the schema", name)
		case slices.Contains(by[:i], name):
			return fmt.Errorf("partition column %s is there twice", name)
		case arrow.IsNested(fields[0].Type.ID()):
			return fmt.Errorf("partition column %s has the type %s; only plain types can be partition columns", name, fields[0].Type)
		}
	}
	if len(by) > 0 && len(by) >= schema.NumFields() {
		return errors.New("all columns are partition columns; the data files need at least one other")
	}
	return nil
}

// protocolFor finds the lowest protocol that the schema and the properties need, so that every engine reads the table:
// reader 1 and writer 2 as a rule (PROTOCOL.md, "Table Features for New and Existing Tables").
func protocolFor(o CreateOptions) (Protocol, error) {
	if err := checkProperties(o.Properties); err != nil {
		return Protocol{}, err
	}
	p := Protocol{MinReaderVersion: 1, MinWriterVersion: 2}
	ntz := false
	_ = walkFields(o.Schema.Fields(), "", func(_ string, f arrow.Field) error {
		ntz = ntz || hasNTZ(f.Type)
		return nil
	})
	cdf := strings.EqualFold(o.Properties["delta.enableChangeDataFeed"], "true")
	ict := strings.EqualFold(o.Properties["delta.enableInCommitTimestamps"], "true")
	if !ntz && !ict {
		if cdf {
			p.MinWriterVersion = 4
		}
		return p, nil
	}
	p.MinWriterVersion, p.WriterFeatures = 7, []string{"appendOnly", "invariants"}
	if cdf {
		p.WriterFeatures = append(p.WriterFeatures, "changeDataFeed")
	}
	if ict {
		p.WriterFeatures = append(p.WriterFeatures, "inCommitTimestamp")
	}
	if ntz {
		p.MinReaderVersion, p.ReaderFeatures = 3, []string{"timestampNtz"}
		p.WriterFeatures = append(p.WriterFeatures, "timestampNtz")
	}
	return p, nil
}

// hasNTZ looks into lists and maps; struct fields are visited by walkFields.
func hasNTZ(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.TimestampType:
		return t.TimeZone == ""
	case *arrow.ListType:
		return hasNTZ(t.Elem())
	case *arrow.MapType:
		return hasNTZ(t.KeyType()) || hasNTZ(t.ItemType())
	}
	return false
}
