package state

import (
	"encoding/binary"
	mathbits "math/bits"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// A block of a catalogue has blockSize documents. A set of them is kept as a
// sorted list of two-byte offsets while that is shorter, then as one bit each.
const (
	blockSize = 1 << 15
	setBytes  = blockSize / 8
	listMax   = setBytes / 4 // Offsets of a list: half of what the bits take.
)

// bitset is a set of the documents of one block.
type bitset [blockSize / 64]uint64

func (b *bitset) set(i int)   { b[i>>6] |= 1 << (i & 63) }
func (b *bitset) clear(i int) { b[i>>6] &^= 1 << (i & 63) }

func (b *bitset) has(i int) bool { return b[i>>6]&(1<<(i&63)) != 0 }

func (b *bitset) setAll(offsets []int) {
	for _, i := range offsets {
		b.set(i)
	}
}

// and leaves what o has too, and reports whether that is anything.
func (b *bitset) and(o *bitset) bool {
	var some uint64
	for i := range b {
		b[i] &= o[i]
		some |= b[i]
	}
	return some != 0
}

func (b *bitset) andNot(o *bitset) {
	for i := range b {
		b[i] &^= o[i]
	}
}

func (b *bitset) count() (n int) {
	for _, w := range b {
		n += mathbits.OnesCount64(w)
	}
	return n
}

// offsets returns the members, ascending.
func (b *bitset) offsets() []int {
	out := make([]int, 0, b.count())
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			out = append(out, i<<6+mathbits.TrailingZeros64(w))
		}
	}
	return out
}

// add sets what an encoded set has.
func (b *bitset) add(raw []byte) error {
	switch {
	case len(raw) == setBytes:
		for i := range b {
			b[i] |= binary.BigEndian.Uint64(raw[8*i:])
		}
	case len(raw)%2 == 0 && len(raw) <= 2*listMax:
		for i := 0; i < len(raw); i += 2 {
			at := int(binary.BigEndian.Uint16(raw[i:]))
			if at >= blockSize {
				return errs.New(errs.Internal, "a set names document %d of a block of %d", at, blockSize)
			}
			b.set(at)
		}
	default:
		return errs.New(errs.Internal, "a set of documents has %d bytes", len(raw))
	}
	return nil
}

// encode is the shortest form of the set.
func (b *bitset) encode() []byte {
	if n := b.count(); n <= listMax {
		return encodeList(b.offsets())
	}
	out := make([]byte, setBytes)
	for i, w := range b {
		binary.BigEndian.PutUint64(out[8*i:], w)
	}
	return out
}

// encodeList is the form of a set of few.
func encodeList(offsets []int) []byte {
	out := make([]byte, 0, 2*len(offsets))
	for _, at := range offsets {
		out = binary.BigEndian.AppendUint16(out, uint16(at))
	}
	return out
}

// encodeTimes is how the times of a block are kept.
func encodeTimes(times []int64) []byte {
	out := make([]byte, 0, 8*len(times))
	for _, t := range times {
		out = binary.BigEndian.AppendUint64(out, uint64(t))
	}
	return out
}
