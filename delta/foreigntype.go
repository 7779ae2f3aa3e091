package delta

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// foreignType stands in an Arrow schema for a type that Delta or Spark has, or may have one day, and that this package does
// not write: such a table can be opened and inspected, and its schema written back as it was, but CheckAppend refuses it.
// There are no arrays of it.
type foreignType struct {
	arrow.ExtensionBase
	name string // as in the schema, such as "variant"
	raw  string // its JSON
}

func foreign(name string, raw []byte) *foreignType {
	return &foreignType{ExtensionBase: arrow.ExtensionBase{Storage: arrow.Null}, name: name, raw: string(raw)}
}

func (*foreignType) ArrayType() reflect.Type { return reflect.TypeFor[array.ExtensionArrayBase]() }
func (*foreignType) ExtensionName() string   { return "delta.type" }
func (t *foreignType) String() string        { return t.name }
func (t *foreignType) Serialize() string     { return t.raw }

func (t *foreignType) ExtensionEquals(other arrow.ExtensionType) bool {
	o, ok := other.(*foreignType)
	return ok && o.raw == t.raw
}

func (*foreignType) Deserialize(arrow.DataType, string) (arrow.ExtensionType, error) {
	return nil, errors.New("a column of a type that Delta has and this package does not write cannot be read")
}

// foreignFeatures names the feature, or what comes next to it, that a type belongs to.
var foreignFeatures = map[string]string{
	"void": "void", "null": "void", "variant": "variantType", "interval": "interval", "char": "char", "varchar": "varchar",
	"geometry": "geospatial", "geography": "geospatial", "udt": "user-defined type",
}

func (t *foreignType) feature() string {
	word := strings.ToLower(t.name)
	if i := strings.IndexAny(word, " ("); i >= 0 {
		word = word[:i]
	}
	if feature, ok := foreignFeatures[word]; ok {
		return feature
	}
	return "type " + t.name
}

const foreignRemedy = "write to a table without such a column"

// checkTypes refuses a schema with a type that this package does not write: an *UnsupportedError that names every such
// column (PROTOCOL.md, "Schema Serialization Format").
func checkTypes(s *arrow.Schema) error {
	e := &UnsupportedError{Remedy: foreignRemedy}
	var details []string
	for path, t := range foreignTypes(s.Fields()) {
		e.Features = append(e.Features, t.feature())
		details = append(details, fmt.Sprintf("column %s has the type %s", path, t.name))
	}
	if details == nil {
		return nil
	}
	e.Detail = strings.Join(details, "; ")
	return e
}

// foreignTypes yields the foreign types of a schema with their field paths.
func foreignTypes(fields []arrow.Field) iter.Seq2[string, *foreignType] {
	return func(yield func(string, *foreignType) bool) {
		for _, f := range fields {
			if !eachForeign(f.Type, f.Name, yield) {
				return
			}
		}
	}
}

func eachForeign(t arrow.DataType, path string, yield func(string, *foreignType) bool) bool {
	switch t := t.(type) {
	case *foreignType:
		return yield(path, t)
	case *arrow.StructType:
		for _, f := range t.Fields() {
			if !eachForeign(f.Type, joinPath(path, f.Name), yield) {
				return false
			}
		}
	case *arrow.ListType:
		return eachForeign(t.Elem(), joinPath(path, "element"), yield)
	case *arrow.MapType:
		return eachForeign(t.KeyType(), joinPath(path, "key"), yield) && eachForeign(t.ItemType(), joinPath(path, "value"), yield)
	}
	return true
}
