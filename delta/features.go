package delta

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta/variant"
)

// feature is one table feature that this package knows. docs/delta.md says how far it goes with each; a test compares.
type feature struct {
	name   string
	reader bool     // readers must honour it too
	since  int      // the writer version below 7 that implies it (PROTOCOL.md, "Writer Version Requirements"); 0 for none
	needs  []string // features that it does not work without
	create bool     // Create makes tables with it
}

// features are the names of PROTOCOL.md, "Valid Feature Names in Table Features", then those that its RFCs and the
// reference implementation have besides. A table with another name is refused: what it asks of a writer is unknown.
var features = []feature{
	{name: "appendOnly", since: 2, create: true},
	{name: "invariants", since: 2, create: true},
	{name: "checkConstraints", since: 3, create: true},
	{name: "changeDataFeed", since: 4, create: true},
	{name: "generatedColumns", since: 4, create: true},
	{name: "columnMapping", since: 5, reader: true, create: true},
	{name: "identityColumns", since: 6},
	{name: "allowColumnDefaults", create: true},
	{name: "deletionVectors", reader: true, create: true},
	{name: "rowTracking", needs: []string{"domainMetadata"}, create: true},
	{name: "timestampNtz", reader: true, create: true},
	{name: "domainMetadata", create: true},
	{name: "v2Checkpoint", reader: true, create: true},
	{name: "catalogManaged", reader: true},
	{name: "icebergCompatV1", needs: []string{"columnMapping"}, create: true},
	{name: "icebergCompatV2", needs: []string{"columnMapping"}, create: true},
	{name: "clustering", needs: []string{"domainMetadata"}, create: true},
	{name: "vacuumProtocolCheck", reader: true, create: true},
	{name: "inCommitTimestamp", create: true},
	{name: "typeWidening", reader: true, create: true},
	{name: "variantType", reader: true, create: true},
	{name: "variantShredding", reader: true},

	{name: "typeWidening-preview", reader: true},
	{name: "checkpointProtection"},
	{name: "materializePartitionColumns"},
	{name: "icebergCompatV3"},
	{name: "icebergWriterCompatV1"},
	{name: "icebergWriterCompatV3"},
	{name: "variantType-preview", reader: true},
	{name: "variantShredding-preview", reader: true},
	{name: "geospatial", reader: true},
	{name: "collations"},
	{name: "collations-preview"},
	{name: "inCommitTimestamp-preview"},
	{name: "catalogOwned-preview", reader: true},
	{name: "coordinatedCommits-preview"},
	{name: "managedCommit-preview"},
	{name: "redirectReaderWriter-preview", reader: true},
	{name: "redirectWriterOnly-preview"},
}

// refusal says when an append refuses a table with a feature: used tells what in the table uses it in a way that an append
// does not honour, "" for nothing. A feature that is supported but not active asks for nothing (PROTOCOL.md, "Active
// Features"); one without a refusal is honoured by every append. Those of expressions are in ruleRefusals.
type refusal struct {
	used   func(*state) string
	remedy string
}

var refusals = map[string]refusal{
	"columnMapping":   {(*state).columnMapping, repairRemedy},
	"identityColumns": {columnWith("delta.identity.step", "an identity"), "drop the identity, or write to a table without identity columns"},
	"rowTracking":     {(*state).badHighWaterMark, repairRemedy},
	"clustering":      {(*state).badClustering, "set the clustering columns anew with ALTER TABLE ... CLUSTER BY"},
	"icebergCompatV1": {icebergCompat(1), icebergRemedy},
	"icebergCompatV2": {icebergCompat(2), icebergRemedy},

	// What these ask of an append is not done here where they are in use.
	"icebergCompatV3":           {enabled("delta.enableIcebergCompatV3"), turnOff},
	"icebergWriterCompatV1":     {enabled("delta.enableIcebergWriterCompatV1"), turnOff},
	"icebergWriterCompatV3":     {enabled("delta.enableIcebergWriterCompatV3"), turnOff},
	"collations":                {columnWith("__COLLATIONS", "a collation"), "write to a table without collated columns"},
	"collations-preview":        {columnWith("__COLLATIONS", "a collation"), "write to a table without collated columns"},
	"inCommitTimestamp-preview": {listed, defaultRemedy},

	// Commits of these do not go through the log alone, or the rows do not belong here.
	"catalogManaged":               {listed, catalogRemedy},
	"catalogOwned-preview":         {listed, catalogRemedy},
	"coordinatedCommits-preview":   {listed, catalogRemedy},
	"managedCommit-preview":        {listed, catalogRemedy},
	"redirectReaderWriter-preview": {listed, "write to the table that it redirects to"},
	"redirectWriterOnly-preview":   {listed, "write to the table that it redirects to"},
}

const (
	defaultRemedy = "drop the feature with ALTER TABLE ... DROP FEATURE, or write to a table without it"
	newerProgram  = "use a newer version of this program"
	catalogRemedy = "write to a table that is not managed by a catalog"
	repairRemedy  = "repair the table with the engine that maintains it"
	icebergRemedy = repairRemedy + ", or turn the feature off with ALTER TABLE ... SET TBLPROPERTIES"
	turnOff       = "turn it off with ALTER TABLE ... SET TBLPROPERTIES, or write to a table without it"
)

// findFeature finds a feature by its name, whatever its case: only Create is so lenient, as the reference implementation is.
func findFeature(name string) (feature, bool) {
	i := slices.IndexFunc(features, func(f feature) bool { return strings.EqualFold(f.name, name) })
	if i < 0 {
		return feature{}, false
	}
	return features[i], true
}

// CheckAppend refuses a table whose protocol asks of an append what this package cannot honour: an *UnsupportedError that
// names every such feature, what in the table asks for it, and what to do. To be called after Open and after every commit
// with ChangesTable. Commit calls it too, so that nothing is ever written against it.
//
// Writer versions below 7 imply features. A feature of either kind counts only where the table uses it in a way that an
// append does not honour (PROTOCOL.md, "Active Features"); docs/delta.md says which ways those are.
func (t *Table) CheckAppend() error { return t.checkAppend() }

// verdict is what checkAppend has found.
type verdict struct{ err error }

// checkAppend looks at a state once: every attempt of every commit asks. What it depends on and what does not come with a
// commit that ChangesTable, the row id high-water mark, is looked at again by assignRowIDs.
func (s *state) checkAppend() error {
	if s.verdict == nil {
		s.verdict = &verdict{s.findRefusals()}
	}
	return s.verdict.err
}

func (s *state) findRefusals() error {
	var names, details, remedies []string
	refused := map[string]bool{}
	refuse := func(name, detail, remedy string) {
		if !refused[name] {
			names, details, refused[name] = append(names, name), append(details, detail), true
		}
		if !slices.Contains(remedies, remedy) {
			remedies = append(remedies, remedy)
		}
	}
	if v := s.protocol.MinReaderVersion; v > 3 {
		refuse(fmt.Sprintf("reader version %d", v), "the table's protocol asks for it, and the newest known is 3", newerProgram)
	}
	if v := s.protocol.MinWriterVersion; v > 7 {
		refuse(fmt.Sprintf("writer version %d", v), "the table's protocol asks for it, and the newest known is 7", newerProgram)
	}
	if p := s.metadata.Format.Provider; p != "" && !strings.EqualFold(p, "parquet") {
		refuse("format "+p, "the data files are not Parquet", "write to a table whose format is parquet")
	}
	for path, t := range foreignTypes(s.schema.Fields()) {
		refuse(t.feature(), fmt.Sprintf("column %s has the type %s", path, t.name), foreignRemedy)
	}
	for _, f := range s.schema.Fields() {
		switch {
		case !variant.Is(f.Type):
		case !s.supports("variantType") && !s.supports("variantType-preview"):
			refuse("variantType", "column "+f.Name+" is a VARIANT, and the table's protocol lacks the feature for it", repairRemedy)
		case slices.Contains(s.metadata.PartitionColumns, f.Name):
			refuse("variantType", "the partition column "+f.Name+" is a VARIANT", repairRemedy)
		case s.icebergCompatible():
			refuse("variantType", "column "+f.Name+" is a VARIANT in a table that is to be compatible with Iceberg", foreignRemedy)
		}
	}
	rules := s.ruleRefusals()
	if detail := rules[charFeature]; detail != "" { // Spark's, whatever the features
		refuse(charFeature, detail, charRemedy)
	}
	for _, name := range s.supported() {
		if f, known := findFeature(name); !known || f.name != name {
			refuse(name, "the table's protocol lists "+name+", and what it asks of writers is unknown", defaultRemedy)
		} else if detail := rules[name]; detail != "" {
			refuse(name, detail, ruleRemedy)
		} else if r, ok := refusals[name]; ok {
			if detail := r.used(s); detail != "" {
				refuse(name, detail, r.remedy)
			}
		}
	}
	if names == nil {
		_, err := s.FileLayout()
		return err
	}
	return &UnsupportedError{Features: names, Detail: strings.Join(details, "; "), Remedy: strings.Join(remedies, "; ")}
}

// supported are the names of all features that the protocol supports, those that versions imply included, each once.
func (s *state) supported() []string { return s.protocol.features() }

func (s *state) supports(feature string) bool { return slices.Contains(s.supported(), feature) }

// features are the names of all features that the protocol supports, those that versions imply included, each once. Writers
// must honour the readers' features too (PROTOCOL.md, "Table Features").
func (p *Protocol) features() []string {
	var names []string
	if p.MinWriterVersion >= 7 {
		names = append(names, p.WriterFeatures...)
	}
	for _, f := range features {
		if f.since != 0 && p.MinWriterVersion < 7 && p.MinWriterVersion >= f.since {
			names = append(names, f.name)
		}
	}
	switch {
	case p.MinReaderVersion >= 3:
		names = append(names, p.ReaderFeatures...)
	case p.MinReaderVersion == 2:
		names = append(names, "columnMapping")
	}
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		twice := seen[name]
		seen[name] = true
		return twice
	})
}

func enabled(property string) func(*state) string {
	return func(s *state) string {
		if !s.isTrue(property) {
			return ""
		}
		return property + " is true"
	}
}

func listed(*state) string { return "the table's protocol lists it" }

// columnWith finds a column whose metadata has a key.
func columnWith(key, what string) func(*state) string {
	return func(s *state) string {
		found := ""
		_ = walkFields(s.schema.Fields(), "", func(path string, f arrow.Field) error {
			if raw, ok := fieldMetadataOf(f, key); ok && found == "" && !bytes.Equal(raw, []byte("null")) {
				found = fmt.Sprintf("column %s has %s", path, what)
			}
			return nil
		})
		return found
	}
}

// inCommitTimestamps reports whether commits must carry one (PROTOCOL.md, "In-Commit Timestamps").
func (s *state) inCommitTimestamps() bool {
	return s.active("inCommitTimestamp")
}
