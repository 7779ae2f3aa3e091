package avro

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// appendDefault encodes a field's default, which a schema gives as JSON: for a union a value of its first type, for bytes and
// fixed a text whose characters are the bytes (specification, "Complex Types", "Records").
func appendDefault(to []byte, typ *node, value any) ([]byte, error) {
	wrong := func() ([]byte, error) { return nil, fmt.Errorf("%v is no %s", value, typ) }
	switch typ.kind {
	case kindNull:
		if value != nil {
			return wrong()
		}
		return to, nil
	case kindUnion:
		for i, branch := range typ.branches { // the first one; since 1.12 any that fits
			if out, err := appendDefault(binary.AppendVarint(to, int64(i)), branch, value); err == nil {
				return out, nil
			}
		}
		return wrong()
	case kindBoolean:
		v, ok := value.(bool)
		switch {
		case !ok:
			return wrong()
		case v:
			return append(to, 1), nil
		}
		return append(to, 0), nil
	case kindInt, kindLong:
		v, ok := whole(value)
		if !ok || typ.kind == kindInt && v != int64(int32(v)) {
			return wrong()
		}
		return binary.AppendVarint(to, v), nil
	case kindFloat, kindDouble:
		v, err := floating(value)
		if err != nil {
			return wrong()
		}
		if typ.kind == kindFloat {
			return binary.LittleEndian.AppendUint32(to, math.Float32bits(float32(v))), nil
		}
		return binary.LittleEndian.AppendUint64(to, math.Float64bits(v)), nil
	case kindString:
		v, ok := value.(string)
		if !ok {
			return wrong()
		}
		return append(binary.AppendVarint(to, int64(len(v))), v...), nil
	case kindBytes, kindFixed:
		return appendBytesDefault(to, typ, value)
	case kindEnum:
		v, _ := value.(string)
		i := slices.Index(typ.symbols, v)
		if i < 0 {
			return wrong()
		}
		return binary.AppendVarint(to, int64(i)), nil
	default:
		return appendNestedDefault(to, typ, value)
	}
}

func floating(value any) (float64, error) {
	switch v := value.(type) {
	case json.Number:
		return v.Float64()
	case string:
		if f, ok := map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}[v]; ok {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%v is no number", value)
}

func appendBytesDefault(to []byte, typ *node, value any) ([]byte, error) {
	text, ok := value.(string)
	var data []byte
	for _, r := range text {
		ok = ok && r <= 0xff
		data = append(data, byte(r))
	}
	if !ok || typ.kind == kindFixed && len(data) != typ.size {
		return nil, fmt.Errorf("%v is no %s", value, typ)
	}
	if typ.kind == kindBytes {
		to = binary.AppendVarint(to, int64(len(data)))
	}
	return append(to, data...), nil
}

func appendNestedDefault(to []byte, typ *node, value any) ([]byte, error) {
	var err error
	switch v := value.(type) {
	case []any:
		if typ.kind != kindArray {
			break
		}
		if len(v) > 0 {
			to = binary.AppendVarint(to, int64(len(v)))
		}
		for _, item := range v {
			if to, err = appendDefault(to, typ.items, item); err != nil {
				return nil, err
			}
		}
		return append(to, 0), nil
	case map[string]any:
		if typ.kind == kindMap {
			if len(v) > 0 {
				to = binary.AppendVarint(to, int64(len(v)))
			}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				to = append(binary.AppendVarint(to, int64(len(key))), key...)
				if to, err = appendDefault(to, typ.items, v[key]); err != nil {
					return nil, err
				}
			}
			return append(to, 0), nil
		}
		if typ.kind != kindRecord {
			break
		}
		for i := range typ.fields {
			f := &typ.fields[i]
			item, ok := v[f.name]
			if !ok {
				if !f.hasOne {
					return nil, fmt.Errorf("%s lacks the field %s", typ, f.name)
				}
				item = f.value
			}
			if to, err = appendDefault(to, f.typ, item); err != nil {
				return nil, err
			}
		}
		return to, nil
	}
	return nil, fmt.Errorf("%v is no %s", value, typ)
}
