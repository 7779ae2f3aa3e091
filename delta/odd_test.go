package delta_test

import (
	"archive/zip"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// oddState is what test/fixtures/make_odd.py says that delta-rs reads.
type oddState struct {
	Error            bool     `json:"error"`
	Version          int64    `json:"version"`
	Columns          []string `json:"columns"`
	PartitionColumns []string `json:"partition_columns"`
	Txn              *int64   `json:"txn"`
	Name             *string  `json:"name"`
	Files            [][2]any `json:"files"`
}

// ours says where this package reads an odd table otherwise than delta-rs on purpose: a reason, and a part of the error
// where it refuses what delta-rs reads.
var ours = map[string]struct{ reason, refusal string }{
	"add_empty_path": {"no file is called that", "add without path"},
	"remove_escape":  {"paths are URIs: the same file, whatever its writer escaped", ""},
	"size_frac":      {"no integer is ever rounded", "no 64-bit integer"},
	"starts_at_1":    {"what version 0 added is not known", "version 0 is missing"},
	"txn_expired":    {"txns never expire here (rule A4)", ""},
}

// A file is its decoded path: it goes whatever the writer of its remove left unescaped.
func TestPathsOfFilesAreComparedDecoded(t *testing.T) {
	got, err := readOdd(oddTables(t)["remove_escape"])
	if check(t, err); len(got.Files) != 1 || got.Files[0][0] != "p=a%25b/g.parquet" {
		t.Errorf("files %v", got.Files)
	}
}

// refused are tables that this package must refuse as delta-rs does, with a word of the reason. The other tables that
// delta-rs refuses are read here: Spark reads them, or what is odd in them matters to readers of data files only.
var refused = map[string]string{
	"add_no_path": "without path", "add_stats_object": "unexpected", "array_line": "unexpected '['", "bad_utf8": "not UTF-8", "bom": "unexpected",
	"ck_no_protocol": "no protocol: the log checkpoint _delta_log/00000000000000000001.checkpoint.parquet lacks it", "ck_torn_only": "checkpoint.parquet", "ck_wrong_type": "add.size has the Parquet type BYTE_ARRAY",
	"compacted_no_commits": "the commit of version 2 is missing", "empty_log": "no Delta table", "gap": "the commit of version 2 is missing",
	"meta_bad_schema": "schema", "meta_dup_cols": "column A is there twice", "meta_missing_partcol": `"zz" is not in the schema`,
	"meta_no_id": "metaData without id", "meta_partcol_case": `"P" is not in the schema`, "no_metadata": "no metaData: no commit", "no_protocol": "no protocol: no commit",
	"nul_line": "unexpected", "null_line": "unexpected", "number_line": "unexpected", "proto_1_2_catalog": "catalogManaged",
	"proto_1_2_withfeat": "readerFeatures", "proto_1_7_nofeat": "writerFeatures", "proto_3_5": "writer version 5",
	"proto_3_7_mismatch": "deletionVectors", "proto_3_7_readeronly": "writerFeatures", "proto_4": "reader version 4",
	"proto_negative": "minReaderVersion", "proto_zero": "minReaderVersion", "string_line": "unexpected", "surrogate": "surrogate",
	"trailing_partial": "unexpected end", "type_decimal_39_0_": "out of range", "v2_foreign_sidecar": "s3://other/bucket/x.parquet",
	"v2_missing_sidecar": "3a0d65cd", "v2_wrong_size": "77 bytes", "wrong_case": "add without path",
}

// Whatever delta-rs opens, opens here with the same version, columns, files and txns; what is broken is refused with the
// reason.
func TestOddTables(t *testing.T) {
	tables := oddTables(t)
	if len(tables) < 150 {
		t.Fatalf("only %d tables", len(tables))
	}
	for name, store := range tables {
		t.Run(name, func(t *testing.T) {
			var want oddState
			check(t, json.Unmarshal(read(t, store, "expected.json"), &want))
			got, err := readOdd(store)
			own, differs := ours[name]
			word, mustRefuse := refused[name]
			switch {
			case mustRefuse:
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("%v, want a refusal with %q", err, word)
				}
				if !want.Error {
					t.Error("delta-rs reads it")
				}
			case own.refusal != "":
				if err == nil || !strings.Contains(err.Error(), own.refusal) {
					t.Errorf("%v, want a refusal with %q: %s", err, own.refusal, own.reason)
				}
			case err != nil:
				t.Errorf("refused: %v", err)
			case !want.Error && !differs && !reflect.DeepEqual(got, want):
				a, _ := json.Marshal(got)
				b, _ := json.Marshal(want)
				t.Errorf("reads\n%.1000s\ndelta-rs reads\n%.1000s", a, b)
			}
			if err != nil && !errors.Is(err, delta.ErrCorrupt) && !errors.Is(err, delta.ErrUnsupported) && !errors.Is(err, delta.ErrNotTable) &&
				name != "v2_missing_sidecar" {
				t.Errorf("%v is no kind of refusal", err)
			}
		})
	}
}

// readOdd reads all of a table that make_odd.py tells of.
func readOdd(store delta.LogStore) (got oddState, err error) {
	s, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return got, err
	}
	got.Version, got.PartitionColumns, got.Files = s.Version(), s.PartitionColumns(), [][2]any{}
	if got.PartitionColumns == nil {
		got.PartitionColumns = []string{}
	}
	for _, f := range s.Schema().Fields() {
		got.Columns = append(got.Columns, f.Name)
	}
	if txn, ok := s.Txn("app"); ok {
		got.Txn = &txn.Version
	}
	if name := s.Metadata().Name; name != "" {
		got.Name = &name
	}
	for a, err := range s.Files(ctx) {
		if err != nil {
			return got, err
		}
		got.Files = append(got.Files, [2]any{a.Path, float64(a.Size)})
	}
	slices.SortFunc(got.Files, func(a, b [2]any) int { return cmp.Compare(a[0].(string), b[0].(string)) })
	totals, err := s.Totals(ctx)
	if err == nil && totals.Files != int64(len(got.Files)) {
		err = errors.New("Totals counts other files than Files")
	}
	for _, err := range delta.History(ctx, store) {
		if err != nil {
			return got, err
		}
	}
	return got, err
}

func oddTables(t testing.TB) map[string]*memory.Store {
	t.Helper()
	z, err := zip.OpenReader("../test/fixtures/odd.zip")
	check(t, err)
	defer z.Close()
	tables := map[string]*memory.Store{}
	for _, f := range z.File {
		name, path, _ := strings.Cut(f.Name, "/")
		if tables[name] == nil {
			tables[name] = memory.New()
		}
		r, err := f.Open()
		check(t, err)
		check(t, tables[name].Put(ctx, path, must(io.ReadAll(r))))
		check(t, r.Close())
	}
	return tables
}
