package chaintest

import (
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// enfranchise lets somebody join who has more votes than a proposal needs, and
// gives a few to people.
func (w *Walk) enfranchise() {
	w.tb.Helper()
	w.voter = w.keyOf("voter")
	stop := w.net.Run(w.tb)
	err := deploy.Give(w.tb.Context(), w.net.Client, w.net.Admin.Key, w.net.Deployment,
		deploy.Grant{To: addressOf(w.voter), AlephWei: Aleph(20_000_000), EtherWei: Aleph(10)})
	stop()
	if err != nil {
		w.tb.Fatal(err)
	}
	ids := w.join(deploy.Node{
		Owner: w.voter, Signer: w.keyOf("voter's node"), Kind: job.KindCompute, PeerID: []byte("voter"), StakeWei: Aleph(10_000_000), EtherWei: Aleph(1),
	})
	c := bindings.NewStakingManager()
	w.net.Do(w.tb, w.voter, "StakingManager", c.PackSyncVotes(addressOf(w.voter), ids))
	for _, key := range w.people {
		w.net.Do(w.tb, key, "StakingManager", c.PackDelegate0(ids[0], w.aleph(1000), new(big.Int)))
		w.net.Do(w.tb, key, "StakingManager", c.PackSyncVotes(addressOf(key), ids))
		w.net.Do(w.tb, key, "StakingManager", c.PackDelegate(common.Address{}))
	}
	w.pass(soon)
}

// tourVotes changes how votes are held, and leaves a proposal in each state.
func (w *Walk) tourVotes() {
	w.tb.Helper()
	w.enfranchise()
	first := w.proposed(w.settings()...)
	off := w.proposed(w.parameter())
	w.mustMake("cancelProposal", w.cancelProposal(w.voter, off)) // Before anybody could vote.
	w.decide(first)

	late, lost := w.proposed(w.timelocked()...), w.proposed(w.parameter())
	vetoed, queued, won := w.proposed(w.parameter()), w.proposed(w.parameter()), w.proposed(w.parameter())
	w.until(w.deadline(late) - uint64(time.Hour/time.Second))
	w.mustMake("vote", w.vote(w.people[1], lost, voteAgainst))
	for _, p := range []*proposal{late, vetoed, queued, won} {
		w.mustMake("vote", w.vote(w.voter, p, voteFor)) // So late that others get time to answer.
	}
	w.until(w.deadline(won) + 1)
	for _, p := range []*proposal{late, vetoed, queued} {
		w.mustMake("queue", w.queue(p))
	}
	w.mustMake("cancelProposal", w.cancelProposal(w.people[0], vetoed))
	w.pass(3 * 24 * time.Hour) // By then the upgrade that was announced is possible.
	w.mustMake("execute", w.execute(late))
	w.mustMake("cancelUpgrade", move{key: w.people[0], contract: "AlephGovernor", data: bindings.NewAlephGovernor().PackCancelUpgrade()})

	w.decide(w.proposed(w.announcement())) // This stays announced.
	active := w.proposed(w.parameter())
	w.until(w.snapshot(active) + 1)
	w.mustMake("vote", w.vote(w.people[2], active, voteAbstain))
	w.proposed(w.parameter())
}

// settings is a change of everything that a vote can change of voting.
func (w *Walk) settings() []action {
	c, t := bindings.NewAlephGovernor(), bindings.NewTimelockController()
	of := func(contract string, calls ...[]byte) (all []action) {
		for _, data := range calls {
			all = append(all, action{contract, data})
		}
		return all
	}
	guardian := addressOf(w.people[0])
	return append(of("AlephGovernor",
		c.PackSetVotingDelay(number(3600)), c.PackSetVotingPeriod(3*day), c.PackSetProposalThreshold(Aleph(50_000)),
		c.PackUpdateQuorumNumerator(big.NewInt(33)), c.PackSetLateQuorumVoteExtension(number(2*day)), c.PackSetProposalGuardian(guardian),
		w.announcement().data,
	), of("TimelockController", t.PackUpdateDelay(number(day)), t.PackGrantRole(executorRole(), guardian))...)
}

// timelocked installs what settings announced, announces it again and takes back
// the role that settings gave.
func (w *Walk) timelocked() []action {
	code := w.net.Deployment.Implementations["AlephGovernor"].Address
	return []action{
		{"AlephGovernor", bindings.NewAlephGovernor().PackUpgradeToAndCall(code, nil)},
		w.announcement(),
		{"TimelockController", bindings.NewTimelockController().PackRevokeRole(executorRole(), addressOf(w.people[0]))},
	}
}

func (w *Walk) announcement() action {
	return action{"AlephGovernor", bindings.NewAlephGovernor().PackAnnounceUpgrade(w.net.Deployment.Implementations["AlephGovernor"].Address)}
}

func executorRole() [32]byte { return crypto.Keccak256Hash([]byte("EXECUTOR_ROLE")) }

// proposed makes a proposal.
func (w *Walk) proposed(actions ...action) *proposal {
	w.tb.Helper()
	w.count++ // For its name.
	w.mustMake("propose", w.propose(actions...))
	return w.proposals[len(w.proposals)-1]
}

// decide brings a proposal from its vote to its end.
func (w *Walk) decide(p *proposal) {
	w.tb.Helper()
	w.until(w.snapshot(p) + 1)
	w.mustMake("vote", w.vote(w.voter, p, voteFor))
	w.mustMake("vote", w.vote(w.people[1], p, voteAgainst))
	w.mustMake("vote", w.vote(w.people[2], p, voteAbstain))
	w.until(w.deadline(p) + 1)
	w.mustMake("queue", w.queue(p))
	w.pass(2*24*time.Hour + soon)
	w.mustMake("execute", w.execute(p))
}

func (w *Walk) snapshot(p *proposal) uint64 {
	return new(big.Int).SetBytes(w.view("AlephGovernor", bindings.NewAlephGovernor().PackProposalSnapshot(p.id))).Uint64()
}

func (w *Walk) deadline(p *proposal) uint64 {
	return new(big.Int).SetBytes(w.view("AlephGovernor", bindings.NewAlephGovernor().PackProposalDeadline(p.id))).Uint64()
}

// until lets time pass up to a time.
func (w *Walk) until(end uint64) {
	w.tb.Helper()
	if now := w.now(); now < end {
		w.pass(time.Duration(end-now) * time.Second)
	}
}

// mustMake makes a call, or fails the test.
func (w *Walk) mustMake(kind string, m move) {
	w.tb.Helper()
	if !w.make(kind, m) {
		w.tb.Fatalf("the call %s cannot be made: refused %v", kind, w.Refused)
	}
}
