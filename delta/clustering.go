package delta

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

const clusteringDomain = "delta.clustering"

// maxClusterBy is the reference implementation's limit on clustering columns.
const maxClusterBy = 4

func (s *state) badClustering() string {
	if _, err := s.clusteringColumns(); err != nil {
		return err.Error()
	}
	return ""
}

// checkClusteringStats refuses an add without statistics of the clustering columns. An add of an append has no
// clusteringProvider: nobody clustered it (PROTOCOL.md, "Writer Requirements for Clustered Table").
func checkClusteringStats(a *Add, columns [][]string) error {
	if len(columns) == 0 {
		return nil
	}
	var stats struct {
		NullCount json.RawMessage `json:"nullCount"`
	}
	_ = json.Unmarshal([]byte(a.Stats), &stats) // what cannot be read is missing
	for _, path := range columns {
		at := stats.NullCount
		for _, name := range path {
			var object map[string]json.RawMessage
			_ = json.Unmarshal(at, &object)
			at = object[name]
		}
		if at == nil {
			return fmt.Errorf("the add of %s has no statistics of the clustering column %s", a.Path, strings.Join(path, "."))
		}
	}
	return nil
}

// clusterBy finds the clustering columns that a new table is given, and spells their domainMetadata.
func clusterBy(o CreateOptions, schema *arrow.Schema) (DomainMetadata, error) {
	switch {
	case len(o.PartitionBy) > 0:
		return DomainMetadata{}, fmt.Errorf("a table is either partitioned (by %s) or clustered (by %s)", strings.Join(o.PartitionBy, ", "), strings.Join(o.ClusterBy, ", "))
	case len(o.ClusterBy) > maxClusterBy:
		return DomainMetadata{}, fmt.Errorf("%d clustering columns: at most %d are allowed", len(o.ClusterBy), maxClusterBy)
	}
	var paths [][]string
	seen := map[string]bool{}
	for _, column := range o.ClusterBy {
		path, err := clusteringPath(schema, column)
		if err != nil {
			return DomainMetadata{}, err
		}
		if seen[pathKey(path)] {
			return DomainMetadata{}, fmt.Errorf("clustering column %s is there twice", column)
		}
		seen[pathKey(path)] = true
		paths = append(paths, path)
	}
	configuration, err := marshal(map[string]any{"clusteringColumns": paths})
	return DomainMetadata{Domain: clusteringDomain, Configuration: string(configuration)}, err
}

// checkClusterBy refuses clustering columns that other writers would give no statistics: the reference implementation goes by
// the properties alone.
func (s *state) checkClusterBy() error {
	columns, err := s.clusteringColumns()
	if err != nil || columns == nil {
		return err
	}
	bare := *s
	bare.domains = nil
	layout, err := bare.FileLayout()
	if err != nil {
		return err
	}
	for _, path := range columns {
		if !slices.Contains(layout.indexed, pathKey(path)) {
			return fmt.Errorf("clustering column %s gets no statistics by the table's properties: name it in delta.dataSkippingStatsColumns, "+
				"or raise delta.dataSkippingNumIndexedCols", strings.Join(path, "."))
		}
	}
	return nil
}

// clusteringPath finds a column such as `a` or `s.b` and gives its physical path.
func clusteringPath(schema *arrow.Schema, column string) ([]string, error) {
	names, err := parseColumnList(column)
	if err != nil || len(names) != 1 {
		return nil, fmt.Errorf("clustering column %q: name one column, such as a, a.b or `odd name`", column)
	}
	var path []string
	fields := schema.Fields()
	for step, name := range names[0] {
		i := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("clustering column %q is not in the schema", column)
		}
		path = append(path, physicalName(fields[i]))
		if step == len(names[0])-1 && !skippable(fields[i].Type) {
			return nil, fmt.Errorf("clustering column %s has the type %s, which has no smallest and largest value in the statistics", column, fields[i].Type)
		}
		st, isStruct := fields[i].Type.(*arrow.StructType)
		if fields = nil; isStruct {
			fields = st.Fields()
		}
	}
	return path, nil
}

// skippable reports types whose smallest and largest values are in statistics, as the reference implementation asks of
// clustering columns.
func skippable(t arrow.DataType) bool {
	return !arrow.IsNested(t.ID()) && t.ID() != arrow.BOOL && t.ID() != arrow.BINARY && t.ID() != arrow.EXTENSION
}
