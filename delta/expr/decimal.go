package expr

import (
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

var powers = func() (out [200]*big.Int) {
	v := big.NewInt(1)
	for i := range out {
		out[i] = v
		v = new(big.Int).Mul(v, big.NewInt(10))
	}
	return out
}()

// pow10 must not be asked for more than 10^199.
func pow10(n int32) *big.Int { return powers[n] }

func scaleUp(v *big.Int, by int32) *big.Int {
	if by <= 0 {
		return v
	}
	return new(big.Int).Mul(v, pow10(by))
}

// divideHalfUp rounds half away from zero.
func divideHalfUp(a, b *big.Int) *big.Int {
	q, rem := new(big.Int).QuoRem(a, b, new(big.Int))
	if new(big.Int).Lsh(rem.Abs(rem), 1).CmpAbs(b) >= 0 {
		q.Add(q, big.NewInt(int64(a.Sign()*b.Sign())))
	}
	return q
}

// bigToDecimal rounds to the type's scale; false when it does not fit.
func bigToDecimal(v *big.Int, scale int32, t typ) (decimal128.Num, bool) {
	switch by := t.s - scale; {
	case by > maxPrecision && v.Sign() != 0:
		return decimal128.Num{}, false
	case by >= 0:
		v = scaleUp(v, min(by, maxPrecision))
	case -by >= int32(len(powers)):
		v = new(big.Int)
	default:
		v = divideHalfUp(v, pow10(-by))
	}
	if v.CmpAbs(pow10(t.p)) >= 0 {
		return decimal128.Num{}, false
	}
	return decimal128.FromBigInt(v), true
}

// rescale is bigToDecimal for what is a decimal already, without allocating where it grows.
func rescale(v decimal128.Num, from, to typ) (decimal128.Num, bool) {
	if by := to.s - from.s; by >= 0 && from.p+by <= maxPrecision {
		if by > 0 {
			v = timesPow10(v, by)
		}
		return v, to.p-to.s >= from.p-from.s || v.FitsInPrecision(to.p)
	}
	return bigToDecimal(v.BigInt(), from.s, to)
}

// timesPow10 is v * 10^by, which must fit. decimal128's own multiplication allocates.
func timesPow10(v decimal128.Num, by int32) decimal128.Num {
	for ; by > 0; by -= 19 {
		m := pow10(min(by, 19)).Uint64()
		high, low := bits.Mul64(v.LowBits(), m)
		v = decimal128.New(int64(uint64(v.HighBits())*m+high), low) // modulo 2^128, which serves negative values too
	}
	return v
}

// digits is the number of decimal digits of v.
func digits(v int64) int32 {
	s := strconv.FormatInt(v, 10)
	return int32(len(strings.TrimPrefix(s, "-")))
}

// parseBig reads a number with an optional exponent, as java.math.BigDecimal does, up to a size that no decimal has.
func parseBig(s string) (unscaled *big.Int, scale int32, ok bool) {
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(s[i+1:]); err != nil || i+1 == len(s) || exponent > 10_000 || exponent < -10_000 {
			return nil, 0, false
		}
		mantissa = s[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := whole + fraction
	sign := ""
	if all != "" && (all[0] == '-' || all[0] == '+') && len(whole) > 0 {
		sign, all = strings.TrimPrefix(all[:1], "+"), all[1:]
	}
	if all == "" || len(all) > 5000 || strings.ContainsFunc(all, func(r rune) bool { return r < '0' || r > '9' }) {
		return nil, 0, false
	}
	unscaled, ok = new(big.Int).SetString(sign+all, 10)
	return unscaled, int32(len(fraction) - exponent), ok
}

// plain is a decimal's text without an exponent.
func plain(v decimal128.Num, scale int32) string {
	s := v.BigInt().String()
	if scale == 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if missing := int(scale) + 1 - len(s); missing > 0 {
		s = strings.Repeat("0", missing) + s
	}
	at := len(s) - int(scale)
	return sign + s[:at] + "." + s[at:]
}

func decimalFloat(v decimal128.Num, scale int32) float64 {
	f, _ := strconv.ParseFloat(plain(v, scale), 64)
	return f
}
