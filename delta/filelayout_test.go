package delta_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// shape describes a table whose file layout is looked at.
type shape struct {
	columns   string
	by        []string
	config    map[string]string
	features  []string
	mode      string            // of column mapping
	physical  map[string]string // physical names that are not "p-" and the name
	metadata  map[string]string // further column metadata, by name
	clustered string            // configuration of the domain delta.clustering
}

// open makes the table and opens it. Ids are the same for a physical name, always.
func (s shape) open(t testing.TB) *delta.Table {
	t.Helper()
	features, config := slices.Clone(s.features), maps.Clone(s.config)
	if config == nil {
		config = map[string]string{}
	}
	schema := must(delta.ParseDDL(s.columns))
	if s.mode != "" {
		features, config["delta.columnMapping.mode"], config["delta.columnMapping.maxColumnId"] = append(features, "columnMapping"), s.mode, "1000000"
	}
	schema = arrow.NewSchema(s.fields(schema.Fields()), nil)
	names := `["` + strings.Join(features, `","`) + `"]`
	if features == nil {
		names = "[]"
	}
	lines := []string{
		`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":` + names + `,"writerFeatures":` + names + `}}`,
		metadata(must(delta.SchemaToJSON(schema)), string(must(json.Marshal(config))), s.by...),
	}
	if s.clustered != "" {
		lines = append(lines, `{"domainMetadata":{"domain":"delta.clustering","configuration":`+quoted(s.clustered)+`,"removed":false}}`)
	}
	store := memory.New()
	putLog(t, store, 0, lines...)
	return open(t, store, newClock())
}

func (s shape) layout(t testing.TB) *delta.FileLayout {
	t.Helper()
	return must(s.open(t).FileLayout())
}

func (s shape) fields(fields []arrow.Field) []arrow.Field {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		meta := map[string]any{}
		if m, ok := s.metadata[f.Name]; ok {
			if err := json.Unmarshal([]byte(m), &meta); err != nil {
				panic(err)
			}
		}
		if s.mode != "" {
			name, ok := s.physical[f.Name]
			if !ok {
				name = "p-" + f.Name
			}
			id := 0
			for _, c := range name {
				id = id*31%10007 + int(c)
			}
			ids := map[string]int{}
			s.nested(f.Type, name, 20000+id*10, ids)
			meta["delta.columnMapping.id"], meta["delta.columnMapping.physicalName"] = id, name
			if len(ids) > 0 && slices.Contains(s.features, "icebergCompatV2") {
				meta["delta.columnMapping.nested.ids"] = ids
			}
		}
		out[i] = arrow.Field{Name: f.Name, Type: s.inner(f.Type), Nullable: f.Nullable}
		if len(meta) > 0 {
			out[i].Metadata = arrow.NewMetadata([]string{delta.MetadataKey}, []string{string(must(json.Marshal(meta)))})
		}
	}
	return out
}

// inner is a type whose structs have metadata too.
func (s shape) inner(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.StructType:
		return arrow.StructOf(s.fields(t.Fields())...)
	case *arrow.ListType:
		f := t.ElemField()
		f.Type = s.inner(f.Type)
		return arrow.ListOfField(f)
	case *arrow.MapType:
		m := arrow.MapOf(s.inner(t.KeyType()), s.inner(t.ItemType()))
		m.SetItemNullable(t.ItemField().Nullable)
		return m
	}
	return t
}

func (s shape) nested(t arrow.DataType, path string, id int, ids map[string]int) {
	step := func(name string, t arrow.DataType) {
		ids[path+"."+name] = id + len(ids)
		s.nested(t, path+"."+name, id, ids)
	}
	switch t := t.(type) {
	case *arrow.ListType:
		step("element", t.Elem())
	case *arrow.MapType:
		step("key", t.KeyType())
		step("value", t.ItemType())
	}
}

// spell writes a field of a data file as "name#id type".
func spell(f arrow.Field) string {
	out := f.Name
	if id, ok := f.Metadata.GetValue(delta.ParquetFieldIDKey); ok {
		out += "#" + id
	}
	var inner []arrow.Field
	switch t := f.Type.(type) {
	case *arrow.StructType:
		inner = t.Fields()
	case *arrow.ListType:
		inner = []arrow.Field{t.ElemField()}
	case *arrow.MapType:
		inner = []arrow.Field{t.KeyField(), t.ItemField()}
	default:
		return out
	}
	var parts []string
	for _, f := range inner {
		parts = append(parts, spell(f))
	}
	return out + "<" + strings.Join(parts, " ") + ">"
}

func spellAll(l *delta.FileLayout) string {
	var parts []string
	for _, f := range l.Schema.Fields() {
		parts = append(parts, spell(f))
	}
	return strings.Join(parts, " ")
}

func TestFileLayout(t *testing.T) {
	const columns = "n BIGINT, p STRING, s STRUCT<a: INT, l: ARRAY<STRUCT<x: INT>>>, m MAP<STRING, ARRAY<INT>>"
	plain := "n s<a l<element<x>>> m<key value<element>>"
	mapped := "p-n#%d p-s#%d<p-a#%d p-l#%d<element<p-x#%d>>> p-m#%d<key value<element>>"
	id := func(name string) int {
		f := shape{mode: "id"}.fields([]arrow.Field{{Name: name, Type: arrow.PrimitiveTypes.Int64}})[0]
		n, _ := delta.FieldID(f)
		return int(n)
	}
	ids := []any{id("n"), id("s"), id("a"), id("l"), id("x"), id("m")}
	iceberg := fmt.Sprintf("p-n#%d p-s#%d<p-a#%d p-l#%d<element#%d<p-x#%d>>> p-m#%d<key#%d value#%d<element#%d>>",
		ids[0], ids[1], ids[2], ids[3], 20000+id("l")*10, ids[4], ids[5], 20000+id("m")*10, 20000+id("m")*10+1, 20000+id("m")*10+2)
	p := fmt.Sprintf(" p-p#%d", id("p"))
	for name, c := range map[string]struct {
		shape
		files        string
		partition    string // physical name
		materialized bool
		prefix       int
	}{
		"plain":                 {shape{}, plain, "p", false, 0},
		"name":                  {shape{mode: "name"}, fmt.Sprintf(mapped, ids...), "p-p", false, 2},
		"id":                    {shape{mode: "id"}, fmt.Sprintf(mapped, ids...), "p-p", false, 2},
		"a mode without effect": {shape{config: map[string]string{"delta.columnMapping.mode": "name"}}, plain, "p", false, 0},
		"renamed": {
			shape{columns: "x BIGINT, `a, b` STRING", by: []string{"a, b"}, mode: "name", physical: map[string]string{"x": "n", "a, b": "p"}},
			"n#110", "p", false, 2,
		},
		"icebergCompatV2":     {shape{mode: "name", features: []string{"icebergCompatV2"}, config: map[string]string{"delta.enableIcebergCompatV2": "true"}}, iceberg + p, "p-p", true, 2},
		"icebergCompatV2 off": {shape{mode: "name", features: []string{"icebergCompatV2"}}, iceberg, "p-p", false, 2},
		"icebergCompatV1": {
			shape{columns: "n BIGINT, p STRING", mode: "id", features: []string{"icebergCompatV1"}, config: map[string]string{"delta.enableIcebergCompatV1": "TRUE"}},
			fmt.Sprintf("p-n#%d", id("n")) + p, "p-p", true, 2,
		},
		"materializePartitionColumns":   {shape{features: []string{"materializePartitionColumns"}}, plain + " p", "p", true, 0},
		"writePartitionColumns":         {shape{config: map[string]string{"delta.writePartitionColumnsToParquet": "true"}}, plain + " p", "p", true, 0},
		"random prefixes":               {shape{config: map[string]string{"delta.randomizeFilePrefixes": "true"}}, plain, "p", false, 2},
		"long random prefixes":          {shape{config: map[string]string{"delta.randomizeFilePrefixes": "true", "delta.randomPrefixLength": "7"}}, plain, "p", false, 7},
		"a length without random names": {shape{config: map[string]string{"delta.randomPrefixLength": "x"}}, plain, "p", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if c.columns == "" {
				c.columns = columns
			}
			if c.by == nil {
				c.by = []string{"p"}
			}
			l := c.layout(t)
			if got := spellAll(l); got != c.files {
				t.Errorf("files are %s, want %s", got, c.files)
			}
			if len(l.Partitions) != 1 || l.Partitions[0] != (delta.PartitionColumn{Name: c.by[0], Physical: c.partition, Column: 1}) {
				t.Errorf("partitions %+v", l.Partitions)
			}
			if l.Materialized != c.materialized || l.RandomPrefix != c.prefix {
				t.Errorf("materialized %v, prefix %d", l.Materialized, l.RandomPrefix)
			}
			if got := must(delta.ParseDDL(c.columns)).Field(l.Columns[0]).Name; got != must(delta.ParseDDL(c.columns)).Field(0).Name || len(l.Columns) != l.Schema.NumFields() {
				t.Errorf("columns %v begin with %s", l.Columns, got)
			}
			if !l.Equal(c.layout(t)) || l.Misfit(c.layout(t)) != "" {
				t.Error("the same layout is another one")
			}
		})
	}
	for property, value := range map[string]string{
		"delta.randomPrefixLength": "0", "delta.dataSkippingNumIndexedCols": "many", "delta.dataSkippingStatsColumns": "a,,b",
	} {
		s := shape{columns: columns, config: map[string]string{"delta.randomizeFilePrefixes": "true", property: value}}
		if _, err := s.open(t).FileLayout(); err == nil || !strings.Contains(err.Error(), property) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s = %s: error %v", property, value, err)
		}
	}
}

func TestLeavesWithStatistics(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("c%d INT", i))
	}
	const columns = "a STRUCT<b: INT, c: STRUCT<d: INT, `E.f`: INT>>, P STRING, l ARRAY<STRUCT<x: INT>>, z INT"
	for name, c := range map[string]struct {
		shape
		want string // one letter for each leaf of the files: x for statistics
	}{
		"the first 32":             {shape{columns: strings.Join(many, ", ")}, strings.Repeat("x", 32) + strings.Repeat("-", 8)},
		"all":                      {shape{config: map[string]string{"delta.dataSkippingNumIndexedCols": "-1"}}, "xxxxx"},
		"none":                     {shape{config: map[string]string{"delta.dataSkippingNumIndexedCols": "0"}}, "-----"},
		"within a struct":          {shape{config: map[string]string{"delta.dataSkippingNumIndexedCols": "2"}}, "xx---"},
		"lists and maps are one":   {shape{config: map[string]string{"delta.dataSkippingNumIndexedCols": "4"}}, "xxxx-"},
		"partitions don't count":   {shape{by: []string{"P"}, columns: "P STRING, a INT, b INT", config: map[string]string{"delta.dataSkippingNumIndexedCols": "1"}}, "x-"},
		"materialized ones, never": {shape{by: []string{"P"}, features: []string{"materializePartitionColumns"}, columns: "P STRING, a INT, b INT"}, "xx-"},
		"named":                    {shape{config: map[string]string{"delta.dataSkippingStatsColumns": " Z , A.c", "delta.dataSkippingNumIndexedCols": "1"}}, "-xx-x"},
		"named with quotes":        {shape{config: map[string]string{"delta.dataSkippingStatsColumns": "a.`c`.`E.f`, `l`, nowhere"}}, "--xx-"},
		"named by logical names":   {shape{mode: "name", config: map[string]string{"delta.dataSkippingStatsColumns": "z"}}, "----x"},
		"clustered": {
			shape{features: []string{"clustering"}, clustered: `{"clusteringColumns":[["a","c","E.f"],["z"]]}`, config: map[string]string{"delta.dataSkippingNumIndexedCols": "1"}}, "x-x-x",
		},
		"clustered, as the protocol's example": {
			shape{features: []string{"clustering"}, mode: "id", clustered: `{"clusteringColumns":["p-z"]}`, config: map[string]string{"delta.dataSkippingStatsColumns": "a.b"}}, "x---x",
		},
		"clustered once": {shape{clustered: `{"clusteringColumns":[["z"]]}`, config: map[string]string{"delta.dataSkippingNumIndexedCols": "1"}}, "x----"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.columns == "" {
				c.columns = strings.ReplaceAll(columns, ", P STRING", "")
			}
			got := ""
			for _, take := range c.layout(t).Stats {
				got += map[bool]string{true: "x", false: "-"}[take]
			}
			if got != c.want {
				t.Errorf("leaves %s, want %s", got, c.want)
			}
		})
	}
	if tight := (shape{columns: "a INT", features: []string{"deletionVectors"}}).layout(t).TightBounds; !tight {
		t.Error("a table with deletion vectors has no tight bounds")
	}
}

// TestMisfit goes through what another writer may do to a table while files for it wait to be committed.
func TestMisfit(t *testing.T) {
	const columns = "n BIGINT, s STRUCT<a: INT, b: STRING>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, INT>, p DATE"
	with := func(s shape, change func(*shape)) shape {
		s.config, s.metadata = map[string]string{}, map[string]string{}
		change(&s)
		return s
	}
	plain, named := shape{columns: columns, by: []string{"p"}}, shape{columns: columns, by: []string{"p"}, mode: "name"}
	columnsTo := func(old, replacement string) func(*shape) {
		return func(s *shape) {
			s.columns = strings.ReplaceAll(columns, old, replacement)
			if s.columns == columns {
				t.Fatalf("%s is not in the columns", old)
			}
		}
	}
	for name, c := range map[string]struct {
		before shape
		change func(*shape)
		want   string // part of the reason; "" where the files fit
	}{
		"nothing":                         {plain, func(*shape) {}, ""},
		"a property":                      {plain, func(s *shape) { s.config["delta.appendOnly"] = "true" }, ""},
		"a comment":                       {plain, func(s *shape) { s.metadata["n"] = `{"comment":"x"}` }, ""},
		"a feature":                       {plain, func(s *shape) { s.features = []string{"deletionVectors", "v2Checkpoint", "rowTracking"} }, ""},
		"statistics":                      {plain, func(s *shape) { s.config["delta.dataSkippingStatsColumns"] = "n" }, ""},
		"random prefixes":                 {plain, func(s *shape) { s.config["delta.randomizeFilePrefixes"] = "true" }, ""},
		"a new column":                    {plain, columnsTo("n BIGINT", "n BIGINT, o STRUCT<y: INT>"), ""},
		"a new field":                     {plain, columnsTo("x: INT", "x: INT, y: STRING"), ""},
		"another order":                   {plain, columnsTo("a: INT, b: STRING", "b: STRING, a: INT"), ""},
		"NOT NULL less":                   {with(plain, columnsTo("n BIGINT", "n BIGINT NOT NULL")), func(s *shape) { s.columns = columns }, ""},
		"partitions in the files no more": {with(plain, func(s *shape) { s.features = []string{"materializePartitionColumns"} }), func(s *shape) { s.features = nil }, ""},

		"a column less": {plain, columnsTo("n BIGINT, ", ""), "dropped"},
		"a field less":  {plain, columnsTo(", b: STRING", ""), "dropped"},
		"another name":  {plain, columnsTo("n BIGINT", "o BIGINT"), "dropped"},
		"another type":  {plain, columnsTo("n BIGINT", "n STRING"), "column n is"},
		"a wider type":  {with(plain, columnsTo("n BIGINT", "n INT")), func(s *shape) { s.columns = columns }, "column n is"},
		"a wider type with the feature": {
			with(plain, func(s *shape) {
				columnsTo("n BIGINT", "n INT, d DECIMAL(9,2)")(s)
				s.columns = strings.Replace(s.columns, "x: INT", "x: SMALLINT", 1)
			}),
			func(s *shape) {
				s.features = []string{"typeWidening"}
				columnsTo("n BIGINT", "n BIGINT, d DECIMAL(20,2)")(s)
			}, "",
		},
		"a wider type, of other statistics": {with(plain, columnsTo("n BIGINT", "n FLOAT")), func(s *shape) {
			s.features = []string{"typeWidening"}
			columnsTo("n BIGINT", "n DOUBLE")(s)
		}, "column n is"},
		"a wider type, spelled otherwise": {with(plain, columnsTo("n BIGINT", "n INT")), func(s *shape) {
			s.features = []string{"typeWidening"}
			columnsTo("n BIGINT", "n DECIMAL(12,2)")(s)
		}, "column n is"},
		"a narrower type": {with(plain, func(*shape) {}), func(s *shape) {
			s.features = []string{"typeWidening"}
			columnsTo("n BIGINT", "n INT")(s)
		}, "column n is"},
		"a wider type of the partition": {with(plain, columnsTo("p DATE", "p INT")), func(s *shape) {
			s.features = []string{"typeWidening"}
			columnsTo("p DATE", "p BIGINT")(s)
		}, "partition columns"},
		"another type of elements":      {plain, columnsTo("x: INT", "x: BIGINT"), "column l.element.x is"},
		"another type of keys":          {plain, columnsTo("MAP<STRING", "MAP<INT"), "column m.key is"},
		"NOT NULL":                      {plain, columnsTo("n BIGINT", "n BIGINT NOT NULL"), "column n is NOT NULL"},
		"NOT NULL of a field":           {plain, columnsTo("a: INT", "a: INT NOT NULL"), "column s.a is NOT NULL"},
		"NOT NULL of a partition":       {plain, columnsTo("p DATE", "p DATE NOT NULL"), "column p is NOT NULL"},
		"a new column NOT NULL":         {plain, columnsTo("n BIGINT", "n BIGINT, o INT NOT NULL"), "new and NOT NULL"},
		"another partitioning":          {plain, func(s *shape) { s.by = []string{"p", "n"} }, "partition columns"},
		"no partitioning":               {plain, func(s *shape) { s.by = nil }, "partition columns"},
		"another type of the partition": {plain, columnsTo("p DATE", "p STRING"), "partition columns"},
		"partitions in the files":       {plain, func(s *shape) { s.features = []string{"materializePartitionColumns"} }, "in the data files"},
		"column mapping":                {plain, func(s *shape) { s.mode = "name" }, "column mapping"},
		"clustering without statistics": {
			with(plain, func(s *shape) { s.by, s.config["delta.dataSkippingNumIndexedCols"] = nil, "1" }),
			func(s *shape) {
				s.features, s.clustered = []string{"clustering"}, `{"clusteringColumns":[["s","a"]]}`
			}, "clustered",
		},
		"clustering with statistics": {
			with(plain, func(s *shape) { s.by = nil }),
			func(s *shape) { s.features, s.clustered = []string{"clustering"}, `{"clusteringColumns":[["s","a"]]}` }, "",
		},

		"mapped: a column less":   {named, columnsTo("n BIGINT, ", ""), ""},
		"mapped: a field less":    {named, columnsTo(", b: STRING", ""), ""},
		"mapped: all fields less": {named, columnsTo("a: INT, b: STRING", "c: INT"), "no column is left"},
		"mapped: another name": {named, func(s *shape) {
			columnsTo("n BIGINT", "o BIGINT")(s)
			s.physical = map[string]string{"o": "p-n"}
		}, ""},
		"mapped: another name of the partition": {named, func(s *shape) {
			columnsTo("p DATE", "q DATE")(s)
			s.by, s.physical = []string{"q"}, map[string]string{"q": "p-p"}
		}, ""},
		"mapped: dropped and made anew": {named, func(s *shape) {
			columnsTo("n BIGINT", "n STRING")(s)
			s.physical = map[string]string{"n": "p-n2"}
		}, ""},
		"mapped: by id":      {named, func(s *shape) { s.mode = "id" }, "column mapping"},
		"mapped: ids inside": {named, func(s *shape) { s.features = []string{"icebergCompatV2"} }, "another column id"},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.before.layout(t)
			after := with(c.before, c.change).layout(t)
			got := before.Misfit(after)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("misfit is %q, want %q", got, c.want)
			}
			neutral := slices.Contains([]string{"nothing", "a property", "a comment", "mapped: another name"}, name)
			if name != "a feature" && before.Equal(after) != neutral {
				t.Errorf("equal is %v", !neutral)
			}
		})
	}
}

func FuzzColumnList(f *testing.F) {
	for _, s := range []string{"a", "a.b, c", "`a``b`.c", "a,,b", "`", ".", " é . `,` ", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		columns, err := delta.ParseColumnList(s)
		if err != nil {
			return
		}
		var spelled []string
		for _, path := range columns {
			var steps []string
			for _, step := range path {
				steps = append(steps, "`"+strings.ReplaceAll(step, "`", "``")+"`")
			}
			spelled = append(spelled, strings.Join(steps, "."))
		}
		again, err := delta.ParseColumnList(strings.Join(spelled, ","))
		if err != nil || !slices.EqualFunc(columns, again, slices.Equal[[]string]) {
			t.Errorf("%q gives %q, then %q, error %v", s, columns, again, err)
		}
	})
}
