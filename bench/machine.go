package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// machine describes where results come from.
type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes,omitzero"`
	Go     string `json:"go"`
	Commit string `json:"commit"`
	Load   string `json:"load_at_start,omitzero"` // of 1, 5 and 15 minutes
}

// String says it in one line.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s/%s, %s, commit %s, load %s", m.CPU, m.Cores, m.OS, m.Arch, m.Go, m.Commit, m.Load)
}

func describeMachine(ctx context.Context, root string) machine {
	m := machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(),
		CPU: procField("/proc/cpuinfo", "model name"), Commit: commitOf(ctx, root),
	}
	if family := procField("/proc/cpuinfo", "cpu family"); family != "" { // a guest's name of it may say no more than the maker
		m.CPU += fmt.Sprintf(" (family %s, model %s)", family, procField("/proc/cpuinfo", "model"))
	}
	if kb, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.Memory = kb << 10
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	return m
}

// commitOf names the revision of a source folder, with "-dirty" where it was changed.
func commitOf(ctx context.Context, root string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude", "*")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// procField finds the first "name: value" line of a file, and is empty where there is none (on other systems).
func procField(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		key, value, ok := bytes.Cut(line, []byte(":"))
		if ok && string(bytes.TrimSpace(key)) == name {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// peakRSS is the largest resident size that a living process has had, in bytes; 0 where that is not known. The kernel's
// own ru_maxrss would count what the parent had before it became the child's program.
func peakRSS(pid int) int64 {
	kb, err := strconv.ParseInt(strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}
