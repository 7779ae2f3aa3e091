package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// checker finds out, without building anything, whether packages of this module compile with changes in their files. What they import
// is as go list has it, built already.
type checker struct {
	set      *token.FileSet
	imports  types.Importer
	packages map[string]*listed // by folder
}

// listed is what go list tells of a package.
type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
}

func newChecker(t *testing.T, folders []string) *checker {
	t.Helper()
	var problems strings.Builder
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles"}, folders...)...)
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("listing packages: %v\n%s", err, problems.String())
	}
	c := &checker{set: token.NewFileSet(), packages: map[string]*listed{}}
	exports := map[string]string{}
	for more := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &listed{}
		if err := more.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c.packages[p.Dir], exports[p.ImportPath] = p, p.Export
	}
	c.imports = importer.ForCompiler(c.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	return c
}

// check compiles the packages of the files, as far as errors go.
func (c *checker) check(files map[string][]byte) error {
	changed := map[string][]byte{} // by whole name
	var folders []string
	for name, text := range files {
		whole, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		changed[whole], folders = text, append(folders, filepath.Dir(whole))
	}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		p := c.packages[folder]
		if p == nil {
			return fmt.Errorf("%s is no package that was listed", folder)
		}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			name = filepath.Join(folder, name)
			var text any // nil: as it is on the disk
			if other, ok := changed[name]; ok {
				text = other
			}
			file, err := parser.ParseFile(c.set, name, text, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			parsed = append(parsed, file)
		}
		config := types.Config{Importer: c.imports, Sizes: types.SizesFor("gc", runtime.GOARCH)}
		if _, err := config.Check(p.ImportPath, c.set, parsed, nil); err != nil {
			return err
		}
	}
	return nil
}
