package ipfs

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Tree is a directory that is being added, file by file. Use Store.NewTree, then
// Commit or Abort. One goroutine at a time may use it.
type Tree struct {
	pack   *pack
	writer *writer
	top    *folder
	count  int
	broken error // a file that failed leaves bytes in the blob that no block is
}

// folder is a directory of a Tree.
type folder struct {
	files   map[string]piece
	folders map[string]*folder
}

func newFolder() *folder { return &folder{files: map[string]piece{}, folders: map[string]*folder{}} }

// NewTree starts an empty directory.
func (s *Store) NewTree(v Version) (*Tree, error) {
	p, err := s.begin()
	if err != nil {
		return nil, err
	}
	return &Tree{pack: p, writer: newWriter(p, v), top: newFolder()}, nil
}

// Add adds a file under a path like "folder/name"; folders come as needed. The
// bytes of all files go to one blob.
func (t *Tree) Add(ctx context.Context, path string, r io.Reader) error {
	return t.put(path, func() (piece, error) { return t.writer.add(ctx, r) })
}

// AddBlob adds a file whose bytes are a blob that is here already.
func (t *Tree) AddBlob(ctx context.Context, path string, blob message.ItemHash) error {
	return t.put(path, func() (piece, error) { return t.writer.addBlob(ctx, blob) })
}

// MakeFolder adds a folder, which may stay empty. One that is there is no error.
func (t *Tree) MakeFolder(path string) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	_, err = t.folder(names)
	return err
}

func (t *Tree) put(path string, add func() (piece, error)) error {
	if t.broken != nil {
		return t.broken
	}
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errs.New(errs.Invalid, "the path of a file is empty")
	}
	dir, err := t.folder(names[:len(names)-1])
	if err != nil {
		return err
	}
	name := names[len(names)-1]
	if dir.has(name) {
		return errs.New(errs.Conflict, "path %.200q is there twice", path)
	}
	if err := t.grow(); err != nil {
		return err
	}
	p, err := add()
	if err != nil {
		t.broken = err
		return err
	}
	dir.files[name] = p
	return nil
}

func (f *folder) has(name string) bool {
	_, file := f.files[name]
	return file || f.folders[name] != nil
}

// folder returns the folder of a path, and makes it as needed.
func (t *Tree) folder(names []string) (*folder, error) {
	dir := t.top
	for i, name := range names {
		next := dir.folders[name]
		if next == nil {
			if dir.has(name) {
				return nil, errs.New(errs.Conflict, "path %.200q is both a file and a folder", strings.Join(names[:i+1], "/"))
			}
			if err := t.grow(); err != nil {
				return nil, err
			}
			next = newFolder()
			dir.folders[name] = next
		}
		dir = next
	}
	return dir, nil
}

func (t *Tree) grow() error {
	if t.count == treeMax {
		return errs.New(errs.Invalid, "directory has more than %d files and folders, the most that is taken", treeMax)
	}
	t.count++
	return nil
}

// Commit makes the directory visible, for good. Whatever it returns, the Tree is
// used up.
func (t *Tree) Commit() (Root, error) {
	d, err := t.Draft()
	if err != nil {
		return Root{}, err
	}
	return d.Commit()
}

// Draft ends the directory, so that its CID is known before it is visible. Whatever
// it returns, the Tree is used up.
func (t *Tree) Draft() (*Draft, error) {
	if t.broken != nil {
		return nil, errors.Join(t.broken, t.Abort())
	}
	w := folderWriter{version: t.writer.version, put: func(d digest, block []byte) error {
		return t.pack.put(d, place{form: formHere, here: block})
	}}
	top, err := t.top.write(&w)
	if err != nil {
		return nil, errors.Join(err, t.Abort())
	}
	root := Root{CID: top.cid, Kind: KindDirectory, Size: top.cumulative, Cumulative: top.cumulative}
	return &Draft{Root: root, pack: t.pack, writer: t.writer}, nil
}

// Abort drops what was added. It does nothing after a Commit.
func (t *Tree) Abort() error { return errors.Join(t.writer.abort(), t.pack.abort()) }

// write makes the nodes of the folder, those of its folders first.
func (f *folder) write(w *folderWriter) (piece, error) {
	all := maps.Clone(f.files)
	for name, sub := range f.folders {
		p, err := sub.write(w)
		if err != nil {
			return piece{}, err
		}
		all[name] = p
	}
	links := make([]link, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		links = append(links, all[name].link(name))
	}
	return w.folder(links)
}
