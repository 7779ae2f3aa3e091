package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// repeated is n bytes, all the same.
type repeated struct {
	of byte
	n  int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.n)
	r.n -= n
	copy(p, bytes.Repeat([]byte{r.of}, int(n)))
	return int(n), nil
}

// TestElementsAreBounded: what is too long is told before it was read, since what was read is in memory.
func TestElementsAreBounded(t *testing.T) {
	const huge = 600 << 20
	for name, tt := range map[string]struct {
		before string
		of     byte
		at     string
	}{
		"the first element":     {`[{"t":"`, 'x', "element 1"},
		"a later element":       {`[{"t":1}, {"t":"`, 'x', "element 2"},
		"a number":              {`[1,2,`, '1', "element 3"},
		"white space":           {`[1,2,`, ' ', "element 3"},
		"white space, no comma": {`[1`, '\n', "element 2"},
	} {
		t.Run(name, func(t *testing.T) {
			rest := &repeated{tt.of, huge}
			var failed error
			for _, err := range messages(io.MultiReader(strings.NewReader(tt.before), rest)) {
				failed = err
			}
			long, ok := errors.AsType[*tooLongError](failed)
			if !ok || long.at() != tt.at {
				t.Errorf("it ends with %v, want %s to be too long", failed, tt.at)
			}
			if read := huge - rest.n; read > 2*maxMessage {
				t.Errorf("%d bytes were read", read)
			}
		})
	}
}

// TestElementsOfAnyNumber: the bound is that of an element, not of the array.
func TestElementsOfAnyNumber(t *testing.T) {
	element := `{"t":"` + strings.Repeat("x", maxMessage-8) + `"}`
	text := "[" + strings.Repeat(element+" ,\n", 4) + element + "]"
	n := 0
	for m, err := range messages(strings.NewReader(text)) {
		if err != nil || len(m.text) != maxMessage {
			t.Fatalf("%d bytes, %v", len(m.text), err)
		}
		n++
	}
	if n != 5 {
		t.Errorf("%d elements, want 5", n)
	}
}

func TestMessagesBehindWhiteSpace(t *testing.T) {
	for _, space := range []string{"", " ", strings.Repeat(" ", 600), strings.Repeat("\r\n\t ", 5<<20)} {
		lines := strings.Count(space, "\n")
		for text, want := range map[string]string{
			"":                 "",
			"[]":               "",
			"[1, 2]":           "element 1: 1; element 2: 2; ",
			"[1]" + space:      "element 1: 1; ",
			"{\"a\":1}\n\n[2]": fmt.Sprintf("line %d: {\"a\":1}; line %d: [2]; ", lines+1, lines+3),
		} {
			got := ""
			for m, err := range messages(strings.NewReader(space + text)) {
				if err != nil {
					t.Errorf("behind %d bytes of white space %.20q: %v", len(space), text, err)
				}
				got += fmt.Sprintf("%s: %s; ", m.at(), m.text)
			}
			if got != want {
				t.Errorf("behind %d bytes of white space %.20q is %q, want %q", len(space), text, got, want)
			}
		}
	}
}

// TestMessagesTellThatTheirInputFails holds that an error of the reader isn't taken for the end.
func TestMessagesTellThatTheirInputFails(t *testing.T) {
	for _, before := range []string{"", " ", "1", "1\n", "[", "[1", "[1,", "[1]"} {
		broken := errors.New("broken")
		var failed error
		for _, err := range messages(io.MultiReader(strings.NewReader(before), readerFunc(func([]byte) (int, error) { return 0, broken }))) {
			failed = err
		}
		if !errors.Is(failed, broken) {
			t.Errorf("behind %q: %v", before, failed)
		}
	}
}
