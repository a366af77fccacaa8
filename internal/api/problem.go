package api

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Problem is the answer to a request that failed, as RFC 9457 has it. It is an
// error too, so that handlers of the typed interface can return it.
type Problem struct {
	Title  string `json:"title" doc:"The status in words."`
	Status int    `json:"status" doc:"The HTTP status."`
	Detail string `json:"detail" doc:"What went wrong, for people."`
	// ErrorCode is the protocol's verdict on a message that was refused.
	ErrorCode *message.Code `json:"error_code,omitempty" doc:"The protocol's number for the refusal of a message."`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of problems.
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// ProblemOf returns the answer that a client may see for err. It is the one
// place where a kind of failure becomes a status. The text of an Internal error
// stays in the log, and so does what errs.Placed says of places.
func ProblemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	status, detail := http.StatusInternalServerError, "internal error"
	var rejected *message.RejectError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &rejected):
		p = newProblem(http.StatusUnprocessableEntity, rejected.Error())
		p.ErrorCode = &rejected.Code
		return p
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, err.Error())
	}
	switch errs.KindOf(err) {
	case errs.Invalid:
		status, detail = http.StatusBadRequest, errs.Public(err)
	case errs.Denied:
		status, detail = http.StatusForbidden, errs.Public(err)
	case errs.NotFound:
		status, detail = http.StatusNotFound, errs.Public(err)
	case errs.Conflict:
		status, detail = http.StatusConflict, errs.Public(err)
	case errs.Exhausted:
		status, detail = http.StatusPaymentRequired, errs.Public(err)
	case errs.Unavailable:
		status, detail = http.StatusServiceUnavailable, errs.Public(err)
	case errs.Internal:
	}
	return newProblem(status, detail)
}

func newProblem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// Refuse answers a request with what its failure means, and logs a failure of
// this node.
func Refuse(log *slog.Logger, w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err)
	LogInternal(log, r.Method, r.URL.Path, p, err)
	w.Header().Set("Content-Type", problemType)
	w.Header().Del("Content-Length")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}

// LogInternal logs a request that failed by this node's fault.
func LogInternal(log *slog.Logger, method, path string, p *Problem, err error) {
	if p.Status == http.StatusInternalServerError {
		log.Error("request failed", "method", method, "path", path, "err", err)
	}
}
