package rendezvous

import (
	"encoding/binary"
	"math/bits"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// fractionBits is how many bits of the logarithm follow the point.
const fractionBits = 64

// keyShift keeps the division by the weight from losing what tells keys apart:
// of 10,000 nodes the smallest logarithm is near 2^50, and a weight, which for
// nodes is their score squared, is below 2^34.
const keyShift = 32

// Race draws for those who run for one spec and attempt.
type Race struct {
	state crypto.KeccakState
	input [32 + 32 + 1 + 4]byte
	sum   [32]byte // Here, because a local one would escape to the heap at each draw.
}

// New returns the race for a spec and attempt.
func New(seed, spec common.Hash, attempt uint8) *Race {
	r := &Race{state: crypto.NewKeccakState()}
	copy(r.input[:32], seed[:])
	copy(r.input[32:64], spec[:])
	r.input[64] = attempt
	return r
}

// Draw returns what the runner draws.
func (r *Race) Draw(id uint32) Uint128 {
	binary.BigEndian.PutUint32(r.input[65:], id)
	r.state.Reset()
	r.state.Write(r.input[:]) // A hash never fails,
	r.state.Read(r.sum[:])    //nolint:errcheck // nor does its reader.
	u := Uint128{binary.BigEndian.Uint64(r.sum[:8]), binary.BigEndian.Uint64(r.sum[8:16])}
	if u == (Uint128{}) {
		u.Lo = 1
	}
	return u
}

// Run lets a runner with a weight above 0 draw.
func (r *Race) Run(id uint32, weight uint64) Runner {
	u := r.Draw(id)
	return Runner{ID: id, U: u, Key: Key(u, weight)}
}

// Runner is who runs, with what it drew.
type Runner struct {
	ID  uint32
	U   Uint128
	Key Uint128
}

// Before reports whether a beats b.
func (a Runner) Before(b Runner) bool {
	if a.Key != b.Key {
		return a.Key.Less(b.Key)
	}
	if a.U != b.U {
		return b.U.Less(a.U)
	}
	return a.ID < b.ID
}

// Member is a coordinator with the stake behind it, in whole ALEPH.
type Member struct {
	ID    uint32
	Stake uint64
}

// Duty returns the coordinator on duty; 0 when none has stake.
func (r *Race) Duty(members []Member) uint32 {
	var best Runner
	for _, m := range members {
		if m.Stake == 0 {
			continue
		}
		if runner := r.Run(m.ID, m.Stake); best.ID == 0 || runner.Before(best) {
			best = runner
		}
	}
	return best.ID
}

// Rank returns how many coordinators come before this one; all of them when it
// is not among them or has no stake.
func (r *Race) Rank(id uint32, members []Member) int {
	mine := Member{}
	for _, m := range members {
		if m.ID == id {
			mine = m
		}
	}
	if mine.Stake == 0 {
		return len(members)
	}
	me, ahead := r.Run(id, mine.Stake), 0
	for _, m := range members {
		if m.ID != id && m.Stake != 0 && r.Run(m.ID, m.Stake).Before(me) {
			ahead++
		}
	}
	return ahead
}

// Key returns the key of a runner that drew u and has the weight, which is above
// 0.
func Key(u Uint128, weight uint64) Uint128 {
	whole, fraction := Log2(u)
	// 128·2^64 - log2(u)·2^64, at most 72 bits.
	lo, borrow := bits.Sub64(0, fraction, 0)
	hi := 128 - whole - borrow
	n := Uint128{hi<<keyShift | lo>>(64-keyShift), lo << keyShift}
	q := Uint128{Hi: n.Hi / weight}
	q.Lo, _ = bits.Div64(n.Hi%weight, n.Lo, weight)
	return q
}

// Log2 returns the binary logarithm of u > 0 as a whole number and a fraction
// of 64 bits, rounded down.
func Log2(u Uint128) (whole, fraction uint64) {
	zeros := bits.LeadingZeros64(u.Hi)
	if u.Hi == 0 {
		zeros = 64 + bits.LeadingZeros64(u.Lo)
	}
	whole = uint64(127 - zeros)
	m := shiftLeft(u, zeros) // The mantissa, 1 to 2, with the point after its top bit.
	for range fractionBits {
		var two bool
		m, two = square(m)
		fraction <<= 1
		if two {
			fraction |= 1
		}
	}
	return whole, fraction
}

// square returns m², and whether it reached 2, in which case it was halved.
func square(m Uint128) (Uint128, bool) {
	llHi, _ := bits.Mul64(m.Lo, m.Lo)
	hlHi, hlLo := bits.Mul64(m.Hi, m.Lo)
	hhHi, hhLo := bits.Mul64(m.Hi, m.Hi)
	// The cross product counts twice; its 129th bit goes to the top word.
	top := hlHi >> 63
	hlHi, hlLo = hlHi<<1|hlLo>>63, hlLo<<1
	w1, c := bits.Add64(llHi, hlLo, 0)
	w2, c := bits.Add64(hhLo, hlHi, c)
	w3, _ := bits.Add64(hhHi, top, c)
	if w3>>63 == 1 {
		return Uint128{w3, w2}, true
	}
	return Uint128{w3<<1 | w2>>63, w2<<1 | w1>>63}, false
}
