package pricing

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

const (
	digits = 28 // significant digits of the reference's decimal context
	places = 18 // decimals of results
)

// Decimal is a decimal number, exact in its text form. The zero value is 0.
type Decimal struct {
	coef *big.Int // nil means 0
	exp  int      // value is coef * 10^exp
}

// Bounds of a number in the price table.
const (
	numberCharsMax = 64
	exponentMax    = 40
)

// ParseDecimal reads a decimal number that is not negative, with or without an
// exponent.
func ParseDecimal(s string) (Decimal, error) {
	bad := fmt.Errorf("price %.80q is not a decimal number from 0 on", s)
	if len(s) > numberCharsMax {
		return Decimal{}, bad
	}
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(s), "e")
	exp := 0
	if scientific {
		var err error
		if exp, err = strconv.Atoi(exponent); err != nil || exp > exponentMax || exp < -exponentMax {
			return Decimal{}, bad
		}
	}
	integer, frac, _ := strings.Cut(mantissa, ".")
	if integer+frac == "" || strings.Trim(integer+frac, "0123456789") != "" {
		return Decimal{}, bad
	}
	c, ok := new(big.Int).SetString(integer+frac, 10)
	if !ok {
		return Decimal{}, bad
	}
	return Decimal{c, exp - len(frac)}, nil
}

func whole(n int64) Decimal { return Decimal{coef: big.NewInt(n)} }

func (d Decimal) int() *big.Int {
	if d.coef == nil {
		return new(big.Int)
	}
	return d.coef
}

// Rat returns the exact value.
func (d Decimal) Rat() *big.Rat {
	r := new(big.Rat).SetInt(d.int())
	scale := new(big.Rat).SetInt(pow10(max(d.exp, -d.exp)))
	if d.exp < 0 {
		return r.Quo(r, scale)
	}
	return r.Mul(r, scale)
}

// Cmp compares two values.
func (d Decimal) Cmp(o Decimal) int { return d.Rat().Cmp(o.Rat()) }

// String returns the value with 18 decimals, which is exact for results.
func (d Decimal) String() string { return d.Rat().FloatString(places) }

// MarshalText implements encoding.TextMarshaler.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Decimal) mul(o Decimal) Decimal {
	return Decimal{new(big.Int).Mul(d.int(), o.int()), d.exp + o.exp}.round(false)
}

func (d Decimal) add(o Decimal) Decimal {
	e := min(d.exp, o.exp)
	a := new(big.Int).Mul(d.int(), pow10(d.exp-e))
	b := new(big.Int).Mul(o.int(), pow10(o.exp-e))
	return Decimal{a.Add(a, b), e}.round(false)
}

func (d Decimal) neg() Decimal { return Decimal{new(big.Int).Neg(d.int()), d.exp} }

// div divides by a positive whole number.
func (d Decimal) div(by int64) Decimal {
	const spare = digits + 20 // more digits than any divisor takes away
	num := new(big.Int).Mul(d.int(), pow10(spare))
	quo, rem := new(big.Int).QuoRem(num, big.NewInt(by), new(big.Int))
	return Decimal{quo, d.exp - spare}.round(rem.Sign() != 0)
}

// round keeps 28 significant digits, half to even; sticky says that digits
// beyond the last one were not all zero.
func (d Decimal) round(sticky bool) Decimal {
	excess := len(new(big.Int).Abs(d.int()).String()) - digits
	if excess <= 0 {
		return d
	}
	unit := pow10(excess)
	quo, rem := new(big.Int).QuoRem(d.int(), unit, new(big.Int))
	up := rem.Abs(rem).Lsh(rem, 1).Cmp(unit)
	if up > 0 || (up == 0 && (sticky || quo.Bit(0) == 1)) {
		quo.Add(quo, big.NewInt(int64(d.coef.Sign())))
	}
	return Decimal{quo, d.exp + excess}.round(false)
}

// floor cuts to 18 decimals toward minus infinity.
func (d Decimal) floor() Decimal {
	if d.exp >= -places {
		return Decimal{new(big.Int).Mul(d.int(), pow10(d.exp+places)), -places}
	}
	unit := pow10(-places - d.exp)
	// Euclidean division by a positive number rounds toward minus infinity.
	return Decimal{new(big.Int).Div(d.int(), unit), -places}
}

func least(a, b Decimal) Decimal {
	if a.Cmp(b) <= 0 {
		return a
	}
	return b
}

func greatest(a, b Decimal) Decimal {
	if a.Cmp(b) >= 0 {
		return a
	}
	return b
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
