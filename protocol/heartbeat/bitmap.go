package heartbeat

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// BitmapMax is the size of the longest bitmap, in bytes.
const BitmapMax = 16_384

// Bitmap says which nodes were alive: bit i, from the low end of byte i / 8, is
// node i. Of a node that it does not reach to it says nothing.
type Bitmap []byte

// NewBitmap returns a bitmap that reaches to the node with the id highest, with
// the bits of these nodes.
func NewBitmap(highest uint32, alive []uint32) (Bitmap, error) {
	size := int(highest/8) + 1
	if size > BitmapMax {
		return nil, fmt.Errorf("bitmap: node %d is beyond %d bytes", highest, BitmapMax)
	}
	b := make(Bitmap, size)
	for _, id := range alive {
		if id == 0 || id > highest {
			return nil, fmt.Errorf("bitmap: node %d is none of 1 to %d", id, highest)
		}
		b[id/8] |= 1 << (id % 8)
	}
	return b, nil
}

// ParseBitmap checks a bitmap of somebody else.
func ParseBitmap(raw []byte) (Bitmap, error) {
	if len(raw) == 0 || len(raw) > BitmapMax {
		return nil, fmt.Errorf("bitmap has %d bytes, want 1 to %d", len(raw), BitmapMax)
	}
	if raw[0]&1 != 0 {
		return nil, fmt.Errorf("bitmap: there is no node 0")
	}
	return Bitmap(raw), nil
}

// Covers tells whether the bitmap reaches to the node.
func (b Bitmap) Covers(id uint32) bool { return int(id/8) < len(b) }

// Alive tells whether the node was alive.
func (b Bitmap) Alive(id uint32) bool { return b.Covers(id) && b[id/8]&(1<<(id%8)) != 0 }

// Missed tells whether the bitmap says that the node was not alive.
func (b Bitmap) Missed(id uint32) bool { return b.Covers(id) && !b.Alive(id) }

// Nodes returns the nodes that were alive, ascending.
func (b Bitmap) Nodes() []uint32 {
	var ids []uint32
	for id := range uint32(len(b)) * 8 {
		if b.Alive(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Hash returns what the coordinators sign of the bitmap.
func (b Bitmap) Hash() common.Hash { return crypto.Keccak256Hash(b) }
