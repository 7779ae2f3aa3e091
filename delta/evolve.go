package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Evolve prepares the change of the table's schema that a wanted one asks for, and puts it into the transaction, as its
// Metadata and Protocol; where the table's schema takes rows of the wanted one already, it clears them and changed is false.
// To be called anew after a winner with ChangesTable, before Commit: what the winner has done already is dropped, and
// Commit refuses a change that was prepared on an older state. A pending transaction must not be evolved.
//
// Columns are the same where their names are, at every depth. What changes:
//   - A column that the table does not have is added at the end of its struct; it must be nullable, and with column mapping
//     it gets an id and a physical name (PROTOCOL.md, "Writer Requirements for Column Mapping").
//   - A type gets wider where delta.enableTypeWidening is true and the column is no partition column and in no constraint
//     or generated column (PROTOCOL.md, "Type Widening"); a table's type that is wider than the wanted one stays.
//   - NOT NULL goes where the wanted column, element or map value is nullable.
//
// Nothing else changes: columns that are not wanted, stricter nullability and column metadata stay as the table has them. What
// cannot be is an error that names the column, also where an append would refuse the table that came out (CheckAppend).
func (t *Table) Evolve(want *arrow.Schema, tx *Transaction) (changed bool, err error) {
	if _, pending := tx.Pending(); pending {
		return false, errors.New("evolving the schema: the transaction is pending")
	}
	tx.evolved = t.version
	_, tx.Metadata, tx.Protocol, err = t.evolve(want)
	return tx.Metadata != nil, err
}

// Shape is the part of a table's state that its rows and files depend on. It does not change.
type Shape struct{ state }

// Shape gives the shape of the table's version.
func (t *Table) Shape() *Shape {
	_ = t.checkAppend() // so that it is known before two ask for it
	s := &Shape{t.state}
	s.txns, s.domains = nil, maps.Clone(t.domains)
	return s
}

// shapeJSON is the stored form of a Shape: the actions that it comes from.
type shapeJSON struct {
	Protocol   Protocol        `json:"protocol"`
	Metadata   Metadata        `json:"metaData"`
	Clustering *DomainMetadata `json:"domainMetadata,omitempty"`
}

// MarshalJSON writes it for another process.
func (s *Shape) MarshalJSON() ([]byte, error) {
	stored := shapeJSON{Protocol: s.protocol, Metadata: s.metadata}
	if d, ok := s.domains[clusteringDomain]; ok {
		stored.Clustering = &d
	}
	return json.Marshal(stored)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Shape) UnmarshalJSON(data []byte) error {
	var stored shapeJSON
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	c := &Commit{Protocol: &stored.Protocol, Metadata: &stored.Metadata}
	if stored.Clustering != nil {
		c.Domains = []DomainMetadata{*stored.Clustering}
	}
	s.state = *newState()
	return s.apply(c)
}

// Evolve gives the shape that the table will have once its schema has been changed as a wanted one asks for (Table.Evolve); the same
// where it takes rows of the wanted one already.
func (s *Shape) Evolve(want *arrow.Schema) (*Shape, error) {
	next, m, _, err := s.evolve(want)
	if err != nil || m == nil {
		return s, err
	}
	return &Shape{*next}, nil
}

// ColumnMapping tells whether files have other names than the table's columns have. A column's name in the files is chosen when it is added.
func (s *Shape) ColumnMapping() bool { return s.columnMappingMode() != "none" }

// TypeWidening tells whether types may get wider.
func (s *Shape) TypeWidening() bool { return s.active("typeWidening") }

// evolve is what a wanted schema makes of the state, with the actions for it; nil where there are none.
func (s *state) evolve(want *arrow.Schema) (next *state, m *Metadata, p *Protocol, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("evolving the schema: %w", err)
		}
	}()
	if err := s.checkAppend(); err != nil { // what is not known could not be carried over
		return nil, nil, nil, err
	}
	e := evolution{state: s, mapped: s.columnMappingMode() != "none"}
	fields, err := e.merge(s.schema.Fields(), want.Fields(), "", true)
	if err != nil || !e.changed {
		return nil, nil, nil, err
	}
	if m, p, err = e.actions(fields); err != nil {
		return nil, nil, nil, err
	}
	if next, err = s.with(m, p); err != nil {
		return nil, nil, nil, err
	}
	if err := next.checkAppend(); err != nil {
		return nil, nil, nil, err
	}
	return next, m, p, nil
}

// with is the state with another metaData and protocol; nil for none.
func (s *state) with(m *Metadata, p *Protocol) (*state, error) {
	next := *s
	err := next.apply(&Commit{Version: s.version, Metadata: m, Protocol: p, Info: s.info})
	next.ict = s.ict
	return &next, err
}

type evolution struct {
	*state
	mapped  bool
	changed bool
}

// actions are the new metaData, and the new protocol where a new column needs a feature that the table does not have.
func (e *evolution) actions(fields []arrow.Field) (*Metadata, *Protocol, error) {
	m := e.metadata
	m.Configuration = maps.Clone(m.Configuration)
	if err := checkNames(fields, "", e.mapped); err != nil {
		return nil, nil, err
	}
	if strings.EqualFold(m.Configuration[changeDataFeedKey], "true") {
		if err := checkReserved(fields); err != nil {
			return nil, nil, err
		}
	}
	if e.mapped {
		maxID, err := e.maxColumnID()
		if err != nil {
			return nil, nil, err
		}
		nested := e.active("icebergCompatV2")
		if fields, maxID, err = withMapping(fields, maxID, nested); err != nil {
			return nil, nil, err
		}
		m.Configuration[maxColumnIDKey] = strconv.FormatInt(maxID, 10)
	}
	var err error
	if m.SchemaString, err = SchemaToJSON(arrow.NewSchema(fields, nil)); err != nil {
		return nil, nil, err
	}
	missing := slices.DeleteFunc(schemaFeatures(fields), func(feature string) bool { // of types: a new column has no rule
		return feature != "timestampNtz" && feature != "variantType" || e.supports(feature) || e.supports(feature+"-preview")
	})
	if len(missing) == 0 {
		return &m, nil, nil
	}
	// All that the old versions implied may have been used (PROTOCOL.md, "Table Features for New and Existing Tables").
	p := lowestProtocol(append(e.supported(), missing...))
	return &m, &p, nil
}

// merge gives the fields that take values of both. inStructs: no list or map is around them.
func (e *evolution) merge(have, want []arrow.Field, path string, inStructs bool) ([]arrow.Field, error) {
	out := slices.Clone(have)
	for _, w := range want {
		p := joinPath(path, w.Name)
		i := slices.IndexFunc(have, func(f arrow.Field) bool { return f.Name == w.Name })
		if i < 0 {
			added, err := e.newColumn(w, p, inStructs)
			if err != nil {
				return nil, err
			}
			out, e.changed = append(out, added), true
			continue
		}
		if w.Nullable && !out[i].Nullable {
			out[i].Nullable, e.changed = true, true
		}
		t, changes, err := e.mergeType(out[i].Type, w.Type, p, "", inStructs)
		if err != nil {
			return nil, err
		}
		if out[i].Type = t; changes != nil {
			if err := e.mayWiden(out[i], p); err != nil {
				return nil, err
			}
			out[i] = withMetadata(out[i], typeChangesKey, append(typeChanges(out[i]), changes...))
		}
	}
	return out, nil
}

// newColumn drops what another table says of a column, and refuses what would fill or reject the rows that are there. Which types it had there
// stays, where it may: files of those may be what comes.
func (e *evolution) newColumn(f arrow.Field, path string, inStructs bool) (arrow.Field, error) {
	if !f.Nullable {
		return f, fmt.Errorf("column %s is new and NOT NULL, but the rows that are there have no value for it; make it nullable", path)
	}
	if inside := compileNode(path, f.Type, true, inStructs).inside; inside != "" { // the null struct of those rows would violate it
		return f, fmt.Errorf("column %s is new, and its field %s is NOT NULL, but the rows that are there have no value for it; make it nullable", path, inside)
	}
	var err error
	fresh := rewriteFields([]arrow.Field{f}, func(f arrow.Field) arrow.Field {
		for _, key := range []string{defaultKey, generationKey, invariantsKey, "delta.identity.step"} {
			if _, ok := fieldMetadataOf(f, key); ok && err == nil {
				err = fmt.Errorf("column %s is new and has %s; add it without, and set that afterwards", path, key)
			}
		}
		if f = withoutMapping(f); e.active("typeWidening") {
			return f
		}
		return withMetadata(f, typeChangesKey, nil)
	})
	return fresh[0], err
}

// mergeType gives the type that takes values of both, and the changes to be recorded with the column; inside is the path
// from the column to an element, key or value.
func (e *evolution) mergeType(have, want arrow.DataType, path, inside string, inStructs bool) (arrow.DataType, []typeChange, error) {
	switch h := have.(type) {
	case *arrow.StructType:
		if w, ok := want.(*arrow.StructType); ok {
			fields, err := e.merge(h.Fields(), w.Fields(), path, inStructs)
			if err != nil {
				return nil, nil, err
			}
			return arrow.StructOf(fields...), nil, nil
		}
	case *arrow.ListType:
		if w, ok := want.(*arrow.ListType); ok {
			elem, changes, err := e.mergeType(h.Elem(), w.Elem(), joinPath(path, "element"), joinPath(inside, "element"), false)
			if err != nil {
				return nil, nil, err
			}
			return listOf(elem, e.relax(h.ElemField().Nullable, w.ElemField().Nullable)), changes, nil
		}
	case *arrow.MapType:
		if w, ok := want.(*arrow.MapType); ok {
			key, changes, err1 := e.mergeType(h.KeyType(), w.KeyType(), joinPath(path, "key"), joinPath(inside, "key"), false)
			value, more, err2 := e.mergeType(h.ItemType(), w.ItemType(), joinPath(path, "value"), joinPath(inside, "value"), false)
			if err := errors.Join(err1, err2); err != nil {
				return nil, nil, err
			}
			return mapOf(key, value, e.relax(h.ItemField().Nullable, w.ItemField().Nullable)), append(changes, more...), nil
		}
	default:
		switch {
		case arrow.TypeEqual(have, want), Widens(want, have):
			return have, nil, nil
		case Widens(have, want):
			e.changed = true
			change, err := e.typeChange(have, want, path, inside)
			return want, []typeChange{change}, err
		}
	}
	return nil, nil, fmt.Errorf("column %s has the type %s, which cannot become %s", path, have, want)
}

func (e *evolution) relax(have, want bool) bool {
	e.changed = e.changed || want && !have
	return have || want
}

// typeChange spells one change of a plain type.
func (e *evolution) typeChange(have, want arrow.DataType, path, inside string) (typeChange, error) {
	if !e.active("typeWidening") {
		return typeChange{}, &UnsupportedError{
			Features: []string{"typeWidening"}, Detail: fmt.Sprintf("column %s has the type %s and is to become %s", path, have, want),
			Remedy: "set delta.enableTypeWidening = true with ALTER TABLE ... SET TBLPROPERTIES, which adds the feature",
		}
	}
	from, err1 := typeToJSON(have, path)
	to, err2 := typeToJSON(want, path)
	fromJSON, err3 := marshal(from)
	toJSON, err4 := marshal(to)
	return typeChange{From: fromJSON, To: toJSON, Path: inside}, errors.Join(err1, err2, err3, err4)
}

// mayWiden refuses columns whose values are also spelled elsewhere: in partition values, or in expressions, whose result
// may depend on the type.
func (e *evolution) mayWiden(f arrow.Field, path string) error {
	if slices.Contains(e.metadata.PartitionColumns, path) {
		return fmt.Errorf("column %s is a partition column; its type stays", path)
	}
	for place, text := range e.rules() {
		// An expression is looked through without understanding it: a false alarm costs a refusal.
		if strings.HasPrefix(place, path+" ") || strings.Contains(strings.ToLower(text), strings.ToLower(f.Name)) {
			return fmt.Errorf("column %s is in the expression of %s; its type stays", path, place)
		}
	}
	return nil
}

// rules are the texts of everything that rows must satisfy or that fills columns in, by the place that has it.
func (s *state) rules() map[string]string {
	rules := map[string]string{}
	for key, value := range s.metadata.Configuration {
		if _, ok := constraintName(key); ok {
			rules[key] = value
		}
	}
	_ = walkFields(s.schema.Fields(), "", func(path string, f arrow.Field) error {
		for _, key := range []string{invariantsKey, generationKey, "delta.identity.step", defaultKey} {
			if raw, ok := fieldMetadataOf(f, key); ok {
				rules[path+" "+key] = string(raw)
			}
		}
		return nil
	})
	return rules
}
