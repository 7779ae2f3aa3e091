// Package strictyaml reads one YAML configuration file into Go structs and refuses whatever it does not understand.
//
// It owns the strictness of the configuration: an unknown, duplicate or wrongly typed key is an error that names file,
// line, column, path and remedy, and all errors of a file are reported together. It owns the expansion of ${ENV} in
// values, and the two value types that only a configuration needs, [Bytes] and [Secret]. It promises that the value of
// an environment variable never changes the structure of the file, and that errors show ${NAME} rather than its value.
//
// It never validates meaning (each package's Config does that in its Validate), never reads a file or the environment
// itself, and knows no package of this module: other packages' types take part by their struct tags and by
// [encoding.TextUnmarshaler].
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load decodes data, the content of the file called filename, into the struct that into points to. Fields that the
// file does not mention keep their value, so defaults are set before the call. A slice or a map that the file mentions
// replaces its default; the structs of a slice begin as copies of the default's first one, where there is one. env looks up
// an environment variable (os.LookupEnv); nil means that none is set.
//
// Keys are the names in the `yaml:"name"` tag, or the field's name in lower case. `yaml:",inline"` lifts the keys of a
// struct into its parent; `yaml:"-"` hides a field. Fields may be text, booleans, numbers, [time.Duration],
// structs, pointers, slices, maps with text or integer keys, any, and every type with UnmarshalText. An integer field
// tagged `unit:"bytes"` takes sizes such as 128MiB, as [Bytes] does.
//
// Values: text takes every scalar as it is written, quoted or not. Everything else has to be unquoted, except durations,
// sizes and types with UnmarshalText. Only true and false are booleans. An empty value, or null, makes a pointer nil,
// leaves a struct, map or slice as it is, and is an error for anything else. Tags, anchors, aliases and merge keys are refused, as is a second document. An
// empty file is no error here: what is missing is for the caller's validation to say.
//
// Expansion: ${NAME} in a value, never in a key, is replaced by the variable, ${NAME:-default} by the default when the
// variable is unset or empty, and $${ by a literal ${. It is done after parsing, so a variable's value can't add keys; an
// unquoted value is typed after expansion, so `port: ${PORT}` is a number.
// Within { } and [ ], YAML itself wants quotes around ${NAME}.
//
// The error joins one [*Error] for each problem, in the order of the file. After an error, into is partly filled.
func Load(data []byte, filename string, env func(string) (string, bool), into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("reading %s: into is a %T; expected a pointer to a struct", filename, into)
	}
	root, err := parse(data, filename)
	if err != nil || root == nil {
		return err
	}
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	d := &decoder{filename: filename, env: env, root: target.Elem().Type()}
	d.document(root, target.Elem())
	return d.result()
}

// Error is one problem in a configuration file.
type Error struct {
	File    string // as given to Load
	Line    int    // from 1; 0 when the parser does not tell
	Column  int    // from 1, in characters; 0 when the parser does not tell
	Path    string // of the key or value, such as source.brokers[2]; "" for the document
	Problem string // what is wrong, naming the path
	Remedy  string // what to do, or what was expected; may be empty
	Err     error  // of UnmarshalText, else nil
}

// Error says what is wrong, where, and what to do about it.
func (e *Error) Error() string {
	s := e.Problem + " at " + e.File
	if e.Line > 0 {
		s += ":" + strconv.Itoa(e.Line)
	}
	if e.Column > 0 {
		s += ":" + strconv.Itoa(e.Column)
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap gives the error of UnmarshalText, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// result joins the problems found, in the order of the file.
func (d *decoder) result() error {
	slices.SortStableFunc(d.problems, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(d.problems))
	for i, p := range d.problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// parse gives the root of the only document in data, or nil when there is none.
func parse(data []byte, filename string) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxError(err, data, filename)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &Error{
			File: filename, Line: second.Line, Column: second.Column,
			Problem: "second document", Remedy: "keep one document in a file",
		}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err, data, filename)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

var (
	parserMessage = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)
	// countsFromZero are the messages whose line the parser counts from 0, and leaves out when it is 0.
	countsFromZero = regexp.MustCompile(`^did not find expected (<document start>|node content|'-' indicator|key|',' or)`)
	bareInFlow     = regexp.MustCompile(`[\[{][^"'#\n]*\$\{`)
)

// syntaxError turns the parser's "yaml: line 3: ..." into the form of all other errors.
func syntaxError(err error, data []byte, filename string) error {
	e := &Error{File: filename, Problem: "invalid YAML", Remedy: err.Error()}
	if m := parserMessage.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1]) // no line: 0, which is left out
		e.Remedy = m[2]
	}
	if countsFromZero.MatchString(e.Remedy) {
		e.Line++
		if bareInFlow.Match(data) {
			e.Remedy += "; within { } and [ ] a value with ${NAME} needs quotes"
		}
	}
	if strings.HasPrefix(e.Remedy, "unknown anchor") { // would show an unquoted password that begins with *
		e.Remedy = "aliases are not supported; quote a value that begins with *"
	}
	return e
}
