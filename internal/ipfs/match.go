package ipfs

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Matcher tells whether the bytes written to it are the file that a CID names, if
// it was laid out as Kubo does it unasked. It keeps none of them: it holds less
// than a leaf, and an unfinished node per level. Use NewMatcher.
type Matcher struct {
	want   cid.Cid
	shapes []shape
	chunk  []byte // of the leaf that is not full yet
	size   int64
}

// shape is one way to lay out a file.
type shape struct {
	sums   summer
	layout layout
}

// NewMatcher returns a Matcher of nothing yet. A CID that cannot be that of a file is
// errs.Invalid.
func NewMatcher(want cid.Cid) (*Matcher, error) {
	if err := checkInput(want); err != nil {
		return nil, err
	}
	m := &Matcher{want: want, chunk: make([]byte, 0, chunkSize)}
	m.Reset()
	return m, nil
}

// Reset forgets what was written.
func (m *Matcher) Reset() {
	m.chunk, m.size, m.shapes = m.chunk[:0], 0, m.shapes[:0]
	for _, v := range []Version{V0, V1} {
		m.shapes = append(m.shapes, shape{
			sums: summer{version: v, hash: sha256.New()}, layout: layout{version: v, store: func(digest, []byte) error { return nil }},
		})
	}
}

// Write implements io.Writer.
func (m *Matcher) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		n := min(len(p), chunkSize-len(m.chunk))
		if m.size+int64(n) > fileMax {
			return written, errs.New(errs.Invalid, "file is longer than %d bytes, the most that is taken", int64(fileMax))
		}
		m.chunk = append(m.chunk, p[:n]...)
		m.size += int64(n)
		written += n
		p = p[n:]
		if len(m.chunk) < chunkSize {
			break
		}
		if err := m.leaf(); err != nil {
			return written, err
		}
		m.chunk = m.chunk[:0]
	}
	return written, nil
}

// leaf links the leaf of the bytes that wait, in all shapes at once: hashing is what
// takes the time.
func (m *Matcher) leaf() error {
	var wg sync.WaitGroup
	failed := make([]error, len(m.shapes))
	for i := range m.shapes {
		wg.Go(func() { failed[i] = m.shapes[i].leaf(m.chunk) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// leaf links the leaf of these bytes.
func (f *shape) leaf(chunk []byte) error {
	v, size := f.layout.version, int64(len(chunk))
	p := piece{cid: v.leaf(f.sums.leaf(chunk)), size: size, cumulative: size}
	if v == V0 {
		before, after := wrapLeaf(len(chunk))
		p.cumulative += int64(len(before) + len(after))
	}
	return f.layout.add(p)
}

// Matches reports whether the file that ends here is the one. Either version of a CID
// may name either layout: the version is how its digest is spelled, no part of it.
// More may be written after it.
func (m *Matcher) Matches() (bool, error) {
	for _, f := range m.shapes {
		levels := f.layout.levels
		f.layout.levels = make([][]piece, len(levels))
		for i, level := range levels {
			f.layout.levels[i] = slices.Clone(level)
		}
		// An empty file is one empty leaf; any other has none.
		if len(m.chunk) > 0 || m.size == 0 {
			if err := f.leaf(m.chunk); err != nil {
				return false, err
			}
		}
		root, err := f.layout.root()
		if err != nil {
			return false, err
		}
		if root.cid.Prefix().Codec == m.want.Prefix().Codec && root.cid.Hash().String() == m.want.Hash().String() {
			return true, nil
		}
	}
	return false, nil
}
