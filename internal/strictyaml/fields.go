package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a struct.
type field struct {
	name  string
	typ   reflect.Type
	index []int // path to it through inlined structs
	bytes bool  // tagged `unit:"bytes"`
}

// fieldsOf lists the keys of struct type t, those of inlined structs included. An error is a mistake in the type, which
// no configuration can mend.
func fieldsOf(t reflect.Type) ([]field, error) {
	var fields []field
	taken := map[string]bool{}
	if err := appendFields(t, nil, nil, taken, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

func appendFields(t reflect.Type, index []int, within []reflect.Type, taken map[string]bool, fields *[]field) error {
	if slices.Contains(within, t) {
		return fmt.Errorf("%s inlines itself", t)
	}
	within = append(slices.Clip(within), t)
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if !sf.IsExported() || name == "-" {
			continue
		}
		at := append(slices.Clip(index), i)
		if inline := options == "inline"; inline {
			inner := sf.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() != reflect.Struct {
				return fmt.Errorf("%s.%s: only a struct can be inlined, not %s", t, sf.Name, sf.Type)
			}
			if err := appendFields(inner, at, within, taken, fields); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(sf.Name)
		}
		if taken[name] {
			return fmt.Errorf("%s has the key %q twice", t, name)
		}
		taken[name] = true
		*fields = append(*fields, field{name: name, typ: sf.Type, index: at, bytes: sf.Tag.Get("unit") == "bytes"})
	}
	return nil
}

// resolve gives the field's value in v and makes the inlined structs on the way that are nil pointers.
func (f field) resolve(v reflect.Value) reflect.Value {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}
