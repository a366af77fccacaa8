package outbox

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/params"

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

// tooDear says why nothing may be sent now, "" if it may. It names no price, so that
// the reason stays the same while the price moves.
func (s *Sender) tooDear(f *flight) string {
	if f.head.BaseFee.Cmp(s.ceiling()) <= 0 {
		return ""
	}
	return fmt.Sprintf("a unit of gas costs more than max_fee_gwei, %d: it waits until gas is cheaper", s.cfg.MaxFeeGwei)
}

// note keeps in the row of an intent why it waits for gas to be cheaper. What is
// pending stays so, and due: whether it may be sent costs no question to the RPC.
func (s *Sender) note(ctx context.Context, f *flight, i *state.Intent, reason string) error {
	if i.Error == reason {
		return nil
	}
	i.Error = reason
	s.outcomes.WithLabelValues("fee_ceiling").Inc()
	s.log.Warn("waits", "intent", i.Key, "status", string(i.Status), "nonce", i.Nonce, "base_fee_wei", f.head.BaseFee, "err", reason)
	return s.put(ctx, i)
}

// hold ends intents that are due and came to be too late while nothing could be sent, and
// notes why the others are not sent, if there is a reason. A pass goes on where the one
// before ended, as those that stay would hide what is behind them.
func (s *Sender) hold(ctx context.Context, f *flight, reason string) error {
	now := time.Now()
	for _, yields := range []bool{false, true} {
		due, err := s.intents().DueAfter(ctx, now, yields, s.heldAfter[yields], waitingMax)
		if err != nil {
			return err
		}
		for n := range due {
			switch {
			case tooLate(f, &due[n]):
				err = s.expire(ctx, &due[n])
			case reason != "":
				err = s.note(ctx, f, &due[n], reason)
			}
			if err != nil {
				return err
			}
		}
		if s.heldAfter[yields] = 0; len(due) == waitingMax {
			s.heldAfter[yields] = due[len(due)-1].Seq
		}
	}
	return nil
}

// fees returns what a transaction should offer now: room for the base fee to
// double, up to the ceiling.
func (s *Sender) fees(ctx context.Context, f *flight) (fees, error) {
	tip, err := s.chain.Tip(ctx)
	if err != nil {
		return fees{}, err
	}
	top := new(big.Int).Lsh(f.head.BaseFee, 1)
	top.Add(top, tip)
	return clamp(fees{tip: tip, max: top}, s.ceiling()), nil
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
