package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram lets go of the pages of the program's own file that are mapped: a start touches nearly all of them, 50 MiB, an idle process some. They
// stay in the system's cache of files for as long as that has room, and come back when they are touched again (madvise(2), MADV_DONTNEED).
func releaseProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	// 00400000-025e8000 r-xp 00000000 fe:00 1234    /path, and then a line for each figure: see proc_pid_smaps(5)
	var errs []error
	var from, size uintptr // of the mapping, if it is the program's and not for writing
	for line := range strings.Lines(string(maps)) {
		var begin, end uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &mode); err == nil {
			from, size = begin, 0
			if !strings.Contains(mode, "w") && strings.HasSuffix(line, " "+program+"\n") {
				size = end - begin
			}
		}
		// Pages that were written are in no file: those that a position-independent program has relocated, those with a debugger's breakpoints.
		written, ok := strings.CutPrefix(line, "Anonymous:")
		if size == 0 || !ok || strings.TrimSpace(written) != "0 kB" {
			continue
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, from, size, unix.MADV_DONTNEED); e != 0 {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}
