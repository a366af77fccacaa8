package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// removalEvery is the least time between two looks at the things of one payment.
	removalEvery = time.Hour
	// removalIdleMax is the longest time without a look. What was paid meanwhile is
	// not known before other nodes have told of it, so after a longer one everything
	// gets its time anew.
	removalIdleMax = 3 * time.Hour
	// reviewsBatch bounds the owners that are read at once, and endsMax the messages
	// that one transaction changes, so that others are not kept waiting.
	reviewsBatch, endsMax = 500, 200
	// holdFrom is the height on Ethereum from which on tokens must be held for what
	// is confirmed.
	holdFrom = 22_196_000
	// removalDelayMax bounds the pause after passes that failed.
	removalDelayMax = time.Hour
)

// The reasons that the interface gives for a removal.
const (
	reasonBalance = "balance_insufficient"
	reasonCredit  = "credit_insufficient" //nolint:gosec // Credits of an owner, no credentials.
)

// ChainView knows whether the rows of the chain are those of now; mirror.Syncer is
// one.
type ChainView interface {
	Ready(ctx context.Context) error
}

// Remover ends what nobody pays for any more. Use NewRemover, then Run.
//
// An owner pays for messages in the order in which they were processed, each once.
// What is left without cover is removing for a time in which the owner can pay
// again, and then removed. A machine that a job on chain pays for is not ended, nor
// a file that it is made of; and while anything is not known that the answer needs,
// nothing changes.
type Remover struct {
	p    *Pipeline
	view ChainView
}

// NewRemover returns a Remover of what p took in.
func NewRemover(p *Pipeline, view ChainView) *Remover { return &Remover{p: p, view: view} }

// Run looks again and again for what nobody pays for, until ctx ends; it returns
// ctx's cause.
func (r *Remover) Run(ctx context.Context) error {
	return loop.Every(ctx, r.p.log, r.p.cfg.RemovalInterval, removalDelayMax, nil,
		r.p.inTurn("remove", func(ctx context.Context) error { return r.Pass(ctx, r.p.now()) }))
}

// Pass looks for what nobody pays for, of each payment that was not looked at in
// the last hour.
func (r *Remover) Pass(ctx context.Context, now time.Time) error {
	for _, payment := range []message.PaymentType{message.PayHold, message.PayCredit} {
		last, err := r.p.db.Looked(ctx, payment)
		if err != nil {
			return err
		}
		if now.Sub(last) < removalEvery {
			continue
		}
		if err := r.look(ctx, payment, last, now); err != nil {
			return fmt.Errorf("look for what is not paid by %s: %w", payment, err)
		}
	}
	return nil
}

// look reviews the owners whose things of one payment must be looked at.
func (r *Remover) look(ctx context.Context, payment message.PaymentType, last, now time.Time) error {
	if err := r.view.Ready(ctx); err != nil {
		return err
	}
	err := r.p.db.Update(ctx, func(tx *state.Tx) error {
		if !last.IsZero() && now.Sub(last) > removalIdleMax {
			if err := tx.PostponeRemovals(ctx, now.Add(r.p.cfg.RemovalGrace)); err != nil {
				return err
			}
		}
		if payment != message.PayCredit {
			return nil
		}
		return tx.ReviewExpired(ctx, last, now)
	})
	if err != nil {
		return err
	}
	for after := ""; ; {
		owners, err := r.p.db.Reviews(ctx, payment, after, reviewsBatch)
		if err != nil {
			return err
		}
		for _, owner := range owners {
			after = owner
			err := r.review(ctx, payment, owner, now)
			if err != nil && errs.KindOf(err) == errs.Internal && ctx.Err() == nil {
				r.p.log.Error("payments of owner not looked at", "owner", owner, "err", err)
				continue // The others may be well.
			}
			if err != nil {
				return err
			}
		}
		if len(owners) < reviewsBatch {
			break
		}
	}
	return r.p.db.Update(ctx, func(tx *state.Tx) error { return tx.PutLooked(ctx, payment, now) })
}

// review looks at the things of one owner. An owner whose wallet cannot be asked is
// left alone, and looked at with the next pass.
func (r *Remover) review(ctx context.Context, payment message.PaymentType, owner string, now time.Time) error {
	runway := new(big.Rat)
	if payment == message.PayCredit {
		var err error
		if runway, err = r.p.Runway(ctx, owner); err != nil {
			r.p.log.Warn("funds on chain not known, nothing of the owner is removed", "owner", owner, "err", err)
			return ctx.Err()
		}
	}
	for more := true; more; {
		// Jobs may have come while owners were asked about: the rows must be those of
		// the chain still.
		if err := r.view.Ready(ctx); err != nil {
			return err
		}
		err := r.p.db.Update(ctx, func(tx *state.Tx) (err error) {
			more, err = r.reviewIn(ctx, tx, payment, owner, runway, now)
			return err
		})
		if err != nil {
			return fmt.Errorf("review %s: %w", owner, err)
		}
	}
	return nil
}

// charge is what one message costs its owner, and what is known of it.
type charge struct {
	hash    message.ItemHash
	need    *big.Rat // What the owner must have for it: tokens, or credits.
	covered bool
	late    bool // Confirmed when tokens had to be held.
	status  state.MessageStatus
	until   time.Time // Of one that is being removed.
}

// reviewIn looks at the things of one owner in one transaction; more says that it
// has not come to the end of them.
func (r *Remover) reviewIn(ctx context.Context, tx *state.Tx, payment message.PaymentType, owner string, runway *big.Rat, now time.Time) (more bool, err error) {
	b, err := r.p.newBatch(ctx, tx, nil, now)
	if err != nil {
		return false, err
	}
	charges, err := b.charges(ctx, payment, owner)
	if err != nil {
		return false, err
	}
	have, err := b.have(ctx, payment, owner)
	if err != nil {
		return false, err
	}
	again := cover(charges, have) && runway.Sign() > 0 // The wallet may have less the next time.
	cover(charges, new(big.Rat).Add(have, runway))
	changes := 0
	for i := range charges {
		open, changed, err := b.settle(ctx, payment, &charges[i])
		if err != nil {
			return false, err
		}
		again = again || open
		if changed {
			changes++
		}
		if changes == endsMax {
			return true, b.finish(ctx)
		}
	}
	if !again {
		if err := tx.DropReview(ctx, payment, owner); err != nil {
			return false, err
		}
	}
	return false, b.finish(ctx)
}

// charges are what an owner pays for in one way, in the order of processing. What
// is not confirmed is not charged.
func (b *batch) charges(ctx context.Context, payment message.PaymentType, owner string) ([]charge, error) {
	costs, err := b.tx.CostsOf(ctx, owner, payment)
	if err != nil {
		return nil, err
	}
	hashes := make([]message.ItemHash, len(costs))
	for i := range costs {
		hashes[i] = costs[i].Message
	}
	confirmations, err := b.tx.Confirmations(ctx, hashes)
	if err != nil {
		return nil, err
	}
	standings, err := b.tx.Standings(ctx, hashes)
	if err != nil {
		return nil, err
	}
	removals, err := b.tx.Removals(ctx, hashes)
	if err != nil {
		return nil, err
	}
	var out []charge
	for i := range costs {
		hash := costs[i].Message
		status := standings[hash].Status
		if len(confirmations[hash]) == 0 || status != state.MessageProcessed && status != state.MessageRemoving {
			continue
		}
		need, err := needOf(&costs[i], payment)
		if err != nil {
			return nil, err
		}
		out = append(out, charge{hash: hash, need: need, late: isLate(confirmations[hash]), status: status, until: removals[hash]})
	}
	return out, nil
}

// needOf is what an owner must have for a message: the tokens of its cost, or the
// credits of a day.
func needOf(c *state.Cost, payment message.PaymentType) (*big.Rat, error) {
	text, times := c.Hold, int64(1)
	if payment == message.PayCredit {
		text, times = c.Credit, leastDays*secondsPerDay
	}
	need, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("cost of message %s is %q", c.Message, text)
	}
	return need.Mul(need, new(big.Rat).SetInt64(times)), nil
}

// isLate reports whether a message was confirmed on Ethereum when tokens had to be
// held. Heights of other chains say nothing of that.
func isLate(all []state.Transaction) bool {
	for _, t := range all { // First ones first.
		if t.Chain == message.Ethereum {
			return t.Height >= holdFrom
		}
	}
	return false
}

// have is what an owner has without the wallet that a contract may take from.
func (b *batch) have(ctx context.Context, payment message.PaymentType, owner string) (*big.Rat, error) {
	if payment == message.PayHold {
		return b.tokens(ctx, owner)
	}
	n, err := b.tx.CreditBalance(ctx, owner, b.now)
	return new(big.Rat).SetInt64(n), err
}

// cover says which charges are covered, and whether any is not. One that is not
// takes all that is left, as with the reference.
func cover(charges []charge, have *big.Rat) (lacks bool) {
	left := new(big.Rat).Set(have)
	for i := range charges {
		c := &charges[i]
		c.covered = left.Cmp(c.need) >= 0
		if lacks = lacks || !c.covered; c.covered {
			left.Sub(left, c.need)
		} else {
			left.SetInt64(0)
		}
	}
	return lacks
}

// settle gives a message the status that its cover wants. open says that the
// message must be looked at again even if nothing is paid or spent.
func (b *batch) settle(ctx context.Context, payment message.PaymentType, c *charge) (open, changed bool, err error) {
	if c.covered && c.status != state.MessageRemoving {
		return false, false, nil
	}
	m, err := b.tx.Message(ctx, c.hash)
	if err != nil {
		return false, false, err
	}
	spared := c.covered
	if !spared {
		if spared, open, err = b.spared(ctx, payment, m, c); err != nil {
			return false, false, err
		}
	}
	switch {
	case spared && m.Status == state.MessageRemoving:
		b.p.log.Info("message is paid for again", "item_hash", c.hash, "owner", m.Owner)
		if err := b.tx.SetMessageStatus(ctx, m, state.MessageProcessed, ""); err != nil {
			return false, false, err
		}
		return open, true, b.tx.DropRemoval(ctx, c.hash)
	case spared:
		return open, false, nil
	case m.Status == state.MessageProcessed:
		reason := reasonBalance
		if payment == message.PayCredit {
			reason = reasonCredit
		}
		b.p.log.Info("nobody pays for message, it is being removed", "item_hash", c.hash, "owner", m.Owner, "reason", reason)
		if err := b.tx.SetMessageStatus(ctx, m, state.MessageRemoving, reason); err != nil {
			return false, false, err
		}
		return true, true, b.tx.PutRemoval(ctx, c.hash, b.now.Add(b.p.cfg.RemovalGrace))
	case c.until.IsZero(): // Of an older version.
		return true, true, b.tx.PutRemoval(ctx, c.hash, b.now.Add(b.p.cfg.RemovalGrace))
	case b.now.Before(c.until):
		return true, false, nil
	}
	b.p.log.Info("message removed", "item_hash", c.hash, "owner", m.Owner, "reason", m.Reason)
	return false, true, b.end(ctx, m, ending{status: state.MessageRemoved, at: b.now, reason: m.Reason})
}

// spared reports whether a message stays that is not covered. open says that this
// may end without anything being paid or spent.
func (b *batch) spared(ctx context.Context, payment message.PaymentType, m *state.Message, c *charge) (spared, open bool, err error) {
	if payment == message.PayHold && !c.late {
		return true, false, nil
	}
	body, err := m.Body()
	if err != nil {
		return false, false, err
	}
	specs := []message.ItemHash{c.hash}
	if s, ok := body.(*message.Store); ok {
		info, err := b.tx.FileInfo(ctx, s.ItemHash)
		if errors.Is(err, errs.NotFound) {
			return true, true, nil // It may be a small one.
		}
		if err != nil {
			return false, false, err
		}
		if info.SizeBytes <= freeFileBytes && (payment == message.PayHold || m.Envelope.Time.Unix() < creditEverything) {
			return true, false, nil
		}
		if target, ok := s.Follows(); ok {
			specs = append(specs, target) // Machines name the first version,
		} else if s.Ref != nil {
			specs = append(specs, message.ItemHash(m.Owner+"/"+*s.Ref)) // or the owner's word.
		}
	}
	paid, err := b.tx.PaidOnChain(ctx, specs)
	return paid, paid, err
}
