package ccn

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// heldMax is how much of an answer is held until its end. One that is longer is
	// written as it is read, and keeps a reader of the database for as long.
	heldMax = 1 << 20
	// longMax bounds such answers: there are more readers than that.
	longMax = 3
	// longWait is how long one may wait for its turn.
	longWait = 30 * time.Second
	// chunkMax is how much of a long answer is written at once, and longTimeout bounds the
	// time that all of it may take.
	chunkMax    = 64 << 10
	longTimeout = 10 * time.Minute
	// longPace is what a client has to read of a long answer, in bytes a second, and
	// longPatience is for how long it may read less.
	longPace     = 32 << 10
	longPatience = 10 * time.Second
)

// stream is an answer that grows. Up to heldMax nothing of it is written, so that
// what fails until then is answered as a failure.
type stream struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	out   io.Writer // Of a long answer.
	zip   *gzip.Writer
	buf   []byte
	turn  bool // To be long.
	long  bool
	may   bool // Be compressed, for who reads that.
	wants bool // That it is.
}

// list answers with what fn appends while it reads the database. zipped says whether
// the answer may be compressed.
func (s *Server) list(w http.ResponseWriter, r *http.Request, zipped bool, fn func(*state.View, *stream) error) error {
	st := &stream{s: s, w: w, r: r, may: zipped, wants: zipped && acceptsGzip(r)}
	err := st.read(r.Context(), fn)
	if errors.Is(err, errCrowded) {
		// Who waits keeps no reader of the database from others, and reads anew then.
		st.buf = nil
		if err = s.long.take(r.Context()); err == nil {
			st.turn = true
			err = st.read(r.Context(), fn)
		}
	}
	if st.turn {
		s.long.leave()
	}
	if err != nil && st.out != nil {
		// The connection is broken, so that nobody takes the answer for whole.
		s.log.Debug("long answer broken off", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// read makes the answer of what fn reads.
func (st *stream) read(ctx context.Context, fn func(*state.View, *stream) error) error {
	if err := st.s.parts.DB.View(ctx, func(v *state.View) error { return fn(v, st) }); err != nil {
		return err
	}
	return st.finish()
}

// errCrowded is what an answer meets that gets long and has no turn.
var errCrowded = errs.New(errs.Unavailable, "%d long lists are being read already; ask for pages, or try again", longMax)

// acceptsGzip reports whether a client reads answers that are compressed.
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(coding), ";")
			refused := strings.Trim(strings.ReplaceAll(params, " ", ""), "0.") == "q="
			if strings.EqualFold(strings.TrimSpace(name), "gzip") && !refused {
				return true
			}
		}
	}
	return false
}

// grow lets fn append to the answer, and writes what is enough for a chunk.
func (st *stream) grow(fn func(dst []byte) ([]byte, error)) (err error) {
	if st.buf, err = fn(st.buf); err != nil {
		return err
	}
	if !st.long {
		if len(st.buf) <= heldMax {
			return nil
		}
		if err := st.begin(); err != nil {
			return err
		}
	}
	if len(st.buf) < chunkMax {
		return nil
	}
	return st.flush()
}

// text appends a text to the answer.
func (st *stream) text(s string) error {
	return st.grow(func(dst []byte) ([]byte, error) { return append(dst, s...), nil })
}

// begin turns the answer into a long one.
func (st *stream) begin() error {
	if !st.turn {
		if !st.s.long.try() {
			return errCrowded
		}
		st.turn = true
	}
	st.long = true
	if err := api.BeginStream(st.w); err != nil {
		return err
	}
	st.header()
	st.w.WriteHeader(http.StatusOK)
	st.out = &paced{ResponseWriter: st.w, until: time.Now().Add(longTimeout), patience: longPatience}
	if st.wants {
		st.zip = gzip.NewWriter(st.out)
		st.out = st.zip
	}
	return nil
}

func (st *stream) header() {
	st.w.Header().Set("Content-Type", typeJSON)
	if st.may {
		st.w.Header().Add("Vary", "Accept-Encoding")
	}
	if st.wants {
		st.w.Header().Set("Content-Encoding", "gzip")
	}
}

// paced writes a long answer to a client that reads at a pace. Only the time counts in
// which the client is waited for, so a slow database is not its fault; and what it read
// faster before gives it no more than longPatience.
type paced struct {
	http.ResponseWriter
	until    time.Time // It has all by then.
	patience time.Duration
}

// Write implements io.Writer.
func (p *paced) Write(b []byte) (int, error) {
	p.patience = min(p.patience+time.Duration(len(b))*time.Second/longPace, longPatience)
	began := time.Now()
	deadline := began.Add(p.patience)
	if deadline.After(p.until) {
		deadline = p.until
	}
	// Who writes to something else than a connection has no deadlines.
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(deadline)
	n, err := p.ResponseWriter.Write(b)
	p.patience -= time.Since(began)
	return n, err
}

// flush writes what there is of a long answer.
func (st *stream) flush() error {
	_, err := st.out.Write(st.buf)
	st.buf = st.buf[:0]
	return err
}

// finish writes the rest of the answer. The database is free again.
func (st *stream) finish() error {
	if st.long {
		if err := st.flush(); err != nil || st.zip == nil {
			return err
		}
		return st.zip.Close()
	}
	st.header()
	if !st.wants {
		st.s.write(st.w, st.r, http.StatusOK, typeJSON, st.buf)
		return nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(st.buf); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	st.s.write(st.w, st.r, http.StatusOK, typeJSON, b.Bytes())
	return nil
}
