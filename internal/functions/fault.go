package functions

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Fault is why a call has no reply, as clients are told.
type Fault struct {
	// Status is that of HTTP.
	Status int
	// Text is for the client. It says nothing of the host.
	Text string
	// Plain is set when Text is a program's own and goes out as it is.
	Plain bool
	// RetryAfter is when to try again, or zero.
	RetryAfter time.Duration
	// Cause is for the log, or nil.
	Cause error
}

// Error implements error.
func (f *Fault) Error() string {
	if f.Cause != nil {
		return fmt.Sprintf("%s: %v", f.Text, f.Cause)
	}
	return f.Text
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// The texts of published nodes.
const (
	textMissing  = "Code, runtime or data not available"
	textNoRoom   = "This CRN cannot host the requested workload at this time."
	textBusy     = "Too many calls of this program wait already"
	textTooLarge = "%s file too large to pass as an inline zip"
	textSetup    = "Error during vm initialisation"
	textRuntime  = "Error during runtime initialisation"
	textStart    = "Unhandled error during initialisation"
	textTimeout  = "Program did not respond within `resource.seconds`"
	textNoAnswer = "VM did not respond and was shut down"
	textGarbage  = "VM responded with something that is not a reply"
	textDraining = "Server is draining, try another node"
	textBody     = "Request body is larger than this program's runtime takes"
)

// retryAfter is when who found no room may try again: by then machines have started, or
// idle ones have ended.
const retryAfter = 5 * time.Second

func fault(status int, text string, cause error) *Fault {
	return &Fault{Status: status, Text: text, Cause: cause}
}

// missing is the fault of what could not be read of a program.
func missing(hash message.ItemHash, err error) *Fault {
	if errors.Is(err, errs.NotFound) {
		return fault(http.StatusNotFound, fmt.Sprintf("Item hash %s not found", hash), err)
	}
	return fault(http.StatusBadRequest, textMissing, err)
}

// startFault is the fault of a start that failed.
func startFault(err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errs.Exhausted):
		return &Fault{Status: http.StatusServiceUnavailable, Text: textNoRoom, RetryAfter: retryAfter, Cause: err}
	default:
		return fault(http.StatusInternalServerError, textStart, err)
	}
}
