package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// waitingOffersMax bounds a payer's offers that are not jobs yet. Each is
	// counted against the wallet, so one more than can be read is refused.
	waitingOffersMax = 256
	// attempt numbers the tries to place a job; there is one.
	attempt = 0
	// decimalsALEPH is how many decimals the token has.
	decimalsALEPH = 18
)

// SubmitOffer takes in an INSTANCE message and its payer's offer to pay for it.
// Both become state together, or neither does. The payer must have signed both
// and be able to pay the first window now: what is missing is named in an
// errs.Exhausted. The same offer again is no error; another one for a job that
// is on its way, or was given to a node before, is errs.Conflict.
func (p *Pipeline) SubmitOffer(ctx context.Context, raw []byte, o job.Offer, sig job.Signature, now time.Time) (*state.Offer, error) {
	row, err := p.submitOffer(ctx, raw, &o, sig, now)
	outcome := "accepted"
	if err != nil {
		outcome = string(errs.KindOf(err))
		var rejected *message.RejectError
		if errors.As(err, &rejected) {
			outcome = "rejected"
		}
	}
	p.offers.WithLabelValues(outcome).Inc()
	return row, err
}

func (p *Pipeline) submitOffer(ctx context.Context, raw []byte, o *job.Offer, sig job.Signature, now time.Time) (*state.Offer, error) {
	it, err := p.read(ctx, raw, now)
	if err == nil {
		err = it.sigErr
	}
	if err != nil {
		return nil, err
	}
	i, err := it.env.Instance()
	if err != nil {
		return nil, err
	}
	if !authz.Same(it.env.Sender, i.Address) {
		return nil, message.RejectSender(it.env.Sender, i.Address)
	}
	if err := job.CheckOffer(p.domain, o, sig, it.env); err != nil {
		return nil, errs.New(errs.Denied, "%w", err)
	}
	if err := p.checkRunnable(ctx, i); err != nil {
		return nil, err
	}
	if known, err := p.knownOffer(ctx, p.db, o, sig); err != nil || known != nil {
		return known, err
	}
	w, err := p.checkTerms(ctx, o, i)
	if err != nil {
		return nil, err
	}
	row, err := p.acceptOffer(ctx, it, o, sig, w)
	if err != nil {
		return nil, err
	}
	p.tell(ctx, it.env)
	return row, nil
}

// checkRunnable wants a machine that this network can run and bill, and that
// starts from files that are known.
func (p *Pipeline) checkRunnable(ctx context.Context, i *message.Instance) error {
	if i.PaymentType() != message.PayCredit {
		return message.Reject(message.CodeInvalidPaymentMethod, "content.payment.type is %s; machines here are paid by the second: use credit", i.PaymentType())
	}
	if _, err := job.NeedsOf(i); err != nil {
		return message.Reject(message.CodeInvalidFormat, "%v", err)
	}
	for _, part := range partsOf(i) {
		_, err := p.db.Pin(ctx, string(part.ref))
		if errors.Is(err, errs.NotFound) {
			return message.Reject(message.CodeVMVolumeNotFound, "no STORE message %s is known; publish it first", part.ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// offerReader is what state.DB and state.Tx share for knownOffer.
type offerReader interface {
	Offer(ctx context.Context, spec message.ItemHash) (*state.Offer, error)
	Job(ctx context.Context, spec message.ItemHash) (*state.Job, error)
	Decision(ctx context.Context, spec message.ItemHash, attempt uint8) (*state.Decision, error)
}

// knownOffer returns the same offer's row if it is here, nil if this one may
// come in, and errs.Conflict if another stands in its way.
func (p *Pipeline) knownOffer(ctx context.Context, r offerReader, o *job.Offer, sig job.Signature) (*state.Offer, error) {
	old, err := r.Offer(ctx, o.Spec)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	if err == nil && bytes.Equal(old.Signature, sig) {
		return old, nil
	}
	if err == nil && old.Status != state.OfferRefused {
		return nil, errs.New(errs.Conflict, "job %s has an offer that is %s already", o.Spec, old.Status)
	}
	j, err := r.Job(ctx, o.Spec)
	if err == nil {
		return nil, errs.New(errs.Conflict, "job %s is on chain already and %s; sign a new message for another", o.Spec, j.Status)
	}
	if !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	// Its signatures are out and may still be opened by anybody who has them, so
	// there is one decision per spec.
	d, err := r.Decision(ctx, o.Spec, attempt)
	if err == nil {
		return nil, errs.New(errs.Conflict, "job %s was given to node %d before and came to nothing; sign a new message for another try", o.Spec, d.NodeID)
	}
	if !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	return nil, nil
}

// acceptOffer judges the message and writes the offer in one transaction, if the
// wallet has enough for it beside the offers that came in meanwhile.
func (p *Pipeline) acceptOffer(ctx context.Context, it *item, o *job.Offer, sig job.Signature, w *wallet) (row *state.Offer, err error) {
	fresh := &state.Offer{
		Spec: o.Spec, Payer: o.Payer, Token: o.Token, MaxRateQ32: o.MaxRateQ32, NodeHint: o.NodeHint, MaxUntil: o.MaxUntil,
		Deadline: o.Deadline, Nonce: o.Nonce, Signature: sig, Status: state.OfferOffered, ReceivedAt: it.receivedAt,
	}
	err = p.db.Update(ctx, func(tx *state.Tx) error {
		// Another request may have been faster.
		known, err := p.knownOffer(ctx, tx, o, sig)
		if err != nil {
			return err
		}
		if row = known; row != nil {
			return nil
		}
		waiting, err := waitingCost(ctx, tx, o, w.window)
		if err != nil {
			return err
		}
		if err := w.pays(o.Payer, waiting); err != nil {
			return err
		}
		if err := p.takeOffered(ctx, tx, it); err != nil {
			return err
		}
		row = fresh
		return tx.PutOffer(ctx, *fresh)
	})
	if err != nil && errs.KindOf(err) == errs.Internal {
		err = fmt.Errorf("store offer %s: %w", o.Spec, err)
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

// takeOffered wants the message of an offer to count.
func (p *Pipeline) takeOffered(ctx context.Context, tx *state.Tx, it *item) error {
	b, err := p.newBatch(ctx, tx, []*item{it}, it.receivedAt)
	if err != nil {
		return err
	}
	v, err := b.take(ctx, it)
	if err != nil {
		return err
	}
	if v.Status != state.MessageProcessed {
		if v.Refusal == nil {
			return errs.New(errs.Conflict, "message %s is %s", v.ItemHash, v.Status)
		}
		return v.Refusal
	}
	return b.finish(ctx)
}

// checkTerms wants terms that can be met now: in time and at the price. It
// returns what the payer can pay with.
func (p *Pipeline) checkTerms(ctx context.Context, o *job.Offer, i *message.Instance) (*wallet, error) {
	if o.Token != job.TokenALEPH {
		return nil, errs.New(errs.Invalid, "token is %d; jobs are paid in ALEPH, token %d", o.Token, job.TokenALEPH)
	}
	head, err := p.db.Head(ctx)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the chain has not been read yet: %w", err)
	}
	if err := o.CheckDeadline(head.Time); err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	if o.MaxUntil != 0 && o.MaxUntil <= head.Time {
		return nil, errs.New(errs.Invalid, "offer's max_until %d is over: the chain's time is %d", o.MaxUntil, head.Time)
	}
	rate, err := p.quote(ctx, i, o.NodeHint)
	if err != nil {
		return nil, err
	}
	if o.MaxRateQ32.Cmp(rate) < 0 {
		return nil, errs.New(errs.Invalid, "max_rate_q32 is %s, but the price is %s; ask for a quote and offer at least that", o.MaxRateQ32, rate)
	}
	return p.wallet(ctx, o, rate)
}

// quote returns the lowest rate at which some node may take the instance: the
// table's price at the cheapest advertised multiplier, or at the wanted node's.
func (p *Pipeline) quote(ctx context.Context, i *message.Instance, nodeHint uint32) (*big.Int, error) {
	ads, err := p.db.Capacities(ctx)
	if err != nil {
		return nil, err
	}
	bps := 0
	for _, c := range ads {
		ad, err := wire.ParseCapacityAd(c.Ad)
		if err != nil {
			return nil, fmt.Errorf("read stored capacity of node %d: %w", c.NodeID, err)
		}
		if (nodeHint == 0 || nodeHint == ad.NodeID) && (bps == 0 || ad.PriceBps < bps) {
			bps = ad.PriceBps
		}
	}
	if bps == 0 {
		bps = wire.Bps
	}
	flow, err := p.table.Flow(i, nil, bps)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	return flow.RateQ32, nil
}

// wallet is what a payer can pay with, and what the first window of an offer
// takes of it.
type wallet struct {
	need                       *big.Int
	window                     uint64 // Seconds.
	balance, allowance, refund *big.Int
}

// wallet reads what the offer's payer can pay with.
func (p *Pipeline) wallet(ctx context.Context, o *job.Offer, rate *big.Int) (*wallet, error) {
	params, err := p.db.Params(ctx)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the contracts' parameters have not been read yet: %w", err)
	}
	w := &wallet{need: windowCost(rate, params.PrepaySeconds), window: params.PrepaySeconds}
	w.balance, w.allowance, w.refund, err = p.funds.Funds(ctx, o.Payer, o.Token)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read funds of %s: %w", o.Payer, err)
	}
	a, err := p.db.Account(ctx, o.Payer, o.Token)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return nil, err
	}
	if err == nil && a.ArrearsSince != 0 {
		return nil, errs.New(errs.Exhausted, "account %s has been in arrears since %d; pay what runs before a new job", o.Payer, a.ArrearsSince)
	}
	return w, nil
}

// pays wants the first window to be there beside what the payer's other offers
// will take; what is missing is named.
func (w *wallet) pays(payer common.Address, waiting *big.Int) error {
	available := w.balance
	if w.allowance.Cmp(w.balance) < 0 {
		available = w.allowance
	}
	have := new(big.Int).Add(available, w.refund)
	missing := new(big.Int).Add(w.need, waiting)
	if missing.Sub(missing, have).Sign() <= 0 {
		return nil
	}
	return errs.New(errs.Exhausted,
		"%s ALEPH missing: the first %d s cost %s ALEPH and other offers of %s need %s ALEPH; balance is %s ALEPH, allowance to PaymentManager %s ALEPH, refund %s ALEPH",
		Tokens(missing), w.window, Tokens(w.need), payer, Tokens(waiting), Tokens(w.balance), Tokens(w.allowance), Tokens(w.refund))
}

// waitingCost returns what the payer's other offers will take when they open;
// errs.Exhausted when they are too many.
func waitingCost(ctx context.Context, tx *state.Tx, o *job.Offer, window uint64) (*big.Int, error) {
	offers, err := tx.OffersOfPayerWith(ctx, o.Payer, waitingOffersMax, state.OfferOffered, state.OfferDecided)
	if err != nil {
		return nil, err
	}
	if len(offers) >= waitingOffersMax {
		return nil, errs.New(errs.Exhausted, "%s has %d offers that wait; offer again when some have become jobs", o.Payer, len(offers))
	}
	sum := new(big.Int)
	for _, other := range offers {
		if other.Spec == o.Spec || other.Token != o.Token {
			continue
		}
		rate := other.MaxRateQ32
		if d, err := tx.Decision(ctx, other.Spec, attempt); err == nil {
			rate = d.RateQ32
		} else if !errors.Is(err, errs.NotFound) {
			return nil, err
		}
		sum.Add(sum, windowCost(rate, window))
	}
	return sum, nil
}

// windowCost returns the wei that the rate costs for so many seconds, rounded
// up.
func windowCost(rateQ32 *big.Int, seconds uint64) *big.Int {
	const fractionBits = 32
	cost := new(big.Int).Mul(rateQ32, new(big.Int).SetUint64(seconds))
	cost.Add(cost, big.NewInt(1<<fractionBits-1))
	return cost.Rsh(cost, fractionBits)
}

// Tokens writes an amount of wei in whole ALEPH, exactly.
func Tokens(wei *big.Int) string {
	s := new(big.Rat).SetFrac(wei, new(big.Int).Exp(big.NewInt(10), big.NewInt(decimalsALEPH), nil)).FloatString(decimalsALEPH)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
