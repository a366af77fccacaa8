package outbox

import (
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/params"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// fees are what a transaction offers per gas, in wei.
type fees struct {
	tip *big.Int
	max *big.Int // Tip included.
}

// bumpDivisor is the eighth by which a replacement pays more: 12.5 %, above the
// 10 % that nodes ask for.
const bumpDivisor = 8

// fees returns what a transaction should offer now: room for the base fee to
// double, up to the ceiling.
func (s *Sender) fees(ctx context.Context, f *flight) (fees, error) {
	tip, err := s.chain.Tip(ctx)
	if err != nil {
		return fees{}, err
	}
	ceiling := s.ceiling()
	if f.head.BaseFee.Cmp(ceiling) > 0 {
		return fees{}, errs.New(errs.Unavailable, "gas costs %s wei now, above max_fee_gwei", f.head.BaseFee)
	}
	top := new(big.Int).Lsh(f.head.BaseFee, 1)
	top.Add(top, tip)
	return clamp(fees{tip: tip, max: top}, ceiling), nil
}

func (s *Sender) ceiling() *big.Int {
	return new(big.Int).Mul(new(big.Int).SetUint64(s.cfg.MaxFeeGwei), big.NewInt(params.GWei))
}

// bump returns fees that replace old and are no less than market, and false
// when they would be above the ceiling.
func bump(old *state.SentTx, market fees, ceiling *big.Int) (fees, bool) {
	next := fees{tip: bigger(more(old.TipWei), market.tip), max: bigger(more(old.FeeWei), market.max)}
	if more(old.FeeWei).Cmp(ceiling) > 0 || more(old.TipWei).Cmp(ceiling) > 0 {
		return next, false
	}
	return clamp(next, ceiling), true
}

// more returns n and an eighth, rounded up, and at least one more.
func more(n *big.Int) *big.Int {
	extra := new(big.Int).Add(n, big.NewInt(bumpDivisor-1))
	extra.Div(extra, big.NewInt(bumpDivisor))
	if extra.Sign() == 0 {
		extra.SetInt64(1)
	}
	return extra.Add(extra, n)
}

func clamp(f fees, ceiling *big.Int) fees {
	top := smaller(f.max, ceiling)
	return fees{tip: smaller(f.tip, top), max: top}
}

func bigger(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

func smaller(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}
