package crn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// Failure is an error that says itself what a client is told.
type Failure struct {
	Status int
	Text   string
	// Plain tells a text as it is; others are the "error" of an object.
	Plain bool
	// RetryAfter tells when to ask again; zero tells nothing.
	RetryAfter time.Duration
	// Cause is for the log, or nil.
	Cause error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Cause != nil {
		return f.Text + ": " + f.Cause.Error()
	}
	return f.Text
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// refuse refuses with a text.
func refuse(status int, text string) error { return &Failure{Status: status, Text: text} }

// refuseReason refuses with "<status>: <reason>", as an exception of the reference
// without a text of its own does.
func refuseReason(status int, reason string) error {
	return refuse(status, strconv.Itoa(status)+": "+reason)
}

func errNoPath() error {
	return refuseReason(http.StatusNotFound, http.StatusText(http.StatusNotFound))
}

// failureOf is what a client may hear of an error: the one place where a kind
// becomes a status. What is wrong with this node stays in its log.
func failureOf(err error) *Failure {
	var f *Failure
	var tooLarge *http.MaxBytesError
	var unpaid *Unpaid
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &unpaid):
		return unpaid.failure()
	case errors.As(err, &tooLarge):
		return &Failure{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("Maximum request body size %d exceeded", tooLarge.Limit)}
	}
	status := http.StatusInternalServerError
	switch errs.KindOf(err) {
	case errs.Invalid:
		status = http.StatusBadRequest
	case errs.Denied:
		status = http.StatusForbidden
	case errs.NotFound:
		status = http.StatusNotFound
	case errs.Conflict:
		status = http.StatusConflict
	case errs.Exhausted, errs.Unavailable:
		status = http.StatusServiceUnavailable
	case errs.Internal:
		return &Failure{Status: status, Text: "internal error"}
	}
	return &Failure{Status: status, Text: errs.Public(err)}
}

// refusedBy is the answer to a proof that was not taken: what cannot be read is a
// bad request, the rest has a status of its own.
func refusedBy(err error, status int) error {
	var r *operator.Refusal
	if !errors.As(err, &r) {
		return err
	}
	if r.Malformed {
		status = http.StatusBadRequest
	}
	return refuse(status, r.Reason)
}

const (
	typeJSON = "application/json; charset=utf-8"
	typeText = "text/plain; charset=utf-8"
)

// fail answers a request with what its failure means, and logs a failure of this
// node.
func (s *Server) fail(c *call, err error) {
	if errors.Is(err, context.Canceled) && c.r.Context().Err() != nil {
		return // Nobody reads the answer.
	}
	f := failureOf(err)
	// What is plain of such a failure is a program's own.
	if f.Status == http.StatusInternalServerError && !f.Plain {
		s.log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path, "err", err)
	}
	if f.RetryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	if f.Plain {
		s.text(c, f.Status, f.Text)
		return
	}
	if err := s.json(c, f.Status, map[string]string{"error": f.Text}); err != nil {
		s.log.Debug("answer not written", "path", c.r.URL.Path, "err", err)
	}
}

// json answers with a document.
func (s *Server) json(c *call, status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	s.write(c, status, typeJSON, raw)
	return nil
}

// text answers with a text.
func (s *Server) text(c *call, status int, text string) { s.write(c, status, typeText, []byte(text)) }

func (s *Server) write(c *call, status int, kind string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return
	}
	if _, err := c.w.Write(body); err != nil {
		s.log.Debug("answer not written", "path", c.r.URL.Path, "err", err)
	}
}

// stream says that the answer goes on for as long as the client reads it.
func (c *call) stream() error {
	// The request is read. If its time ended, so would the answer.
	if err := http.NewResponseController(c.w).SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("give answer its time: %w", err)
	}
	c.w = api.NewPatientWriter(c.w)
	return api.BeginStream(c.w)
}
