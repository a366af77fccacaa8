package deploy_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

var quiet = slog.New(slog.DiscardHandler)

// running returns a client of a chain that makes blocks.
func running(tb testing.TB) *chain.Client {
	tb.Helper()
	client, end := start(tb)
	tb.Cleanup(end)
	return client
}

// start is running with an end that the caller chooses.
func start(tb testing.TB) (client *chain.Client, end func()) {
	tb.Helper()
	c, err := devchain.Open(devchain.Config{}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	client, err = chain.Dial(tb.Context(), chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	return client, func() {
		client.Close()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			tb.Errorf("Run: %v", err)
		}
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	}
}

func aleph(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

// local returns the parameters of local networks.
func local(tb testing.TB) deploy.Params {
	tb.Helper()
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		tb.Fatal(err)
	}
	return params
}

func TestDeployAndJoin(t *testing.T) {
	client := running(t)
	a := devchain.Accounts()
	params := local(t)
	params.Stake = deploy.Stake{Coordinator: 200, CoordinatorTotal: 200, Compute: 10}
	params.Pools.Stakers = a[7].Address
	params.Payments = deploy.Payments{Prepay: 600, GraceSoft: 60, GraceHard: 7200}
	d, err := deploy.Deploy(t.Context(), client, a[0].Key, params, deploy.Extras{
		Grants: []deploy.Grant{{To: a[1].Address, AlephWei: aleph(1000)}, {To: a[2].Address, AlephWei: aleph(500), EtherWei: aleph(1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	payments := bindings.NewPaymentManager()
	out, err := client.Calls(t.Context(), []chain.Call{
		{To: d.Contracts.PaymentManager, Data: payments.PackParams()},
		{To: d.Contracts.PaymentManager, Data: payments.PackTokenOf(job.TokenALEPH)},
		{To: d.Contracts.PaymentManager, Data: payments.PackPayoutOf(deploy.PayeeStakers)},
	})
	if err != nil {
		t.Fatal(err)
	}
	times, err := payments.UnpackParams(out[0])
	if err != nil || times.Prepay != 600 || times.Soft != 60 || times.Hard != 7200 {
		t.Errorf("params %+v, %v", times, err)
	}
	if token, err := payments.UnpackTokenOf(out[1]); err != nil || token.Erc20 != d.Contracts.AlephToken || !token.Enabled {
		t.Errorf("token 1 is %+v, %v", token, err)
	}
	if payout, err := payments.UnpackPayoutOf(out[2]); err != nil || payout != a[7].Address {
		t.Errorf("stakers are paid to %s, %v", payout, err)
	}
	if d.Version == "" || d.FromBlock == 0 || d.Contracts.Validate() != nil || len(d.Implementations) < 4 {
		t.Errorf("deployment %+v", d)
	}

	ids, err := deploy.Join(t.Context(), client, d.Contracts,
		deploy.Node{Owner: a[1].Key, Signer: a[5].Key, Kind: job.KindCoordinator, PeerID: []byte("one"), EtherWei: aleph(1)},
		deploy.Node{Owner: a[1].Key, Signer: a[6].Key, Kind: job.KindCompute, PeerID: []byte("two")},
		deploy.Node{Owner: a[2].Key, Signer: a[7].Key, Kind: job.KindCompute, PeerID: []byte("three"), StakeWei: aleph(11)})

	if err != nil || !slices.Equal(ids, []uint32{1, 2, 3}) {
		t.Fatalf("joined as %v, %v", ids, err)
	}
	for _, id := range ids {
		out, err := client.Call(t.Context(), chain.Call{To: d.Contracts.NodeRegistry, Data: bindings.NewNodeRegistry().PackIsActive(id)})
		if err != nil {
			t.Fatal(err)
		}
		if active, err := bindings.NewNodeRegistry().UnpackIsActive(out); err != nil || !active {
			t.Errorf("node %d is active: %t, %v", id, active, err)
		}
	}
	if err := deploy.Give(t.Context(), client, a[0].Key, d, deploy.Grant{To: a[9].Address, AlephWei: aleph(3)}); err != nil {
		t.Errorf("give: %v", err)
	}
	if err := deploy.Give(t.Context(), client, a[0].Key, d); err != nil {
		t.Errorf("give nothing: %v", err)
	}
	token := bindings.NewAlephToken()
	raw, err := client.Call(t.Context(), chain.Call{To: d.Contracts.AlephToken, Data: token.PackBalanceOf(a[9].Address)})
	if err != nil {
		t.Fatal(err)
	}
	if wei, err := token.UnpackBalanceOf(raw); err != nil || wei.Cmp(aleph(3)) != 0 {
		t.Errorf("balance %v, %v, want the gift", wei, err)
	}
	testRefusals(t, client, d)
	testFile(t, d)
}

func testRefusals(t *testing.T, client *chain.Client, d *deploy.Deployment) {
	t.Helper()
	a := devchain.Accounts()
	node := deploy.Node{Owner: a[1].Key, Signer: a[8].Key, Kind: job.KindCompute, PeerID: []byte("two")}
	if _, err := deploy.Join(t.Context(), client, d.Contracts, node); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "PeerIdTaken") {
		t.Errorf("join with a taken peer id: %v, want the contract's reason", err)
	}
	node.Kind = 9
	if _, err := deploy.Join(t.Context(), client, d.Contracts, node); !errors.Is(err, errs.Invalid) {
		t.Errorf("join as an unknown kind: %v", err)
	}
	node.Kind = job.KindCompute
	other := deploy.Node{Owner: a[2].Key, Signer: a[9].Key, Kind: job.KindCompute, PeerID: []byte("x")}
	if _, err := deploy.Join(t.Context(), client, d.Contracts, node, other, node); !errors.Is(err, errs.Invalid) {
		t.Errorf("nodes of an owner apart: %v", err)
	}
	if ids, err := deploy.Join(t.Context(), client, d.Contracts); len(ids) != 0 || err != nil {
		t.Errorf("nobody joins: %v, %v", ids, err)
	}
	elsewhere := *d
	elsewhere.DevGateway = common.Address{}
	if err := deploy.Give(t.Context(), client, a[0].Key, &elsewhere); !errors.Is(err, errs.Invalid) {
		t.Errorf("play money without a gateway: %v", err)
	}
	far, err := chain.Dial(t.Context(), chain.Config{RPCURL: "http://127.0.0.1:1", ChainID: 42161}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	params, err := deploy.ParamsOf(42161)
	if !errors.Is(err, errs.Invalid) {
		t.Errorf("parameters of Arbitrum One without a token: %v", err)
	}
	if _, err := deploy.Deploy(t.Context(), far, a[0].Key, params, deploy.Extras{}); !errors.Is(err, errs.Invalid) {
		t.Errorf("a token out of nothing on Arbitrum One: %v", err)
	}
	params.Token, params.Guardian = common.Address{1}, common.Address{2}
	if _, err := deploy.Deploy(t.Context(), far, a[0].Key, params, deploy.Extras{KeepAdmin: true}); !errors.Is(err, errs.Invalid) {
		t.Errorf("an admin on Arbitrum One: %v", err)
	}
	if _, err := deploy.Deploy(t.Context(), client, a[0].Key, params, deploy.Extras{}); !errors.Is(err, errs.Invalid) {
		t.Errorf("parameters of another chain: %v", err)
	}
	if _, err := deploy.Deploy(t.Context(), far, a[0].Key, params, deploy.Extras{}); !errors.Is(err, errs.Unavailable) {
		t.Errorf("deploy without an RPC: %v", err)
	}
}

// TestVerify makes the code of all contracts anew, and finds what is not as it
// should be.
func TestVerify(t *testing.T) {
	client := running(t)
	d, err := deploy.Deploy(t.Context(), client, devchain.Accounts()[0].Key, local(t), deploy.Extras{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := deploy.Verify(t.Context(), client, d, local(t))
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, f := range found {
		checked[f.Contract] = true
		if f.Problem != "" || f.Want != f.Have {
			t.Errorf("%s at %s: %s", f.Contract, f.Address, f.Problem)
		}
	}
	for _, c := range bindings.Suite() {
		if c.Role == bindings.Bare && !checked[c.Name] || c.Role == bindings.Proxied && !checked[c.Name] || c.Role == bindings.Proxied && !checked[c.Name+" (implementation)"] {
			t.Errorf("%s was not checked", c.Name)
		}
	}

	problems := func(change func(*deploy.Deployment, *deploy.Params)) map[string]string {
		t.Helper()
		other, params := *d, local(t)
		other.Implementations = maps.Clone(d.Implementations)
		change(&other, &params)
		found, err := deploy.Verify(t.Context(), client, &other, params)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string]string{}
		for _, f := range found {
			if f.Problem != "" {
				bad[f.Contract] = f.Problem
			}
		}
		return bad
	}
	bad := problems(func(d *deploy.Deployment, _ *deploy.Params) {
		d.Implementations["JobManager"] = d.Implementations["PaymentManager"]
	})
	if !strings.Contains(bad["JobManager"], "points to") || !strings.Contains(bad["JobManager (implementation)"], "not what this release gives") || len(bad) != 2 {
		t.Errorf("another implementation in the file: %v", bad)
	}
	bad = problems(func(d *deploy.Deployment, _ *deploy.Params) {
		d.Implementations["JobManager"] = deploy.Implementation{Address: common.Address{1}}
	})
	if !strings.Contains(bad["JobManager (implementation)"], "no contract") {
		t.Errorf("an implementation that is not there: %v", bad)
	}
	bad = problems(func(_ *deploy.Deployment, p *deploy.Params) { p.UptimeFeed = common.Address{1} })
	if !strings.Contains(bad["JobManager (implementation)"], "not what this release gives") {
		t.Errorf("built for other peers: %v", bad)
	}
}

// TestNobodyHoldsARole looks at every role that was ever given, in the
// AccessManager and in the timelock, for one that an account without code holds.
func TestNobodyHoldsARole(t *testing.T) {
	client := running(t)
	d, err := deploy.Deploy(t.Context(), client, devchain.Accounts()[0].Key, local(t), deploy.Extras{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := client.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manager, timelock := bindings.NewAccessManager(), bindings.NewTimelockController()
	lock := d.Helpers["TimelockController"]
	logs, err := client.LogsBetween(t.Context(), 0, head.Number, []common.Address{d.Contracts.AccessManager, lock})
	if err != nil {
		t.Fatal(err)
	}
	held := map[common.Address]int{}
	for i := range logs {
		var ask chain.Call
		var account common.Address
		if e, err := manager.UnpackRoleGrantedEvent(&logs[i]); err == nil && logs[i].Address == d.Contracts.AccessManager {
			account, ask = e.Account, chain.Call{To: d.Contracts.AccessManager, Data: manager.PackHasRole(e.RoleId, e.Account)}
		} else if e, err := timelock.UnpackRoleGrantedEvent(&logs[i]); err == nil && logs[i].Address == lock {
			account, ask = e.Account, chain.Call{To: lock, Data: timelock.PackHasRole(e.Role, e.Account)}
		} else {
			continue
		}
		out, err := client.Call(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if out[31] == 0 {
			continue
		}
		held[account]++
		code, err := client.Code(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		if len(code) == 0 {
			t.Errorf("%s has no code and holds a role of %s", account, logs[i].Address)
		}
	}
	// Who must hold some, so that the walk has seen what it should.
	for _, holder := range []common.Address{lock, d.DevGuardian, d.Contracts.AlephGovernor} {
		if held[holder] == 0 {
			t.Errorf("%s holds no role", holder)
		}
	}
}

func testFile(t *testing.T, d *deploy.Deployment) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deployments", "31337.json")
	if _, err := deploy.Read(path); !errors.Is(err, errs.NotFound) {
		t.Errorf("read before it is written: %v", err)
	}
	if err := d.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := deploy.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files in the folder, %v, want one", len(left), err)
	}
	if err := d.Write(filepath.Join(path, "below a file")); err == nil {
		t.Error("writing below a file succeeded")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"chain_id":1}`))
	f.Add([]byte(`{"chain_id":1,"contracts":{"AlephToken":"0x0000000000000000000000000000000000000001"}}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := deploy.Parse(raw)
		if err == nil && d.Contracts.Validate() != nil || err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %+v, %v", raw, d, err)
		}
	})
}

// BenchmarkDevnet measures the chain part of a cold start: open, deploy, let
// three nodes join.
func BenchmarkDevnet(b *testing.B) {
	a := devchain.Accounts()
	for b.Loop() {
		client, end := start(b)
		d, err := deploy.Deploy(b.Context(), client, a[0].Key, local(b), deploy.Extras{
			Grants: []deploy.Grant{{To: a[1].Address, AlephWei: aleph(1_000_000)}},
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := deploy.Join(b.Context(), client, d.Contracts,
			deploy.Node{Owner: a[1].Key, Signer: a[5].Key, Kind: job.KindCoordinator, PeerID: []byte("one"), EtherWei: aleph(1)},
			deploy.Node{Owner: a[1].Key, Signer: a[6].Key, Kind: job.KindCompute, PeerID: []byte("two"), EtherWei: aleph(1)},
			deploy.Node{Owner: a[1].Key, Signer: a[7].Key, Kind: job.KindCompute, PeerID: []byte("three"), EtherWei: aleph(1)}); err != nil {
			b.Fatal(err)
		}
		end()
	}
}
