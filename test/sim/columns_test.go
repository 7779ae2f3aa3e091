package sim

import (
	"encoding/json"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// tableType is a type in a table's schema: its name, or a struct.
type tableType struct {
	name   string
	Fields []struct {
		Name     string    `json:"name"`
		Type     tableType `json:"type"`
		Metadata struct {
			Changes []struct {
				From string `json:"fromType"`
			} `json:"delta.typeChanges"`
		} `json:"metadata"`
	} `json:"fields"`
}

func (t *tableType) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &t.name)
	}
	type plain tableType // without this method
	t.name = "struct"
	return json.Unmarshal(data, (*plain)(t))
}

// collect gives the types by the paths of their columns, and those that they say to have had.
func (t *tableType) collect(path string, to map[string]string, had map[string][]string) {
	for _, f := range t.Fields {
		to[path+f.Name] = f.Type.name
		for _, c := range f.Metadata.Changes {
			had[path+f.Name] = append(had[path+f.Name], c.From)
		}
		f.Type.collect(path+f.Name+".", to, had)
	}
}

// columnsOf are the columns of a file in the same form, of types that messages bring.
func columnsOf(path string, t arrow.DataType, to map[string]string) {
	switch t := t.(type) {
	case *arrow.StructType:
		to[path] = "struct"
		for _, f := range t.Fields() {
			columnsOf(path+"."+f.Name, f.Type, to)
		}
	default:
		to[path] = map[arrow.Type]string{arrow.STRING: "string", arrow.INT16: "short", arrow.INT32: "integer", arrow.INT64: "long", arrow.FLOAT32: "float", arrow.FLOAT64: "double"}[t.ID()]
	}
}

// valuesOf are the values of a row, by the paths of their columns. What is null has none.
func valuesOf(path string, c arrow.Array, i int, to map[string]string) {
	if c.IsNull(i) {
		return
	}
	switch c := c.(type) {
	case *array.Struct:
		for j, f := range c.DataType().(*arrow.StructType).Fields() {
			valuesOf(path+"."+f.Name, c.Field(j), i, to)
		}
	case *array.Float32:
		to[path] = fractionText(float64(c.Value(i)))
	case *array.Float64:
		to[path] = fractionText(c.Value(i))
	default:
		to[path] = c.ValueStr(i)
	}
}
