package main

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/sink"
)

// jsonKind is a kind of JSON's values, as bits.
type jsonKind uint8

const (
	jsonText    jsonKind = 1 << iota // of any form but that of a date or an instant
	jsonInstant                      // text
	jsonNumber
	jsonBoolean
	jsonObject
	jsonArray
	jsonAny = jsonText | jsonInstant | jsonNumber | jsonBoolean | jsonObject | jsonArray
)

// jsonFits is what becomes of JSON values in a column that was not made for them, by docs/json.md: none of them fits where it takes no value of their kinds. It is "" where it
// takes all of them. schema says that values have a type of jsonschema.ValueSchema.
func jsonFits(column, values arrow.DataType, schema bool) sink.ChangeKind {
	kinds := jsonValues(values, schema)
	switch id := column.ID(); {
	case id == arrow.STRING, id == arrow.FLOAT64 && values.ID() == arrow.INT64, id == arrow.DATE32 && values.ID() == arrow.TIMESTAMP:
		return ""
	case jsonTakes(column)&kinds == 0:
		return sink.ChangeBreaks
	}
	return sink.ChangeChecks
}

// jsonValues are the kinds that values of a type may be. Without a JSON Schema nothing tells whether a date or an instant is a text or a number.
func jsonValues(t arrow.DataType, schema bool) jsonKind {
	switch t.ID() {
	case arrow.LARGE_STRING:
		return jsonAny
	case arrow.STRING:
		return jsonText | jsonInstant
	case arrow.BINARY:
		return jsonText
	case arrow.DATE32, arrow.TIMESTAMP:
		if schema {
			return jsonInstant
		}
		return jsonInstant | jsonNumber
	case arrow.FLOAT32, arrow.FLOAT64:
		if schema {
			return jsonNumber
		}
		return jsonText | jsonNumber // NaN and the infinities
	case arrow.DECIMAL128:
		return jsonText | jsonNumber
	case arrow.BOOL:
		return jsonBoolean
	case arrow.STRUCT, arrow.MAP, arrow.LARGE_BINARY:
		return jsonObject
	case arrow.LIST:
		return jsonArray
	default: // whole numbers
		return jsonNumber
	}
}

// jsonTakes are the kinds of which a column takes at least some values. A text in FLOAT and DOUBLE is NaN or an infinity.
func jsonTakes(column arrow.DataType) jsonKind {
	switch column.ID() {
	case arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128:
		return jsonText | jsonNumber
	case arrow.DATE32, arrow.TIMESTAMP:
		return jsonInstant | jsonNumber
	case arrow.BINARY:
		return jsonText
	case arrow.BOOL:
		return jsonBoolean
	case arrow.STRUCT, arrow.MAP:
		return jsonObject
	case arrow.LIST:
		return jsonArray
	default: // whole numbers; text takes all
		return jsonNumber
	}
}

// jsonKeyFits is jsonFits for keys of maps, which are texts in JSON, whatever their type: a column of another type is read from such a text, and never takes a number for a date.
func jsonKeyFits(column, keys arrow.DataType) sink.ChangeKind {
	var takes jsonKind
	switch column.ID() {
	case arrow.STRING:
		return ""
	case arrow.BINARY:
		takes = jsonText | jsonNumber | jsonBoolean // 1234 and true are base64
	case arrow.FLOAT32, arrow.FLOAT64:
		if whole := arrow.IsInteger(keys.ID()); whole && column.ID() == arrow.FLOAT64 {
			return ""
		}
		takes = jsonText | jsonNumber
	case arrow.BOOL:
		takes = jsonBoolean
	case arrow.DATE32, arrow.TIMESTAMP:
		takes = jsonInstant
	default: // whole numbers, decimals
		takes = jsonNumber
	}
	var texts jsonKind // what they spell
	switch keys.ID() {
	case arrow.STRING, arrow.LARGE_STRING:
		texts = jsonText | jsonInstant | jsonNumber | jsonBoolean
	case arrow.BINARY:
		texts = jsonText | jsonNumber | jsonBoolean
	case arrow.DATE32, arrow.TIMESTAMP: // nothing tells which
		texts = jsonInstant | jsonNumber
	case arrow.FLOAT32, arrow.FLOAT64:
		texts = jsonText | jsonNumber // NaN and the infinities
	case arrow.BOOL:
		texts = jsonBoolean
	default:
		texts = jsonNumber
	}
	if takes&texts == 0 || column.ID() == arrow.BINARY && keys.ID() == arrow.INT8 { // of three digits, and base64 has four characters
		return sink.ChangeBreaks
	}
	return sink.ChangeChecks
}

// textKeys tells of maps whose keys are texts that they are of any type, as jsonschema.ValueSchema does: JSON has no other keys, and those of a column are read from their text.
func textKeys(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.StructType:
		fields := slices.Clone(t.Fields())
		for i := range fields {
			fields[i].Type = textKeys(fields[i].Type)
		}
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		key := t.KeyType()
		if key.ID() == arrow.STRING {
			key = arrow.BinaryTypes.LargeString
		}
		return arrow.MapOf(key, textKeys(t.ItemType()))
	case *arrow.ListType:
		return arrow.ListOf(textKeys(t.Elem()))
	}
	return t
}
