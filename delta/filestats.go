package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta/variant"
)

// defaultIndexedColumns is how many leaves get statistics where the table does not say otherwise, as in Spark.
const defaultIndexedColumns = 32

// statsChoice picks the leaves that get statistics, as Spark's StatisticsCollection.getIndexedColumns does.
type statsChoice struct {
	listed     [][]string // lower-case paths of delta.dataSkippingStatsColumns; nil: the first ones count
	left       int        // leaves that still get statistics; negative: all
	clustering [][]string // physical paths
	layout     *FileLayout
}

// chooseStats fills in which leaves of the data columns get statistics: those of delta.dataSkippingStatsColumns, or else
// the first delta.dataSkippingNumIndexedCols; and always the clustering columns (PROTOCOL.md, "Writer Requirements for
// Clustered Table").
func (s *state) chooseStats(l *FileLayout, data []arrow.Field) error {
	c := statsChoice{left: defaultIndexedColumns, layout: l}
	const named, numbered = "delta.dataSkippingStatsColumns", "delta.dataSkippingNumIndexedCols"
	var err error
	if v, ok := s.metadata.Configuration[named]; ok {
		if c.listed = [][]string{}; strings.TrimSpace(v) == "" { // no column at all, as Spark reads it
		} else if c.listed, err = parseColumnList(strings.ToLower(v)); err != nil {
			return fmt.Errorf("the table property %s is %q: %w", named, v, err)
		}
	} else if v, ok := s.metadata.Configuration[numbered]; ok {
		if c.left, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("the table property %s is %q: set it to a number", numbered, v)
		}
	}
	if c.clustering, err = s.clusteringColumns(); err != nil {
		return err
	}
	fields := s.schema.Fields()
	for i, column := range l.Columns {
		c.walk(fields[column], data[i], nil, nil)
	}
	return nil
}

// walk visits the leaves of a column, which has a name in the table and another one in its files.
func (c *statsChoice) walk(logical, physical arrow.Field, path, physicalPath []string) {
	path = append(slices.Clip(path), strings.ToLower(logical.Name))
	physicalPath = append(slices.Clip(physicalPath), physical.Name)
	if st, ok := logical.Type.(*arrow.StructType); ok {
		for i, f := range st.Fields() {
			c.walk(f, physical.Type.(*arrow.StructType).Field(i), path, physicalPath)
		}
		return
	}
	if variant.Is(logical.Type) { // its value has no order, and its two leaves get no statistics
		if c.left > 0 {
			c.left--
		}
		c.layout.Stats = append(c.layout.Stats, false, false)
		return
	}
	take := c.left != 0
	if c.listed != nil {
		take = below(c.listed, path)
	} else if c.left > 0 {
		c.left--
	}
	if below(c.clustering, physicalPath) {
		take = true
		c.layout.clustering = append(c.layout.clustering, pathKey(physicalPath))
	}
	c.layout.Stats = append(c.layout.Stats, take)
	if take {
		c.layout.indexed = append(c.layout.indexed, pathKey(physicalPath))
	}
}

// below reports whether a leaf is one of the columns or in one of them.
func below(columns [][]string, leaf []string) bool {
	return slices.ContainsFunc(columns, func(c []string) bool { return len(c) <= len(leaf) && slices.Equal(c, leaf[:len(c)]) })
}

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// clusteringColumns are the physical paths that the domain delta.clustering names. Spark writes each as a list of names,
// the protocol's example as one name.
func (s *state) clusteringColumns() ([][]string, error) {
	d, ok := s.domains[clusteringDomain]
	if !ok || !s.supports("clustering") {
		return nil, nil
	}
	var config struct {
		Columns []json.RawMessage `json:"clusteringColumns"`
	}
	if err := json.Unmarshal([]byte(d.Configuration), &config); err != nil {
		return nil, corruptf("the domain delta.clustering: %w", err)
	}
	var columns [][]string
	for _, raw := range config.Columns {
		var path []string
		var name string
		if json.Unmarshal(raw, &name) == nil {
			path = []string{name}
		} else if err := json.Unmarshal(raw, &path); err != nil {
			return nil, corruptf("the domain delta.clustering: %w", err)
		}
		columns = append(columns, path)
	}
	return columns, nil
}

// parseColumnList reads names of columns as Spark's parser does: separated by commas, steps of a path by dots, and what
// is not of letters, digits and underscores in back quotes, which are doubled inside.
func parseColumnList(s string) ([][]string, error) {
	columns := [][]string{nil}
	for {
		s = strings.TrimSpace(s)
		name, rest, err := cutIdentifier(s)
		if err != nil {
			return nil, err
		}
		last := &columns[len(columns)-1]
		*last = append(*last, name)
		rest = strings.TrimSpace(rest)
		switch {
		case rest == "":
			return columns, nil
		case rest[0] == ',':
			columns = append(columns, nil)
		case rest[0] != '.':
			return nil, fmt.Errorf("a comma or a dot is expected before %q", rest)
		}
		s = rest[1:]
	}
}

func cutIdentifier(s string) (name, rest string, err error) {
	quoted, ok := strings.CutPrefix(s, "`")
	if !ok {
		end := strings.IndexFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if end < 0 {
			end = len(s)
		}
		if end == 0 {
			return "", "", fmt.Errorf("the name of a column is expected before %q", s)
		}
		return s[:end], s[end:], nil
	}
	for {
		part, after, found := strings.Cut(quoted, "`")
		if !found {
			return "", "", errors.New("a back quote is not closed")
		}
		name += part
		if quoted, ok = strings.CutPrefix(after, "`"); !ok {
			return name, after, nil
		}
		name += "`"
	}
}
