//go:build e2e

package e2e_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	started = `aleph_executor_outcomes_total{outcome="started"}`
	adopted = `aleph_executor_outcomes_total{outcome="adopted"}`
)

func TestKilledNodeAdoptsItsMachine(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})

	// One test has one compute node, the other one the other.
	t.Run("that runs", func(t *testing.T) {
		t.Parallel()
		killWhileRunning(t, n, n.Nodes[1])
	})
	t.Run("that boots", func(t *testing.T) {
		t.Parallel()
		killWhileBooting(t, n, n.Nodes[2])
	})
}

func killWhileRunning(t *testing.T, n *network, host devnet.Node) {
	t.Helper()
	u := n.user(t, enough, enough)
	had := n.balance(t, u)
	m := n.run(t, u, n.small("killed"), host.NodeID)
	birth := startedAt(t, m.PID)
	visits := visit(t, m)

	for range 2 {
		n.kill(t, host.Name)
		n.adopts(t, m)
		if now := startedAt(t, m.PID); now != birth {
			t.Fatalf("process %d started at tick %s, want %s: it is another one", m.PID, now, birth)
		}
		// The machine answers while the node meters and goes on.
		from := visits.count()
		eventually(t, "more visits", func() error {
			if got := visits.count() - from; got < 20 {
				return fmt.Errorf("%d visits since the node is back, want 20", got)
			}
			return nil
		})
	}
	visits.leave(t, 40)
	// It ends in order too, and to the second, when the node dies just before.
	n.kill(t, host.Name)
	r := n.stop(t, u, m.Spec)

	n.checkReceipt(t, r)
	n.checkUsage(t, host, r)
	if paid := new(big.Int).Sub(had, n.balance(t, u)); paid.Cmp(r.SettledWei.Big()) != 0 {
		t.Errorf("the user has paid %s wei, settled are %s", paid, r.SettledWei)
	}
	n.gone(t, host, m.Spec)
}

func killWhileBooting(t *testing.T, n *network, host devnet.Node) {
	t.Helper()
	u := n.user(t, enough, enough)
	j, err := n.open(t, u, n.small("killed-booting"), host.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	within(t, long, "a hypervisor", func() error {
		if pids = hypervisors(t, machineDir(host, j.Spec)); len(pids) == 0 {
			return fmt.Errorf("none in %s", machineDir(host, j.Spec))
		}
		return nil
	})
	birth := startedAt(t, pids[0])

	n.kill(t, host.Name)

	m := n.running(t, j.Spec)
	if now := startedAt(t, m.PID); m.PID != pids[0] || now != birth {
		t.Errorf("process %d started at tick %s, want process %d of %s", m.PID, now, pids[0], birth)
	}
	n.adopts(t, m)
	r := n.stop(t, u, m.Spec)
	n.checkReceipt(t, r)
	n.checkUsage(t, host, r)
	n.gone(t, host, m.Spec)
}

// kill ends a node with SIGKILL and waits until it is back with another process.
func (n *network) kill(t *testing.T, name string) {
	t.Helper()
	before, err := n.PID(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	n.ready(t, name)
	if after, err := n.PID(name); err != nil || after == before {
		t.Fatalf("%s has process %d, had %d (%v)", name, after, before, err)
	}
}

// adopts waits until the restarted node of a machine has it, and checks that it
// never started another.
func (n *network) adopts(t *testing.T, m *machine) {
	t.Helper()
	eventually(t, "the machine is adopted", func() error {
		if got := metric(t, m.Host, adopted); got != 1 {
			return fmt.Errorf("%s has adopted %v machines, want 1", m.Host.Name, got)
		}
		return nil
	})
	if got := metric(t, m.Host, started); got != 0 {
		t.Errorf("%s has started %v machines since its restart, want 0", m.Host.Name, got)
	}
	row := vm(t, m.Host, m.Spec)
	if row == nil || row.Starts != 1 || row.PID != m.PID || row.State != state.VMRunning {
		t.Errorf("VM is %+v, want it running for the first time with process %d", row, m.PID)
	}
	if pids := hypervisors(t, n.DataDir); !slices.Contains(pids, m.PID) {
		t.Errorf("hypervisors are %v, want %d among them", pids, m.PID)
	}
	if pids := hypervisors(t, m.Dir); len(pids) != 1 {
		t.Errorf("hypervisors of the machine are %v, want one", pids)
	}
	if got := n.starts(t, m.Spec); len(got) != 1 {
		t.Errorf("the chain has %d starts of the job, want one", len(got))
	}
}

// gone waits until a job's machine has ended on its node.
func (n *network) gone(t *testing.T, host devnet.Node, spec message.ItemHash) {
	t.Helper()
	eventually(t, "the machine ends", func() error {
		if pids := hypervisors(t, machineDir(host, spec)); len(pids) != 0 {
			return fmt.Errorf("processes %v run", pids)
		}
		if row := vm(t, host, spec); row != nil && row.State != state.VMStopped {
			return fmt.Errorf("its row is %s: %s", row.State, row.Detail)
		}
		return nil
	})
}
