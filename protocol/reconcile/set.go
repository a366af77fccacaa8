package reconcile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Point is an item, or a bound between items.
type Point struct {
	At   int64            // Microseconds.
	Hash message.ItemHash // "" comes before every item of the time.
}

// Start comes before all items, End after them.
func Start() Point { return Point{At: math.MinInt64} }

// End comes after all items.
func End() Point { return Point{At: math.MaxInt64} }

// Compare orders points.
func (p Point) Compare(o Point) int {
	return cmp.Or(cmp.Compare(p.At, o.At), strings.Compare(string(p.Hash), string(o.Hash)))
}

// after ends the hash of a bound that comes right after an item. No hash has the
// character, and each character of hashes comes after it.
const after = "!"

// After is the bound between an item and the next.
func (p Point) After() Point { return Point{p.At, p.Hash + after} }

// Between is the least to write of the bounds that come after one item and not after the next.
func Between(last, next Point) Point {
	if last.At < next.At {
		return Point{At: next.At}
	}
	return next
}

// Range has the items from From on and before To.
type Range struct{ From, To Point }

// All is the range of all items.
func All() Range { return Range{Start(), End()} }

// Sum is what a fingerprint is made of: the number of items, and the sum of the sha256
// of their hashes as numbers of 256 bits, in which the times do not count. Sums of
// ranges that share no item can be added, so that they are kept and not computed anew.
type Sum struct {
	N     int64
	words [4]uint64 // The lowest first.
}

// SumBytes is the length of the written digest of a Sum.
const SumBytes = sha256.Size

// Of is the sum of one item.
func Of(hash message.ItemHash) Sum {
	digest := sha256.Sum256([]byte(hash))
	return sumFrom(1, digest[:])
}

// ReadSum reads a sum of so many items from its Digest.
func ReadSum(n int64, digest []byte) (Sum, error) {
	if len(digest) != SumBytes || n < 0 {
		return Sum{}, fmt.Errorf("sum of %d items has %d bytes, want %d", n, len(digest), SumBytes)
	}
	return sumFrom(n, digest), nil
}

func sumFrom(n int64, digest []byte) Sum {
	s := Sum{N: n}
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint64(digest[8*(len(s.words)-1-i):])
	}
	return s
}

// Digest is the sum of the items' digests, the highest byte first.
func (s Sum) Digest() []byte {
	out := make([]byte, 0, SumBytes)
	for i := len(s.words) - 1; i >= 0; i-- {
		out = binary.BigEndian.AppendUint64(out, s.words[i])
	}
	return out
}

// Add puts in the items of another sum.
func (s *Sum) Add(o Sum) {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], o.words[i], carry)
	}
	s.N += o.N
}

// Sub takes out the items of another sum.
func (s *Sum) Sub(o Sum) {
	var borrow uint64
	for i := range s.words {
		s.words[i], borrow = bits.Sub64(s.words[i], o.words[i], borrow)
	}
	s.N -= o.N
}

// Print is a fingerprint of a range.
type Print [16]byte

// Print returns the fingerprint: the first bytes of the sha256 of the number of items,
// in eight bytes, and the Digest.
func (s Sum) Print() Print {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(s.N)), s.Digest()...))
	return Print(sum[:])
}

// Set is what a node has, as far as asking needs it.
type Set interface {
	// Sums returns the sum of the items between each of the bounds and the next. Bounds
	// are in order.
	Sums(bounds []Point) ([]Sum, error)
	// List returns the first items of a range in their order, up to limit.
	List(r Range, limit int) ([]Point, error)
}

// Source is a set that can answer.
type Source interface {
	Set
	// Parts cuts a range into 2 to limit parts of about equally many items; into fewer if it has
	// too few for that.
	Parts(r Range, limit int) ([]Part, error)
}

// Part is a part of a range: what of it comes before To and is in no part before.
type Part struct {
	To  Point
	Sum Sum
}
