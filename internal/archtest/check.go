package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// checkImports compares the packages of a module with the rules and gives one line for each departure.
func checkImports(module string, packages []pkg, rules []rule) []string {
	var found []string
	for _, p := range packages {
		at := slices.IndexFunc(rules, func(r rule) bool { return r.pkg == p.dir })
		if at < 0 {
			found = append(found, fmt.Sprintf(
				"package %s is not in the import table: enter it in internal/archtest/table.go, with the reason", p.dir))
			continue
		}
		for _, spec := range p.imports() {
			if fault := rules[at].check(module, spec.path); fault != "" {
				found = append(found, fmt.Sprintf("%s: %s imports %s: %s (%s: %s)",
					spec.at, p.dir, spec.path, fault, p.dir, rules[at].because))
			}
		}
	}
	return found
}

// check says why the rule's package may not import to, or "".
func (r rule) check(module, to string) string {
	switch inside, ours := strings.CutPrefix(to, module+"/"); {
	case ours || to == module:
		if !slices.Contains(r.imports, inside) {
			return "of this module it may import " + orNothing(r.imports)
		}
	case to == "C":
		return "cgo is not used: everything builds with Go alone, for every system"
	case isStandard(to):
		if r.pure && slices.Contains(ioPackages, to) {
			return "it does no I/O of its own"
		}
	case !slices.ContainsFunc(r.modules, func(m string) bool { return within(to, m) }):
		return "of third-party code it may import " + orNothing(r.modules)
	}
	return ""
}

// checkTable looks for mistakes in the rules themselves: exists tells whether the package's folder is there.
func checkTable(rules []rule, exists func(dir string) bool) []string {
	var found []string
	testOnly := map[string]bool{}
	seen := map[string]bool{}
	for _, r := range rules {
		testOnly[r.pkg] = r.testOnly
		if seen[r.pkg] {
			found = append(found, r.pkg+" is in the import table twice")
		}
		seen[r.pkg] = true
	}
	for _, r := range rules {
		if r.because == "" {
			found = append(found, r.pkg+" is in the import table without a reason")
		}
		if !exists(r.pkg) {
			found = append(found, r.pkg+" is in the import table but not in the module: remove its row")
		}
		for _, to := range r.imports {
			switch {
			case !seen[to]:
				found = append(found, r.pkg+" may import "+to+", which has no row")
			case strings.HasPrefix(to, "cmd/"):
				found = append(found, r.pkg+" may import "+to+": nobody imports a command")
			case testOnly[to] && !r.testOnly:
				found = append(found, r.pkg+" may import "+to+", which only tests may import")
			}
		}
	}
	return append(found, cycles(rules)...)
}

// cycles finds rows that allow a package to reach itself: the compiler would stop the code, not the table.
func cycles(rules []rule) []string {
	next := map[string][]string{}
	for _, r := range rules {
		next[r.pkg] = r.imports
	}
	var found []string
	for _, r := range rules {
		reached := map[string]bool{}
		for todo := slices.Clone(r.imports); len(todo) > 0; todo = todo[1:] {
			if !reached[todo[0]] {
				reached[todo[0]] = true
				todo = append(todo, next[todo[0]]...)
			}
		}
		if reached[r.pkg] {
			found = append(found, r.pkg+" may import itself through others")
		}
	}
	return found
}

// checkNames finds uses of names beyond those allowed by namesOnly.
func checkNames(packages []pkg) []string {
	var found []string
	for _, limit := range namesOnly {
		for _, p := range packages {
			if !within(p.dir, limit.pkg) {
				continue
			}
			for _, spec := range p.imports() {
				if spec.path != limit.module {
					continue
				}
				for _, use := range uses(spec) {
					if !slices.Contains(limit.names, use.Sel.Name) {
						found = append(found, fmt.Sprintf("%s: %s uses %s of %s: it may use %s",
							p.position(use.Pos()), p.dir, use.Sel.Name, spec.path, strings.Join(limit.names, ", ")))
					}
				}
			}
		}
	}
	return found
}

// uses lists the places where a file names something of the imported package. A dot import hides its uses, and counts as
// a use of ".".
func uses(spec importSpec) []*ast.SelectorExpr {
	local := spec.name
	if local == "" {
		local = path.Base(spec.path)
	}
	if local == "." {
		return []*ast.SelectorExpr{{X: spec.file.Name, Sel: ast.NewIdent(".")}}
	}
	var found []*ast.SelectorExpr
	ast.Inspect(spec.file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
				found = append(found, s)
			}
		}
		return true
	})
	return found
}

// checkComments finds packages without a package comment. A package of tests alone has it in a test file.
func checkComments(packages []pkg) []string {
	var found []string
	for _, p := range packages {
		files := p.files
		if len(files) == 0 {
			files = p.testing
		}
		if !slices.ContainsFunc(files, func(f *ast.File) bool { return f.Doc != nil }) {
			found = append(found, p.dir+" has no package comment: say what it owns, what it promises, what it never does")
		}
	}
	return found
}

// checkErrorTexts finds errors that begin by saying that something went wrong, which every error says by being one.
func checkErrorTexts(packages []pkg) []string {
	var found []string
	for _, p := range packages {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				callee, _ := call.Fun.(*ast.SelectorExpr)
				text, _ := call.Args[0].(*ast.BasicLit)
				if callee == nil || text == nil || callee.Sel.Name != "Errorf" && callee.Sel.Name != "New" {
					return true
				}
				value, err := strconv.Unquote(text.Value)
				if err == nil && (strings.HasPrefix(value, "failed to ") || strings.HasPrefix(value, "error ")) {
					found = append(found, fmt.Sprintf("%s: error %q: say what was being done (\"opening log: %%w\")",
						p.position(call.Pos()), value))
				}
				return true
			})
		}
	}
	return found
}

// isStandard tells the standard library by the lack of a dot in the path's first element, as the go command does.
func isStandard(to string) bool {
	first, _, _ := strings.Cut(to, "/")
	return !strings.Contains(first, ".")
}

// within reports whether a path is root or below it.
func within(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
