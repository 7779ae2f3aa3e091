package expr

import (
	"fmt"
	"strings"
)

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }

// civil is the proleptic Gregorian date of a day since 1970.
func civil(day int64) (y int64, m, d int) {
	day += 719_468
	era := floorDiv(day, 146_097)
	doe := day - era*146_097
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = int(doy - (153*mp+2)/5 + 1)
	m = int(mp) + 3
	y = yoe + era*400
	if m > 12 {
		m -= 12
		y++
	}
	return y, m, d
}

// fromCivil is the day since 1970 of a date, which must exist.
func fromCivil(y int64, m, d int) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := int64((153*(m-3)+2)/5 + d - 1)
	return era*146_097 + yoe*365 + yoe/4 - yoe/100 + doy - 719_468
}

func leap(y int64) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func monthDays(y int64, m int) int {
	switch m {
	case 2:
		if leap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// betweenInstants converts days and microseconds into each other. Time zones don't matter: the session's is UTC.
func betweenInstants(v int64, from, to kind) (int64, string) {
	switch {
	case from == kDate && to != kDate:
		micros, ok := multiply(v, microsPerDay)
		if !ok {
			return 0, fmt.Sprintf("the date %s is out of range of TIMESTAMP", dateText(v))
		}
		return micros, ""
	case from != kDate && to == kDate:
		return floorDiv(v, microsPerDay), ""
	}
	return v, ""
}

func yearText(y int64) string {
	switch {
	case y > 9999:
		return fmt.Sprintf("+%d", y)
	case y < 0:
		return fmt.Sprintf("-%04d", -y)
	}
	return fmt.Sprintf("%04d", y)
}

func dateText(day int64) string {
	y, m, d := civil(day)
	return fmt.Sprintf("%s-%02d-%02d", yearText(y), m, d)
}

func timestampText(micros int64) string {
	day := floorDiv(micros, microsPerDay)
	rest := micros - day*microsPerDay
	seconds := rest / microsPerSecond
	s := fmt.Sprintf("%s %02d:%02d:%02d", dateText(day), seconds/3600, seconds/60%60, seconds%60)
	if rest %= microsPerSecond; rest != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%06d", rest), "0")
	}
	return s
}

// parseInstant reads a string as a DATE (days), TIMESTAMP or TIMESTAMP_NTZ (microseconds). The reason is empty when it
// could.
func parseInstant(s string, k kind) (int64, string) {
	text := trimControls(s)
	if k == kDate {
		if day, ok := parseDate(text); ok {
			return day, ""
		}
		return 0, malformed(s, typ{k: k})
	}
	micros, zone, ok := parseTimestamp(text)
	if !ok {
		return 0, malformed(s, typ{k: k})
	}
	if zone == "" || k == kNTZ {
		return micros, ""
	}
	offset, ok := parseZone(zone)
	if !ok {
		return 0, malformed(s, typ{k: k}) + fmt.Sprintf(": the time zone %q is not understood", zone)
	}
	return micros - offset*microsPerSecond, ""
}

// parseDate is DateTimeUtils.stringToDate: [+-]yyyy[-[m]m[-[d]d]], and anything behind a blank or T after the day.
func parseDate(s string) (int64, bool) {
	sign := int64(1)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	segments := [3]int64{1, 1, 1}
	i, digits, value, at := 0, 0, int64(0), 0
	for ; at < len(s) && s[at] != ' ' && s[at] != 'T'; at++ {
		switch {
		case i < 2 && s[at] == '-':
			if !dateDigits(i, digits, 7) {
				return 0, false
			}
			segments[i] = value
			i, digits, value = i+1, 0, 0
		case isDigit(s[at]) && digits < 8:
			value = value*10 + int64(s[at]-'0')
			digits++
		default:
			return 0, false
		}
	}
	if !dateDigits(i, digits, 7) || i < 2 && at < len(s) {
		return 0, false
	}
	segments[i] = value
	return checkedDay(sign*segments[0], segments[1], segments[2])
}

// dateDigits tells whether a part of a date may have so many digits.
func dateDigits(segment, digits, maxYear int) bool {
	if segment == 0 {
		return digits >= 4 && digits <= maxYear
	}
	return digits > 0 && digits <= 2
}

func checkedDay(y, m, d int64) (int64, bool) {
	if m < 1 || m > 12 || d < 1 || d > int64(monthDays(y, int(m))) {
		return 0, false
	}
	day := fromCivil(y, int(m), int(d))
	return day, day == int64(int32(day))
}

// parseTimestamp is DateTimeUtils.parseTimestampString: [+-]yyyy[-[m]m[-[d]d[( |T)[h]h[:[m]m[:[s]s[.[us]][zone]]]]]]. A time
// without a date, which Spark completes with today's, is not taken.
func parseTimestamp(s string) (micros int64, zone string, ok bool) {
	sign := int64(1)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	segments := [7]int64{1, 1, 1}
	i, digits, value := 0, 0, int64(0)
	for at := 0; at < len(s); at++ {
		c := s[at]
		if isDigit(c) {
			if digits < 6 {
				value = value*10 + int64(c-'0')
			}
			digits++
			continue
		}
		if !timestampDigits(i, digits) {
			return 0, "", false
		}
		switch {
		case i < 2 && c == '-', i == 2 && (c == ' ' || c == 'T'), (i == 3 || i == 4) && c == ':', i == 5 && c == '.':
			segments[i] = value
			i, digits, value = i+1, 0, 0
		case i >= 5:
			zone = strings.TrimSpace(s[at:])
			at = len(s)
		default:
			return 0, "", false
		}
	}
	if !timestampDigits(i, digits) {
		return 0, "", false
	}
	segments[i] = value
	for ; i == 6 && digits < 6; digits++ {
		segments[6] *= 10
	}
	if segments[3] > 23 || segments[4] > 59 || segments[5] > 59 {
		return 0, "", false
	}
	day, ok := checkedDay(sign*segments[0], segments[1], segments[2])
	if !ok {
		return 0, "", false
	}
	micros, ok = multiply(day, microsPerDay)
	return micros + (segments[3]*3600+segments[4]*60+segments[5])*microsPerSecond + segments[6], zone, ok
}

func timestampDigits(segment, digits int) bool {
	return segment == 6 || dateDigits(segment, digits, 6)
}

// parseZone reads an offset from UTC in seconds: Z, UTC, GMT, UT, [+-]h[h][:[m]m[:ss]]. Regions are not understood.
func parseZone(s string) (int64, bool) {
	if s == "Z" {
		return 0, true
	}
	for _, prefix := range []string{"UTC", "GMT", "UT"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			if rest == "" {
				return 0, true
			}
			s = rest
			break
		}
	}
	if s == "" || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	parts := strings.Split(s[1:], ":")
	if len(parts) == 1 && len(parts[0]) > 2 { // hhmm, hhmmss
		if len(parts[0])%2 != 0 {
			return 0, false
		}
		all := parts[0]
		parts = nil
		for ; all != ""; all = all[2:] {
			parts = append(parts, all[:2])
		}
	}
	if len(parts) > 3 {
		return 0, false
	}
	var numbers [3]int64
	for i, p := range parts {
		v, ok := parseWhole(p)
		if !ok || len(p) > 2 || !isDigit(p[0]) || i > 0 && v > 59 {
			return 0, false
		}
		numbers[i] = v
	}
	seconds := numbers[0]*3600 + numbers[1]*60 + numbers[2]
	if seconds > 18*3600 {
		return 0, false
	}
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}
