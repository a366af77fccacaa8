package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of IJobManager.ChallengeState.
const (
	placementOpen     = 1
	placementAnswered = 2
	placementUpheld   = 3
)

// Dispute names a challenge of a placement: of a try to place a job, and of the
// node that should have got it.
type Dispute struct {
	Spec    [32]byte
	Attempt uint8
	Better  uint32
}

// ID is what the bond of the challenger is kept by.
func (d Dispute) ID() [32]byte {
	number := func(n uint64) []byte { return common.LeftPadBytes(seconds(n).Bytes(), 32) }
	return crypto.Keccak256Hash(d.Spec[:], number(uint64(d.Attempt)), number(uint64(d.Better)))
}

// PlacementChallenge is IJobManager.ChallengeView.
type PlacementChallenge = bindings.IJobManagerChallengeView

// Disputes returns all challenges of placements.
func (l *Ledger) Disputes() (all []Dispute) {
	for d := range l.placements {
		all = append(all, d)
	}
	return all
}

// PlacementChallenge is JobManager.challenge.
func (l *Ledger) PlacementChallenge(d Dispute) PlacementChallenge {
	if c := l.placements[d]; c != nil {
		return *c
	}
	return PlacementChallenge{Since: big0()}
}

// Bond is SLAManager.bond: what is kept for a dispute that the JobManager decides.
func (l *Ledger) Bond(id [32]byte) *big.Int {
	if wei := l.bonds[id]; wei != nil {
		return wei
	}
	return big0()
}

// settle ends a challenge. Credited tells who gets the bond.
func (l *Ledger) settle(d Dispute, to uint8) error {
	c := l.placements[d]
	if c == nil || c.State != placementOpen {
		return contradiction("there is no open challenge of try %d of job %x with node %d", d.Attempt, d.Spec, d.Better)
	}
	c.State = to
	delete(l.bonds, d.ID())
	return nil
}

func placementHandlers() map[string]handler {
	c := bindings.NewJobManager()
	return map[string]handler{
		"AssignmentChallenged": on(c.UnpackAssignmentChallengedEvent, func(l *Ledger, now uint64, e *bindings.JobManagerAssignmentChallenged) error {
			l.placements[Dispute{e.Spec, e.Attempt, e.Better}] = &PlacementChallenge{
				Challenger: e.Challenger, Since: seconds(now), CoordId: e.CoordId, State: placementOpen,
			}
			return nil
		}),
		"ChallengeAnswered": on(c.UnpackChallengeAnsweredEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerChallengeAnswered) error {
			return l.settle(Dispute{e.Spec, e.Attempt, e.Better}, placementAnswered)
		}),
		"ChallengeUpheld": on(c.UnpackChallengeUpheldEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerChallengeUpheld) error {
			return l.settle(Dispute{e.Spec, e.Attempt, e.Better}, placementUpheld)
		}),
	}
}

func bondHandlers() map[string]handler {
	c := bindings.NewSLAManager()
	return map[string]handler{
		// The bonds of a case are told with the case, and are not asked for by bond.
		"BondPosted": on(c.UnpackBondPostedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerBondPosted) error {
			if l.cases.byID[e.Id] == nil {
				l.bonds[e.Id] = e.Amount
			}
			return nil
		}),
	}
}
