// Package decodetest has what the tests of several decoders ask alike.
package decodetest

import (
	"bytes"
	"testing"

	"kafkadelta/decode"
)

// MapsInMaps fails the test unless b, of a map, has one row, and so each of `levels` maps in maps: with the one key "k", and the INT 7 in the innermost. below is
// how the values of a map lead to the next map, or to the INT.
func MapsInMaps(t *testing.T, b *decode.Builder, levels int, below func(values *decode.Builder) *decode.Builder) {
	t.Helper()
	for level := range levels {
		entries := b.Children[0]
		if keys := entries.Children[0]; b.Len != 1 || entries.Len != 1 || keys.Len != 1 || string(keys.Data) != "k" {
			t.Fatalf("level %d: %d maps with %d entries and the keys %q", level, b.Len, entries.Len, keys.Data)
		}
		b = below(entries.Children[1])
	}
	if !bytes.Equal(b.Data, []byte{7, 0, 0, 0}) || b.Nulls != 0 {
		t.Errorf("the innermost value is %v", b.Data)
	}
}
