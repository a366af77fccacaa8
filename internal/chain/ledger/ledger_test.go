package ledger_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/ledger"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

var (
	steps = flag.Int("steps", 300, "calls of a random sequence")
	seed  = flag.Uint64("seed", 0, "of the random sequence; 0 = some")
)

// numbers compares amounts by value.
var numbers = cmp.Comparer(func(a, b *big.Int) bool {
	zero := new(big.Int)
	if a == nil {
		a = zero
	}
	if b == nil {
		b = zero
	}
	return a.Cmp(b) == 0
})

// replay folds all events from the first block on.
func replay(t *testing.T, n *chaintest.Net, seen map[string]int) (l *ledger.Ledger, now uint64) {
	t.Helper()
	head := n.Head(t)
	var all []common.Address
	for _, at := range contractsOf(t, n) {
		all = append(all, at)
	}
	logs, err := n.Client.LogsBetween(t.Context(), 0, head.Number, all)
	if err != nil {
		t.Fatal(err)
	}
	l = ledger.New(n.Deployment.Contracts, n.Address(t, "TimelockController"))
	clear(seen)
	for i := range logs {
		seen[nameOf(t, n, &logs[i])]++
	}
	for len(logs) > 0 {
		end := slices.IndexFunc(logs, func(log types.Log) bool { return log.BlockNumber != logs[0].BlockNumber })
		if end < 0 {
			end = len(logs)
		}
		h, err := n.Client.Header(t.Context(), logs[0].BlockNumber)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Fold(h.Time, logs[:end]); err != nil {
			t.Fatal(err)
		}
		logs = logs[end:]
	}
	return l, head.Time
}

// contractsOf are the contracts that have events, by name.
func contractsOf(t *testing.T, n *chaintest.Net) map[string]common.Address {
	t.Helper()
	all := n.Deployment.Contracts.ByName()
	all["TimelockController"] = n.Address(t, "TimelockController")
	return all
}

// nameOf returns the name of an event.
func nameOf(t *testing.T, n *chaintest.Net, l *types.Log) string {
	t.Helper()
	for name, at := range contractsOf(t, n) {
		if at != l.Address {
			continue
		}
		parsed, err := chain.ABI(name)
		if err != nil {
			t.Fatal(err)
		}
		event, err := parsed.EventByID(l.Topics[0])
		if err != nil {
			t.Fatal(err)
		}
		return name + "." + event.Name
	}
	t.Fatalf("no contract at %s", l.Address)
	return ""
}

// comparison asks views and compares their answers with the ledger's.
type comparison struct {
	t     *testing.T
	net   *chaintest.Net
	l     *ledger.Ledger
	now   uint64
	count int
}

// same compares one answer. Calls are of one block: nobody makes any meanwhile.
func same[V any](c *comparison, name, contract string, data []byte, unpack func([]byte) (V, error), want V) {
	c.t.Helper()
	c.count++
	raw, err := c.net.Client.Call(c.t.Context(), chain.Call{To: c.net.Address(c.t, contract), Data: data})
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	got, err := unpack(raw)
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	if diff := cmp.Diff(want, got, numbers); diff != "" {
		c.t.Errorf("%s (-by the events +the contract):\n%s", name, diff)
	}
}

func (c *comparison) all(people []common.Address, specs [][32]byte) {
	c.nodes()
	c.demands()
	c.pauses()
	c.stakes()
	c.jobs(people, specs)
	c.payments()
	c.wishes()
	c.stores()
	c.challenges()
	c.domains(people)
	c.images(people)
	c.cases()
	c.upgrades()
	c.placements()
	c.records()
	c.votes(people)
	c.access(people)
	c.timelock()
	c.governor()
	c.proposals(people)
}

func (c *comparison) nodes() {
	b, l := bindings.NewNodeRegistry(), c.l
	ids := l.Nodes()
	same(c, "lastNodeId", "NodeRegistry", b.PackLastNodeId(), b.UnpackLastNodeId, ids[len(ids)-1])
	same(c, "activeCoordinatorIds", "NodeRegistry", b.PackActiveCoordinatorIds(), b.UnpackActiveCoordinatorIds, l.ActiveCoordinators())
	lens := bindings.NewAlephLens()
	for _, id := range ids {
		same(c, fmt.Sprintf("node %d", id), "NodeRegistry", b.PackNode(id), b.UnpackNode, l.Node(id))
		links := append([]uint32{}, l.LinksOf(id)...)
		same(c, fmt.Sprintf("links of %d", id), "NodeRegistry", b.PackLinksOf(id), b.UnpackLinksOf, links)
		// The lens as the console sees it, of the same numbers.
		info := bindings.IAlephLensNodeInfo{}
		same(c, fmt.Sprintf("lens of node %d", id), "AlephLens", lens.PackNode(id), func(raw []byte) (bindings.INodeRegistryNodeView, error) {
			var err error
			info, err = lens.UnpackNode(raw)
			return info.Node, err
		}, l.Node(id))
		own, pool, rewards := l.StakeOf(id), l.Pool(id, c.now), l.Rewards(id, c.now)
		for what, pair := range map[string][2]*big.Int{
			"self stake": {own.Arg0, info.SelfStake}, "delegated": {pool.Arg0, info.Delegated},
			"unbonding": {new(big.Int).Add(own.Arg1, pool.Arg3), info.Unbonding}, "frozen until": {l.FrozenUntil(id), info.FrozenUntil},
			"jobs":        {big.NewInt(int64(l.ActiveJobs(id))), big.NewInt(int64(info.Jobs))},
			"commitments": {big.NewInt(int64(l.Store(id).Active)), big.NewInt(int64(info.Commitments))},
			"commission":  {big.NewInt(int64(rewards.Arg2)), big.NewInt(int64(info.CommissionBps))},
		} {
			if pair[0].Cmp(pair[1]) != 0 {
				c.t.Errorf("lens of node %d: %s is %s by the events, %s by the lens", id, what, pair[0], pair[1])
			}
		}
	}
	for day := c.now/86400 - 60; day <= c.now/86400; day++ {
		want := bindings.NodeRegistryCoordinatorsOnOutput{Ids: []uint32{}, Weights: []*big.Int{}}
		if s := l.CoordinatorsOn(day); s != nil {
			want.Ids, want.Weights = s.Ids, s.Weights
		}
		same(c, fmt.Sprintf("coordinators on %d", day), "NodeRegistry", b.PackCoordinatorsOn(new(big.Int).SetUint64(day)), b.UnpackCoordinatorsOn, want)
	}
	for epoch := uint32(c.now/3600) - 100; epoch <= uint32(c.now/3600); epoch++ {
		same(c, fmt.Sprintf("heartbeat %d", epoch), "NodeRegistry", b.PackHeartbeatOf(epoch), b.UnpackHeartbeatOf, l.HeartbeatOf(epoch))
	}
}

func (c *comparison) stakes() {
	b, l := bindings.NewStakingManager(), c.l
	for _, id := range l.Nodes() {
		same(c, fmt.Sprintf("stake of %d", id), "StakingManager", b.PackStakeOf(id), b.UnpackStakeOf, l.StakeOf(id))
		same(c, fmt.Sprintf("pool of %d", id), "StakingManager", b.PackPool(id), b.UnpackPool, l.Pool(id, c.now))
		same(c, fmt.Sprintf("rewards of %d", id), "StakingManager", b.PackRewards(id), b.UnpackRewards, l.Rewards(id, c.now))
	}
	for _, at := range l.Positions() {
		same(c, fmt.Sprintf("position %v", at), "StakingManager", b.PackPositionValue(at.NodeID, at.Who), b.UnpackPositionValue, l.PositionValue(at, c.now))
		for i := range uint8(8) {
			same(c, fmt.Sprintf("tranche %d of %v", i, at), "StakingManager", b.PackTranche(at.NodeID, at.Who, i), b.UnpackTranche, l.Tranche(at, i))
		}
	}
	for kind := uint8(1); kind <= 3; kind++ {
		same(c, fmt.Sprintf("requirement %d", kind), "StakingManager", b.PackRequirement(kind), b.UnpackRequirement, l.Requirement(kind))
	}
	same(c, "total requirement", "StakingManager", b.PackTotalRequirement(), b.UnpackTotalRequirement, l.TotalRequirement())
	same(c, "unbonding", "StakingManager", b.PackUnbonding(), b.UnpackUnbonding, l.Unbonding())
}

func (c *comparison) jobs(people []common.Address, specs [][32]byte) {
	b, l := bindings.NewJobManager(), c.l
	for _, spec := range append(l.Jobs(), specs...) {
		same(c, fmt.Sprintf("job %x", spec), "JobManager", b.PackJob(spec), b.UnpackJob, l.Job(spec))
		same(c, fmt.Sprintf("offer of %x", spec), "JobManager", b.PackOfferHash(spec), b.UnpackOfferHash, l.OfferHash(spec))
	}
	for at, want := range l.Placements() {
		same(c, fmt.Sprintf("placement %v", at), "JobManager", b.PackPlacement(at.Spec, at.Attempt), b.UnpackPlacement, want)
	}
	for _, id := range l.Nodes() {
		same(c, fmt.Sprintf("jobs of %d", id), "JobManager", b.PackActiveJobs(id), b.UnpackActiveJobs, l.ActiveJobs(id))
	}
	for _, who := range people {
		for _, word := range []int64{0, 1, 1000} { // Offers have small nonces; what is called off are others.
			at := big.NewInt(word)
			same(c, fmt.Sprintf("nonces %d of %s", word, who.Hex()), "JobManager", b.PackNonceBitmap(who, at), b.UnpackNonceBitmap, l.NonceBitmap(who, at))
		}
	}
}

func (c *comparison) payments() {
	b, l := bindings.NewPaymentManager(), c.l
	for _, at := range l.Accounts() {
		same(c, fmt.Sprintf("account %v", at), "PaymentManager", b.PackAccount(at.Payer, at.Token), b.UnpackAccount, l.Account(at))
	}
	for _, at := range l.Pairs() {
		same(c, fmt.Sprintf("pair %v", at), "PaymentManager", b.PackPair(at.Payer, at.Token, at.Payee), b.UnpackPair, l.Pair(at, c.now))
	}
	for _, at := range l.Credits() {
		same(c, fmt.Sprintf("credit %v", at), "PaymentManager", b.PackCreditOf(at.Payee, at.Token), b.UnpackCreditOf, l.CreditOf(at))
	}
	same(c, "token 1", "PaymentManager", b.PackTokenOf(1), b.UnpackTokenOf, l.Token(1))
	same(c, "params", "PaymentManager", b.PackParams(), b.UnpackParams, l.Params())
	for class := range uint8(2) {
		same(c, fmt.Sprintf("split %d", class), "PaymentManager", b.PackSplitOf(class), b.UnpackSplitOf, l.SplitOf(class))
	}
	for pool := uint64(1 << 33); pool < 1<<33+4; pool++ {
		same(c, fmt.Sprintf("payout of %d", pool), "PaymentManager", b.PackPayoutOf(pool), b.UnpackPayoutOf, l.PoolPayout(pool))
	}
}

func (c *comparison) stores() {
	b, l := bindings.NewStorageRegistry(), c.l
	for _, id := range l.Commitments() {
		same(c, fmt.Sprintf("commitment %x", id), "StorageRegistry", b.PackCommitment(id), b.UnpackCommitment, l.Commitment(id))
	}
	for _, id := range l.Nodes() {
		same(c, fmt.Sprintf("store %d", id), "StorageRegistry", b.PackStore(id), b.UnpackStore, l.Store(id))
		for day := c.now/86400 - 3; day <= c.now/86400+1; day++ {
			name, at := fmt.Sprintf("bundle of %d on %d", id, day), new(big.Int).SetUint64(day)
			same(c, name, "StorageRegistry", b.PackBundleOn(id, at), b.UnpackBundleOn, l.BundleOn(id, day))
		}
		signer := l.Node(id).Signer
		same(c, fmt.Sprintf("signer of %d", id), "StorageRegistry", b.PackIsSignerOf(id, signer), b.UnpackIsSignerOf, l.IsSignerOf(id, signer))
	}
	for day := c.now/86400 - 60; day <= c.now/86400; day++ {
		at := new(big.Int).SetUint64(day)
		same(c, fmt.Sprintf("seed of %d", day), "StorageRegistry", b.PackSeedOf(at), b.UnpackSeedOf, l.SeedOf(day))
		same(c, fmt.Sprintf("attested root of %d", day), "StorageRegistry", b.PackAttestedRoot(at), b.UnpackAttestedRoot, l.AttestedRoot(day))
	}
	same(c, "parameters", "StorageRegistry", b.PackParameters(), b.UnpackParameters, l.StoreParameters())
}

func (c *comparison) domains(people []common.Address) {
	b, l := bindings.NewDomainRegistry(), c.l
	for _, key := range l.Domains() {
		same(c, fmt.Sprintf("name %x", key), "DomainRegistry", b.PackDomain(key), b.UnpackDomain, l.Domain(key, c.now))
		for _, who := range people {
			same(c, fmt.Sprintf("request of %s for %x", who, key), "DomainRegistry", b.PackRequestOf(key, who), b.UnpackRequestOf, l.RequestOf(key, who))
		}
		for i := range byte(6) {
			same(c, fmt.Sprintf("key %d of %x", i, key), "DomainRegistry", b.PackIsRevoked(key, [32]byte{i}), b.UnpackIsRevoked, l.IsRevoked(key, [32]byte{i}))
		}
	}
}

func (c *comparison) images(people []common.Address) {
	b, l := bindings.NewImageMarketplace(), c.l
	for _, seq := range l.Images() {
		same(c, fmt.Sprintf("image %d", seq), "ImageMarketplace", b.PackImage(seq), b.UnpackImage, l.Image(seq))
		same(c, fmt.Sprintf("weights of image %d", seq), "ImageMarketplace", b.PackWeightsOf(seq), b.UnpackWeightsOf, l.WeightsOf(seq))
		for _, who := range people {
			same(c, fmt.Sprintf("rating of %d by %s", seq, who), "ImageMarketplace", b.PackRatingOf(seq, who), b.UnpackRatingOf, l.RatingOf(seq, who))
		}
	}
	same(c, "bond of images", "ImageMarketplace", b.PackBondOfNew(), b.UnpackBondOfNew, l.BondOfNew())
	same(c, "unit of USD", "ImageMarketplace", b.PackUsdUnit(1), b.UnpackUsdUnit, l.USDUnit(1))
}

func (c *comparison) cases() {
	b, l := bindings.NewSLAManager(), c.l
	for _, id := range l.Cases() {
		same(c, fmt.Sprintf("case %x", id), "SLAManager", b.PackCaseOf(id), b.UnpackCaseOf, l.Case(id))
	}
	day := uint64(24 * 60 * 60)
	same(c, "outage", "SLAManager", b.PackOutage(new(big.Int).SetUint64(c.now-day), new(big.Int).SetUint64(c.now)), b.UnpackOutage, l.Outage(c.now-day, c.now))
	classes := l.Classes()
	for _, class := range classes {
		same(c, fmt.Sprintf("class %d", class), "SLAManager", b.PackClassOf(class), b.UnpackClassOf, l.Class(class))
	}
	same(c, "last class", "SLAManager", b.PackLastClass(), b.UnpackLastClass, uint32(len(classes)))
	for _, id := range l.Nodes() {
		for class := range uint32(len(classes) + 1) {
			same(c, fmt.Sprintf("node %d in class %d", id, class), "SLAManager", b.PackOptedIn(id, class), b.UnpackOptedIn, l.OptedIn(id, class))
		}
	}
	for kind := range uint8(13) {
		same(c, fmt.Sprintf("penalty %d", kind), "SLAManager", b.PackPenaltyOf(kind), b.UnpackPenaltyOf, l.Penalty(kind))
	}
	same(c, "bond of cases", "SLAManager", b.PackBondOf(), b.UnpackBondOf, l.CaseBond())
	same(c, "what is to be burned", "SLAManager", b.PackToBurn(), b.UnpackToBurn, l.ToBurn())
	for _, who := range slices.SortedFunc(maps.Keys(l.CaseCredits()), common.Address.Cmp) {
		same(c, "credit of "+who.Hex(), "SLAManager", b.PackCreditOf(who), b.UnpackCreditOf, l.CaseCredits()[who])
	}
}

// TestReplayEqualsTheContracts makes a long random sequence of real calls, with
// reorganisations in between, folds all events from the first block on, again and
// again, and compares every field with the views at the same block.
func TestReplayEqualsTheContracts(t *testing.T) {
	seeds := []uint64{1, 2}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { replayWalk(t, seed) })
	}
}

func replayWalk(t *testing.T, seed uint64) {
	t.Helper()
	const (
		compareEvery = 100
		reorgEvery   = 37
		deepest      = 5
	)
	n := chaintest.Start(t)
	w := chaintest.NewWalk(t, n, seed)
	answers, seen := 0, map[string]int{}
	compare := func(when string) {
		l, now := replay(t, n, seen)
		c := &comparison{t: t, net: n, l: l, now: now}
		if c.all(w.People(), w.Specs()); t.Failed() {
			t.Fatalf("the ledger differs from the contracts %s", when)
		}
		answers += c.count
	}
	w.Tour(func(act string) { compare("after the act of " + act) })
	for i := 1; i <= *steps; i++ {
		w.Step()
		if i%reorgEvery == 0 {
			if err := n.Chain.Reorg(1 + i%deepest); err != nil {
				t.Fatal(err)
			}
		}
		if i%compareEvery == 0 {
			compare(fmt.Sprintf("after %d calls", i))
		}
	}
	for range 8 { // Some last until the views are compared.
		w.Make("pause", time.Second)
	}
	compare("in the end")
	for _, kind := range seldom {
		if w.Done[kind] == 0 {
			t.Errorf("no %s was made, so nothing was compared: refused %v", kind, w.Refused)
		}
	}
	for _, event := range told() {
		if seen[event] == 0 {
			t.Errorf("no %s was told, so nothing was folded", event)
		}
	}
	t.Logf("%d answers are the same; made %v; refused %v; events %v", answers, w.Done, w.Refused, seen)
}

// seldom are kinds of calls of which a tour makes at least one; what is refused
// each time would leave its views equal for nothing.
var seldom = []string{
	"open", "confirm", "stop", "pull", "claim", "register", "stake", "delegate", "undelegate", "addRewards", "requestUnstake",
	"snapshot", "heartbeats", "request", "verify", "accuse", "finalizeCase", "burnPenalties", "endRoyalties",
	"setLimits", "sponsor", "setAutoSwap", "setRoute", "selfHeartbeat", "pause", "unpause", "renewPause",
	"challenge", "expireChallenge", "reportMissed", "veto", "appeal", "decideCase",
}

// told are events of which a walk has at least one each.
func told() (all []string) {
	for contract, events := range ledger.EventNames() {
		switch contract {
		case "AccessManager", "AlephGovernor", "TimelockController":
			for name, folded := range events {
				if folded && name != "RoleAdminChanged" { // The timelock has no call for that.
					all = append(all, contract+"."+name)
				}
			}
		}
	}
	return append(all,
		"AccessManager.RoleAdminChanged", "JobManager.AssignmentChallenged", "JobManager.ChallengeAnswered", "JobManager.ChallengeUpheld",
		"SLAManager.BondPosted", "SLAManager.CaseVetoed", "SLAManager.PenaltyExecuted", "StorageRegistry.BeaconPublished",
		"StorageRegistry.DayAttested", "StorageRegistry.Missed",
	)
}

func TestEveryEventHasADecision(t *testing.T) {
	for contract, known := range ledger.EventNames() {
		parsed, err := chain.ABI(contract)
		if err != nil {
			t.Fatal(err)
		}
		for name := range parsed.Events {
			if _, ok := known[name]; !ok {
				t.Errorf("%s.%s is neither folded nor left out", contract, name)
			}
		}
		for name, folded := range known {
			if _, ok := parsed.Events[name]; !ok && folded {
				t.Errorf("%s has no event %s", contract, name)
			}
		}
	}
}

func TestEventsThatCannotBeAreTold(t *testing.T) {
	contracts := chain.Contracts{NodeRegistry: common.Address{1}, JobManager: common.Address{2}}
	registry, err := chain.ABI("NodeRegistry")
	if err != nil {
		t.Fatal(err)
	}
	unknown := types.Log{Address: common.Address{1}, Topics: []common.Hash{registry.Events["NodeLockSet"].ID, {31: 7}}, Data: make([]byte, 32)}
	tests := []struct {
		name string
		log  types.Log
		want error
	}{
		{"of a node that never was", unknown, errs.Conflict},
		{"of no contract here", types.Log{Address: common.Address{9}, Topics: unknown.Topics}, nil},
		{"of another release", types.Log{Address: common.Address{1}, Topics: []common.Hash{{1}}}, errs.Invalid},
		{"cut short", types.Log{Address: common.Address{1}, Topics: unknown.Topics, Data: []byte{1}}, errs.Internal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := ledger.New(contracts, common.Address{}).Fold(1, []types.Log{tt.log}); !errors.Is(err, tt.want) {
				t.Errorf("fold: %v, want %v", err, tt.want)
			}
		})
	}
}

// event makes a log as a contract would; indexed values are given as numbers.
func event(t *testing.T, contracts chain.Contracts, contract, name string, indexed []int64, values ...any) types.Log {
	t.Helper()
	parsed, err := chain.ABI(contract)
	if err != nil {
		t.Fatal(err)
	}
	at, err := contracts.Address(contract)
	if err != nil {
		t.Fatal(err)
	}
	e := parsed.Events[name]
	data, err := e.Inputs.NonIndexed().Pack(values...)
	if err != nil {
		t.Fatal(err)
	}
	l := types.Log{Address: at, Topics: []common.Hash{e.ID}, Data: data}
	for _, n := range indexed {
		l.Topics = append(l.Topics, common.BigToHash(big.NewInt(n)))
	}
	return l
}

// TestSlashesThatLeaveNothing folds what no random sequence reaches: a slash of
// what waits, and one after which the pools start anew.
func TestSlashesThatLeaveNothing(t *testing.T) {
	contracts := chain.Contracts{StakingManager: common.Address{1}}
	const node, who = 1, 7
	wei := func(n int64) *big.Int { return big.NewInt(n) }
	on := func(name string, indexed []int64, values ...any) types.Log {
		return event(t, contracts, "StakingManager", name, indexed, values...)
	}
	l := ledger.New(contracts, common.Address{})
	logs := []types.Log{
		on("Staked", []int64{node, who}, wei(100), wei(100)),
		on("SelfUnbonding", []int64{node}, wei(60), wei(40), wei(60), wei(9)),
		on("Delegated", []int64{node, who}, wei(1000), wei(5000), wei(1000), wei(5000)),
		on("Undelegated", []int64{node, who}, uint8(3), wei(9), wei(2500), wei(500), wei(500), wei(500), wei(2500)),
		on("Slashed", []int64{node, 1}, wei(10), wei(20), wei(100), wei(50)),
	}
	if err := l.Fold(5, logs); err != nil {
		t.Fatal(err)
	}
	at := ledger.Position{NodeID: node, Who: common.BigToAddress(wei(who))}
	if s := l.StakeOf(node); s.Arg0.Int64() != 30 || s.Arg1.Int64() != 40 {
		t.Errorf("the owner has %v, and %v that waits, want 30 and 40", s.Arg0, s.Arg1)
	}
	if p := l.Pool(node, 5); p.Arg0.Int64() != 400 || p.Arg3.Int64() != 450 {
		t.Errorf("pools are %v and %v, want 400 and 450", p.Arg0, p.Arg3)
	}

	logs = []types.Log{
		on("PoolReset", []int64{node}, wei(1), wei(10)),
		on("UnbondingReset", []int64{node}, wei(1), wei(10)),
		on("Slashed", []int64{node, 1}, wei(30), wei(40), wei(390), wei(440)),
	}
	if err := l.Fold(6, logs); err != nil {
		t.Fatal(err)
	}
	if p := l.Pool(node, 6); p.Arg0.Sign() != 0 || p.Arg1.Sign() != 0 || p.Arg2.Int64() != 1 || p.Arg3.Sign() != 0 || p.Arg4.Sign() != 0 || p.Arg5.Int64() != 1 {
		t.Errorf("pools that started anew are %+v", p)
	}
	if v, left := l.PositionValue(at, 6), l.Tranche(at, 3); v.Arg1.Sign() != 0 || left.Arg1.Sign() != 0 {
		t.Errorf("who had shares has %v, and %v that leave, want none", v.Arg1, left.Arg1)
	}
	logs = []types.Log{on("Delegated", []int64{node, who}, wei(10), wei(50), wei(10), wei(50))}
	if err := l.Fold(7, logs); err != nil {
		t.Fatal(err)
	}
	if v := l.PositionValue(at, 7); v.Arg1.Int64() != 50 {
		t.Errorf("who comes in again has %v shares, want 50", v.Arg1)
	}
}

// TestDaysOfAnObject folds proofs and misses, which need a beacon of the day.
func TestDaysOfAnObject(t *testing.T) {
	contracts := chain.Contracts{StorageRegistry: common.Address{1}}
	l, id := ledger.New(contracts, common.Address{}), big.NewInt(3)
	on := func(name string, day int64, values ...any) types.Log {
		return event(t, contracts, "StorageRegistry", name, []int64{id.Int64(), day}, values...)
	}
	logs := []types.Log{
		on("Proven", 100), on("Missed", 102, big.NewInt(1), new(big.Int), common.Address{}), on("Proven", 101), on("Proven", 140),
	}
	for i, want := range []struct{ newest, proven, missed int64 }{{100, 1, 0}, {102, 4, 1}, {102, 6, 1}, {140, 1, 0}} {
		if err := l.Fold(1, logs[i:i+1]); err != nil {
			t.Fatal(err)
		}
		if v := l.Commitment(id); v.NewestDay.Int64() != want.newest || int64(v.Proven) != want.proven || int64(v.Missed) != want.missed {
			t.Errorf("after event %d the days are %+v, want %+v", i, v, want)
		}
	}
}
