package decode

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// Epoch is the unit in which a number counts an instant or a date from 1970.
type Epoch uint8

// The units. In a plan EpochDefault is already resolved: days for a DATE column, millis for everything else.
const (
	EpochDefault Epoch = iota
	EpochDays
	EpochSeconds
	EpochMillis
	EpochMicros
	EpochNanos
)

var epochs = map[string]Epoch{
	"": EpochDefault, "days": EpochDays, "seconds": EpochSeconds, "millis": EpochMillis, "micros": EpochMicros, "nanos": EpochNanos,
}

const epochWords = "days, seconds, millis, micros or nanos"

func (e Epoch) String() string {
	for name, unit := range epochs {
		if unit == e {
			return name
		}
	}
	return "unknown"
}

// decimals is the power of ten from the unit to microseconds.
func (e Epoch) decimals() int64 {
	switch e {
	case EpochSeconds:
		return 6
	case EpochMicros:
		return 0
	case EpochNanos:
		return -3
	default:
		return 3
	}
}

// or returns e, or the unit that a column of this kind has by default.
func (e Epoch) or(kind Kind) Epoch {
	switch {
	case e != EpochDefault:
		return e
	case kind == KindDate:
		return EpochDays
	}
	return EpochMillis
}

// Cast is what a computed column takes of its source.
type Cast uint8

// The casts. Dates and their parts are UTC.
const (
	CastNone Cast = iota
	CastDate
	CastYear
	CastMonth
	CastDay
	CastHour
	CastMinute
	CastSubstring
	CastJSON // the value as its JSON text, whatever it is
)

var casts = map[string]Cast{
	"": CastNone, "date": CastDate, "year": CastYear, "month": CastMonth, "day": CastDay, "hour": CastHour, "minute": CastMinute, "json": CastJSON,
}

const castWords = "date, year, month, day, hour, minute, json or substring(start, length)"

// WholeMessage is the path of the message itself, which can be taken as JSON text.
const WholeMessage = "."

// ParseCast reads the text of Column.Cast.
func ParseCast(text string) (cast Cast, start, length int, err error) {
	text = strings.TrimSpace(text)
	if c, ok := casts[text]; ok {
		return c, 0, 0, nil
	}
	args, ok := strings.CutPrefix(text, "substring(")
	if ok {
		args, ok = strings.CutSuffix(args, ")")
	}
	if !ok {
		return 0, 0, 0, fmt.Errorf("%q is not a cast: use %s", text, castWords)
	}
	first, second, ok := strings.Cut(args, ",")
	start, err1 := strconv.Atoi(strings.TrimSpace(first))
	length, err2 := strconv.Atoi(strings.TrimSpace(second))
	if !ok || err1 != nil || err2 != nil || start == 0 || length < 1 {
		return 0, 0, 0, fmt.Errorf("%q: use substring(start, length): start counts characters from 1 (or from -1 at the end), length is at least 1", text)
	}
	return CastSubstring, start, length, nil
}

// newComputed checks that a cast's result fits the column.
func newComputed(name string, col Column, index int, t arrow.DataType) (*Computed, error) {
	cast, start, length, err := ParseCast(col.Cast)
	if err != nil {
		return nil, fmt.Errorf("columns.%s.cast: %w", name, err)
	}
	kind, _, err := kindOf(t)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", name, err)
	}
	c := &Computed{Column: index, Cast: cast, Epoch: epochs[col.Epoch], Start: start, Length: length, Kind: kind}
	if cast == CastNone {
		if c.Value, err = newNode(name, name, index, t, 0); err != nil {
			return nil, err
		}
		c.Value.Epoch = c.Epoch.or(kind)
		if c.Epoch != EpochDefault && kind != KindTimestamp && kind != KindTimestampNTZ && kind != KindDate {
			return nil, fmt.Errorf("columns.%s.epoch: %s applies to TIMESTAMP, TIMESTAMP_NTZ and DATE, and the column is %s: remove it",
				name, col.Epoch, TypeName(t))
		}
		return c, nil
	}
	if (cast == CastSubstring || cast == CastJSON) && c.Epoch != EpochDefault {
		return nil, fmt.Errorf("columns.%s.epoch: %s does not apply to %s: remove it", name, col.Epoch, col.Cast)
	}
	if want := cast.columnTypes(kind); want != "" {
		return nil, fmt.Errorf("columns.%s.cast: %s gives %s, and the column is %s: change the cast or the column's type", name, col.Cast, want, TypeName(t))
	}
	return c, nil
}

// columnTypes names the types that a cast can fill, or nothing when kind is one of them.
func (c Cast) columnTypes(kind Kind) string {
	switch c {
	case CastDate:
		if kind != KindDate && kind != KindString {
			return "DATE or STRING"
		}
	case CastSubstring, CastJSON:
		if kind != KindString {
			return "STRING"
		}
	case CastYear:
		if kind != KindInt16 && kind != KindInt32 && kind != KindInt64 && kind != KindString {
			return "SMALLINT, INT, BIGINT or STRING"
		}
	default:
		if kind != KindInt8 && kind != KindInt16 && kind != KindInt32 && kind != KindInt64 && kind != KindString {
			return "TINYINT, SMALLINT, INT, BIGINT or STRING"
		}
	}
	return ""
}

// inherit takes over how the source column reads numbers, unless the computed column says otherwise.
func (c *Computed) inherit(source *Node) {
	if c.Epoch == EpochDefault && source.Type != nil {
		c.Epoch = source.Epoch
	}
	if c.Epoch == EpochDefault {
		c.Epoch = EpochMillis
	}
}

// AppendInstant appends what the cast takes of an instant (microseconds since 1970, UTC) to the column's builder.
func (c *Computed) AppendInstant(b *Builder, micros int64) {
	day := FloorDays(micros)
	switch c.Cast {
	case CastDate:
		if c.Kind == KindDate {
			b.AppendInt32(day)
			return
		}
		y, m, d := CivilFromDays(day)
		var text [10]byte
		putDigits(text[0:4], y)
		text[4] = '-'
		putDigits(text[5:7], m)
		text[7] = '-'
		putDigits(text[8:10], d)
		b.AppendBytes(text[:])
	case CastYear:
		y, _, _ := CivilFromDays(day)
		c.appendPart(b, y, 4)
	case CastMonth:
		_, m, _ := CivilFromDays(day)
		c.appendPart(b, m, 2)
	case CastDay:
		_, _, d := CivilFromDays(day)
		c.appendPart(b, d, 2)
	case CastHour:
		c.appendPart(b, int((micros-int64(day)*microsPerDay)/microsPerHour), 2)
	case CastMinute:
		c.appendPart(b, int((micros-int64(day)*microsPerDay)%microsPerHour/microsPerMinute), 2)
	case CastNone, CastSubstring, CastJSON: // take no instant
	}
}

// appendPart appends a part of a date: as a number, or as text with leading zeros so that it sorts.
func (c *Computed) appendPart(b *Builder, v, digits int) {
	switch c.Kind {
	case KindInt8:
		b.AppendInt8(int8(v))
	case KindInt16:
		b.AppendInt16(int16(v))
	case KindInt32:
		b.AppendInt32(int32(v))
	case KindInt64:
		b.AppendInt64(int64(v))
	default:
		var text [4]byte
		putDigits(text[:digits], v)
		b.AppendBytes(text[:digits])
	}
}

func putDigits(to []byte, v int) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = byte('0' + v%10)
		v /= 10
	}
}

// AppendSubstring appends the part of a text, which is UTF-8, that a substring cast takes. As in SQL, positions count
// characters from 1, negative ones from the end, and what lies outside the text is empty.
func (c *Computed) AppendSubstring(b *Builder, text []byte) {
	from, length := c.Start-1, c.Length
	if c.Start < 0 {
		from = utf8.RuneCount(text) + c.Start
		if from < 0 {
			length = max(0, length+from)
			from = 0
		}
	}
	begin := skipRunes(text, 0, from)
	b.AppendBytes(text[begin:skipRunes(text, begin, length)])
}

func skipRunes(text []byte, at, n int) int {
	for ; n > 0 && at < len(text); n-- {
		if text[at] < utf8.RuneSelf {
			at++
			continue
		}
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return at
}
