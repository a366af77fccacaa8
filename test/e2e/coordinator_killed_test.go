//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// TestKilledCoordinatorAssignsOnce kills the coordinator at each point between
// its decision and the transaction's block.
func TestKilledCoordinatorAssignsOnce(t *testing.T) { //nolint:tparallel // they all kill the same coordinator
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	w := n.rewire(t, n.Nodes[0])
	u := n.user(t, enough, enough)
	opening := common.Bytes2Hex(abiOf(t, "JobManager").Methods["open"].ID)

	for _, c := range []struct {
		name string
		cut  cut                // What keeps the transaction from going on.
		want state.IntentStatus // Where it stands when the coordinator dies.
		// again is how often the new process has sent the transaction before the
		// wire is mended.
		again int
	}{
		{name: "decided", cut: cut{methods: []string{"eth_estimateGas"}}, want: state.IntentPending},
		{name: "signed", cut: cut{methods: []string{"eth_sendRawTransaction"}}, want: state.IntentSent, again: 1},
		{name: "sent", cut: cut{methods: []string{"eth_sendRawTransaction"}, deliver: true}, want: state.IntentSent},
	} {
		t.Run(c.name, func(t *testing.T) {
			had := n.balance(t, u)
			// The coordinator has other transactions too: refunds of the job before.
			c.cut.about = opening
			w.silence(c.cut)
			j, err := n.open(t, u, n.small(c.name), 0)
			if err != nil {
				t.Fatal(err)
			}
			sent := w.caught(t, 1)
			before := n.decision(t, j.Spec)
			if before.intent.Status != c.want || len(before.intent.Txs) > 1 {
				t.Fatalf("intent is %s with %d transactions, want %s", before.intent.Status, len(before.intent.Txs), c.want)
			}
			if got := n.assignments(t, j.Spec); !c.cut.deliver && len(got) != 0 {
				t.Fatalf("the chain has %d assignments before the transaction", len(got))
			}

			if err := n.Kill(t.Context(), n.Nodes[0].Name); err != nil {
				t.Fatal(err)
			}

			if c.again > 0 {
				again := w.caught(t, len(sent)+c.again)
				if !allSame(again) {
					t.Errorf("the new process sent another transaction than the old one: %v", again)
				}
			}
			w.mend(t)
			m := n.running(t, j.Spec)
			after := n.confirmedOpening(t, j.Spec)
			if diff := cmp.Diff(before.decision, after.decision, cmp.Comparer(bigEqual)); diff != "" {
				t.Errorf("the decision changed (-before +after):\n%s", diff)
			}
			if len(before.intent.Txs) == 1 && after.intent.TxHash != before.intent.Txs[0].Hash {
				t.Errorf("mined is %s, signed was %s", after.intent.TxHash, before.intent.Txs[0].Hash)
			}
			if got := n.openings(t, j.Spec); len(got) != 1 || got[0] != after.intent.TxHash {
				t.Errorf("transactions that open the job are %v, want %s only", got, after.intent.TxHash)
			}
			if m.NodeID != before.decision.NodeID {
				t.Errorf("it runs on node %d, decided was %d", m.NodeID, before.decision.NodeID)
			}
			n.runsOnce(t, m)
			r := n.stop(t, u, j.Spec)
			n.checkReceipt(t, r)
			if paid := new(big.Int).Sub(had, n.balance(t, u)); paid.Cmp(r.SettledWei.Big()) != 0 {
				t.Errorf("the user has paid %s wei, settled are %s", paid, r.SettledWei)
			}
		})
	}
}

// decided is what the coordinator has committed about a job.
type decided struct {
	decision state.Decision
	intent   state.Intent
}

// decision reads the only decision about a job and its transaction.
func (n *network) decision(t *testing.T, spec message.ItemHash) decided {
	t.Helper()
	decisions := rows[state.Decision](t, n.Nodes[0], "decisions", string(spec)+"/%")
	intents := rows[state.Intent](t, n.Nodes[0], "intents", "open/"+string(spec)+"/%")
	if len(decisions) != 1 || len(intents) != 1 || intents[0].Key != scheduler.OpenKey(spec) {
		t.Fatalf("there are %d decisions and %d intents about job %s, want one of each", len(decisions), len(intents), spec)
	}
	return decided{decisions[0], intents[0]}
}

// confirmedOpening is decision once the transaction is deep enough.
func (n *network) confirmedOpening(t *testing.T, spec message.ItemHash) decided {
	t.Helper()
	var d decided
	eventually(t, "the opening is confirmed", func() error {
		if d = n.decision(t, spec); d.intent.Status != state.IntentConfirmed {
			return fmt.Errorf("it is %s: %s", d.intent.Status, d.intent.Error)
		}
		return nil
	})
	return d
}

// openings are all transactions on the chain that open a job, refused ones too:
// the contract would hide that a coordinator sends two.
func (n *network) openings(t *testing.T, spec message.ItemHash) []common.Hash {
	t.Helper()
	jobs := abiOf(t, "JobManager")
	head, err := n.eth.BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []common.Hash
	for number := range head + 1 {
		block, err := n.eth.BlockByNumber(t.Context(), new(big.Int).SetUint64(number))
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range block.Transactions() {
			opens := bytes.HasPrefix(tx.Data(), jobs.Methods["open"].ID)
			if opens && bytes.Contains(tx.Data(), common.FromHex(string(spec))) {
				out = append(out, tx.Hash())
			}
		}
	}
	return out
}

// runsOnce checks that one machine runs for a job in the whole network, and that
// it was assigned, started and booted once.
func (n *network) runsOnce(t *testing.T, m *machine) {
	t.Helper()
	if got := n.assignments(t, m.Spec); len(got) != 1 {
		t.Errorf("the chain has %d assignments of the job, want one", len(got))
	}
	if got := n.starts(t, m.Spec); len(got) != 1 {
		t.Errorf("the chain has %d starts of the job, want one", len(got))
	}
	var pids []int
	for _, node := range n.Nodes[1:] {
		pids = append(pids, hypervisors(t, machineDir(node, m.Spec))...)
		if row := vm(t, node, m.Spec); row != nil && (node.NodeID != m.NodeID || row.Starts != 1) {
			t.Errorf("%s has a VM with %d starts, want one start on node %d", node.Name, row.Starts, m.NodeID)
		}
	}
	if !slices.Equal(pids, []int{m.PID}) {
		t.Errorf("hypervisors of the job are %v, want %d", pids, m.PID)
	}
}

// abiOf is a contract's ABI.
func abiOf(t *testing.T, contract string) *abi.ABI {
	t.Helper()
	out, err := chain.ABI(contract)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func allSame(all []string) bool {
	for _, one := range all {
		if one != all[0] {
			return false
		}
	}
	return true
}

func bigEqual(a, b *big.Int) bool { return a.Cmp(b) == 0 }
