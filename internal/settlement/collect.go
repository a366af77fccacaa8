package settlement

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// partNode names the node's part in the split of a claim.
const partNode = "node"

// claimEnded claims from each job that has ended, once.
func (s *Settler) claimEnded(ctx context.Context, sc *scene) error {
	ended, err := s.db.JobsOfNode(ctx, s.self.NodeID, state.JobStopped, state.JobCompleted, state.JobFailed, state.JobExpired)
	if err != nil {
		return err
	}
	var failed error
	for _, j := range ended {
		if j.StartedAt == 0 || s.claimed[j.Spec] {
			continue // Nothing was billed, or all of it is claimed.
		}
		key := "claim/" + string(j.Spec)
		done, err := s.confirmed(ctx, key)
		s.claimed[j.Spec] = done
		if err != nil || done {
			failed = errors.Join(failed, err)
			continue
		}
		failed = errors.Join(failed, s.want(ctx, sc, action{
			base: key, contract: "PaymentManager", method: "claim", args: s.claimArgs(j.Token, j.Payer),
			reason: "the job has ended",
		}))
	}
	return failed
}

// confirmed reports whether one of the tries of an action went through.
func (s *Settler) confirmed(ctx context.Context, base string) (done bool, err error) {
	n := 0
	if t := s.tries[base]; t != nil {
		n = t.n
	}
	err = s.db.View(ctx, func(v *state.View) error {
		for ; ; n++ {
			i, err := v.Intent(ctx, tryKey(base, n))
			if err != nil {
				return ignoreNotFound(err)
			}
			if i.Status == state.IntentConfirmed {
				done = true
				return nil
			}
		}
	})
	return done, err
}

func (s *Settler) claimArgs(token uint8, payer common.Address) []any {
	return []any{fmt.Sprint(s.self.NodeID), fmt.Sprint(token), []string{payer.Hex()}}
}

// claimRunning claims from payers of running jobs, once in each ClaimSeconds.
func (s *Settler) claimRunning(ctx context.Context, sc *scene) error {
	running, err := s.db.JobsOfNode(ctx, s.self.NodeID, state.JobRunning)
	if err != nil {
		return err
	}
	type pair struct {
		payer common.Address
		token uint8
	}
	var failed error
	seen := map[pair]bool{}
	for _, j := range running {
		p := pair{j.Payer, j.Token}
		if seen[p] || j.StartedAt == 0 || sc.now < j.StartedAt+s.cfg.ClaimSeconds {
			continue
		}
		seen[p] = true
		key := fmt.Sprintf("claim/%s/%d/%d", j.Payer.Hex(), j.Token, sc.now/s.cfg.ClaimSeconds)
		done, err := s.confirmed(ctx, key)
		if err != nil || done {
			failed = errors.Join(failed, err)
			continue
		}
		failed = errors.Join(failed, s.want(ctx, sc, action{
			base: key, contract: "PaymentManager", method: "claim", args: s.claimArgs(j.Token, j.Payer),
			reason: fmt.Sprintf("%d s have passed since the last claim", s.cfg.ClaimSeconds),
		}))
	}
	return failed
}

// withdraw sends the node's credit to its payout address when it is worth it.
func (s *Settler) withdraw(ctx context.Context, sc *scene) error {
	payments, err := s.db.PaymentsTo(ctx, uint64(s.self.NodeID), state.PaymentClaimed, state.PaymentDebt, state.PaymentWithdrawn)
	if err != nil {
		return err
	}
	credit, paid := map[uint8]*big.Int{}, map[uint8]int{}
	for _, p := range payments {
		if credit[p.Token] == nil {
			credit[p.Token] = new(big.Int)
		}
		if part := p.Split[partNode]; part != nil { // Claimed, or a debt that was paid.
			credit[p.Token].Add(credit[p.Token], part)
		}
		if p.Kind == state.PaymentWithdrawn {
			credit[p.Token].Sub(credit[p.Token], p.Amount)
			paid[p.Token]++
		}
	}
	var failed error
	for token, amount := range credit {
		if amount.Cmp(s.atLeastOne(s.withdrawMin)) < 0 {
			continue
		}
		failed = errors.Join(failed, s.want(ctx, sc, action{
			// The count changes when a withdrawal is seen, so each credit is
			// withdrawn once.
			base:     fmt.Sprintf("withdraw/%d/%d/%d", s.self.NodeID, token, paid[token]),
			contract: "PaymentManager", method: "withdraw",
			args:   []any{fmt.Sprint(s.self.NodeID), fmt.Sprint(token), amount.String()},
			reason: fmt.Sprintf("%s wei have been earned", amount),
		}))
	}
	return failed
}

func ignoreNotFound(err error) error {
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
