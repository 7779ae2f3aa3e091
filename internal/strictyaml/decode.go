package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// decoder fills one struct from one document and collects every problem on the way.
type decoder struct {
	filename string
	env      func(string) (string, bool)
	root     reflect.Type // struct that the document is decoded into
	problems []*Error
}

// target is where a value goes.
type target struct {
	reflect.Value        // settable
	path          string // of the key
	bytes         bool   // tagged `unit:"bytes"`
}

func (d *decoder) fail(n *yaml.Node, e Error) {
	e.File, e.Line, e.Column = d.filename, n.Line, n.Column
	d.problems = append(d.problems, &e)
}

func (d *decoder) document(n *yaml.Node, into reflect.Value) {
	t := target{Value: into}
	switch {
	case d.refused(n, t.path):
	case n.Kind == yaml.MappingNode:
		d.structure(n, t)
	case n.Kind == yaml.ScalarNode && isPlain(n) && isNull(n.Value):
	default:
		d.wrong(n, t, expectation(t), nil)
	}
}

// refused reports the parts of YAML that a configuration does not need and that hide where a value comes from. The
// names of tags and anchors are not shown: an unquoted password may look like one.
func (d *decoder) refused(n *yaml.Node, path string) bool {
	const quote = "; quote a value that begins with "
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, Error{Path: path, Problem: "alias" + forPath(path), Remedy: "write the value out" + quote + "*"})
	case n.Anchor != "":
		d.fail(n, Error{Path: path, Problem: "anchor" + forPath(path), Remedy: "write the value out" + quote + "&"})
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n, Error{Path: path, Problem: "tag" + forPath(path), Remedy: "remove it" + quote + "!"})
	default:
		return false
	}
	return true
}

func (d *decoder) value(n *yaml.Node, t target) {
	switch {
	case d.refused(n, t.path):
	case t.Kind() == reflect.Pointer:
		d.pointer(n, t)
	case n.Kind == yaml.ScalarNode:
		d.scalar(n, t)
	case t.Kind() == reflect.Interface && t.NumMethod() == 0:
		d.untyped(n, t)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		d.structure(n, t)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		d.mapping(n, t)
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		d.sequence(n, t)
	default:
		d.wrong(n, t, expectation(t), nil)
	}
}

// pointer decodes into a copy, so that a default shared between configurations is not written to.
func (d *decoder) pointer(n *yaml.Node, t target) {
	if n.Kind == yaml.ScalarNode && isPlain(n) && isNull(n.Value) {
		t.SetZero()
		return
	}
	fresh := reflect.New(t.Type().Elem())
	if !t.IsNil() {
		fresh.Elem().Set(t.Elem())
	}
	d.value(n, target{Value: fresh.Elem(), path: t.path, bytes: t.bytes})
	t.Set(fresh)
}

func (d *decoder) structure(n *yaml.Node, t target) {
	fields, err := fieldsOf(t.Type())
	if err != nil {
		d.fail(n, Error{Path: t.path, Problem: "unreadable type" + forPath(t.path), Remedy: err.Error(), Err: err})
		return
	}
	if _, ok := asText(t); ok && len(fields) == 0 {
		d.wrong(n, t, expectation(t), nil)
		return
	}
	byName := make(map[string]field, len(fields))
	for _, f := range fields {
		byName[f.name] = f
	}
	d.entries(n, t.path, func(key, value *yaml.Node, path string) any {
		if f, ok := byName[key.Value]; ok {
			d.value(value, target{Value: f.resolve(t.Value), path: path, bytes: f.bytes})
		} else {
			d.fail(key, Error{
				Path: path, Problem: `unknown key "` + path + `"`, Remedy: d.unknownKeyRemedy(key.Value, fields),
			})
		}
		return key.Value
	})
}

func (d *decoder) mapping(n *yaml.Node, t target) {
	made := reflect.MakeMapWithSize(t.Type(), len(n.Content)/2)
	d.entries(n, t.path, func(keyNode, valueNode *yaml.Node, path string) any {
		key := reflect.New(t.Type().Key()).Elem()
		problems := len(d.problems)
		d.assign(scalar{node: keyNode, text: keyNode.Value}, target{Value: key, path: path})
		if len(d.problems) > problems {
			return keyNode.Value
		}
		value := reflect.New(t.Type().Elem()).Elem()
		d.value(valueNode, target{Value: value, path: path, bytes: t.bytes})
		if !made.MapIndex(key).IsValid() {
			made.SetMapIndex(key, value)
		}
		return key.Interface()
	})
	t.Set(made)
}

// entries calls each for every entry of a mapping whose key is usable, and reports the others. each gives the key's
// identity, by which duplicates are found.
func (d *decoder) entries(n *yaml.Node, path string, each func(key, value *yaml.Node, path string) any) {
	seen := make(map[any]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case d.refused(key, path):
			continue
		case key.Kind != yaml.ScalarNode:
			d.fail(key, Error{Path: path, Problem: "key that is " + kindOf(key) + forPath(path), Remedy: "expected text as key"})
			continue
		case key.Value == "<<" && isPlain(key):
			d.fail(key, Error{Path: path, Problem: "merge key <<" + forPath(path), Remedy: "write the keys out"})
			continue
		}
		at := joinPath(path, key.Value)
		if first, duplicate := seen[key.Value]; duplicate {
			d.duplicate(key, first, at)
			continue
		}
		seen[key.Value] = key
		identity := each(key, value, at)
		if identity == any(key.Value) {
			continue
		}
		// Keys that are spelled differently may still be the same: 1 and 0x1.
		if first, duplicate := seen[identity]; duplicate {
			d.duplicate(key, first, at)
			continue
		}
		seen[identity] = key
	}
}

func (d *decoder) duplicate(key, first *yaml.Node, path string) {
	d.fail(key, Error{
		Path: path, Problem: `duplicate key "` + path + `"`, Remedy: "first given at line " + strconv.Itoa(first.Line),
	})
}

func (d *decoder) sequence(n *yaml.Node, t target) {
	made := reflect.MakeSlice(t.Type(), len(n.Content), len(n.Content))
	for i, element := range n.Content {
		if t.Len() > 0 && t.Type().Elem().Kind() == reflect.Struct {
			made.Index(i).Set(t.Index(0))
		}
		d.value(element, target{
			Value: made.Index(i), path: t.path + "[" + strconv.Itoa(i) + "]", bytes: t.bytes,
		})
	}
	t.Set(made)
}

// untyped decodes a list or mapping into an any: []any or map[string]any.
func (d *decoder) untyped(n *yaml.Node, t target) {
	var made reflect.Value
	if n.Kind == yaml.SequenceNode {
		made = reflect.New(reflect.TypeFor[[]any]()).Elem()
	} else {
		made = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	}
	d.value(n, target{Value: made, path: t.path})
	t.Set(made)
}

// wrong reports a value that does not fit its target. A value from the environment is shown as it is written in the
// file, and a secret not at all.
func (d *decoder) wrong(n *yaml.Node, t target, remedy string, cause error) {
	shown := kindOf(n)
	switch {
	case n.Kind != yaml.ScalarNode:
	case isSecret(t):
		shown = redacted
		cause = nil
	default:
		shown = strconv.Quote(shorten(n.Value))
	}
	d.fail(n, Error{Path: t.path, Problem: "wrong value " + shown + forPath(t.path), Remedy: remedy, Err: cause})
}

func isSecret(t target) bool {
	_, ok := reflect.TypeAssert[interface{ Reveal() string }](t.Addr())
	return ok
}

// asText gives the target as what reads its value from text by itself, if it does.
func asText(t target) (encoding.TextUnmarshaler, bool) {
	return reflect.TypeAssert[encoding.TextUnmarshaler](t.Addr())
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode, yaml.DocumentNode:
		return "a single value"
	}
	return fmt.Sprintf("a node of kind %d", n.Kind)
}

func forPath(path string) string {
	if path == "" {
		return " for the document"
	}
	return " for " + path
}

// joinPath appends a key to a path; one that is not a plain word is quoted, so that its dots are not taken for levels.
func joinPath(path, key string) string {
	if !isWord(key) {
		return path + "[" + strconv.Quote(shorten(key)) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func isWord(s string) bool {
	for _, r := range s {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= shownRunes
}

const shownRunes = 60 // of a value or key, in an error

func shorten(s string) string {
	n := 0
	for i := range s {
		if n++; n > shownRunes {
			return s[:i] + "…"
		}
	}
	return s
}
