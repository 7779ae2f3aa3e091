package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// residentFile is how many kilobytes of files are in the process's memory.
func residentFile(t *testing.T) (kilobytes int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nRssFile:")
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes
}

func TestReleaseProgram(t *testing.T) {
	before := residentFile(t)
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after > before/2 {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
}

// A position-independent program has pages in its file's mappings that it has relocated: it needs them as they are.
func TestReleaseProgramThatIsRelocated(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skipf("no -buildmode=pie on %s", runtime.GOARCH) // of those that the toolchain links by itself
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	source := `package main

import ("encoding/json"; "fmt"; "os"; "runtime")

func main() {
	if err := releaseProgram(); err != nil { fmt.Println(err); os.Exit(1) }
	var v any
	for range 100 { runtime.GC(); _ = json.Unmarshal([]byte("[1, {\"a\": 2}]"), &v) }
	fmt.Print(v)
}
`
	main, replaced, program := filepath.Join(folder, "main.go"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "program")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(here, "relocated", "main.go"):    main,
		filepath.Join(here, "relocated", "release.go"): filepath.Join(here, "memory_linux.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{main: []byte(source), replaced: overlay} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", replaced, "-buildmode=pie", "-o", program, "./relocated")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), program).CombinedOutput(); err != nil || string(out) != "[1 map[a:2]]" {
		t.Errorf("%v\n%.2000s", err, out)
	}
}
