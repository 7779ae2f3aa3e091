package decode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// maxSchemaDepth bounds nested types, so that decoders may recurse over the schema.
const maxSchemaDepth = 100

// Plan says which source field goes into which column. It is compiled once from a table's schema and a Config, is
// immutable and is shared by the decoders of all formats and lanes.
type Plan struct {
	schema   *arrow.Schema
	root     *Node
	meta     *metadataPlan
	defaults []Default

	// Follow, where it is set, is asked for each new schema of messages whether the table is to follow it: want is what it is to have of it, and
	// nil where it has that. The error says why the table can't have it, so that its messages are poison.
	Follow func(messages *arrow.Schema) (want *arrow.Schema, err error)
	// Given are the fields that need no column by the messages' schema.
	Given Given
}

// Given reports whether it is known without the messages' schema what a field of theirs fills, by its path: "a.b", "list.element.x". In a schema
// of messages such a field has the type null where no column can hold it by itself. Nil: none is.
type Given func(path string) bool

// CheckFollow is an *EvolveError where the table is to follow the messages' schema of that name first, and a *Mismatch where it can't.
func (p *Plan) CheckFollow(name string, messages *arrow.Schema) error {
	want, err := p.Follow(messages)
	switch {
	case err != nil:
		return &Mismatch{Detail: err.Error()}
	case want != nil:
		return &EvolveError{Schema: name, Want: want}
	}
	return nil
}

// Schema returns the table's schema: the schema of every batch.
func (p *Plan) Schema() *arrow.Schema { return p.schema }

// Root returns the tree of source fields. Its Fields are the fields of a message.
func (p *Plan) Root() *Node { return p.root }

// Node is one source field that the table needs: a field of the message, of a struct in it, or the element, key or
// value of a list or map.
type Node struct {
	Name  string         // name of the source field
	Path  string         // path from the message, for errors: "meta.producer.timestamp", "items.element.price"
	Index int            // position among the columns, or among the children of the parent's builder; -1: not kept
	Type  arrow.DataType // type of that builder; nil when Index is -1
	Epoch Epoch          // how numbers become dates and instants

	Fields []*Node // of an object: the struct's fields in table order, then those that only computed columns read
	Key    *Node   // of a map
	Elem   *Node   // of a list; the value of a map

	Computed []*Computed // columns computed from this very field
	Below    []int       // columns computed from this field or any field below it
}

// Computed is a top-level column filled from another field than its own.
type Computed struct {
	Column int   // position among the columns
	Cast   Cast  // CastNone: the value as it is; then Value says how to read it
	Epoch  Epoch // how numbers become instants, for casts
	Start  int   // of a substring, from 1; negative: from the end
	Length int   // of a substring, in characters
	Kind   Kind  // of the column
	Value  *Node // CastNone: the column as a node
}

// NewPlan compiles the plan of a table whose columns have the defaults. Errors name the column, the path, the value and what to do.
func NewPlan(table *arrow.Schema, cfg Config, defaults ...Default) (*Plan, error) {
	if table == nil || table.NumFields() == 0 {
		return nil, errors.New("planning columns: the table has no columns")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("planning columns: %w", err)
	}
	meta, err := planMetadata(table, cfg.Metadata)
	if err != nil {
		return nil, fmt.Errorf("planning columns: %w", err)
	}
	c := &compiler{table: table, computed: map[int]string{}}
	if meta != nil {
		c.metadata = meta.column
	} else {
		c.metadata = -1
	}
	root, err := c.compile(cfg)
	if err != nil {
		return nil, fmt.Errorf("planning columns: %w", err)
	}
	if err := checkDefaults(table, defaults); err != nil {
		return nil, fmt.Errorf("planning columns: %w", err)
	}
	return &Plan{schema: table, root: root, meta: meta, defaults: defaults}, nil
}

// compiler holds what NewPlan needs on the way.
type compiler struct {
	table    *arrow.Schema
	root     *Node
	metadata int            // index of the metadata column, or -1
	computed map[int]string // columns filled from another field, with their configured name
}

func (c *compiler) compile(cfg Config) (*Node, error) {
	c.root = &Node{Index: -1}
	names := slices.Sorted(maps.Keys(cfg.Columns))
	for _, name := range names {
		col := cfg.Columns[name]
		if col.From == "" && col.Cast == "" {
			continue
		}
		i, err := c.topLevel(name)
		if err != nil {
			return nil, err
		}
		c.computed[i] = name
	}
	for i, f := range c.table.Fields() {
		n, err := newNode(f.Name, f.Name, i, f.Type, 0) // of every column: it refuses types that we cannot fill
		if err != nil {
			return nil, err
		}
		if _, isComputed := c.computed[i]; !isComputed && i != c.metadata {
			c.root.Fields = append(c.root.Fields, n)
		}
	}
	// Units first: a computed column inherits the unit of the field that it reads.
	for _, name := range names {
		if col := cfg.Columns[name]; col.From == "" && col.Cast == "" {
			if err := c.setEpoch(name, col); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range names {
		if col := cfg.Columns[name]; col.From != "" || col.Cast != "" {
			if err := c.compute(name, col); err != nil {
				return nil, err
			}
		}
	}
	return c.root, nil
}

// newNode mirrors a column's type. Every unsupported type is refused here.
func newNode(name, path string, index int, t arrow.DataType, depth int) (*Node, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("column %q is nested deeper than %d", path, maxSchemaDepth)
	}
	kind, _, err := kindOf(t)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", path, err)
	}
	n := &Node{Name: name, Path: path, Index: index, Type: t, Epoch: EpochDefault.or(kind)}
	switch t := t.(type) {
	case *arrow.StructType:
		for i, f := range t.Fields() {
			var child *Node
			if child, err = newNode(f.Name, path+"."+f.Name, i, f.Type, depth+1); err != nil {
				return nil, err
			}
			n.Fields = append(n.Fields, child)
		}
	case *arrow.MapType:
		if kind, _, _ := kindOf(t.KeyType()); kind >= KindStruct {
			return nil, fmt.Errorf("column %q: a map key of type %s cannot be read from a field name: use a string key", path, TypeName(t.KeyType()))
		}
		if n.Key, err = newNode("key", path+".key", 0, t.KeyType(), depth+1); err != nil {
			return nil, err
		}
		if n.Elem, err = newNode("value", path+".value", 1, t.ItemType(), depth+1); err != nil {
			return nil, err
		}
	case *arrow.ListType:
		if n.Elem, err = newNode("element", path+".element", 0, t.Elem(), depth+1); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// topLevel finds a column by its configured name.
func (c *compiler) topLevel(name string) (int, error) {
	if at := c.table.FieldIndices(name); len(at) > 0 {
		if at[0] == c.metadata {
			return 0, fmt.Errorf("columns.%s: it is the metadata column, which is filled from the Kafka record: set kafka_metadata.column to another name", name)
		}
		return at[0], nil
	}
	path, err := ParsePath(name)
	if err == nil && len(path) == 1 && path[0] != name {
		return c.topLevel(path[0])
	}
	if err == nil && len(path) > 1 && len(c.table.FieldIndices(path[0])) > 0 {
		return 0, fmt.Errorf("columns.%s: only a top-level column can be computed: from and cast do not apply to a field of %s", name, path[0])
	}
	return 0, fmt.Errorf("columns.%s: the table has no column %q: add it to the table or remove the entry (the table has %s)",
		name, name, columnNames(c.table))
}

func columnNames(s *arrow.Schema) string {
	names := make([]string, 0, s.NumFields())
	for i, f := range s.Fields() {
		if i == 20 {
			names = append(names, "...")
			break
		}
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// setEpoch gives a column, or a field below it, its unit of numbers.
func (c *compiler) setEpoch(name string, col Column) error {
	path := []string{name}
	if len(c.table.FieldIndices(name)) == 0 {
		var err error
		if path, err = ParsePath(name); err != nil {
			return fmt.Errorf("columns.%s: %w", name, err)
		}
	}
	n := c.root
	for _, part := range path {
		if n = n.step(part); n == nil {
			return fmt.Errorf("columns.%s: the table has no field %q: correct the path or remove the entry (the table has %s)",
				name, part, columnNames(c.table))
		}
	}
	if col.Epoch == "" {
		return nil
	}
	kind, _, _ := kindOf(n.Type)
	if kind != KindTimestamp && kind != KindTimestampNTZ && kind != KindDate {
		return fmt.Errorf("columns.%s.epoch: %s applies to TIMESTAMP, TIMESTAMP_NTZ and DATE, and the column is %s: remove it",
			name, col.Epoch, TypeName(n.Type))
	}
	n.Epoch = epochs[col.Epoch].or(kind)
	return nil
}

// step follows one part of a column path.
func (n *Node) step(part string) *Node {
	for _, f := range n.Fields {
		if f.Name == part {
			return f
		}
	}
	if n.Key != nil && part == "key" {
		return n.Key
	}
	if n.Elem != nil && part == n.Elem.Name {
		return n.Elem
	}
	return nil
}

// compute adds a computed column to the tree.
func (c *compiler) compute(name string, col Column) error {
	i, err := c.topLevel(name)
	if err != nil {
		return err
	}
	from := col.From
	if from == "" {
		from = name // a cast of the field of the same name
	}
	var path []string // of the whole message: none
	if from != WholeMessage {
		if path, err = ParsePath(from); err != nil {
			return fmt.Errorf("columns.%s.from: %w", name, err)
		}
	}
	source, err := c.source(name, from, path)
	if err != nil {
		return err
	}
	out, err := newComputed(name, col, i, c.table.Field(i).Type)
	if err != nil {
		return err
	}
	if out.Cast != CastNone && out.Cast != CastJSON {
		if kind, _, err := kindOf(source.Type); err == nil && kind >= KindStruct {
			return fmt.Errorf("columns.%s.from: %s is %s, and cast %s needs a single value: name a field below it", name, from, TypeName(source.Type), col.Cast)
		}
		out.inherit(source)
	}
	source.Computed = append(source.Computed, out)
	n := c.root
	for _, part := range path {
		n = n.field(part)
		n.Below = append(n.Below, i)
	}
	return nil
}

// source finds or makes the node of a source path.
func (c *compiler) source(name, from string, path []string) (*Node, error) {
	n := c.root
	for i, part := range path {
		if n.Type != nil {
			kind, _, _ := kindOf(n.Type)
			if kind != KindStruct && kind != KindMap {
				return nil, fmt.Errorf("columns.%s.from: %s goes through %s, which is %s in the table: only structs and maps have fields to follow",
					name, from, n.Path, TypeName(n.Type))
			}
		}
		next := n.field(part)
		if next == nil {
			next = &Node{Name: part, Path: strings.Join(path[:i+1], "."), Index: -1}
			n.Fields = append(n.Fields, next)
		}
		n = next
	}
	return n, nil
}

// field finds an object's field by its source name.
func (n *Node) field(name string) *Node {
	for _, f := range n.Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}
