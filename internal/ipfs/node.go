package ipfs

import (
	"fmt"

	"github.com/ipfs/go-cid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Kind is what a UnixFS node is. Its values are those on the wire.
type Kind uint64

// The kinds.
const (
	KindRaw       Kind = 0 // part of a file, in old encodings
	KindDirectory Kind = 1
	KindFile      Kind = 2
	KindSymlink   Kind = 4
	KindShard     Kind = 5 // part of a directory that is too large for one block
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	switch k {
	case KindRaw, KindFile:
		return "file"
	case KindDirectory, KindShard:
		return "directory"
	case KindSymlink:
		return "symlink"
	default:
		return fmt.Sprintf("unixfs type %d", uint64(k))
	}
}

// isFile and isDirectory group the kinds by what one can do with them.
func (k Kind) isFile() bool      { return k == KindFile || k == KindRaw }
func (k Kind) isDirectory() bool { return k == KindDirectory || k == KindShard }

// link names a child.
type link struct {
	cid  cid.Cid
	name string
	size int64 // bytes of all blocks below and with it, as its maker says
}

// node is a decoded dag-pb block with its UnixFS data.
type node struct {
	kind  Kind
	data  []byte  // bytes of the file that lie in this node; a shard's bitfield; a symlink's target
	size  int64   // bytes of the file, children included
	sizes []int64 // bytes of the file in each child
	links []link

	hashType, fanout uint64 // of a shard
}

// Numbers of fields: dag-pb's PBNode and PBLink, and UnixFS's Data.
const (
	pbData, pbLinks               = 1, 2
	linkHash, linkName, linkTsize = 1, 2, 3

	ufType, ufData, ufSize, ufSizes, ufHashType, ufFanout = 1, 2, 3, 4, 5, 6
)

const (
	// shardHash is multicodec's number of murmur3-x64-64, the only hash of shards.
	shardHash = 0x22
	// shardFanout is how many slots Kubo gives a shard. fanoutMax bounds others'.
	shardFanout = 256
	fanoutMax   = 1024
)

// fields calls fn with each field of a protobuf message. Varints come as v,
// bytes as b; other wire types are refused, since neither format has them.
func fields(msg []byte, fn func(num protowire.Number, v uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, wire, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return fmt.Errorf("read a field's tag: %w", protowire.ParseError(n))
		}
		msg = msg[n:]
		var v uint64
		var b []byte
		switch wire {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
			if b == nil {
				b = []byte{} // Only bytes are never nil, which fn tells them by.
			}
		default:
			return fmt.Errorf("field %d has wire type %d", num, wire)
		}
		if n < 0 {
			return fmt.Errorf("read field %d: %w", num, protowire.ParseError(n))
		}
		msg = msg[n:]
		if err := fn(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

// decodeNode decodes a dag-pb block. The node's bytes are parts of the block.
func decodeNode(block []byte) (*node, error) {
	n := &node{}
	var data []byte
	err := fields(block, func(num protowire.Number, _ uint64, b []byte) error {
		switch {
		case num == pbData && b != nil && data == nil:
			data = b
			return nil
		case num == pbLinks && b != nil:
			if len(n.links) == linksMax {
				return fmt.Errorf("it has more than %d links", linksMax)
			}
			l, err := decodeLink(b)
			n.links = append(n.links, l)
			return err
		default:
			return fmt.Errorf("field %d is unknown, doubled or of a wrong type", num)
		}
	})
	if err == nil && data == nil {
		err = fmt.Errorf("it has no UnixFS data")
	}
	if err == nil {
		err = n.decodeData(data)
	}
	if err == nil {
		err = n.check()
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "block is no UnixFS node: %w", err)
	}
	return n, nil
}

func decodeLink(b []byte) (l link, err error) {
	err = fields(b, func(num protowire.Number, v uint64, b []byte) (err error) {
		switch {
		case num == linkHash && b != nil && !l.cid.Defined():
			l.cid, err = decodeCID(b)
		case num == linkName && b != nil:
			l.name = string(b)
		case num == linkTsize && b == nil:
			l.size, err = sizeOf(v)
		default:
			err = fmt.Errorf("field %d of a link is unknown, doubled or of a wrong type", num)
		}
		return err
	})
	if err == nil && !l.cid.Defined() {
		err = fmt.Errorf("link %.80q names no block", l.name)
	}
	return l, err
}

// sizeOf bounds a size that others claim.
func sizeOf(v uint64) (int64, error) {
	if v > totalMax {
		return 0, fmt.Errorf("size %d is more than %d", v, int64(totalMax))
	}
	return int64(v), nil
}

func (n *node) decodeData(data []byte) error {
	return fields(data, func(num protowire.Number, v uint64, b []byte) (err error) {
		switch {
		case num == ufData && b != nil:
			n.data = b
		case num == ufSizes && b != nil:
			return n.unpackSizes(b)
		case b != nil:
			// Times and modes of UnixFS 1.5, and whatever comes after.
		case num == ufType:
			n.kind = Kind(v)
		case num == ufSize:
			n.size, err = sizeOf(v)
		case num == ufSizes:
			return n.addSize(v)
		case num == ufHashType:
			n.hashType = v
		case num == ufFanout:
			n.fanout = v
		}
		return err
	})
}

func (n *node) addSize(v uint64) error {
	if len(n.sizes) == linksMax {
		return fmt.Errorf("it has more than %d block sizes", linksMax)
	}
	size, err := sizeOf(v)
	n.sizes = append(n.sizes, size)
	return err
}

// unpackSizes reads block sizes in the packed form, which some encoders use.
func (n *node) unpackSizes(b []byte) error {
	for len(b) > 0 {
		v, used := protowire.ConsumeVarint(b)
		if used < 0 {
			return fmt.Errorf("read a block size: %w", protowire.ParseError(used))
		}
		if err := n.addSize(v); err != nil {
			return err
		}
		b = b[used:]
	}
	return nil
}

// check says whether the node's parts fit together, whatever its children are.
func (n *node) check() error {
	if n.total() > totalMax {
		return fmt.Errorf("its links claim more than %d bytes", int64(totalMax))
	}
	switch n.kind {
	case KindFile, KindRaw:
		return n.checkFile()
	case KindShard:
		if n.hashType != shardHash {
			return fmt.Errorf("its hash function is %#x, want %#x", n.hashType, shardHash)
		}
		if n.fanout < 8 || n.fanout > fanoutMax || n.fanout&(n.fanout-1) != 0 {
			return fmt.Errorf("its fan-out is %d, want a power of two from 8 to %d", n.fanout, fanoutMax)
		}
		for _, l := range n.links {
			if len(l.name) < n.slotDigits() {
				return fmt.Errorf("link %.80q of a shard does not begin with its slot", l.name)
			}
		}
		return nil
	case KindDirectory:
		return nil
	case KindSymlink:
		if len(n.links) > 0 || len(n.data) > pathMax {
			return fmt.Errorf("a symlink with %d links to a target of %d bytes, want none and at most %d", len(n.links), len(n.data), pathMax)
		}
		return nil
	default:
		return fmt.Errorf("%s is not supported", n.kind)
	}
}

func (n *node) checkFile() error {
	if len(n.sizes) != len(n.links) {
		return fmt.Errorf("a file with %d children and %d block sizes", len(n.links), len(n.sizes))
	}
	sum := int64(len(n.data))
	for _, size := range n.sizes {
		sum += size
		if sum > fileMax {
			return fmt.Errorf("a file longer than %d bytes", int64(fileMax))
		}
	}
	// A leaf of kind Raw may leave its size out.
	if n.size != sum && (n.size != 0 || len(n.links) > 0) {
		return fmt.Errorf("a file that claims %d bytes and has %d", n.size, sum)
	}
	n.size = sum
	return nil
}

// total returns the bytes of all blocks below the node, as its links say.
func (n *node) total() int64 {
	var sum int64
	for _, l := range n.links {
		sum = min(sum+l.size, totalMax+1) // Each is at most totalMax, so nothing overflows.
	}
	return sum
}

// slotDigits is how many hex digits of a shard's link name its slot.
func (n *node) slotDigits() int { return len(fmt.Sprintf("%X", n.fanout-1)) }

// encodeNode encodes a dag-pb block: links before data, and every field of a
// link written even when it is empty, since the hash depends on each byte.
func encodeNode(links []link, data []byte) []byte {
	out := make([]byte, 0, len(data)+8+len(links)*64)
	for _, l := range links {
		hash := l.cid.Bytes()
		size := protowire.SizeTag(linkHash) + protowire.SizeBytes(len(hash)) +
			protowire.SizeTag(linkName) + protowire.SizeBytes(len(l.name)) +
			protowire.SizeTag(linkTsize) + protowire.SizeVarint(uint64(l.size))
		out = protowire.AppendTag(out, pbLinks, protowire.BytesType)
		out = protowire.AppendVarint(out, uint64(size))
		out = appendBytes(out, linkHash, hash)
		out = protowire.AppendTag(out, linkName, protowire.BytesType)
		out = protowire.AppendString(out, l.name)
		out = appendUint(out, linkTsize, uint64(l.size))
	}
	return appendBytes(out, pbData, data)
}

func appendBytes(out []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), b)
}

func appendUint(out []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, num, protowire.VarintType), v)
}

// encodeFile encodes a node of a file above its leaves.
func encodeFile(links []link, sizes []int64) []byte {
	var sum int64
	for _, size := range sizes {
		sum += size
	}
	data := appendUint(nil, ufType, uint64(KindFile))
	data = appendUint(data, ufSize, uint64(sum))
	for _, size := range sizes {
		data = appendUint(data, ufSizes, uint64(size))
	}
	return encodeNode(links, data)
}

// encodeDirectory encodes a directory that is one block.
func encodeDirectory(links []link) []byte {
	return encodeNode(links, appendUint(nil, ufType, uint64(KindDirectory)))
}

// wrapLeaf returns what stands before and after the bytes of a leaf of version
// 0, which is a node without links. Both follow from the length alone, so no
// leaf is stored in this form.
func wrapLeaf(length int) (before, after []byte) {
	after = appendUint(nil, ufSize, uint64(length))
	head := appendUint(nil, ufType, uint64(KindFile))
	if length > 0 {
		head = protowire.AppendTag(head, ufData, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(length))
	}
	before = protowire.AppendTag(nil, pbData, protowire.BytesType)
	before = protowire.AppendVarint(before, uint64(len(head)+length+len(after)))
	return append(before, head...), after
}
