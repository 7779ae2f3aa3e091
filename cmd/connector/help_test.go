package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestExamplesInHelpAreQuoted holds that a shell takes the examples as they are meant: back quotes run a command where single
// quotes don't enclose them, and quotes end in their command.
func TestExamplesInHelpAreQuoted(t *testing.T) {
	for text, good := range map[string]bool{
		`x "a b" 'c` + "`d`" + `"' \` + "`": true, `x "` + "`d`" + `"`: false, "x `d`": false, `x "a`: false, `x 'a\'`: true, `x "a\"`: false, "# day's\nx": true,
	} {
		if shellQuoted(text) != good {
			t.Errorf("%q is taken to be quoted well: %v", text, !good)
		}
	}
	examples := 0
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Example != "" {
			examples++
		}
		if !shellQuoted(cmd.Example) {
			t.Errorf("the quotes in the examples of %s:\n%s", cmd.CommandPath(), cmd.Example)
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	look(rootCommand())
	if examples < 5 {
		t.Errorf("only %d commands have examples", examples)
	}
}

// shellQuoted says whether the quotes of a shell's text end, and no back quote is outside of single ones.
func shellQuoted(text string) bool {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			lines = append(lines, line)
		}
	}
	quote, escaped := rune(0), false
	for _, c := range strings.Join(lines, "") {
		switch {
		case escaped:
			escaped = false
		case quote == '\'':
			if c == quote {
				quote = 0
			}
		case c == '\\':
			escaped = true
		case c == '`':
			return false
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	return quote == 0 && !escaped
}
