package errs_test

import (
	"errors"
	"fmt"
	"io"
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
