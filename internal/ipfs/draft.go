package ipfs

import (
	"context"
	"errors"
	"io"
)

// Draft is content that was read to its end and is not visible yet, so that who
// knows its CID may still decide that it is not wanted. Use Commit or Abort.
type Draft struct {
	Root Root

	pack   *pack
	writer *writer
	keep   func() error // writes what waits until the blob has its name
}

// Draft reads a file of any length.
func (s *Store) Draft(ctx context.Context, r io.Reader, v Version) (*Draft, error) {
	return s.draft(v, func(w *writer) (Root, func() error, error) {
		p, err := w.add(ctx, r)
		return fileRoot(p), nil, err
	})
}

// DraftCAR reads the DAG of an archive, as AddCAR does.
func (s *Store) DraftCAR(ctx context.Context, car *CAR) (*Draft, error) {
	return s.draft(V1, func(w *writer) (Root, func() error, error) {
		g := newGraph("archive")
		if err := w.open(); err != nil {
			return Root{}, nil, err
		}
		if err := w.blocks(ctx, car, &g); err != nil {
			return Root{}, nil, err
		}
		info, err := g.check(car.Root)
		return Root(info), func() error { return g.keep(w.pack, w.source) }, err
	})
}

// draft reads content into a pack. Nothing is left of it after an error.
func (s *Store) draft(v Version, read func(w *writer) (Root, func() error, error)) (*Draft, error) {
	p, err := s.begin()
	if err != nil {
		return nil, err
	}
	d := &Draft{pack: p, writer: newWriter(p, v)}
	if d.Root, d.keep, err = read(d.writer); err != nil {
		return nil, errors.Join(err, d.Abort())
	}
	d.writer.buf = nil // A draft may wait for others.
	return d, nil
}

// Commit makes the content visible, for good. Content that is there already stays
// as it was, and is returned. Whatever it returns, the draft is used up. A process
// that ends in the middle may leave the blob, which nothing needs then; see blob.Store.MakeRoom.
func (d *Draft) Commit() (_ Root, err error) {
	defer func() { err = errors.Join(err, d.Abort()) }()
	// Another archive of it has other bytes, whose blob nothing would need.
	if old, there, err := d.pack.s.root(d.Root.CID); err != nil || there {
		return old, err
	}
	if err := d.writer.commit(); err != nil {
		return Root{}, err
	}
	if d.keep != nil {
		if err := d.keep(); err != nil {
			return Root{}, err
		}
	}
	return d.pack.commit(d.Root)
}

// Abort drops the content. It does nothing after a Commit.
func (d *Draft) Abort() error { return errors.Join(d.writer.abort(), d.pack.abort()) }
