package settlement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// partNode names the node's part in the split of a claim.
const partNode = "node"

const (
	// finalBlocks is how deep a block must be for what it did to stay; mirror
	// takes back no deeper one.
	finalBlocks = 2048
	// pageRows bounds the rows of history that are read at a time. It is read
	// once, after a start.
	pageRows = 500
)

// book is what a compute node has read of its history, so that each pass reads
// what is new and what a reorganisation may still change.
type book struct {
	// job is the last one whose change is final. ended are the jobs that have
	// ended and may have earned something, and whether all of it is claimed;
	// those that are final and claimed are forgotten.
	job   state.Job
	ended map[message.ItemHash]bool
	// payment is the last one that is final, and credits what all up to it have
	// left with the node, by token.
	payment state.Payment
	credits map[uint8]*credit
}

// credit is what the node has earned and not withdrawn.
type credit struct {
	amount    *big.Int
	withdrawn int // How often.
}

func newBook() book {
	return book{ended: map[message.ItemHash]bool{}, credits: map[uint8]*credit{}}
}

// claimEnded claims from each job that has ended, once.
func (s *Settler) claimEnded(ctx context.Context, sc *scene) error {
	if err := s.readJobs(ctx, sc); err != nil {
		return err
	}
	var failed error
	for _, spec := range slices.Sorted(maps.Keys(s.book.ended)) {
		if !s.book.ended[spec] {
			failed = errors.Join(failed, s.claimFrom(ctx, sc, spec))
		}
	}
	return failed
}

// readJobs adds the jobs that have ended to the book.
func (s *Settler) readJobs(ctx context.Context, sc *scene) error {
	for at := s.book.job; ; {
		page, err := s.db.JobsOfNodeAfter(ctx, s.self.NodeID, at.Block, at.Spec, pageRows)
		if err != nil {
			return err
		}
		for _, j := range page {
			at = j
			_, known := s.book.ended[j.Spec]
			if !known && j.Status.Ended() && j.StartedAt != 0 { // Else nothing was billed.
				s.book.ended[j.Spec] = false
			}
			if sc.isFinal(j.Block) {
				s.book.job = j
				s.forgetClaimed(j.Spec)
			}
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

func (s *Settler) forgetClaimed(spec message.ItemHash) {
	if s.book.ended[spec] {
		delete(s.book.ended, spec)
	}
}

// claimFrom claims from a job that has ended, unless that was done.
func (s *Settler) claimFrom(ctx context.Context, sc *scene, spec message.ItemHash) error {
	j, err := s.db.Job(ctx, spec)
	if err := ignoreNotFound(err); err != nil {
		return err
	}
	if j == nil || !j.Status.Ended() {
		delete(s.book.ended, spec) // A reorganisation took its end back.
		return nil
	}
	key := fmt.Sprintf("claim/%s/%d", spec, j.Attempt) // A job may come back.
	done, err := s.confirmed(ctx, key)
	if err != nil {
		return err
	}
	if done {
		s.book.ended[spec] = true
		if sc.isFinal(j.Block) {
			s.forgetClaimed(spec)
		}
		return nil
	}
	return s.want(ctx, sc, action{
		base: key, contract: "PaymentManager", method: "claim", args: s.claimArgs(j.Token, j.Payer),
		reason: "the job has ended",
	})
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
	credits, err := s.readPayments(ctx, sc)
	if err != nil {
		return err
	}
	var failed error
	for token, c := range credits {
		if c.amount.Cmp(s.atLeastOne(s.withdrawMin)) < 0 {
			continue
		}
		failed = errors.Join(failed, s.want(ctx, sc, action{
			// The count changes when a withdrawal is seen, so each credit is
			// withdrawn once.
			base:     fmt.Sprintf("withdraw/%d/%d/%d", s.self.NodeID, token, c.withdrawn),
			contract: "PaymentManager", method: "withdraw",
			args:   []any{fmt.Sprint(s.self.NodeID), fmt.Sprint(token), c.amount.String()},
			reason: fmt.Sprintf("%s wei have been earned", c.amount),
		}))
	}
	return failed
}

// readPayments returns the node's credits. Those that are final are added to
// the book.
func (s *Settler) readPayments(ctx context.Context, sc *scene) (map[uint8]*credit, error) {
	var now map[uint8]*credit // The book's, and what is not final.
	for at := s.book.payment; ; {
		page, err := s.db.PaymentsTo(ctx, uint64(s.self.NodeID), at, pageRows,
			state.PaymentClaimed, state.PaymentDebt, state.PaymentWithdrawn)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			if at = p; sc.isFinal(p.Block) {
				s.book.payment = p
				count(s.book.credits, p)
				continue
			}
			if now == nil {
				now = copyOf(s.book.credits)
			}
			count(now, p)
		}
		if len(page) == pageRows {
			continue
		}
		if now == nil {
			now = s.book.credits
		}
		return now, nil
	}
}

// count adds a payment to the credits.
func count(credits map[uint8]*credit, p state.Payment) {
	c := credits[p.Token]
	if c == nil {
		c = &credit{amount: new(big.Int)}
		credits[p.Token] = c
	}
	if part := p.Split[partNode]; part != nil { // Claimed, or a debt that was paid.
		c.amount.Add(c.amount, part)
	}
	if p.Kind == state.PaymentWithdrawn {
		c.amount.Sub(c.amount, p.Amount)
		c.withdrawn++
	}
}

func copyOf(credits map[uint8]*credit) map[uint8]*credit {
	out := map[uint8]*credit{}
	for token, c := range credits {
		out[token] = &credit{amount: new(big.Int).Set(c.amount), withdrawn: c.withdrawn}
	}
	return out
}

func ignoreNotFound(err error) error {
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
