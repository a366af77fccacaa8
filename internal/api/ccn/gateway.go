package ccn

import (
	"bytes"
	"context"
	"errors"
	"html"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// indexName is the entry that is served for its directory.
	indexName = "index.html"
	// listedMax bounds the entries of a directory that are shown.
	listedMax = 10_000
	// apart is the policy of pages that others wrote: they may do what pages do, but
	// not in the name of this origin, which has interfaces that act for people.
	apart = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
)

// gateway serves IPFS content below a root that this node keeps for the network. It
// fetches nothing from elsewhere.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	if !st.Config.Gateway || st.IPFS == nil {
		return refuse(http.StatusNotFound)
	}
	root, err := ipfs.ParseCID(r.PathValue("cid"))
	if err != nil {
		return refuseText(http.StatusBadRequest, "Invalid CID provided")
	}
	if form := trustless(r); form != "" && r.PathValue("path") == "" {
		return s.serveBlocks(w, r, st, root, form)
	}
	if err := s.isKept(r.Context(), root); err != nil {
		return err
	}
	below := r.PathValue("path")
	id, err := st.IPFS.Resolve(r.Context(), root.String()+"/"+below)
	if err != nil {
		return unreadable(err)
	}
	info, err := st.IPFS.Stat(id)
	if err != nil {
		return unreadable(err)
	}
	w.Header().Set("Content-Security-Policy", apart)
	switch info.Kind {
	case ipfs.KindFile:
		return st.serveContent(w, r, id, path.Base(below))
	case ipfs.KindDirectory:
		return s.serveFolder(w, r, st, id)
	default:
		return errNoFile()
	}
}

// The forms in which a client can verify what it gets.
const (
	formRaw = "application/vnd.ipld.raw"
	formCAR = "application/vnd.ipld.car"
)

// trustless returns the form that the client asks for, "" if it wants files.
func trustless(r *http.Request) string {
	switch r.URL.Query().Get("format") {
	case "raw":
		return formRaw
	case "car":
		return formCAR
	}
	for one := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		form, _, _ := strings.Cut(strings.TrimSpace(one), ";")
		if form == formRaw || form == formCAR {
			return form
		}
	}
	return ""
}

// serveBlocks serves one block, or all below it as an archive. Peers get by bitswap
// whatever is here, so no more is asked for here either.
func (s *Server) serveBlocks(w http.ResponseWriter, r *http.Request, st *Storage, id cid.Cid, form string) error {
	block, err := st.IPFS.Block(id)
	if err != nil {
		return unreadable(err)
	}
	immutable(w.Header(), id.String()+form)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Disposition", "attachment")
	w.Header().Set("Content-Type", form)
	if form == formRaw {
		http.ServeContent(api.NewPatientWriter(w), r, "", time.Time{}, bytes.NewReader(block))
		return nil
	}
	w.Header().Set("Content-Type", form+"; version=1; order=dfs; dups=n")
	if r.Method == http.MethodHead {
		return nil
	}
	if err := st.IPFS.Export(r.Context(), id, api.NewPatientWriter(w)); err != nil {
		s.breakOff(r, err)
	}
	return nil
}

// isKept wants content to be a file of the network.
func (s *Server) isKept(ctx context.Context, id cid.Cid) error {
	for _, name := range ipfs.Spellings(id) {
		_, err := s.parts.DB.FileInfo(ctx, message.ItemHash(name))
		if !errors.Is(err, errs.NotFound) {
			return err
		}
	}
	return errNoFile()
}

// serveContent serves a file, whole or in ranges. Its type is that of its name, or
// of its first bytes.
func (st *Storage) serveContent(w http.ResponseWriter, r *http.Request, id cid.Cid, name string) error {
	f, err := st.IPFS.Open(id)
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	immutable(w.Header(), id.String())
	http.ServeContent(api.NewPatientWriter(w), r, name, time.Time{}, f)
	return nil
}

// serveFolder serves the page of a directory if it has one, else what is in it.
func (s *Server) serveFolder(w http.ResponseWriter, r *http.Request, st *Storage, id cid.Cid) error {
	if !strings.HasSuffix(r.URL.Path, "/") {
		// Links of a page are relative to its folder.
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, "/"+strings.TrimLeft(to.String(), "/"), http.StatusFound)
		return nil
	}
	index, err := st.IPFS.Resolve(r.Context(), id.String()+"/"+indexName)
	if err == nil {
		return st.serveContent(w, r, index, indexName)
	}
	if !errors.Is(err, errs.NotFound) {
		return unreadable(err)
	}
	page, err := st.folderPage(r.Context(), id)
	if err != nil {
		return unreadable(err)
	}
	immutable(w.Header(), "list-"+id.String())
	s.write(w, r, http.StatusOK, "text/html; charset=utf-8", page)
	return nil
}

// errEnough ends a list.
var errEnough = errors.New("that is enough")

// folderPage is a list of what is in a directory.
func (st *Storage) folderPage(ctx context.Context, id cid.Cid) ([]byte, error) {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>" + id.String() + "</title>\n<ul>\n")
	n := 0
	err := st.IPFS.List(ctx, id, func(e ipfs.Entry) error {
		if n++; n > listedMax {
			return errEnough
		}
		link := url.URL{Path: "./" + e.Name}
		b.WriteString("<li><a href=\"" + html.EscapeString(link.String()) + "\">" + html.EscapeString(e.Name) + "</a>\n")
		return nil
	})
	if errors.Is(err, errEnough) {
		b.WriteString("<li>...\n")
		err = nil
	}
	b.WriteString("</ul>\n")
	return []byte(b.String()), err
}
