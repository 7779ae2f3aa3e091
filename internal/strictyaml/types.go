package strictyaml

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

// Bytes is a number of bytes that is configured and printed with a unit: 128MiB, 64KB, 1GiB.
type Bytes int64

// sizes are the units of Bytes, largest first, binary before decimal, so that String finds the shortest exact form.
var sizes = []struct {
	unit  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

const bytesExpected = "expected a size such as 128MiB, 64KB or a whole number of bytes"

// ParseBytes reads a whole number, not negative, with an optional unit: B; KiB, MiB, GiB, TiB in steps of 1024; KB, MB, GB,
// TB in steps of 1000. Upper and lower case are the same. Bare K, M and G are refused, since they mean either.
func ParseBytes(text string) (Bytes, error) {
	digits := strings.TrimRight(text, "BKMGTIbkmgti ")
	unit := strings.TrimSpace(text[len(digits):])
	if unit == "" {
		unit = "B"
	}
	factor := int64(0) // stays 0 for an unknown unit
	for _, s := range sizes {
		if strings.EqualFold(unit, s.unit) {
			factor = s.bytes
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if factor == 0 || err != nil || int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("parsing size %q: %s", text, bytesExpected)
	}
	return Bytes(int64(n) * factor), nil
}

// String gives the size in the largest unit that it is a whole number of; ParseBytes reads it back unchanged.
func (b Bytes) String() string {
	for _, s := range sizes {
		if b != 0 && int64(b)%s.bytes == 0 {
			return strconv.FormatInt(int64(b)/s.bytes, 10) + s.unit
		}
	}
	return "0B"
}

// MarshalText gives the same as String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what ParseBytes reads.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := ParseBytes(string(text))
	if err != nil {
		return errors.New(bytesExpected) // Load names value and place itself
	}
	*b = n
	return nil
}

// Secret is text that must not be shown: a password, a key, a connection string. Formatting, logging and marshalling it
// give ***; only Reveal gives the text.
//
// It stays text to the language, so three ways around that remain: fmt prints an unexported field of a struct without
// asking the field's type, it prints a wrong %p likewise, and encoding/json writes the keys of a map as they are. Keep a
// Secret in exported fields, and as a value. A package that must not import this one can declare a type of its own: any text type with a method
// Reveal() string is left out of Load's errors in the same way.
type Secret string

const redacted = "***"

// Reveal gives the text itself, for the one place that hands it to a client library.
func (s Secret) Reveal() string { return string(s) }

// String gives ***, or nothing for an empty secret, so that "not configured" can be told apart.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format gives the same as String under every verb: without it, %d of a string type shows the text as a bad verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText covers JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue covers slog handlers that look at the kind of a value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
