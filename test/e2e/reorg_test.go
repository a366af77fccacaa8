//go:build e2e

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// none is the status of a job that a node does not know.
const none state.JobStatus = ""

// TestReorganisationIsRolledBack takes the opening of a job from the chain, then
// its confirmation, then both after they were deep enough to be believed. One
// machine goes through all of it.
func TestReorganisationIsRolledBack(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	coordinator, compute := n.rewire(t, n.Nodes[0]), n.rewire(t, n.Nodes[1:]...)
	wires := []*wire{coordinator, compute}
	u := n.user(t, enough, enough)
	had := n.balance(t, u)
	j, err := n.open(t, u, n.small("reorganised"), 0)
	if err != nil {
		t.Fatal(err)
	}
	n.everywhere(t, j.Spec, state.JobAssigned, state.JobRunning)

	// While the machine boots.
	opened := n.assignments(t, j.Spec)[0]
	opening := n.tx(t, opened.Raw.TxHash)
	n.reorganise(t, wires, opened.Raw.BlockNumber, func() {
		n.everywhere(t, j.Spec, none)
	})
	m := n.running(t, j.Spec)
	n.sameTx(t, n.assignments(t, j.Spec)[0].Raw.TxHash, opening)
	birth := startedAt(t, m.PID)
	visits := visit(t, m)

	// The confirmation alone: the job is assigned again.
	n.everywhere(t, j.Spec, state.JobRunning)
	began := n.starts(t, j.Spec)[0]
	beginning := n.tx(t, began.Raw.TxHash)
	n.reorganise(t, wires, began.Raw.BlockNumber, func() {
		n.everywhere(t, j.Spec, state.JobAssigned)
	})
	m.Job = n.running(t, j.Spec).Job
	n.sameTx(t, n.starts(t, j.Spec)[0].Raw.TxHash, beginning)

	// Both, when the nodes took them for final.
	n.everywhere(t, j.Spec, state.JobRunning)
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
	n.reorganise(t, wires, opened.Raw.BlockNumber, func() {
		n.everywhere(t, j.Spec, none)
		if row := vm(t, m.Host, m.Spec); row == nil || row.State != state.VMRunning {
			t.Errorf("VM is %+v, want it running: the job may come back", row)
		}
		// The node's word comes before the opening this time: it has to say it
		// again.
		compute.mend(t)
		eventually(t, "the start is refused", func() error {
			if got := events(t, n, (*bindings.JobManager).UnpackItemRefusedEvent, j.Spec); len(got) == 0 {
				return errors.New("it is not")
			}
			return nil
		})
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
func (n *network) reorganise(t *testing.T, wires []*wire, number uint64, then func()) {
	t.Helper()
	for _, w := range wires {
		w.silence(cut{methods: []string{"eth_sendRawTransaction"}})
		defer w.mend(t)
	}
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

// everywhere waits until all nodes have a job in one of the statuses, or do not
// have it when that is none.
func (n *network) everywhere(t *testing.T, spec message.ItemHash, want ...state.JobStatus) {
	t.Helper()
	for _, node := range n.Nodes {
		eventually(t, "the row of the job follows the chain", func() error {
			var got state.JobStatus
			j := n.job(t, node, spec)
			if j != nil {
				got = j.Status
			}
			if !slices.Contains(want, got) || got == state.JobAssigned && j.StartedAt != 0 {
				return fmt.Errorf("%s has %+v, want status %q", node.Name, j, want)
			}
			return nil
		})
	}
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
