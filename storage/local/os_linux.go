package local

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames the file unless the new name is taken.
func renameNew(temp, target string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "renameat2", Old: temp, New: target, Err: err}
	}
	return nil
}
