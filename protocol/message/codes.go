package message

import (
	"fmt"
	"strconv"
)

// Code is the protocol's verdict on a message that was not processed. The
// numbers are fixed by the wire.
type Code int

// The verdicts.
const (
	CodeInternal             Code = -1
	CodeInvalidFormat        Code = 0
	CodeInvalidSignature     Code = 1
	CodePermissionDenied     Code = 2
	CodeContentUnavailable   Code = 3
	CodeFileUnavailable      Code = 4
	CodeBalanceInsufficient  Code = 5
	CodeCreditInsufficient   Code = 6
	CodePostAmendNoTarget    Code = 100
	CodePostAmendNotFound    Code = 101
	CodePostAmendAmend       Code = 102
	CodeStoreRefNotFound     Code = 200
	CodeStoreUpdateUpdate    Code = 201
	CodeInvalidPaymentMethod Code = 202
	CodeVMRefNotFound        Code = 300
	CodeVMVolumeNotFound     Code = 301
	CodeVMAmendNotAllowed    Code = 302
	CodeVMUpdateUpdate       Code = 303
	CodeVMVolumeTooSmall     Code = 304
	CodeForgetNoTarget       Code = 500
	CodeForgetTargetNotFound Code = 501
	CodeForgetForget         Code = 502
	CodeForgetNotAllowed     Code = 503
	CodeForgottenDuplicate   Code = 504
)

// String returns the name of the verdict, in lower-case words.
func (c Code) String() string {
	switch c {
	case CodeInternal:
		return "internal error"
	case CodeInvalidFormat:
		return "invalid format"
	case CodeInvalidSignature:
		return "invalid signature"
	case CodePermissionDenied:
		return "permission denied"
	case CodeContentUnavailable:
		return "content unavailable"
	case CodeFileUnavailable:
		return "file unavailable"
	case CodeBalanceInsufficient:
		return "balance insufficient"
	case CodeCreditInsufficient:
		return "credit insufficient"
	case CodePostAmendNoTarget:
		return "amend without target"
	case CodePostAmendNotFound:
		return "amend target not found"
	case CodePostAmendAmend:
		return "amend of an amend"
	case CodeStoreRefNotFound:
		return "store reference not found"
	case CodeStoreUpdateUpdate:
		return "update of an update"
	case CodeInvalidPaymentMethod:
		return "invalid payment method"
	case CodeVMRefNotFound:
		return "replaced machine not found"
	case CodeVMVolumeNotFound:
		return "volume not found"
	case CodeVMAmendNotAllowed:
		return "machine may not be amended"
	case CodeVMUpdateUpdate:
		return "replacement of a replacement"
	case CodeVMVolumeTooSmall:
		return "volume too small"
	case CodeForgetNoTarget:
		return "forget without target"
	case CodeForgetTargetNotFound:
		return "forget target not found"
	case CodeForgetForget:
		return "forget of a forget"
	case CodeForgetNotAllowed:
		return "forget not allowed"
	case CodeForgottenDuplicate:
		return "copy of a forgotten message"
	default:
		return "code " + strconv.Itoa(int(c))
	}
}

// Retriable reports whether the same message can succeed later without a
// change: something it needs is not known here yet.
func (c Code) Retriable() bool {
	switch c {
	case CodeInternal, CodeContentUnavailable, CodeFileUnavailable, CodePostAmendNotFound,
		CodeStoreRefNotFound, CodeVMRefNotFound, CodeVMVolumeNotFound, CodeForgetTargetNotFound:
		return true
	default:
		return false
	}
}

// RejectError is a verdict with the reason in words that its sender can act on.
type RejectError struct {
	Code   Code
	Detail string
}

// Error implements error.
func (e *RejectError) Error() string {
	return fmt.Sprintf("%s (code %d): %s", e.Code, int(e.Code), e.Detail)
}

// Reject returns a *RejectError with the code and a formatted reason.
func Reject(code Code, format string, args ...any) error {
	return &RejectError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return Reject(CodeInvalidFormat, format, args...)
}
