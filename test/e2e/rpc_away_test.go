//go:build e2e

package e2e_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// awayEach is how long the chain does not answer, and then refuses connections.
const awayEach = 30 * time.Second

func TestChainAwayStopsNothing(t *testing.T) {
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	w := n.rewire(t, n.Nodes...)
	users := []*user{n.user(t, enough, enough), n.user(t, enough, enough)}
	var had []*big.Int
	var machines []*machine
	var births []string
	var visits []*visitor
	var jobs []*aleph.Job
	for i, u := range users {
		had = append(had, n.balance(t, u))
		j, err := n.open(t, u, n.small("away"), n.Nodes[i+1].NodeID)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		m := n.running(t, j.Spec)
		machines, births, visits = append(machines, m), append(births, startedAt(t, m.PID)), append(visits, visit(t, m))
	}

	// First nobody answers, and the payer of one machine stops it.
	w.silence(cut{all: true})
	n.headStands(t)
	if _, err := n.node.Stop(t.Context(), users[0].Account, machines[0].Spec); err != nil {
		t.Errorf("stop while the chain is away: %v", err)
	}
	n.unchanged(t, awayEach, machines)
	// Then nobody listens, and the node of the other machine starts anew.
	w.refuse(t)
	if err := n.Kill(t.Context(), machines[1].Host.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the restarted node has its machine", func() error {
		client, err := aleph.New(machines[1].Host.URL)
		if err != nil {
			return err
		}
		if err := client.Healthy(t.Context()); err != nil {
			return err
		}
		if err := client.Ready(t.Context()); err == nil {
			t.Error("the node says that it is ready without a chain")
		}
		if got := metric(t, machines[1].Host, adopted); got != 1 {
			return fmt.Errorf("it has adopted %v machines", got)
		}
		return nil
	})
	n.unchanged(t, awayEach, machines)
	for i, m := range machines {
		visits[i].leave(t, 100)
		if now := startedAt(t, m.PID); now != births[i] {
			t.Errorf("process %d started at tick %s, want %s: it is another one", m.PID, now, births[i])
		}
	}

	w.mend(t)

	for _, node := range n.Nodes {
		n.ready(t, node.Name)
	}
	// What was asked for while the chain was away happens now, and what is asked
	// for now happens too.
	if _, err := n.node.WaitEnded(t.Context(), machines[0].Spec, nil); err != nil {
		t.Fatal(err)
	}
	receipts := []*aleph.Receipt{nil, n.stop(t, users[1], machines[1].Spec)}
	var err error
	if receipts[0], err = n.node.WaitReceipt(t.Context(), machines[0].Spec); err != nil {
		t.Fatal(err)
	}
	for i, r := range receipts {
		n.checkReceipt(t, r)
		n.checkUsage(t, machines[i].Host, r)
		if least := int64(2 * awayEach / time.Second); r.Seconds < least {
			t.Errorf("billed are %d s, want at least the %d s without the chain", r.Seconds, least)
		}
		if paid := new(big.Int).Sub(had[i], n.balance(t, users[i])); paid.Cmp(r.SettledWei.Big()) != 0 {
			t.Errorf("the user has paid %s wei, settled are %s", paid, r.SettledWei)
		}
		n.gone(t, machines[i].Host, machines[i].Spec)
	}
}

// headStands waits until the coordinator gets no more blocks.
func (n *network) headStands(t *testing.T) {
	t.Helper()
	var last uint64
	var since time.Time
	eventually(t, "the head stands still", func() error {
		info, err := n.node.Info(t.Context())
		if err != nil {
			return err
		}
		if info.Chain.Head != last {
			last, since = info.Chain.Head, time.Now()
		}
		if stood := time.Since(since); stood < 5*time.Second { // Blocks come every two.
			return fmt.Errorf("it has for %v", stood)
		}
		return nil
	})
}

// unchanged looks for a while whether the machines run on and the interfaces
// answer with what they knew.
func (n *network) unchanged(t *testing.T, long time.Duration, machines []*machine) {
	t.Helper()
	var head uint64
	end := time.NewTimer(long)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		info, err := n.node.Info(t.Context())
		if err != nil {
			t.Fatalf("info: %v", err)
		}
		if head == 0 {
			head = info.Chain.Head
		}
		if info.Chain.Head != head {
			t.Fatalf("the head moved from %d to %d: the chain is not away", head, info.Chain.Head)
		}
		for _, m := range machines {
			j, err := n.node.Job(t.Context(), m.Spec)
			if err != nil || j.Status != aleph.JobRunning || j.NodeID != m.NodeID || j.StartedAt != m.StartedAt {
				t.Fatalf("job is %+v (%v), want it running as before", j, err)
			}
			if row := vm(t, m.Host, m.Spec); row == nil || row.State != state.VMRunning || row.PID != m.PID || row.Starts != 1 {
				t.Fatalf("VM is %+v, want it running for the first time with process %d", row, m.PID)
			}
			if pids := hypervisors(t, m.Dir); len(pids) != 1 || pids[0] != m.PID {
				t.Fatalf("hypervisors are %v, want %d", pids, m.PID)
			}
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		}
	}
}
