package crn_test

import (
	"context"
	"iter"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// holding is a log that goes on until hold is closed.
type holding struct {
	hold    <-chan struct{}
	entered chan<- struct{}
}

func (h holding) Lines(_ context.Context, vm message.ItemHash, _ crn.LogQuery) iter.Seq2[crn.Line, error] {
	return func(yield func(crn.Line, error) bool) {
		if vm == deca {
			h.entered <- struct{}{}
		}
		<-h.hold
		yield(crn.Line{Stream: "stdout", Text: "end"}, nil)
	}
}
