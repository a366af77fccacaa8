package errs_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func TestKindSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("read job 7: %w", errs.New(errs.NotFound, "no job 7: %w", io.EOF))

	if !errors.Is(err, errs.NotFound) || !errors.Is(err, io.EOF) {
		t.Errorf("errors.Is does not see the kind and the cause of %v", err)
	}
	if got := err.Error(); got != "read job 7: no job 7: EOF" {
		t.Errorf("text %q leaks the kind or lost a part", got)
	}
}

func TestStrangersAreNotToldOfPlaces(t *testing.T) {
	placed := errs.Placed(errs.New(errs.Exhausted, "the disk of /srv/node is full: %w", io.ErrShortWrite), "the disk is full")
	err := fmt.Errorf("commit in /srv: %w", errs.New(errs.Unavailable, "put: %w", placed))

	if got := errs.Public(err); got != "the disk is full" {
		t.Errorf("strangers are told %q", got)
	}
	if got := err.Error(); got != "commit in /srv: put: the disk of /srv/node is full: short write" {
		t.Errorf("the text is %q", got)
	}
	if !errors.Is(err, errs.Unavailable) || !errors.Is(err, io.ErrShortWrite) || errs.KindOf(placed) != errs.Exhausted {
		t.Errorf("%v lost its kind or its cause", err)
	}
	if got := errs.Public(io.EOF); got != "EOF" {
		t.Errorf("of another error they are told %q, want its text", got)
	}
}

func TestACauseKeepsItsIdentityButNotItsKind(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}
	cause := fmt.Errorf("peer 1: %w", errs.New(errs.Invalid, "bytes hash to 7: %w", reset))

	err := fmt.Errorf("fetch: %w", errs.New(errs.Unavailable, "no peer gave it: %w", cause))

	if errors.Is(err, errs.Invalid) || !errors.Is(err, errs.Unavailable) {
		t.Errorf("%v is of its cause's kind, want only its own", err)
	}
	var found *net.OpError
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &found) || found != reset {
		t.Errorf("the cause of %v is lost", err)
	}
	var kind errs.Kind
	if !errors.As(err, &kind) || kind != errs.Unavailable {
		t.Errorf("errors.As gives kind %q, want %q", kind, errs.Unavailable)
	}
}

func TestKindOf(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want errs.Kind
	}{
		{"nil has none", nil, ""},
		{"a foreign error is internal", io.EOF, errs.Internal},
		{"the outermost kind wins", errs.New(errs.Invalid, "bad: %w", errs.New(errs.NotFound, "gone")), errs.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := errs.KindOf(tt.err); got != tt.want {
				t.Errorf("KindOf = %q, want %q", got, tt.want)
			}
		})
	}
	if got := errs.Denied.Error(); got != "denied" {
		t.Errorf("Denied.Error() = %q", got)
	}
}
