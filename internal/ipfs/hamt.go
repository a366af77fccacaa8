package ipfs

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/spaolacci/murmur3"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// shardBits is how many bits of a name's hash one level of shards takes.
const shardBits = 8

// shardLevels is after how many levels a name's hash is used up.
const shardLevels = 64 / shardBits

// hashed is an entry with the hash that says where in the shards it is.
type hashed struct {
	hash uint64
	link link
}

// slotOf returns the slot of a hash at a level: its bits from the top.
func slotOf(hash uint64, level int) int {
	return int(hash >> (64 - shardBits*(level+1)) & (shardFanout - 1))
}

// shard builds a directory of shards and returns the topmost.
func (b *folderWriter) shard(links []link) (piece, error) {
	all := make([]hashed, len(links))
	for i, l := range links {
		all[i] = hashed{hash: murmur3.Sum64([]byte(l.name)), link: l}
	}
	slices.SortFunc(all, func(x, y hashed) int { return cmp.Compare(x.hash, y.hash) })
	return b.shardAt(all, 0)
}

// shardAt builds the shard of entries that have the same slots in all levels
// above. They are sorted by hash, so those of one slot are neighbours.
func (b *folderWriter) shardAt(all []hashed, level int) (piece, error) {
	if level == shardLevels {
		return piece{}, errs.New(errs.Invalid, "names %.80q and %.80q have the same hash, which no IPFS directory of this size can hold: rename one",
			all[0].link.name, all[1].link.name)
	}
	var links []link
	var bits [shardFanout / 8]byte
	for len(all) > 0 {
		slot := slotOf(all[0].hash, level)
		n := 1
		for n < len(all) && slotOf(all[n].hash, level) == slot {
			n++
		}
		l, err := b.slot(all[:n], slot, level)
		if err != nil {
			return piece{}, err
		}
		links = append(links, l)
		bits[len(bits)-1-slot/8] |= 1 << (slot % 8)
		all = all[n:]
	}
	return b.store(encodeShard(links, bits[:]), links)
}

// slot returns the link of a slot: the entry if it is alone, else a shard.
func (b *folderWriter) slot(all []hashed, slot, level int) (link, error) {
	prefix := fmt.Sprintf("%02X", slot)
	if len(all) == 1 {
		l := all[0].link
		l.name = prefix + l.name
		return l, nil
	}
	child, err := b.shardAt(all, level+1)
	return child.link(prefix), err
}

// encodeShard encodes a shard with its bitfield.
func encodeShard(links []link, bits []byte) []byte {
	for len(bits) > 0 && bits[0] == 0 {
		bits = bits[1:]
	}
	data := appendUint(nil, ufType, uint64(KindShard))
	data = appendBytes(data, ufData, bits)
	data = appendUint(data, ufHashType, shardHash)
	data = appendUint(data, ufFanout, shardFanout)
	return encodeNode(links, data)
}

// folderWriter makes the nodes of directories.
type folderWriter struct {
	version Version
	put     func(d digest, block []byte) error
}

// folder makes a directory of the links, which are sorted by name.
func (b *folderWriter) folder(links []link) (piece, error) {
	estimate := 0
	for _, l := range links {
		estimate += len(l.name) + b.version.cidLen()
	}
	if estimate >= shardAt {
		return b.shard(links)
	}
	return b.store(encodeDirectory(links), links)
}

// store keeps a node of a directory.
func (b *folderWriter) store(block []byte, links []link) (piece, error) {
	if len(block) > blockMax {
		return piece{}, errs.New(errs.Invalid, "a directory's node has %d bytes, want at most %d", len(block), blockMax)
	}
	d := digest(sha256.Sum256(block))
	p := piece{cid: b.version.node(d), cumulative: int64(len(block))}
	for _, l := range links {
		p.cumulative += l.size
	}
	return p, b.put(d, block)
}
