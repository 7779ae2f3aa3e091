package sink_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnlyCleanupDeletes holds rule C6 at its one place: no other file of the module calls Delete on a store. Backends,
// and decorators of stores, pass the call on.
func TestOnlyCleanupDeletes(t *testing.T) {
	root := ".."
	found := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata" || rel == "storage") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, line := range deletes(t, rel, source) {
			switch rel {
			case "sink/cleanup.go":
				found++
				continue
			case "delta/cleanlog.go": // objects of the log, by the protocol's rules; a data file has none of their names
				continue
			}
			t.Errorf("%s deletes: only sink/cleanup.go may, which holds the proof that it is safe (rule C6)", line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != 3 { // a data file in discard, a parcel's note in dropNote, and a proposal, on which nothing depends, in dropProposal
		t.Errorf("sink/cleanup.go deletes at %d places, want 3", found)
	}
}

// deletes lists the calls of a method Delete with a context and a name, and where the method is taken as a value.
func deletes(t *testing.T, name string, source []byte) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Delete" {
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "slices" { // no store
				return true
			}
			found = append(found, fset.Position(s.Pos()).String())
		}
		return true
	})
	return found
}

func TestDeletesAreFound(t *testing.T) {
	for source, want := range map[string]int{
		"package p\nfunc f() { s.store.Delete(ctx, name) }":              1,
		"package p\nvar remove = store.Delete":                           1,
		"package p\nfunc f() { delete(m, k); lag.DeleteLabelValues() }":  0,
		"package p\nfunc f() { s = slices.Delete(s, 0, 1) }":             0,
		"package p\nfunc (s *Store) Delete(ctx, name string) error {}\n": 0,
	} {
		if got := len(deletes(t, "p.go", []byte(source))); got != want {
			t.Errorf("%d calls are found, want %d, in %s", got, want, source)
		}
	}
}
