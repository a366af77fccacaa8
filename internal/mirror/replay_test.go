package mirror_test

import (
	"errors"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// ask asks a view now and unpacks its answer.
func ask[V any](t *testing.T, n *chaintest.Net, to common.Address, data []byte, unpack func([]byte) (V, error)) V {
	t.Helper()
	raw, err := n.Client.Call(t.Context(), chain.Call{To: to, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	v, err := unpack(raw)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var amounts = cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })

// nodeRow is what the contracts say of a node, in the form of its row.
func nodeRow(t *testing.T, n *chaintest.Net, row state.Node) state.Node {
	t.Helper()
	kinds := []state.NodeKind{"", state.KindCoordinator, state.KindCompute, state.KindStorage}
	statuses := []state.NodeStatus{
		"", state.NodePending, state.NodeActive, state.NodeSuspended, state.NodeDraining, state.NodeJailed, state.NodeExited, state.NodeBanned,
	}
	registry, staking, at := bindings.NewNodeRegistry(), bindings.NewStakingManager(), n.Deployment.Contracts
	v := ask(t, n, at.NodeRegistry, registry.PackNode(row.ID), registry.UnpackNode)
	return state.Node{
		ID: row.ID, Kind: kinds[v.Kind], Status: statuses[v.Status], Owner: v.Owner, Signer: v.Signer, Payout: v.Payout,
		PeerIDHash: v.PeerIdHash, MetaHash: v.MetaHash, Features: v.Features, Region: v.Region, SinceAt: v.StatusSince.Uint64(),
		SelfStake: ask(t, n, at.StakingManager, staking.PackStakeOf(row.ID), staking.UnpackStakeOf).Arg0,
		Linked:    v.LinkedTo, Locked: v.Locked, PoolTokens: row.PoolTokens, PoolShares: row.PoolShares, // See delegations.
		Block: row.Block, MadeAt: row.MadeAt, // No view tells.
	}
}

// jobRow is what the contract says of a job, in the form of its row. Of a job
// that waits for another node the row tells how it ended on the last one, which
// the contract does not.
func jobRow(t *testing.T, n *chaintest.Net, row state.Job) state.Job {
	t.Helper()
	const stopping, reassign = 4, 9
	statuses := map[uint8]state.JobStatus{
		2: state.JobAssigned, 3: state.JobRunning, stopping: state.JobRunning, 5: state.JobStopped, 6: state.JobCompleted, 7: state.JobFailed,
		8: state.JobExpired, reassign: state.JobFailed,
	}
	jobs := bindings.NewJobManager()
	v := ask(t, n, n.Deployment.Contracts.JobManager, jobs.PackJob(chaintest.Bytes(row.Spec)), jobs.UnpackJob)
	want := row // With what no view tells: when it was assigned, why it ended, where that was told.
	want.Payer, want.NodeID, want.CoordID, want.Token, want.RateQ32 = v.Payer, v.NodeId, v.CoordId, v.Token, v.RateQ32
	want.MaxUntil, want.ReservedSeconds, want.Status = v.MaxUntil.Uint64(), uint64(v.ReservedMinutes)*60, statuses[v.Status]
	if v.Status == reassign {
		want.Attempt, want.StoppedAt = v.Attempt-1, v.ChangedAt.Uint64()
		return want
	}
	want.Attempt, want.StartedAt = v.Attempt, v.StartedAt.Uint64()
	switch statuses[v.Status] {
	case state.JobAssigned:
		want.AssignedAt, want.StoppedAt = v.ChangedAt.Uint64(), 0
	case state.JobRunning:
		want.StoppedAt = 0
	case state.JobStopped, state.JobCompleted, state.JobFailed, state.JobExpired:
		want.StoppedAt = v.ChangedAt.Uint64()
		if v.StartedAt.Sign() == 0 && v.Attempt == row.Attempt+1 {
			// It ended while it waited; the row has the last try there was, and when that ran.
			want.Attempt, want.StartedAt, want.StoppedAt = row.Attempt, row.StartedAt, row.StoppedAt
		}
	}
	return want
}

// accountRow is what the contract says of an account, in the form of its row.
func accountRow(t *testing.T, n *chaintest.Net, row state.Account) state.Account {
	t.Helper()
	payments := bindings.NewPaymentManager()
	v := ask(t, n, n.Deployment.Contracts.PaymentManager, payments.PackAccount(row.Payer, row.Token), payments.UnpackAccount)
	return state.Account{
		Payer: row.Payer, Token: row.Token, RateQ32: v.RateQ32, PaidUntil: v.PaidUntil.Uint64(), ArrearsSince: v.ArrearsSince.Uint64(),
		Refund: v.Refund, Block: row.Block,
	}
}

// TestAnOfferThatIsCalledOffHoldsNobodyUp ends a job that was offered on the
// chain and that no node got: there is no row to change.
func TestAnOfferThatIsCalledOffHoldsNobodyUp(t *testing.T) {
	n := chaintest.Start(t)
	db := open(t, t.TempDir())
	s, _ := syncer(n, db, n.Client)
	jobs, spec := bindings.NewJobManager(), chaintest.Bytes(chaintest.Spec("offered"))
	n.Do(t, n.Payer.Key, "JobManager", jobs.PackCreateJob(bindings.IJobManagerJobOffer{
		Spec: spec, Payer: n.Payer.Address, Token: 1, MaxRateQ32: chaintest.RateQ32(1), MaxUntil: new(big.Int),
		Deadline: new(big.Int).SetUint64(n.Head(t).Time + 600), Nonce: new(big.Int),
	}))
	n.Stop(t, chaintest.Spec("offered"))

	pass(t, s)

	if head, err := db.Head(t.Context()); err != nil || head.Number != n.Head(t).Number {
		t.Errorf("the rows are those of block %+v, %v, want %d", head, err, n.Head(t).Number)
	}
	if _, err := db.Job(t.Context(), chaintest.Spec("offered")); !errors.Is(err, errs.NotFound) {
		t.Errorf("job that no node got: %v, want none", err)
	}
}

// TestRowsEqualTheContracts makes a long random sequence of real calls, with
// reorganisations in between, and compares every field of the rows with the
// contracts at the same block: of rows that were followed, and of a replay from
// the first block on.
func TestRowsEqualTheContracts(t *testing.T) {
	const steps, passEvery, reorgEvery, deepest, compareEvery = 400, 7, 31, 6, 100
	n := chaintest.Start(t)
	w := chaintest.NewWalk(t, n, 7)
	db := open(t, t.TempDir())
	s, _ := syncer(n, db, n.Client)

	for i := 1; i <= steps && !t.Failed(); i++ {
		w.Step()
		if i%passEvery == 0 {
			pass(t, s)
		}
		if i%reorgEvery == 0 {
			if err := n.Chain.Reorg(1 + i%deepest); err != nil {
				t.Fatal(err)
			}
		}
		if i%compareEvery == 0 {
			pass(t, s)
			compareRows(t, n, db)
		}
	}

	replayed := open(t, t.TempDir())
	again, _ := syncer(n, replayed, n.Client)
	pass(t, again)
	if diff := cmp.Diff(rows(t, replayed), rows(t, db)); diff != "" {
		t.Errorf("rows that followed (+) differ from a replay (-):\n%s", diff)
	}
	compareRows(t, n, replayed)
}

func compareRows(t *testing.T, n *chaintest.Net, db *state.DB) {
	t.Helper()
	ctx := t.Context()
	nodes, err := db.Nodes(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range nodes {
		if diff := cmp.Diff(nodeRow(t, n, row), row, amounts); diff != "" {
			t.Errorf("node %d (-contract +row):\n%s", row.ID, diff)
		}
	}
	compareDelegations(t, n, db)
	jobs, err := db.JobsWith(ctx, state.JobAssigned, state.JobRunning, state.JobStopped, state.JobCompleted, state.JobFailed, state.JobExpired)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range jobs {
		if diff := cmp.Diff(jobRow(t, n, row), row, amounts); diff != "" {
			t.Errorf("job %s (-contract +row):\n%s", row.Spec, diff)
		}
	}
	accounts, err := db.Accounts(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range accounts {
		if diff := cmp.Diff(accountRow(t, n, row), row, amounts); diff != "" {
			t.Errorf("account of %s (-contract +row):\n%s", row.Payer, diff)
		}
	}
	compareParams(t, n, db)
	if len(nodes) < 2 || len(jobs) == 0 || len(accounts) == 0 {
		t.Errorf("%d nodes, %d jobs and %d accounts prove nothing", len(nodes), len(jobs), len(accounts))
	}
}

// compareDelegations compares what the changes of the registry come to with what
// the contracts say: the nodes as they are, and who has which shares of them.
func compareDelegations(t *testing.T, n *chaintest.Net, db *state.DB) {
	t.Helper()
	changes, err := db.RegistryChanges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	staking, at := bindings.NewStakingManager(), n.Deployment.Contracts.StakingManager
	shares, nodes := map[uint32]map[common.Address]*big.Int{}, map[uint32]state.Node{}
	for _, c := range changes {
		nodes[c.Node.ID] = c.Node
		if shares[c.Node.ID] == nil || c.Void {
			shares[c.Node.ID] = map[common.Address]*big.Int{}
		}
		if c.Shares != nil {
			mine := shares[c.Node.ID]
			if mine[c.Delegator] == nil {
				mine[c.Delegator] = new(big.Int)
			}
			mine[c.Delegator].Add(mine[c.Delegator], c.Shares)
		}
	}
	delegations := 0
	for id, row := range nodes {
		if diff := cmp.Diff(nodeRow(t, n, row), row, amounts); diff != "" {
			t.Errorf("node %d by its changes (-contract +row):\n%s", id, diff)
		}
		pool := ask(t, n, at, staking.PackPool(id), staking.UnpackPool)
		if row.PoolShares != nil && (row.PoolShares.Cmp(pool.Arg1) != 0 || row.PoolTokens.Cmp(pool.Arg0) > 0) {
			t.Errorf("the pool of node %d has %v shares of %v wei, the contract says %v of %v", id, row.PoolShares, row.PoolTokens, pool.Arg1, pool.Arg0)
		}
		for who, have := range shares[id] {
			delegations++
			if want := ask(t, n, at, staking.PackPositionValue(id, who), staking.UnpackPositionValue).Arg1; have.Cmp(want) != 0 {
				t.Errorf("%s has %v shares of node %d, the contract says %v", who, have, id, want)
			}
		}
	}
	if delegations == 0 {
		t.Error("nobody has delegated, which proves nothing")
	}
}

func compareParams(t *testing.T, n *chaintest.Net, db *state.DB) {
	t.Helper()
	row, err := db.Params(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	payments, at := bindings.NewPaymentManager(), n.Deployment.Contracts.PaymentManager
	v := ask(t, n, at, payments.PackParams(), payments.UnpackParams)
	split := ask(t, n, at, payments.PackSplitOf(0), payments.UnpackSplitOf)
	want := state.Params{
		PrepaySeconds: uint64(v.Prepay), GraceSoftSeconds: uint64(v.Soft), GraceHardSeconds: uint64(v.Hard), StartSeconds: row.StartSeconds,
		ComputeSplitBps: [4]uint16{split.NodeBps, split.CoordinatorBps, split.StakerBps, split.DevelopmentBps},
	}
	if diff := cmp.Diff(want, *row); diff != "" {
		t.Errorf("parameters (-contract +row):\n%s", diff)
	}
}
