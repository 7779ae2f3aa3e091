//go:build unix

package local

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// syncFolder makes the entries of a folder durable. File systems that cannot do that say so with EINVAL or ENOTSUP;
// there is nothing more to be had from them.
func syncFolder(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

func renameOver(temp, target string) error { return os.Rename(temp, target) }

// linkNew gives the file a second name, which fails if that name is taken. The temporary name stays.
func linkNew(temp, target string) error {
	err := os.Link(temp, target)
	if !noHardLinks(err) {
		return err
	}
	renameErr := renameNew(temp, target)
	if noRenameNew(renameErr) {
		return fmt.Errorf("this file system has neither hard links nor rename without replace, so no atomic put-if-absent; "+
			"use another one (%w; %v)", err, renameErr)
	}
	return renameErr
}

// noHardLinks tells that the file system, not this file, refuses: FAT and exFAT say EPERM, others ENOTSUP or ENOSYS.
func noHardLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS)
}

func noRenameNew(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS)
}
