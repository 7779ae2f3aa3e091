//go:build unix

package main

import (
	"fmt"
	"syscall"
	"time"
)

// cpuTime is the CPU time of this process so far.
func cpuTime() (user, system time.Duration, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, fmt.Errorf("reading this process's CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano()), nil
}
