package rehearse

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// What a voter can say of a proposal, as in OpenZeppelin's GovernorCountingSimple.
const (
	voteAgainst uint8 = iota
	voteFor
)

// proposalSucceeded is the state of a proposal that won its vote, as in IGovernor.
const proposalSucceeded uint8 = 4

// coordinators is how many coordinators the rehearsal brings: as many as must
// agree on a job, so that none of the network's is needed.
const coordinators = 3

// company is who takes part in a rehearsal besides the network's own.
type company struct {
	voter   *ecdsa.PrivateKey // Owns the nodes, and votes by what it has staked for them.
	coords  []member
	compute member
	payer   *ecdsa.PrivateKey
	offers  int64 // Nonce of the payer's next.
}

type member struct {
	id     uint32
	signer *ecdsa.PrivateKey
}

// gather makes the company: money, nodes and votes.
func (r *rehearsal) gather(ctx context.Context) error {
	c := &company{}
	keys := make([]*ecdsa.PrivateKey, coordinators+3)
	for i := range keys {
		key, err := newKey()
		if err != nil {
			return err
		}
		keys[i] = key
	}
	c.voter, c.payer = keys[0], keys[1]
	coordStake, votes, err := r.stakes(ctx)
	if err != nil {
		return err
	}
	gas, payerAleph := tokens(50), tokens(10_000)
	money := new(big.Int).Add(votes, new(big.Int).Mul(coordStake, big.NewInt(coordinators)))
	r.chain.IncreaseTime(roomFor)
	err = deploy.Give(ctx, r.client, r.founder, r.old,
		deploy.Grant{To: address(c.voter), AlephWei: money, EtherWei: tokens(1000)},
		deploy.Grant{To: address(c.payer), AlephWei: payerAleph, EtherWei: gas})
	if err != nil {
		return err
	}
	var nodes []deploy.Node
	for i, key := range keys[2:] {
		n := deploy.Node{
			Owner: c.voter, Signer: key, Kind: job.KindCoordinator, PeerID: crypto.CompressPubkey(&key.PublicKey), StakeWei: coordStake, EtherWei: gas,
		}
		if i == coordinators {
			n.Kind, n.StakeWei = job.KindCompute, votes
		}
		nodes = append(nodes, n)
	}
	r.chain.IncreaseTime(roomFor)
	ids, err := deploy.Join(ctx, r.client, r.old.Contracts, nodes...)
	if err != nil {
		return err
	}
	for i, n := range nodes {
		if m := (member{id: ids[i], signer: n.Signer}); n.Kind == job.KindCoordinator {
			c.coords = append(c.coords, m)
		} else {
			c.compute = m
		}
	}
	r.company = c
	approve := bindings.NewAlephToken().PackApprove(r.old.Contracts.PaymentManager, payerAleph)
	if _, err := r.do(ctx, c.payer, call{r.old.Contracts.AlephToken, approve}); err != nil {
		return err
	}
	sync := bindings.NewStakingManager().PackSyncVotes(address(c.voter), ids)
	receipts, err := r.do(ctx, c.voter, call{r.old.Contracts.StakingManager, sync})
	if err != nil {
		return err
	}
	r.step("count the votes of a staker that joins for the rehearsal", receipts...)
	return nil
}

// stakes returns what a coordinator needs, and twice the votes that a proposal
// needs.
func (r *rehearsal) stakes(ctx context.Context) (coordinator, votes *big.Int, err error) {
	staking, governor := bindings.NewStakingManager(), bindings.NewAlephGovernor()
	at := r.old.Contracts
	head, err := r.client.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	out, err := r.client.Calls(ctx, []chain.Call{
		{To: at.StakingManager, Data: staking.PackRequirement(uint8(job.KindCoordinator))},
		{To: at.StakingManager, Data: staking.PackTotalRequirement()},
		{To: at.StakingManager, Data: staking.PackRequirement(uint8(job.KindCompute))},
		{To: at.AlephGovernor, Data: governor.PackQuorum(new(big.Int).SetUint64(head.Time - 1))},
		{To: at.AlephGovernor, Data: governor.PackProposalThreshold()},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("ask what stakes and votes are needed: %w", err)
	}
	amounts := make([]*big.Int, len(out))
	for i, raw := range out {
		amounts[i] = new(big.Int).SetBytes(raw)
	}
	coordinator = larger(amounts[0], amounts[1])
	votes = larger(amounts[2], larger(amounts[3], amounts[4]))
	return coordinator, votes.Lsh(votes, 1), nil
}

func larger(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		a = b
	}
	return new(big.Int).Set(a)
}

func tokens(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

func address(key *ecdsa.PrivateKey) common.Address { return crypto.PubkeyToAddress(key.PublicKey) }

// upgrade lets the voter announce the upgrade and carry it out. A job begins
// before it. It returns the job and the block of the upgrade.
func (r *rehearsal) upgrade(ctx context.Context) (across *life, block uint64, err error) {
	// The same calls for every contract.
	jobs := bindings.NewJobManager()
	var announce, install proposal
	announce.description = fmt.Sprintf("Announce the upgrade of %d contracts", len(r.names))
	install.description = fmt.Sprintf("Upgrade %d contracts", len(r.names))
	for _, name := range r.names {
		proxy, err := r.old.Contracts.Address(name)
		if err != nil {
			return nil, 0, err
		}
		code := r.next.Implementations[name].Address
		announce.add(proxy, jobs.PackAnnounceUpgrade(code))
		install.add(proxy, jobs.PackUpgradeToAndCall(code, nil))
	}
	if err := r.decide(ctx, &announce); err != nil {
		return nil, 0, err
	}
	if _, err := r.execute(ctx, &announce); err != nil {
		return nil, 0, err
	}
	ready, err := r.announced(ctx, &install)
	if err != nil {
		return nil, 0, err
	}
	if err := r.decide(ctx, &install); err != nil {
		return nil, 0, err
	}
	if err := r.until(ctx, ready); err != nil {
		return nil, 0, err
	}
	if across, err = r.begin(ctx, "across the upgrade"); err != nil {
		return nil, 0, err
	}
	receipt, err := r.execute(ctx, &install)
	if err != nil {
		return nil, 0, err
	}
	return across, receipt.Number, nil
}

// announced returns when all announced upgrades are possible, and makes sure that
// none is before.
func (r *rehearsal) announced(ctx context.Context, install *proposal) (ready uint64, err error) {
	jobs, timelock := bindings.NewJobManager(), r.old.Helpers["TimelockController"]
	for i, proxy := range install.targets {
		out, err := r.client.Call(ctx, chain.Call{To: proxy, Data: jobs.PackAnnouncedUpgrade()})
		if err != nil {
			return 0, fmt.Errorf("ask %s for its announced upgrade: %w", r.names[i], err)
		}
		said, err := jobs.UnpackAnnouncedUpgrade(out)
		if err != nil {
			return 0, errs.New(errs.Internal, "read the announcement of %s: %w", r.names[i], err)
		}
		if want := r.next.Implementations[r.names[i]].Address; said.Arg0 != want {
			return 0, errs.New(errs.Conflict, "%s announces %s, want %s", r.names[i], said.Arg0, want)
		}
		ready = max(ready, said.Arg2.Uint64())
		_, err = r.client.Call(ctx, chain.Call{From: timelock, To: proxy, Data: install.calldatas[i]})
		var refusal *chain.Revert
		switch {
		case err == nil:
			return 0, errs.New(errs.Conflict, "%s can be upgraded before the time that it announced", r.names[i])
		case !errors.As(err, &refusal):
			return 0, err
		}
	}
	r.step("see that no upgrade is possible before the announced time")
	return ready, nil
}

// proposal is what is voted on.
type proposal struct {
	targets     []common.Address
	values      []*big.Int
	calldatas   [][]byte
	description string
}

func (p *proposal) add(to common.Address, data []byte) {
	p.targets, p.values, p.calldatas = append(p.targets, to), append(p.values, new(big.Int)), append(p.calldatas, data)
}

func (p *proposal) hash() [32]byte { return crypto.Keccak256Hash([]byte(p.description)) }

// decide brings a proposal from its making through the vote into the queue, until
// it can be carried out.
func (r *rehearsal) decide(ctx context.Context, p *proposal) error {
	governor, to := bindings.NewAlephGovernor(), r.old.Contracts.AlephGovernor
	send := func(what string, data []byte) error {
		receipts, err := r.do(ctx, r.company.voter, call{to, data})
		if err != nil {
			return fmt.Errorf("%s %q: %w", what, p.description, err)
		}
		r.step(fmt.Sprintf("%s %q", what, p.description), receipts...)
		return nil
	}
	ask := func(data []byte) (*big.Int, error) {
		out, err := r.client.Call(ctx, chain.Call{To: to, Data: data})
		if err != nil {
			return nil, fmt.Errorf("ask for the proposal %q: %w", p.description, err)
		}
		return new(big.Int).SetBytes(out), nil
	}
	if err := send("propose", governor.PackPropose(p.targets, p.values, p.calldatas, p.description)); err != nil {
		return err
	}
	id, err := ask(governor.PackHashProposal(p.targets, p.values, p.calldatas, p.hash()))
	if err != nil {
		return err
	}
	begin, err := ask(governor.PackProposalSnapshot(id))
	if err != nil {
		return err
	}
	if err := r.until(ctx, begin.Uint64()+1); err != nil {
		return err
	}
	if err := send("vote on", governor.PackCastVote(id, r.support)); err != nil {
		return err
	}
	end, err := ask(governor.PackProposalDeadline(id))
	if err != nil {
		return err
	}
	if err := r.until(ctx, end.Uint64()+1); err != nil {
		return err
	}
	if err := r.won(ctx, id, begin, p); err != nil {
		return err
	}
	if err := send("queue", governor.PackQueue(p.targets, p.values, p.calldatas, p.hash())); err != nil {
		return err
	}
	eta, err := ask(governor.PackProposalEta(id))
	if err != nil {
		return err
	}
	return r.until(ctx, eta.Uint64())
}

// won tells a vote that was lost.
func (r *rehearsal) won(ctx context.Context, id, begin *big.Int, p *proposal) error {
	governor, to := bindings.NewAlephGovernor(), r.old.Contracts.AlephGovernor
	out, err := r.client.Calls(ctx, []chain.Call{
		{To: to, Data: governor.PackState(id)}, {To: to, Data: governor.PackProposalVotes(id)}, {To: to, Data: governor.PackQuorum(begin)},
	})
	if err != nil {
		return fmt.Errorf("ask for the vote on %q: %w", p.description, err)
	}
	state, errState := governor.UnpackState(out[0])
	votes, errVotes := governor.UnpackProposalVotes(out[1])
	need, errNeed := governor.UnpackQuorum(out[2])
	if err := errors.Join(errState, errVotes, errNeed); err != nil {
		return errs.New(errs.Internal, "read the vote on %q: %w", p.description, err)
	}
	if state == proposalSucceeded {
		return nil
	}
	whole := func(wei *big.Int) *big.Int { return new(big.Int).Div(wei, big.NewInt(1e18)) }
	return errs.New(errs.Conflict,
		"the vote on %q was lost: %s ALEPH for it, %s against, %s abstaining, at least %s needed; without the votes of stakers there is no upgrade",
		p.description, whole(votes.ForVotes), whole(votes.AgainstVotes), whole(votes.AbstainVotes), whole(need))
}

// execute carries out what is queued.
func (r *rehearsal) execute(ctx context.Context, p *proposal) (*chain.Receipt, error) {
	data := bindings.NewAlephGovernor().PackExecute(p.targets, p.values, p.calldatas, p.hash())
	receipts, err := r.do(ctx, r.company.voter, call{r.old.Contracts.AlephGovernor, data})
	if err != nil {
		return nil, fmt.Errorf("carry out %q: %w", p.description, err)
	}
	r.step(fmt.Sprintf("carry out %q", p.description), receipts...)
	return receipts[0], nil
}
