package ipfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Add stores a file of any length and returns its root. The bytes go to a blob
// as they come; both its name and the CID are made on the way.
func (s *Store) Add(ctx context.Context, r io.Reader, v Version) (Root, error) {
	return s.AddIf(ctx, r, v, func(Root) error { return nil })
}

// AddAs stores a file that must have the CID when it is laid out as Kubo does it.
// If it has another, nothing is stored, content that has it stays as it was, and
// the error is errs.Invalid in the network's words.
func (s *Store) AddAs(ctx context.Context, r io.Reader, want cid.Cid) (Root, error) {
	if err := checkInput(want); err != nil {
		return Root{}, err
	}
	return s.AddIf(ctx, r, Version(want.Version()), func(root Root) error {
		if root.CID != want {
			return errs.New(errs.Invalid, "File hash does not match (%s != %s)", root.CID, want)
		}
		return nil
	})
}

// AddIf stores a file after may was told its root. If that returns an error, nothing is
// stored, and it comes back.
func (s *Store) AddIf(ctx context.Context, r io.Reader, v Version, may func(Root) error) (Root, error) {
	d, err := s.Draft(ctx, r, v)
	if err != nil {
		return Root{}, err
	}
	if err := may(d.Root); err != nil {
		return Root{}, errors.Join(err, d.Abort())
	}
	return d.Commit()
}

// AddBlob indexes a blob that is here already as a file, and returns its root.
// No byte is copied.
func (s *Store) AddBlob(ctx context.Context, blob message.ItemHash, v Version) (_ Root, err error) {
	t, err := s.begin()
	if err != nil {
		return Root{}, err
	}
	defer func() { err = errors.Join(err, t.abort()) }()
	p, err := newWriter(t, v).addBlob(ctx, blob)
	if err != nil {
		return Root{}, err
	}
	return t.commit(fileRoot(p))
}

func fileRoot(p piece) Root {
	return Root{CID: p.cid, Kind: KindFile, Size: p.size, Cumulative: p.cumulative}
}

// writer adds files to a pack. Bytes that are in no blob yet go to one blob for
// all of them.
type writer struct {
	pack    *pack
	version Version
	sums    summer
	buf     []byte

	blob   BlobWriter // nil until bytes come
	source uint32     // the blob's number in the pack
	offset int64      // bytes in the blob
}

func newWriter(p *pack, v Version) *writer {
	return &writer{pack: p, version: v, sums: summer{version: v, hash: sha256.New()}, buf: make([]byte, chunkSize)}
}

// add adds a file from a stream.
func (w *writer) add(ctx context.Context, r io.Reader) (piece, error) {
	if err := w.open(); err != nil {
		return piece{}, err
	}
	sum := make(chan digest, 1)
	return w.file(ctx, func(chunk []byte) (int, place, digest, error) {
		n, err := io.ReadFull(r, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, place{}, digest{}, err
		}
		at := place{source: w.source, offset: w.offset, length: int64(n)}
		// The blob hashes the same bytes for its own name, so do both at once.
		go func() { sum <- w.sums.leaf(chunk[:n]) }()
		_, err = w.blob.Write(chunk[:n])
		d := <-sum
		w.offset += int64(n)
		return n, at, d, err
	})
}

// addBlob adds a file that is a blob.
func (w *writer) addBlob(ctx context.Context, blob message.ItemHash) (_ piece, err error) {
	source := w.pack.use(blob)
	r, err := w.pack.s.blobs.Open(blob)
	if err != nil {
		return piece{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := io.NewSectionReader(r, 0, r.Size())
	var offset int64
	return w.file(ctx, func(chunk []byte) (int, place, digest, error) {
		n, err := io.ReadFull(in, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, place{}, digest{}, fmt.Errorf("read blob %s: %w", blob, err)
		}
		at := place{source: source, offset: offset, length: int64(n)}
		offset += int64(n)
		return n, at, w.sums.leaf(chunk[:n]), nil
	})
}

// file lays out what next returns until it returns less than a chunk. It also
// says where the chunk's bytes are, and the hash of its block.
func (w *writer) file(ctx context.Context, next func(chunk []byte) (int, place, digest, error)) (piece, error) {
	l := layout{version: w.version, store: func(d digest, block []byte) error {
		return w.pack.put(d, place{form: formHere, here: block})
	}}
	for size := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return piece{}, context.Cause(ctx)
		}
		n, at, d, err := next(w.buf)
		if err != nil {
			return piece{}, err
		}
		// An empty file is one empty leaf; any other has none.
		if n > 0 || size == 0 {
			size += int64(n)
			if size > fileMax {
				return piece{}, errs.New(errs.Invalid, "file is longer than %d bytes, the most that is taken", int64(fileMax))
			}
			if err := w.leaf(&l, d, at); err != nil {
				return piece{}, err
			}
		}
		if n < len(w.buf) {
			return l.root()
		}
	}
}

// leaf notes a leaf and links it.
func (w *writer) leaf(l *layout, d digest, at place) error {
	p := piece{cid: w.version.leaf(d), size: at.length, cumulative: at.length}
	at.form = formPart
	if w.version == V0 {
		at.form = formLeaf
		before, after := wrapLeaf(int(at.length))
		p.cumulative += int64(len(before) + len(after))
	}
	if err := w.pack.put(d, at); err != nil {
		return err
	}
	return l.add(p)
}

// open starts the blob.
func (w *writer) open() error {
	if w.blob != nil {
		return nil
	}
	blob, err := w.pack.s.blobs.Create()
	if err != nil {
		return err
	}
	w.blob, w.source = blob, w.pack.reserve()
	return nil
}

// commit makes the blob last. Uses reports it before it is visible.
func (w *writer) commit() error {
	if w.blob == nil {
		return nil
	}
	w.pack.name(w.source, w.blob.Sum())
	return w.blob.Commit()
}

// abort drops the blob. It does nothing after a commit.
func (w *writer) abort() error {
	if w.blob == nil {
		return nil
	}
	return w.blob.Abort()
}

// summer hashes leaves.
type summer struct {
	version Version
	hash    hash.Hash
}

// leaf returns the hash of the block that is the leaf of these bytes.
func (s *summer) leaf(chunk []byte) digest {
	if s.version == V1 {
		return sha256.Sum256(chunk)
	}
	before, after := wrapLeaf(len(chunk))
	s.hash.Reset()
	s.hash.Write(before)
	s.hash.Write(chunk)
	s.hash.Write(after)
	var d digest
	s.hash.Sum(d[:0])
	return d
}
