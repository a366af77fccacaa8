package heartbeat

import (
	"fmt"
	"math/bits"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The deepest tree, and the highest id that has a place in it.
const (
	DepthMax = 20
	NodeMax  = 1<<DepthMax - 1
)

// Tree is the tree of an epoch's leaves.
type Tree struct {
	// rows holds the hashes of each level from the leaves up, without what is
	// to the right of the last leaf.
	rows [][]common.Hash
}

// NewTree returns the tree of these leaves, one for each node at most.
func NewTree(leaves []Leaf) (*Tree, error) {
	var highest uint32
	for i := range leaves {
		if err := leaves[i].Check(); err != nil {
			return nil, err
		}
		highest = max(highest, leaves[i].NodeID)
	}
	if highest == 0 {
		return nil, fmt.Errorf("tree has no leaf")
	}
	row := make([]common.Hash, highest+1)
	for i := range leaves {
		l := &leaves[i]
		if row[l.NodeID] != (common.Hash{}) {
			return nil, fmt.Errorf("tree: node %d has two leaves", l.NodeID)
		}
		row[l.NodeID] = leafHash(l.Encode())
	}
	empty := leafHash([LeafSize]byte{})
	for i, h := range row {
		if h == (common.Hash{}) {
			row[i] = empty
		}
	}
	t := &Tree{rows: [][]common.Hash{row}}
	for range bits.Len32(highest) {
		next := make([]common.Hash, (len(row)+1)/2)
		for i := range next {
			right := empty
			if 2*i+1 < len(row) {
				right = row[2*i+1]
			}
			next[i] = inner(row[2*i], right)
		}
		row, empty = next, inner(empty, empty)
		t.rows = append(t.rows, row)
	}
	return t, nil
}

// Root returns the tree's root.
func (t *Tree) Root() common.Hash { return t.rows[len(t.rows)-1][0] }

// Proof returns the proof of a node's leaf as the contract takes it: the
// siblings from the leaf up, and the hash of the epoch's bitmap.
func (t *Tree) Proof(id uint32, bitmapHash common.Hash) ([]common.Hash, error) {
	if id == 0 || int64(id) >= int64(len(t.rows[0])) {
		return nil, fmt.Errorf("tree has no place for node %d", id)
	}
	proof := make([]common.Hash, 0, len(t.rows))
	empty := leafHash([LeafSize]byte{})
	for level, row := range t.rows[:len(t.rows)-1] {
		sibling := empty
		if i := int(id>>level) ^ 1; i < len(row) {
			sibling = row[i]
		}
		proof = append(proof, sibling)
		empty = inner(empty, empty)
	}
	return append(proof, bitmapHash), nil
}

// Commitment returns what the contract stores of an epoch.
func Commitment(statsRoot, bitmapHash common.Hash) common.Hash { return inner(statsRoot, bitmapHash) }

// Verify tells whether a leaf is under the commitment of an epoch, at the place
// of its node.
func Verify(commitment common.Hash, leaf *Leaf, proof []common.Hash) bool {
	depth := len(proof) - 1
	if leaf.Check() != nil || depth < 0 || depth > DepthMax || leaf.NodeID>>depth != 0 {
		return false
	}
	h := leafHash(leaf.Encode())
	for level, sibling := range proof {
		if leaf.NodeID>>level&1 == 0 {
			h = inner(h, sibling)
		} else {
			h = inner(sibling, h)
		}
	}
	return h == commitment
}

func leafHash(leaf [LeafSize]byte) common.Hash { return crypto.Keccak256Hash(leaf[:]) }

func inner(left, right common.Hash) common.Hash { return crypto.Keccak256Hash(left[:], right[:]) }
