package ccn

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	typeJSON = "application/json; charset=utf-8"
	typeText = "text/plain; charset=utf-8"
)

// refusal is an answer that says no, in the words that clients look for.
type refusal struct {
	status int
	text   string
	json   bool // The text is a document.
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// refuse refuses with the status in words, "404: Not Found".
func refuse(status int) error { return refuseReason(status, http.StatusText(status)) }

// refuseReason refuses with "<status>: <reason>".
func refuseReason(status int, reason string) error {
	return &refusal{status: status, text: strconv.Itoa(status) + ": " + reason}
}

// refuseText refuses with a text as it is.
func refuseText(status int, text string) error { return &refusal{status: status, text: text} }

// refusalOf is the answer that a client may see for an error. The kinds of failure
// are those of every interface, and what is wrong with this node stays in its log.
func refusalOf(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &refusal{status: http.StatusRequestEntityTooLarge, text: "Maximum request body size " + strconv.FormatInt(tooLarge.Limit, 10) + " exceeded"}
	}
	p := api.ProblemOf(err)
	if errs.KindOf(err) == errs.Exhausted {
		// Here 402 is said of senders who cannot pay, and this is a full disk.
		p.Status = http.StatusServiceUnavailable
	}
	return &refusal{status: p.Status, text: strconv.Itoa(p.Status) + ": " + p.Detail}
}

// refuse answers a request with what its failure means, and logs a failure of this
// node.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	ended := context.Cause(r.Context())
	if errors.Is(err, context.Canceled) && errors.Is(ended, context.Canceled) {
		return // Nobody reads the answer.
	}
	a := refusalOf(err)
	if a.status == http.StatusInternalServerError && errors.Is(ended, errs.Unavailable) {
		a = refusalOf(ended) // What failed did so because the request was ended.
	}
	if a.status == http.StatusInternalServerError {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	kind := typeText
	if a.json {
		kind = typeJSON
	}
	w.Header().Del("Content-Encoding")
	s.write(w, r, a.status, kind, []byte(a.text))
}

// answerJSON answers with a document.
func (s *Server) answerJSON(w http.ResponseWriter, r *http.Request, status int, document []byte) error {
	s.write(w, r, status, typeJSON, document)
	return nil
}

// write answers with a body whose length is known.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(body); err != nil { //nolint:gosec // Text and JSON are no pages, and the one page there is escapes what it shows.
		s.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}
