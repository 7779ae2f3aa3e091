package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/decode/protobuf"
	"kafkadelta/delta"
)

// fileSchema reads a table's columns from a file whose name tells what it is: Avro (.avsc), Protobuf (.proto, or .pb as protoc writes
// descriptor sets), Arrow IPC (.arrow, .arrows), or JSON (.json), which is a JSON Schema, Delta's schemaString or Avro. For
// Protobuf the name may end with # and a message type.
//
// Fields that are given may have the type null. Where key is not empty, the schema is of keys, and has one column of that name. ofAvro gives the columns of a schema of Avro.
// values are the columns, or of a JSON Schema what jsonschema.ValueSchema tells.
func fileSchema(name, key string, given decode.Given, ofAvro func(*avro.Schema) (*arrow.Schema, error)) (columns, values *arrow.Schema, err error) {
	path, message := splitMessage(name)
	ext := strings.ToLower(filepath.Ext(path))
	if message != "" && ext != ".proto" && ext != ".pb" {
		return nil, nil, fmt.Errorf("%s: only a file of Protobuf has message types: leave out #%s", path, message)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	switch ext {
	case ".avsc":
		columns, err = avroColumns(path, data, ofAvro)
	case ".proto", ".pb":
		columns, err = protoColumns(path, data, message, key, given)
	case ".arrow", ".arrows":
		if columns, err = arrowColumns(data); err == nil {
			columns = keyOf(key, columns)
		}
	case ".json":
		columns, values, err = jsonColumns(path, data, key, given, ofAvro)
	default:
		return nil, nil, fmt.Errorf("%s: the name does not tell what it is: use .avsc (Avro), .json (JSON Schema, or Delta's schemaString), .proto or .pb (Protobuf), .arrow or .arrows (Arrow)", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if values == nil {
		values = columns
	}
	return columns, values, nil
}

// keyOf is a key with these fields; the columns themselves where key is empty.
func keyOf(key string, columns *arrow.Schema) *arrow.Schema {
	if key == "" {
		return columns
	}
	return arrow.NewSchema([]arrow.Field{{Name: key, Type: arrow.StructOf(columns.Fields()...), Nullable: true}}, nil)
}

// splitMessage takes the message type from the end of a file's name.
func splitMessage(name string) (path, message string) {
	if i := strings.LastIndexByte(name, '#'); i > strings.LastIndexAny(name, `/\`) {
		return name[:i], name[i+1:]
	}
	return name, ""
}

func avroColumns(path string, data []byte, ofAvro func(*avro.Schema) (*arrow.Schema, error)) (*arrow.Schema, error) {
	s, err := avroFile("", path, string(data))
	if err != nil {
		return nil, err
	}
	return ofAvro(s)
}

// avroFile reads a schema of Avro, whose types may be defined by other .avsc files of its folder, each of one type. id is how errors name it.
func avroFile(id, path, text string) (*avro.Schema, error) {
	var defined map[string][]string // file names, by the type
	return avro.ParseWith(id, text, func(name string) (string, error) {
		if defined == nil {
			var err error
			if defined, err = avroTypes(path); err != nil {
				return "", err
			}
		}
		switch files := defined[name]; len(files) {
		case 0:
			return "", nil
		case 1:
			data, err := os.ReadFile(files[0])
			return string(data), err
		default:
			return "", fmt.Errorf("the type %q is defined by %s: keep one of them beside %s", name, strings.Join(files, " and "), path)
		}
	})
}

// avroTypes are the types that the .avsc files beside one define.
func avroTypes(path string) (map[string][]string, error) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.avsc"))
	defined := map[string][]string{}
	for _, file := range files {
		if filepath.Base(file) == filepath.Base(path) {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var top struct{ Name, Namespace string }
		if json.Unmarshal(data, &top) != nil || top.Name == "" { // of no one type
			continue
		}
		if top.Namespace != "" && !strings.Contains(top.Name, ".") {
			top.Name = top.Namespace + "." + top.Name
		}
		defined[top.Name] = append(defined[top.Name], file)
	}
	return defined, err
}

// maxFilesBeside bounds the files of a folder that a schema may refer to.
const maxFilesBeside = 1000

// filesBeside reads the files with an extension in the folder of another one, and below it, by their names from there.
func filesBeside(path, ext, instead string, add func(name, text string)) error {
	folder, n := filepath.Dir(path), 0
	return filepath.WalkDir(folder, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(p) != ext {
			return err
		}
		if n++; n > maxFilesBeside {
			return fmt.Errorf("the folder %s has more than %d %s files: %s", folder, maxFilesBeside, ext, instead)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, p)
		add(filepath.ToSlash(name), string(data))
		return err
	})
}

// protoColumns reads the columns of a message type, or the column of keys of that type.
func protoColumns(path string, data []byte, message, key string, given decode.Given) (*arrow.Schema, error) {
	typ, err := protoType(path, data, message)
	switch {
	case err != nil:
		return nil, err
	case key != "":
		return protobuf.ColumnSchema(typ, key, given)
	}
	return protobuf.MessageSchema(typ, given)
}

// protoType reads a descriptor set, or a .proto file, whose imports are relative to its own folder.
func protoType(path string, data []byte, message string) (*protobuf.Type, error) {
	if strings.ToLower(filepath.Ext(path)) == ".pb" {
		return protobuf.FromDescriptorSet(data, message)
	}
	var references []protobuf.Reference
	err := filesBeside(path, ".proto", "give a descriptor set, as protoc --include_imports --descriptor_set_out writes it", func(name, text string) {
		references = append(references, protobuf.Reference{Path: name, Text: text})
	})
	if err != nil {
		return nil, err
	}
	s, err := protobuf.Parse(context.Background(), filepath.Base(path), string(data), references...)
	if err != nil {
		return nil, err
	}
	return s.Named(message)
}

// jsonColumns tells the schemas apart that are JSON. values are those of a JSON Schema.
func jsonColumns(path string, data []byte, key string, given decode.Given, ofAvro func(*avro.Schema) (*arrow.Schema, error)) (columns, values *arrow.Schema, err error) {
	var top struct {
		Type   any             `json:"type"`
		Fields json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, nil, err
	}
	switch {
	case top.Type == "struct" && top.Fields != nil:
		if columns, err = delta.SchemaFromJSON(string(data)); err == nil {
			columns = keyOf(key, columns)
		}
		return columns, nil, err
	case top.Type == "record" && top.Fields != nil:
		columns, err = avroColumns(path, data, ofAvro)
		return columns, nil, err
	}
	var references []jsonschema.Reference
	if bytes.Contains(data, []byte(`"$ref"`)) {
		err := filesBeside(path, ".json", "keep those that the schema refers to in a folder of their own", func(name, text string) {
			references = append(references, jsonschema.Reference{Name: name, Text: text})
		})
		if err != nil {
			return nil, nil, err
		}
	}
	if key != "" {
		return ofJSONSchema(jsonschema.ColumnSchema(key, given, string(data), references...))
	}
	return ofJSONSchema(jsonschema.ValueSchema(given, string(data), references...))
}

// arrowColumns reads the schema of an Arrow file or stream, and takes for each type the one that a table has for it.
func arrowColumns(data []byte) (*arrow.Schema, error) {
	var schema *arrow.Schema
	if file, err := ipc.NewFileReader(bytes.NewReader(data)); err == nil {
		schema = file.Schema()
		_ = file.Close()
	} else {
		stream, streamErr := ipc.NewReader(bytes.NewReader(data))
		if streamErr != nil {
			return nil, fmt.Errorf("neither an Arrow file nor a stream: %w; %w", err, streamErr)
		}
		schema = stream.Schema()
		stream.Release()
	}
	fields, err := tableFields(schema.Fields(), "")
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, errors.New("the schema has no fields, and a table needs a column")
	}
	return arrow.NewSchema(fields, nil), nil
}

func tableFields(fields []arrow.Field, path string) ([]arrow.Field, error) {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		t, err := tableType(f.Type, path+f.Name)
		if err != nil {
			return nil, err
		}
		out[i] = arrow.Field{Name: f.Name, Type: t, Nullable: f.Nullable}
	}
	return out, nil
}

// tableType is the table's type for values of an Arrow type: none is changed, but that timestamps have microseconds.
func tableType(t arrow.DataType, path string) (arrow.DataType, error) {
	switch t := t.(type) {
	case *arrow.StructType:
		fields, err := tableFields(t.Fields(), path+".")
		if err != nil {
			return nil, err
		}
		return arrow.StructOf(fields...), nil
	case *arrow.MapType:
		key, err := tableType(t.KeyType(), path+".key")
		if err != nil {
			return nil, err
		}
		value, err := tableType(t.ItemType(), path+".value")
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(key, value), nil
	case arrow.ListLikeType:
		element, err := tableType(t.Elem(), path+".element")
		if err != nil {
			return nil, err
		}
		return arrow.ListOf(element), nil
	case *arrow.DictionaryType:
		return tableType(t.ValueType, path)
	case *arrow.TimestampType:
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: map[bool]string{true: "UTC"}[t.TimeZone != ""]}, nil
	case *arrow.Decimal128Type:
		return t, nil
	}
	if to, ok := tableTypes[t.ID()]; ok {
		return to, nil
	}
	return nil, fmt.Errorf("field %s is %s, for which a table has no type: name the columns in table.schema", path, t)
}

var tableTypes = map[arrow.Type]arrow.DataType{
	arrow.BOOL: arrow.FixedWidthTypes.Boolean, arrow.INT8: arrow.PrimitiveTypes.Int8, arrow.INT16: arrow.PrimitiveTypes.Int16,
	arrow.INT32: arrow.PrimitiveTypes.Int32, arrow.INT64: arrow.PrimitiveTypes.Int64, arrow.UINT8: arrow.PrimitiveTypes.Int16,
	arrow.UINT16: arrow.PrimitiveTypes.Int32, arrow.UINT32: arrow.PrimitiveTypes.Int64, arrow.UINT64: &arrow.Decimal128Type{Precision: 20},
	arrow.FLOAT16: arrow.PrimitiveTypes.Float32, arrow.FLOAT32: arrow.PrimitiveTypes.Float32, arrow.FLOAT64: arrow.PrimitiveTypes.Float64,
	arrow.STRING: arrow.BinaryTypes.String, arrow.LARGE_STRING: arrow.BinaryTypes.String, arrow.STRING_VIEW: arrow.BinaryTypes.String,
	arrow.BINARY: arrow.BinaryTypes.Binary, arrow.LARGE_BINARY: arrow.BinaryTypes.Binary, arrow.BINARY_VIEW: arrow.BinaryTypes.Binary,
	arrow.FIXED_SIZE_BINARY: arrow.BinaryTypes.Binary, arrow.DATE32: arrow.FixedWidthTypes.Date32, arrow.DATE64: arrow.FixedWidthTypes.Date32,
}
