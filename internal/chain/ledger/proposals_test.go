package ledger_test

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func (c *comparison) governor() {
	b, l := bindings.NewAlephGovernor(), c.l
	const name = "AlephGovernor"
	same(c, "voting delay", name, b.PackVotingDelay(), b.UnpackVotingDelay, l.VotingDelay())
	same(c, "voting period", name, b.PackVotingPeriod(), b.UnpackVotingPeriod, l.VotingPeriod())
	same(c, "threshold", name, b.PackProposalThreshold(), b.UnpackProposalThreshold, l.ProposalThreshold())
	same(c, "extension", name, b.PackLateQuorumVoteExtension(), b.UnpackLateQuorumVoteExtension, l.VoteExtension())
	same(c, "percent", name, b.PackQuorumNumerator0(), b.UnpackQuorumNumerator0, l.QuorumPercent(c.now))
	same(c, "guardian", name, b.PackProposalGuardian(), b.UnpackProposalGuardian, l.ProposalGuardian(c.now))
	same(c, "guardian until", name, b.PackGuardianUntil(), b.UnpackGuardianUntil, l.GuardianUntil())
	same(c, "timelock", name, b.PackTimelock(), b.UnpackTimelock, l.Timelock())
	for days := range uint64(40) {
		at := c.now - 1 - days*86400
		same(c, fmt.Sprintf("percent at %d", at), name, b.PackQuorumNumerator(number(at)), b.UnpackQuorumNumerator, l.QuorumPercent(at))
		same(c, fmt.Sprintf("quorum at %d", at), name, b.PackQuorum(number(at)), b.UnpackQuorum, l.Quorum(at))
	}
}

func (c *comparison) proposals(people []common.Address) {
	b, l := bindings.NewAlephGovernor(), c.l
	const name = "AlephGovernor"
	for _, id := range l.Proposals() {
		same(c, fmt.Sprintf("state of %x", id), name, b.PackState(id), b.UnpackState, l.ProposalState(id, c.now))
		same(c, fmt.Sprintf("votes on %x", id), name, b.PackProposalVotes(id), b.UnpackProposalVotes, l.ProposalVotes(id))
		same(c, fmt.Sprintf("proposer of %x", id), name, b.PackProposalProposer(id), b.UnpackProposalProposer, l.Proposer(id))
		same(c, fmt.Sprintf("snapshot of %x", id), name, b.PackProposalSnapshot(id), b.UnpackProposalSnapshot, l.ProposalSnapshot(id))
		same(c, fmt.Sprintf("deadline of %x", id), name, b.PackProposalDeadline(id), b.UnpackProposalDeadline, l.ProposalDeadline(id))
		same(c, fmt.Sprintf("time of %x", id), name, b.PackProposalEta(id), b.UnpackProposalEta, l.ProposalEta(id))
		for _, who := range append(people, l.Proposer(id)) {
			same(c, fmt.Sprintf("whether %s voted on %x", who, id), name, b.PackHasVoted(id, who), b.UnpackHasVoted, l.HasVoted(id, who))
		}
	}
}
