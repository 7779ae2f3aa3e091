package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pkg is one package of the module as its sources have it, build tags not looked at.
type pkg struct {
	dir     string // relative to the module's root, "." for the root
	files   []*ast.File
	testing []*ast.File // _test.go files
	fset    *token.FileSet
}

// importSpec is one import of a non-test file.
type importSpec struct {
	path string
	name string // local name; "" for the default
	at   string // file:line
	file *ast.File
}

func (p pkg) imports() []importSpec {
	var specs []importSpec
	for _, f := range p.files {
		for _, i := range f.Imports {
			to, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				to = i.Path.Value // can't be: the parser has checked it
			}
			spec := importSpec{path: to, at: p.position(i.Pos()), file: f}
			if i.Name != nil {
				spec.name = i.Name.Name
			}
			specs = append(specs, spec)
		}
	}
	return specs
}

func (p pkg) position(at token.Pos) string {
	pos := p.fset.Position(at)
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

// loadModule parses all packages of the module in fsys, nested modules left out, and gives its path.
func loadModule(fsys fs.FS) (module string, packages []pkg, err error) {
	module, err = modulePath(fsys)
	if err != nil {
		return "", nil, err
	}
	byDir := map[string]*pkg{}
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return skipDir(fsys, name)
		case path.Ext(name) != ".go":
			return nil
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir, fset: token.NewFileSet()}
		}
		return byDir[dir].parse(fsys, name)
	})
	if err != nil {
		return "", nil, fmt.Errorf("reading the sources: %w", err)
	}
	for _, p := range byDir {
		packages = append(packages, *p)
	}
	slices.SortFunc(packages, func(a, b pkg) int { return strings.Compare(a.dir, b.dir) })
	return module, packages, nil
}

func (p *pkg) parse(fsys fs.FS, name string) error {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(p.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, "_test.go") {
		p.testing = append(p.testing, file)
	} else {
		p.files = append(p.files, file)
	}
	return nil
}

// skipDir leaves out what the go command leaves out of ./... too.
func skipDir(fsys fs.FS, name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func modulePath(fsys fs.FS) (string, error) {
	data, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return "", fmt.Errorf("finding the module's path: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if module, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(module), nil
		}
	}
	return "", fmt.Errorf("finding the module's path: go.mod has no module line")
}

// moduleRoot is the folder with go.mod, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("finding the module's root: no go.mod at or above the working directory")
		}
		dir = parent
	}
}
