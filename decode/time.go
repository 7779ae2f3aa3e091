package decode

import "encoding/binary"

const (
	microsPerSecond = int64(1_000_000)
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour
)

// Delta's dates and timestamps lie in the years 0001 to 9999, which is what all its readers agree on.
const (
	MinDay    = int32(-719162)                     // 0001-01-01
	MaxDay    = int32(2932896)                     // 9999-12-31
	MinMicros = int64(MinDay) * microsPerDay       // 0001-01-01T00:00:00Z
	MaxMicros = (int64(MaxDay)+1)*microsPerDay - 1 // 9999-12-31T23:59:59.999999Z
)

// FloorDays is the UTC day of an instant given in microseconds since 1970.
func FloorDays(micros int64) int32 {
	day := micros / microsPerDay
	if micros%microsPerDay < 0 {
		day--
	}
	return int32(day)
}

// CivilFromDays returns year, month and day of a day counted from 1970-01-01 (proleptic Gregorian calendar).
func CivilFromDays(day int32) (year, month, dayOfMonth int) {
	// Years start in March here, so that the leap day is the last one (H. Hinnant, chrono-compatible date algorithms).
	z := uint32(day + 719468)
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year = int(yoe + era*400)
	dayOfMonth = int(doy - (153*mp+2)/5 + 1)
	if mp < 10 {
		return year, int(mp) + 3, dayOfMonth
	}
	return year + 1, int(mp) - 9, dayOfMonth
}

// daysFromCivil is the inverse of CivilFromDays for years 0 to 9999.
func daysFromCivil(y, m, d uint32) int32 {
	if m <= 2 {
		y += 399 // one year back; 400 more keeps it positive and is a whole era
		m += 9
	} else {
		y += 400
		m -= 3
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*m+2)/5 + d - 1
	return int32(era*146097+yoe*365+yoe/4-yoe/100+doy) - 719468 - 146097
}

var daysInMonth = [13]uint8{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// civil checks a date and returns its day. Year 0000 is out of range, not invalid.
func civil(y, m, d uint32) (day int32, reason string) {
	if m-1 >= 12 || d == 0 {
		return 0, ReasonInvalidValue
	}
	last := uint32(daysInMonth[m])
	if m == 2 && y%4 == 0 && (y%100 != 0 || y%400 == 0) {
		last = 29
	}
	if d > last {
		return 0, ReasonInvalidValue
	}
	if y == 0 {
		return 0, ReasonOutOfRange
	}
	return daysFromCivil(y, m, d), ""
}

// Masks for words of text, first character in the low byte: xor with the pattern leaves 0..9 for digits and 0 for
// separators; adding carries a byte that is too large into its high half.
const (
	patternYM  = uint64(0x2d_30_30_2d_30_30_30_30) // "0000-00-"
	addYM      = uint64(0x0f_06_06_0f_06_06_06_06)
	patternHMS = uint64(0x30_30_3a_30_30_3a_30_30) // "00:00:00"
	addHMS     = uint64(0x06_06_0f_06_06_0f_06_06)
	highHalves = uint64(0xf0f0f0f0f0f0f0f0)
)

// digit pair: the bytes at 8*i and 8*(i+1) of a word whose digits are already 0..9.
func pair(w uint64, i uint) uint32 { return uint32(w>>(8*i)&0xff)*10 + uint32(w>>(8*i+8)&0xff) }

// ParseDate reads YYYY-MM-DD and returns the day since 1970. Reason is empty, ReasonInvalidValue or ReasonOutOfRange.
func ParseDate(s []byte) (day int32, reason string) {
	if len(s) != 10 {
		return 0, ReasonInvalidValue
	}
	return parseDate(s)
}

// parseDate reads the first 10 bytes of s.
func parseDate(s []byte) (day int32, reason string) {
	w := binary.LittleEndian.Uint64(s) ^ patternYM
	d1, d0 := uint32(s[8]-'0'), uint32(s[9]-'0')
	if ((w+addYM)|w)&highHalves != 0 || d1 > 9 || d0 > 9 {
		return 0, ReasonInvalidValue
	}
	return civil(pair(w, 0)*100+pair(w, 2), pair(w, 5), d1*10+d0)
}

// ParseTimestamp reads ISO 8601 as found in the wild: YYYY-MM-DD, then optionally 'T' or a space, HH:MM, :SS, a
// fraction of 1 to 9 digits, of which those beyond microseconds are cut off (towards the past), and Z, ±HH, ±HHMM or
// ±HH:MM. Without a zone the wall clock is read as UTC, and zoned is false. Reason is empty, ReasonInvalidValue or
// ReasonOutOfRange.
func ParseTimestamp(s []byte) (micros int64, zoned bool, reason string) {
	if len(s) < 10 {
		return 0, false, ReasonInvalidValue
	}
	day, reason := parseDate(s)
	if reason != "" {
		return 0, false, reason
	}
	micros = int64(day) * microsPerDay
	if len(s) == 10 {
		return micros, false, ""
	}
	if c := s[10]; c != 'T' && c != ' ' && c != 't' {
		return 0, false, ReasonInvalidValue
	}
	clock, n := parseClock(s[11:])
	if n == 0 {
		return 0, false, ReasonInvalidValue
	}
	micros += clock
	if len(s) > 11+n {
		offset, ok := parseZone(s[11+n:])
		if !ok {
			return 0, false, ReasonInvalidValue
		}
		zoned = true
		micros -= offset
		if micros < MinMicros || micros > MaxMicros {
			return 0, true, ReasonOutOfRange
		}
	}
	return micros, zoned, ""
}

// parseClock reads HH:MM[:SS[.fraction]] from the start of s; n is its length, 0 when it is none.
func parseClock(s []byte) (micros int64, n int) {
	var hour, minute, second uint32
	switch {
	case len(s) >= 8 && s[5] == ':':
		w := binary.LittleEndian.Uint64(s) ^ patternHMS
		if ((w+addHMS)|w)&highHalves != 0 {
			return 0, 0
		}
		hour, minute, second, n = pair(w, 0), pair(w, 3), pair(w, 6), 8
	case len(s) >= 5 && s[2] == ':':
		var ok bool
		if hour, minute, ok = twoPairs(s[0], s[1], s[3], s[4]); !ok {
			return 0, 0
		}
		n = 5
	}
	if n == 0 || hour > 23 || minute > 59 || second > 59 {
		return 0, 0
	}
	micros = int64(hour*3600+minute*60+second) * microsPerSecond
	if n == 8 && len(s) > 8 && (s[8] == '.' || s[8] == ',') {
		fraction, digits := parseFraction(s[9:])
		if digits == 0 {
			return 0, 0
		}
		micros += fraction
		n = 9 + digits
	}
	return micros, n
}

var fractionScale = [10]int64{0, 100_000, 10_000, 1_000, 100, 10, 1, 1, 1, 1}

// parseFraction reads 1 to 9 digits as microseconds; digits is 0 when there are none or more.
func parseFraction(s []byte) (micros int64, digits int) {
	for digits < len(s) {
		d := s[digits] - '0'
		if d > 9 {
			break
		}
		if digits < 6 {
			micros = micros*10 + int64(d)
		}
		digits++
	}
	if digits > 9 {
		return 0, 0
	}
	return micros * fractionScale[digits], digits
}

// parseZone reads all of s as Z or an offset from UTC, in microseconds.
func parseZone(s []byte) (offset int64, ok bool) {
	if s[0] == 'Z' || s[0] == 'z' {
		return 0, len(s) == 1
	}
	if s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	var hour, minute uint32
	switch {
	case len(s) == 6 && s[3] == ':':
		hour, minute, ok = twoPairs(s[1], s[2], s[4], s[5])
	case len(s) == 5:
		hour, minute, ok = twoPairs(s[1], s[2], s[3], s[4])
	case len(s) == 3:
		hour, minute, ok = twoPairs(s[1], s[2], '0', '0')
	}
	if !ok || hour > 23 || minute > 59 {
		return 0, false
	}
	offset = int64(hour*60+minute) * microsPerMinute
	if s[0] == '-' {
		offset = -offset
	}
	return offset, true
}

func twoPairs(a, b, c, d byte) (first, second uint32, ok bool) {
	a, b, c, d = a-'0', b-'0', c-'0', d-'0'
	return uint32(a)*10 + uint32(b), uint32(c)*10 + uint32(d), max(a, b, c, d) <= 9
}
