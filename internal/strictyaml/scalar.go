package strictyaml

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// scalar is one value or key of the file.
type scalar struct {
	node     *yaml.Node
	text     string // after expansion
	expanded bool   // text holds the value of a variable or a default
}

func (s scalar) plain() bool { return isPlain(s.node) }

// isPlain reports whether a scalar is written without quotes and not as a block, so that it may be other than text.
func isPlain(n *yaml.Node) bool {
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Style&quoted == 0
}

func isNull(text string) bool {
	return slices.Contains([]string{"", "~", "null", "Null", "NULL"}, text)
}

func (d *decoder) scalar(n *yaml.Node, t target) {
	text, expanded, bad := expand(n.Value, d.env)
	if bad != nil {
		d.fail(n, Error{Path: t.path, Problem: bad.problem + " in " + t.path, Remedy: bad.remedy})
		return
	}
	d.assign(scalar{node: n, text: text, expanded: expanded}, t)
}

// assign sets the target from a scalar, or reports why it can't.
func (d *decoder) assign(s scalar, t target) {
	unmarshaler, ok := asText(t)
	takesText := ok || t.Kind() == reflect.String
	switch {
	case s.plain() && isNull(s.text) && (!takesText || !s.expanded):
		d.assignNull(s, t, takesText)
	case unmarshaler != nil:
		d.unmarshalText(s, t, unmarshaler)
	case t.Kind() == reflect.String:
		t.SetString(s.text)
	case t.Kind() == reflect.Interface && t.NumMethod() == 0:
		t.Set(reflect.ValueOf(untypedScalar(s)))
	case !assignTyped(s, t):
		remedy := expectation(t)
		if !s.plain() && isPlainKind(t.Kind()) {
			remedy += ", without quotes"
		}
		d.wrong(s.node, t, remedy, nil)
	}
}

// assignNull: what has keys or elements is left as it is, so that all keys of a section can be commented out.
func (d *decoder) assignNull(s scalar, t target, takesText bool) {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		if !takesText {
			return
		}
	case reflect.Interface:
		t.SetZero()
		return
	default:
	}
	remedy := expectation(t)
	if takesText {
		remedy += `, or "" for empty text`
	}
	d.fail(s.node, Error{
		Path: t.path, Problem: "empty value" + forPath(t.path), Remedy: remedy + "; or remove the key",
	})
}

func (d *decoder) unmarshalText(s scalar, t target, into encoding.TextUnmarshaler) {
	err := into.UnmarshalText([]byte(s.text))
	if err == nil {
		return
	}
	reason := err.Error()
	if s.expanded { // the reason is likely to quote the value, which must not be shown; the cause would, too
		reason, err = withoutValue(reason, s), nil
	}
	if isSecret(t) {
		reason = "its type refuses the text"
	}
	d.wrong(s.node, t, reason, err)
}

// withoutValue replaces the expanded value in the reason of an UnmarshalText by what the file has in its place.
func withoutValue(reason string, s scalar) string {
	const tooShort = 4 // such a value may be part of any word
	if len(s.text) < tooShort {
		return "its type refuses the text"
	}
	reason = strings.ReplaceAll(reason, strconv.Quote(s.text), strconv.Quote(s.node.Value))
	return strings.ReplaceAll(reason, s.text, s.node.Value)
}

var durationType = reflect.TypeFor[time.Duration]()

// assignTyped sets durations, sizes, booleans and numbers, and reports whether the scalar is one that fits.
func assignTyped(s scalar, t target) bool {
	switch kind := t.Kind(); {
	case t.Type() == durationType:
		v, err := time.ParseDuration(s.text)
		t.SetInt(int64(v))
		return err == nil
	case t.bytes && (t.CanInt() || t.CanUint()):
		v, err := ParseBytes(s.text)
		if err != nil {
			return false
		}
		return setInteger(t.Value, strconv.FormatInt(int64(v), 10))
	case !s.plain():
		return false
	case kind == reflect.Bool:
		t.SetBool(s.text == "true")
		return s.text == "true" || s.text == "false"
	case t.CanInt(), t.CanUint():
		return setInteger(t.Value, s.text)
	case t.CanFloat():
		v, err := strconv.ParseFloat(s.text, t.Type().Bits())
		t.SetFloat(v)
		return err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) && !hasLeadingZero(s.text)
	}
	return false
}

// hasLeadingZero finds numbers such as 010, which are octal to some and decimal to others.
func hasLeadingZero(text string) bool {
	digits := strings.TrimLeft(text, "+-")
	return len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

// setInteger reads Go's integer syntax, 1_000 and 0x1F included, without leading zeros.
func setInteger(v reflect.Value, text string) bool {
	if hasLeadingZero(text) {
		return false
	}
	if v.CanInt() {
		i, err := strconv.ParseInt(text, 0, v.Type().Bits())
		v.SetInt(i)
		return err == nil
	}
	u, err := strconv.ParseUint(text, 0, v.Type().Bits())
	v.SetUint(u)
	return err == nil
}

// untypedScalar is what an any gets: bool, int, float64 or string.
func untypedScalar(s scalar) any {
	var b bool
	var i int
	var f float64
	for _, p := range []any{&b, &i, &f} {
		v := reflect.ValueOf(p).Elem()
		if assignTyped(s, target{Value: v}) {
			return v.Interface()
		}
	}
	return s.text
}

// isPlainKind reports whether values of the kind are refused in quotes.
func isPlainKind(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Float64 }

// expectation says what the target takes.
func expectation(t target) string {
	_, takesText := asText(t)
	switch kind := t.Kind(); {
	case kind == reflect.Struct && !takesText:
		fields, _ := fieldsOf(t.Type()) // a mistake in the type is reported where the struct is decoded
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.name
		}
		return "expected a mapping with the keys " + strings.Join(names, ", ")
	case takesText, kind == reflect.String:
		return "expected text"
	case t.Type() == durationType:
		return "expected a duration such as 500ms, 10s, 5m or 1h30m"
	case t.bytes:
		return bytesExpected
	case kind == reflect.Bool:
		return "expected true or false"
	case t.CanInt():
		bits := t.Type().Bits()
		return fmt.Sprintf("expected an integer from %d to %d", int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits))
	case t.CanUint():
		return fmt.Sprintf("expected an integer from 0 to %d", uint64(math.MaxUint64)>>(64-t.Type().Bits()))
	case t.CanFloat():
		return "expected a number"
	case kind == reflect.Map:
		return "expected a mapping"
	case kind == reflect.Slice:
		return "expected a list, one element a line after \"- \" or in [ ]"
	}
	return fmt.Sprintf("its type %s can't be read from YAML", t.Type())
}
