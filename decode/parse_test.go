package decode

import (
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowMemory is for arrow's own builders, which tests compare ours with.
var arrowMemory = memory.NewGoAllocator()

func TestCalendarAgainstTime(t *testing.T) {
	for day := MinDay; day <= MaxDay; day++ {
		y, m, d := CivilFromDays(day)
		if back := daysFromCivil(uint32(y), uint32(m), uint32(d)); back != day {
			t.Fatalf("day %d is %d-%d-%d, which is day %d", day, y, m, d, back)
		}
		if day%997 != 0 {
			continue
		}
		at := time.Unix(int64(day)*86400, 0).UTC()
		if wy, wm, wd := at.Date(); y != wy || m != int(wm) || d != wd {
			t.Fatalf("day %d is %d-%d-%d, want %v", day, y, m, d, at)
		}
		if got, reason := ParseDate([]byte(at.Format("2006-01-02"))); got != day || reason != "" {
			t.Fatalf("%v is day %d %s, want %d", at, got, reason, day)
		}
	}
}

func TestTimestampsAgainstTime(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	layouts := []string{time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05.000000-07:00", "2006-01-02 15:04:05.000000000Z07:00", "2006-01-02T15:04-0700", "2006-01-02T15:04:05-07"}
	for range 200_000 {
		layout := layouts[rnd.IntN(len(layouts))]
		zone := time.FixedZone("", (rnd.IntN(46*60)-23*60)*60)
		if layout == layouts[5] {
			zone = time.FixedZone("", (rnd.IntN(46)-23)*3600)
		}
		text := time.UnixMicro(MinMicros + 86400e6 + rnd.Int64N(MaxMicros-MinMicros-2*86400e6)).In(zone).Add(time.Duration(rnd.IntN(1000))).Format(layout)
		want, err := time.Parse(layout, text)
		if err != nil {
			t.Fatal(err)
		}
		got, zoned, reason := ParseTimestamp([]byte(text))
		if reason != "" || !zoned || got != want.UnixMicro() {
			t.Fatalf("%s is %d %s, want %d", text, got, reason, want.UnixMicro())
		}
	}
}

func TestDamagedTimestampsAreRefused(t *testing.T) {
	text := "2021-03-24T15:06:17.321710+00:00"
	for i := range text {
		for c := range 256 {
			damaged := []byte(text)
			damaged[i] = byte(c)
			_, _, reason := ParseTimestamp(damaged)
			isDigit, was := c >= '0' && c <= '9', text[i]
			wasDigit := was >= '0' && was <= '9'
			same := byte(c) == was || i == 10 && (c == ' ' || c == 't') || i == 19 && c == ',' || i == 26 && c == '-'
			if wasDigit != isDigit && !same && reason == "" {
				t.Errorf("%q is taken", damaged)
			}
			if !wasDigit && !same && reason == "" {
				t.Errorf("%q is taken", damaged)
			}
		}
	}
}

func TestDecimalsAgainstBig(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		precision := 1 + rnd.IntN(38)
		scale := rnd.IntN(precision + 1)
		text := strconv.FormatInt(rnd.Int64()>>rnd.IntN(64), 10)
		if rnd.IntN(2) == 0 {
			text += "." + strconv.Itoa(rnd.IntN(10000)) + "00000"[:rnd.IntN(6)]
		}
		if rnd.IntN(2) == 0 {
			text += "e" + strconv.Itoa(rnd.IntN(50)-25)
		}
		if rnd.IntN(2) == 0 {
			text = "-" + text
		}
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatal(text)
		}
		r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
		want := ""
		switch {
		case !r.IsInt():
			want = ReasonInexact
		case r.Num().CmpAbs(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)) >= 0:
			want = ReasonOutOfRange
		}
		got, reason := ParseDecimal([]byte(text), int32(precision), int32(scale))
		if reason != want || reason == "" && got.BigInt().Cmp(r.Num()) != 0 {
			t.Fatalf("%s as decimal(%d,%d) is %v %q, want %v %q", text, precision, scale, got.BigInt(), reason, r, want)
		}
	}
}

// TestUnscaledTexts compares with math/big, at all lengths and scales.
func TestUnscaledTexts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 20_000 {
		value := make([]byte, rnd.IntN(40))
		for i := range value {
			value[i] = byte(rnd.Uint32())
		}
		if len(value) > 0 && rnd.IntN(4) == 0 {
			value[0] = []byte{0x80, 0xff, 0, 0x7f}[rnd.IntN(4)]
			clear(value[1:])
		}
		scale := rnd.IntN(45)
		n := new(big.Int).SetBytes(value)
		if len(value) > 0 && value[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(value))))
		}
		want := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).FloatString(scale)
		if got, ok := AppendUnscaled([]byte("x"), value, int32(scale)); !ok || string(got) != "x"+want {
			t.Fatalf("%x of scale %d: got %s, want %s", value, scale, got, want)
		}
	}
}
