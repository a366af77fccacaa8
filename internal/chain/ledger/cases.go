package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of ISLAManager.State.
const (
	caseOpen      = 1
	caseDefended  = 2
	caseEscalated = 3
	caseJudged    = 4
	caseAppealed  = 5
	caseProven    = 6
	caseVetoed    = 8
	caseExecuted  = 9
)

// optIn is a class of service that a node may get jobs of.
type optIn struct {
	node  uint32
	class uint32
}

// Case is what events tell of ISLAManager.CaseView: who, what and where it is.
type Case struct {
	NodeID   uint32
	Kind     uint8
	State    uint8
	Severity uint8
	Bps      uint16
	FiledAt  uint64
	Reporter common.Address
	Tenant   common.Address
}

type cases struct {
	byID      map[[32]byte]*Case
	classes   map[uint32]bindings.ISLAManagerSlaClass
	optedIn   map[optIn]bool
	penalties map[uint8]bindings.ISLAManagerPenalty
	bond      *big.Int
	credits   map[common.Address]*big.Int
}

func newCases() cases {
	return cases{
		byID: map[[32]byte]*Case{}, classes: map[uint32]bindings.ISLAManagerSlaClass{}, optedIn: map[optIn]bool{},
		penalties: map[uint8]bindings.ISLAManagerPenalty{}, bond: big0(), credits: map[common.Address]*big.Int{},
	}
}

// Cases returns the ids of all cases.
func (l *Ledger) Cases() (ids [][32]byte) {
	for id := range l.cases.byID {
		ids = append(ids, id)
	}
	return ids
}

// Case is what is known of a case.
func (l *Ledger) Case(id [32]byte) Case {
	if c := l.cases.byID[id]; c != nil {
		return *c
	}
	return Case{}
}

// Classes returns the numbers of all classes of service, ascending.
func (l *Ledger) Classes() []uint32 { return sortedKeys(l.cases.classes) }

// Class is SLAManager.classOf.
func (l *Ledger) Class(class uint32) bindings.ISLAManagerSlaClass { return l.cases.classes[class] }

// OptedIn is SLAManager.optedIn.
func (l *Ledger) OptedIn(nodeID, class uint32) bool {
	return class == 0 || l.cases.optedIn[optIn{nodeID, class}]
}

// Penalty is SLAManager.penaltyOf.
func (l *Ledger) Penalty(kind uint8) bindings.ISLAManagerPenalty { return l.cases.penalties[kind] }

// CaseBond is SLAManager.bondOf.
func (l *Ledger) CaseBond() *big.Int { return l.cases.bond }

// CaseCredits returns who has ever had a credit.
func (l *Ledger) CaseCredits() map[common.Address]*big.Int { return l.cases.credits }

// state moves a case.
func (n *cases) state(id [32]byte, to uint8) error {
	c := n.byID[id]
	if c == nil {
		return contradiction("the case %x was never filed", id)
	}
	c.State = to
	return nil
}

func caseHandlers() map[string]handler {
	c := bindings.NewSLAManager()
	return map[string]handler{
		"BondPosted":      nil, // bond is not folded.
		"OutageRecorded":  nil, // outage is not folded.
		"ServiceCredited": nil, // Compensated tells the effect.
		"CaseFiled": on(c.UnpackCaseFiledEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseFiled) error {
			l.cases.byID[e.CaseId] = &Case{
				NodeID: e.NodeId, Kind: e.Kind, State: caseProven, Severity: e.Severity, Bps: e.Bps, FiledAt: now, Reporter: e.Reporter, Tenant: e.Tenant,
			}
			return nil
		}),
		"CaseAccused": on(c.UnpackCaseAccusedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseAccused) error {
			return l.cases.state(e.CaseId, caseOpen)
		}),
		"CaseDefended": on(c.UnpackCaseDefendedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseDefended) error {
			return l.cases.state(e.CaseId, caseDefended)
		}),
		"CaseEscalated": on(c.UnpackCaseEscalatedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseEscalated) error {
			return l.cases.state(e.CaseId, caseEscalated)
		}),
		"CaseJudged": on(c.UnpackCaseJudgedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseJudged) error {
			return l.cases.state(e.CaseId, caseJudged)
		}),
		"CaseAppealed": on(c.UnpackCaseAppealedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseAppealed) error {
			return l.cases.state(e.CaseId, caseAppealed)
		}),
		"CaseResolved": on(c.UnpackCaseResolvedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseResolved) error {
			return l.cases.state(e.CaseId, e.Outcome)
		}),
		"CaseVetoed": on(c.UnpackCaseVetoedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCaseVetoed) error {
			return l.cases.state(e.CaseId, caseVetoed)
		}),
		"PenaltyExecuted": on(c.UnpackPenaltyExecutedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerPenaltyExecuted) error {
			return l.cases.state(e.CaseId, caseExecuted)
		}),
		"ClassDefined": on(c.UnpackClassDefinedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerClassDefined) error {
			l.cases.classes[e.SlaClass] = e.Terms
			return nil
		}),
		"NodeOptedIn": on(c.UnpackNodeOptedInEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerNodeOptedIn) error {
			l.cases.optedIn[optIn{e.NodeId, e.SlaClass}] = e.Taken
			return nil
		}),
		"PenaltySet": on(c.UnpackPenaltySetEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerPenaltySet) error {
			l.cases.penalties[e.Kind] = e.Penalty
			return nil
		}),
		"BondSet": on(c.UnpackBondSetEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerBondSet) error {
			l.cases.bond = e.Bond
			return nil
		}),
		"Credited": on(c.UnpackCreditedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCredited) error {
			l.cases.credits[e.Who] = e.Credit
			return nil
		}),
		"CreditWithdrawn": on(c.UnpackCreditWithdrawnEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerCreditWithdrawn) error {
			l.cases.credits[e.Who] = big0()
			return nil
		}),
	}
}
