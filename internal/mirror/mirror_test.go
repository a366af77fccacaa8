package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, dir string) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return db
}

func syncer(n *chaintest.Net, db *state.DB, c mirror.Chain) (*mirror.Syncer, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	cfg := mirror.Config{Interval: 10 * time.Millisecond, FromBlock: n.Deployment.FromBlock}
	return mirror.New(cfg, db, c, n.Deployment.Contracts, quiet, reg), reg
}

func pass(t *testing.T, s *mirror.Syncer) {
	t.Helper()
	if err := s.Pass(t.Context()); err != nil {
		t.Fatalf("pass: %v", err)
	}
}

// rows returns every row that mirrors the chain, as JSON.
func rows(t *testing.T, db *state.DB) string {
	t.Helper()
	out := map[string]any{}
	ctx := t.Context()
	note := func(name string, v any, err error) {
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		out[name] = v
	}
	nodes, err := db.Nodes(ctx, "")
	note("nodes", nodes, err)
	changes, err := db.RegistryChanges(ctx)
	note("registry", changes, err)
	jobs, err := db.JobsWith(ctx, state.JobAssigned, state.JobRunning, state.JobStopped, state.JobCompleted, state.JobFailed, state.JobExpired)
	note("jobs", jobs, err)
	accounts, err := db.Accounts(ctx, false)
	note("accounts", accounts, err)
	params, err := db.Params(ctx)
	note("params", params, err)
	head, err := db.Head(ctx)
	note("head", head, err)
	payments := map[string]any{}
	for _, a := range append(accounts, state.Account{}) {
		of, err := db.PaymentsOf(ctx, a.Payer, 1000)
		note("payments", of, err)
		payments[a.Payer.Hex()] = of
	}
	out["payments"] = payments
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func theJob(t *testing.T, db *state.DB, text string) *state.Job {
	t.Helper()
	j, err := db.Job(t.Context(), chaintest.Spec(text))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// life runs a job from its opening to the claim of what it cost, and another
// that never starts.
func life(t *testing.T, n *chaintest.Net) {
	t.Helper()
	payments, token := bindings.NewPaymentManager(), uint8(job.TokenALEPH)
	n.Open(t, chaintest.Spec("lived"), chaintest.RateQ32(1000))
	n.Confirm(t, chaintest.Spec("lived"))
	n.Chain.IncreaseTime(30 * time.Minute)
	n.Mine(t)
	n.Do(t, n.Coord.Signer, "PaymentManager", payments.PackPull(n.Payer.Address, token))
	n.Do(t, n.Coord.Signer, "PaymentManager", payments.PackClaim(uint64(n.Compute.ID), token, []common.Address{n.Payer.Address}))
	n.Stop(t, chaintest.Spec("lived"))
	n.Do(t, n.Coord.Signer, "PaymentManager", payments.PackClaim(uint64(n.Compute.ID), token, []common.Address{n.Payer.Address}))
	n.Do(t, n.Compute.Signer, "PaymentManager", payments.PackWithdraw(uint64(n.Compute.ID), token, big.NewInt(1)))
	n.Open(t, chaintest.Spec("unborn"), chaintest.RateQ32(7))
	n.Do(t, n.Compute.Signer, "JobManager", bindings.NewJobManager().PackNodeStop(chaintest.Bytes(chaintest.Spec("unborn")), uint8(job.NodeRefused)))
	n.Do(t, n.Coord.Signer, "PaymentManager", payments.PackWithdrawRefund(n.Payer.Address, token))
}

func TestRowsFollowTheLifeOfAJob(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	s, reg := syncer(n, db, n.Client)

	pass(t, s)
	params, err := db.Params(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &state.Params{
		PrepaySeconds: 3600, GraceSoftSeconds: 3600, GraceHardSeconds: 86400, StartSeconds: 900, ComputeSplitBps: [4]uint16{6000, 1500, 2000, 500},
	}
	if diff := cmp.Diff(want, params); diff != "" {
		t.Errorf("params (-want +got):\n%s", diff)
	}
	node, err := db.Node(t.Context(), n.Compute.ID)
	if err != nil {
		t.Fatal(err)
	}
	if node.Kind != state.KindCompute || node.Status != state.NodeActive || node.Signer != n.Compute.Address() ||
		node.Owner != n.Owner.Address || node.Payout != n.Owner.Address || node.SelfStake.Cmp(chaintest.Aleph(10)) != 0 {
		t.Errorf("compute node is %+v", node)
	}

	life(t, n)
	pass(t, s)

	j := theJob(t, db, "lived")
	if j.Status != state.JobStopped || j.Reason != "stopped by its payer" || j.StartedAt == 0 || j.StoppedAt < j.StartedAt+1800 || j.ReservedSeconds != 3600 {
		t.Errorf("job is %+v", j)
	}
	if u := theJob(t, db, "unborn"); u.Status != state.JobFailed || u.StartedAt != 0 || !strings.Contains(u.Reason, job.NodeRefused.String()) {
		t.Errorf("job that never ran is %+v", u)
	}
	checkMoney(t, n, db, j)
	if got := metric(t, reg, "aleph_mirror_head_block"); uint64(got) != n.Head(t).Number {
		t.Errorf("metric of the head is %v, want %d", got, n.Head(t).Number)
	}
	if at, err := s.Time(t.Context()); err != nil || at != n.Head(t).Time {
		t.Errorf("chain time %d, %v, want %d", at, err, n.Head(t).Time)
	}
}

// checkMoney checks that the claims add up to the seconds billed, to the wei, and
// each split to its claim.
func checkMoney(t *testing.T, n *chaintest.Net, db *state.DB, j *state.Job) {
	t.Helper()
	all, err := db.Payments(t.Context(), n.Payer.Address, uint64(n.Compute.ID))
	if err != nil {
		t.Fatal(err)
	}
	claimed := new(big.Int)
	for _, p := range all {
		if p.Kind != state.PaymentClaimed {
			continue
		}
		claimed.Add(claimed, p.Amount)
		sum := new(big.Int)
		for _, part := range p.Split {
			sum.Add(sum, part)
		}
		if len(p.Split) != 4 || sum.Cmp(p.Amount) != 0 {
			t.Errorf("split %v of %v adds up to %v", p.Split, p.Amount, sum)
		}
	}
	if want := new(big.Int).SetUint64(1000 * (j.StoppedAt - j.StartedAt)); claimed.Cmp(want) != 0 {
		t.Errorf("claimed %v, want %v for %d seconds", claimed, want, j.StoppedAt-j.StartedAt)
	}
	account, err := db.Account(t.Context(), n.Payer.Address, job.TokenALEPH)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := n.Client.Call(t.Context(), chain.Call{
		To: n.Deployment.Contracts.PaymentManager, Data: bindings.NewPaymentManager().PackAccount(n.Payer.Address, job.TokenALEPH),
	})
	if err != nil {
		t.Fatal(err)
	}
	view, err := bindings.NewPaymentManager().UnpackAccount(raw)
	if err != nil {
		t.Fatal(err)
	}
	if account.RateQ32.Cmp(view.RateQ32) != 0 || account.Refund.Cmp(view.Refund) != 0 || account.PaidUntil != view.PaidUntil.Uint64() ||
		account.ArrearsSince != view.ArrearsSince.Uint64() {
		t.Errorf("account is %+v, the contract says %+v", account, view)
	}
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestArrearsAndDebtBecomeRows(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	s, _ := syncer(n, db, n.Client)
	payments, token := bindings.NewPaymentManager(), uint8(job.TokenALEPH)
	n.Open(t, chaintest.Spec("dry"), chaintest.RateQ32(1000))
	n.Confirm(t, chaintest.Spec("dry"))
	n.Do(t, n.Payer.Key, "AlephToken", bindings.NewAlephToken().PackApprove(n.Deployment.Contracts.PaymentManager, new(big.Int)))
	n.Chain.IncreaseTime(2 * time.Hour)
	n.Mine(t)
	n.Do(t, n.Coord.Signer, "PaymentManager", payments.PackPull(n.Payer.Address, token))
	pass(t, s)
	account, err := db.Account(t.Context(), n.Payer.Address, token)
	if err != nil || account.ArrearsSince == 0 || account.ArrearsSince != account.PaidUntil {
		t.Errorf("account of a payer that ran dry: %+v, %v", account, err)
	}

	n.Chain.IncreaseTime(25 * time.Hour)
	n.Mine(t)
	n.Do(t, n.Coord.Signer, "JobManager", bindings.NewJobManager().PackCloseForArrears([][32]byte{chaintest.Bytes(chaintest.Spec("dry"))}))
	n.Do(t, n.Payer.Key, "AlephToken", bindings.NewAlephToken().PackApprove(n.Deployment.Contracts.PaymentManager, chaintest.Aleph(1)))
	n.Do(t, n.Payer.Key, "PaymentManager", payments.PackPayDebt(n.Payer.Address, token, uint64(n.Compute.ID)))
	pass(t, s)

	if j := theJob(t, db, "dry"); j.Status != state.JobExpired || !strings.Contains(j.Reason, "ran dry") {
		t.Errorf("job is %+v", j)
	}
	all, err := db.Payments(t.Context(), n.Payer.Address, uint64(n.Compute.ID))
	if err != nil {
		t.Fatal(err)
	}
	owed := new(big.Int)
	var kinds []state.PaymentKind
	for _, p := range all {
		kinds = append(kinds, p.Kind)
		if p.Kind == state.PaymentDebt {
			owed.Add(owed, p.Amount)
		}
		if p.Kind == state.PaymentDebt && p.Amount.Sign() < 0 && len(p.Split) != 4 {
			t.Errorf("a paid debt is divided as %v, want four parts", p.Split)
		}
	}
	if owed.Sign() != 0 {
		t.Errorf("the debt is %v after it was paid (%v)", owed, kinds)
	}
}

func TestNodeEventsBecomeRows(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	s, _ := syncer(n, db, n.Client)
	registry := bindings.NewNodeRegistry()
	fresh := devchain.Accounts()[5]
	consent, err := job.Sign(fresh.Key, job.Nodes(n.Client.ChainID(), n.Deployment.Contracts.NodeRegistry), &job.SetSigner{NodeID: n.Compute.ID, Owner: n.Owner.Address})
	if err != nil {
		t.Fatal(err)
	}

	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackUpdateMeta(n.Compute.ID, [32]byte{7}, 5, 3))
	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackSetSigner(n.Compute.ID, fresh.Address, consent))
	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackSetPayout(n.Compute.ID, fresh.Address))
	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackDrain(n.Compute.ID))
	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackExit(n.Compute.ID))
	n.Do(t, n.Owner.Key, "StakingManager", bindings.NewStakingManager().PackRequestUnstake(n.Compute.ID, chaintest.Aleph(4)))
	n.Chain.IncreaseTime(25 * time.Hour)
	n.Mine(t)
	n.Do(t, n.Owner.Key, "NodeRegistry", registry.PackApplyPayout(n.Compute.ID))
	n.Do(t, n.Admin.Key, "PaymentManager", bindings.NewPaymentManager().PackSetPrepay(600))
	n.Do(t, n.Admin.Key, "PaymentManager", bindings.NewPaymentManager().PackSetGrace(60, 7200))
	n.Do(t, n.Admin.Key, "PaymentManager", bindings.NewPaymentManager().PackSetSplit(0, 5000, 2500, 2000, 500))
	pass(t, s)

	node, err := db.Node(t.Context(), n.Compute.ID)
	if err != nil {
		t.Fatal(err)
	}
	if node.Status != state.NodeExited || node.Signer != fresh.Address || node.Payout != fresh.Address || node.MetaHash != (common.Hash{7}) ||
		node.Features != 5 || node.Region != 3 || node.SelfStake.Cmp(chaintest.Aleph(6)) != 0 {
		t.Errorf("node is %+v", node)
	}
	params, err := db.Params(t.Context())
	if err != nil || params.PrepaySeconds != 600 || params.GraceSoftSeconds != 60 || params.GraceHardSeconds != 7200 || params.ComputeSplitBps[1] != 2500 {
		t.Errorf("params are %+v, %v", params, err)
	}
}

func TestReplayGivesTheSameRows(t *testing.T) {
	n := chaintest.Start(t)
	followed := open(t, t.TempDir())
	s, _ := syncer(n, followed, n.Client)
	pass(t, s)
	n.Open(t, chaintest.Spec("lost"), chaintest.RateQ32(3))
	pass(t, s)
	if err := n.Chain.Reorg(1); err != nil {
		t.Fatal(err)
	}
	life(t, n)
	pass(t, s)
	n.Open(t, chaintest.Spec("lost again"), chaintest.RateQ32(3))
	n.Mine(t)
	pass(t, s)
	if err := n.Chain.Reorg(2); err != nil {
		t.Fatal(err)
	}
	pass(t, s)

	replayed := open(t, t.TempDir())
	again, _ := syncer(n, replayed, n.Client)
	pass(t, again)

	if diff := cmp.Diff(rows(t, replayed), rows(t, followed)); diff != "" {
		t.Errorf("rows after two reorganisations (+) differ from a replay (-):\n%s", diff)
	}
	for range mirror.NearMax + 20 { // Now a replay reads the far part in ranges.
		n.Mine(t)
	}
	pass(t, s)
	far := open(t, t.TempDir())
	last, _ := syncer(n, far, n.Client)
	pass(t, last)
	if diff := cmp.Diff(rows(t, far), rows(t, followed)); diff != "" {
		t.Errorf("rows followed block by block (+) differ from those read in ranges (-):\n%s", diff)
	}
}

func TestReorgTakesAJobBack(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	s, reg := syncer(n, db, n.Client)
	pass(t, s)
	before := n.Head(t)
	n.Open(t, chaintest.Spec("gone"), chaintest.RateQ32(5))
	n.Mine(t)
	pass(t, s)
	theJob(t, db, "gone")

	if err := n.Chain.Reorg(2); err != nil {
		t.Fatal(err)
	}
	pass(t, s)

	if _, err := db.Job(t.Context(), chaintest.Spec("gone")); errs.KindOf(err) != errs.NotFound {
		t.Errorf("job after the reorganisation: %v, want none", err)
	}
	head, err := db.Head(t.Context())
	if err != nil || head.Hash != n.Head(t).Hash || head.Number != before.Number+2 {
		t.Errorf("head is %+v, %v, want %+v", head, err, n.Head(t))
	}
	if got := metric(t, reg, "aleph_mirror_undone_blocks_total"); got != 2 {
		t.Errorf("%v blocks taken back, want 2", got)
	}
}

func TestRestartGoesOn(t *testing.T) {
	n := chaintest.Start(t)
	dir := t.TempDir()
	db, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := syncer(n, db, n.Client)
	pass(t, s)
	n.Open(t, chaintest.Spec("kept"), chaintest.RateQ32(5))
	pass(t, s)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	n.Confirm(t, chaintest.Spec("kept"))
	if err := n.Chain.Reorg(1); err != nil {
		t.Fatal(err)
	}

	again := open(t, dir)
	s, _ = syncer(n, again, n.Client)
	pass(t, s)
	if j := theJob(t, again, "kept"); j.Status != state.JobAssigned {
		t.Errorf("job is %s, want assigned", j.Status)
	}
	n.Confirm(t, chaintest.Spec("kept"))
	pass(t, s)
	if j := theJob(t, again, "kept"); j.Status != state.JobRunning {
		t.Errorf("job is %s, want running", j.Status)
	}
}

// until waits until ok, looking again whenever the database changes.
func until(t *testing.T, db *state.DB, what string, ok func() bool) {
	t.Helper()
	wake := db.Wake("blocks", "jobs", "intents")
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-wake:
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestRunRidesOutAnRPCThatIsAway(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	db := open(t, t.TempDir())
	s, _ := syncer(n, db, client)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want the context's cause", err)
		}
	}()
	has := func(text string) func() bool {
		return func() bool {
			_, err := db.Job(t.Context(), chaintest.Spec(text))
			return err == nil
		}
	}
	n.Open(t, chaintest.Spec("before"), chaintest.RateQ32(5))
	until(t, db, "the first job is there", has("before"))

	wire.Cut()
	n.Open(t, chaintest.Spec("meanwhile"), chaintest.RateQ32(5))
	if _, _, _, err := s.Funds(t.Context(), n.Payer.Address, job.TokenALEPH); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Funds without an RPC: %v, want unavailable", err)
	}
	if !has("before")() {
		t.Error("the row is gone while the RPC is away")
	}
	wire.Mend()

	until(t, db, "the job that was missed is there", has("meanwhile"))
}

func TestRunEndsOnAnotherChain(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	err := db.Update(t.Context(), func(tx *state.Tx) error {
		return tx.PutIdentity(t.Context(), state.Identity{ChainID: n.Client.ChainID(), Genesis: common.Hash{1}.Hex()})
	})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := syncer(n, db, n.Client)

	err = s.Run(t.Context())

	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "empty data_dir") {
		t.Errorf("Run on another chain: %v, want what to do", err)
	}
}

func TestFundsAreLive(t *testing.T) {
	n := chaintest.Start(t)
	s, _ := syncer(n, open(t, t.TempDir()), n.Client)

	balance, allowance, refund, err := s.Funds(t.Context(), n.Payer.Address, job.TokenALEPH)

	if err != nil || balance.Cmp(chaintest.Aleph(1000)) != 0 || allowance.Cmp(chaintest.Aleph(1000)) != 0 || refund.Sign() != 0 {
		t.Errorf("funds %v, %v, %v, %v", balance, allowance, refund, err)
	}
	if _, _, _, err := s.Funds(t.Context(), n.Payer.Address, 9); !errors.Is(err, errs.Invalid) {
		t.Errorf("funds in an unknown token: %v", err)
	}
}

func TestEveryEventHasADecision(t *testing.T) {
	all := mirror.EventNames()
	for _, c := range bindings.Suite() {
		if c.Role != bindings.Proxied {
			continue
		}
		contract, known := c.Name, all[c.Name]
		parsed, err := c.Meta.ParseABI()
		if err != nil {
			t.Fatal(err)
		}
		for name := range parsed.Events {
			if _, ok := known[name]; !ok {
				t.Errorf("%s.%s is neither folded nor left out", contract, name)
			}
		}
		for name := range known {
			if _, ok := parsed.Events[name]; !ok {
				t.Errorf("%s has no event %s", contract, name)
			}
		}
	}
}

func TestSharesAddUp(t *testing.T) {
	parts := map[string]*big.Int{"node": big.NewInt(60), "coordinator": big.NewInt(15), "staker": big.NewInt(20), "development": big.NewInt(6)}
	amounts := []*big.Int{big.NewInt(33), big.NewInt(67), big.NewInt(1)}

	shares := mirror.Divide(amounts, big.NewInt(101), parts)

	total := map[string]int64{}
	for i, amount := range amounts {
		sum := int64(0)
		for name, part := range shares[i] {
			sum += part.Int64()
			total[name] += part.Int64()
		}
		if sum != amount.Int64() {
			t.Errorf("the shares of %v add up to %d", amount, sum)
		}
	}
	for name, part := range parts {
		if total[name] != part.Int64() {
			t.Errorf("all shares of %s add up to %d, want %v", name, total[name], part)
		}
	}
}

func TestEndReasonsAreSentences(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint8(20) {
		if n == 0 || n > 5 && n < 16 {
			continue
		}
		text := mirror.EndReason(n)
		if text == "" || seen[text] {
			t.Errorf("reason %d is %q, like another", n, text)
		}
		seen[text] = true
	}
}

// FuzzFold feeds logs as an RPC may send them: whatever they hold, folding one
// ends, and one that a contract cannot have emitted is an error or nothing.
func FuzzFold(f *testing.F) {
	contracts := chain.Contracts{
		NodeRegistry: common.Address{1}, StakingManager: common.Address{2}, JobManager: common.Address{3}, PaymentManager: common.Address{4},
	}
	for i, name := range []string{"NodeRegistry", "StakingManager", "JobManager", "PaymentManager"} {
		parsed, err := chain.ABI(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range parsed.Events {
			f.Add(byte(i+1), e.ID.Bytes(), []byte{1}, []byte{2}, []byte{3}, make([]byte, 320))
		}
	}
	db, err := state.Open(f.Context(), f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := db.Close(); err != nil {
			f.Errorf("close database: %v", err)
		}
	})
	f.Fuzz(func(t *testing.T, at byte, id, topic1, topic2, topic3, data []byte) {
		l := types.Log{Address: common.Address{at}, Data: data, BlockNumber: 1, BlockHash: common.Hash{1}}
		for _, topic := range [][]byte{id, topic1, topic2, topic3} {
			if topic != nil {
				l.Topics = append(l.Topics, common.BytesToHash(topic))
			}
		}
		if err := mirror.FoldLog(t.Context(), db, contracts, l); err != nil && errs.KindOf(err) != errs.Internal {
			t.Errorf("fold: %v is of kind %s, want internal", err, errs.KindOf(err))
		}
	})
}
