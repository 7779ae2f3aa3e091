package main

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/internal/strictyaml"
)

// documentedRow finds a row of a guide's tables: a first cell that is nothing but a name in back quotes, then the rest.
var documentedRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_.<>]+)` \\|(.*)$")

// documented reads the tables of a guide, or of its section of the given heading: the rest of each row by its name.
func documented(t *testing.T, guide string, section ...string) map[string]string {
	t.Helper()
	content, err := os.ReadFile("../../docs/" + guide)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for _, heading := range section {
		_, rest, found := strings.Cut(text, "\n## "+heading+"\n")
		if !found {
			t.Fatalf("docs/%s has no section %q", guide, heading)
		}
		text, _, _ = strings.Cut(rest, "\n## ")
	}
	rows := map[string]string{}
	for _, m := range documentedRow.FindAllStringSubmatch(text, -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("docs/%s names %s twice", guide, m[1])
		}
		rows[m[1]] = m[2]
	}
	return rows
}

func sameNames(t *testing.T, guide string, code, guideRows map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if _, ok := guideRows[name]; !ok {
			t.Errorf("docs/%s lacks a row for `%s`", guide, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(guideRows)) {
		if _, ok := code[name]; !ok {
			t.Errorf("docs/%s has a row for `%s`, which the code does not know", guide, name)
		}
	}
}

// configKeys collects the keys below v by their path, each with its default as the file would spell it; "" for none.
func configKeys(prefix string, v reflect.Value, keys map[string]string) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			configKeys(prefix, v.Field(i), keys)
			continue
		}
		path := prefix + name
		switch value := v.Field(i); {
		case value.Kind() == reflect.Struct:
			configKeys(path+".", value, keys)
		case value.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
			configKeys(path+".<column>.", reflect.Zero(f.Type.Elem()), keys)
		default:
			keys[path] = defaultText(value, f.Tag.Get("unit") == "bytes")
		}
	}
}

func defaultText(v reflect.Value, isBytes bool) string {
	switch {
	case v.IsZero():
		return ""
	case isBytes:
		return strictyaml.Bytes(v.Int()).String()
	case v.Type() == reflect.TypeFor[time.Duration]():
		return fmt.Sprintf("%gs", v.Interface().(time.Duration).Seconds())
	}
	return fmt.Sprint(v.Interface())
}

func TestConfigurationGuideNamesEveryKeyAndDefault(t *testing.T) {
	keys := map[string]string{}
	configKeys("", reflect.ValueOf(defaultConfig()), keys)
	rows := documented(t, "configuration.md")
	sameNames(t, "configuration.md", keys, rows)
	for path, value := range keys {
		_, cell, _ := strings.Cut(rows[path], "|") // behind the type
		cell, _, _ = strings.Cut(cell, "|")
		if value != "" && !strings.Contains(cell, "`"+value+"`") {
			t.Errorf("docs/configuration.md gives the default of `%s` as %q, but it is %s", path, strings.TrimSpace(cell), value)
		}
	}
}

// jsonFields collects the JSON names of a struct's fields by their path.
func jsonFields(prefix string, t reflect.Type, fields map[string]string) {
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[prefix+name] = f.Name
		switch kind := f.Type.Kind(); {
		case (kind == reflect.Slice || kind == reflect.Pointer) && f.Type.Elem().Kind() == reflect.Struct:
			jsonFields(prefix+name+".", f.Type.Elem(), fields)
		}
	}
}

func TestInspectGuideNamesEveryField(t *testing.T) {
	fields := map[string]string{}
	jsonFields("", reflect.TypeFor[inspection](), fields)
	sameNames(t, "inspect.md", fields, documented(t, "inspect.md"))
}

func TestTableGuideNamesEveryField(t *testing.T) {
	for section, output := range map[string]reflect.Type{
		"`table append`": reflect.TypeFor[appended](), "`table history`": reflect.TypeFor[inspectedVersion](),
	} {
		fields := map[string]string{}
		jsonFields("", output, fields)
		sameNames(t, "table.md", fields, documented(t, "table.md", section))
	}
}
