package heartbeat

import (
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
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

// PageSize is the size of a page of a bitmap, in bytes; the last may be shorter.
const PageSize = 512

// Hash returns what the coordinators sign of the bitmap: the Keccak-256 of the
// Keccak-256 hashes of its pages.
func (b Bitmap) Hash() common.Hash { return hashPages(b.hashes()) }

func (b Bitmap) hashes() []common.Hash {
	var all []common.Hash
	for page := range slices.Chunk(b, PageSize) {
		all = append(all, crypto.Keccak256Hash(page))
	}
	return all
}

// Page is what shows the bit of one node, so that nobody has to send the whole
// bitmap for it: the page that the node is on and the hashes of all pages.
type Page struct {
	Bits   hexutil.Bytes `json:"bits"`
	Hashes []common.Hash `json:"hashes"`
}

// Page returns the page that the node is on. Of a node that the bitmap does not
// reach to there may be none; then it has no bits.
func (b Bitmap) Page(id uint32) Page {
	p := Page{Hashes: b.hashes()}
	if from := int(id/8) / PageSize * PageSize; from < len(b) {
		p.Bits = hexutil.Bytes(b[from:min(from+PageSize, len(b))])
	}
	return p
}

// Look returns the hash of the bitmap that the page is of, whether it tells of
// the node, and whether the node was alive. A page of other bits than its hash
// is of no bitmap.
func (p Page) Look(id uint32) (bitmap common.Hash, told, alive bool, err error) {
	bitmap = hashPages(p.Hashes)
	at, place := int(id/8)/PageSize, int(id/8)%PageSize
	if at >= len(p.Hashes) {
		return bitmap, false, false, nil
	}
	if crypto.Keccak256Hash(p.Bits) != p.Hashes[at] {
		return common.Hash{}, false, false, fmt.Errorf("page %d has other bits than its hash", at)
	}
	told = place < len(p.Bits)
	return bitmap, told, told && p.Bits[place]&(1<<(id%8)) != 0, nil
}

func hashPages(hashes []common.Hash) common.Hash {
	raw := make([]byte, 0, len(hashes)*common.HashLength)
	for _, h := range hashes {
		raw = append(raw, h[:]...)
	}
	return crypto.Keccak256Hash(raw)
}
