//go:build !unix

package main

import (
	"errors"
	"time"
)

// cpuTime is not known here.
func cpuTime() (user, system time.Duration, err error) {
	return 0, 0, errors.New("a process's own CPU time is only read on Unix: run the benchmarks there, or -stages path alone")
}
