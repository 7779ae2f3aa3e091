package sink_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	"kafkadelta/delta/variant"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

const fixtureRoot = "../test/fixtures/"

// refusedFixtures are the tables of other engines that an append refuses, and for which features. All others take it.
var refusedFixtures = map[string][]string{
	"spark/catalog_managed":                      {"catalogManaged"},
	"spark/foreign_catalogOwned_preview":         {"catalogOwned-preview"},
	"spark/foreign_coordinatedCommits_preview":   {"coordinatedCommits-preview"},
	"spark/foreign_icebergCompatV3":              {"icebergCompatV3"},
	"spark/foreign_icebergWriterCompatV1":        {"icebergWriterCompatV1"},
	"spark/foreign_icebergWriterCompatV3":        {"icebergWriterCompatV3"},
	"spark/foreign_inCommitTimestamp_preview":    {"inCommitTimestamp-preview"},
	"spark/foreign_managedCommit_preview":        {"managedCommit-preview"},
	"spark/foreign_redirectReaderWriter_preview": {"redirectReaderWriter-preview"},
	"spark/foreign_redirectWriterOnly_preview":   {"redirectWriterOnly-preview"},
	"spark/identity_columns":                     {"identityColumns"},
	"spark/type_void":                            {"void"},
	"spark/unknown_reader_feature":               {"timeTravelMachine"},
	"spark/unknown_writer_feature":               {"fluxCapacitor"},
}

// An append either lands, one row in one version, or is refused by the name of what forbids it.
func TestAppendsToFixtures(t *testing.T) {
	found, err := filepath.Glob(filepath.FromSlash(fixtureRoot + "*/*/expected.json"))
	if err != nil || len(found) < 70 {
		t.Fatalf("%d fixtures, %v", len(found), err)
	}
	for _, file := range found {
		name := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), fixtureRoot)
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			loadFixture(t, store, name)
			cfg := sink.DefaultConfig()
			cfg.URI, cfg.Create, cfg.Parquet.Compression = "memory://"+name, sink.CreateNever, "none"
			table, err := sink.Open(t.Context(), store, cfg, sink.Options{
				Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			if want, refused := refusedFixtures[name]; refused {
				u, ok := errors.AsType[*delta.UnsupportedError](err)
				if !ok || !slices.Equal(u.Features, want) || u.Remedy == "" {
					t.Fatalf("opening for append answers %v, want a refusal that names %v and what to do", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			appendOne(t, store, table)
		})
	}
}

func loadFixture(t *testing.T, store *memory.Store, name string) {
	t.Helper()
	root := os.DirFS(fixtureRoot + name)
	err := fs.WalkDir(root, "_delta_log", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		return store.Put(t.Context(), p, data)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func appendOne(t *testing.T, store *memory.Store, table *sink.Table) {
	t.Helper()
	before, err := delta.OpenSnapshot(t.Context(), store, -1)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	row := oneRow(t, layout.Schema)
	defer row.Release()
	checked, bad := layout.Rules.Apply(row)
	if bad != nil {
		t.Fatal(bad)
	}
	defer checked.Release()
	w := table.NewWriter(layout)
	if err := w.Write(t.Context(), checked); err != nil {
		t.Fatal(err)
	}
	u, err := w.FinishAppend()
	if err != nil {
		t.Fatal(err)
	}
	version, already, err := table.Append(t.Context(), u, sink.AppTxn{})
	if err != nil || already || version != before.Version()+1 {
		t.Fatalf("Append answered %d, already %v, error %v; want version %d", version, already, err, before.Version()+1)
	}
	after, err := delta.OpenSnapshot(t.Context(), store, -1)
	if err != nil {
		t.Fatal(err)
	}
	was, err := before.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	is, err := after.Totals(t.Context())
	if err != nil || after.Version() != version || is.Files != was.Files+1 || is.Rows != was.Rows+1 || is.FilesWithoutRows != was.FilesWithoutRows {
		t.Errorf("version %d has %+v (%v), before it was %+v", after.Version(), is, err, was)
	}
}

// oneRow is a row with a value in each column, null where the table computes it.
func oneRow(t *testing.T, schema *arrow.Schema) arrow.RecordBatch {
	t.Helper()
	row := map[string]any{}
	for _, f := range schema.Fields() {
		if !computed(f) {
			row[f.Name] = someValue(f.Type)
		}
	}
	text, err := json.Marshal([]any{row})
	if err != nil {
		t.Fatal(err)
	}
	rb, _, err := array.RecordFromJSON(arrowmemory.DefaultAllocator, schema, strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return rb
}

func computed(f arrow.Field) bool {
	meta, _ := f.Metadata.GetValue(delta.MetadataKey)
	return strings.Contains(meta, "delta.generationExpression")
}

// someValue is what the JSON reader of arrow makes a value of the type of. It keeps the rules of all fixtures.
func someValue(dt arrow.DataType) any {
	switch dt := dt.(type) {
	case *variant.Type:
		return someValue(variant.Storage)
	case *arrow.StructType:
		m := map[string]any{}
		for _, f := range dt.Fields() {
			m[f.Name] = someValue(f.Type)
		}
		return m
	case *arrow.ListType:
		return []any{someValue(dt.Elem())}
	case *arrow.MapType:
		return []any{map[string]any{"key": someValue(dt.KeyType()), "value": someValue(dt.ItemType())}}
	}
	switch dt.ID() {
	case arrow.BOOL:
		return true
	case arrow.STRING:
		return "v1"
	case arrow.BINARY:
		return "dg=="
	case arrow.DATE32:
		return "2024-02-29"
	case arrow.TIMESTAMP:
		if dt.(*arrow.TimestampType).TimeZone == "" {
			return "2024-02-29T12:00:00.123456"
		}
		return "2024-02-29T12:00:00.123456Z"
	case arrow.DECIMAL128:
		return "4"
	default:
		return 4
	}
}
