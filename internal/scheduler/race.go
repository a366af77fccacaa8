package scheduler

import (
	"encoding/binary"
	"math/bits"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The race that chooses a node. Each eligible node n draws
//
//	u = the top 128 bits of keccak256(seed ‖ spec ‖ attempt ‖ node id), at least 1
//
// (32, 32, 1 and 4 bytes, big-endian) and the smallest key wins:
//
//	key = floor((128·2^64 - log2(u)·2^64) · 2^32 / score^2)
//
// This is an exponential race: -ln(u/2^128) is exponentially distributed, so a
// node wins with a probability proportional to its score squared; the base of
// the logarithm scales all keys alike. The logarithm is taken bit by bit with
// integer squaring, so any language with 256-bit integers gets the same bits.
// Of equal keys the greater u wins, then the smaller node id.

// fractionBits is how many bits of the logarithm follow the point.
const fractionBits = 64

// keyShift keeps the division by score^2 from losing what tells keys apart:
// of 10,000 nodes the smallest logarithm is near 2^50, and score^2 below 2^34.
const keyShift = 32

// uint128 is an unsigned number of 128 bits.
type uint128 struct{ hi, lo uint64 }

func (a uint128) less(b uint128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// String returns the decimal digits.
func (a uint128) String() string {
	const base, baseDigits = 1e19, 19 // The greatest power of ten in a word.
	if a.hi == 0 {
		return strconv.FormatUint(a.lo, 10)
	}
	q := uint128{hi: a.hi / base}
	var low uint64
	q.lo, low = bits.Div64(a.hi%base, a.lo, base)
	digits := strconv.FormatUint(low, 10)
	return q.String() + "0000000000000000000"[:baseDigits-len(digits)] + digits
}

// racer draws for the nodes that race for one spec and attempt.
type racer struct {
	state crypto.KeccakState
	input [32 + 32 + 1 + 4]byte
	sum   [32]byte // Here, because a local one would escape to the heap at each draw.
}

func newRacer(seed common.Hash, spec message.ItemHash, attempt uint8) *racer { //nolint:unparam // The race is defined for every attempt.
	r := &racer{state: crypto.NewKeccakState()}
	sum, _ := spec.Digest() // An empty spec, of a quote, races as zero.
	copy(r.input[:32], seed[:])
	copy(r.input[32:64], sum[:])
	r.input[64] = attempt
	return r
}

// draw returns the node's u.
func (r *racer) draw(nodeID uint32) uint128 {
	binary.BigEndian.PutUint32(r.input[65:], nodeID)
	r.state.Reset()
	r.state.Write(r.input[:]) // A hash never fails,
	r.state.Read(r.sum[:])    //nolint:errcheck // nor does its reader.
	u := uint128{binary.BigEndian.Uint64(r.sum[:8]), binary.BigEndian.Uint64(r.sum[8:16])}
	if u == (uint128{}) {
		u.lo = 1
	}
	return u
}

// raceKey returns the key of a node that drew u and has the score, which is
// above 0.
func raceKey(u uint128, score uint32) uint128 {
	whole, fraction := log2(u)
	// 128·2^64 - log2(u)·2^64, at most 72 bits.
	lo, borrow := bits.Sub64(0, fraction, 0)
	hi := 128 - whole - borrow
	n := uint128{hi<<keyShift | lo>>(64-keyShift), lo << keyShift}
	weight := uint64(score) * uint64(score)
	q := uint128{hi: n.hi / weight}
	q.lo, _ = bits.Div64(n.hi%weight, n.lo, weight)
	return q
}

// log2 returns the binary logarithm of u > 0 as a whole number and a fraction
// of 64 bits, rounded down.
func log2(u uint128) (whole, fraction uint64) {
	zeros := bits.LeadingZeros64(u.hi)
	if u.hi == 0 {
		zeros = 64 + bits.LeadingZeros64(u.lo)
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
func square(m uint128) (uint128, bool) {
	llHi, _ := bits.Mul64(m.lo, m.lo)
	hlHi, hlLo := bits.Mul64(m.hi, m.lo)
	hhHi, hhLo := bits.Mul64(m.hi, m.hi)
	// The cross product counts twice; its 129th bit goes to the top word.
	top := hlHi >> 63
	hlHi, hlLo = hlHi<<1|hlLo>>63, hlLo<<1
	w1, c := bits.Add64(llHi, hlLo, 0)
	w2, c := bits.Add64(hhLo, hlHi, c)
	w3, _ := bits.Add64(hhHi, top, c)
	if w3>>63 == 1 {
		return uint128{w3, w2}, true
	}
	return uint128{w3<<1 | w2>>63, w2<<1 | w1>>63}, false
}

func shiftLeft(u uint128, n int) uint128 {
	if n >= 64 {
		return uint128{hi: u.lo << (n - 64)}
	}
	return uint128{u.hi<<n | u.lo>>(64-n), u.lo << n}
}

// entrant is a node in the race.
type entrant struct {
	index int // The caller's.
	id    uint32
	score uint32 // Above 0.
	u     uint128
}

// winner returns the position of the entrant with the smallest key. Keys fall
// as u grows, so only the greatest u of each score needs its key computed.
func winner(r *racer, entrants []entrant) int {
	best := map[uint32]int{} // by score
	for i := range entrants {
		e := &entrants[i]
		e.u = r.draw(e.id)
		b, ok := best[e.score]
		if !ok || entrants[b].u.less(e.u) || entrants[b].u == e.u && e.id < entrants[b].id {
			best[e.score] = i
		}
	}
	win, winKey := -1, uint128{}
	for score, i := range best {
		key := raceKey(entrants[i].u, score)
		if win < 0 || before(key, entrants[i], winKey, entrants[win]) { //nolint:gosec // win is below 0 or an index.
			win, winKey = i, key
		}
	}
	return win
}

// before reports whether a, with key ka, beats b.
func before(ka uint128, a entrant, kb uint128, b entrant) bool {
	if ka != kb {
		return ka.less(kb)
	}
	if a.u != b.u {
		return b.u.less(a.u)
	}
	return a.id < b.id
}
