package ipfs

import (
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// File reads a file: in order, or from where Seek says. It holds one leaf and
// the nodes above it. One goroutine at a time may use it.
type File struct {
	Info Info

	dag  *dag
	pos  int64
	path []step // from the root down to what was read last
	buf  []byte // block of the last leaf
	err  error  // of a file that was closed
}

// step is a node on the way to a leaf.
type step struct {
	node  *node
	start int64 // where its bytes begin in the file
}

func (s step) end() int64 { return s.start + s.node.size }

// Open opens a file for reading. The caller closes it. If the file is deleted
// meanwhile, reading may fail with errs.NotFound.
func (s *Store) Open(c cid.Cid) (*File, error) {
	d := s.dag()
	n, length, err := d.node(c)
	if err == nil && !n.kind.isFile() {
		err = errs.New(errs.Invalid, "%s is a %s, want a file", c, n.kind)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &File{Info: n.info(c, length), dag: d, path: []step{{node: n}}}, nil
}

// Close implements io.Closer.
func (f *File) Close() error {
	f.err = errs.New(errs.Internal, "BUG: file %s was closed", f.Info.CID)
	return f.dag.close()
}

// Seek implements io.Seeker.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.Info.Size
	case io.SeekStart:
	default:
		return 0, errs.New(errs.Internal, "BUG: seek from %d", whence)
	}
	if offset < 0 {
		return 0, errs.New(errs.Invalid, "position %d is before the file", offset)
	}
	f.pos = offset
	return offset, nil
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	rest, err := f.here()
	if err != nil {
		return 0, err
	}
	n := copy(p, rest)
	f.pos += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo: whole leaves are handed on as they are.
func (f *File) WriteTo(w io.Writer) (total int64, err error) {
	if f.err != nil {
		return 0, f.err
	}
	for {
		rest, err := f.here()
		if err == io.EOF { //nolint:errorlint // here says it bare
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(rest)
		f.pos += int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// here returns the bytes of the file from pos to the end of its leaf, or
// io.EOF.
func (f *File) here() ([]byte, error) {
	if f.pos >= f.Info.Size {
		return nil, io.EOF
	}
	for len(f.path) > 1 && !f.path[len(f.path)-1].holds(f.pos) {
		f.path = f.path[:len(f.path)-1]
	}
	for {
		at := f.path[len(f.path)-1]
		if own := at.node.data; f.pos-at.start < int64(len(own)) {
			return own[f.pos-at.start:], nil
		}
		if err := f.descend(at); err != nil {
			return nil, err
		}
	}
}

func (s step) holds(pos int64) bool { return pos >= s.start && pos < s.end() }

// descend goes to the child that holds pos.
func (f *File) descend(at step) error {
	if len(f.path) > depthMax {
		return errs.New(errs.Invalid, "file %s is more than %d blocks deep", f.Info.CID, depthMax)
	}
	start := at.start + int64(len(at.node.data))
	for i, size := range at.node.sizes {
		if f.pos >= start+size {
			start += size
			continue
		}
		child, err := f.child(at.node.links[i].cid, size)
		if err != nil {
			return err
		}
		f.path = append(f.path, step{node: child, start: start})
		return nil
	}
	return errs.New(errs.Internal, "BUG: no child of %s holds byte %d", f.Info.CID, f.pos)
}

// child reads a child, which must have as many bytes of the file as its parent
// says. A leaf's bytes go into the buffer that the last leaf was in; a node with
// children gets its own, for it stays while they are read.
func (f *File) child(c cid.Cid, size int64) (*node, error) {
	block, err := f.dag.block(c, f.buf[:0])
	if err != nil {
		return nil, err
	}
	n, err := nodeOf(c, block)
	if err != nil {
		return nil, err
	}
	f.buf = block
	if len(n.links) > 0 {
		f.buf = nil
	}
	if !n.kind.isFile() || n.size != size {
		return nil, fmt.Errorf("file %s: %w", f.Info.CID,
			errs.New(errs.Invalid, "block %s is a %s of %d bytes, want a part of the file with %d", c, n.kind, n.size, size))
	}
	return n, nil
}
