package chaintest

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// What a voter can say, as in OpenZeppelin's GovernorCountingSimple.
const (
	voteAgainst uint8 = iota
	voteFor
	voteAbstain
)

// proposal is what is voted on.
type proposal struct {
	id          *big.Int
	targets     []common.Address
	values      []*big.Int
	calldatas   [][]byte
	description string
}

// action is a call that is to be voted for.
type action struct {
	contract string
	data     []byte
}

func (p *proposal) hash() [32]byte { return crypto.Keccak256Hash([]byte(p.description)) }

// voteKinds are the steps of proposals, which take weeks: see votes of the tour.
func (w *Walk) voteKinds() map[string]func() (move, bool) {
	byAnybody := func(of func(*proposal) move) func() (move, bool) {
		return func() (move, bool) {
			if len(w.proposals) == 0 {
				return move{}, false
			}
			return of(w.proposals[max(0, len(w.proposals)-1-w.rng.IntN(5))]), true
		}
	}
	return map[string]func() (move, bool){
		"propose":        func() (move, bool) { return w.propose(w.parameter()), w.voter != nil },
		"queue":          byAnybody(func(p *proposal) move { return w.queue(p) }),
		"execute":        byAnybody(func(p *proposal) move { return w.execute(p) }),
		"cancelProposal": byAnybody(func(p *proposal) move { return w.cancelProposal(w.voter, p) }),
		"vote": byAnybody(func(p *proposal) move {
			if w.rng.IntN(2) == 0 {
				return w.vote(w.voter, p, voteFor)
			}
			return w.vote(w.person(), p, uint8(w.rng.IntN(3)))
		}),
	}
}

// parameter is a change of how votes are held.
func (w *Walk) parameter() action {
	c, hours := bindings.NewAlephGovernor(), func(least, most uint64) *big.Int { return number(3600 * (least + w.rng.Uint64N(most-least))) }
	switch w.rng.IntN(6) {
	case 0:
		return action{"AlephGovernor", c.PackSetVotingDelay(hours(1, 5))}
	case 1:
		return action{"AlephGovernor", c.PackSetVotingPeriod(uint32(hours(72, 100).Uint64()))}
	case 2:
		return action{"AlephGovernor", c.PackSetProposalThreshold(Aleph(1000 + w.rng.Int64N(50_000)))}
	case 3:
		return action{"AlephGovernor", c.PackUpdateQuorumNumerator(big.NewInt(20 + w.rng.Int64N(14)))}
	case 4:
		return action{"AlephGovernor", c.PackSetLateQuorumVoteExtension(hours(1, 72))}
	}
	return action{"TimelockController", bindings.NewTimelockController().PackUpdateDelay(hours(1, 48))}
}

// propose makes a proposal; its name is a new one each time.
func (w *Walk) propose(actions ...action) move {
	p := &proposal{description: fmt.Sprintf("proposal %d of %d", len(w.proposals), w.count)}
	for _, a := range actions {
		p.targets, p.values, p.calldatas = append(p.targets, w.net.Address(w.tb, a.contract)), append(p.values, new(big.Int)), append(p.calldatas, a.data)
	}
	c := bindings.NewAlephGovernor()
	return move{
		key: w.voter, contract: "AlephGovernor", data: c.PackPropose(p.targets, p.values, p.calldatas, p.description),
		after: func(*chain.Receipt) {
			p.id = new(big.Int).SetBytes(w.view("AlephGovernor", c.PackHashProposal(p.targets, p.values, p.calldatas, p.hash())))
			w.proposals = append(w.proposals, p)
		},
	}
}

// vote votes, now and then with a reason, or with parameters that nobody reads.
func (w *Walk) vote(key *ecdsa.PrivateKey, p *proposal, support uint8) move {
	c := bindings.NewAlephGovernor()
	data := c.PackCastVote(p.id, support)
	switch support {
	case voteAgainst:
		data = c.PackCastVoteWithReason(p.id, support, "no")
	case voteAbstain:
		data = c.PackCastVoteWithReasonAndParams(p.id, support, "", []byte{1})
	}
	return move{key: key, contract: "AlephGovernor", data: data}
}

func (w *Walk) queue(p *proposal) move {
	return move{key: w.person(), contract: "AlephGovernor", data: bindings.NewAlephGovernor().PackQueue(p.targets, p.values, p.calldatas, p.hash())}
}

func (w *Walk) execute(p *proposal) move {
	return move{key: w.person(), contract: "AlephGovernor", data: bindings.NewAlephGovernor().PackExecute(p.targets, p.values, p.calldatas, p.hash())}
}

func (w *Walk) cancelProposal(key *ecdsa.PrivateKey, p *proposal) move {
	return move{key: key, contract: "AlephGovernor", data: bindings.NewAlephGovernor().PackCancel(p.targets, p.values, p.calldatas, p.hash())}
}
