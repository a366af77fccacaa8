package ledger_test

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/ledger"
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

// TestStatesOfAProposal folds what takes the second, or a tie.
func TestStatesOfAProposal(t *testing.T) {
	const (
		pending, active, canceled, defeated, succeeded, executed = 0, 1, 2, 3, 4, 7
		against, inFavour, abstain                               = 0, 1, 2
	)
	contracts, id := chain.Contracts{AlephGovernor: common.Address{1}}, big.NewInt(5)
	on := func(name string, indexed []int64, values ...any) types.Log {
		return event(t, contracts, "AlephGovernor", name, indexed, values...)
	}
	voter := int64(7)
	vote := func(support uint8, aleph int64) types.Log {
		voter++
		return on("VoteCast", []int64{voter}, id, support, new(big.Int).Mul(big.NewInt(aleph), big.NewInt(1e18)), "")
	}
	created := on("ProposalCreated", nil, id, common.Address{7}, []common.Address{{8}}, []*big.Int{new(big.Int)}, []string{""}, [][]byte{{}},
		big.NewInt(100), big.NewInt(200), "a proposal")
	queued := on("ProposalQueued", nil, id, big.NewInt(300))
	for _, tt := range []struct {
		name string
		logs []types.Log
		now  uint64
		want uint8
	}{
		{"in the second of its snapshot", nil, 100, pending},
		{"after it", nil, 101, active},
		{"in its last second", nil, 200, active},
		{"that nobody voted on", nil, 201, defeated},
		{"in a tie", []types.Log{vote(against, 2_000_000), vote(inFavour, 2_000_000)}, 201, defeated},
		{"just won", []types.Log{vote(against, 1), vote(inFavour, 1_999_999), vote(abstain, 1)}, 201, succeeded},
		{"with too few votes", []types.Log{vote(against, 3), vote(inFavour, 1_999_999)}, 201, defeated},
		{"queued, but not in the timelock", []types.Log{vote(inFavour, 2_000_000), queued}, 201, canceled},
		{"carried out", []types.Log{vote(inFavour, 2_000_000), queued, on("ProposalExecuted", nil, id)}, 301, executed},
	} {
		l := ledger.New(contracts, common.Address{})
		if err := l.Fold(1, append([]types.Log{created}, tt.logs...)); err != nil {
			t.Fatal(err)
		}
		if got := l.ProposalState(id, tt.now); got != tt.want {
			t.Errorf("a proposal %s is in state %d, want %d", tt.name, got, tt.want)
		}
	}
}
