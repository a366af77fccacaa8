//go:build e2e

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

func TestAllowance(t *testing.T) { //nolint:tparallel // its tests move the time of one chain, one after the other
	t.Parallel()
	n := startNetwork(t, devnet.Options{})
	t.Run("TooShortIsRefusedBeforeAnythingHappens", func(t *testing.T) { allowanceTooShort(t, n) })
	t.Run("RunDryGivesGraceThenStopsWithAReason", func(t *testing.T) { allowanceRunsDry(t, n) })
}

// allowanceTooShort offers a job that its payer may not pay.
func allowanceTooShort(t *testing.T, n *network) {
	t.Helper()
	const allowed = "0.001"
	u := n.user(t, enough, allowed)
	cli := n.cli(t, u)
	key, err := cli.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	prepay := n.prepay(t, n.small("short"))
	missing := new(big.Int).Sub(prepay.Big(), parseTokens(t, allowed).Big())
	before, had := len(n.logs(t, n.Contracts.JobManager))+len(n.logs(t, n.Contracts.PaymentManager)), n.balance(t, u)
	create := []string{"instance", "create", "--image", string(n.image), "--ssh-key", key + ".pub", "--memory", "256", "--disk", "1024", "--yes"}

	for _, flag := range []string{"--json=false", "--json"} {
		out, err := cli.Run(t.Context(), append(create, flag)...)
		var failed *devnet.Failure
		if !errors.As(err, &failed) || failed.Code != 1 || len(out) > 0 {
			t.Errorf("create with %s: %v, wrote %q, want exit code 1 and no result", flag, err, out)
			continue
		}
		for _, want := range []string{
			aleph.NewWei(missing).Tokens() + " ALEPH missing", "allowance to PaymentManager " + allowed + " ALEPH", "aleph allowance set",
		} {
			if !strings.Contains(failed.Stderr, want) {
				t.Errorf("create with %s says %s, want %q in it", flag, failed.Stderr, want)
			}
		}
	}
	_, err = n.open(t, u, n.small("short"), 0)
	var refused *aleph.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusPaymentRequired || !strings.Contains(refused.Detail, aleph.NewWei(missing).Tokens()) {
		t.Errorf("the interface answers %v, want status 402 with the missing amount", err)
	}

	if after := len(n.logs(t, n.Contracts.JobManager)) + len(n.logs(t, n.Contracts.PaymentManager)); after != before {
		t.Errorf("the chain has %d new events, want none", after-before)
	}
	if has := n.balance(t, u); has.Cmp(had) != 0 {
		t.Errorf("the user has %s wei, had %s", has, had)
	}
	for _, node := range n.Nodes {
		offers, promises, vms := rows[state.Offer](t, node, "offers", ""), rows[state.Acceptance](t, node, "acceptances", ""), rows[state.VM](t, node, "vms", "")
		if len(offers)+len(promises)+len(vms) > 0 {
			t.Errorf("%s has %d offers, %d promises, %d VMs, want none", node.Name, len(offers), len(promises), len(vms))
		}
		dirs, err := filepath.Glob(filepath.Join(node.DataDir, "vms", "*"))
		if err != nil || len(dirs) > 0 {
			t.Errorf("%s has machines in %v (%v), want none", node.Name, dirs, err)
		}
	}
	var listed []aleph.Job
	if err := cli.JSON(t.Context(), &listed, "instance", "list"); err != nil || len(listed) > 0 {
		t.Errorf("instance list has %d jobs (%v), want none", len(listed), err)
	}
}

// allowanceRunsDry lets a job outlive its payer's allowance, which is for the
// first window and not a wei more.
func allowanceRunsDry(t *testing.T, n *network) {
	t.Helper()
	spec := n.small("dry")
	u := n.user(t, enough, n.prepay(t, spec).Tokens())
	cli := n.cli(t, u)
	m := n.run(t, u, spec, 0)
	born := startedAt(t, m.PID)
	paid := n.money(t, u, m.Host)
	if v := n.view(t, u); v.Allowance.Sign() != 0 || v.PaidUntil != m.StartedAt+paid.prepay {
		t.Fatalf("allowance is %s wei, paid until %d, want 0 and %d", v.Allowance, v.PaidUntil, m.StartedAt+paid.prepay)
	}
	dry := m.StartedAt + paid.prepay
	// Another payer's machine, which dries up a little later.
	saver := n.user(t, enough, n.prepay(t, spec).Tokens())
	kept := n.run(t, saver, n.small("kept"), 0)

	n.advance(t, dry+60)

	told := fmt.Sprintf("the payer's allowance ran dry at %s; the job ends after %s unless it is topped up", at(dry), at(dry+paid.hard))
	eventually(t, "the user is told that the money is out", func() error {
		out, err := cli.Run(t.Context(), "instance", "show", string(m.Spec))
		if err == nil && (!bytes.Contains(out, []byte(told)) || !bytes.Contains(out, []byte("in arrears since"))) {
			err = fmt.Errorf("it does not say %q: %s", told, out)
		}
		return err
	})
	if v := n.view(t, u); v.ArrearsSince != dry || v.HardStop != dry+paid.hard {
		t.Errorf("in arrears since %d, to be stopped at %d, want %d and %d", v.ArrearsSince, v.HardStop, dry, dry+paid.hard)
	}
	if token, err := page(t.Context(), m.Page); err != nil || token != m.Token {
		t.Errorf("in grace the page has token %s (%v), want %s", token, err, m.Token)
	}
	if now := hypervisors(t, m.Dir); !slices.Equal(now, []int{m.PID}) || startedAt(t, m.PID) != born {
		t.Errorf("in grace the processes are %v, want %d as it was started", now, m.PID)
	}

	n.advance(t, dry+paid.prepay+pauseSlack/2)

	n.awaitPaused(t, m)
	// The other has started later, so its grace ends later.
	n.advance(t, kept.StartedAt+2*paid.prepay+pauseSlack/2)
	n.awaitPaused(t, kept)
	n.allow(t, saver, "10")
	eventually(t, "the machine whose payer tops up goes on with its disk and port", func() error {
		token, err := page(t.Context(), kept.Page)
		if err == nil && token != kept.Token {
			err = fmt.Errorf("the page has token %s, want %s", token, kept.Token)
		}
		return err
	})
	if vm := rows[state.VM](t, kept.Host, "vms", string(kept.Spec)); len(vm) != 1 || vm[0].Starts != 2 {
		t.Errorf("the machine that goes on has the rows %+v, want one that was started twice", vm)
	}
	n.advance(t, dry+paid.hard-60)
	n.caughtUp(t)
	if left := hypervisors(t, m.Dir); len(left) > 0 {
		t.Errorf("the paused machine runs as %v", left)
	}
	if _, err := n.open(t, u, spec, 0); !errors.Is(err, aleph.Exhausted) {
		t.Errorf("another job in arrears: %v, want it refused for lack of money", err)
	}

	n.advance(t, dry+paid.hard+1)

	eventually(t, "the job is ended and the machine stopped", func() error {
		var j aleph.Job
		if err := cli.JSON(t.Context(), &j, "instance", "show", string(m.Spec)); err != nil {
			return err
		}
		if j.Status != aleph.JobExpired || j.VM == nil || j.VM.State != string(state.VMStopped) {
			return fmt.Errorf("it is %s, machine %+v", j.Status, j.VM)
		}
		return nil
	})
	shown, err := cli.Run(t.Context(), "instance", "show", string(m.Spec))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"expired (", "the payer's allowance ran dry at " + at(dry), "the grace ended at "} {
		if !bytes.Contains(shown, []byte(want)) {
			t.Errorf("instance show does not say %q: %s", want, shown)
		}
	}
	if left := hypervisors(t, m.Dir); len(left) > 0 {
		t.Errorf("the machine runs on as %v", left)
	}
	if _, err := page(t.Context(), m.Page); err == nil {
		t.Error("the page is still there")
	}
	n.checkDry(t, u, m, paid, dry)
}

// checkDry holds what a job took against what its payer allowed.
func (n *network) checkDry(t *testing.T, u *user, m *machine, paid terms, dry int64) {
	t.Helper()
	ends := n.ends(t, m.Spec)
	if len(ends) != 1 || ends[0].StoppedAt.Int64() <= dry+paid.hard {
		t.Fatalf("the chain has the ends %+v, want one after %d", ends, dry+paid.hard)
	}
	closes := rows[state.Intent](t, n.Nodes[0], "intents", "arrears/"+string(m.Spec)+"/%")
	if len(closes) != 1 || closes[0].Method != "closeForArrears" || closes[0].TxHash != ends[0].Raw.TxHash {
		t.Errorf("the job was ended by %s, want the coordinator's %+v", ends[0].Raw.TxHash, closes)
	}
	prepaid := price(m.RateQ32.Big(), paid.prepay)
	eventually(t, "the node has claimed all that it can", func() error {
		r, err := n.node.Receipt(t.Context(), m.Spec)
		if err != nil {
			return err
		}
		if r.SettledWei.Big().Cmp(prepaid) != 0 || r.Split.Sum().Cmp(r.SettledWei) != 0 {
			return fmt.Errorf("settled %s wei in shares of %s, prepaid %s", r.SettledWei, r.Split.Sum(), prepaid)
		}
		return nil
	})
	now := n.money(t, u, m.Host)
	if now.pair.Claimable.Sign() != 0 || now.pair.RateQ32.Sign() != 0 || now.account.RateQ32.Sign() != 0 {
		t.Errorf("the node can still claim: %+v of %+v", now.pair, now.account)
	}
	if now.account.Refund.Sign() != 0 || now.account.Reserved.Sign() != 0 || now.account.ArrearsSince.Sign() != 0 {
		t.Errorf("the account keeps something: %+v", now.account)
	}
	if spent := new(big.Int).Sub(parseTokens(t, enough).Big(), n.balance(t, u)); spent.Cmp(prepaid) != 0 {
		t.Errorf("the user spent %s wei, prepaid were %s", spent, prepaid)
	}
	// The grace is remembered between the two, to the second, and takes nothing.
	grace := new(big.Int).Mul(m.RateQ32.Big(), big.NewInt(ends[0].StoppedAt.Int64()-dry))
	grace.Add(grace, big.NewInt(1<<32-1)).Rsh(grace, 32)
	if now.pair.Debt.Cmp(grace) != 0 {
		t.Errorf("debt is %s wei, want the %s wei of the grace", now.pair.Debt, grace)
	}
	// It ran on unpaid for no longer than what is prepaid at most.
	used := rows[state.Usage](t, m.Host, "usages", string(m.Spec)+"/%")
	if last := used[len(used)-1].To; last <= uint64(dry) || last > uint64(dry+paid.prepay+pauseSlack) {
		t.Errorf("usage is metered to %d, want to a pause after %d and before %d", last, dry, dry+paid.prepay+pauseSlack)
	}
}

// pauseSlack is how long after the end of its grace a machine may be paused, in
// seconds of the chain's time, which the test puts ahead in steps.
const pauseSlack = 120

// awaitPaused waits until a machine is paused: its process and page gone, its
// row and disk there, and its user told why and until when.
func (n *network) awaitPaused(t *testing.T, m *machine) {
	t.Helper()
	var j *aleph.Job
	eventually(t, "the machine is paused", func() (err error) {
		if j, err = n.node.Job(t.Context(), m.Spec); err != nil {
			return err
		}
		if j.Status != aleph.JobRunning || j.VM == nil || j.VM.State != string(state.VMPaused) || len(hypervisors(t, m.Dir)) > 0 {
			return fmt.Errorf("job is %s, machine %+v", j.Status, j.VM)
		}
		return nil
	})
	if !strings.Contains(j.VM.Detail, "paused since") || !strings.Contains(j.VM.Detail, "aleph allowance set") {
		t.Errorf("the detail of the paused machine is %q", j.VM.Detail)
	}
	if _, err := page(t.Context(), m.Page); err == nil {
		t.Error("the page of a paused machine is still there")
	}
	if _, err := os.Stat(filepath.Join(m.Dir, "disk.qcow2")); err != nil {
		t.Errorf("the disk of a paused machine: %v", err)
	}
}

// terms are the contract's times, in seconds, and what it knows of a payer and
// of the payer's node.
type terms struct {
	prepay, hard int64
	account      bindings.IPaymentManagerAccountView
	pair         bindings.IPaymentManagerPairView
}

// money asks the payment contract about a payer and a node.
func (n *network) money(t *testing.T, u *user, host devnet.Node) terms {
	t.Helper()
	payments := bindings.NewPaymentManager()
	ask := func(data []byte) []byte {
		to := n.Contracts.PaymentManager
		out, err := n.eth.CallContract(t.Context(), ethereum.CallMsg{To: &to, Data: data}, nil)
		if err != nil {
			t.Fatalf("ask payment contract: %v", err)
		}
		return out
	}
	p, err := payments.UnpackParams(ask(payments.PackParams()))
	if err != nil {
		t.Fatal(err)
	}
	out := terms{prepay: int64(p.Prepay), hard: int64(p.Hard)}
	if out.account, err = payments.UnpackAccount(ask(payments.PackAccount(u.Address(), job.TokenALEPH))); err != nil {
		t.Fatal(err)
	}
	if out.pair, err = payments.UnpackPair(ask(payments.PackPair(u.Address(), job.TokenALEPH, uint64(host.NodeID)))); err != nil {
		t.Fatal(err)
	}
	return out
}

// prepay is what the first window of a machine costs.
func (n *network) prepay(t *testing.T, s aleph.InstanceSpec) aleph.Wei {
	t.Helper()
	content, err := s.Content(n.Accounts[0].Address, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	q, err := n.node.Quote(t.Context(), aleph.QuoteRequest{Content: content})
	if err != nil {
		t.Fatalf("quote: %v", err)
	}
	return q.PrepayWei
}

func (n *network) view(t *testing.T, u *user) *aleph.AccountView {
	t.Helper()
	v, err := n.node.Account(t.Context(), u.Address())
	if err != nil {
		t.Fatalf("account: %v", err)
	}
	return v
}

// advance moves the chain's time on to a moment, and no further than a block
// takes.
func (n *network) advance(t *testing.T, to int64) {
	t.Helper()
	head, err := n.eth.HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if gap := to - int64(head.Time); gap > 0 {
		err = n.rpc.CallContext(t.Context(), nil, "evm_increaseTime", hexutil.Uint64(gap))
	}
	if err == nil {
		err = n.rpc.CallContext(t.Context(), nil, "evm_mine")
	}
	if err != nil {
		t.Fatalf("advance the chain's time: %v", err)
	}
}

// caughtUp waits until every node has read the chain to its present head.
func (n *network) caughtUp(t *testing.T) {
	t.Helper()
	head, err := n.eth.HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range n.Nodes {
		client, err := aleph.New(node.URL)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, node.Name+" reads the chain", func() error {
			info, err := client.Info(t.Context())
			if err == nil && info.Chain.Head < head.Number.Uint64() {
				err = fmt.Errorf("it is at block %d of %d", info.Chain.Head, head.Number)
			}
			return err
		})
	}
}

// at is a chain time as people are told it.
func at(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

// readFile reads a file of a node.
func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
