package rendezvous

import (
	"math/bits"
	"strconv"
)

// Uint128 is an unsigned number of 128 bits.
type Uint128 struct{ Hi, Lo uint64 }

// Less reports whether a < b.
func (a Uint128) Less(b Uint128) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

// String returns the decimal digits.
func (a Uint128) String() string {
	const base, baseDigits = 1e19, 19 // The greatest power of ten in a word.
	if a.Hi == 0 {
		return strconv.FormatUint(a.Lo, 10)
	}
	q := Uint128{Hi: a.Hi / base}
	var low uint64
	q.Lo, low = bits.Div64(a.Hi%base, a.Lo, base)
	digits := strconv.FormatUint(low, 10)
	return q.String() + "0000000000000000000"[:baseDigits-len(digits)] + digits
}

func shiftLeft(u Uint128, n int) Uint128 {
	if n >= 64 {
		return Uint128{Hi: u.Lo << (n - 64)}
	}
	return Uint128{u.Hi<<n | u.Lo>>(64-n), u.Lo << n}
}
