package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// errShort says that a JSON value ends before it is whole.
var errShort = errors.New("unexpected end of the JSON")

// scanner reads JSON values in one pass, without reflection: the log of a busy table is hundreds of megabytes of them. Names
// are told apart by case, as the protocol does. It is as lenient about numbers as Spark and delta-rs are: a string may stand
// for one, and 7.0 is 7; but no integer is ever rounded.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("at byte %d: %w", s.i, fmt.Errorf(format, args...))
}

// peek is the next byte after white space; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		if c := s.b[s.i]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	switch got := s.peek(); {
	case s.i >= len(s.b):
		return errShort
	case got != c:
		return s.errorf("unexpected %q, want %q", got, c)
	}
	s.i++
	return nil
}

// null takes a null, if there is one.
func (s *scanner) null() bool {
	if s.peek() == 'n' && bytes.HasPrefix(s.b[s.i:], []byte("null")) {
		s.i += 4
		return true
	}
	return false
}

// object calls field for every field of an object, with the scanner before its value. The name is valid until then.
func (s *scanner) object(field func(name []byte) error) error {
	return s.list('{', '}', func() error {
		name, err := s.quoted()
		if err == nil {
			err = s.expect(':')
		}
		if err != nil {
			return err
		}
		return field(name)
	})
}

func (s *scanner) array(element func() error) error { return s.list('[', ']', element) }

func (s *scanner) list(begin, end byte, element func() error) error {
	if err := s.expect(begin); err != nil {
		return err
	}
	if s.peek() == end {
		s.i++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch c := s.peek(); {
		case s.i >= len(s.b):
			return errShort
		case c == end:
			s.i++
			return nil
		case c != ',':
			return s.errorf("unexpected %q, want ',' or %q", c, end)
		}
		s.i++
	}
}

// quoted reads a string. The result is the scanner's memory where it holds no escape.
func (s *scanner) quoted() ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	var out []byte
	for {
		rest := s.b[s.i:]
		end := bytes.IndexByte(rest, '"')
		if end < 0 {
			return nil, errShort
		}
		escape := bytes.IndexByte(rest[:end], '\\')
		if escape < 0 {
			s.i += end + 1
			if out == nil {
				return rest[:end:end], nil
			}
			return append(out, rest[:end]...), nil
		}
		if out == nil {
			out = make([]byte, 0, end+end/4+16)
		}
		out = append(out, rest[:escape]...)
		s.i += escape
		var err error
		if out, err = s.escape(out); err != nil {
			return nil, err
		}
	}
}

// escape reads one escape sequence.
func (s *scanner) escape(out []byte) ([]byte, error) {
	if s.i+1 >= len(s.b) {
		return nil, errShort
	}
	c := s.b[s.i+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, err := s.unit()
		if err != nil {
			return nil, err
		}
		if utf16.IsSurrogate(r) {
			low, err := s.unit()
			if r = utf16.DecodeRune(r, low); err != nil || r == utf8.RuneError {
				return nil, s.errorf("a lone surrogate")
			}
		}
		return utf8.AppendRune(out, r), nil
	default:
		return nil, s.errorf("unknown escape \\%c", c)
	}
	s.i += 2
	return append(out, c), nil
}

// unit reads one \uXXXX.
func (s *scanner) unit() (rune, error) {
	if s.i+6 > len(s.b) {
		return 0, errShort
	}
	if s.b[s.i] != '\\' || s.b[s.i+1] != 'u' {
		return 0, s.errorf("no \\u escape")
	}
	var v [2]byte
	if _, err := hex.Decode(v[:], s.b[s.i+2:s.i+6]); err != nil {
		return 0, s.errorf("no \\u escape")
	}
	s.i += 6
	return rune(binary.BigEndian.Uint16(v[:])), nil
}

// skip passes over a value and returns its bytes. It looks at its shape only: what nobody reads need not be checked, but a
// value that is cut off must be found.
func (s *scanner) skip() ([]byte, error) {
	s.peek()
	start, depth := s.i, 0
	for {
		switch c := s.peek(); {
		case s.i >= len(s.b):
			return nil, errShort
		case c == '"':
			if err := s.skipString(); err != nil {
				return nil, err
			}
		case c == '{' || c == '[':
			depth++
			s.i++
			continue
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return nil, s.errorf("unexpected %q", c)
			}
			s.i++
		case c == ',' || c == ':':
			if depth == 0 {
				return nil, s.errorf("unexpected %q", c)
			}
			s.i++
			continue
		default:
			if _, err := s.literal(); err != nil {
				return nil, err
			}
		}
		if depth == 0 {
			return s.b[start:s.i], nil
		}
	}
}

func (s *scanner) skipString() error {
	for i := s.i + 1; i < len(s.b); {
		end := bytes.IndexByte(s.b[i:], '"')
		if end < 0 {
			return errShort
		}
		escapes := 0
		for j := i + end - 1; j >= i && s.b[j] == '\\'; j-- {
			escapes++
		}
		i += end + 1
		if escapes%2 == 0 {
			s.i = i
			return nil
		}
	}
	return errShort
}

// literal reads a number, true, false or null as it is written.
func (s *scanner) literal() ([]byte, error) {
	s.peek()
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		c := s.b[s.i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E' {
			continue
		}
		break
	}
	text := s.b[start:s.i]
	switch {
	case len(text) == 0 && s.i >= len(s.b):
		return nil, errShort
	case len(text) == 0:
		return nil, s.errorf("unexpected %q", s.b[s.i])
	case text[0] == '-' || text[0] >= '0' && text[0] <= '9', string(text) == "true", string(text) == "false", string(text) == "null":
		return text, nil
	}
	if s.i >= len(s.b) && len(text) < 5 {
		return nil, errShort // "tru"
	}
	return nil, s.errorf("unexpected %q", text)
}

// text reads a string, or a number or boolean as it is written; "" for null.
func (s *scanner) text() (string, error) {
	if s.null() {
		return "", nil
	}
	if c := s.peek(); c != '"' && c != '{' && c != '[' {
		b, err := s.literal()
		return string(b), err
	}
	b, err := s.quoted()
	if err == nil && !utf8.Valid(b) {
		err = s.errorf("a string is not UTF-8")
	}
	return string(b), err
}

// textPtr is text, nil for null.
func (s *scanner) textPtr() (*string, error) {
	if s.null() {
		return nil, nil
	}
	t, err := s.text()
	return &t, err
}

// int reads an integer of 64 bits; a string may hold it.
func (s *scanner) int() (int64, error) {
	var b []byte
	var err error
	if s.peek() == '"' {
		b, err = s.quoted()
	} else {
		b, err = s.literal()
	}
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err == nil {
		return v, nil
	}
	f, ferr := strconv.ParseFloat(string(b), 64)
	if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, s.errorf("%q is no 64-bit integer", b)
	}
	return int64(f), nil
}

func (s *scanner) intPtr() (*int64, error) {
	if s.null() {
		return nil, nil
	}
	v, err := s.int()
	return &v, err
}

// bool reads a boolean; null is false.
func (s *scanner) bool() (bool, error) {
	b, err := s.literal()
	if err != nil {
		return false, err
	}
	switch string(b) {
	case "true":
		return true, nil
	case "false", "null":
		return false, nil
	}
	return false, s.errorf("%q is no boolean", b)
}

func (s *scanner) strings() ([]string, error) {
	if s.null() {
		return nil, nil
	}
	out := []string{}
	err := s.array(func() error {
		t, err := s.text()
		out = append(out, t)
		return err
	})
	return out, err
}

// stringMap leaves out entries whose value is null.
func (s *scanner) stringMap() (map[string]string, error) {
	if s.null() {
		return nil, nil
	}
	out := map[string]string{}
	err := s.object(func(name []byte) error {
		key := string(name)
		t, err := s.textPtr()
		if t != nil {
			out[key] = *t
		}
		return err
	})
	return out, err
}

func (s *scanner) nullableMap() (map[string]*string, error) {
	if s.null() {
		return nil, nil
	}
	out := map[string]*string{}
	err := s.object(func(name []byte) (err error) {
		key := string(name)
		out[key], err = s.textPtr()
		return err
	})
	return out, err
}
