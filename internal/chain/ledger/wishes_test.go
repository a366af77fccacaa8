package ledger_test

import (
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/ledger"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func (c *comparison) wishes() {
	b, l := bindings.NewPaymentExtension(), c.l
	for at, want := range l.Limits(c.now) {
		same(c, fmt.Sprintf("limit %v", at), "PaymentManager", b.PackLimitOf(at.Payer, at.Token, at.Controller), b.UnpackLimitOf, want)
	}
	for at, want := range l.Sponsors() {
		same(c, fmt.Sprintf("sponsor of %v", at), "PaymentManager", b.PackSponsorOf(at.Payer, at.Token), b.UnpackSponsorOf, want)
	}
	for at, want := range l.AutoSwaps() {
		same(c, fmt.Sprintf("swap %v", at), "PaymentManager", b.PackAutoSwapOf(at.Payer, at.In, at.Out), b.UnpackAutoSwapOf, want)
	}
	for _, at := range l.Routes() {
		same(c, fmt.Sprintf("route %v", at), "PaymentManager", b.PackRouteOf(at.In, at.Out), b.UnpackRouteOf, l.Route(at, c.now))
	}
}

// TestRoutesRunLowAndFillUp folds swaps, which need a market.
func TestRoutesRunLowAndFillUp(t *testing.T) {
	contracts := chain.Contracts{PaymentManager: common.Address{1}}
	l, at := ledger.New(contracts, common.Address{}), ledger.Swap{In: 2, Out: 1}
	wei := func(n int64) *big.Int { return big.NewInt(n) }
	set := event(t, contracts, "PaymentManager", "RouteSet", []int64{2, 1}, []byte{7}, uint16(30), uint32(600), uint16(9), wei(3600))
	sold := func(amount, quote int64) []types.Log {
		return []types.Log{event(t, contracts, "PaymentManager", "Swapped", []int64{5, 2, 1}, wei(amount), wei(1), wei(quote))}
	}
	if err := l.Fold(1000, sold(1, 1)); !errors.Is(err, errs.Conflict) {
		t.Errorf("a swap without a route: %v, want %v", err, errs.Conflict)
	}
	if err := l.Fold(1000, []types.Log{set}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ now, amount, quote, left int64 }{
		{1000, 3000, 1, 600}, {1100, 500, 1, 200}, {1100, 900, 0, 200}, {9000, 1, 1, 3599},
	} {
		if err := l.Fold(uint64(step.now), sold(step.amount, step.quote)); err != nil {
			t.Fatal(err)
		}
		if v := l.Route(at, uint64(step.now)); v.Left.Int64() != step.left {
			t.Errorf("at %d there is %v left, want %d", step.now, v.Left, step.left)
		}
	}
	if v := l.Route(at, 9001); v.Left.Int64() != 3600 || v.TwapSec != 600 || v.MinCardinality != 9 {
		t.Errorf("the route is %+v when it is full", v)
	}
	if err := l.Fold(9001, sold(3601, 1)); !errors.Is(err, errs.Conflict) {
		t.Errorf("a swap of more than is left: %v, want %v", err, errs.Conflict)
	}
}
