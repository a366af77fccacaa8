package aleph

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Kind is the class of a failure; errors.Is(err, aleph.NotFound) works.
type Kind string

// The kinds of failures.
const (
	Invalid     Kind = "invalid"     // the request can never succeed as it is
	Denied      Kind = "denied"      // the caller may not do this
	NotFound    Kind = "not found"   // the named thing is not there
	Conflict    Kind = "conflict"    // the thing changed, or exists already
	Exhausted   Kind = "exhausted"   // a balance, quota or rate is used up
	Unavailable Kind = "unavailable" // the node is away; try again later
	Internal    Kind = "internal"    // the node has a defect
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Error is a refusal by the node.
type Error struct {
	Status int    // of HTTP
	Title  string // of the problem
	Detail string // what to do about it
	Code   *message.Code
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	if text == "" {
		text = http.StatusText(e.Status)
	}
	if e.Code != nil {
		return fmt.Sprintf("%s (HTTP %d, code %d)", text, e.Status, int(*e.Code))
	}
	return fmt.Sprintf("%s (HTTP %d)", text, e.Status)
}

// Unwrap returns the kind of the failure.
func (e *Error) Unwrap() error {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Denied
	case http.StatusNotFound, http.StatusGone:
		return NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return Conflict
	case http.StatusPaymentRequired, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return Exhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	}
	if e.Status < http.StatusInternalServerError {
		return Invalid
	}
	return Internal
}

// UnreachableError is a node that gave no answer.
type UnreachableError struct {
	URL string
	Err error
}

// Error implements error.
func (e *UnreachableError) Error() string { return fmt.Sprintf("no answer from %s: %v", e.URL, e.Err) }

// Unwrap returns the kind and the cause.
func (e *UnreachableError) Unwrap() []error { return []error{Unavailable, e.Err} }

// RefusedError is a contract's refusal of a transaction.
type RefusedError struct {
	Name   string // of the contract's error, such as StakeTooLow; "" if it gave none that is known
	Kind   Kind
	Reason string       // a sentence
	Node   *Registered  // that the transaction was about; nil if it was about none
	Tx     *common.Hash // the reverted transaction; nil if none was sent
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Tx == nil {
		return e.Reason
	}
	return fmt.Sprintf("%s (transaction %s was reverted)", e.Reason, e.Tx)
}

// Unwrap returns the kind of the failure.
func (e *RefusedError) Unwrap() error { return e.Kind }

// FundsError is an account without the ether that a transaction may cost.
type FundsError struct {
	Account    common.Address
	Need, Have Wei
}

// Error implements error.
func (e *FundsError) Error() string {
	return fmt.Sprintf("account %s holds %s ETH and the transaction may cost %s ETH: %s ETH are missing",
		e.Account, e.Have.Tokens(), e.Need.Tokens(), e.Missing().Tokens())
}

// Missing returns the ether that the account lacks.
func (e *FundsError) Missing() Wei { return Wei{new(big.Int).Sub(e.Need.Big(), e.Have.Big())} }

// Unwrap returns the kind of the failure.
func (e *FundsError) Unwrap() error { return Exhausted }

// problem reads the refusal in an answer.
func problem(resp *http.Response) error {
	const bytesMax = 64 << 10 // a problem is a few sentences
	e := &Error{Status: resp.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, bytesMax))
	if err != nil {
		e.Detail = fmt.Sprintf("answer broke off: %v", err)
		return e
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || !strings.HasSuffix(kind, "json") {
		e.Detail = strings.TrimSpace(string(raw[:min(len(raw), 300)]))
		return e
	}
	var p struct {
		Title     string        `json:"title"`
		Detail    string        `json:"detail"`
		ErrorCode *message.Code `json:"error_code"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		e.Detail = fmt.Sprintf("answer is not a problem: %v", err)
		return e
	}
	e.Title, e.Detail, e.Code = p.Title, p.Detail, p.ErrorCode
	return e
}
