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
	WordsMax  = 1024 // of a bitmap
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
	words := int(highest/wordNodes) + 1
	if words > WordsMax {
		return nil, fmt.Errorf("bitmap: node %d is beyond %d words", highest, WordsMax)
	}
	b := make(Bitmap, words*wordSize)
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

// Check checks that the bitmap is whole words, 1 to WordsMax.
func (b Bitmap) Check() error {
	if len(b) == 0 || len(b)%wordSize != 0 || len(b) > WordsMax*wordSize {
		return fmt.Errorf("bitmap has %d bytes, want 1 to %d words of %d", len(b), WordsMax, wordSize)
	}
	return nil
}

// Root returns the root of the tree over the words.
func (b Bitmap) Root() (Hash, error) {
	root, _, err := b.climb(0)
	return root, err
}

// Word returns the word with a node's bit and its siblings from the bottom. A
// node beyond the bitmap has no word, and needs none.
func (b Bitmap) Word(node uint32) (word Hash, path []Hash, err error) {
	w := int(node / wordNodes)
	if (w+1)*wordSize > len(b) {
		return Hash{}, nil, nil
	}
	_, path, err = b.climb(w)
	return Hash(b[w*wordSize : (w+1)*wordSize]), path, err
}

func (b Bitmap) climb(index int) (root Hash, path []Hash, err error) {
	if err := b.Check(); err != nil {
		return Hash{}, nil, err
	}
	row := make([]Hash, len(b)/wordSize)
	for i := range row {
		row[i] = crypto.Keccak256Hash(common.LeftPadBytes(binary.BigEndian.AppendUint64(nil, uint64(i)), 32), b[i*wordSize:(i+1)*wordSize])
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
