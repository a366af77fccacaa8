package settlement

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// refill pulls for accounts whose prepaid time runs out.
func (s *Settler) refill(ctx context.Context, sc *scene) error {
	accounts, err := s.db.Accounts(ctx, true)
	if err != nil {
		return err
	}
	low := s.lowWater(sc.params.PrepaySeconds)
	var failed error
	for _, a := range accounts {
		if sc.now+low <= a.PaidUntil || !s.due(sc, a.PaidUntil-min(low, a.PaidUntil)) {
			continue
		}
		failed = errors.Join(failed, s.refillOne(ctx, sc, a))
	}
	return failed
}

// lowWater is how much prepaid time is too little. Above half a window a pull
// could follow on the heels of another.
func (s *Settler) lowWater(window uint64) uint64 {
	const third, half = 3, 2
	if s.cfg.LowWaterSeconds == 0 {
		return window / third
	}
	return min(s.cfg.LowWaterSeconds, window/half)
}

func (s *Settler) refillOne(ctx context.Context, sc *scene, a state.Account) error {
	reason := fmt.Sprintf("prepaid time ends at %s, it is %s", chainTime(a.PaidUntil), chainTime(sc.now))
	balance, allowance, refund, err := s.funds.Funds(ctx, a.Payer, a.Token)
	if err != nil {
		return fmt.Errorf("ask for the funds of %s: %w", a.Payer, err)
	}
	spendable := balance
	if allowance.Cmp(balance) < 0 {
		spendable = allowance
	}
	if spendable.Sign() == 0 && refund.Sign() == 0 {
		if a.PaidUntil >= sc.now || a.ArrearsSince != 0 {
			return nil // Nothing to pull; it is looked at again at each pass.
		}
		reason += "; nothing can be pulled, so the arrears are recorded"
	}
	return s.want(ctx, sc, action{
		base:     fmt.Sprintf("pull/%s/%d/%d", a.Payer.Hex(), a.Token, a.PaidUntil),
		contract: "PaymentManager", method: "pull", args: []any{a.Payer.Hex(), fmt.Sprint(a.Token)}, reason: reason,
	})
}

// closeOverdue ends the jobs of payers whose hard grace is over. As in the
// contract, it begins where the paid time ends, which a pull that was not enough
// moves on, and not where the arrears began.
func (s *Settler) closeOverdue(ctx context.Context, sc *scene) error {
	accounts, err := s.db.Accounts(ctx, true)
	if err != nil {
		return err
	}
	overdue := map[string]state.Account{}
	for _, a := range accounts {
		if end := a.PaidUntil + sc.params.GraceHardSeconds; sc.now > end && s.due(sc, end) {
			overdue[fmt.Sprintf("%s/%d", a.Payer.Hex(), a.Token)] = a
		}
	}
	if len(overdue) == 0 {
		return nil
	}
	jobs, err := s.db.JobsWith(ctx, state.JobRunning)
	if err != nil {
		return err
	}
	var failed error
	for _, j := range jobs {
		a, ok := overdue[fmt.Sprintf("%s/%d", j.Payer.Hex(), j.Token)]
		if !ok {
			continue
		}
		failed = errors.Join(failed, s.want(ctx, sc, action{
			base:     fmt.Sprintf("arrears/%s/%d", j.Spec, a.PaidUntil),
			contract: "JobManager", method: "closeForArrears", args: []any{[]string{hex(j.Spec)}},
			reason: fmt.Sprintf("the paid time ended at %s, the grace of %d s is over", chainTime(a.PaidUntil), sc.params.GraceHardSeconds),
		}))
	}
	return failed
}

// endJobs ends jobs that did not start in time or have reached the end that
// their payer signed.
func (s *Settler) endJobs(ctx context.Context, sc *scene) error {
	jobs, err := s.db.JobsWith(ctx, state.JobAssigned, state.JobRunning)
	if err != nil {
		return err
	}
	var failed error
	for _, j := range jobs {
		start := j.AssignedAt + sc.params.StartSeconds
		switch {
		case j.Status == state.JobAssigned && sc.now > start && s.due(sc, start):
			failed = errors.Join(failed, s.want(ctx, sc, action{
				base: "failstart/" + string(j.Spec), contract: "JobManager", method: "failStart", args: []any{hex(j.Spec)},
				reason: fmt.Sprintf("node %d did not start it by %s", j.NodeID, chainTime(start)),
			}))
		case j.Status == state.JobRunning && j.MaxUntil != 0 && sc.now > j.MaxUntil && s.due(sc, j.MaxUntil):
			failed = errors.Join(failed, s.want(ctx, sc, action{
				base: "expire/" + string(j.Spec), contract: "JobManager", method: "expire", args: []any{[]string{hex(j.Spec)}},
				reason: "its signed end was " + chainTime(j.MaxUntil),
			}))
		}
	}
	return failed
}

// payRefunds pays out what waits for payers that pay for nothing any more. A
// payer with a job keeps it: the next pull uses it.
func (s *Settler) payRefunds(ctx context.Context, sc *scene) error {
	if sc.rank > 0 {
		return nil // Nothing is lost by waiting, so one coordinator does it.
	}
	accounts, err := s.db.AccountsOwed(ctx, s.atLeastOne(s.refundMin))
	if err != nil {
		return err
	}
	var failed error
	for _, a := range accounts {
		failed = errors.Join(failed, s.want(ctx, sc, action{
			base:     fmt.Sprintf("refund/%s/%d/%d", a.Payer.Hex(), a.Token, a.Block),
			contract: "PaymentManager", method: "withdrawRefund", args: []any{a.Payer.Hex(), fmt.Sprint(a.Token)},
			reason: fmt.Sprintf("%s wei wait for a payer without a job", a.Refund),
		}))
	}
	return failed
}

// atLeastOne keeps a limit of 0 from moving nothing.
func (s *Settler) atLeastOne(limit *big.Int) *big.Int {
	if limit.Sign() == 0 {
		return big.NewInt(1)
	}
	return limit
}
