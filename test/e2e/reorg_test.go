//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// TestReorganisationIsRolledBack takes the opening of a job from the chain, then
// its confirmation, then both after they were deep enough to be believed. One
// machine goes through all of it.
func TestReorganisationIsRolledBack(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	w := n.rewire(t, n.Nodes...)
	u := n.user(t, enough, enough)
	had := n.balance(t, u)
	j, err := n.open(t, u, n.small("reorganised"), 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the opening is on the chain", func() error {
		if len(n.assignments(t, j.Spec)) == 0 || n.job(t, n.Nodes[0], j.Spec) == nil {
			return fmt.Errorf("job is %s", j.Status)
		}
		return nil
	})

	// While the machine boots.
	opened := n.assignments(t, j.Spec)[0]
	opening := n.tx(t, opened.Raw.TxHash)
	n.reorganise(t, w, opened.Raw.BlockNumber, func() {
		for _, node := range n.Nodes {
			n.eventuallyJob(t, node, j.Spec, nil)
		}
	})
	m := n.running(t, j.Spec)
	n.sameTx(t, n.assignments(t, j.Spec)[0].Raw.TxHash, opening)
	birth := startedAt(t, m.PID)
	visits := visit(t, m)

	// The confirmation alone: the job is assigned again.
	began := n.starts(t, j.Spec)[0]
	beginning := n.tx(t, began.Raw.TxHash)
	n.reorganise(t, w, began.Raw.BlockNumber, func() {
		for _, node := range n.Nodes {
			n.eventuallyJob(t, node, j.Spec, &state.Job{Status: state.JobAssigned})
		}
	})
	m.Job = n.running(t, j.Spec).Job
	n.sameTx(t, n.starts(t, j.Spec)[0].Raw.TxHash, beginning)

	// Both, when the nodes took them for final.
	n.confirmedOpening(t, j.Spec)
	eventually(t, "the start is confirmed", func() error {
		for _, i := range rows[state.Intent](t, m.Host, "intents", "running/%") {
			if i.Status != state.IntentConfirmed {
				return fmt.Errorf("%s is %s", i.Key, i.Status)
			}
		}
		return nil
	})
	opened = n.assignments(t, j.Spec)[0]
	n.reorganise(t, w, opened.Raw.BlockNumber, func() {
		for _, node := range n.Nodes {
			n.eventuallyJob(t, node, j.Spec, nil)
		}
		if row := vm(t, m.Host, m.Spec); row == nil || row.State != state.VMRunning {
			t.Errorf("VM is %+v, want it running: the job may come back", row)
		}
	})
	m.Job = n.running(t, j.Spec).Job
	n.sameTx(t, n.assignments(t, j.Spec)[0].Raw.TxHash, opening)

	// It ran on all the while, and is billed once.
	visits.leave(t, 20)
	if now := startedAt(t, m.PID); now != birth {
		t.Errorf("process %d started at tick %s, want %s: it is another one", m.PID, now, birth)
	}
	n.runsOnce(t, m)
	for _, node := range n.Nodes {
		if got := metric(t, node, "aleph_mirror_reorgs_total"); got < 3 {
			t.Errorf("%s has noticed %v reorganisations, want 3", node.Name, got)
		}
	}
	r := n.stop(t, u, j.Spec)
	n.checkReceipt(t, r)
	n.checkUsage(t, m.Host, r)
	if paid := new(big.Int).Sub(had, n.balance(t, u)); paid.Cmp(r.SettledWei.Big()) != 0 {
		t.Errorf("the user has paid %s wei, settled are %s", paid, r.SettledWei)
	}
	n.gone(t, m.Host, j.Spec)
}

// reorganise replaces the blocks from number on by empty ones. Until then has
// looked, no node can send anything.
func (n *network) reorganise(t *testing.T, w *wire, number uint64, then func()) {
	t.Helper()
	w.silence(cut{methods: []string{"eth_sendRawTransaction"}})
	defer w.mend(t)
	lost, err := n.eth.HeaderByNumber(t.Context(), new(big.Int).SetUint64(number))
	if err != nil {
		t.Fatal(err)
	}
	// Blocks come meanwhile, and then the depth is short of one.
	eventually(t, "the block is replaced", func() error {
		head, err := n.eth.BlockNumber(t.Context())
		if err != nil {
			return err
		}
		if err := n.rpc.CallContext(t.Context(), nil, "anvil_reorg", head-number+1, []any{}); err != nil {
			return err
		}
		now, err := n.eth.HeaderByNumber(t.Context(), lost.Number)
		if err == nil && now.Hash() == lost.Hash() {
			err = fmt.Errorf("block %d is still there", number)
		}
		return err
	})
	then()
}

// job is the row of a job in a node's database, nil when there is none.
func (n *network) job(t *testing.T, node devnet.Node, spec message.ItemHash) *state.Job {
	t.Helper()
	found := rows[state.Job](t, node, "jobs", string(spec))
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

// eventuallyJob waits until a node has a job in a status and without a start, or
// has none.
func (n *network) eventuallyJob(t *testing.T, node devnet.Node, spec message.ItemHash, want *state.Job) {
	t.Helper()
	eventually(t, "the row of the job is rolled back", func() error {
		got := n.job(t, node, spec)
		if (got == nil) != (want == nil) || want != nil && (got.Status != want.Status || got.StartedAt != 0) {
			return fmt.Errorf("%s has %+v, want %+v", node.Name, got, want)
		}
		return nil
	})
}

// tx is a transaction on the chain.
func (n *network) tx(t *testing.T, hash common.Hash) *types.Transaction {
	t.Helper()
	tx, _, err := n.eth.TransactionByHash(t.Context(), hash)
	if err != nil {
		t.Fatalf("transaction %s: %v", hash, err)
	}
	return tx
}

// sameTx checks that a transaction was sent again, or replaced by one with a
// higher fee, and not made anew: only then can there never be two.
func (n *network) sameTx(t *testing.T, hash common.Hash, want *types.Transaction) {
	t.Helper()
	got := n.tx(t, hash)
	if got.Nonce() != want.Nonce() || !bytes.Equal(got.Data(), want.Data()) {
		t.Errorf("transaction %s has nonce %d, want that of %s, %d, and the same call", hash, got.Nonce(), want.Hash(), want.Nonce())
	}
}
