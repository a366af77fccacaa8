package aleph_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// contracts returns the addresses of a net as a node tells them.
func contracts(n *chaintest.Net) aleph.Contracts {
	c := n.Deployment.Contracts
	return aleph.Contracts{
		AlephToken: c.AlephToken, NodeRegistry: c.NodeRegistry, StakingManager: c.StakingManager,
		JobManager: c.JobManager, PaymentManager: c.PaymentManager, AccessManager: c.AccessManager,
	}
}

// registry returns the registry of a new chain with the contracts on it, as
// its node tells it, and the owner of its nodes.
func registry(t *testing.T) (*chaintest.Net, *aleph.Registry, *aleph.Account) {
	t.Helper()
	net := chaintest.Start(t)
	node, c, _ := start(t)
	node.SetInfo(func(i *aleph.Info) { i.Contracts = contracts(net) })
	r, err := aleph.OpenRegistry(t.Context(), c, dial(t, net.Chain.URL()))
	if err != nil {
		t.Fatal(err)
	}
	return net, r, aleph.NewAccount(net.Owner.Key)
}

// running makes blocks until the test ends.
func running(t *testing.T, net *chaintest.Net) { t.Helper(); t.Cleanup(net.Run(t)) }

func tokens(n int64) aleph.Wei { return aleph.NewWei(chaintest.Aleph(n)) }

// wantRefused checks what a contract refused and how it is told.
func wantRefused(t *testing.T, err error, name string, kind aleph.Kind, texts ...string) {
	t.Helper()
	var refused *aleph.RefusedError
	if !errors.As(err, &refused) || refused.Name != name || !errors.Is(err, kind) {
		t.Errorf("error %v, want the refusal %q of kind %q", err, name, kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func send(t *testing.T, call *aleph.NodeCall, a *aleph.Account, status string) *aleph.NodeChange {
	t.Helper()
	if err := call.Check(t.Context(), a.Address()); err != nil {
		t.Fatalf("check: %v", err)
	}
	change, err := call.Send(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if change.Status != status || change.Tx == (common.Hash{}) {
		t.Errorf("after it %+v, want %s by a transaction", change, status)
	}
	return change
}

func TestANodeDrainsExitsAndGivesItsStakeBack(t *testing.T) {
	net, r, owner := registry(t)
	spec, id := chaintest.Spec("job"), net.Compute.ID
	net.Open(t, spec, chaintest.RateQ32(1))
	net.Confirm(t, spec)
	running(t, net)
	check := func(call *aleph.NodeCall) error { return call.Check(t.Context(), owner.Address()) }

	n, err := r.Node(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if n.Status != "active" || n.Kind != "compute" || n.Owner != owner.Address() || n.ActiveJobs != 1 ||
		n.Stake.Cmp(tokens(10)) != 0 || n.StakeNeeded.Cmp(tokens(10)) != 0 {
		t.Errorf("node %+v, want an active compute node with one job and 10 ALEPH", n)
	}
	wantRefused(t, check(r.Activate(id)), "NodeNotActive", aleph.Conflict, "node 2 is active; only a pending or suspended node")
	wantRefused(t, check(r.Exit(id)), "NodeNotActive", aleph.Conflict, "node 2 is active; only a pending or draining node can exit")
	wantRefused(t, check(r.Unstake(id, tokens(1))), "RequirementHeld", aleph.Exhausted, "node 2 is active and keeps 10 ALEPH")
	wantRefused(t, check(r.Withdraw(id)), "ZeroAmount", aleph.Invalid, "no stake that was asked back")

	if change := send(t, r.Drain(id), owner, "draining"); change.ActiveJobs != 1 {
		t.Errorf("%d jobs after the drain, want the one to go on", change.ActiveJobs)
	}
	wantRefused(t, check(r.Drain(id)), "NodeNotActive", aleph.Conflict, "node 2 is draining")
	wantRefused(t, check(r.Activate(id)), "NodeNotActive", aleph.Conflict, "node 2 is draining")
	wantRefused(t, check(r.Exit(id)), "JobsRunning", aleph.Conflict, "it still has 1")

	net.Stop(t, spec)
	send(t, r.Exit(id), owner, "exited")
	wantRefused(t, check(r.Drain(id)), "NodeNotActive", aleph.Conflict, "node 2 is exited")
	wantRefused(t, check(r.Unstake(id, tokens(11))), "Insufficient", aleph.Exhausted, "10 ALEPH staked, less than 11 ALEPH")
	wantRefused(t, check(r.Unstake(id, aleph.NewWei(new(big.Int).Lsh(big.NewInt(1), 200)))), "Insufficient", aleph.Exhausted)
	wantRefused(t, check(r.Unstake(id, tokens(0))), "ZeroAmount", aleph.Invalid, "an amount is zero")
	if change := send(t, r.Unstake(id, tokens(10)), owner, "exited"); change.Stake.Sign() != 0 || change.Unbonding.Cmp(tokens(10)) != 0 {
		t.Errorf("after unstaking %+v, want all of it unbonding", change)
	}
	wantRefused(t, check(r.Withdraw(id)), "NotUnlocked", aleph.Unavailable, "10 ALEPH of node 2 can be withdrawn from 20")

	const unbonding = 15 * 24 * time.Hour // and a day
	net.Chain.IncreaseTime(unbonding)
	net.Mine(t)
	if change := send(t, r.Withdraw(id), owner, "exited"); change.Unbonding.Sign() != 0 {
		t.Errorf("after the withdrawal %+v, want nothing left", change)
	}
}

func TestASuspendedNodeIsActivatedOnceItsStakeSuffices(t *testing.T) {
	net, r, owner := registry(t)
	id, staking := net.Compute.ID, bindings.NewStakingManager()
	stake := func(n int64) {
		net.Do(t, net.Owner.Key, "AlephToken", bindings.NewAlephToken().PackApprove(net.Deployment.Contracts.StakingManager, chaintest.Aleph(n)))
		net.Do(t, net.Owner.Key, "StakingManager", staking.PackStake(id, chaintest.Aleph(n)))
	}
	net.Do(t, net.Admin.Key, "StakingManager", staking.PackSetRequirement(uint8(job.KindCompute), chaintest.Aleph(20)))
	stake(1)
	if n, err := r.Node(t.Context(), id); err != nil || n.Status != "suspended" {
		t.Fatalf("node %+v, %v; want it suspended", n, err)
	}

	err := r.Activate(id).Check(t.Context(), owner.Address())
	wantRefused(t, err, "StakeTooLow", aleph.Exhausted,
		"node 2 has 11 ALEPH staked of the 20 ALEPH that a compute node needs; 9 ALEPH more must be staked with StakingManager 0x")

	stake(9)
	running(t, net)
	send(t, r.Activate(id), owner, "active")
}

func TestForeignersAndThePoorDoNotChangeNodes(t *testing.T) {
	net, r, owner := registry(t)
	id := net.Compute.ID
	stranger := aleph.NewAccount(net.Payer.Key)

	calls := map[string]*aleph.NodeCall{
		"drain": r.Drain(id), "exit": r.Exit(id), "unstake": r.Unstake(id, tokens(1)), "withdraw": r.Withdraw(id),
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			_, err := call.Send(t.Context(), stranger)
			wantRefused(t, err, "NotAuthorized", aleph.Denied, "node 2 belongs to "+owner.Address().Hex()+", not to "+stranger.Address().Hex())
		})
	}
	var refused *aleph.RefusedError
	if err := r.Drain(id).Check(t.Context(), stranger.Address()); !errors.As(err, &refused) || refused.Node == nil || refused.Node.NodeID != id {
		t.Errorf("error %v, want a refusal that holds the node", err)
	}

	wantRefused(t, r.Drain(99).Check(t.Context(), owner.Address()), "UnknownNode", aleph.NotFound, "there is no node 99")
	wantRefused(t, r.Unstake(99, tokens(1)).Check(t.Context(), owner.Address()), "UnknownNode", aleph.NotFound, "there is no node 99")
	_, err := r.Node(t.Context(), 99)
	wantRefused(t, err, "UnknownNode", aleph.NotFound, "there is no node 99")

	poor, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	chain := dial(t, net.Chain.URL())
	_, err = chain.SendToken(t.Context(), poor, net.Deployment.Contracts.AlephToken, owner.Address(), aleph.Wei{})
	var funds *aleph.FundsError
	if !errors.As(err, &funds) || funds.Have.Sign() != 0 || funds.Missing().Cmp(funds.Need) != 0 || funds.Need.Sign() <= 0 {
		t.Errorf("error %v, want the ether that is missing", err)
	}
	wantKind(t, err, aleph.Exhausted, "holds 0 ETH and the transaction may cost 0.000")
}

// TestATransactionThatIsOvertakenSaysWhy sends the same change twice in one
// block: both would be taken when they are sent.
func TestATransactionThatIsOvertakenSaysWhy(t *testing.T) {
	net, r, owner := registry(t)
	eth, err := ethclient.DialContext(t.Context(), net.Chain.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(eth.Close)
	first, err := eth.PendingNonceAt(t.Context(), owner.Address())
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 2)
	for sent := first; sent < first+2; sent++ {
		go func() {
			_, err := r.Drain(net.Compute.ID).Send(t.Context(), owner)
			results <- err
		}()
		for next := sent; next <= sent; {
			if next, err = eth.PendingNonceAt(t.Context(), owner.Address()); err != nil {
				t.Fatal(err)
			}
		}
	}

	net.Mine(t)

	a, b := <-results, <-results
	if a == nil {
		a, b = b, a
	}
	if b != nil {
		t.Errorf("both were refused: %v; %v", a, b)
	}
	wantRefused(t, a, "NodeNotActive", aleph.Conflict, "node 2 is draining; only an active or suspended node can drain (transaction 0x", "was reverted")
}

func TestARegistryIsOfTheNodesChain(t *testing.T) {
	net := chaintest.Start(t)
	node, c, a := start(t)
	chain := dial(t, net.Chain.URL())

	r, err := aleph.OpenRegistry(t.Context(), c, chain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Node(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "ask standing of 0x") {
		t.Errorf("error %v, want one about an address without a contract", err)
	}
	node.SetInfo(func(i *aleph.Info) { i.Chain.ID = 42161 })
	if _, err := aleph.OpenRegistry(t.Context(), c, chain); err == nil || !strings.Contains(err.Error(), "is chain 31337, but node") {
		t.Errorf("error %v, want one about two chains", err)
	}
	node.SetInfo(func(i *aleph.Info) { i.Chain.ID, i.Contracts = 31337, contracts(net) })
	wire := chaintest.NewWire(t, net.Chain.URL())
	r, err = aleph.OpenRegistry(t.Context(), c, dial(t, wire.URL))
	if err != nil {
		t.Fatal(err)
	}
	wire.Cut()
	wantKind(t, r.Drain(1).Check(t.Context(), a.Address()), aleph.Unavailable, "no answer from "+wire.URL)
	_, err = r.Node(t.Context(), 1)
	wantKind(t, err, aleph.Unavailable, "no answer from "+wire.URL)
}

// TestTheInterfaceIsTheContracts holds what the client knows of the contracts
// against what they are compiled from.
func TestTheInterfaceIsTheContracts(t *testing.T) {
	known, err := abi.JSON(strings.NewReader(aleph.ContractsABI))
	if err != nil {
		t.Fatal(err)
	}
	methods, refusals := map[string]bool{}, map[string]bool{}
	for _, meta := range []*bind.MetaData{
		&bindings.AlephTokenMetaData, &bindings.NodeRegistryMetaData, &bindings.StakingManagerMetaData, &bindings.JobManagerMetaData,
	} {
		parsed, err := meta.ParseABI()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range parsed.Methods {
			methods[shape(m)] = true
		}
		for _, e := range parsed.Errors {
			refusals[e.Sig] = true
		}
	}
	for _, m := range known.Methods {
		if !methods[shape(m)] {
			t.Errorf("no contract has %s", shape(m))
		}
	}
	for _, e := range known.Errors {
		if !refusals[e.Sig] {
			t.Errorf("no contract refuses with %s", e.Sig)
		}
		if !aleph.HasMeaning(e.Name) {
			t.Errorf("%s is not explained", e.Name)
		}
	}
}

// shape is a method with the types of what it takes and gives.
func shape(m abi.Method) string {
	var out []string
	for _, o := range m.Outputs {
		out = append(out, o.Type.String())
	}
	return m.Sig + " " + m.StateMutability + " " + strings.Join(out, ",")
}
