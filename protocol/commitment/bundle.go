package commitment

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Bounds and sizes of bundles.
const (
	SumDepthMax = 32         // steps in a bundle: four billion objects
	TotalMax    = 1<<63 - 1  // leaves of a bundle; sums cannot overflow
	headSize    = 1 + 1 + 16 // depths, leaves of the object, bits of the path
	siblingSize = 32 + 8     // hash and sum
	tebileaves  = 1 << 32    // leaves of a TiB
)

// Binding ties a bundle's root to its number of leaves: the first 30 bytes of
// their hash.
type Binding [30]byte

// Bind returns the binding that the contract keeps.
func Bind(root Hash, total uint64) Binding {
	sum := crypto.Keccak256(root[:], common.LeftPadBytes(binary.BigEndian.AppendUint64(nil, total), 32))
	return Binding(sum[:30])
}

// BundleChallenges returns how many leaves a bundle is asked for each day:
// five for each started 10 TiB, so that what is added to a bundle never makes
// it less likely that a given leaf is asked for.
func BundleChallenges(total uint64) int {
	const each, per = 5, 10 * tebileaves
	return int(max(1, (total-1)/per+1)) * each
}

// Object is an object of a bundle.
type Object struct {
	Root   Hash
	Leaves uint64
}

func (o Object) leaf() node {
	return node{crypto.Keccak256Hash([]byte{2}, o.Root[:], binary.BigEndian.AppendUint64(nil, o.Leaves)), o.Leaves}
}

// node is a node of a bundle's tree; the zero value is a missing object.
type node struct {
	hash Hash
	sum  uint64
}

func (n node) bytes() []byte { return binary.BigEndian.AppendUint64(n.hash.Bytes(), n.sum) }

func join(left, right node) node {
	return node{crypto.Keccak256Hash(left.bytes(), right.bytes()), left.sum + right.sum}
}

// Bundle is the Merkle-sum tree of a node's objects.
type Bundle struct {
	objects []Object
	ends    []uint64 // for each object: the number of leaves up to its end
	levels  [][]node // from the objects up; missing objects are left out
}

// NewBundle builds the tree of a node's objects, in their order.
func NewBundle(objects []Object) (*Bundle, error) {
	if len(objects) == 0 || uint64(len(objects)) > 1<<SumDepthMax {
		return nil, fmt.Errorf("bundle has %d objects, want 1 to %d", len(objects), uint64(1)<<SumDepthMax)
	}
	b := &Bundle{objects: slices.Clone(objects)}
	row := make([]node, len(objects))
	total := uint64(0)
	for i, o := range objects {
		if err := checkLeaves(o.Leaves); err != nil {
			return nil, err
		}
		if total += o.Leaves; total > TotalMax {
			return nil, fmt.Errorf("bundle has more than %d leaves", uint64(TotalMax))
		}
		row[i] = o.leaf()
		b.ends = append(b.ends, total)
	}
	b.levels = [][]node{row}
	empty := node{}
	for len(row) > 1 {
		next := make([]node, (len(row)+1)/2)
		for i := range next {
			right := empty
			if 2*i+1 < len(row) {
				right = row[2*i+1]
			}
			next[i] = join(row[2*i], right)
		}
		b.levels = append(b.levels, next)
		row, empty = next, join(empty, empty)
	}
	return b, nil
}

func (b *Bundle) top() node { return b.levels[len(b.levels)-1][0] }

// Root returns the root.
func (b *Bundle) Root() Hash { return b.top().hash }

// Total returns the number of leaves.
func (b *Bundle) Total() uint64 { return b.top().sum }

// Find returns which object leaf t of the bundle is in, and which of the
// object's leaves it is.
func (b *Bundle) Find(t uint64) (object int, leaf uint64) {
	object = sort.Search(len(b.ends), func(i int) bool { return t < b.ends[i] })
	if object == len(b.ends) {
		return -1, 0
	}
	return object, t - (b.ends[object] - b.objects[object].Leaves)
}

// Path shows that an object is in the bundle: the head and the siblings from
// the bottom.
func (b *Bundle) Path(object int) ([]byte, error) {
	if object < 0 || object >= len(b.objects) {
		return nil, fmt.Errorf("object %d of %d", object, len(b.objects))
	}
	o := b.objects[object]
	path := []byte{byte(len(b.levels) - 1), byte(Depth(o.Leaves))}
	path = binary.BigEndian.AppendUint64(path, o.Leaves)
	path = binary.BigEndian.AppendUint64(path, uint64(object))
	empty, index := node{}, object
	for _, row := range b.levels[:len(b.levels)-1] {
		sibling := empty
		if i := index ^ 1; i < len(row) {
			sibling = row[i]
		}
		path = append(path, sibling.bytes()...)
		index, empty = index>>1, join(empty, empty)
	}
	return path, nil
}

// ProveBundle answers k challenges of a seed to a node's bundle; leaf returns
// the proof of one leaf of an object.
func (b *Bundle) ProveBundle(seed Seed, id ID, k int, leaf func(object int, index uint64) ([]byte, error)) ([]byte, error) {
	var proofs []byte
	for j := range k {
		object, index := b.Find(Index(seed, id, j, b.Total()))
		path, err := b.Path(object)
		if err != nil {
			return nil, err
		}
		inner, err := leaf(object, index)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", object, err)
		}
		proofs = append(append(proofs, path...), inner...)
	}
	return proofs, nil
}

// path is a parsed head and its siblings.
type path struct {
	leaves   uint64 // of the object
	bits     uint64 // bit i: step i from the bottom comes from the right
	siblings []node
}

// parsePath reads a path and returns what follows it. Nothing in it is free:
// every path has one spelling.
func parsePath(raw []byte) (p path, rest []byte, err error) {
	if len(raw) < headSize {
		return p, nil, fmt.Errorf("path has %d bytes, want %d at least", len(raw), headSize)
	}
	depth, objectDepth := int(raw[0]), int(raw[1])
	p.leaves, p.bits = binary.BigEndian.Uint64(raw[2:]), binary.BigEndian.Uint64(raw[10:])
	raw = raw[headSize:]
	if err := checkLeaves(p.leaves); err != nil {
		return p, nil, err
	}
	switch {
	case depth > SumDepthMax:
		return p, nil, fmt.Errorf("path has depth %d, want %d at most", depth, SumDepthMax)
	case p.bits>>depth != 0:
		return p, nil, fmt.Errorf("path of depth %d has bits %#x", depth, p.bits)
	case objectDepth != Depth(p.leaves):
		return p, nil, fmt.Errorf("object of %d leaves has depth %d, want %d", p.leaves, objectDepth, Depth(p.leaves))
	case len(raw) < depth*siblingSize:
		return p, nil, fmt.Errorf("path of depth %d has %d bytes of siblings", depth, len(raw))
	}
	for range depth {
		p.siblings = append(p.siblings, node{Hash(raw[:32]), binary.BigEndian.Uint64(raw[32:])})
		raw = raw[siblingSize:]
	}
	return p, raw, nil
}

// climb returns the root that the object leads to, with the number of leaves
// on its left; false when the sums do not make total.
func (p path) climb(object Hash, total uint64) (root Hash, ok bool) {
	here := Object{object, p.leaves}.leaf()
	for i, sibling := range p.siblings {
		if sibling.sum > total || here.sum > total-sibling.sum {
			return Hash{}, false
		}
		if p.bits>>i&1 == 1 {
			here = join(sibling, here)
		} else {
			here = join(here, sibling)
		}
	}
	return here.hash, here.sum == total
}

// before returns how many leaves are left of the object; false when they are
// more than total.
func (p path) before(total uint64) (sum uint64, ok bool) {
	for i, sibling := range p.siblings {
		if p.bits>>i&1 == 0 {
			continue
		}
		if sibling.sum > total-sum {
			return 0, false
		}
		sum += sibling.sum
	}
	return sum, true
}

// VerifyBundle checks the proofs of k challenges of a seed to a bundle.
func VerifyBundle(proofs []byte, binding Binding, total uint64, seed Seed, id ID, k int) error {
	if total == 0 || total > TotalMax {
		return fmt.Errorf("bundle has %d leaves, want 1 to %d", total, uint64(TotalMax))
	}
	for j := range k {
		rest, err := verifyOne(proofs, binding, total, Index(seed, id, j, total))
		if err != nil {
			return fmt.Errorf("challenge %d: %w", j, err)
		}
		proofs = rest
	}
	if len(proofs) != 0 {
		return fmt.Errorf("%d bytes after the last proof", len(proofs))
	}
	return nil
}

func verifyOne(proofs []byte, binding Binding, total, t uint64) (rest []byte, err error) {
	p, rest, err := parsePath(proofs)
	if err != nil {
		return nil, err
	}
	size := ObjectProofSize(p.leaves)
	if len(rest) < size {
		return nil, fmt.Errorf("proof has %d bytes, want %d", len(rest), size)
	}
	before, ok := p.before(total)
	if !ok || t < before || t-before >= p.leaves {
		return nil, fmt.Errorf("leaf %d is not in the object", t)
	}
	root, ok := p.climb(climb(rest[:size], t-before), total)
	if !ok || Bind(root, total) != binding {
		return nil, fmt.Errorf("proof of leaf %d does not lead to the bundle", t)
	}
	return rest[size:], nil
}

// VerifyInclusion checks that an object is in a bundle.
func VerifyInclusion(raw []byte, binding Binding, total uint64, object Object) error {
	p, rest, err := parsePath(raw)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes after the path", len(rest))
	}
	if p.leaves != object.Leaves {
		return fmt.Errorf("path is of an object with %d leaves, want %d", p.leaves, object.Leaves)
	}
	if root, ok := p.climb(object.Root, total); !ok || Bind(root, total) != binding {
		return fmt.Errorf("path does not lead to the bundle")
	}
	return nil
}
