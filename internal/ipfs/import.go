package ipfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// AddCAR stores the DAG under the root of an archive, all of which must be in
// it. Every block is hashed. Blocks that the root does not lead to are not kept
// in the index, and may not outweigh the others, for their bytes are kept. A bad
// archive is errs.Invalid, and leaves nothing behind.
func (s *Store) AddCAR(ctx context.Context, car *CAR) (Root, error) {
	d, err := s.DraftCAR(ctx, car)
	if err != nil {
		return Root{}, err
	}
	return d.Commit()
}

// blocks copies the blocks of an archive to the blob, each once, and notes them
// in the graph.
func (w *writer) blocks(ctx context.Context, car *CAR, g *graph) error {
	buf := make([]byte, blockMax)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		id, block, err := car.next(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if data, ok := inlined(id); ok {
			if !bytes.Equal(data, block) {
				return invalid("block %s does not have the bytes that its CID holds", id)
			}
			continue // Who links to it has it.
		}
		if digest(sha256.Sum256(block)) != digestOf(id) {
			return invalid("block %s does not hash to its CID", id)
		}
		isNew, err := g.add(id, block, w.offset)
		if err != nil {
			return err
		}
		if !isNew {
			continue
		}
		if _, err := w.blob.Write(block); err != nil {
			return err
		}
		w.offset += int64(len(block))
	}
}

// graph is a DAG that comes from outside, without the bytes.
type graph struct {
	what   string            // in errors: what it comes in
	index  map[string]uint32 // by graphKey
	blocks []graphBlock
	links  int
}

// graphBlock is a block that was read, or that another links to.
type graphBlock struct {
	cid    cid.Cid
	here   bool // it was read
	inline bool // its CID holds it
	used   bool // the root leads to it
	kind   Kind
	own    int64 // bytes of a file in the block itself
	total  int64 // bytes of the block and of all below, as its links say
	offset int64 // in the blob
	length int64
	height int // of the DAG below
	edges  []edge
}

func newGraph(what string) graph { return graph{what: what, index: map[string]uint32{}} }

// edge is a link to a block, with the bytes of the file that the child has.
type edge struct {
	to   uint32
	size int64
}

// graphKey names a block as links do: version 0 and 1 of a CID are the same.
func graphKey(c cid.Cid) string {
	if data, ok := inlined(c); ok {
		return "=" + string(rune(c.Prefix().Codec)) + string(data) // No codec is written "=".
	}
	d := digestOf(c)
	return string(rune(c.Prefix().Codec)) + string(d[:])
}

// at returns the place of a block in the graph, and makes one as needed.
func (g *graph) at(c cid.Cid) (uint32, error) {
	key := graphKey(c)
	if i, ok := g.index[key]; ok {
		return i, nil
	}
	if len(g.blocks) == carBlocksMax {
		return 0, invalid("%s has more than %d blocks", g.what, carBlocksMax)
	}
	i := uint32(len(g.blocks))
	g.index[key] = i
	g.blocks = append(g.blocks, graphBlock{cid: c})
	data, ok := inlined(c)
	if !ok {
		return i, nil
	}
	g.blocks[i].inline = true
	return i, g.fill(i, c, data)
}

// add notes a block that was read. It says false for one that was there.
func (g *graph) add(c cid.Cid, block []byte, offset int64) (bool, error) {
	i, err := g.at(c)
	if err != nil || g.blocks[i].here {
		return false, err
	}
	g.blocks[i].offset = offset
	return true, g.fill(i, c, block)
}

// fill decodes a block's links.
func (g *graph) fill(i uint32, c cid.Cid, block []byte) error {
	n, err := nodeOf(c, block)
	if err != nil {
		return err
	}
	return g.link(i, n, int64(len(block)))
}

// link notes a decoded block and what it links to.
func (g *graph) link(i uint32, n *node, length int64) error {
	g.links += len(n.links)
	if g.links > carLinksMax {
		return invalid("%s has more than %d links", g.what, carLinksMax)
	}
	b := graphBlock{
		cid: g.blocks[i].cid, inline: g.blocks[i].inline, offset: g.blocks[i].offset, here: true,
		kind: n.kind, length: length, total: length + n.total(),
	}
	if n.kind.isFile() || n.kind == KindSymlink {
		b.own = int64(len(n.data))
	}
	if len(n.links) > 0 {
		b.edges = make([]edge, len(n.links))
	}
	for j, l := range n.links {
		to, err := g.at(l.cid)
		if err != nil {
			return err
		}
		b.edges[j].to = to
		if n.kind.isFile() {
			b.edges[j].size = n.sizes[j]
		}
	}
	g.blocks[i] = b
	return nil
}

// check follows the links from the root: all blocks must be there, and fit into
// what links to them.
func (g *graph) check(root cid.Cid) (Info, error) {
	i, err := g.at(root)
	if err != nil {
		return Info{}, err
	}
	if err := g.visit(i, 1); err != nil {
		return Info{}, err
	}
	if err := g.weigh(); err != nil {
		return Info{}, err
	}
	b := &g.blocks[i]
	n := node{kind: b.kind, size: b.size()}
	info := n.info(root, b.total)
	if b.kind == KindSymlink {
		info.Size = b.own
	}
	return info, nil
}

// weigh compares what the root leads to with the rest of the archive, which
// nobody accounts for and which stays as long as the root does.
func (g *graph) weigh() error {
	var used, stray int64
	for i := range g.blocks {
		switch b := &g.blocks[i]; {
		case b.inline:
		case b.used:
			used += b.length
		default:
			stray += b.length
		}
	}
	if stray > used {
		return invalid("%s has %d bytes of blocks that its root does not lead to, want at most the %d of those it does", g.what, stray, used)
	}
	return nil
}

// size is how many bytes of a file the block and its children have.
func (b *graphBlock) size() int64 {
	size := b.own
	for _, e := range b.edges {
		size += e.size
	}
	return size
}

func (g *graph) visit(i uint32, depth int) error {
	b := &g.blocks[i]
	if !b.here {
		return invalid("block %s is missing from the %s", V1.node(digestOf(b.cid)), g.what)
	}
	if depth+b.height > depthMax {
		return invalid("%s is more than %d blocks deep", g.what, depthMax)
	}
	if b.used {
		return nil
	}
	b.used = true
	for _, e := range b.edges {
		if err := g.visit(e.to, depth+1); err != nil {
			return err
		}
		child := &g.blocks[e.to]
		if b.kind.isFile() && (!child.kind.isFile() || child.size() != e.size) {
			return invalid("a part of a file is a %s of %d bytes, want %d bytes of a file", child.kind, child.size(), e.size)
		}
		b.height = max(b.height, child.height+1)
	}
	return nil
}

// keep writes the blocks that the root leads to.
func (g *graph) keep(p *pack, source uint32) error {
	for i := range g.blocks {
		b := &g.blocks[i]
		if !b.used || b.inline {
			continue
		}
		if err := p.put(digestOf(b.cid), place{form: formPart, source: source, offset: b.offset, length: b.length}); err != nil {
			return err
		}
	}
	return nil
}

// errTooLarge is what a walk over too many blocks ends with.
func errTooLarge(root cid.Cid) error {
	return errs.New(errs.Exhausted, "%s has more than %d blocks, the most that are walked at once", root, walkMax)
}
