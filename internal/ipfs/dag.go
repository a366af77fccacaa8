package ipfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/spaolacci/murmur3"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// dag reads blocks and what they link to. It keeps the blob open that it read
// last, since neighbours lie in the same. Use Store.dag, then close.
type dag struct {
	s      *Store
	blob   message.ItemHash
	reader BlobReader
}

func (s *Store) dag() *dag { return &dag{s: s} }

func (d *dag) close() error {
	r := d.reader
	d.reader = nil
	if r == nil {
		return nil
	}
	return r.Close()
}

// Has says whether the block is here. Its bytes are not read.
func (s *Store) Has(c cid.Cid) (bool, error) {
	if err := checkInput(c); err != nil {
		return false, err
	}
	if _, ok := inlined(c); ok {
		return true, nil
	}
	copies, err := s.copies(digestOf(c))
	return len(copies) > 0, err
}

// BlockSize returns how many bytes a block has, without reading them, or
// errs.NotFound.
func (s *Store) BlockSize(c cid.Cid) (int, error) {
	if err := checkInput(c); err != nil {
		return 0, err
	}
	if data, ok := inlined(c); ok {
		return len(data), nil
	}
	copies, err := s.copies(digestOf(c))
	if err != nil {
		return 0, err
	}
	if len(copies) == 0 {
		return 0, errs.New(errs.NotFound, "no IPFS block %s", c)
	}
	return copies[0].place.size(), nil
}

// Block returns the bytes of a block, which hash to its CID, or errs.NotFound.
func (s *Store) Block(c cid.Cid) ([]byte, error) {
	d := s.dag()
	defer d.close()
	return d.block(c, nil)
}

// located is a copy of a block.
type located struct {
	pack  packID
	place place
}

// copies returns where a block is, in all packs that are finished.
func (s *Store) copies(name digest) ([]located, error) {
	var out []located
	err := s.scan(blockPrefix(name), func(key, value []byte) (bool, error) {
		id := packAt(key)
		if s.isHidden(id) {
			return true, nil
		}
		at, err := decodePlace(append([]byte(nil), value...))
		if err != nil {
			s.rot("index of ipfs is damaged", "block", fmt.Sprintf("%x", name), "err", err)
			return true, nil // Another copy may be whole.
		}
		out = append(out, located{pack: id, place: at})
		return len(out) < copiesMax, nil
	})
	return out, err
}

// copiesMax is how many copies of a block are looked at: when so many have
// rotted there is no use in more.
const copiesMax = 16

// block appends the bytes of a block to buf, after they were compared with its
// CID.
func (d *dag) block(c cid.Cid, buf []byte) ([]byte, error) {
	if err := checkInput(c); err != nil {
		return nil, err
	}
	if data, ok := inlined(c); ok {
		return append(buf, data...), nil
	}
	name := digestOf(c)
	copies, err := d.s.copies(name)
	if err != nil {
		return nil, err
	}
	var bad error
	for _, at := range copies {
		block, err := d.whole(at, name, buf)
		if err == nil {
			return block, nil
		}
		there, lookErr := d.s.there(name, at.pack)
		if lookErr != nil {
			return nil, lookErr
		}
		if there {
			d.s.rot("ipfs block cannot be read", "block", c.String(), "err", err)
			bad = errors.Join(bad, err)
		}
	}
	if bad != nil {
		return nil, errs.New(errs.Internal, "block %s is damaged, delete its content and add it anew: %w", c, bad)
	}
	return nil, errs.New(errs.NotFound, "no IPFS block %s", c)
}

// there says whether a pack still has the block: who reads one while it is
// deleted finds its blob gone, which is no damage.
func (s *Store) there(name digest, id packID) (bool, error) {
	if s.isHidden(id) {
		return false, nil
	}
	_, ok, err := s.value(id.append(blockPrefix(name)))
	return ok, err
}

// whole appends the bytes of one copy of a block to buf, if they hash to its
// name.
func (d *dag) whole(at located, name digest, buf []byte) ([]byte, error) {
	block, err := d.copy(at, buf)
	if err == nil && digest(sha256.Sum256(block[len(buf):])) == name {
		return block, nil
	}
	if err == nil {
		err = fmt.Errorf("%s has rotted: its bytes do not hash to its name", at.place.form)
	}
	if d.reader != nil {
		err = fmt.Errorf("blob %s: %w", d.blob, err)
	}
	return nil, err
}

// String implements fmt.Stringer.
func (f form) String() string {
	if f == formHere {
		return "entry of the index"
	}
	return "part of a blob"
}

// rot notes that something on the disk is not what was written.
func (s *Store) rot(msg string, args ...any) {
	s.rotten.Inc()
	s.log.Error(msg, append(args, "part", "ipfs")...) //nolint:sloglint // the texts are constants of the callers
}

// copy appends the bytes of one copy of a block to buf, whatever they are.
func (d *dag) copy(at located, buf []byte) ([]byte, error) {
	p := at.place
	if p.form == formHere {
		return append(buf, p.here...), nil
	}
	blob, err := d.s.blobOf(at.pack, p.source)
	if err != nil {
		return nil, err
	}
	if err := d.open(blob); err != nil {
		return nil, err
	}
	var before, after []byte
	if p.form == formLeaf {
		before, after = wrapLeaf(int(p.length))
	}
	buf = append(buf, before...)
	start := len(buf)
	buf = append(buf, make([]byte, p.length)...)
	// ReadAt returns io.EOF only with too few bytes, or with the last of all.
	if n, err := d.reader.ReadAt(buf[start:], p.offset); n < int(p.length) {
		return nil, fmt.Errorf("read %d bytes at %d: %w", p.length, p.offset, err)
	}
	return append(buf, after...), nil
}

// open makes the blob the one that is read from.
func (d *dag) open(blob message.ItemHash) error {
	if d.reader != nil && d.blob == blob {
		return nil
	}
	if err := d.close(); err != nil {
		return fmt.Errorf("close blob %s: %w", d.blob, err)
	}
	r, err := d.s.blobs.Open(blob)
	if err != nil {
		return fmt.Errorf("open blob %s, which holds IPFS blocks: %w", blob, err)
	}
	d.blob, d.reader = blob, r
	return nil
}

// node returns a decoded block; raw ones are files without children.
func (d *dag) node(c cid.Cid) (*node, int64, error) {
	block, err := d.block(c, nil)
	if err != nil {
		return nil, 0, err
	}
	n, err := nodeOf(c, block)
	return n, int64(len(block)), err
}

func nodeOf(c cid.Cid, block []byte) (*node, error) {
	if c.Prefix().Codec == cid.Raw {
		return &node{kind: KindFile, data: block, size: int64(len(block))}, nil
	}
	n, err := decodeNode(block)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return n, nil
}

// child returns the entry of a directory by its name.
func (d *dag) child(c cid.Cid, name string) (cid.Cid, error) {
	hash := hashBits{sum: murmur3.Sum64([]byte(name))}
	for range shardDepthMax {
		n, _, err := d.node(c)
		if err != nil {
			return cid.Undef, err
		}
		next, final := n.find(name, &hash)
		if !next.Defined() {
			if !n.kind.isDirectory() {
				return cid.Undef, errs.New(errs.NotFound, "no %.80q in %s, which is a %s", name, c, n.kind)
			}
			return cid.Undef, errs.New(errs.NotFound, "no %.80q in the directory %s", name, c)
		}
		if final {
			return next, nil
		}
		c = next
	}
	return cid.Undef, errs.New(errs.Invalid, "directory has more than %d levels of shards", shardDepthMax)
}

// find returns the link of an entry, or of the shard below that may have it.
func (n *node) find(name string, hash *hashBits) (_ cid.Cid, final bool) {
	prefix, want := "", name
	switch n.kind {
	case KindDirectory:
	case KindShard:
		slot, ok := hash.next(n.fanout)
		if !ok {
			return cid.Undef, false
		}
		prefix = fmt.Sprintf("%0*X", n.slotDigits(), slot)
		want = prefix + name
	default:
		return cid.Undef, false
	}
	for _, l := range n.links {
		if l.name == want || prefix != "" && l.name == prefix {
			return l.cid, l.name == want
		}
	}
	return cid.Undef, false
}

// hashBits gives a hash away from the top.
type hashBits struct {
	sum  uint64
	used int
}

func (h *hashBits) next(fanout uint64) (slot uint64, ok bool) {
	for width := fanout; width > 1; width >>= 1 {
		if h.used == 64 {
			return 0, false
		}
		slot = slot<<1 | h.sum>>(63-h.used)&1
		h.used++
	}
	return slot, true
}

// Info is what Stat tells.
type Info struct {
	CID  cid.Cid
	Kind Kind // KindFile, KindDirectory or KindSymlink
	// Size is what the network accounts: of a file its bytes, of a directory
	// Cumulative.
	Size int64
	// Cumulative is the bytes of the block and of all below, as the links say.
	Cumulative int64
}

// Stat says what is under a CID, from its topmost block alone.
func (s *Store) Stat(c cid.Cid) (Info, error) {
	d := s.dag()
	defer d.close()
	n, length, err := d.node(c)
	if err != nil {
		return Info{}, err
	}
	return n.info(c, length), nil
}

func (n *node) info(c cid.Cid, blockLen int64) Info {
	i := Info{CID: c, Kind: n.kind, Size: n.size, Cumulative: blockLen + n.total()}
	switch n.kind {
	case KindRaw:
		i.Kind = KindFile
	case KindDirectory, KindShard:
		i.Kind, i.Size = KindDirectory, i.Cumulative
	case KindSymlink:
		i.Size = int64(len(n.data))
	case KindFile:
	}
	return i
}

// Entry is a file or folder in a directory.
type Entry struct {
	Name string
	CID  cid.Cid
	// Cumulative is the bytes of its blocks, as the link says.
	Cumulative int64
}

// List calls fn with each entry of a directory, in the order of its links, which
// is by name unless the directory is sharded. It ends with fn's first error.
func (s *Store) List(ctx context.Context, c cid.Cid, fn func(Entry) error) error {
	d := s.dag()
	defer d.close()
	n, _, err := d.node(c)
	if err != nil {
		return err
	}
	if !n.kind.isDirectory() {
		return errs.New(errs.Invalid, "%s is a %s, want a directory", c, n.kind)
	}
	shards := 0
	return d.list(ctx, n, &shards, fn)
}

// list lists a directory or shard. It counts shards, since a few blocks that
// link to each other again and again could be listed forever.
func (d *dag) list(ctx context.Context, n *node, shards *int, fn func(Entry) error) error {
	*shards++
	if *shards > shardsMax {
		return errs.New(errs.Invalid, "directory has more than %d shards", shardsMax)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, l := range n.links {
		name := l.name
		if n.kind == KindShard {
			name = l.name[n.slotDigits():]
		}
		if n.kind == KindShard && name == "" {
			sub, _, err := d.node(l.cid)
			if err == nil && sub.kind != KindShard {
				err = errs.New(errs.Invalid, "slot %s of a shard is a %s", l.name, sub.kind)
			}
			if err == nil {
				err = d.list(ctx, sub, shards, fn)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := fn(Entry{Name: name, CID: l.cid, Cumulative: l.size}); err != nil {
			return err
		}
	}
	return nil
}

// Link returns the target of a symlink.
func (s *Store) Link(c cid.Cid) (string, error) {
	d := s.dag()
	defer d.close()
	n, _, err := d.node(c)
	if err != nil {
		return "", err
	}
	if n.kind != KindSymlink {
		return "", errs.New(errs.Invalid, "%s is a %s, want a symlink", c, n.kind)
	}
	return strings.ToValidUTF8(string(n.data), "?"), nil
}
