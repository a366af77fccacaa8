package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of IGovernor.ProposalState.
const (
	proposalPending   = 0
	proposalActive    = 1
	proposalCanceled  = 2
	proposalDefeated  = 3
	proposalSucceeded = 4
	proposalQueued    = 5
	proposalExecuted  = 7
)

// What a voter can say, as in OpenZeppelin's GovernorCountingSimple.
const (
	voteAgainst = iota
	voteFor
	voteAbstain
	voteKinds
)

// ballot is a proposal and a voter.
type ballot struct {
	proposal [32]byte
	voter    common.Address
}

// proposal is what is voted on.
type proposal struct {
	proposer           common.Address
	start, end, eta    uint64
	votes              [voteKinds]*big.Int
	executed, canceled bool
	operation          [32]byte // Of the timelock, once it is queued.
}

func idOf(id *big.Int) (key [32]byte) {
	id.FillBytes(key[:])
	return key
}

// Proposals returns the ids of all proposals.
func (l *Ledger) Proposals() (ids []*big.Int) {
	for id := range l.governor.proposals {
		ids = append(ids, new(big.Int).SetBytes(id[:]))
	}
	return ids
}

// ProposalState is AlephGovernor.state at a time, of a proposal that there is. What
// is queued is as the timelock of the deployment says; of one that took its place
// no event comes here.
func (l *Ledger) ProposalState(id *big.Int, now uint64) uint8 {
	p := l.proposal(id)
	switch {
	case p.executed:
		return proposalExecuted
	case p.canceled:
		return proposalCanceled
	case p.start >= now:
		return proposalPending
	case p.end >= now:
		return proposalActive
	case !l.won(p):
		return proposalDefeated
	case p.eta == 0:
		return proposalSucceeded
	}
	switch l.OperationState(p.operation, now) {
	case operationWaiting, operationReady:
		return proposalQueued
	case operationDone:
		return proposalExecuted
	}
	return proposalCanceled
}

// won is whether enough have voted, and more for it than against.
func (l *Ledger) won(p *proposal) bool {
	enough := plus(p.votes[voteFor], p.votes[voteAbstain]).Cmp(l.Quorum(p.start)) >= 0
	return enough && p.votes[voteFor].Cmp(p.votes[voteAgainst]) > 0
}

// ProposalVotes is AlephGovernor.proposalVotes.
func (l *Ledger) ProposalVotes(id *big.Int) bindings.AlephGovernorProposalVotesOutput {
	v := l.proposal(id).votes
	return bindings.AlephGovernorProposalVotesOutput{AgainstVotes: v[voteAgainst], ForVotes: v[voteFor], AbstainVotes: v[voteAbstain]}
}

// HasVoted is AlephGovernor.hasVoted.
func (l *Ledger) HasVoted(id *big.Int, who common.Address) bool {
	return l.governor.ballots[ballot{idOf(id), who}]
}

// Proposer is AlephGovernor.proposalProposer.
func (l *Ledger) Proposer(id *big.Int) common.Address { return l.proposal(id).proposer }

// ProposalSnapshot is AlephGovernor.proposalSnapshot.
func (l *Ledger) ProposalSnapshot(id *big.Int) *big.Int { return seconds(l.proposal(id).start) }

// ProposalDeadline is AlephGovernor.proposalDeadline.
func (l *Ledger) ProposalDeadline(id *big.Int) *big.Int { return seconds(l.proposal(id).end) }

// ProposalEta is AlephGovernor.proposalEta.
func (l *Ledger) ProposalEta(id *big.Int) *big.Int { return seconds(l.proposal(id).eta) }

func newProposal() *proposal { return &proposal{votes: [voteKinds]*big.Int{big0(), big0(), big0()}} }

// proposal returns a proposal; one that nobody made has no votes and no times.
func (l *Ledger) proposal(id *big.Int) *proposal {
	if p := l.governor.proposals[idOf(id)]; p != nil {
		return p
	}
	return newProposal()
}

// change changes a proposal that there is.
func (l *Ledger) change(id *big.Int, how func(*proposal)) error {
	p := l.governor.proposals[idOf(id)]
	if p == nil {
		return contradiction("nobody made the proposal %s", id)
	}
	how(p)
	return nil
}

// vote counts a vote.
func (l *Ledger) vote(id *big.Int, who common.Address, support uint8, weight *big.Int) error {
	if support >= voteKinds || l.HasVoted(id, who) {
		return contradiction("%s voted %d on the proposal %s, or voted on it before", who, support, id)
	}
	l.governor.ballots[ballot{idOf(id), who}] = true
	return l.change(id, func(p *proposal) { p.votes[support] = plus(p.votes[support], weight) })
}

// operationOf is the id under which the timelock knows what a proposal would do:
// the hash of the arguments of hashOperationBatch.
func operationOf(e *bindings.AlephGovernorProposalCreated) [32]byte {
	salt := crypto.Keccak256Hash([]byte(e.Description))
	for i, b := range e.Raw.Address {
		salt[i] ^= b
	}
	call := bindings.NewTimelockController().PackHashOperationBatch(e.Targets, e.Values, e.Calldatas, [32]byte{}, salt)
	return crypto.Keccak256Hash(call[4:])
}

func proposalHandlers() map[string]handler {
	c := bindings.NewAlephGovernor()
	return map[string]handler{
		"ProposalCreated": on(c.UnpackProposalCreatedEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalCreated) error {
			p := newProposal()
			p.proposer, p.start, p.end, p.operation = e.Proposer, e.VoteStart.Uint64(), e.VoteEnd.Uint64(), operationOf(e)
			l.governor.proposals[idOf(e.ProposalId)] = p
			return nil
		}),
		"ProposalExtended": on(c.UnpackProposalExtendedEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalExtended) error {
			return l.change(e.ProposalId, func(p *proposal) { p.end = e.ExtendedDeadline })
		}),
		"ProposalQueued": on(c.UnpackProposalQueuedEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalQueued) error {
			return l.change(e.ProposalId, func(p *proposal) { p.eta = e.EtaSeconds.Uint64() })
		}),
		"ProposalExecuted": on(c.UnpackProposalExecutedEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalExecuted) error {
			return l.change(e.ProposalId, func(p *proposal) { p.executed = true })
		}),
		"ProposalCanceled": on(c.UnpackProposalCanceledEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalCanceled) error {
			return l.change(e.ProposalId, func(p *proposal) { p.canceled = true })
		}),
		"VoteCast": on(c.UnpackVoteCastEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorVoteCast) error {
			return l.vote(e.ProposalId, e.Voter, e.Support, e.Weight)
		}),
		"VoteCastWithParams": on(c.UnpackVoteCastWithParamsEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorVoteCastWithParams) error {
			return l.vote(e.ProposalId, e.Voter, e.Support, e.Weight)
		}),
	}
}
