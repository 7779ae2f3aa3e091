package delta

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var (
	// ErrNotTable says that the folder holds no Delta log. It wraps fs.ErrNotExist.
	ErrNotTable = fmt.Errorf("no Delta table here (_delta_log has no version); create it with `table create` or check the table's URI: %w", fs.ErrNotExist)

	// ErrVanished says that the log of a table that was followed is gone, or another one's: nothing of the known version or a later
	// one is there. A commit would begin a log in the middle.
	ErrVanished = errors.New("the table's log is gone")

	// ErrMissingCommit says that the JSON of the version after the followed one is gone although later versions exist: the
	// log was cleaned past it, and what happened in between cannot be proven any more (rule C2). The remedy is Reload.
	ErrMissingCommit = errors.New("commit was cleaned from the log")

	// ErrCorrupt says that the log's content cannot be understood. Trying again does not help.
	ErrCorrupt = errors.New("the Delta log is corrupt")

	// ErrUnsupported is matched by every *UnsupportedError.
	ErrUnsupported = errors.New("unsupported Delta table feature")
)

// UnsupportedError refuses a table, or what is asked of it, by the names of the features that this package does not
// honour. Trying again does not help.
type UnsupportedError struct {
	Features []string // names as in PROTOCOL.md, "Valid Feature Names in Table Features", where there is one
	Detail   string   // what asks for them
	Remedy   string   // what the operator can do
}

func (e *UnsupportedError) Error() string {
	var b strings.Builder
	b.WriteString("unsupported Delta table feature")
	if len(e.Features) > 1 {
		b.WriteByte('s')
	}
	b.WriteByte(' ')
	b.WriteString(strings.Join(e.Features, ", "))
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
