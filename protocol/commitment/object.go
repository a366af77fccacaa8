package commitment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Bounds of an object's tree.
const (
	LeafSize  = 256     // bytes of a leaf
	LeavesMax = 1 << 40 // of an object: 256 TiB
	depthMax  = 40      // of LeavesMax
)

// Hash is a node of a tree.
type Hash = common.Hash

// ID names a commitment: 4 bytes of the node's id and 12 bytes that are zero
// for the node's bundle.
type ID [16]byte

// BundleID returns the id of a node's bundle.
func BundleID(nodeID uint32) (id ID) {
	binary.BigEndian.PutUint32(id[:], nodeID)
	return id
}

// NodeID returns the node that committed.
func (id ID) NodeID() uint32 { return binary.BigEndian.Uint32(id[:]) }

// Leaves returns how many leaves so many bytes make.
func Leaves(sizeBytes uint64) uint64 {
	n := sizeBytes / LeafSize
	if sizeBytes%LeafSize != 0 {
		n++
	}
	return n
}

// Depth returns the steps from a leaf to the root: ceil(log2(leaves)).
func Depth(leaves uint64) int {
	if leaves < 2 {
		return 0
	}
	return bits.Len64(leaves - 1)
}

// ObjectProofSize returns the bytes of a proof of one leaf.
func ObjectProofSize(leaves uint64) int { return LeafSize + len(Hash{})*Depth(leaves) }

// Index returns which of count leaves challenge j of a seed asks for.
func Index(seed Seed, id ID, j int, count uint64) uint64 {
	var number [16]byte
	binary.BigEndian.PutUint64(number[8:], uint64(j))
	sum := new(big.Int).SetBytes(crypto.Keccak256(seed[:], id[:], number[:]))
	return sum.Mod(sum, new(big.Int).SetUint64(count)).Uint64()
}

func leafHash(leaf []byte) Hash {
	var whole [LeafSize]byte
	copy(whole[:], leaf)
	return sha256.Sum256(whole[:])
}

func nodeHash(left, right Hash) Hash { return crypto.Keccak256Hash(left[:], right[:]) }

// missing returns the root of a subtree of this depth in which nothing is: no
// leaf hashes to zero, so nothing can be proven of it.
func missing(depth int) (z Hash) {
	for range depth {
		z = nodeHash(z, z)
	}
	return z
}

// Builder computes an object's root from its bytes as they come, in constant
// memory. The zero value is ready.
type Builder struct {
	size    uint64
	partial []byte             // of the leaf that is not whole
	full    [depthMax + 1]Hash // at level l: the left subtree that waits for its right one, when bit l of the count of leaves is set
}

// Write takes the next bytes. It fails when they are more than an object may
// have.
func (b *Builder) Write(p []byte) (int, error) {
	if b.size+uint64(len(p)) > LeavesMax*LeafSize {
		return 0, fmt.Errorf("object: more than %d bytes", uint64(LeavesMax*LeafSize))
	}
	n := len(p)
	if len(b.partial) > 0 {
		take := min(LeafSize-len(b.partial), len(p))
		b.partial = append(b.partial, p[:take]...)
		p = p[take:]
		b.size += uint64(take)
		if len(b.partial) < LeafSize {
			return n, nil
		}
		b.add(b.partial)
		b.partial = b.partial[:0]
	}
	for ; len(p) >= LeafSize; p = p[LeafSize:] {
		b.size += LeafSize
		b.add(p[:LeafSize])
	}
	b.partial = append(b.partial, p...)
	b.size += uint64(len(p))
	return n, nil
}

// add puts a whole leaf, the last one of b.size bytes, into the tree.
func (b *Builder) add(leaf []byte) {
	node := leafHash(leaf)
	index := b.size/LeafSize - 1
	level := 0
	for ; index>>level&1 == 1; level++ {
		node = nodeHash(b.full[level], node)
	}
	b.full[level] = node
}

// Size returns the bytes written so far.
func (b *Builder) Size() uint64 { return b.size }

// Root returns the root of the bytes written so far. There must be some.
func (b *Builder) Root() (Hash, error) {
	if b.size == 0 {
		return Hash{}, fmt.Errorf("object: no bytes")
	}
	whole := *b
	if len(b.partial) > 0 {
		whole.size += LeafSize - uint64(len(b.partial))
		whole.add(b.partial)
	}
	leaves := whole.size / LeafSize
	depth := Depth(leaves)
	if leaves == 1<<depth {
		return whole.full[depth], nil
	}
	// From the bottom: what waits on the left joins what is missing, or is
	// there already, on the right.
	var node Hash
	started := false
	for level := range depth {
		switch waits := leaves>>level&1 == 1; {
		case waits && started:
			node = nodeHash(whole.full[level], node)
		case waits:
			node, started = nodeHash(whole.full[level], missing(level)), true
		case started:
			node = nodeHash(node, missing(level))
		}
	}
	return node, nil
}

// ObjectRoot returns the root of an object.
func ObjectRoot(object []byte) (Hash, error) {
	var b Builder
	if _, err := b.Write(object); err != nil {
		return Hash{}, err
	}
	return b.Root()
}

// Tree is an object's tree with all its nodes, for proofs of objects that fit
// memory.
type Tree struct {
	object []byte
	levels [][]Hash // from the leaves up; what is missing on the right is left out
}

// NewTree builds the tree of an object. It keeps the object.
func NewTree(object []byte) (*Tree, error) {
	if len(object) == 0 {
		return nil, fmt.Errorf("object: no bytes")
	}
	leaves := Leaves(uint64(len(object)))
	row := make([]Hash, leaves)
	for i := range row {
		row[i] = leafHash(object[i*LeafSize : min((i+1)*LeafSize, len(object))])
	}
	t := &Tree{object: object, levels: [][]Hash{row}}
	for level := range Depth(leaves) {
		next := make([]Hash, (len(row)+1)/2)
		for i := range next {
			right := missing(level)
			if 2*i+1 < len(row) {
				right = row[2*i+1]
			}
			next[i] = nodeHash(row[2*i], right)
		}
		t.levels = append(t.levels, next)
		row = next
	}
	return t, nil
}

// Root returns the root.
func (t *Tree) Root() Hash { return t.levels[len(t.levels)-1][0] }

// Leaves returns how many leaves there are.
func (t *Tree) Leaves() uint64 { return uint64(len(t.levels[0])) }

// Prove returns the proof of one leaf: its bytes, then the siblings from the
// bottom.
func (t *Tree) Prove(index uint64) ([]byte, error) {
	if index >= t.Leaves() {
		return nil, fmt.Errorf("leaf %d of %d", index, t.Leaves())
	}
	proof := make([]byte, LeafSize, ObjectProofSize(t.Leaves()))
	start := index * LeafSize
	copy(proof, t.object[start:min(start+LeafSize, uint64(len(t.object)))])
	for level, row := range t.levels[:len(t.levels)-1] {
		sibling := missing(level)
		if i := index>>level ^ 1; i < uint64(len(row)) {
			sibling = row[i]
		}
		proof = append(proof, sibling[:]...)
	}
	return proof, nil
}

// ProveObject answers k challenges of a seed to the commitment of an object.
func (t *Tree) ProveObject(seed Seed, id ID, k int) ([]byte, error) {
	var proofs []byte
	for j := range k {
		p, err := t.Prove(Index(seed, id, j, t.Leaves()))
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, p...)
	}
	return proofs, nil
}

// climb returns the root that the proof of a leaf leads to.
func climb(proof []byte, index uint64) Hash {
	node := leafHash(proof[:LeafSize])
	for siblings := proof[LeafSize:]; len(siblings) > 0; siblings = siblings[len(node):] {
		sibling := Hash(siblings[:len(node)])
		if index&1 == 1 {
			node = nodeHash(sibling, node)
		} else {
			node = nodeHash(node, sibling)
		}
		index >>= 1
	}
	return node
}

// VerifyLeaf checks the proof of one leaf.
func VerifyLeaf(proof []byte, root Hash, leaves, index uint64) error {
	if err := checkLeaves(leaves); err != nil {
		return err
	}
	if want := ObjectProofSize(leaves); len(proof) != want {
		return fmt.Errorf("proof has %d bytes, want %d", len(proof), want)
	}
	if index >= leaves {
		return fmt.Errorf("leaf %d of %d", index, leaves)
	}
	if got := climb(proof, index); got != root {
		return fmt.Errorf("proof of leaf %d leads to %s, want %s", index, got, root)
	}
	return nil
}

// VerifyObject checks the proofs of k challenges of a seed to an object.
func VerifyObject(proofs []byte, root Hash, leaves uint64, seed Seed, id ID, k int) error {
	if err := checkLeaves(leaves); err != nil {
		return err
	}
	size := ObjectProofSize(leaves)
	if len(proofs) != k*size {
		return fmt.Errorf("proofs have %d bytes, want %d", len(proofs), k*size)
	}
	for j := range k {
		if err := VerifyLeaf(proofs[j*size:(j+1)*size], root, leaves, Index(seed, id, j, leaves)); err != nil {
			return fmt.Errorf("challenge %d: %w", j, err)
		}
	}
	return nil
}

func checkLeaves(leaves uint64) error {
	if leaves == 0 || leaves > LeavesMax {
		return fmt.Errorf("object has %d leaves, want 1 to %d", leaves, uint64(LeavesMax))
	}
	return nil
}
