package credit

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// digitsMax bounds the digits of a number; the longest float64 has fewer.
const digitsMax = 1000

// Decimal is a decimal number, exact, with as many digits after its point as its
// text had. The zero value is 0.
type Decimal struct {
	coef  *big.Int // nil means 0
	scale int      // digits after the point
}

var errDecimal = errors.New("not a decimal number")

// ParseDecimal reads a decimal number, with an exponent or without.
func ParseDecimal(s string) (Decimal, error) {
	mantissa, exponent := s, 0
	if at := strings.IndexAny(s, "eE"); at >= 0 {
		var err error
		if exponent, err = strconv.Atoi(s[at+1:]); err != nil {
			return Decimal{}, errDecimal
		}
		mantissa = s[:at]
	}
	sign := strings.HasPrefix(mantissa, "-")
	if sign || strings.HasPrefix(mantissa, "+") {
		mantissa = mantissa[1:]
	}
	integer, fraction, _ := strings.Cut(mantissa, ".")
	all := integer + fraction
	if all == "" || len(all) > digitsMax || strings.Trim(all, "0123456789") != "" || exponent > digitsMax || exponent < -digitsMax {
		return Decimal{}, errDecimal
	}
	coef, ok := new(big.Int).SetString(all, 10)
	if !ok {
		return Decimal{}, errDecimal
	}
	d := Decimal{coef: coef, scale: len(fraction) - exponent}
	if d.scale < 0 {
		d = Decimal{coef: coef.Mul(coef, pow10(-d.scale))}
	}
	if sign {
		coef.Neg(coef)
	}
	return d, nil
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func (d Decimal) int() *big.Int {
	if d.coef == nil {
		return new(big.Int)
	}
	return d.coef
}

// String returns the number without an exponent.
func (d Decimal) String() string {
	digits := new(big.Int).Abs(d.int()).String()
	if d.scale > 0 {
		if missing := d.scale + 1 - len(digits); missing > 0 {
			digits = strings.Repeat("0", missing) + digits
		}
		at := len(digits) - d.scale
		digits = digits[:at] + "." + digits[at:]
	}
	if d.int().Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// Rat returns the number as a fraction.
func (d Decimal) Rat() *big.Rat { return new(big.Rat).SetFrac(d.int(), pow10(d.scale)) }

// Float64 returns the nearest float64.
func (d Decimal) Float64() float64 {
	f, _ := d.Rat().Float64()
	return f
}

// Sign is -1, 0 or 1.
func (d Decimal) Sign() int { return d.int().Sign() }

// Cmp compares two numbers.
func (d Decimal) Cmp(o Decimal) int { return d.Rat().Cmp(o.Rat()) }

// Add returns the sum.
func (d Decimal) Add(o Decimal) Decimal {
	if d.scale < o.scale {
		d, o = o, d
	}
	raised := new(big.Int).Mul(o.int(), pow10(d.scale-o.scale))
	return Decimal{coef: raised.Add(raised, d.int()), scale: d.scale}
}

// Floor returns the greatest whole number that is not above d, or the nearest
// that an int64 can hold.
func (d Decimal) Floor() int64 {
	whole := new(big.Int).Div(d.int(), pow10(d.scale)) // Euclidean, which is the floor for a positive divisor
	switch {
	case whole.IsInt64():
		return whole.Int64()
	case whole.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

// MarshalText implements encoding.TextMarshaler.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Decimal) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDecimal(string(text))
	return err
}
