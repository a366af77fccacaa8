package node_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
)

func TestWhyACallFailedIsToldAsPublishedNodesDo(t *testing.T) {
	t.Parallel()
	cause := errs.New(errs.NotFound, "of the host")
	for name, c := range map[string]struct {
		err  error
		want crn.Failure
	}{
		"files missing": {&functions.Fault{Status: http.StatusBadRequest, Text: "Code, runtime or data not available", Cause: cause}, crn.Failure{Status: 400, Text: "400: Code, runtime or data not available", Cause: cause}},
		"no start":      {&functions.Fault{Status: http.StatusInternalServerError, Text: "Error during runtime initialisation"}, crn.Failure{Status: 500, Text: "500: Error during runtime initialisation"}},
		"a traceback":   {&functions.Fault{Status: http.StatusInternalServerError, Text: "Traceback", Plain: true}, crn.Failure{Status: 500, Text: "Traceback", Plain: true}},
		"no room":       {&functions.Fault{Status: http.StatusServiceUnavailable, Text: "no room"}, crn.Failure{Status: 503, Text: "no room"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got *crn.Failure
			if err := node.FailureOf(c.err); !errors.As(err, &got) || *got != c.want {
				t.Errorf("got %+v, want %+v", err, c.want)
			}
		})
	}
	if err := node.FailureOf(cause); !errors.Is(err, cause) {
		t.Errorf("another error became %v", err)
	}
}
