package chaintest_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func TestJobLivesOnANet(t *testing.T) {
	n := chaintest.Start(t)
	spec := chaintest.Spec("job")

	n.Open(t, spec, chaintest.RateQ32(1))
	n.Confirm(t, spec)
	r := n.Stop(t, spec)

	if !r.OK || r.Number != n.Head(t).Number {
		t.Errorf("the stop is in block %d, want the newest, %d", r.Number, n.Head(t).Number)
	}
	if args := n.Sign(t, chaintest.Spec("other"), chaintest.RateQ32(1)).Args(t); len(args) == 0 {
		t.Error("no arguments")
	}
}

func TestWireCutsAndMends(t *testing.T) {
	n := chaintest.Start(t)
	w := chaintest.NewWire(t, n.Chain.URL())
	c, err := chain.Dial(t.Context(), chain.Config{RPCURL: w.URL, ChainID: devchain.ChainID}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Head(t.Context()); err != nil {
		t.Errorf("whole: %v", err)
	}
	w.Cut()
	if _, err := c.Head(t.Context()); !errors.Is(err, errs.Unavailable) {
		t.Errorf("cut: %v, want unavailable", err)
	}
	w.Mend()
	if _, err := c.Head(t.Context()); err != nil {
		t.Errorf("mended: %v", err)
	}
}
