package delta

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// appendFeatures lists every table feature under which this package appends (PROTOCOL.md, "Valid Feature Names in Table
// Features"). A feature that is not here is refused by name, also when nothing in the table uses it: what an unknown
// feature asks of writers is unknown. The function says what in the table uses the feature in a way that an append does
// not honour, "" for nothing; nil means that an append meets the feature's requirements always.
var appendFeatures = map[string]func(*state) string{
	"appendOnly":          nil, // appends are all it allows
	"invariants":          func(s *state) string { return s.columnWith("delta.invariants", "an invariant") },
	"checkConstraints":    (*state).constraint,
	"changeDataFeed":      nil, // an append needs no cdc file: its add actions are its changes
	"generatedColumns":    func(s *state) string { return s.columnWith("delta.generationExpression", "a generation expression") },
	"columnMapping":       (*state).columnMapping,
	"identityColumns":     func(s *state) string { return s.columnWith("delta.identity.step", "an identity") },
	"allowColumnDefaults": func(s *state) string { return s.columnWith("CURRENT_DEFAULT", "a default") },
	"deletionVectors":     nil, // an append writes none
	"timestampNtz":        nil,
	"domainMetadata":      nil, // kept, never changed
	"vacuumProtocolCheck": nil, // asks something of VACUUM only
	"inCommitTimestamp":   nil, // honoured by Commit
}

// legacyFeatures are what writer versions below 7 imply (PROTOCOL.md, "Writer Version Requirements").
var legacyFeatures = []struct {
	since int
	names []string
}{
	{2, []string{"appendOnly", "invariants"}},
	{3, []string{"checkConstraints"}},
	{4, []string{"changeDataFeed", "generatedColumns"}},
	{5, []string{"columnMapping"}},
	{6, []string{"identityColumns"}},
}

// remedies for features that people meet; defaultRemedy for the others.
var remedies = map[string]string{
	"invariants":       "remove it from the column's metadata",
	"checkConstraints": "drop it with ALTER TABLE ... DROP CONSTRAINT",
	"columnMapping":    "write to a table whose delta.columnMapping.mode is none",
	"v2Checkpoint":     "set delta.checkpointPolicy = classic, then ALTER TABLE ... DROP FEATURE v2Checkpoint",
	"rowTracking":      "set delta.enableRowTracking = false, then ALTER TABLE ... DROP FEATURE rowTracking",
}

const defaultRemedy = "drop the feature with ALTER TABLE ... DROP FEATURE, or write to a table without it"

// CheckAppend refuses a table whose protocol asks of an append what this package cannot honour: an *UnsupportedError that
// names every such feature and what to do. To be called after Open and after every commit with ChangesTable. Commit calls
// it too, so that nothing is ever written against it.
//
// Writer versions below 7 imply features; one counts only where the table uses it (PROTOCOL.md, "Writer Version
// Requirements" and "Active Features").
func (t *Table) CheckAppend() error { return t.checkAppend() }

func (s *state) checkAppend() error {
	var refused, details, remedy []string
	refuse := func(name, detail string) {
		if slices.Contains(refused, name) {
			return
		}
		refused = append(refused, name)
		if detail != "" {
			details = append(details, detail)
		}
		r, ok := remedies[name]
		if !ok {
			r = defaultRemedy
		}
		if !slices.Contains(remedy, r) {
			remedy = append(remedy, r)
		}
	}
	if v := s.protocol.MinReaderVersion; v > 3 {
		refuse(fmt.Sprintf("reader version %d", v), "")
	}
	if v := s.protocol.MinWriterVersion; v > 7 {
		refuse(fmt.Sprintf("writer version %d", v), "")
	}
	for _, name := range s.features() {
		used, known := appendFeatures[name]
		if !known {
			refuse(name, "")
			continue
		}
		if used == nil {
			continue
		}
		if detail := used(s); detail != "" {
			refuse(name, detail)
		}
	}
	if refused == nil {
		return nil
	}
	return &UnsupportedError{Features: refused, Detail: strings.Join(details, "; "), Remedy: strings.Join(remedy, "; ")}
}

// features are the names of all features that the protocol supports, those that versions imply included, each once.
// Writers must honour the readers' features too (PROTOCOL.md, "Table Features").
func (s *state) features() []string {
	p := &s.protocol
	var names []string
	if p.MinWriterVersion >= 7 {
		names = append(names, p.WriterFeatures...)
	} else {
		for _, f := range legacyFeatures {
			if p.MinWriterVersion >= f.since {
				names = append(names, f.names...)
			}
		}
	}
	switch {
	case p.MinReaderVersion >= 3:
		names = append(names, p.ReaderFeatures...)
	case p.MinReaderVersion == 2:
		names = append(names, "columnMapping")
	}
	var unique []string
	for _, name := range names {
		if !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique
}

func (s *state) supports(feature string) bool { return slices.Contains(s.features(), feature) }

// columnWith finds a column whose metadata has a key.
func (s *state) columnWith(key, what string) string {
	found := ""
	_ = walkFields(s.schema.Fields(), "", func(path string, f arrow.Field) error {
		if raw, ok := fieldMetadataOf(f, key); ok && found == "" && !bytes.Equal(raw, []byte("null")) {
			found = fmt.Sprintf("column %s has %s", path, what)
		}
		return nil
	})
	return found
}

func (s *state) constraint() string {
	var names []string
	for key := range s.metadata.Configuration {
		if name, ok := strings.CutPrefix(key, "delta.constraints."); ok {
			names = append(names, name)
		}
	}
	if names == nil {
		return ""
	}
	slices.Sort(names)
	return "the table has the CHECK constraint " + strings.Join(names, ", ")
}

func (s *state) columnMapping() string {
	if mode := s.columnMappingMode(); mode != "none" {
		return "delta.columnMapping.mode is " + mode
	}
	return ""
}

// inCommitTimestamps reports whether commits must carry one (PROTOCOL.md, "In-Commit Timestamps").
func (s *state) inCommitTimestamps() bool {
	return strings.EqualFold(s.metadata.Configuration["delta.enableInCommitTimestamps"], "true") && s.supports("inCommitTimestamp")
}
