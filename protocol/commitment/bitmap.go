package commitment

import (
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Bounds of a bitmap of nodes.
const (
	wordSize  = 32
	wordNodes = 8 * wordSize
	partSize  = 8 * wordSize // what is shown of a bitmap
	partNodes = 8 * partSize
	PartsMax  = 128 // of a bitmap
)

// Bitmap says which nodes have proven everything for a day: bit i of the
// 32-byte big-endian word w is the node 256*w+i.
type Bitmap []byte

// NewBitmap returns a bitmap with the bits of these nodes.
func NewBitmap(nodes []uint32) (Bitmap, error) {
	var highest uint32
	for _, n := range nodes {
		highest = max(highest, n)
	}
	parts := int(highest/partNodes) + 1
	if parts > PartsMax {
		return nil, fmt.Errorf("bitmap: node %d is beyond %d parts", highest, PartsMax)
	}
	b := make(Bitmap, parts*partSize)
	for _, n := range nodes {
		w, bit := int(n/wordNodes), int(n%wordNodes)
		b[w*wordSize+wordSize-1-bit/8] |= 1 << (bit % 8)
	}
	return b, nil
}

// Has returns whether a node's bit is set.
func (b Bitmap) Has(node uint32) bool {
	w, bit := int(node/wordNodes), int(node%wordNodes)
	i := w*wordSize + wordSize - 1 - bit/8
	return i < len(b) && b[i]>>(bit%8)&1 == 1
}

// Check checks that the bitmap is whole parts, 1 to PartsMax.
func (b Bitmap) Check() error {
	if len(b) == 0 || len(b)%partSize != 0 || len(b) > PartsMax*partSize {
		return fmt.Errorf("bitmap has %d bytes, want 1 to %d parts of %d", len(b), PartsMax, partSize)
	}
	return nil
}

// Root returns the root of the tree over the parts.
func (b Bitmap) Root() (Hash, error) {
	root, _, err := b.climb(0)
	return root, err
}

// Part returns the 256 bytes with a node's bit and their siblings from the
// bottom. A node beyond the bitmap has no part, and needs none.
func (b Bitmap) Part(node uint32) (part []byte, path []Hash, err error) {
	i := int(node / partNodes)
	if (i+1)*partSize > len(b) {
		return nil, nil, nil
	}
	_, path, err = b.climb(i)
	return b[i*partSize : (i+1)*partSize], path, err
}

func (b Bitmap) climb(index int) (root Hash, path []Hash, err error) {
	if err := b.Check(); err != nil {
		return Hash{}, nil, err
	}
	row := make([]Hash, len(b)/partSize)
	for i := range row {
		row[i] = crypto.Keccak256Hash(common.LeftPadBytes(binary.BigEndian.AppendUint64(nil, uint64(i)), 32), b[i*partSize:(i+1)*partSize])
	}
	for ; len(row) > 1; index /= 2 {
		if len(row)%2 == 1 {
			row = append(row, Hash{})
		}
		path = append(path, row[index^1])
		next := make([]Hash, len(row)/2)
		for i := range next {
			next[i] = nodeHash(row[2*i], row[2*i+1])
		}
		row = next
	}
	return row[0], path, nil
}
