package ccn

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

const (
	// addRootsMax bounds what one request adds beside each other: each is a root of
	// its own, with a buffer and an open file. A folder is one.
	addRootsMax = 64
	// addPartsMax bounds the files and folders of one request.
	addPartsMax = 1 << 16
	// folderType is the content type of a part that is an empty folder.
	folderType = "application/x-directory"
)

// adding is what one request brings in the way of Kubo.
type adding struct {
	u       *upload
	version ipfs.Version
	wrap    bool // All goes into one directory that has no name.
	left    int64
	limit   int64
	unnamed int // Files that came without a name.

	roots []*addedRoot // In the order in which they came.
}

// addedRoot is a file, or a folder of which all parts come together.
type addedRoot struct {
	name  string
	tree  *ipfs.Tree
	draft *ipfs.Draft
}

// kuboAdd takes files and folders as Kubo's /api/v0/add does, without a message:
// each root is kept for a while, and for longer if a STORE message names it.
func (s *Server) kuboAdd(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	if !st.Config.KuboAdd || st.IPFS == nil {
		return refuse(http.StatusNotFound)
	}
	a, err := st.adding(w, r)
	if err != nil {
		return err
	}
	defer func() {
		if err := a.drop(); err != nil {
			s.log.Error("refused upload not dropped", "err", err)
		}
	}()
	if err := a.read(r.Context()); err != nil {
		return a.u.failed(err)
	}
	if err := a.finish(); err != nil {
		return a.u.failed(err)
	}
	for _, root := range a.roots {
		d := contentDraft{root.draft}
		if _, err := s.store(context.WithoutCancel(r.Context()), d, d.Info(), nil); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Chunked-Output", "1")
	w.WriteHeader(http.StatusOK)
	out := api.NewPatientWriter(w)
	for _, root := range a.roots {
		if err := st.list(r.Context(), out, root.name, root.draft.Root); err != nil {
			s.breakOff(r, err)
		}
	}
	return nil
}

// adding reads what a request wants. What would give content another CID than it
// gets here is refused.
func (st *Storage) adding(w http.ResponseWriter, r *http.Request) (*adding, error) {
	limit := st.Config.MaxAddMiB * mib
	p := readParams(r)
	a := &adding{limit: limit, left: limit, version: ipfs.Version(p.integer(0, 0, 1, "cid-version")), wrap: p.boolean(false, "wrap-with-directory", "w")}
	rawLeaves := p.boolean(a.version == ipfs.V1, "raw-leaves")
	unlike := p.boolean(false, "trickle", "t") || p.boolean(false, "inline") || p.boolean(false, "nocopy") || p.boolean(false, "only-hash", "n") || rawLeaves != (a.version == ipfs.V1)
	for name, only := range map[string]string{"hash": "sha2-256", "chunker": "size-262144"} {
		value, given := p.text(name)
		unlike = unlike || given && value != only
	}
	if p.err() != nil || unlike {
		return nil, refuseReason(http.StatusBadRequest, "This node adds content with Kubo's defaults: cid-version may be 0 or 1, and wrap-with-directory be set")
	}
	var err error
	if a.u, err = st.begin(w, r, limit); err == nil && a.u.form == nil {
		err = refuseReason(http.StatusBadRequest, "Expected Content-Type: multipart/form-data")
	}
	return a, err
}

// read reads the parts of the form. Each is a file or a folder, whatever its name
// in the form is; its file name is its path.
func (a *adding) read(ctx context.Context) error {
	if a.wrap {
		tree, err := a.u.st.IPFS.NewTree(a.version)
		if err != nil {
			return err
		}
		a.roots = append(a.roots, &addedRoot{tree: tree})
	}
	for n := 0; ; n++ {
		part, err := a.u.nextPart()
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return refuseReason(http.StatusBadRequest, "file argument 'path' is required")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case n == addPartsMax:
			return refuseReason(http.StatusBadRequest, "more than "+strconv.Itoa(addPartsMax)+" files and folders")
		}
		if err := a.take(ctx, part); errs.KindOf(err) == errs.Invalid || errs.KindOf(err) == errs.Conflict {
			return refuseReason(http.StatusBadRequest, err.Error())
		} else if err != nil {
			return err
		}
	}
}

// partPath is the path of a part, with folders, and its type.
func partPath(part *multipart.Part) (name, kind string) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err == nil {
		name = params["filename"]
	}
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain // As Kubo's own clients write it.
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	kind, _, _ = mime.ParseMediaType(part.Header.Get("Content-Type"))
	return name, kind
}

// take adds one part to the root that it belongs to.
func (a *adding) take(ctx context.Context, part *multipart.Part) error {
	name, kind := partPath(part)
	if kind == "application/symlink" {
		return errs.New(errs.Invalid, "%.200q is a symlink, which is not taken", name)
	}
	in := &bounded{ctx: ctx, u: a.u, r: part, limit: a.left}
	defer func() { a.left -= in.n }()
	err := a.put(ctx, name, kind == folderType, in)
	if in.n > in.limit {
		return errTooLarge(a.limit)
	}
	return err
}

func (a *adding) put(ctx context.Context, name string, isFolder bool, in io.Reader) error {
	first, rest, deep := strings.Cut(name, "/")
	if a.wrap {
		first, rest, deep = "", name, true
		if name == "" {
			a.unnamed++
			rest = "file-" + strconv.Itoa(a.unnamed)
		}
	}
	if !deep && !isFolder {
		d, err := a.u.st.IPFS.Draft(ctx, in, a.version)
		if err != nil {
			return err
		}
		if name == "" {
			name = d.Root.CID.String()
		}
		return a.add(&addedRoot{name: name, draft: d})
	}
	root, err := a.folder(first)
	switch {
	case err != nil:
		return err
	case isFolder:
		return root.tree.MakeFolder(rest)
	}
	return root.tree.Add(ctx, rest, in)
}

// folder is the root with the name, and is made as needed.
func (a *adding) folder(name string) (*addedRoot, error) {
	for _, root := range a.roots {
		if root.tree != nil && root.name == name {
			return root, nil
		}
	}
	tree, err := a.u.st.IPFS.NewTree(a.version)
	if err != nil {
		return nil, err
	}
	root := &addedRoot{name: name, tree: tree}
	return root, a.add(root)
}

func (a *adding) add(root *addedRoot) error {
	if len(a.roots) == addRootsMax {
		err := errs.New(errs.Invalid, "more than %d files beside each other: put them into a folder, or set wrap-with-directory", addRootsMax)
		return errors.Join(err, root.drop())
	}
	a.roots = append(a.roots, root)
	return nil
}

// finish gives every root its CID.
func (a *adding) finish() (err error) {
	for _, root := range a.roots {
		if root.tree == nil {
			continue
		}
		if root.draft, err = root.tree.Draft(); err != nil {
			return err
		}
		root.tree = nil
	}
	return nil
}

func (r *addedRoot) drop() error {
	switch {
	case r.draft != nil:
		return r.draft.Abort()
	case r.tree != nil:
		return r.tree.Abort()
	}
	return nil
}

// drop drops what was not kept.
func (a *adding) drop() error {
	var err error
	for _, root := range a.roots {
		err = errors.Join(err, root.drop())
	}
	return err
}

// list writes what was added, what is in a folder before the folder: the last line
// is the root.
func (st *Storage) list(ctx context.Context, w io.Writer, name string, root ipfs.Root) error {
	if root.Kind == ipfs.KindDirectory {
		if err := st.listFolder(ctx, w, name, root.CID, 0); err != nil {
			return err
		}
	}
	return writeAdded(w, name, root.CID.String(), root.Cumulative)
}

// listDepthMax bounds folders in folders; none that was added is as deep.
const listDepthMax = 1024

func (st *Storage) listFolder(ctx context.Context, w io.Writer, name string, folder cid.Cid, depth int) error {
	if depth > listDepthMax {
		return errs.New(errs.Invalid, "folder %s is more than %d folders deep", folder, listDepthMax)
	}
	return st.IPFS.List(ctx, folder, func(e ipfs.Entry) error {
		info, err := st.IPFS.Stat(e.CID)
		if err != nil {
			return err
		}
		below := path.Join(name, e.Name)
		if info.Kind == ipfs.KindDirectory {
			if err := st.listFolder(ctx, w, below, e.CID, depth+1); err != nil {
				return err
			}
		}
		return writeAdded(w, below, e.CID.String(), e.Cumulative)
	})
}

func writeAdded(w io.Writer, name, id string, cumulative int64) error {
	o := newObject(nil)
	o.text("Name", name)
	o.text("Hash", id)
	o.text("Size", strconv.FormatInt(cumulative, 10))
	_, err := w.Write(append(o.end(), '\n'))
	return err
}
