package ledger

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/staking"
)

// position is what somebody has delegated to a node.
type position struct {
	node uint32
	who  common.Address
}

// part is shares of a fund, void when the fund has another generation.
type part struct {
	shares *big.Int
	gen    uint32
	unlock *big.Int // Of a tranche.
}

func newPart() *part { return &part{shares: big0(), unlock: big0()} }

// pool is a node's stake, with what staking.Pool leaves to its caller.
type pool struct {
	*staking.Pool
	unlock       *big.Int
	frozenUntil  *big.Int
	bps, nextBps uint16
	nextFrom     uint64
	// In the slash under way a fund has started anew.
	bondedReset, leavingReset bool
}

func newPool() *pool { return &pool{Pool: staking.NewPool(), unlock: big0(), frozenUntil: big0()} }

// tranche is the place of what leaves.
type tranche struct {
	position
	index uint8
}

type stakes struct {
	pools            map[uint32]*pool
	positions        map[position]*part
	tranches         map[tranche]*part
	requirements     map[uint8]*big.Int
	totalRequirement *big.Int
	unbonding        uint32
}

func newStakes() stakes {
	return stakes{
		pools: map[uint32]*pool{}, positions: map[position]*part{}, tranches: map[tranche]*part{}, requirements: map[uint8]*big.Int{},
		totalRequirement: big0(),
	}
}

// StakeOf is StakingManager.stakeOf.
func (l *Ledger) StakeOf(nodeID uint32) bindings.StakingManagerStakeOfOutput {
	p := l.pool(nodeID)
	return bindings.StakingManagerStakeOfOutput{Arg0: p.Staked, Arg1: p.Waiting, Arg2: p.unlock}
}

// Pool is StakingManager.pool at a time.
func (l *Ledger) Pool(nodeID uint32, now uint64) bindings.StakingManagerPoolOutput {
	p := l.pool(nodeID)
	tokens, _ := p.Accrued(now)
	return bindings.StakingManagerPoolOutput{
		Arg0: tokens, Arg1: p.Bonded.Shares, Arg2: seconds(uint64(p.Bonded.Gen)),
		Arg3: p.Leaving.Tokens, Arg4: p.Leaving.Shares, Arg5: seconds(uint64(p.Leaving.Gen)),
	}
}

// Rewards is StakingManager.rewards at a time.
func (l *Ledger) Rewards(nodeID uint32, now uint64) bindings.StakingManagerRewardsOutput {
	p := l.pool(nodeID)
	_, rest := p.Accrued(now)
	return bindings.StakingManagerRewardsOutput{
		Arg0: rest, Arg1: seconds(p.DripEnd), Arg2: p.commission(now), Arg3: p.nextBps, Arg4: seconds(p.nextFrom), Arg5: p.Credit,
	}
}

// FrozenUntil is StakingManager.frozenUntil.
func (l *Ledger) FrozenUntil(nodeID uint32) *big.Int { return l.pool(nodeID).frozenUntil }

// Position is a pair of a node and a delegator.
type Position struct {
	NodeID uint32
	Who    common.Address
}

// Positions returns who has ever delegated to which node.
func (l *Ledger) Positions() (all []Position) {
	for at := range l.stakes.positions {
		all = append(all, Position{at.node, at.who})
	}
	slices.SortFunc(all, func(a, b Position) int {
		return cmp.Or(cmp.Compare(a.NodeID, b.NodeID), a.Who.Cmp(b.Who))
	})
	return all
}

// PositionValue is StakingManager.positionValue at a time.
func (l *Ledger) PositionValue(at Position, now uint64) bindings.StakingManagerPositionValueOutput {
	p, have := l.pool(at.NodeID), l.stakes.positions[position{at.NodeID, at.Who}]
	if have == nil || have.gen != p.Bonded.Gen {
		return bindings.StakingManagerPositionValueOutput{Arg0: big0(), Arg1: big0()}
	}
	return bindings.StakingManagerPositionValueOutput{Arg0: p.Value(have.shares, now), Arg1: have.shares}
}

// Tranche is StakingManager.tranche.
func (l *Ledger) Tranche(at Position, index uint8) bindings.StakingManagerTrancheOutput {
	p, have := l.pool(at.NodeID), l.stakes.tranches[tranche{position{at.NodeID, at.Who}, index}]
	if have == nil || have.gen != p.Leaving.Gen || have.shares.Sign() == 0 {
		return bindings.StakingManagerTrancheOutput{Arg0: big0(), Arg1: big0(), Arg2: big0()}
	}
	return bindings.StakingManagerTrancheOutput{Arg0: p.LeavingValue(have.shares), Arg1: have.shares, Arg2: have.unlock}
}

// Requirement is StakingManager.requirement.
func (l *Ledger) Requirement(kind uint8) *big.Int { return l.stakes.requirements[kind] }

// TotalRequirement is StakingManager.totalRequirement.
func (l *Ledger) TotalRequirement() *big.Int { return l.stakes.totalRequirement }

// Unbonding is StakingManager.unbonding.
func (l *Ledger) Unbonding() uint32 { return l.stakes.unbonding }

func (l *Ledger) pool(nodeID uint32) *pool { return entry(l.stakes.pools, nodeID, newPool) }

func (p *pool) commission(now uint64) uint16 {
	if p.nextFrom != 0 && now >= p.nextFrom {
		return p.nextBps
	}
	return p.bps
}

// drip writes what has dripped, where the contract does.
func (p *pool) drip(now uint64) {
	if p.DripRest.Sign() != 0 {
		p.Bonded.Tokens, p.DripRest = p.Accrued(now)
		p.DripLast = now
	}
}

// bond notes the delegations as an event tells them, which must be what they
// come to by the events before.
func (p *pool) bond(want, tokens, shares *big.Int) error {
	if want.Cmp(tokens) != 0 {
		return contradiction("the delegations come to %s wei, the event says %s", want, tokens)
	}
	p.Bonded.Tokens, p.Bonded.Shares = tokens, shares
	return nil
}

// join adds shares to what somebody has delegated. What a slash has made void is
// gone.
func (l *Ledger) join(nodeID uint32, who common.Address, shares *big.Int) {
	p, have := l.pool(nodeID), entry(l.stakes.positions, position{nodeID, who}, newPart)
	if have.gen != p.Bonded.Gen {
		have.shares, have.gen = big0(), p.Bonded.Gen
	}
	have.shares = plus(have.shares, shares)
}

// take empties a tranche and returns its shares, if they count.
func (l *Ledger) take(nodeID uint32, who common.Address, index uint8) *big.Int {
	at := tranche{position{nodeID, who}, index}
	have := l.stakes.tranches[at]
	delete(l.stakes.tranches, at)
	if have == nil || have.gen != l.pool(nodeID).Leaving.Gen {
		return big0()
	}
	return have.shares
}

func stakeHandlers() map[string]handler {
	c := bindings.NewStakingManager()
	return map[string]handler{
		"Staked": on(c.UnpackStakedEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerStaked) error {
			l.pool(e.NodeId).Staked = e.SelfStake
			return nil
		}),
		"SelfUnbonding": on(c.UnpackSelfUnbondingEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerSelfUnbonding) error {
			p := l.pool(e.NodeId)
			p.Staked, p.Waiting, p.unlock = e.SelfStake, e.SelfUnbonding, e.Unlock
			return nil
		}),
		"SelfWithdrawn": on(c.UnpackSelfWithdrawnEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerSelfWithdrawn) error {
			p := l.pool(e.NodeId)
			p.Waiting, p.unlock = big0(), big0()
			return nil
		}),
		"Delegated":             on(c.UnpackDelegatedEvent, (*Ledger).delegated),
		"Undelegated":           on(c.UnpackUndelegatedEvent, (*Ledger).undelegated),
		"UndelegationCancelled": on(c.UnpackUndelegationCancelledEvent, (*Ledger).undelegationCancelled),
		"Withdrawn": on(c.UnpackWithdrawnEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerWithdrawn) error {
			for i := range uint8(8) {
				if e.Tranches>>i&1 != 0 {
					l.take(e.NodeId, e.Delegator, i)
				}
			}
			p := l.pool(e.NodeId)
			p.Leaving.Tokens, p.Leaving.Shares = e.LeavingTokens, e.LeavingShares
			return nil
		}),
		"RewardsAdded": on(c.UnpackRewardsAddedEvent, func(l *Ledger, now uint64, e *bindings.StakingManagerRewardsAdded) error {
			p := l.pool(e.NodeId)
			p.drip(now)
			if p.Bonded.Shares.Sign() != 0 {
				p.DripRest, p.DripEnd, p.DripLast = e.DripRest, e.DripEnd.Uint64(), now
			}
			p.Credit = plus(p.Credit, e.Commission)
			return nil
		}),
		"LeftToOwner": on(c.UnpackLeftToOwnerEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerLeftToOwner) error {
			p := l.pool(e.NodeId)
			p.Credit, p.DripRest = plus(p.Credit, e.Amount), big0()
			return nil
		}),
		"CommissionSet": on(c.UnpackCommissionSetEvent, func(l *Ledger, now uint64, e *bindings.StakingManagerCommissionSet) error {
			p := l.pool(e.NodeId)
			if at := e.Time.Uint64(); at > now {
				p.bps, p.nextBps, p.nextFrom = p.commission(now), e.Bps, at
			} else {
				p.bps, p.nextBps, p.nextFrom = e.Bps, 0, 0
			}
			return nil
		}),
		"OwnerPaid": on(c.UnpackOwnerPaidEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerOwnerPaid) error {
			l.pool(e.NodeId).Credit = big0()
			return nil
		}),
		"PoolReset": on(c.UnpackPoolResetEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerPoolReset) error {
			p := l.pool(e.NodeId)
			p.Bonded = staking.Fund{Tokens: big0(), Shares: big0(), Gen: uint32(e.Gen.Uint64())}
			p.DripRest, p.bondedReset = big0(), true
			return nil
		}),
		"UnbondingReset": on(c.UnpackUnbondingResetEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerUnbondingReset) error {
			p := l.pool(e.NodeId)
			p.Leaving = staking.Fund{Tokens: big0(), Shares: big0(), Gen: uint32(e.Gen.Uint64())}
			p.leavingReset = true
			return nil
		}),
		"Slashed": on(c.UnpackSlashedEvent, (*Ledger).slashed),
		"Frozen": on(c.UnpackFrozenEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerFrozen) error {
			l.pool(e.NodeId).frozenUntil = e.Until
			return nil
		}),
		"RequirementSet": on(c.UnpackRequirementSetEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerRequirementSet) error {
			l.stakes.requirements[e.Kind] = e.Amount
			return nil
		}),
		"TotalRequirementSet": on(c.UnpackTotalRequirementSetEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerTotalRequirementSet) error {
			l.stakes.totalRequirement = e.Amount
			return nil
		}),
		"UnbondingSet": on(c.UnpackUnbondingSetEvent, func(l *Ledger, _ uint64, e *bindings.StakingManagerUnbondingSet) error {
			l.stakes.unbonding = e.Duration
			return nil
		}),
	}
}

func (l *Ledger) delegated(now uint64, e *bindings.StakingManagerDelegated) error {
	p := l.pool(e.NodeId)
	p.drip(now)
	l.join(e.NodeId, e.Delegator, e.Shares)
	return p.bond(plus(p.Bonded.Tokens, e.Tokens), e.PoolTokens, e.PoolShares)
}

func (l *Ledger) undelegated(now uint64, e *bindings.StakingManagerUndelegated) error {
	p := l.pool(e.NodeId)
	p.drip(now)
	have := entry(l.stakes.positions, position{e.NodeId, e.Delegator}, newPart)
	have.shares = minus(have.shares, e.Shares)
	want := minus(p.Bonded.Tokens, e.Tokens)
	if e.PoolShares.Sign() == 0 {
		want = big0() // LeftToOwner told where the rest went.
		p.DripRest = big0()
	}
	if err := p.bond(want, e.PoolTokens, e.PoolShares); err != nil {
		return err
	}
	t := entry(l.stakes.tranches, tranche{position{e.NodeId, e.Delegator}, e.Tranche}, newPart)
	if t.gen != p.Leaving.Gen {
		t.shares, t.gen = big0(), p.Leaving.Gen
	}
	t.shares, t.unlock = plus(t.shares, e.LeavingShares), e.Unlock
	p.Leaving.Tokens, p.Leaving.Shares = plus(p.Leaving.Tokens, e.Tokens), plus(p.Leaving.Shares, e.LeavingShares)
	return nil
}

func (l *Ledger) undelegationCancelled(now uint64, e *bindings.StakingManagerUndelegationCancelled) error {
	p := l.pool(e.NodeId)
	shares := l.take(e.NodeId, e.Delegator, e.Tranche)
	p.Leaving.Tokens, p.Leaving.Shares = minus(p.Leaving.Tokens, e.Tokens), minus(p.Leaving.Shares, shares)
	p.drip(now)
	l.join(e.NodeId, e.Delegator, e.Shares)
	return p.bond(plus(p.Bonded.Tokens, e.Tokens), e.PoolTokens, e.PoolShares)
}

// slashed takes what a slash took. The contract writes what has dripped when a
// slash goes beyond the owner's stake; of one that took all of it and nothing
// else the event does not tell which it was, and then nothing is delegated.
func (l *Ledger) slashed(now uint64, e *bindings.StakingManagerSlashed) error {
	p := l.pool(e.NodeId)
	if e.PoolPart.Sign() != 0 || e.UnbondingPart.Sign() != 0 {
		p.drip(now)
	}
	if !p.bondedReset {
		p.Bonded.Tokens = minus(p.Bonded.Tokens, e.PoolPart)
	}
	if !p.leavingReset {
		p.Leaving.Tokens = minus(p.Leaving.Tokens, e.UnbondingPart)
	}
	p.bondedReset, p.leavingReset = false, false
	p.Staked, p.Waiting = minus(p.Staked, e.SelfPart), minus(p.Waiting, e.SelfUnbondingPart)
	return nil
}
