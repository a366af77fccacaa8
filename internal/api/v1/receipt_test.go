package v1_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// claim is a claim of the pair's income up to a time, split 60/15/15/10.
func (n *node) claim(number int, amount, since, at int64) state.Payment {
	share := func(percent int64) *big.Int { return big.NewInt(amount * percent / 100) }
	rest := big.NewInt(amount - amount*60/100 - 2*(amount*15/100))
	return state.Payment{
		Kind: state.PaymentClaimed, Payer: n.payer(), Payee: nodeID, Token: job.TokenALEPH, Amount: big.NewInt(amount), PaidUntil: uint64(since),
		Split: map[string]*big.Int{"node": share(60), "coordinator": share(15), "staker": share(15), "development": rest},
		Tx:    common.BigToHash(big.NewInt(int64(number))), Block: uint64(number), At: uint64(at),
	}
}

func (n *node) run(number int, perSecond int64, start, stop uint64, block uint64) state.Job {
	j := n.jobRow(number, state.JobStopped)
	j.RateQ32, j.StartedAt, j.StoppedAt, j.Block = rate(perSecond), start, stop, block
	if stop == 0 {
		j.Status = state.JobRunning
	}
	return j
}

func (n *node) receipt(t *testing.T, number int) map[string]any {
	t.Helper()
	v := want(t, n.do(t, "GET", "/api/v1/jobs/"+string(spec(number))+"/receipt", ""), 200)
	wei := func(s any) *big.Int {
		i, ok := new(big.Int).SetString(s.(string), 10)
		if !ok {
			t.Fatalf("%v is not a decimal number", s)
		}
		return i
	}
	total := func(of map[string]any) *big.Int {
		sum := new(big.Int)
		for _, name := range []string{"node", "coordinator", "staker", "development"} {
			sum.Add(sum, wei(of[name]))
		}
		return sum
	}
	claims := new(big.Int)
	for _, c := range v["claims"].([]any) {
		claim := c.(map[string]any)
		claims.Add(claims, wei(claim["amount"]))
		if total(claim).Cmp(wei(claim["amount"])) != 0 {
			t.Errorf("shares of %v do not add up to its amount", claim)
		}
	}
	if settled := wei(v["settled_wei"]); total(v["split"].(map[string]any)).Cmp(settled) != 0 || claims.Cmp(settled) != 0 {
		t.Errorf("split and claims of %v do not add up to %s", v, settled)
	}
	return v
}

func TestReceiptOfOneJob(t *testing.T) {
	n := newNode(t)
	n.block(t)
	n.put(t, n.run(1, 7, 1000, 1100, 5), n.claim(2, 350, 1050, 1060), n.claim(3, 350, 1100, 1200),
		state.Payment{Kind: state.PaymentRefunded, Payer: n.payer(), Token: job.TokenALEPH, Amount: big.NewInt(11), Block: 5, LogIndex: 1},
		state.Payment{Kind: state.PaymentRefunded, Payer: n.payer(), Token: job.TokenALEPH, Amount: big.NewInt(99), Block: 4, LogIndex: 3},
		state.Payment{Kind: state.PaymentFlow, Payer: n.payer(), Payee: nodeID, Token: job.TokenALEPH, Amount: new(big.Int), Block: 5, LogIndex: 2},
		state.Payment{Kind: state.PaymentClaimed, Payer: n.payer(), Payee: nodeID, Token: 2, Amount: big.NewInt(5), Block: 6})

	v := n.receipt(t, 1)

	if v["quoted_wei"] != "700" || v["settled_wei"] != "700" || v["seconds"] != 100.0 || v["refund_wei"] != "11" || v["complete"] != true || len(v["claims"].([]any)) != 2 {
		t.Errorf("receipt = %v", v)
	}
}

func TestReceiptWhileItRuns(t *testing.T) {
	n := newNode(t)
	n.block(t)
	n.put(t, n.run(1, 7, chainNow-100, 0, 5), n.claim(2, 350, chainNow-50, chainNow-50))
	if v := n.receipt(t, 1); v["quoted_wei"] != "700" || v["settled_wei"] != "350" || v["complete"] != false || v["refund_wei"] != "0" {
		t.Errorf("receipt = %v", v)
	}
}

func TestReceiptsOfJobsThatShareANode(t *testing.T) {
	n := newNode(t)
	n.block(t)
	// 1 runs alone, then with 2, then 2 runs alone; 3 comes later.
	n.put(t, n.run(1, 7, 1000, 1100, 5), n.run(2, 11, 1050, 1150, 6), n.run(3, 3, 1200, 1201, 7))
	// The claims cut across all of it.
	n.put(t, n.claim(10, 7*70+11*20, 1070, 1070), n.claim(11, 7*30+11*80, 1160, 1160), n.claim(12, 3, 1201, 1300))

	for number, quoted := range map[int]string{1: "700", 2: "1100", 3: "3"} {
		if v := n.receipt(t, number); v["quoted_wei"] != quoted || v["settled_wei"] != quoted || v["complete"] != true {
			t.Errorf("receipt of %d = %v, want %s settled", number, v, quoted)
		}
	}
}

func TestReceiptsAddUpWhenArrearsLeftAHole(t *testing.T) {
	n := newNode(t)
	n.block(t)
	// Of 100 seconds only 60 were paid, and then a debt of 101 wei.
	debt := n.claim(12, 101, 0, 1300)
	debt.Kind, debt.Amount = state.PaymentDebt, big.NewInt(-101)
	n.put(t, n.run(1, 7, 1000, 1100, 5), n.run(2, 11, 1000, 1100, 6), n.claim(10, 18*60, 1100, 1100), debt)

	sum := new(big.Int)
	for _, number := range []int{1, 2} {
		v := n.receipt(t, number)
		settled, _ := new(big.Int).SetString(v["settled_wei"].(string), 10)
		sum.Add(sum, settled)
		if v["complete"] != false {
			t.Errorf("receipt of %d = %v, want it not complete", number, v)
		}
	}
	if want := int64(18*60 + 101); sum.Int64() != want {
		t.Errorf("both settle %s, want %d: every wei is somebody's", sum, want)
	}
}

func TestReceiptOfWhatNeverRan(t *testing.T) {
	n := newNode(t)
	n.block(t)
	failed := n.run(1, 7, 0, 1100, 5)
	failed.Status = state.JobFailed
	n.put(t, failed, n.offerRow(2, state.OfferRefused), n.offerRow(3, state.OfferOffered), n.claim(9, 0, 0, 0),
		state.Payment{Kind: state.PaymentRefunded, Payer: n.payer(), Payee: nodeID, Token: job.TokenALEPH, Amount: big.NewInt(25_200), Block: 5})
	if v := n.receipt(t, 1); v["quoted_wei"] != "0" || v["settled_wei"] != "0" || v["refund_wei"] != "25200" || v["complete"] != true {
		t.Errorf("failed = %v", v)
	}
	if v := n.receipt(t, 2); v["complete"] != true {
		t.Errorf("refused = %v", v)
	}
	if v := n.receipt(t, 3); v["complete"] != false {
		t.Errorf("offered = %v", v)
	}
}

func TestASplitThatWasNotSeenIsNotMadeUp(t *testing.T) {
	n := newNode(t)
	n.block(t)
	c := n.claim(2, 700, 1100, 1100)
	c.Split = nil
	n.put(t, n.run(1, 7, 1000, 1100, 5), c)
	v := want(t, n.do(t, "GET", "/api/v1/jobs/"+string(spec(1))+"/receipt", ""), 200)
	if split := v["split"].(map[string]any); v["settled_wei"] != "700" || split["node"] != "0" {
		t.Errorf("receipt = %v", v)
	}
}
