package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// watchers bounds the questions to core channel nodes at one time.
const watchers = 8

// watchLeases asks again and again what the message network says of the leases,
// until ctx ends.
func (s *Supervisor) watchLeases(ctx context.Context) {
	if s.parts.Core == nil {
		return
	}
	_ = loop.Every(ctx, s.log, s.cfg.WatchInterval, passDelayMax, nil, s.watch) // It ends with ctx.
}

// watch asks once. Its clock is the chain's: while the rows are behind, nothing
// that was said has a time.
func (s *Supervisor) watch(ctx context.Context) error {
	if !s.parts.Chain.Synced() {
		return nil
	}
	var head uint64
	var open []state.Lease
	err := s.db.View(ctx, func(v *state.View) error {
		h, err := v.Head(ctx)
		if err != nil {
			return err
		}
		head = h.Time
		all, err := v.Leases(ctx)
		for _, l := range all {
			if l.Open() {
				open = append(open, l)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read leases: %w", ignoreNotFound(err))
	}
	answers := s.askStanding(ctx, open, head)
	for spec, a := range s.askPaying(ctx, open, head) {
		a.standing = answers[spec].standing
		answers[spec] = a
	}
	return s.db.Update(ctx, func(tx *state.Tx) error {
		for spec, a := range answers {
			l, err := tx.Lease(ctx, spec)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			next := watched(*l, a, uint64(s.cfg.LeaseGrace.Seconds()), uint64(s.cfg.LeaseKeep.Seconds()), time.Now())
			if l.Open() && !next.Open() {
				s.log.Warn("lease ended", "job_id", spec, "cause", next.End.Cause, "detail", next.End.Detail)
			}
			if err := tx.PutLease(ctx, next); err != nil {
				return err
			}
		}
		return nil
	})
}

// askStanding asks for each lease whether its message is there.
func (s *Supervisor) askStanding(ctx context.Context, open []state.Lease, head uint64) map[message.ItemHash]answer {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, watchers)
	out := map[message.ItemHash]answer{}
	for _, l := range open {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a := answer{head: head}
			status, err := s.parts.Core.Standing(ctx, l.Spec)
			switch {
			case err != nil:
				s.log.Debug("nobody said whether a message is there", "job_id", l.Spec, "err", err)
			case isGone(status):
				a.standing = standingGone
			default:
				a.standing = standingThere
			}
			mu.Lock()
			defer mu.Unlock()
			out[l.Spec] = a
		})
	}
	wg.Wait()
	return out
}

// account is one balance that pays several leases.
type account struct{ owner, payment, chain string }

// askPaying asks for each owner whether its balance pays its machines here. A
// lease that is not in the answer is not for this node to judge, or nobody could
// say.
func (s *Supervisor) askPaying(ctx context.Context, open []state.Lease, head uint64) map[message.ItemHash]answer {
	claims, unknown := map[account][]claim{}, map[account]bool{}
	for _, l := range open {
		a := account{owner: l.Owner, payment: l.Payment}
		switch message.PaymentType(l.Payment) {
		case message.PayCredit:
		case message.PayHold:
			if !l.Sticky {
				continue // The scheduler sees to it.
			}
			a.owner = l.Sender
		case message.PaySuperfluid:
			i, _, err := readLease(l)
			if err != nil {
				continue
			}
			a.chain = string(flowChain(i))
		default:
			continue
		}
		price, err := s.parts.Core.Price(ctx, l.Spec)
		if err != nil {
			s.log.Debug("nobody said what a machine costs", "job_id", l.Spec, "err", err)
			unknown[a] = true
			continue
		}
		claims[a] = append(claims[a], claim{lease: l, price: price})
	}
	out := map[message.ItemHash]answer{}
	for a, of := range claims {
		if unknown[a] {
			continue // Without the price of one, the sum is not known.
		}
		said, err := s.judge(ctx, a, of, head)
		if err != nil {
			s.log.Debug("nobody said what an owner has", "owner", a.owner, "err", err)
			continue
		}
		maps.Copy(out, said)
	}
	return out
}

// judge tells which machines of an account are paid, or why nobody can tell.
func (s *Supervisor) judge(ctx context.Context, a account, of []claim, head uint64) (map[message.ItemHash]answer, error) {
	if a.payment == string(message.PaySuperfluid) {
		c, err := s.community(ctx)
		if err != nil {
			return nil, err
		}
		have, err := s.flows(ctx, message.Chain(a.chain), a.owner, c)
		if err != nil {
			return nil, err
		}
		return shareFlows(of, have, c, head), nil
	}
	held, credits, err := s.parts.Core.Balance(ctx, a.owner)
	if err != nil {
		return nil, err
	}
	if a.payment == string(message.PayCredit) {
		return share(of, credits, "credits", true, head), nil
	}
	return share(of, held, "tokens", false, head), nil
}
