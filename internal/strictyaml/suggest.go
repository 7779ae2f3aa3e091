package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// unknownKeyRemedy names the key that was probably meant: one of the same mapping, else one spelled alike
// elsewhere in the configuration, else all that are known here.
func (d *decoder) unknownKeyRemedy(key string, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	if near := Nearest(key, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	for _, path := range knownPaths(d.root, "", nil) {
		if spelledAlike(key, path[strings.LastIndexByte(path, '.')+1:]) {
			return fmt.Sprintf("did you mean %q?", path)
		}
	}
	if len(names) == 0 {
		return "no key is known here"
	}
	slices.Sort(names)
	return "known keys: " + strings.Join(names, ", ")
}

// Nearest gives the name that key most likely stands for, or "".
func Nearest(key string, names []string) string {
	best, bestDistance := "", max(1, len(key)/3)+1
	for _, name := range names {
		if spelledAlike(key, name) {
			return name
		}
		if dist := editDistance(key, name); dist < bestDistance {
			best, bestDistance = name, dist
		}
	}
	return best
}

// spelledAlike compares names without case and separators: flushInterval, flush-interval, flush_interval.
func spelledAlike(a, b string) bool {
	plain := strings.NewReplacer("_", "", "-", "")
	return strings.EqualFold(plain.Replace(a), plain.Replace(b))
}

// knownPaths lists the paths of all keys below struct type t, except below lists and maps. seen cuts recursive types.
func knownPaths(t reflect.Type, prefix string, seen []reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(seen, t) {
		return nil
	}
	fields, err := fieldsOf(t)
	if err != nil {
		return nil
	}
	var paths []string
	for _, f := range fields {
		path := joinPath(prefix, f.name)
		paths = append(paths, path)
		paths = append(paths, knownPaths(f.typ, path, append(slices.Clip(seen), t))...)
	}
	return paths
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	const maxRunes = 64 // no key is longer; bounds the work on hostile input
	if len(x) > maxRunes || len(y) > maxRunes {
		return max(len(x), len(y))
	}
	// rows[i][j] is the distance between x[:i] and y[:j].
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			replaced := rows[i-1][j-1]
			if x[i-1] != y[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
