package ccn

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// jsonFileMax bounds the files that are answered in JSON.
	jsonFileMax = 100 * mib
	// lineBytes are encoded into a line of lineChars characters.
	lineBytes, lineChars = 57, 76
	// forever is the cache of what has one name for all time.
	forever = "public, max-age=31536000, immutable"
)

// unreadable is what a client is told of a file whose bytes are not here.
func unreadable(err error) error {
	if kind := errs.KindOf(err); kind == errs.NotFound || kind == errs.Invalid {
		return errNoFile()
	}
	return err
}

// fileRaw serves a file as it is, whole or in ranges, or a directory as a tar. Its
// hash is its tag: what has one name never changes.
func (s *Server) fileRaw(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	hash, err := askedHash(r)
	if err != nil {
		return err
	}
	info, err := s.fileInfo(r.Context(), hash)
	if err != nil {
		return err
	}
	if info.Directory {
		return s.directoryRaw(w, r, st, hash)
	}
	f, _, err := st.openFile(hash)
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	immutable(w.Header(), string(hash))
	http.ServeContent(api.NewPatientWriter(w), r, "", time.Time{}, f)
	return nil
}

// immutable lets caches keep what has the name.
func immutable(h http.Header, name string) {
	h.Set("ETag", strconv.Quote(name))
	h.Set("Cache-Control", forever)
}

// directoryRaw serves a directory as a tar, whose length nobody knows before its
// end.
func (s *Server) directoryRaw(w http.ResponseWriter, r *http.Request, st *Storage, hash message.ItemHash) error {
	root, err := st.root(hash)
	if err != nil {
		return unreadable(err)
	}
	immutable(w.Header(), string(hash)+".tar")
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Accept-Ranges", "none")
	if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := st.IPFS.Tar(r.Context(), root.CID, api.NewPatientWriter(w)); err != nil {
		s.breakOff(r, err)
	}
	return nil
}

// breakOff ends an answer that has begun so that nobody takes it for whole.
func (s *Server) breakOff(r *http.Request, err error) {
	s.log.Debug("answer broken off", "path", r.URL.Path, "err", err)
	panic(http.ErrAbortHandler)
}

// fileJSON serves a file in JSON, as other nodes fetch it.
func (s *Server) fileJSON(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	hash, err := askedHash(r)
	if err != nil {
		return err
	}
	info, err := s.fileInfo(r.Context(), hash)
	if err != nil {
		return err
	}
	if info.SizeBytes > jsonFileMax {
		return errTooLarge(jsonFileMax)
	}
	f, size, err := st.openFile(hash)
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	o := newObject(nil)
	o.text("status", "success")
	o.text("hash", string(hash))
	o.text("engine", string(hash.Type()))
	o.key("content")
	head := append(o.buf, '"') // The text and the object are ended when the file is.
	w.Header().Set("Content-Type", typeJSON)
	immutable(w.Header(), string(hash)+".json")
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(head))+base64Len(size)+int64(len(`"}`)), 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := writeBase64(api.NewPatientWriter(w), head, f); err != nil {
		s.breakOff(r, err)
	}
	return nil
}

// base64Len is the length of a file in a text of JSON, whose lines end in \n.
func base64Len(size int64) int64 {
	chars := (size + 2) / 3 * 4
	return chars + (chars+lineChars-1)/lineChars*int64(len(`\n`))
}

// writeBase64 writes the beginning of a document, and a file as its last text.
func writeBase64(w io.Writer, head []byte, f io.Reader) error {
	const lines = 1024
	in, out := make([]byte, lines*lineBytes), make([]byte, 0, lines*(lineChars+2)+len(head)+2)
	out = append(out, head...)
	for {
		n, err := io.ReadFull(f, in)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		for at := 0; at < n; at += lineBytes {
			out = append(base64.StdEncoding.AppendEncode(out, in[at:min(at+lineBytes, n)]), `\n`...)
		}
		if n < len(in) {
			out = append(out, `"}`...)
		}
		if _, err := w.Write(out); err != nil || n < len(in) {
			return err
		}
		out = out[:0]
	}
}
