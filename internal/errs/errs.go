// Package errs classifies the failures that cross a package boundary.
//
// A caller needs to know one of seven things about a failure: whose fault it
// is and whether asking again can help. Everything else is text for a human.
// The mapping from a Kind to an HTTP status is in internal/api/problem.go and
// nowhere else.
package errs

import (
	"errors"
	"fmt"
)

// Kind is the class of a failure. A Kind is itself an error, so that
// errors.Is(err, errs.NotFound) works through any number of wraps, up to the
// first that gives a kind of its own: who wraps a cause judges anew what it
// means, and a peer that sent nonsense is not the caller's fault.
type Kind string

// The kinds. A new one takes an ADR: each needs a rule in every door.
const (
	Invalid     Kind = "invalid"     // The input can never succeed as it is.
	Denied      Kind = "denied"      // The caller may not do this.
	NotFound    Kind = "not found"   // The named thing does not exist here.
	Conflict    Kind = "conflict"    // The thing changed, or exists already.
	Exhausted   Kind = "exhausted"   // A balance, quota or rate is used up.
	Unavailable Kind = "unavailable" // A peer or resource is away; retry later.
	Internal    Kind = "internal"    // A defect or a broken disk; a human must look.
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

type kinded struct {
	kind Kind
	err  error
}

func (e *kinded) Error() string   { return e.err.Error() }
func (e *kinded) Unwrap() []error { return []error{e.kind, cause{e.err}} }

// cause is an error whose kinds are not asked for any more.
type cause struct{ err error }

func (c cause) Error() string { return c.err.Error() }

func (c cause) Is(target error) bool {
	if _, kind := target.(Kind); kind {
		return false
	}
	return errors.Is(c.err, target)
}

func (c cause) As(target any) bool {
	if _, kind := target.(*Kind); kind {
		return false
	}
	return errors.As(c.err, target)
}

// New returns an error of the kind with a formatted text; %w wraps as in
// fmt.Errorf.
func New(k Kind, format string, args ...any) error {
	return &kinded{kind: k, err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind nearest to the surface of err, Internal if it has
// none, and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Internal
}
