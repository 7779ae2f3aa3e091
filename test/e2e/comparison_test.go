package e2e

import (
	"strings"
	"testing"
)

// TestComparison holds that the comparison sees what it is there for: without this, tables that are wrong could pass.
func TestComparison(t *testing.T) {
	sent := messages{{0, 0}: []byte(`{"n":1,"x":1.0}`), {0, 1}: []byte(`{"n":2,"x":null}`)}
	const (
		first  = `[0,0,"t","2024-05-06T07:08:09.000000Z",{"n":1,"x":1.0}]`
		second = `[0,1,"t","2024-05-06T07:08:09.000000Z",{"n":2,"x":null}]`
	)
	for name, tt := range map[string]struct {
		lines []string
		want  string // of the first fault; "" for none
	}{
		"all is well":            {[]string{second, first}, ""},
		"another spelling":       {[]string{second, strings.Replace(first, "1.0", "1", 1)}, ""},
		"a row is missing":       {[]string{first}, "is missing"},
		"a row is there twice":   {[]string{first, second, first}, "is twice"},
		"a row of no message":    {[]string{first, second, strings.Replace(second, "0,1", "0,2", 1)}, "is no message"},
		"of another partition":   {[]string{first, strings.Replace(second, "0,1", "1,1", 1)}, "is no message"},
		"another value":          {[]string{first, strings.Replace(second, `"n":2`, `"n":3`, 1)}, "the row is"},
		"a value instead of nil": {[]string{first, strings.Replace(second, "null", "0", 1)}, "the row is"},
		"a column is missing":    {[]string{first, strings.Replace(second, `,"x":null`, "", 1)}, "the row is"},
		"a column too much":      {[]string{first, strings.Replace(second, `,"x"`, `,"w":1,"x"`, 1)}, "the row is"},
		"another topic":          {[]string{first, strings.Replace(second, `"t"`, `"u"`, 1)}, "has topic"},
		"no timestamp":           {[]string{first, strings.Replace(second, `"2024-05-06T07:08:09.000000Z"`, "null", 1)}, "has timestamp"},
		"a line that is broken":  {[]string{first, second, "oops"}, "line"},
	} {
		t.Run(name, func(t *testing.T) {
			c := comparison{expectation: expect(t, "t", sent, nil), found: map[place]bool{}}
			for _, line := range tt.lines {
				c.line([]byte(line))
			}
			c.end()
			got := strings.Join(c.first, "\n")
			if tt.want == "" && c.faults > 0 || !strings.Contains(got, tt.want) || tt.want != "" && c.faults == 0 {
				t.Errorf("%d faults, first %q, expected %q", c.faults, got, tt.want)
			}
		})
	}
}
