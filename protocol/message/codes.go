package message

import (
	"encoding/json"
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

// Name returns the name of the verdict in the protocol, "" of an unknown one.
// See section 4.3 of the protocol.
func (c Code) Name() string { return c.names().code }

// Class returns the word that nodes answer in plain text to a sender of a
// message that they refuse at once, "" of an unknown verdict.
func (c Code) Class() string { return c.names().class }

type codeNames struct{ code, class string }

func (c Code) names() codeNames {
	switch c {
	case CodeInternal:
		return codeNames{"INTERNAL_ERROR", "InternalError"}
	case CodeInvalidFormat:
		return codeNames{"INVALID_FORMAT", "InvalidMessageFormat"}
	case CodeInvalidSignature:
		return codeNames{"INVALID_SIGNATURE", "InvalidSignature"}
	case CodePermissionDenied:
		return codeNames{"PERMISSION_DENIED", "PermissionDenied"}
	case CodeContentUnavailable:
		return codeNames{"CONTENT_UNAVAILABLE", "MessageContentUnavailable"}
	case CodeFileUnavailable:
		return codeNames{"FILE_UNAVAILABLE", "FileUnavailable"}
	case CodeBalanceInsufficient:
		return codeNames{"BALANCE_INSUFFICIENT", "InsufficientBalanceException"}
	case CodeCreditInsufficient:
		return codeNames{"CREDIT_INSUFFICIENT", "InsufficientCreditException"}
	case CodePostAmendNoTarget:
		return codeNames{"POST_AMEND_NO_TARGET", "NoAmendTarget"}
	case CodePostAmendNotFound:
		return codeNames{"POST_AMEND_TARGET_NOT_FOUND", "AmendTargetNotFound"}
	case CodePostAmendAmend:
		return codeNames{"POST_AMEND_AMEND", "CannotAmendAmend"}
	case CodeStoreRefNotFound:
		return codeNames{"STORE_REF_NOT_FOUND", "StoreRefNotFound"}
	case CodeStoreUpdateUpdate:
		return codeNames{"STORE_UPDATE_UPDATE", "StoreCannotUpdateStoreWithRef"}
	case CodeInvalidPaymentMethod:
		return codeNames{"INVALID_PAYMENT_METHOD", "InvalidPaymentMethod"}
	default:
		return c.laterNames()
	}
}

// laterNames names the verdicts on machines and on FORGETs.
func (c Code) laterNames() codeNames {
	switch c {
	case CodeVMRefNotFound:
		return codeNames{"VM_REF_NOT_FOUND", "VmRefNotFound"}
	case CodeVMVolumeNotFound:
		return codeNames{"VM_VOLUME_NOT_FOUND", "VmVolumeNotFound"}
	case CodeVMAmendNotAllowed:
		return codeNames{"VM_AMEND_NOT_ALLOWED", "VmUpdateNotAllowed"}
	case CodeVMUpdateUpdate:
		return codeNames{"VM_UPDATE_UPDATE", "VmCannotUpdateUpdate"}
	case CodeVMVolumeTooSmall:
		return codeNames{"VM_VOLUME_TOO_SMALL", "VmVolumeTooSmall"}
	case CodeForgetNoTarget:
		return codeNames{"FORGET_NO_TARGET", "NoForgetTarget"}
	case CodeForgetTargetNotFound:
		return codeNames{"FORGET_TARGET_NOT_FOUND", "ForgetTargetNotFound"}
	case CodeForgetForget:
		return codeNames{"FORGET_FORGET", "CannotForgetForgetMessage"}
	case CodeForgetNotAllowed:
		return codeNames{"FORGET_NOT_ALLOWED", "ForgetNotAllowed"}
	case CodeForgottenDuplicate:
		return codeNames{"FORGOTTEN_DUPLICATE", ""} // never answered so
	default:
		return codeNames{}
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
	Errors json.RawMessage // a list, where the protocol says more than Detail
}

// Error implements error.
func (e *RejectError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s (code %d)", e.Code, int(e.Code))
	}
	return fmt.Sprintf("%s (code %d): %s", e.Code, int(e.Code), e.Detail)
}

// Reject returns a *RejectError with the code and a formatted reason.
func Reject(code Code, format string, args ...any) error {
	return &RejectError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return Reject(CodeInvalidFormat, format, args...)
}
