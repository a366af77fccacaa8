package mirror

import (
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// block is a block on its way into rows.
type block struct {
	tx        *state.Tx
	header    *chain.Header
	index     uint // Of the event in the block.
	contracts chain.Contracts
	names     map[common.Address]string // Of contracts, when first asked for.
	counts    map[string]int
	unsplit   []state.Payment // Income whose division the next event tells.
}

// handler folds one kind of event; nil means that it becomes no row.
type handler func(b *block, ctx context.Context, l *types.Log) error

// handlers is every event of the contracts we watch. A test holds it against
// the ABIs, so that a new event cannot be forgotten.
func handlers() map[string]map[string]handler {
	shared := func(own map[string]handler) map[string]handler {
		// What every upgradeable contract has: for people, not for rows.
		for _, name := range []string{
			"Initialized", "Upgraded", "PauseSet", "PauseRenewed", "UpgradeAnnounced", "UpgradeCancelled",
		} {
			own[name] = nil
		}
		return own
	}
	return map[string]map[string]handler{
		"NodeRegistry": shared(map[string]handler{
			"NodeOwnerChanged":      (*block).nodeOwnerChanged,
			"NodeTransferScheduled": nil, // Only the change itself matters.
			"NodeLinked":            (*block).nodeLinked,
			"NodeUnlinked":          (*block).nodeUnlinked,
			"NodeLockSet":           (*block).nodeLockSet,
			"NodeJailed":            nil, // NodeStatusChanged tells the effect.
			"CoordinatorsSnapshot":  nil, // Who signs asks the contract.
			"Heartbeats":            nil, // Read where they are made.
			"SelfHeartbeat":         nil, // The same.
			"MissedReported":        nil, // NodeStatusChanged tells the effect.
			"EquivocationShown":     nil, // The case tells the effect.
			"LeafDemanded":          nil, // Its node watches the contract.
			"LeafAnswered":          nil, // The same.
			"LeafWithheld":          nil, // The case tells the effect.
			"NodeRegistered":        (*block).nodeRegistered,
			"NodeMetaUpdated":       (*block).nodeMetaUpdated,
			"NodeStatusChanged":     (*block).nodeStatusChanged,
			"NodeSignerChanged":     (*block).nodeSignerChanged,
			"NodePayoutChanged":     (*block).nodePayoutChanged,
			"NodePayoutScheduled":   nil, // Only the change itself matters.
			"EIP712DomainChanged":   nil, // Never emitted.
		}),
		"StakingManager": shared(map[string]handler{
			"Slashed":               (*block).slashed,
			"Frozen":                nil, // Withdrawals are refused by simulation.
			"Delegated":             (*block).delegated,
			"Undelegated":           (*block).undelegated,
			"UndelegationCancelled": (*block).undelegationCancelled,
			"PoolReset":             (*block).poolReset,
			"Withdrawn":             nil, // It went down when it was taken out.
			"RewardsAdded":          nil, // The next event tells the pool with them; delegators ask the lens.
			"LeftToOwner":           nil, // Undelegated tells that the pool is empty.
			"CommissionSet":         nil, // Owners ask the lens.
			"OwnerPaid":             nil, // The same.
			"UnbondingReset":        nil, // What waits is not delegated any more.
			"TotalRequirementSet":   nil, // The registry's status events tell the effect.
			"DelegateChanged":       nil, // Votes are counted by the governor.
			"DelegateVotesChanged":  nil, // The same.
			"EIP712DomainChanged":   nil, // Never emitted.
			"Staked":                (*block).staked,
			"SelfUnbonding":         (*block).selfUnbonding,
			"SelfWithdrawn":         nil, // The stake went down when it was taken out.
			"RequirementSet":        nil, // The registry's status events tell the effect.
			"UnbondingSet":          nil, // Only owners ask, and they ask the contract.
		}),
		"JobManager": shared(map[string]handler{
			"JobUnplaced":          (*block).jobUnplaced,
			"JobResized":           (*block).jobResized,
			"JobOffered":           nil, // Coordinators take offers by message.
			"JobTerms":             nil, // Follows JobAssigned; nodes know the terms they signed.
			"JobStopping":          nil, // JobStopped follows.
			"JobCompleted":         nil, // Follows JobStopped, which has the status.
			"OpenRefused":          nil, // Nothing changed; the sender's outbox reads it.
			"AssignmentChallenged": nil, // The case tells the effect.
			"ChallengeAnswered":    nil, // The same.
			"ChallengeUpheld":      nil, // The same.
			"JobAssigned":          (*block).jobAssigned,
			"JobRunning":           (*block).jobRunning,
			"JobStopped":           (*block).jobStopped,
			"ItemRefused":          nil, // Nothing changed; the sender's outbox reads it.
			"NoncesInvalidated":    nil, // The offer's simulation tells.
			"EIP712DomainChanged":  nil, // Never emitted.
		}),
		"PaymentManager": shared(map[string]handler{
			"Charged":          (*block).charged,
			"Compensated":      (*block).compensated,
			"Deposited":        (*block).deposited,
			"DepositWithdrawn": (*block).depositWithdrawn,
			"BountyPaid":       (*block).bountyPaid,
			"FlowsRevoked":     (*block).flowsRevoked,
			"RevocationEnded":  nil, // FlowChanged tells the effect.
			"SourceSet":        nil, // Pulled tells what was had.
			"SponsorSet":       nil, // The same.
			"SponsorPaid":      nil, // Pulled follows.
			"LimitSet":         nil, // Refused by simulation.
			"LimitUsed":        nil, // The same.
			"AutoSwapSet":      nil, // Refused by simulation.
			"Swapped":          nil, // Pulled follows.
			"RouteSet":         nil, // No node acts on it.
			"TokenTermsSet":    nil, // No node acts on it.
			"FlowChanged":      (*block).flowChanged,
			"Reserved":         (*block).reserved,
			"Released":         (*block).released,
			"Activated":        nil, // FlowChanged follows with the account's values.
			"Pulled":           (*block).pulled,
			"ArrearsStarted":   (*block).arrearsStarted,
			"ArrearsCleared":   (*block).arrearsCleared,
			"Refunded":         (*block).refunded,
			"RefundPaid":       (*block).refundPaid,
			"DebtRecorded":     (*block).debtRecorded,
			"DebtPaid":         (*block).debtPaid,
			"Claimed":          (*block).claimed,
			"RevenueSplit":     (*block).revenueSplit,
			"Withdrawn":        (*block).withdrawn,
			"SplitSet":         (*block).splitSet,
			"PrepaySet":        (*block).prepaySet,
			"GraceSet":         (*block).graceSet,
			"TokenListed":      nil, // The node's tokens are part of its release.
			"TokenEnabled":     nil, // An offer in a disabled token is refused by simulation.
			"PoolPayoutSet":    nil, // No node acts on it.
		}),
		"StorageRegistry": shared(map[string]handler{ // No node stores for pay yet.
			"BeaconPublished":     nil,
			"BundleClosing":       nil,
			"BundleUpdated":       nil,
			"CapacitySet":         nil,
			"ChallengeAnswered":   nil,
			"ChallengeArmed":      nil,
			"ChallengeExpired":    nil,
			"Challenged":          nil,
			"Committed":           nil,
			"DayAttested":         nil,
			"EIP712DomainChanged": nil,
			"Extended":            nil,
			"Missed":              nil,
			"ParametersSet":       nil,
			"ProofRefused":        nil,
			"Proven":              nil,
			"RepairedBy":          nil,
			"SignerNoted":         nil,
			"StatusChanged":       nil,
		}),
		"DomainRegistry": shared(map[string]handler{ // No node serves names yet.
			"CaaSet":              nil,
			"CertPinned":          nil,
			"CertRevoked":         nil,
			"DisputeSettled":      nil,
			"DomainDisputed":      nil,
			"DomainEnded":         nil,
			"DomainRequested":     nil,
			"DomainTargetSet":     nil,
			"DomainTransferred":   nil,
			"DomainVerified":      nil,
			"EIP712DomainChanged": nil,
			"TransferOffered":     nil,
		}),
		"SLAManager": shared(map[string]handler{ // Slashed and Compensated tell the effect.
			"BondPosted":          nil,
			"BondSet":             nil,
			"CaseAccused":         nil,
			"CaseAppealed":        nil,
			"CaseDefended":        nil,
			"CaseEscalated":       nil,
			"CaseFiled":           nil,
			"CaseJudged":          nil,
			"CaseResolved":        nil,
			"CaseVetoed":          nil,
			"ClassDefined":        nil,
			"CreditWithdrawn":     nil,
			"Credited":            nil,
			"EIP712DomainChanged": nil,
			"NodeOptedIn":         nil,
			"OutageRecorded":      nil,
			"PenaltiesBurned":     nil,
			"PenaltyExecuted":     nil,
			"PenaltySet":          nil,
			"ServiceCredited":     nil,
		}),
		"ImageMarketplace": shared(map[string]handler{ // No node lists images yet.
			"BondForfeited":        nil,
			"BondReturned":         nil,
			"BondSet":              nil,
			"EIP712DomainChanged":  nil,
			"ImagePublished":       nil,
			"ImageRated":           nil,
			"ImageStatus":          nil,
			"ImageTakenDown":       nil,
			"ImageVersion":         nil,
			"RoyaltiesDistributed": nil,
			"SplitSet":             nil,
			"UsdUnitSet":           nil,
		}),
		"AlephGovernor": { // What was voted for tells itself.
			"EIP712DomainChanged":        nil,
			"GuardianUntil":              nil,
			"Initialized":                nil,
			"LateQuorumVoteExtensionSet": nil,
			"ProposalCanceled":           nil,
			"ProposalCreated":            nil,
			"ProposalExecuted":           nil,
			"ProposalExtended":           nil,
			"ProposalGuardianSet":        nil,
			"ProposalQueued":             nil,
			"ProposalThresholdSet":       nil,
			"QuorumNumeratorUpdated":     nil,
			"TimelockChange":             nil,
			"UpgradeAnnounced":           nil,
			"UpgradeCancelled":           nil,
			"Upgraded":                   nil,
			"VoteCast":                   nil,
			"VoteCastWithParams":         nil,
			"VotingDelaySet":             nil,
			"VotingPeriodSet":            nil,
		},
	}
}

// fold writes the block's row and the effects of its logs, in order.
func (b *block) fold(ctx context.Context, logs []types.Log) error {
	all := handlers()
	for i := range logs {
		if err := b.foldLog(ctx, all, &logs[i]); err != nil {
			return err
		}
	}
	h := b.header
	return b.tx.PutBlock(ctx, state.Block{Number: h.Number, Hash: h.Hash, Parent: h.Parent, Time: h.Time})
}

func (b *block) foldLog(ctx context.Context, all map[string]map[string]handler, l *types.Log) error {
	name := b.contractAt(l.Address)
	if all[name] == nil || l.Removed || len(l.Topics) == 0 {
		return nil // Not what we asked for.
	}
	parsed, err := chain.ABI(name)
	if err != nil {
		return err
	}
	event, err := parsed.EventByID(l.Topics[0])
	if err != nil {
		// A newer implementation may say things that this release does not know.
		b.counts[name+".unknown"]++
		return nil //nolint:nilerr // See above.
	}
	b.counts[name+"."+event.Name]++
	handle := all[name][event.Name]
	if handle == nil {
		return nil
	}
	b.index = l.Index
	if err := handle(b, ctx, l); err != nil {
		return fmt.Errorf("fold %s.%s (log %d of %s): %w", name, event.Name, l.Index, l.TxHash, err)
	}
	return nil
}

// contractAt returns the name of the watched contract at an address, or "".
func (b *block) contractAt(address common.Address) string {
	if b.names == nil {
		b.names = map[common.Address]string{}
		for name, at := range b.contracts.ByName() {
			b.names[at] = name
		}
	}
	return b.names[address]
}

// malformed is the error of an event that its contract cannot have emitted: the
// addresses in the configuration are of something else.
func malformed(err error) error {
	return errs.New(errs.Internal, "decode event: is this the right contract? %w", err)
}
