//go:build unix && !linux && !darwin

package local

import "syscall"

// renameNew does not exist on this system.
func renameNew(temp, target string) error { return syscall.ENOTSUP }
