package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// change is text of a source file that is built with another text in its place, as go build's -overlay does it.
type change struct {
	file string // from the folder of this package, or from goRoot
	old  string
	new  string
}

const (
	goRoot = "GOROOT" // stands for the folder of the installed Go
	randGo = goRoot + "/src/runtime/rand.go"
	timeGo = goRoot + "/src/runtime/time_nofake.go"
	procGo = goRoot + "/src/runtime/proc.go"
)

// repeatable are the changes of Go's runtime that let a seed repeat exactly, with one processor and without a garbage
// collection: its randomness (of maps, select, ids and waits) comes from the seed alone; no clock but the bubble's moves; and no
// thread takes the processor away from a goroutine. docs/adr/0009-worlds-that-repeat.md has the reasons.
var repeatable = []change{
	{randGo, "	\"internal/byteorder\"\n", "	\"internal/byteorder\"\n	\"internal/stringslite\"\n"},
	{
		randGo, "	globalRand.state.Init(*seed)\n	clear(seed[:])\n\n	if startupRand",
		"	for i := argc + 1; argv_index(argv, i) != nil; i++ {\n" +
			"		if s, ok := stringslite.CutPrefix(gostringnocopy(argv_index(argv, i)), \"" + seedVariable + "=\"); ok {\n" +
			"			clear(seed[:])\n			copy(seed[:], s)\n			startupRand = nil\n		}\n	}\n" +
			"	globalRand.state.Init(*seed)\n	clear(seed[:])\n\n	if startupRand",
	},
	{randGo, "	c := &mp.chacha8\n	for {", "	c := &m0.chacha8\n	for {"}, // of whichever thread runs
	{randGo, "func cheaprand() uint32 {\n	mp := getg().m", "func cheaprand() uint32 {\n	mp := &m0"},
	{timeGo, "	return nanotime1()\n", "	return 1\n"},
	{procGo, "const haveSysmon = GOARCH != \"wasm\"", "const haveSysmon = false"},
	{procGo, "	lockOSThread()\n\n	if mp != &m0 {", "	if mp != &m0 {"}, // it would need a second thread, and sometimes a third
	{procGo, "	needUnlock := true\n", "	needUnlock := false\n"},
	{procGo, "	needUnlock = false\n	unlockOSThread()\n", "	needUnlock = false\n"},
}

// smaller makes small what is too large for a world: a backlog of two messages spreads partitions over lanes, and whoever has seen some versions is in a
// crowd once there is contention.
var smaller = []change{
	{dispatchGo, "	spreadLag   = 20_000\n", "	spreadLag   = 2\n"},
	{"../../sink/combine.go", "	someCrowd = 1.3\n", "	someCrowd = 0.9\n"},
}

// nameLength is that of the binary's whole name.
const nameLength = 200

// seedVariable is the variable of the environment that decides all randomness.
const seedVariable = "SIM_SEED"

// build builds this package's tests with changes in the code, and returns the binary.
func build(t *testing.T, changes []change, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	// Its name is as long wherever it is, since a process remembers it, and addresses depend on what else is in memory.
	binary := filepath.Join(folder, strings.Repeat("x", max(1, nameLength-len(folder)-1)))
	command := exec.CommandContext(t.Context(), "go", append([]string{"test", "-c", "-tags", "synctests", "-overlay", overlaid(t, folder, changes), "-o", binary}, append(args, ".")...)...)
	if command.Env = os.Environ(); !raceEnabled {
		command.Env = append(command.Env, "CGO_ENABLED=0") // C has threads of its own
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building the worlds: %v\n%s", err, out)
	}
	return binary
}

// overlaid writes changes in the code into a folder, and returns the name of the file for go's -overlay.
func overlaid(t *testing.T, folder string, changes []change) string {
	t.Helper()
	replace := map[string]string{}
	for file, text := range changed(t, changes) {
		name, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		replace[name] = filepath.Join(folder, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[name], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// changed are the files with the changes, by name.
func changed(t *testing.T, changes []change) map[string][]byte {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, c := range changes {
		name := c.file
		if below, ok := strings.CutPrefix(name, goRoot); ok {
			name = string(bytes.TrimSpace(root)) + below
		}
		text, known := files[name]
		if !known {
			if text, err = os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
		if n := bytes.Count(text, []byte(c.old)); n != 1 {
			t.Fatalf("%s has the text to replace %d times, want once: %q (%s)", name, n, c.old, runtime.Version())
		}
		files[name] = bytes.Replace(text, []byte(c.old), []byte(c.new), 1)
	}
	return files
}
