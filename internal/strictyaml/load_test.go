package strictyaml

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

// mode reads itself from text, as a package of its own would have it.
type mode int

var modes = map[string]mode{"if_missing": 1, "never": 2}

var errMode = errors.New("unknown mode")

func (m *mode) UnmarshalText(text []byte) error {
	found, ok := modes[string(text)]
	if !ok {
		return fmt.Errorf("%w %q: want if_missing or never", errMode, text)
	}
	*m = found
	return nil
}

// column has a short form: text instead of a mapping.
type column struct {
	From string `yaml:"from"`
	Cast string `yaml:"cast"`
}

func (c *column) UnmarshalText(text []byte) error {
	c.From = string(text)
	return nil
}

// foreignSecret is how a package that must not import this one declares a secret.
type foreignSecret string

func (s foreignSecret) Reveal() string { return string(s) }
func (s *foreignSecret) UnmarshalText(text []byte) error {
	if len(text) < 8 {
		return fmt.Errorf("password %q is too short", text)
	}
	*s = foreignSecret(text)
	return nil
}

type common struct {
	Name string `yaml:"name"`
}

type config struct {
	common `yaml:",inline"` // unexported embedded types are skipped
	Common `yaml:",inline"`
	*Extra `yaml:",inline"`

	Source struct {
		Brokers  []string `yaml:"brokers"`
		Topic    string   `yaml:"topic"`
		Port     uint16   `yaml:"port"`
		Password Secret   `yaml:"password"`
		Key      foreignSecret
	} `yaml:"source"`
	Table struct {
		Create     mode              `yaml:"create"`
		Columns    map[string]column `yaml:"columns"`
		Properties map[string]string `yaml:"properties"`
		Weights    map[int]float32   `yaml:"weights"`
	} `yaml:"table"`
	Flush struct {
		Interval time.Duration `yaml:"interval"`
		Bytes    Bytes         `yaml:"bytes"`
		Buffer   *int64        `yaml:"buffer" unit:"bytes"`
		Rows     int8          `yaml:"rows"`
		Enabled  bool          `yaml:"enabled"`
		Ratio    float64       `yaml:"ratio"`
	} `yaml:"flush"`
	Free     any              `yaml:"free"`
	Optional *common          `yaml:"optional"`
	Sinks    []common         `yaml:"sinks"`
	At       time.Time        `yaml:"at"`
	Hidden   string           `yaml:"-"`
	Channel  chan int         `yaml:"channel"`
	Writer   io.Writer        `yaml:"writer"`
	Byname   map[mode]Bytes   `yaml:"by_name"`
	Lists    map[string][]int `yaml:"lists"`
	secret   string           //nolint:unused // shows that unexported fields are no keys
}

// Common is exported, so that its keys can be set through the embedding.
type Common struct {
	ID string `yaml:"id"`
}

// Extra is embedded by pointer and made when one of its keys is given.
type Extra struct {
	Level int `yaml:"level"`
}

var environment = map[string]string{
	"PORT": "9092", "HOST": "broker:9092", "EMPTY": "", "PASSWORD": "correct horse: battery # staple",
	"INJECT": "a\nsource: {topic: stolen}", "TRUE": "true", "TILDE": "~", "BAD": "hunter22", "NESTED": "${PORT}",
	"SHORT": "x", "MODE": "never",
}

func lookup(name string) (string, bool) {
	v, ok := environment[name]
	return v, ok
}

func load(t *testing.T, text string) (config, error) {
	t.Helper()
	var c config
	err := Load([]byte(text), "c.yaml", lookup, &c)
	return c, err
}

func TestLoadSetsValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		got  func(c config) any
		want any
	}{
		"text":                     {"source: {topic: web}", func(c config) any { return c.Source.Topic }, "web"},
		"number as text":           {"source: {topic: 007}", func(c config) any { return c.Source.Topic }, "007"},
		"boolean as text":          {"source: {topic: no}", func(c config) any { return c.Source.Topic }, "no"},
		"date as text":             {"source: {topic: 2024-01-01}", func(c config) any { return c.Source.Topic }, "2024-01-01"},
		"empty quoted text":        {`source: {topic: ""}`, func(c config) any { return c.Source.Topic }, ""},
		"block text":               {"source:\n  topic: |\n    a\n    b\n", func(c config) any { return c.Source.Topic }, "a\nb\n"},
		"list":                     {"source: {brokers: [a, b]}", func(c config) any { return c.Source.Brokers }, []string{"a", "b"}},
		"empty list":               {"source: {brokers: []}", func(c config) any { return c.Source.Brokers }, []string{}},
		"unsigned":                 {"source: {port: 65535}", func(c config) any { return c.Source.Port }, uint16(65535)},
		"hexadecimal":              {"source: {port: 0xFF}", func(c config) any { return c.Source.Port }, uint16(255)},
		"digit groups":             {"source: {port: 9_092}", func(c config) any { return c.Source.Port }, uint16(9092)},
		"negative":                 {"flush: {rows: -128}", func(c config) any { return c.Flush.Rows }, int8(-128)},
		"boolean":                  {"flush: {enabled: true}", func(c config) any { return c.Flush.Enabled }, true},
		"float":                    {"flush: {ratio: 1.5e3}", func(c config) any { return c.Flush.Ratio }, 1500.0},
		"integer as float":         {"flush: {ratio: 2}", func(c config) any { return c.Flush.Ratio }, 2.0},
		"duration":                 {"flush: {interval: 1m30s}", func(c config) any { return c.Flush.Interval }, 90 * time.Second},
		"quoted duration":          {`flush: {interval: "10s"}`, func(c config) any { return c.Flush.Interval }, 10 * time.Second},
		"size":                     {"flush: {bytes: 128MiB}", func(c config) any { return c.Flush.Bytes }, Bytes(128 << 20)},
		"size without unit":        {"flush: {bytes: 4096}", func(c config) any { return c.Flush.Bytes }, Bytes(4096)},
		"size by field tag":        {"flush: {buffer: 64KB}", func(c config) any { return *c.Flush.Buffer }, int64(64000)},
		"text unmarshaler":         {"table: {create: if_missing}", func(c config) any { return c.Table.Create }, mode(1)},
		"time":                     {"at: 2024-05-01T00:00:00Z", func(c config) any { return c.At }, time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)},
		"struct by mapping":        {"table: {columns: {d: {from: a.b, cast: date}}}", func(c config) any { return c.Table.Columns }, map[string]column{"d": {"a.b", "date"}}},
		"struct by text":           {"table: {columns: {d: a.b}}", func(c config) any { return c.Table.Columns }, map[string]column{"d": {From: "a.b"}}},
		"dotted map key":           {"table: {properties: {delta.appendOnly: true}}", func(c config) any { return c.Table.Properties }, map[string]string{"delta.appendOnly": "true"}},
		"integer map key":          {"table: {weights: {1: 0.5}}", func(c config) any { return c.Table.Weights }, map[int]float32{1: 0.5}},
		"text unmarshaler map key": {"by_name: {never: 1KiB}", func(c config) any { return c.Byname }, map[mode]Bytes{2: 1024}},
		"lists in a map":           {"lists: {a: [1, 2]}", func(c config) any { return c.Lists }, map[string][]int{"a": {1, 2}}},
		"inlined struct":           {"id: x", func(c config) any { return c.ID }, "x"},
		"inlined pointer":          {"level: 3", func(c config) any { return c.Extra }, &Extra{Level: 3}},
		"inlined pointer unused":   {"id: x", func(c config) any { return c.Extra == nil }, true},
		"name from the field":      {"source: {key: long enough}", func(c config) any { return c.Source.Key }, foreignSecret("long enough")},
		"pointer to struct":        {"optional: {name: x}", func(c config) any { return c.Optional }, &common{Name: "x"}},
		"null pointer":             {"optional: null", func(c config) any { return c.Optional == nil }, true},
		"list of structs":          {"sinks:\n- name: a\n- name: b\n", func(c config) any { return c.Sinks }, []common{{"a"}, {"b"}}},
		"section of comments only": {"source:\n  # topic: x\nid: y", func(c config) any { return c.ID }, "y"},
		"any": {
			"free: {a: [1, 1.5, true, null, text, '1', 010, .inf], b: {c: -3}}", func(c config) any { return c.Free },
			map[string]any{
				"a": []any{1, 1.5, true, nil, "text", "1", "010", ".inf"}, "b": map[string]any{"c": -3},
			},
		},
		"any with a scalar": {"free: 10s", func(c config) any { return c.Free }, "10s"},
		"empty file":        {"", func(c config) any { return c }, config{}},
		"comments only":     {"# nothing\n", func(c config) any { return c }, config{}},
		"separator only":    {"---\n", func(c config) any { return c }, config{}},

		"variable":                       {"source:\n  topic: $x ${HOST}", func(c config) any { return c.Source.Topic }, "$x broker:9092"},
		"variable in a list":             {`source: {brokers: ["${HOST}", "${HOST}"]}`, func(c config) any { return c.Source.Brokers }, []string{"broker:9092", "broker:9092"}},
		"variable typed anew":            {"source:\n  port: ${PORT}", func(c config) any { return c.Source.Port }, uint16(9092)},
		"variable in an any":             {"free:\n- ${PORT}\n- '${PORT}'\n- ${TRUE}", func(c config) any { return c.Free }, []any{9092, "9092", true}},
		"variable as part":               {"flush:\n  interval: ${SECONDS:-5}s", func(c config) any { return c.Flush.Interval }, 5 * time.Second},
		"variable with markup":           {"source:\n  password: ${PASSWORD}", func(c config) any { return c.Source.Password.Reveal() }, "correct horse: battery # staple"},
		"variable with a line break":     {"source:\n  topic: ${INJECT}", func(c config) any { return c.Source.Topic }, "a\nsource: {topic: stolen}"},
		"variable that looks like null":  {"source:\n  topic: ${TILDE}", func(c config) any { return c.Source.Topic }, "~"},
		"variable is not expanded again": {"source:\n  topic: ${NESTED}", func(c config) any { return c.Source.Topic }, "${PORT}"},
		"empty variable as text":         {"source:\n  topic: ${EMPTY}", func(c config) any { return c.Source.Topic }, ""},
		"default for unset":              {"source:\n  port: ${UNSET:-1}", func(c config) any { return c.Source.Port }, uint16(1)},
		"default for empty":              {"source:\n  port: ${EMPTY:-1}", func(c config) any { return c.Source.Port }, uint16(1)},
		"default unused":                 {"source:\n  port: ${PORT:-1}", func(c config) any { return c.Source.Port }, uint16(9092)},
		"empty default":                  {"source:\n  topic: ${UNSET:-}", func(c config) any { return c.Source.Topic }, ""},
		"default with a colon":           {"source: {topic: '${UNSET:-host:9092}'}", func(c config) any { return c.Source.Topic }, "host:9092"},
		"escape":                         {"source:\n  topic: $${PORT} $$ $", func(c config) any { return c.Source.Topic }, "${PORT} $$ $"},
		"escape after a dollar":          {"source:\n  topic: $$${PORT}", func(c config) any { return c.Source.Topic }, "$${PORT}"},
		"not in comments":                {"id: x # ${UNSET}", func(c config) any { return c.ID }, "x"},
		"not in keys":                    {"table: {properties: {'${UNSET}': x}}", func(c config) any { return c.Table.Properties }, map[string]string{"${UNSET}": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := load(t, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := test.got(c); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, want %#v", got, test.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"unknown key": {
			"id: x\nflush:\n  intervall: 10s\n",
			`unknown key "flush.intervall" at c.yaml:3:3; did you mean "interval"?`,
		},
		"unknown key, other spelling": {
			"flush: {byName: 1}\nbyName: {}",
			`unknown key "flush.byName" at c.yaml:1:9; did you mean "by_name"?` + "\n" +
				`unknown key "byName" at c.yaml:2:1; did you mean "by_name"?`,
		},
		"unknown key that belongs elsewhere": {
			"interval: 10s", `unknown key "interval" at c.yaml:1:1; did you mean "flush.interval"?`,
		},
		"unknown key, nothing near": {
			"flush: {zzzzzz: 1}",
			`unknown key "flush.zzzzzz" at c.yaml:1:9; known keys: buffer, bytes, enabled, interval, ratio, rows`,
		},
		"unknown key in a map of structs": {
			"table: {columns: {a.b: {form: x}}}",
			`unknown key "table.columns["a.b"].form" at c.yaml:1:25; did you mean "from"?`,
		},
		"unknown key in a list": {
			"sinks: [{name: a}, {naem: b}]", `unknown key "sinks[1].naem" at c.yaml:1:21; did you mean "name"?`,
		},
		"hidden field":     {"Hidden: x", `unknown key "Hidden" at c.yaml:1:1; known keys: at, by_name, channel,`},
		"unexported field": {"secret: x", `unknown key "secret" at c.yaml:1:1; known keys:`},
		"duplicate key": {
			"source:\n  topic: a\n  topic: b\n",
			`duplicate key "source.topic" at c.yaml:3:3; first given at line 2`,
		},
		"duplicate map key": {
			"table: {weights: {1: 1, 0x1: 2}}",
			`duplicate key "table.weights.0x1" at c.yaml:1:25; first given at line 1`,
		},
		"duplicate key in an any": {"free: {a: 1, a: 2}", `duplicate key "free.a" at c.yaml:1:14; first given at line 1`},
		"text for a duration": {
			"flush: {interval: soon}",
			`wrong value "soon" for flush.interval at c.yaml:1:19; expected a duration such as 500ms, 10s, 5m or 1h30m`,
		},
		"duration without unit": {"flush: {interval: 10}", `wrong value "10" for flush.interval at c.yaml:1:19; expected a duration`},
		"ambiguous size":        {"flush: {bytes: 128M}", `wrong value "128M" for flush.bytes at c.yaml:1:16; expected a size such as 128MiB`},
		"ambiguous size by tag": {"flush: {buffer: 1k}", `wrong value "1k" for flush.buffer at c.yaml:1:17; expected a size such as 128MiB`},
		"number out of range":   {"source: {port: 65536}", `wrong value "65536" for source.port at c.yaml:1:16; expected an integer from 0 to 65535`},
		"signed out of range":   {"flush: {rows: 128}", `; expected an integer from -128 to 127`},
		"fraction":              {"source: {port: 1.5}", `wrong value "1.5" for source.port`},
		"leading zero":          {"source: {port: 010}", `wrong value "010" for source.port`},
		"quoted number":         {`source: {port: "1"}`, `; expected an integer from 0 to 65535, without quotes`},
		"quoted variable":       {`source: {port: "${PORT}"}`, `wrong value "${PORT}" for source.port at c.yaml:1:16; expected an integer from 0 to 65535, without quotes`},
		"yes":                   {"flush: {enabled: yes}", `wrong value "yes" for flush.enabled at c.yaml:1:18; expected true or false`},
		"infinite":              {"flush: {ratio: .inf}", `; expected a number`},
		"infinite spelled out":  {"flush: {ratio: inf}", `; expected a number`},
		"text unmarshaler":      {"table: {create: foo}", `wrong value "foo" for table.create at c.yaml:1:17; unknown mode "foo": want if_missing or never`},
		"mapping for text":      {"source: {topic: {a: b}}", `wrong value a mapping for source.topic at c.yaml:1:17; expected text`},
		"list for a secret":     {"source: {password: [hunter2]}", `wrong value a list for source.password at c.yaml:1:20; expected text`},
		"text for a list":       {"source: {brokers: a}", `wrong value "a" for source.brokers at c.yaml:1:19; expected a list`},
		"text for a mapping":    {"source: x", `wrong value "x" for source at c.yaml:1:9; expected a mapping with the keys brokers, topic, port, password, key`},
		"list for a mapping":    {"table: {properties: []}", `wrong value a list for table.properties at c.yaml:1:21; expected a mapping`},
		"mapping for a time":    {"at: {a: b}", `wrong value a mapping for at at c.yaml:1:5; expected text`},
		"wrong element":         {"lists: {a: [1, x]}", `wrong value "x" for lists.a[1] at c.yaml:1:16; expected an integer`},
		"wrong map key":         {"table: {weights: {x: 1}}", `wrong value "x" for table.weights.x at c.yaml:1:19; expected an integer`},
		"empty text":            {"source:\n  topic:\n", `empty value for source.topic at c.yaml:2:9; expected text, or "" for empty text; or remove the key`},
		"null number":           {"source: {port: null}", `empty value for source.port at c.yaml:1:16; expected an integer`},
		"list as document":      {"- a", `wrong value a list for the document at c.yaml:1:1; expected a mapping with the keys id, level, source`},
		"text as document":      {"hello", `wrong value "hello" for the document at c.yaml:1:1; expected a mapping`},
		"key that is a list":    {"source: {[a]: b}", `key that is a list for source at c.yaml:1:10; expected text as key`},
		"unreadable type":       {"channel: 1", `wrong value "1" for channel at c.yaml:1:10; its type chan int can't be read from YAML`},
		"interface":             {"writer: 1", `its type io.Writer can't be read from YAML`},

		"second document": {"id: a\n---\nid: b\n", `second document at c.yaml:2:1; keep one document in a file`},
		"anchor":          {"source: {topic: &a x}", `anchor for source.topic at c.yaml:1:17; write the value out; quote a value that begins with &`},
		"alias":           {"id: &a x\nsource: {topic: *a}", `alias for source.topic at c.yaml:2:17; write the value out; quote a value that begins with *`},
		"merge key":       {"source:\n  <<: {topic: x}\n", `merge key << for source at c.yaml:2:3; write the keys out`},
		"tag":             {"source: {topic: !!str 1}", `tag for source.topic at c.yaml:1:17; remove it`},
		"syntax":          {"id: a\nsource: [\n", `invalid YAML at c.yaml:`},
		"variable without quotes in a flow mapping": {
			"id: a\nsource: {port: ${PORT}}\n",
			"invalid YAML at c.yaml:2; did not find expected ',' or '}'; within { } and [ ] a value with ${NAME} needs quotes",
		},
		"syntax, first line": {"source: [a}\n", "invalid YAML at c.yaml:1; did not find expected ',' or ']'"},
		"syntax, later line": {"id: a\nlevel: 'x' y\n", "invalid YAML at c.yaml:2; did not find expected key"},
		"tab":                {"source:\n\ttopic: x\n", `invalid YAML at c.yaml:2; found character that cannot start any token`},

		"unset variable": {
			"source:\n  port: ${UNSET}\n",
			`unset environment variable UNSET in source.port at c.yaml:2:9; set it, or give a default with ${UNSET:-default}`,
		},
		"unclosed variable":   {"source: {topic: '${PORT'}", `unclosed ${ in source.topic at c.yaml:1:17; write ${NAME}, or $${ for a literal ${`},
		"malformed variable":  {"source: {topic: '${1X}'}", `malformed "${1X}" in source.topic at c.yaml:1:17`},
		"unnamed variable":    {"source: {topic: '${}'}", `malformed "${}" in source.topic`},
		"nested default":      {"source: {topic: '${A:-${B}}'}", `malformed "${A:-${B}" in source.topic at c.yaml:1:17`},
		"empty number":        {"source:\n  port: ${EMPTY}", `empty value for source.port at c.yaml:2:9; expected an integer`},
		"variable not a list": {"source:\n  brokers: ${HOST}", `wrong value "${HOST}" for source.brokers`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, test.text); err == nil || !strings.HasPrefix(err.Error(), test.want) && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestLoadReportsEveryProblemInTheOrderOfTheFile(t *testing.T) {
	t.Parallel()
	_, err := load(t, `
id: x
sourc: {}
source:
  topc: a
  port: ${UNSET}
  brokers: [a, {}]
flush:
  interval: 1
  interval: 2s
`)
	want := `unknown key "sourc" at c.yaml:3:1; did you mean "source"?
unknown key "source.topc" at c.yaml:5:3; did you mean "topic"?
unset environment variable UNSET in source.port at c.yaml:6:9; set it, or give a default with ${UNSET:-default}
wrong value a mapping for source.brokers[1] at c.yaml:7:16; expected text
wrong value "1" for flush.interval at c.yaml:9:13; expected a duration such as 500ms, 10s, 5m or 1h30m
duplicate key "flush.interval" at c.yaml:10:3; first given at line 9`
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	problem, ok := errors.AsType[*Error](err)
	if !ok || problem.File != "c.yaml" || problem.Line != 3 || problem.Column != 1 || problem.Path != "sourc" {
		t.Errorf("first problem is %#v", problem)
	}
}

func TestLoadKeepsDefaults(t *testing.T) {
	t.Parallel()
	shared := int64(7)
	var c config
	c.Source.Topic, c.Source.Brokers, c.Flush.Buffer = "default", []string{"a", "b"}, &shared
	c.Table.Properties = map[string]string{"old": "x"}
	c.Optional = &common{Name: "kept"}
	err := Load([]byte("source: {brokers: [c]}\nflush: {buffer: 1KiB}\ntable: {properties: {new: y}}\noptional: {}"), "c.yaml", nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Source.Topic != "default" || c.Optional.Name != "kept" {
		t.Errorf("keys that the file does not mention changed: %+v", c)
	}
	if len(c.Source.Brokers) != 1 || !maps.Equal(c.Table.Properties, map[string]string{"new": "y"}) {
		t.Errorf("list and map should be replaced: %v %v", c.Source.Brokers, c.Table.Properties)
	}
	if *c.Flush.Buffer != 1024 || shared != 7 {
		t.Errorf("a default behind a pointer was written to: %d", shared)
	}
}

func TestLoadNeverShowsSecrets(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"secret as alias":                "source: {password: *hunter22}",
		"secret as anchor":               "source: {password: &hunter22 x}",
		"secret as tag":                  "source: {password: !hunter22}",
		"secret refused by its type":     "source: {key: hunter2}",
		"variable in an integer":         "source:\n  port: ${BAD}",
		"variable in a duration":         "flush:\n  interval: ${BAD}",
		"variable in a text unmarshaler": "table:\n  create: ${BAD}",
		"variable in a size":             "flush:\n  bytes: ${BAD}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, text)
			if err == nil {
				t.Fatal("no error")
			}
			if shown := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(shown, "hunter2") {
				t.Errorf("shown: %s", shown)
			}
		})
	}
}

func TestLoadExplainsARefusedVariable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"table:\n  create: ${BAD}":   `wrong value "${BAD}" for table.create at c.yaml:2:11; unknown mode "${BAD}": want if_missing or never`,
		"table:\n  create: ${SHORT}": `wrong value "${SHORT}" for table.create at c.yaml:2:11; its type refuses the text`,
	} {
		if _, err := load(t, text); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestErrorUnwrapsTheCause(t *testing.T) {
	t.Parallel()
	if _, err := load(t, "table: {create: foo}"); !errors.Is(err, errMode) {
		t.Errorf("%v does not wrap the error of UnmarshalText", err)
	}
}

func TestLoadRefusesImpossibleTargets(t *testing.T) {
	t.Parallel()
	type twice struct {
		A string `yaml:"a"`
		B string `yaml:"a"`
	}
	type endless struct {
		*Recursive `yaml:",inline"`
	}
	type inlinedMap struct {
		M map[string]string `yaml:",inline"`
	}
	for name, test := range map[string]struct {
		into any
		want string
	}{
		"nil":           {nil, "into is a <nil>; expected a pointer to a struct"},
		"no pointer":    {config{}, "into is a strictyaml.config; expected a pointer to a struct"},
		"nil pointer":   {(*config)(nil), "expected a pointer to a struct"},
		"no struct":     {new(int), "into is a *int; expected a pointer to a struct"},
		"key twice":     {new(twice), `strictyaml.twice has the key "a" twice`},
		"inlines self":  {new(endless), "inlines itself"},
		"inlines a map": {new(inlinedMap), "only a struct can be inlined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Load([]byte("a: 1"), "c.yaml", nil, test.into); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Recursive can't be read: its keys have no end.
type Recursive struct {
	*Recursive `yaml:",inline"`
}

func TestLoadReadsRecursiveTypes(t *testing.T) {
	t.Parallel()
	type tree struct {
		Name  string `yaml:"name"`
		Inner *tree  `yaml:"inner"`
	}
	var root tree
	err := Load([]byte("inner: {inner: {naem: x}, name: a}"), "c.yaml", nil, &root)
	if err == nil || !strings.Contains(err.Error(), `unknown key "inner.inner.naem" at c.yaml:1:17; did you mean "name"?`) {
		t.Errorf("got %v", err)
	}
	if root.Inner == nil || root.Inner.Name != "a" {
		t.Errorf("got %+v", root)
	}
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "id: x\nflush: {interval: 10s, bytes: 1MiB, buffer: 1}\n", "source: {brokers: [a, b], port: ${PORT}}",
		"table: {columns: {a: b, c: {from: d}}, weights: {1: 2}}", "free: {a: [1, {b: ~}]}", "a: &a [*a]", "<<: {a: b}",
		"? [a]\n: b\n", "- 1\n--- 2\n", "free: !!binary x", "source: {topic: '$${A} ${B:-c}'}", "\xff\xfe", "id: |\n  a\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		err := Load(data, "c.yaml", lookup, &c)
		for _, problem := range unjoin(err) {
			e, ok := errors.AsType[*Error](problem)
			if !ok || e.Problem == "" || e.Line < 0 || e.Column < 0 {
				t.Errorf("not a proper error: %#v", problem)
			}
		}
	})
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
