package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// quorumFloor is AlephGovernor's constant: so many votes are needed at least.
var quorumFloor = new(big.Int).Mul(big.NewInt(2_000_000), big.NewInt(1e18)) //nolint:gochecknoglobals // A constant.

// governor is how proposals are made and voted on, and the proposals.
type governor struct {
	proposals map[[32]byte]*proposal
	ballots   map[ballot]bool

	delay, period, threshold *big.Int
	extension                uint64
	percent                  trace
	guardian, timelock       common.Address
	guardianUntil            *big.Int
}

func newGovernor() governor {
	return governor{
		proposals: map[[32]byte]*proposal{}, ballots: map[ballot]bool{},
		delay: big0(), period: big0(), threshold: big0(), guardianUntil: big0(),
	}
}

// VotingDelay is AlephGovernor.votingDelay.
func (l *Ledger) VotingDelay() *big.Int { return l.governor.delay }

// VotingPeriod is AlephGovernor.votingPeriod.
func (l *Ledger) VotingPeriod() *big.Int { return l.governor.period }

// ProposalThreshold is AlephGovernor.proposalThreshold.
func (l *Ledger) ProposalThreshold() *big.Int { return l.governor.threshold }

// VoteExtension is AlephGovernor.lateQuorumVoteExtension.
func (l *Ledger) VoteExtension() *big.Int { return seconds(l.governor.extension) }

// QuorumPercent is AlephGovernor.quorumNumerator.
func (l *Ledger) QuorumPercent(time uint64) *big.Int { return l.governor.percent.at(time) }

// Quorum is AlephGovernor.quorum.
func (l *Ledger) Quorum(time uint64) *big.Int {
	share := new(big.Int).Mul(l.PastTotalVotes(time), l.QuorumPercent(time))
	if share.Div(share, big.NewInt(100)).Cmp(quorumFloor) < 0 {
		return quorumFloor
	}
	return share
}

// ProposalGuardian is AlephGovernor.proposalGuardian at a time.
func (l *Ledger) ProposalGuardian(now uint64) common.Address {
	if seconds(now).Cmp(l.governor.guardianUntil) < 0 {
		return l.governor.guardian
	}
	return common.Address{}
}

// GuardianUntil is AlephGovernor.guardianUntil.
func (l *Ledger) GuardianUntil() *big.Int { return l.governor.guardianUntil }

// Timelock is AlephGovernor.timelock.
func (l *Ledger) Timelock() common.Address { return l.governor.timelock }

// governorHandlers are of what a vote can change of voting itself.
func governorHandlers() map[string]handler {
	c := bindings.NewAlephGovernor()
	return map[string]handler{
		"VotingDelaySet": on(c.UnpackVotingDelaySetEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorVotingDelaySet) error {
			l.governor.delay = e.NewVotingDelay
			return nil
		}),
		"VotingPeriodSet": on(c.UnpackVotingPeriodSetEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorVotingPeriodSet) error {
			l.governor.period = e.NewVotingPeriod
			return nil
		}),
		"ProposalThresholdSet": on(c.UnpackProposalThresholdSetEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalThresholdSet) error {
			l.governor.threshold = e.NewProposalThreshold
			return nil
		}),
		"LateQuorumVoteExtensionSet": on(c.UnpackLateQuorumVoteExtensionSetEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorLateQuorumVoteExtensionSet) error {
			l.governor.extension = e.NewVoteExtension
			return nil
		}),
		"QuorumNumeratorUpdated": on(c.UnpackQuorumNumeratorUpdatedEvent, func(l *Ledger, now uint64, e *bindings.AlephGovernorQuorumNumeratorUpdated) error {
			l.governor.percent.push(now, e.NewQuorumNumerator)
			return nil
		}),
		"ProposalGuardianSet": on(c.UnpackProposalGuardianSetEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorProposalGuardianSet) error {
			l.governor.guardian = e.NewProposalGuardian
			return nil
		}),
		"GuardianUntil": on(c.UnpackGuardianUntilEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorGuardianUntil) error {
			l.governor.guardianUntil = e.Until
			return nil
		}),
		"TimelockChange": on(c.UnpackTimelockChangeEvent, func(l *Ledger, _ uint64, e *bindings.AlephGovernorTimelockChange) error {
			l.governor.timelock = e.NewTimelock
			return nil
		}),
	}
}
