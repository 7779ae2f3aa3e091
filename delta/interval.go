package delta

import (
	"math"
	"strconv"
	"strings"
	"time"
)

var intervalUnits = map[string]time.Duration{
	"week": 7 * 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour, "minute": time.Minute, "second": time.Second,
	"millisecond": time.Millisecond, "microsecond": time.Microsecond,
}

// interval reads a table property that is an interval such as "interval 30 days" or "2 hours 30 minutes"; otherwise where
// it is not set or cannot be understood: a retention is never taken shorter because of a spelling mistake.
func (s *state) interval(property string, otherwise time.Duration) time.Duration {
	if d, ok := parseInterval(s.metadata.Configuration[property]); ok {
		return d
	}
	return otherwise
}

func parseInterval(v string) (time.Duration, bool) {
	words := strings.Fields(strings.ToLower(v))
	if len(words) > 0 && words[0] == "interval" {
		words = words[1:]
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, false
	}
	var total float64
	for i := 0; i < len(words); i += 2 {
		n, err := strconv.ParseFloat(words[i], 64)
		unit, ok := intervalUnits[strings.TrimSuffix(words[i+1], "s")]
		if err != nil || !ok || n < 0 {
			return 0, false
		}
		total += n * float64(unit)
	}
	if total >= math.MaxInt64 {
		return math.MaxInt64, true // 292 years: for ever
	}
	return time.Duration(total), true
}
