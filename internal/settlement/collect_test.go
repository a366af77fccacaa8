package settlement_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/settlement"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// collector is a compute node that settles for some time.
type collector struct {
	t  *testing.T
	db *state.DB
	s  *settlement.Settler
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	db := openDB(t)
	s, err := settlement.New(config(), settlement.Self{NodeID: compute, Kind: state.KindCompute}, db, nil,
		prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &collector{t, db, s}
}

// settle lets a minute pass.
func (c *collector) settle() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := c.s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatal(err)
	}
}

// block writes a block and what happened in it.
func (c *collector) block(number uint64, fn func(ctx context.Context, tx *state.Tx) error) {
	c.t.Helper()
	c.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.AtBlock(number, func() error {
			return errors.Join(fn(ctx, tx), tx.PutBlock(ctx, state.Block{
				Number: number, Hash: blockHash(number), Time: 1_000_000 + number,
			}))
		})
	})
}

func (c *collector) rollback(to uint64) {
	c.t.Helper()
	c.update(func(ctx context.Context, tx *state.Tx) error { return tx.Rollback(ctx, to) })
}

func (c *collector) update(fn func(ctx context.Context, tx *state.Tx) error) {
	c.t.Helper()
	ctx := c.t.Context()
	if err := c.db.Update(ctx, func(tx *state.Tx) error { return fn(ctx, tx) }); err != nil {
		c.t.Fatal(err)
	}
}

// withdrawals are the amounts of the withdrawals that were decided.
func (c *collector) withdrawals() (amounts []string) {
	c.t.Helper()
	all, err := c.db.IntentsWith(c.t.Context(), 1000, state.IntentPending)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, i := range all {
		if i.Method != "withdraw" {
			c.t.Errorf("intent %s, want withdrawals only", i.Key)
			continue
		}
		var args []string
		if err := json.Unmarshal(i.Args, &args); err != nil {
			c.t.Fatal(err)
		}
		amounts = append(amounts, args[2])
	}
	return amounts
}

func blockHash(number uint64) common.Hash { return common.BigToHash(new(big.Int).SetUint64(number)) }

// stopped is a job that has ended in the block.
func stopped(spec message.ItemHash, block uint64) state.Job {
	return state.Job{Spec: spec, NodeID: compute, Token: token, Status: state.JobStopped, StartedAt: 900_000, StoppedAt: 900_001, Block: block}
}

// claimed is a claim of which the node got wei.
func claimed(block uint64, log uint, wei int64) state.Payment {
	return state.Payment{
		Kind: state.PaymentClaimed, Payee: compute, Token: token, Amount: big.NewInt(2 * wei),
		Tx: blockHash(block), Block: block, LogIndex: log,
		Split: map[string]*big.Int{"node": big.NewInt(wei)},
	}
}

func TestHistoryIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		const count, head = settlement.PageRows + 1, 10 + settlement.FinalBlocks
		c.block(10, func(ctx context.Context, tx *state.Tx) error {
			var failed error
			for n := range count {
				spec := specOf(n)
				failed = errors.Join(failed, tx.PutPayment(ctx, claimed(10, uint(n), 1)), tx.PutJob(ctx, stopped(spec, 10)))
			}
			return failed
		})
		// The last job and the last payment are not final.
		c.block(head, func(ctx context.Context, tx *state.Tx) error {
			return errors.Join(tx.PutPayment(ctx, claimed(head, 0, -10)), tx.PutJob(ctx, stopped(specOf(count), head)))
		})
		c.update(func(ctx context.Context, tx *state.Tx) (failed error) {
			for n := range count + 1 {
				failed = errors.Join(failed, tx.PutIntent(ctx, state.Intent{Key: "claim/" + string(specOf(n)) + "/0", Status: state.IntentConfirmed}))
			}
			return failed
		})
		c.settle()
		if got := c.withdrawals(); len(got) != 0 || c.s.Ended() != 1 {
			t.Fatalf("withdrawals of %v, %d jobs are remembered, want none for %d wei and one", got, c.s.Ended(), count-10)
		}

		// What is final cannot change. If it did, nobody would look.
		c.block(head+1, func(ctx context.Context, tx *state.Tx) error {
			return errors.Join(tx.PutPayment(ctx, claimed(10, 0, 1000)), tx.PutPayment(ctx, claimed(head+1, 0, 10)))
		})
		c.settle()

		if got := c.withdrawals(); len(got) != 1 || got[0] != "501" {
			t.Errorf("withdrawals of %v, want one of 501", got)
		}

		c.block(head+settlement.FinalBlocks, func(context.Context, *state.Tx) error { return nil })
		c.settle()
		if c.s.Ended() != 0 {
			t.Errorf("%d jobs are remembered that are final and claimed, want none", c.s.Ended())
		}
	})
}

func TestAReorganisationTakesEarningsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		put := func(p state.Payment) func(context.Context, *state.Tx) error {
			return func(ctx context.Context, tx *state.Tx) error { return tx.PutPayment(ctx, p) }
		}
		c.block(9, func(context.Context, *state.Tx) error { return nil })
		c.block(10, put(claimed(10, 0, 300)))
		c.settle()
		c.rollback(9)
		c.block(10, put(claimed(10, 1, 400)))
		c.settle()
		if got := c.withdrawals(); len(got) != 0 {
			t.Errorf("withdrawals of %v, want none of 400 wei", got)
		}

		c.block(11, put(claimed(11, 0, 100)))
		c.settle()

		if got := c.withdrawals(); len(got) != 1 || got[0] != "500" {
			t.Errorf("withdrawals of %v, want one of 500", got)
		}
	})
}

func TestAJobThatRunsAgainIsClaimedWhenItEndsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		key := "claim/" + string(specOf(1)) + "/0"
		running := stopped(specOf(1), 9)
		running.Status = state.JobRunning
		put := func(j state.Job) func(context.Context, *state.Tx) error {
			return func(ctx context.Context, tx *state.Tx) error { return tx.PutJob(ctx, j) }
		}
		c.block(9, put(running))
		c.block(10, put(stopped(specOf(1), 10)))
		c.settle()
		c.update(func(ctx context.Context, tx *state.Tx) error {
			return tx.PutIntent(ctx, state.Intent{Key: key, Status: state.IntentReverted})
		})
		c.rollback(9)
		c.settle()
		if c.s.Ended() != 0 {
			t.Error("a job that runs is remembered as ended")
		}

		c.block(10, put(stopped(specOf(1), 10)))
		c.settle()
		c.block(11+config().RetrySeconds, func(context.Context, *state.Tx) error { return nil })
		c.settle()

		if found, err := c.db.Intent(t.Context(), key+"/1"); err != nil || found.Method != "claim" {
			t.Errorf("claim is %+v, %v, want it tried again", found, err)
		}
	})
}
