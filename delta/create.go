package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"kafkadelta/delta/variant"
)

// CreateOptions describe a new table.
type CreateOptions struct {
	Schema            *arrow.Schema     // as ParseDDL or SchemaFromJSON give it; ids and physical names in it are made anew; required
	PartitionBy       []string          // top-level columns
	ClusterBy         []string          // columns, those in structs as a.b (PROTOCOL.md, "Clustered Table"); not with PartitionBy
	Properties        map[string]string // table properties; delta.feature.<name> = supported is as good as Features
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
	if v := l.newest(); v >= 0 {
		return fmt.Errorf("creating the table: version %d is there: %w", v, fs.ErrExist)
	}
	if err := l.absent(ctx, store); !errors.Is(err, ErrNotTable) {
		return fmt.Errorf("creating the table: %w", err)
	}
	if err := CheckWrites(ctx, store); err != nil {
		return fmt.Errorf("creating the table: %w", err)
	}
	if err := store.PutIfAbsent(ctx, commitName(0), data); err != nil {
		return fmt.Errorf("creating the table: %w", err)
	}
	return nil
}

// CheckCreate says why Create would refuse the options, without a store: no columns, column names that are empty, differ
// only by case, or have characters that Delta forbids without column mapping; partition columns that are unknown, doubled,
// nested or all there are; clustering columns that are unknown, have no statistics, or come with partition columns;
// properties that do not exist or whose values Delta does not take; features that Create does not know how to make, or
// that contradict each other; and whatever an append to the table would refuse (CheckAppend).
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
	protocol, configuration, err := protocolFor(o)
	if err != nil {
		return nil, err
	}
	mode := strings.ToLower(configuration[mappingModeKey])
	mapped := mode != "" && mode != "none"
	if err := errors.Join(checkNames(o.Schema.Fields(), "", mapped), checkPartitionColumns(o.Schema, o.PartitionBy)); err != nil {
		return nil, err
	}
	fields := rewriteFields(o.Schema.Fields(), withoutMapping)
	if mapped {
		nested := strings.EqualFold(configuration["delta.enableIcebergCompatV2"], "true")
		var maxID int64
		if fields, maxID, err = withMapping(fields, 0, nested); err != nil {
			return nil, err
		}
		configuration[maxColumnIDKey] = strconv.FormatInt(maxID, 10)
	}
	schema := arrow.NewSchema(fields, nil)
	schemaString, err := SchemaToJSON(schema)
	if err != nil {
		return nil, err
	}
	now := o.Now().UnixMilli()
	c := &Commit{Protocol: protocol, Metadata: &Metadata{
		ID: uuid.NewString(), Name: o.Name, Description: o.Description, Format: Format{Provider: "parquet", Options: map[string]string{}},
		SchemaString: schemaString, PartitionColumns: append([]string{}, o.PartitionBy...), CreatedTime: &now, Configuration: configuration,
	}}
	if len(o.ClusterBy) > 0 {
		domain, err := clusterBy(o, schema)
		if err != nil {
			return nil, err
		}
		c.Domains = append(c.Domains, domain)
	}
	s := newState()
	if err := s.apply(c); err != nil {
		return nil, err
	}
	if err := errors.Join(s.checkAppend(), s.checkClusterBy()); err != nil {
		return nil, err
	}
	return createActions(o, s, c)
}

// createActions spells the first version of a table (PROTOCOL.md, "In-Commit Timestamps": commitInfo comes first).
func createActions(o CreateOptions, s *state, c *Commit) ([]byte, error) {
	// Spark keeps nested values of operationParameters as JSON in a string.
	partitionBy, err1 := marshal(c.Metadata.PartitionColumns)
	clusterBy, err2 := marshal(append([]string{}, o.ClusterBy...))
	properties, err3 := marshal(c.Metadata.Configuration)
	info := map[string]any{
		"timestamp": *c.Metadata.CreatedTime, "operation": "CREATE TABLE", "engineInfo": o.Engine, "txnId": uuid.NewString(),
		"isBlindAppend": true, "operationMetrics": map[string]string{},
		"operationParameters": map[string]string{
			"isManaged": "false", "description": o.Description, "partitionBy": string(partitionBy), "clusterBy": string(clusterBy),
			"properties": string(properties),
		},
	}
	if s.inCommitTimestamps() {
		info["inCommitTimestamp"] = *c.Metadata.CreatedTime
	}
	var b bytes.Buffer
	err := errors.Join(err1, err2, err3, appendAction(&b, "commitInfo", info), appendAction(&b, "protocol", c.Protocol),
		appendAction(&b, "metaData", c.Metadata))
	for _, d := range c.Domains {
		err = errors.Join(err, appendAction(&b, "domainMetadata", d))
	}
	return b.Bytes(), err
}

// checkNames refuses column names at every depth (PROTOCOL.md, "Schema Serialization Format": unique regardless of case).
func checkNames(fields []arrow.Field, path string, mapped bool) error {
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
		case !mapped && strings.ContainsAny(f.Name, forbiddenInNames):
			errs = append(errs, fmt.Errorf("column %q has one of the characters %q, which Delta forbids in names; rename it, or set %s = name",
				p, forbiddenInNames, mappingModeKey))
		}
		seen[folded] = f.Name
		errs = append(errs, checkTypeNames(f.Type, p, mapped))
	}
	return errors.Join(errs...)
}

func checkTypeNames(t arrow.DataType, path string, mapped bool) error {
	switch t := t.(type) {
	case *arrow.StructType:
		if t.NumFields() == 0 {
			return fmt.Errorf("column %s is a struct without fields, which Parquet cannot hold", path)
		}
		return checkNames(t.Fields(), path, mapped)
	case *arrow.ListType:
		return checkTypeNames(t.Elem(), joinPath(path, "element"), mapped)
	case *arrow.MapType:
		return errors.Join(checkTypeNames(t.KeyType(), joinPath(path, "key"), mapped), checkTypeNames(t.ItemType(), joinPath(path, "value"), mapped))
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
		case arrow.IsNested(fields[0].Type.ID()), variant.Is(fields[0].Type):
			return fmt.Errorf("partition column %s has the type %s; only plain types can be partition columns", name, fields[0].Type)
		}
	}
	if len(by) > 0 && len(by) >= schema.NumFields() {
		return errors.New("all columns are partition columns; the data files need at least one other")
	}
	return nil
}
