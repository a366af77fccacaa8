package rendezvous

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

func specOf(n int) common.Hash { return sha256.Sum256(fmt.Appendf(nil, "spec %d", n)) }

func TestLog2AgreesWithFloatingPoint(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		u := Uint128{rng.Uint64() >> (i % 64), rng.Uint64()}
		whole, fraction := Log2(u)

		got := float64(whole) + float64(fraction)/math.Pow(2, 64)
		want := math.Log2(float64(u.Hi)*math.Pow(2, 64) + float64(u.Lo))
		if math.Abs(got-want) > 1e-12*want {
			t.Errorf("Log2(%s) is %v, want %v", u, got, want)
		}
	}
}

func TestLog2OfPowersOfTwoIsWhole(t *testing.T) {
	for n := range 128 {
		whole, fraction := Log2(shiftLeft(Uint128{0, 1}, n))
		if whole != uint64(n) || fraction != 0 {
			t.Errorf("Log2(2^%d) is %d and %d/2^64, want %d and 0", n, whole, fraction, n)
		}
	}
}

func TestSquareKeepsAllBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		m := Uint128{rng.Uint64() | 1<<63, rng.Uint64()}
		got, two := square(m)

		v, _ := new(big.Int).SetString(m.String(), 10)
		v.Mul(v, v)
		shift := uint(127)
		if v.BitLen() == 256 {
			shift = 128
		}
		if want := v.Rsh(v, shift).String(); got.String() != want || two != (shift == 128) {
			t.Fatalf("square(%s) is %s, %v; want %s, %v", m, got, two, want, shift == 128)
		}
	}
}

// Keys are part of what other implementations must reproduce, so some are kept
// here as they came out first.
func TestRaceKeysAreFixed(t *testing.T) {
	tests := []struct {
		node   uint32
		weight uint64
		u      string
		key    string
	}{
		{1, 10_000 * 10_000, "116853988671126331689683933865767720249", "1221718401529767332188"},
		{7, 5_000 * 5_000, "299859590429534590382897434347486851479", "578192168347429003690"},
	}
	r := New(common.HexToHash("0x5eed"), specOf(0), 0)
	for _, tt := range tests {
		u := r.Draw(tt.node)
		if u.String() != tt.u {
			t.Errorf("node %d drew %s, want %s", tt.node, u, tt.u)
		}
		if key := Key(u, tt.weight); key.String() != tt.key {
			t.Errorf("key of node %d is %s, want %s", tt.node, key, tt.key)
		}
	}
}

func TestUint128IsWrittenInDecimal(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	all := []Uint128{{}, {0, 1}, {1, 0}, {0, math.MaxUint64}, {math.MaxUint64, math.MaxUint64}}
	for i := range 200 {
		all = append(all, Uint128{rng.Uint64() >> (i % 64), rng.Uint64()})
	}
	for _, a := range all {
		want := new(big.Int).SetUint64(a.Hi)
		want.Lsh(want, 64).Or(want, new(big.Int).SetUint64(a.Lo))
		if a.String() != want.String() {
			t.Errorf("%d and %d are written %s, want %s", a.Hi, a.Lo, a, want)
		}
	}
}

func TestRaceKeyIsTheFormula(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		u := Uint128{rng.Uint64(), rng.Uint64()}
		weight := 1 + rng.Uint64()>>rng.IntN(64)
		whole, fraction := Log2(u)

		l := new(big.Int).Lsh(big.NewInt(128-int64(whole)), 64)
		l.Sub(l, new(big.Int).SetUint64(fraction)).Lsh(l, keyShift)
		want := l.Div(l, new(big.Int).SetUint64(weight))
		if got := Key(u, weight); got.String() != want.String() {
			t.Fatalf("key of %s at weight %d is %s, want %s", u, weight, got, want)
		}
	}
}
