package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/decode"
	"kafkadelta/decode/json"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

// divided is a configuration of a stream that divides orders by country.
func divided(t *testing.T, brokers []string, folder, more string) string {
	t.Helper()
	return file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [%q], topic: orders}\nhttp: {listen: \"off\"}\n%stable:\n  uri: %q\n  schema: \"id BIGINT NOT NULL, country STRING\"\n",
		brokers[0], more, folder+"/{field:country}"))
}

func orders(first, n int, countries ...string) [][]byte {
	var all [][]byte
	for i := range n {
		country := `"` + countries[i%len(countries)] + `"`
		if country == `"null"` {
			country = "null"
		}
		all = append(all, fmt.Appendf(nil, `{"id": %d, "country": %s}`, first+i, country))
	}
	return all
}

// TestFoldersOfManyTables: two combinations of values must not be one table, and no value the catalog or the dead letters' table.
func TestFoldersOfManyTables(t *testing.T) {
	for name, tc := range map[string]struct{ uri, more, want string }{
		"a slash between":            {"/d/{field:a}/{field:b}", "", ""},
		"an = between":               {"/d/{field:a}/b={field:b}", "", ""},
		"a dash between":             {"/d/{field:a}-{field:b}", "", `between two values stands "-"`},
		"nothing between":            {"/d/{field:a}{header:b}", "", `between two values stands ""`},
		"the catalog is a value":     {"/d/{field:a}", "table.catalog: /d/cat", `table.catalog is "/d/cat", which is also the table of some value`},
		"by another spelling":        {"/d/{field:a}", "table.catalog: file:///d/x/../cat/", "table.catalog is"},
		"the catalog is by itself":   {"/d/{field:a}", "table.catalog: /d/_cat", ""},
		"below a value":              {"/d/{field:a}", "table.catalog: /d/cat/x", `table.catalog is "/d/cat/x", which may be in the folder of table.uri`},
		"hidden below a value":       {"/d/{field:a}", "table.catalog: /d/cat/_x", ""},
		"above the values":           {"/d/{field:a}", "table.catalog: /d", `table.uri is "/d/{field:a}", which may be in the folder of table.catalog`},
		"above dead letters":         {"/d/x/{field:a}", "dead_letters.uri: /d", `which may be in the folder of dead_letters.uri`},
		"the usual catalog":          {"/d/_cat{field:a}", "", `table.catalog is "/d/_catalog"`},
		"dead letters are a value":   {"/d/{field:a}", "dead_letters.uri: /d/dead", `dead_letters.uri is "/d/dead"`},
		"dead letters by themselves": {"/d/{field:a}", "dead_letters.uri: /d/_dead", ""},
	} {
		c := defaultConfig()
		c.Table.Sink.URI = tc.uri
		key, value, _ := strings.Cut(tc.more, ": ")
		switch key {
		case "table.catalog":
			c.Table.Catalog = value
		case "dead_letters.uri":
			c.DeadLetters.URI = value
		}
		err := c.checkFolders()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error is %v, want %q", name, err, tc.want)
		}
	}
}

// TestTablesOfTwoPipelines: what the settings of one daemon show is refused (rule T7, and that a VACUUM takes what is in a table's folder).
func TestTablesOfTwoPipelines(t *testing.T) {
	for name, tc := range map[string]struct{ a, b, want string }{
		"the same template":            {"/d/{field:x} /c/_a", "/d/{field:x} /c/_b", `both bring the topic t into the table`},
		"another one":                  {"/d/{field:x} /c/_a", "/d/{field:y} /c/_b", `may both bring the topic t into a table`},
		"with a text before":           {"/d/{field:x} /c/_a", "/d/t-{field:x} /c/_b", "may both bring"},
		"with texts at both ends":      {"/d/t{field:x} /c/_a", "/d/{field:x}t /c/_b", "may both bring"},
		"with other texts":             {"/d/a{field:x} /c/_a", "/d/b{field:x} /c/_b", ""},
		"null alone":                   {"/d/{field:x} /c/_a", "/d/__null__", "may both bring"},
		"what no value is":             {"/d/{field:x} /c/_a", "/d/_other", ""},
		"two values, one with an =":    {"/d/a={field:x}/{field:y} /c/_a", "/d/{field:x}/{field:y} /c/_b", ""},
		"two values with texts":        {"/d/a-{field:x}/{field:y} /c/_a", "/d/{field:x}/{field:y}-b /c/_b", "may both bring"},
		"one table":                    {"/d/{field:x} /c/_a", "/d/de", "may both bring"},
		"another's catalog":            {"/d/{field:x} /c/_a", "/c/_a", "table.catalog of the pipeline"},
		"one in the other":             {"/d/{field:x} /c/_a", "/d/de/{field:x} /c/_b", "may be in the folder of table.uri"},
		"one in the other, by values":  {"/d/{field:x}/{field:y} /c/_a", "/d/{field:x} /c/_b", "may be in the folder of table.uri"},
		"the catalog in a table":       {"/d/{field:x} /e/t/c", "/e/t", "may be in the folder of table.uri"},
		"one catalog, other places":    {"/d/{field:x} /c/_a", "/e/{field:x} file:///c/_a", `have one catalog, /c/_a, which knows tables by their values alone, and /d/{field:x} and /e/{field:x} are`},
		"the usual catalog of both":    {"/d/a{field:x} /d/_catalog", "/d/b{field:x} /d/_catalog", "have one catalog"},
		"one in the other, but hidden": {"/d/{field:x} /c/_a", "/d/de/_x/{field:x} /c/_b", ""},
	} {
		config := "source: {brokers: [b:1], topic: t}\ntable: {schema: \"x STRING, y STRING\"}\nhttp: {listen: \"off\"}\npipelines:\n"
		filtered := config
		for i, p := range []string{tc.a, tc.b} {
			uri, catalog, _ := strings.Cut(p, " ")
			config += fmt.Sprintf("  - {name: p%d, table: {uri: %q, catalog: %q}}\n", i, uri, catalog)
			filtered += fmt.Sprintf("  - {name: p%d, table: {uri: %q, catalog: %q, filter: \"x = '%d'\"}}\n", i, uri, catalog, i)
		}
		o := command(t, "validate", "-c", file(t, "c.yaml", config))
		if (o.code == 0) != (tc.want == "") || !strings.Contains(o.stderr, tc.want) {
			t.Errorf("%s: %d %s, want %q", name, o.code, o.stderr, tc.want)
		}
		if o := command(t, "validate", "-c", file(t, "c.yaml", filtered)); strings.Contains(tc.want, "both bring") && o.code != 0 {
			t.Errorf("%s, but with filters: %d %s", name, o.code, o.stderr)
		}
	}
}

func TestOneTopicIntoManyTables(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 2)
	folder := t.TempDir()
	config := divided(t, cluster.ListenAddrs(), folder, "on_error: dead_letter\ndead_letters: {uri: "+filepath.Join(folder, "_dead")+"}\n")
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, append(orders(1, 40, "de", "us", "null", "a b/ü", ".."), []byte("not JSON")))
	mustRun(t, "run", "-c", config, "--until-end")
	for _, name := range []string{"de", "us", "__null__", "a~20b~2F~C3~BC", "~2E."} {
		o := mustRun(t, "table", "inspect", filepath.Join(folder, name))
		if !strings.Contains(o.stdout, "rows            8\n") {
			t.Errorf("table %s:\n%s", name, o.stdout)
		}
	}
	o := mustRun(t, "verify", "-c", config)
	if strings.Count(o.stdout, ": ok\n") != 6 || !strings.Contains(o.stdout, "table de, version") {
		t.Errorf("verify tells\n%s", o.stdout)
	}
	if o := mustRun(t, "explain", "0", "1", "-c", config); !strings.Contains(o.stdout, "in table ") || !strings.Contains(o.stdout, "row 0 of the file") {
		t.Errorf("explain tells\n%s", o.stdout)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, orders(41, 10, "de", "fr"))
	mustRun(t, "run", "-c", config, "--until-end")
	mustRun(t, "rewind", "-c", config, "--to-offsets", "0=20,1=20", "--yes")
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "verify", "-c", config); strings.Count(o.stdout, ": ok\n") != 7 || !strings.Contains(o.stdout, "generation 1") {
		t.Errorf("after a rewind, verify tells\n%s", o.stdout)
	}
	mustRun(t, "run", "-c", config, "--until-end")

	removed := filepath.Join(folder, "us", "_delta_log", "00000000000000000001.json")
	if err := os.Remove(removed); err != nil {
		t.Fatal(err)
	}
	if o := command(t, "verify", "-c", config); o.code == 0 {
		t.Errorf("a table that lacks a version is verified:\n%s", o.stdout)
	}
	if err := os.RemoveAll(filepath.Join(folder, "us")); err != nil {
		t.Fatal(err)
	}
	if o := command(t, "verify", "-c", config); o.code != exitFaults || !strings.Contains(o.stdout, "table us, which the catalog knows, is not there") {
		t.Errorf("without a table, verify answers %d:\n%s", o.code, o.stdout)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, orders(60, 4, "us"))
	if o := command(t, "run", "-c", config, "--until-end"); o.code == 0 || !strings.Contains(o.stderr, "table us") || !strings.Contains(o.stderr, "the catalog knows it, and it is not there") || strings.Contains(o.stderr, "table us: table us") {
		t.Errorf("a table that was removed is made again without a word: %d: %s", o.code, o.stderr)
	}
}

// TestATableOfAnotherStreamThatIsNotThere names what is likely: the streams that share the catalog have their tables in different places.
func TestATableOfAnotherStreamThatIsNotThere(t *testing.T) {
	c := config{}
	c.Name = "orders"
	if err := c.notThere("orders"); !errors.Is(err, delta.ErrNotTable) || strings.Contains(err.Error(), "table.uri") {
		t.Errorf("of its own: %v", err)
	}
	if err := c.notThere("returns"); !errors.Is(err, delta.ErrNotTable) || !strings.Contains(err.Error(), `by another stream, "returns"`) || !strings.Contains(err.Error(), "the same table.uri") {
		t.Errorf("of another stream: %v", err)
	}
}

func TestTablesAreConfigured(t *testing.T) {
	for change, want := range map[string]string{
		`{field:country}/{field:`:              "braces",
		`{field:land}`:                         `the table has no column "land"`,
		`{field:}`:                             "empty part",
		`{header:}`:                            "names no header",
		`{country}`:                            "",
		`x", catalog: "y`:                      "table.catalog is for many tables",
		`{field:id}", max_open: 0, comment: "`: "table.max_open is 0",
		`{field:id}", max_tables: -1, comment: "`: "table.max_tables is -1",
		`{field:_kafka}`:                  "can't name a table",
		`{field:_kafka.topic}/{header:x}`: "",
	} {
		config := file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [b:9092], topic: orders}\ntable: {schema: \"id BIGINT NOT NULL, country STRING\", uri: \"%s/%s\"}\n", t.TempDir(), change))
		o := command(t, "validate", "-c", config)
		if (o.code == 0) != (want == "") || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: %d %s, want %q", change, o.code, o.stderr, want)
		}
	}
}

func TestKeysNameTables(t *testing.T) {
	text := func(s string) *string { return &s }
	for want, value := range map[string]*string{
		"__null__": nil, "de": text("de"), "~5F_null__": text("__null__"), "~2E.": text(".."), "a.b_c-1": text("a.b_c-1"), "~C3~BC~2F~25~20~7E": text("ü/% ~"), "~5Fcatalog": text("_catalog"),
	} {
		if got, err := keyText(value); got != want || err != nil {
			t.Errorf("%v becomes %s, %v, want %s", value, got, err, want)
		}
	}
	if _, err := keyText(text(strings.Repeat("x", 201))); err == nil {
		t.Error("a name of 201 bytes is taken")
	}
	c := config{}
	c.Table.Sink.URI = "s3://data/{field:a}/t-{header:b}"
	if got, err := c.uriOf("x~2F/y"); err != nil || got != "s3://data/x~2F/t-y" || c.tableURI() != "s3://data/_catalog" {
		t.Errorf("the table is at %s, the catalog at %s", got, c.tableURI())
	}
}

// TestATableFollowsItsCatalogThroughRewinds: partitions come to a table in a generation one after the other, before or behind where it stood.
func TestATableFollowsItsCatalogThroughRewinds(t *testing.T) {
	store := memory.New()
	schema, err := delta.ParseDDL("n BIGINT")
	if err != nil {
		t.Fatal(err)
	}
	metadata, _ := decode.MetadataConfig{}.Field()
	schema = arrow.NewSchema(append(schema.Fields(), metadata), nil)
	cfg := sink.DefaultConfig()
	table, err := sink.Open(t.Context(), store, cfg, sink.Options{Name: "s", Follows: true, Create: schema, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := map[int32]int64{0: -1, 1: -1}
	deliver := func(generation int64, spans ...checkpoint.Span) {
		t.Helper()
		id := sink.NewManifestID()
		w := table.NewRoutedWriter(layout, id)
		plan, err := decode.NewPlan(schema, decode.Config{})
		if err != nil {
			t.Fatal(err)
		}
		rows := json.New(plan)
		var slots []sink.Slot
		for i, s := range spans {
			s.Topic = "t"
			spans[i] = s
			for offset := s.First; offset < s.First+s.Rows; offset++ {
				if err := rows.Append(&kgo.Record{Topic: "t", Partition: s.ID, Offset: offset, Value: []byte(`{"n": 1}`)}); err != nil {
					t.Fatal(err)
				}
			}
			slots = append(slots, sink.Slot{AppID: checkpoint.RowsAppID("s", s.ID), From: at[s.ID], To: id})
			at[s.ID] = id
		}
		batch := rows.NewBatch()
		err = w.Write(t.Context(), batch)
		batch.Release()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := w.Seal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sealed.Routed(t.Context(), layout, sink.Origin{Name: "s", Generation: generation}, spans); err != nil {
			t.Fatal(err)
		}
		if done, err := table.Deliver(t.Context(), []int64{id}, slots); err != nil || !done {
			t.Fatalf("delivered: %v, %v", done, err)
		}
		r, err := admin.Verify(t.Context(), store, admin.Options{Since: -1, Until: -1})
		if err != nil || r.Verdict != admin.OK {
			t.Fatalf("generation %d: %v %+v %+v %v", generation, r.Verdict, r.Faults, r.Unverified, err)
		}
	}
	span := func(partition int32, first, next, rows int64) checkpoint.Span {
		return checkpoint.Span{Partition: checkpoint.Partition{ID: partition}, First: first, Next: next, Rows: rows}
	}
	deliver(0, span(0, 0, 10, 3), span(1, 0, 10, 0))
	deliver(0, span(1, 20, 30, 2)) // what came between went elsewhere
	deliver(1, span(0, 5, 15, 4))  // the catalog was rewound to 5 and 25
	deliver(1, span(1, 25, 28, 1)) // which lies before where this partition stood
	deliver(1, span(1, 28, 40, 2))
	deliver(4, span(1, 60, 70, 2)) // after rewinds of which nothing came here, also forward
	deliver(4, span(0, 0, 20, 20))
}
