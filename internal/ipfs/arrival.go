package ipfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// ErrBadBlock is in errors of a block that is not what it is said to be, or that
// nobody asked for: its sender is at fault, not the content.
var ErrBadBlock = errors.New("bad block")

// foreignBlobsMax is how many blobs of other content one arrival leans on; what
// lies in more is copied.
const foreignBlobsMax = 1024

// Arrival is content that comes here block by block, from anybody, in the order in
// which its blocks can be verified. It is invisible until Commit, which wants all of
// it. What came is kept by Suspend, and by the end of the process, for the next
// Arrive of the same content. One goroutine at a time may use it, and ends it with
// Commit, Suspend or Abort.
type Arrival struct {
	s    *Store
	root cid.Cid
	max  int64

	pack  *pack
	dag   *dag
	blob  StagedBlob
	graph graph
	depth []uint8          // by number in the graph
	todo  []uint32         // blocks to ask for, the next one last
	from  map[uint32]place // of blocks that other content has
	left  map[digest]span  // what an earlier arrival wrote, until it is linked to

	source  uint32 // number of the blob in the pack
	offset  int64  // bytes in the blob
	bytes   int64  // of the blocks that are here
	fetched int64  // of those, what Put brought
	begun   bool   // the blob holds a block of the content
}

// span is a part of the staged blob.
type span struct{ offset, length int64 }

// Arrive begins to take in content of maxBytes at most, or goes on with what is
// here of it. Somebody who takes it in already gives errs.Conflict.
func (s *Store) Arrive(ctx context.Context, root cid.Cid, maxBytes int64) (_ *Arrival, err error) {
	if err := checkInput(root); err != nil {
		return nil, err
	}
	p, err := s.begin()
	if err != nil {
		return nil, err
	}
	a := &Arrival{
		s: s, root: root, max: maxBytes, pack: p, dag: s.dag(),
		graph: newGraph("content"), from: map[uint32]place{}, left: map[digest]span{},
	}
	name := cid.NewCidV1(root.Prefix().Codec, root.Hash()).String()
	if a.blob, err = s.blobs.Stage(name, func(r io.Reader) (int64, error) { return a.resume(ctx, r) }); err != nil {
		return nil, errors.Join(err, p.abort())
	}
	if err := a.begin(); err != nil {
		return nil, errors.Join(err, a.Suspend())
	}
	return a, nil
}

// resume reads what an earlier arrival wrote: an archive, up to where it breaks off
// or its bytes are not what they were.
func (a *Arrival) resume(ctx context.Context, r io.Reader) (good int64, err error) {
	car, err := OpenCAR(r)
	if errs.KindOf(err) == errs.Invalid || err == nil && graphKey(car.Root) != graphKey(a.root) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	header := encodeHeader(car.Root)
	good = int64(len(binary.AppendUvarint(nil, uint64(len(header)))) + len(header))
	buf := make([]byte, blockMax)
	for len(a.left) < carBlocksMax {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		id, block, err := car.next(buf)
		if errors.Is(err, io.EOF) || errs.KindOf(err) == errs.Invalid {
			break
		}
		if err != nil {
			return 0, err
		}
		name := digestOf(id)
		if _, inline := inlined(id); inline || digest(sha256.Sum256(block)) != name {
			break
		}
		good += int64(len(entryHead(id, block)))
		a.left[name] = span{offset: good, length: int64(len(block))}
		good += int64(len(block))
	}
	a.offset = good
	return good, nil
}

// entryHead is what stands before a block in an archive.
func entryHead(c cid.Cid, block []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(c.ByteLen()+len(block))), c.Bytes()...)
}

// begin writes the header of the archive, and asks for the root.
func (a *Arrival) begin() error {
	if a.offset == 0 {
		header := encodeHeader(a.root)
		if err := a.write(append(binary.AppendUvarint(nil, uint64(len(header))), header...)); err != nil {
			return err
		}
	}
	if _, err := a.graph.at(a.root); err != nil {
		return err
	}
	return a.found(0, 0)
}

func (a *Arrival) write(b []byte) error {
	n, err := a.blob.Write(b)
	a.offset += int64(n)
	return err
}

// found takes note of the blocks from a number on, which one at the depth links to.
func (a *Arrival) found(from int, depth uint8) error {
	if len(a.graph.blocks) > from && depth == depthMax {
		return invalid("content is more than %d blocks deep", depthMax)
	}
	for range a.graph.blocks[from:] {
		a.depth = append(a.depth, depth+1)
	}
	for i := len(a.graph.blocks) - 1; i >= from; i-- {
		a.todo = append(a.todo, uint32(i))
	}
	return nil
}

// Next returns a block that is missing, each once. It says false when there is none
// to ask for: all that is linked to so far is here, or was returned.
func (a *Arrival) Next() (cid.Cid, bool, error) {
	for len(a.todo) > 0 {
		i := a.todo[len(a.todo)-1]
		a.todo = a.todo[:len(a.todo)-1]
		if a.graph.blocks[i].here {
			continue
		}
		ok, err := a.isHere(i)
		if err != nil {
			return cid.Undef, false, err
		}
		if !ok {
			return a.graph.blocks[i].cid, true, nil
		}
	}
	return cid.Undef, false, nil
}

// Again lets Next return a block again that it returned and that did not come.
func (a *Arrival) Again(c cid.Cid) {
	if i, ok := a.graph.index[graphKey(c)]; ok && !a.graph.blocks[i].here {
		a.todo = append(a.todo, i)
	}
}

// Wants says whether something here links to the block, which may be here already.
func (a *Arrival) Wants(c cid.Cid) bool {
	_, ok := a.graph.index[graphKey(c)]
	return ok
}

// Put takes a block in, which must be one that Next returned. A block that is here
// already is no error. An error that is ErrBadBlock leaves everything as it was;
// after any other the content cannot be taken in, and the caller aborts.
func (a *Arrival) Put(c cid.Cid, block []byte) error {
	i, ok := a.graph.index[graphKey(c)]
	switch {
	case !ok:
		return errs.New(errs.Invalid, "%w: nothing here links to %s", ErrBadBlock, c)
	case a.graph.blocks[i].here:
		return nil
	case len(block) > blockMax:
		return errs.New(errs.Invalid, "%w: %s has %d bytes, want at most %d", ErrBadBlock, c, len(block), blockMax)
	case digest(sha256.Sum256(block)) != digestOf(c):
		return errs.New(errs.Invalid, "%w: its bytes do not hash to %s", ErrBadBlock, c)
	}
	if err := a.append(i, block); err != nil {
		return err
	}
	a.fetched += int64(len(block))
	return nil
}

// append writes a verified block to the blob.
func (a *Arrival) append(i uint32, block []byte) error {
	c := a.graph.blocks[i].cid
	n, err := a.decode(c, block)
	if err != nil {
		return err
	}
	if err := a.write(entryHead(c, block)); err != nil {
		return err
	}
	at := a.offset
	if err := a.write(block); err != nil {
		return err
	}
	return a.own(i, n, span{offset: at, length: int64(len(block))})
}

// own notes a block that is in the blob.
func (a *Arrival) own(i uint32, n *node, at span) error {
	if !a.begun {
		a.begun, a.source = true, a.pack.reserve()
	}
	a.graph.blocks[i].offset = at.offset
	return a.link(i, n, at.length)
}

// decode reads a block and refuses content that is too large, as soon as that is
// known.
func (a *Arrival) decode(c cid.Cid, block []byte) (*node, error) {
	n, err := nodeOf(c, block)
	if err != nil {
		return nil, err
	}
	size := a.bytes + int64(len(block))
	if size == int64(len(block)) {
		size += n.total() // Only of the root the whole is known, and only as it says.
	}
	if size > a.max {
		return nil, errs.New(errs.Exhausted, "content %s has %d bytes or more, and at most %d are taken: raise [ipfs] max_fetch_gb", a.root, size, a.max)
	}
	return n, nil
}

func (a *Arrival) link(i uint32, n *node, length int64) error {
	before := len(a.graph.blocks)
	if err := a.graph.link(i, n, length); err != nil {
		return err
	}
	a.bytes += length
	return a.found(before, a.depth[i])
}

// isHere looks for a block in what an earlier arrival wrote, and in other content.
func (a *Arrival) isHere(i uint32) (bool, error) {
	c := a.graph.blocks[i].cid
	name := digestOf(c)
	if at, ok := a.left[name]; ok {
		delete(a.left, name)
		block := make([]byte, at.length)
		if _, err := a.blob.ReadAt(block, at.offset); err != nil {
			return false, fmt.Errorf("read what came earlier: %w", err)
		}
		if digest(sha256.Sum256(block)) == name {
			n, err := a.decode(c, block)
			if err != nil {
				return false, err
			}
			return true, a.own(i, n, at)
		}
	}
	return a.share(i, name)
}

// share takes a block from other content, without copying it if that can be. The
// blob is held before it is read, so it stays from then on.
func (a *Arrival) share(i uint32, name digest) (bool, error) {
	copies, err := a.s.copies(name)
	if err != nil {
		return false, err
	}
	for _, from := range copies {
		at, err := a.hold(from)
		if err != nil {
			continue // The content was deleted meanwhile; another may have it.
		}
		block, err := a.dag.whole(from, name, nil)
		if err != nil {
			continue // It rotted, or went: it is fetched as any other.
		}
		if at == nil {
			return true, a.append(i, block)
		}
		n, err := a.decode(a.graph.blocks[i].cid, block)
		if err != nil {
			return false, err
		}
		a.from[i] = *at
		return true, a.link(i, n, int64(len(block)))
	}
	return false, nil
}

// hold makes a copy of a block stay, and says where it is for the pack; nil if its
// bytes are to be copied.
func (a *Arrival) hold(from located) (*place, error) {
	at := from.place
	if at.form == formHere {
		at.here = bytes.Clone(at.here)
		return &at, nil
	}
	blob, err := a.s.blobOf(from.pack, at.source)
	if err != nil {
		return nil, err
	}
	if len(a.pack.sources) >= foreignBlobsMax {
		return nil, nil
	}
	at.source = a.pack.use(blob)
	return &at, nil
}

// Size returns how many bytes of blocks are here, and how many of those Put brought.
func (a *Arrival) Size() (here, fetched int64) { return a.bytes, a.fetched }

// Claimed returns how many bytes of blocks the root says that there are, a block
// that occurs twice counted twice; 0 until the root is here.
func (a *Arrival) Claimed() int64 { return a.graph.blocks[0].total }

// Commit checks that all is here and makes it visible, for good. Content that is
// there already stays as it was, and is returned. Whatever it returns, the arrival
// is used up.
func (a *Arrival) Commit() (_ Root, err error) {
	defer func() { err = errors.Join(err, a.Abort()) }()
	info, err := a.graph.check(a.root)
	if err != nil {
		return Root{}, err
	}
	if old, there, err := a.s.root(a.root); err != nil || there {
		return old, err // Without a blob that nothing would need.
	}
	if a.begun {
		a.pack.name(a.source, a.blob.Sum())
		if err := a.blob.Commit(); err != nil {
			return Root{}, err
		}
	}
	for i := range a.graph.blocks {
		b := &a.graph.blocks[i]
		if !b.used || b.inline {
			continue
		}
		at, ok := a.from[uint32(i)]
		if !ok {
			at = place{form: formPart, source: a.source, offset: b.offset, length: b.length}
		}
		if err := a.pack.put(digestOf(b.cid), at); err != nil {
			return Root{}, err
		}
	}
	return a.pack.commit(Root(info))
}

// Suspend keeps what came for the next Arrive. It does nothing after a Commit or an
// Abort.
func (a *Arrival) Suspend() error {
	if !a.begun && len(a.left) == 0 {
		return a.Abort()
	}
	return errors.Join(a.blob.Suspend(), a.pack.abort(), a.dag.close())
}

// Abort drops what came. It does nothing after a Commit or a Suspend.
func (a *Arrival) Abort() error { return errors.Join(a.blob.Abort(), a.pack.abort(), a.dag.close()) }
