package local_test

import (
	"errors"
	"io/fs"
	"testing"
)

// A table's folder that can't be made is no passing fault: who tries again would try for ever.
func TestFolderThatCannotBeMade(t *testing.T) {
	for _, root := range []string{"/proc/nope", "/proc/nope/table"} {
		s := open(t, root)
		if err := s.PutIfAbsent(t.Context(), "_delta_log/00000000000000000000.json", []byte("{}")); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrInvalid", root, err)
		}
	}
}
