package archtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// ours is the module that this package is part of, parsed once.
var ours = sync.OnceValues(func() (loaded, error) {
	root, err := moduleRoot()
	if err != nil {
		return loaded{}, err
	}
	module, packages, err := loadModule(os.DirFS(root))
	return loaded{root, module, packages}, err
})

type loaded struct {
	root, module string
	packages     []pkg
}

func load(t *testing.T) loaded {
	t.Helper()
	l, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func report(t *testing.T, found []string) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	l := load(t)
	report(t, checkImports(l.module, l.packages, table))
	report(t, checkNames(l.packages))
}

func TestTableIsSound(t *testing.T) {
	t.Parallel()
	l := load(t)
	report(t, checkTable(table, func(dir string) bool {
		_, err := os.Stat(filepath.Join(l.root, filepath.FromSlash(dir)))
		return err == nil
	}))
}

func TestPackagesHaveComments(t *testing.T) {
	t.Parallel()
	report(t, checkComments(load(t).packages))
}

func TestErrorsSayWhatWasBeingDone(t *testing.T) {
	t.Parallel()
	report(t, checkErrorTexts(load(t).packages))
}

// machinePath finds absolute paths that exist on one person's machine only.
var machinePath = regexp.MustCompile(`(^|[^\w./~-])(/(home|Users)/[a-z][\w.-]*|/root|/work(space)?|[A-Z]:\\Users)[/\\]`)

func TestNoFileNamesAMachine(t *testing.T) {
	t.Parallel()
	root := load(t).root
	for _, name := range trackedFiles(t, root) {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // listed by git, deleted since
		}
		if strings.ContainsRune(string(data[:min(len(data), 8000)]), 0) {
			continue // binary
		}
		for i, line := range strings.Split(string(data), "\n") {
			if found := machinePath.FindString(line); found != "" {
				t.Errorf("%s:%d names a path of one machine: %s", name, i+1, strings.TrimSpace(found))
			}
		}
	}
}

// trackedFiles lists the files of the repository, new ones included and ignored ones left out.
func trackedFiles(t *testing.T, root string) []string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Skipf("not in a git repository, or git is not installed: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// The tests below plant violations in modules of a few lines, to show that the checks find them.

func planted(t *testing.T, files map[string]string) (string, []pkg) {
	t.Helper()
	fsys := fstest.MapFS{"go.mod": {Data: []byte("module m\n\ngo 1.26\n")}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	module, packages, err := loadModule(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return module, packages
}

func expect(t *testing.T, found []string, want ...string) {
	t.Helper()
	if len(found) != len(want) {
		t.Fatalf("found %d, want %d:\n%s", len(found), len(want), strings.Join(found, "\n"))
	}
	for i, w := range want {
		if !strings.Contains(found[i], w) {
			t.Errorf("got  %s\nwant %s", found[i], w)
		}
	}
}

func TestImportCheckFindsViolations(t *testing.T) {
	t.Parallel()
	rules := []rule{
		{pkg: "delta", modules: []string{arrow, kgo}, pure: true, because: "stands alone"},
		{pkg: "storage", because: "a contract"},
		{pkg: "sink", imports: []string{"delta"}, because: "commits"},
	}
	for name, test := range map[string]struct {
		file, text string
		want       []string
	}{
		"allowed library":              {"delta/a.go", `import _ "` + arrow + `/arrow/array"`, nil},
		"allowed package":              {"sink/a.go", `import _ "m/delta"`, nil},
		"standard library":             {"storage/a.go", `import _ "net/http"`, nil},
		"test file":                    {"delta/a_test.go", `import _ "m/storage"`, nil},
		"ignored folder":               {"delta/testdata/a.go", `import _ "m/storage"`, nil},
		"forbidden package":            {"delta/a.go", `import _ "m/storage"`, []string{"delta/a.go:2: delta imports m/storage: of this module it may import nothing (delta: stands alone)"}},
		"forbidden package of another": {"sink/a.go", `import _ "m/storage"`, []string{"of this module it may import delta"}},
		"the root package":             {"sink/a.go", `import _ "m"`, []string{"sink imports m: of this module"}},
		"forbidden library":            {"storage/a.go", `import _ "` + kgo + `"`, []string{"storage imports " + kgo + ": of third-party code it may import nothing"}},
		"library with a like name":     {"delta/a.go", `import _ "` + kgo + `2"`, []string{"of third-party code"}},
		"older major of a library":     {"delta/a.go", `import _ "github.com/apache/arrow/go/v14/arrow"`, []string{"of third-party code"}},
		"I/O in a pure package":        {"delta/a.go", `import _ "os"`, []string{"delta imports os: it does no I/O of its own"}},
		"cgo":                          {"storage/a.go", `import "C"`, []string{"cgo is not used"}},
		"under another build tag":      {"delta/a_windows.go", `import _ "m/storage"`, []string{"delta/a_windows.go:2"}},
		"new package":                  {"new/a.go", ``, []string{"package new is not in the import table"}},
		"new package with tests only":  {"new/a_test.go", ``, []string{"package new is not in the import table"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			module, packages := planted(t, map[string]string{test.file: "package p\n" + test.text + "\n"})
			expect(t, checkImports(module, packages, rules), test.want...)
		})
	}
}

// TestTableKeepsItsPromises plants, in the real table, what the design rules out.
func TestTableKeepsItsPromises(t *testing.T) {
	t.Parallel()
	for from, banned := range map[string][]string{
		"checkpoint":    {kgo, arrow, uuid, "m/storage", "os"},
		"storage":       {kgo, arrow, "m/delta", "m/checkpoint", "m/storage/local"},
		"storage/local": {"m/storage/memory", "m/delta", arrow},
		"storage/open":  {"m/delta", "m/storage/faultstore"},
		"delta":         {kgo, kmsg, "m/storage", "m/checkpoint", "m/storage/local"},
		"sink/datafile": {"m/delta", "m/storage", kgo},
		"decode":        {"m/source", "m/sink", "m/delta", kadm, kmsg},
		"decode/json":   {"m/source", "m/delta", kadm},
		"batch":         {"m/source", "m/decode", "m/delta"},
		"source":        {arrow, "m/decode", "m/sink", "m/delta", kfake},
		"sink":          {"m/source", "m/decode", "m/storage", kgo, "m/storage/memory"},
		"pipeline":      {"m/decode", "m/decode/json", "m/delta", "m/storage", kfake},
		"cmd/connector": {"m/internal/kafkatest", "m/storage/faultstore", "m/storage/storagetest", "m/test/e2e", "m/bench"},
	} {
		for _, to := range append(banned, "m/cmd/connector", "m/internal/kafkatest", "m/test/e2e") {
			i := slices.IndexFunc(table, func(r rule) bool { return r.pkg == from })
			if i < 0 || table[i].check("m", to) == "" {
				t.Errorf("the table lets %s import %s", from, to)
			}
		}
	}
}

func TestTableCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	rules := []rule{
		{pkg: "a", imports: []string{"b", "cmd/c", "gone"}, because: "x"},
		{pkg: "b", imports: []string{"helper"}},
		{pkg: "b", because: "x"},
		{pkg: "cmd/c", because: "x"},
		{pkg: "helper", testOnly: true, because: "x"},
		{pkg: "loop", imports: []string{"turn"}, because: "x"},
		{pkg: "turn", imports: []string{"loop"}, because: "x"},
		{pkg: "suite", imports: []string{"helper"}, testOnly: true, because: "x"},
	}
	expect(t, checkTable(rules, func(dir string) bool { return dir != "suite" }),
		"b is in the import table twice",
		"a may import cmd/c: nobody imports a command",
		"a may import gone, which has no row",
		"b is in the import table without a reason",
		"b may import helper, which only tests may import",
		"suite is in the import table but not in the module",
		"loop may import itself through others",
		"turn may import itself through others",
	)
}

func TestNameCheckFindsViolations(t *testing.T) {
	t.Parallel()
	_, packages := planted(t, map[string]string{
		"decode/a.go":      "package decode\nimport \"" + kgo + "\"\nvar A kgo.Record\nvar B = kgo.NewClient\n",
		"decode/json/a.go": "package json\nimport k \"" + kgo + "\"\nvar A k.RecordHeader\nvar B k.Client\n",
		"decode/x/a.go":    "package x\nimport . \"" + kgo + "\"\n",
		"source/a.go":      "package source\nimport \"" + kgo + "\"\nvar B = kgo.NewClient\n",
	})
	expect(t, checkNames(packages),
		"decode/a.go:4: decode uses NewClient of "+kgo+": it may use Record, RecordHeader",
		"decode/json/a.go:4: decode/json uses Client",
		"decode/x/a.go:1: decode/x uses .",
	)
}

func TestStyleChecksFindViolations(t *testing.T) {
	t.Parallel()
	_, packages := planted(t, map[string]string{
		"a/a.go":      "package a\n",
		"a/a_test.go": "// Package a is not documented by its tests.\npackage a\n",
		"b/a.go":      "package b\n",
		"b/doc.go":    "// Package b is.\npackage b\n",
		"c/a_test.go": "// Package c has tests only.\npackage c\n",
		"d/a.go": "// Package d fails.\npackage d\nimport (\"errors\"; \"fmt\")\nvar A = errors.New(\"failed to open\")\n" +
			"var B = fmt.Errorf(\"opening: %w\", A)\nvar C = fmt.Errorf(`error opening: %w`, A)\n",
	})
	expect(t, checkComments(packages), "a has no package comment")
	expect(t, checkErrorTexts(packages), `d/a.go:4: error "failed to open"`, `d/a.go:6: error "error opening: %w"`)
}

func TestMachinePathIsRecognised(t *testing.T) {
	t.Parallel()
	slash := "/" // keeps the examples from being found in this file
	for line, want := range map[string]bool{
		"see " + slash + "home/alice/src":  true,
		slash + "root/.cache/x":            true,
		`"` + slash + "work/main/x":        true,
		"file://" + slash + "Users/bob/x":  false, // part of a longer path
		"(" + slash + "Users/bob/x)":       true,
		`C:\` + `Users\bob`:                true,
		"https://example.com/home/alice/x": false,
		"/homepage/x":                      false,
		"data/work/x":                      false,
		"./data/home/x":                    false,
		"the work/life balance":            false,
		"~/home/x":                         false,
	} {
		if got := machinePath.MatchString(line); got != want {
			t.Errorf("%q: got %v, want %v", line, got, want)
		}
	}
}

func TestLoadModuleReportsWhatItCantRead(t *testing.T) {
	t.Parallel()
	for name, fsys := range map[string]fs.FS{
		"no go.mod":    fstest.MapFS{"a.go": {Data: []byte("package a\n")}},
		"no module":    fstest.MapFS{"go.mod": {Data: []byte("go 1.26\n")}},
		"syntax error": fstest.MapFS{"go.mod": {Data: []byte("module m\n")}, "a.go": {Data: []byte("pack")}},
	} {
		if _, _, err := loadModule(fsys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	nested := fstest.MapFS{
		"go.mod": {Data: []byte("module m\n")}, "a.go": {Data: []byte("package a\n")},
		"peer/go.mod": {Data: []byte("module n\n")}, "peer/a.go": {Data: []byte("package a\n")},
	}
	if _, packages, err := loadModule(nested); err != nil || len(packages) != 1 {
		t.Errorf("a nested module should be left out: %v, %v", packages, err)
	}
}
