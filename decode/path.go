package decode

import (
	"fmt"
	"strings"
)

// ParsePath splits a path at its dots. A part with a dot in its name is back-quoted, with two back quotes for one
// in it: "a.`b.c`.d" has three parts.
func ParsePath(path string) ([]string, error) {
	var parts []string
	rest := path
	for {
		var part string
		if strings.HasPrefix(rest, "`") {
			end, name := quotedPart(rest)
			if end < 0 {
				return nil, fmt.Errorf("path %q has an open back quote: close it, or double it inside a name", path)
			}
			part, rest = name, rest[end:]
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		if part == "" {
			return nil, fmt.Errorf("path %q has an empty part: write it as names with dots between them, like meta.producer.timestamp", path)
		}
		parts = append(parts, part)
		if rest == "" {
			return parts, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("path %q has text after a back-quoted name: put a dot between the names", path)
		}
		rest = rest[1:]
	}
}

// quotedPart reads a back-quoted name; end is where it stops, or -1.
func quotedPart(s string) (end int, name string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '`' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '`' {
			b.WriteByte('`')
			i++
			continue
		}
		return i + 1, b.String()
	}
	return -1, ""
}
