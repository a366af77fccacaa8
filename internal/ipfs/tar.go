package ipfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Modes of what a Tar unpacks to; UnixFS has none of its own here.
const (
	modeFile   = 0o644
	modeFolder = 0o755
)

// Tar writes a file or directory, with all below it, as a tar whose topmost
// entry has the CID as its name. Names that would unpack elsewhere are
// errs.Invalid. A writer that got an error has a tar without its end.
func (s *Store) Tar(ctx context.Context, c cid.Cid, w io.Writer) error {
	t := tarWriter{dag: s.dag(), out: tar.NewWriter(w), left: treeMax}
	defer t.dag.close()
	if err := t.entry(ctx, c, c.String(), 0); err != nil {
		return err
	}
	if err := t.out.Close(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

type tarWriter struct {
	dag  *dag
	out  *tar.Writer
	left int // entries that may still come: a few blocks can make endless folders
}

func (t *tarWriter) entry(ctx context.Context, c cid.Cid, name string, depth int) error {
	t.left--
	if t.left < 0 || depth > depthMax {
		return errs.New(errs.Invalid, "directory has more than %d entries or %d levels", treeMax, depthMax)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, length, err := t.dag.node(c)
	if err != nil {
		return err
	}
	info := n.info(c, length)
	head := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: modeFile, Size: info.Size}
	switch info.Kind {
	case KindDirectory:
		head.Typeflag, head.Mode, head.Size, head.Name = tar.TypeDir, modeFolder, 0, name+"/"
	case KindSymlink:
		head.Typeflag, head.Size, head.Linkname = tar.TypeSymlink, 0, string(n.data)
	default:
	}
	if err := t.out.WriteHeader(&head); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	switch info.Kind {
	case KindDirectory:
		return t.folder(ctx, n, name, depth)
	case KindFile:
		return t.file(ctx, n, info)
	default:
		return nil
	}
}

// folder writes the entries of a directory. A name may be there once: what is
// unpacked as a symlink and then as a folder would write where the link leads.
func (t *tarWriter) folder(ctx context.Context, n *node, name string, depth int) error {
	shards, names := 0, map[string]struct{}{}
	return t.dag.list(ctx, n, &shards, func(e Entry) error {
		if err := checkName(e.Name); err != nil {
			return err
		}
		if _, twice := names[e.Name]; twice {
			return errs.New(errs.Invalid, "%.200q is there twice", path.Join(name, e.Name))
		}
		names[e.Name] = struct{}{}
		return t.entry(ctx, e.CID, path.Join(name, e.Name), depth+1)
	})
}

// file writes the bytes of a file.
func (t *tarWriter) file(ctx context.Context, n *node, info Info) error {
	f := &File{Info: info, dag: t.dag, path: []step{{node: n}}}
	_, err := f.WriteTo(contextWriter{ctx, t.out})
	return err
}

// contextWriter ends when ctx does, between two writes.
type contextWriter struct {
	ctx context.Context //nolint:containedctx // lives for one call of file
	w   io.Writer
}

// Write implements io.Writer.
func (c contextWriter) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
