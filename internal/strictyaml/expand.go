package strictyaml

import (
	"fmt"
	"regexp"
	"strings"
)

var variable = regexp.MustCompile(`(?s)^([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?$`)

// expandError is what is wrong with one ${...}.
type expandError struct{ problem, remedy string }

// expand replaces ${NAME} and ${NAME:-default} in text and reports whether there was any. A variable's value and a
// default are taken as they are: they are not expanded again.
func expand(text string, env func(string) (string, bool)) (expanded string, changed bool, bad *expandError) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), changed, nil
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(literal + "${")
			text = rest
			continue
		}
		out.WriteString(before)
		reference, after, closed := strings.Cut(rest, "}")
		m := variable.FindStringSubmatch(reference)
		switch {
		case !closed:
			return "", false, &expandError{"unclosed ${", "write ${NAME}, or $${ for a literal ${"}
		case m == nil, strings.Contains(m[3], "${"):
			return "", false, &expandError{
				fmt.Sprintf("malformed %q", "${"+shorten(reference)+"}"),
				"write ${NAME} or ${NAME:-default}, with letters, digits and _ in the name and no ${ in the default; " +
					"or $${ for a literal ${",
			}
		}
		value, set := env(m[1])
		if m[2] != "" && value == "" {
			value, set = m[3], true
		}
		if !set {
			return "", false, &expandError{
				"unset environment variable " + m[1],
				fmt.Sprintf("set it, or give a default with ${%s:-default}", m[1]),
			}
		}
		out.WriteString(value)
		changed = true
		text = after
	}
}
