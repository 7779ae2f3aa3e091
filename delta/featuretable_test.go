package delta_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// use is a table that uses a feature, as another writer would make it, and how Create is asked for one.
type use struct {
	column        string   // JSON of the column a's type; "" for "integer"
	meta          string   // JSON of a's metadata
	configuration string   // JSON
	with          []string // features besides
	lines         []string // further actions of version 0
	properties    map[string]string
	create        func(*delta.CreateOptions)
	refused       string // the name under which it is refused; "" for its own
}

const mappedColumn = `{"delta.columnMapping.id":1,"delta.columnMapping.physicalName":"a"}`

func property(key, value string) use {
	return use{configuration: fmt.Sprintf(`{%q:%q}`, key, value), properties: map[string]string{key: value}}
}

func (u use) and(change func(*use)) use { change(&u); return u }

func domain(name, configuration string) string {
	return fmt.Sprintf(`{"domainMetadata":{"domain":%q,"configuration":%q,"removed":false}}`, name, configuration)
}

func iceberg(version string) use {
	key := "delta.enableIcebergCompat" + version
	return use{
		meta: mappedColumn, configuration: fmt.Sprintf(`{%q:"true","delta.columnMapping.mode":"name","delta.columnMapping.maxColumnId":"1"}`, key),
		with: []string{"columnMapping"}, properties: map[string]string{key: "true"},
	}
}

var uses = map[string]use{
	"appendOnly":       property("delta.appendOnly", "true"),
	"invariants":       {meta: `{"delta.invariants":"{\"expression\":{\"expression\":\"a > 0\"}}"}`},
	"checkConstraints": {configuration: `{"delta.constraints.low":"a > 0"}`},
	"changeDataFeed":   property("delta.enableChangeDataFeed", "true"),
	"generatedColumns": {meta: `{"delta.generationExpression":"CAST(b AS INT)"}`},
	"columnMapping": property("delta.columnMapping.mode", "name").and(func(u *use) {
		u.meta = mappedColumn
	}),
	"identityColumns":     {column: `"long"`, meta: `{"delta.identity.start":1,"delta.identity.step":1,"delta.identity.allowExplicitInsert":true}`},
	"allowColumnDefaults": {meta: `{"CURRENT_DEFAULT":"3"}`},
	"deletionVectors": property("delta.enableDeletionVectors", "true").and(func(u *use) {
		u.lines = []string{`{"add":{"path":"old","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":3}","deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":4,"sizeInBytes":40,"cardinality":1}}}`}
	}),
	"rowTracking": property("delta.enableRowTracking", "true").and(func(u *use) {
		u.with, u.lines = []string{"domainMetadata"}, []string{domain("delta.rowTracking", `{"rowIdHighWaterMark":9}`)}
	}),
	"timestampNtz":    {column: `"timestamp_ntz"`, create: func(o *delta.CreateOptions) { o.Schema = must(delta.ParseDDL("a TIMESTAMP_NTZ")) }},
	"domainMetadata":  {lines: []string{domain("mine", "x")}},
	"v2Checkpoint":    property("delta.checkpointPolicy", "v2"),
	"icebergCompatV1": iceberg("V1"),
	"icebergCompatV2": iceberg("V2"),
	"clustering": {
		with: []string{"domainMetadata"}, lines: []string{domain("delta.clustering", `{"clusteringColumns":[["a"]]}`)},
		create: func(o *delta.CreateOptions) { o.ClusterBy = []string{"a"} },
	},
	"inCommitTimestamp":        property("delta.enableInCommitTimestamps", "true"),
	"typeWidening":             property("delta.enableTypeWidening", "true").and(widened),
	"typeWidening-preview":     use{configuration: `{"delta.enableTypeWidening":"true"}`}.and(widened),
	"checkpointProtection":     {configuration: `{"delta.requireCheckpointProtectionBeforeVersion":"1"}`},
	"icebergCompatV3":          {configuration: `{"delta.enableIcebergCompatV3":"true"}`},
	"icebergWriterCompatV1":    {configuration: `{"delta.enableIcebergWriterCompatV1":"true"}`},
	"icebergWriterCompatV3":    {configuration: `{"delta.enableIcebergWriterCompatV3":"true"}`},
	"variantType":              {column: `"variant"`},
	"variantType-preview":      {column: `"variant"`},
	"variantShredding":         {column: `"variant"`, with: []string{"variantType"}, properties: map[string]string{"delta.enableVariantShredding": "true"}},
	"variantShredding-preview": {column: `"variant"`, with: []string{"variantType"}},
	"geospatial":               {column: `"geometry(OGC:CRS84)"`},
	"collations":               {column: `"string"`, meta: `{"__COLLATIONS":{"a":"ICU.de"}}`},
	"collations-preview":       {column: `"string"`, meta: `{"__COLLATIONS":{"a":"ICU.de"}}`},
	"any other":                {configuration: `{"delta.enableTimeTravel":"true"}`},
}

func widened(u *use) {
	u.column, u.meta = `"long"`, `{"delta.typeChanges":[{"fromType":"integer","toType":"long"}]}`
}

// row is one row of the table in docs/delta.md.
type row struct{ name, read, append, create, refused string }

func featureRows(t *testing.T) []row {
	t.Helper()
	text := string(must(os.ReadFile("../docs/delta.md")))
	text, _, _ = strings.Cut(text[strings.Index(text, "| Feature | Read"):], "\n\n")
	var rows []row
	for _, m := range regexp.MustCompile("(?m)^\\| `?([\\w -]+?)`? \\| (.*?) \\| (.*?) \\| (.*?) \\| (.*?) ?\\|$").FindAllStringSubmatch(text, -1) {
		if m[1] != "Feature" {
			create, _, _ := strings.Cut(m[4], ":")
			rows = append(rows, row{m[1], m[2], m[3], create, m[5]})
		}
	}
	return rows
}

// Every row of the table in docs/delta.md is true. Where this fails, the code or the row is wrong.
func TestFeatureTableInTheDocs(t *testing.T) {
	rows := featureRows(t)
	var documented []string
	for _, r := range rows {
		documented = append(documented, r.name)
		t.Run(r.name, func(t *testing.T) {
			name := r.name
			if name == "any other" {
				name = "fromMars"
			}
			u := uses[r.name]
			used, unused := usedAs(t, name, u, 7), usedAs(t, name, use{with: u.with}, 7)
			testReads(t, r, used)
			if r.read == "yes" {
				testAppends(t, r, name, u, used, unused)
				if since := delta.FeatureSince(name); since > 0 {
					testAppends(t, r, name, u, usedAs(t, name, u, since), usedAs(t, name, use{}, since))
				}
			}
			if (r.append == "yes") != (r.refused == "") && !slices.Contains([]string{"invariants", "checkConstraints", "generatedColumns", "allowColumnDefaults", "columnMapping", "rowTracking", "clustering", "icebergCompatV1", "icebergCompatV2",
				"variantType", "variantShredding", "variantType-preview", "variantShredding-preview"}, name) {
				t.Errorf("append: %q, refused where: %q", r.append, r.refused)
			}
			testCreates(t, r, name, u)
		})
	}
	known := append(delta.FeatureNames(), "any other")
	if slices.Sort(known); !slices.Equal(known, slices.Sorted(slices.Values(documented))) {
		t.Errorf("docs/delta.md has the rows\n%v, want\n%v", documented, known)
	}
}

// usedAs is a table whose protocol has the feature by its name, or by a writer version that implies it.
func usedAs(t *testing.T, feature string, u use, writer int) *memory.Store {
	t.Helper()
	column, meta, s := u.column, u.meta, memory.New()
	if column == "" {
		column = `"integer"`
	}
	if meta == "" {
		meta = "{}"
	}
	p := protocol(1, writer)
	if feature == "columnMapping" && writer < 7 {
		p = protocol(2, writer)
	}
	if writer == 7 {
		names := `"` + strings.Join(append([]string{feature}, u.with...), `","`) + `"`
		p = `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[` + readerOnly(names) + `],"writerFeatures":[` + names + `]}}`
	}
	b := ""
	if u.configuration == "" || !strings.Contains(u.configuration, "columnMapping") {
		b = `,{"name":"b","type":"long","nullable":true,"metadata":{}}`
	}
	schema := `{"type":"struct","fields":[{"name":"a","type":` + column + `,"nullable":true,"metadata":` + meta + `}` + b + `]}`
	putLog(t, s, 0, append([]string{`{"commitInfo":{"inCommitTimestamp":1600000000000}}`, p, metadata(schema, u.configuration)}, u.lines...)...)
	return s
}

// readerOnly leaves of the quoted names those that readers must honour.
func readerOnly(names string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(names, ","), func(n string) bool { return !delta.IsReaderFeature(strings.Trim(n, `"`)) }), ",")
}

func testReads(t *testing.T, r row, s *memory.Store) {
	t.Helper()
	snapshot, err := delta.OpenSnapshot(ctx, s, -1)
	switch {
	case r.read == "no" && errors.Is(err, delta.ErrUnsupported) && strings.Contains(err.Error(), r.name):
	case r.read == "yes" && err == nil:
		_, err := snapshot.Totals(ctx)
		check(t, err)
	default:
		t.Errorf("read: %q, but opening it gives %v", r.read, err)
	}
}

func testAppends(t *testing.T, r row, name string, u use, used, unused *memory.Store) {
	t.Helper()
	for table, s := range map[string]*memory.Store{"used": used, "unused": unused} {
		tx := withRows(3)
		tx.Adds[0].Stats = `{"numRecords":3,"minValues":{"a":1},"maxValues":{"a":1},"nullCount":{"a":0}}`
		outcome, err := open(t, s, newClock()).Commit(ctx, tx)
		want := delta.Refused
		if r.append == "yes" || r.append == "while unused" && table == "unused" {
			want = delta.Committed
		}
		if outcome != want {
			t.Errorf("append: %q, but a table where it is %s gives %s, %v", r.append, table, outcome, err)
		}
		if want == delta.Committed {
			continue
		}
		refused := name
		if u.refused != "" && table == "used" {
			refused = u.refused
		}
		var e *delta.UnsupportedError
		if !errors.As(err, &e) || !slices.Contains(e.Features, refused) || e.Detail == "" || e.Remedy == "" {
			t.Errorf("a table where it is %s: %v, want %s refused with what asks for it and what to do", table, err, refused)
		}
	}
}

func testCreates(t *testing.T, r row, name string, u use) {
	t.Helper()
	asks := map[string]delta.CreateOptions{"feature": {Features: []string{name}}, "delta.feature": {Properties: map[string]string{"delta.feature." + name: "supported"}}}
	if u.properties != nil || u.create != nil {
		o := delta.CreateOptions{Properties: u.properties, Schema: must(delta.ParseDDL("a INT, b BIGINT"))}
		if u.create != nil {
			u.create(&o)
		}
		asks["use"] = o
	}
	for way, o := range asks {
		if o.Schema == nil {
			o.Schema = must(delta.ParseDDL("a INT"))
		}
		c, s := newClock(), memory.New()
		o.Now = c.now
		err := delta.Create(ctx, s, o)
		if r.create != "yes" {
			if !errors.Is(err, delta.ErrUnsupported) || !strings.Contains(err.Error(), name) {
				t.Errorf("create: %q, but by %s gives %v", r.create, way, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("create: %q, but by %s gives %v", r.create, way, err)
			continue
		}
		table := open(t, s, c)
		check(t, table.CheckAppend())
		if p := table.Protocol(); !slices.Contains(delta.ProtocolFeatures(p), name) {
			t.Errorf("created by %s: %+v", way, p)
		}
	}
}
