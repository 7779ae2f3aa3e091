package local

import (
	"os"

	"golang.org/x/sys/windows"
)

// syncFolder has no equivalent on Windows. Instead moves are written through (below), and NTFS journals the entries of
// folders in order, so that what came before such a move is on disk with it.
func syncFolder(*os.File) error { return nil }

func renameOver(temp, target string) error {
	return move(temp, target, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
}

// linkNew moves the file unless the new name is taken. Not a hard link: NTFS shows stale sizes for those in listings,
// also to other readers of the table.
func linkNew(temp, target string) error {
	return move(temp, target, windows.MOVEFILE_WRITE_THROUGH)
}

func move(temp, target string, flags uint32) error {
	from, err := windows.UTF16PtrFromString(temp)
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(target)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(from, to, flags); err != nil {
		return &os.LinkError{Op: "movefileex", Old: temp, New: target, Err: err}
	}
	return nil
}
