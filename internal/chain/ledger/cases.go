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

// Case is SLAManager.CaseView.
type Case = bindings.ISLAManagerCaseView

type cases struct {
	byID      map[[32]byte]*Case
	classes   map[uint32]bindings.ISLAManagerSlaClass
	optedIn   map[optIn]bool
	penalties map[uint8]bindings.ISLAManagerPenalty
	bond      *big.Int
	credits   map[common.Address]*big.Int
	toBurn    *big.Int
	before    record // Of the node of the case that was filed last, without it.
}

func newCases() cases {
	return cases{
		byID: map[[32]byte]*Case{}, classes: map[uint32]bindings.ISLAManagerSlaClass{}, optedIn: map[optIn]bool{},
		penalties: map[uint8]bindings.ISLAManagerPenalty{}, bond: big0(), credits: map[common.Address]*big.Int{},
		toBurn: big0(),
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
	return Case{FiledAt: big0(), Since: big0(), Deadline: big0(), Bond: big0(), AppealBond: big0(), Credit: big0()}
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

// ToBurn is SLAManager.toBurn.
func (l *Ledger) ToBurn() *big.Int { return l.cases.toBurn }

// enter moves a case, which changes more; a deadline of nil stays what it was.
func (n *cases) enter(id [32]byte, to uint8, now uint64, deadline *big.Int, more func(*Case)) error {
	c := n.byID[id]
	if c == nil {
		return contradiction("the case %x was never filed", id)
	}
	c.State, c.Since = to, seconds(now)
	if deadline != nil {
		c.Deadline = deadline
	}
	more(c)
	return nil
}

func nothing(*Case) {}

func caseHandlers() map[string]handler {
	c := bindings.NewSLAManager()
	return map[string]handler{
		"ServiceCredited": nil, // Compensated tells the effect.
		"CaseFiled": on(c.UnpackCaseFiledEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseFiled) error {
			v := &Case{
				NodeId: e.NodeId, Kind: e.Kind, State: caseProven, Severity: e.Severity, Bps: e.Bps, FiledAt: seconds(now), Since: seconds(now), Deadline: e.Deadline,
				Reporter: e.Reporter, Tenant: e.Tenant, Bond: big0(), AppealBond: big0(),
				TenantBps: e.TenantBps, Token: e.Token, Credit: e.Credit,
			}
			l.cases.byID[e.CaseId], l.cases.before = v, l.records[e.NodeId]
			l.proven(v, now)
			return nil
		}),
		"CaseAccused": on(c.UnpackCaseAccusedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseAccused) error {
			return l.cases.enter(e.CaseId, caseOpen, now, nil, func(c *Case) {
				c.Bond = e.Bond
				l.records[c.NodeId] = l.cases.before // It is not proven yet.
			})
		}),
		"CaseDefended": on(c.UnpackCaseDefendedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseDefended) error {
			return l.cases.enter(e.CaseId, caseDefended, now, e.Deadline, nothing)
		}),
		"CaseEscalated": on(c.UnpackCaseEscalatedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseEscalated) error {
			return l.cases.enter(e.CaseId, caseEscalated, now, e.Deadline, nothing)
		}),
		"CaseJudged": on(c.UnpackCaseJudgedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseJudged) error {
			return l.cases.enter(e.CaseId, caseJudged, now, e.Deadline, func(c *Case) { c.Guilty = e.Guilty })
		}),
		"CaseAppealed": on(c.UnpackCaseAppealedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseAppealed) error {
			return l.cases.enter(e.CaseId, caseAppealed, now, e.Deadline, func(c *Case) { c.AppealBond, c.AppealByNode = e.Bond, e.ByNode })
		}),
		"CaseResolved": on(c.UnpackCaseResolvedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseResolved) error {
			vetoed := l.Case(e.CaseId).State == caseVetoed // Then it was proven before.
			return l.cases.enter(e.CaseId, e.Outcome, now, e.VetoUntil, func(c *Case) {
				c.Bond, c.AppealBond = big0(), big0()
				if e.Outcome == caseProven && !vetoed {
					l.proven(c, now)
				}
			})
		}),
		"CaseVetoed": on(c.UnpackCaseVetoedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerCaseVetoed) error {
			return l.cases.enter(e.CaseId, caseVetoed, now, nil, func(c *Case) { c.Vetoed = true })
		}),
		"PenaltyExecuted": on(c.UnpackPenaltyExecutedEvent, func(l *Ledger, now uint64, e *bindings.SLAManagerPenaltyExecuted) error {
			l.cases.toBurn = plus(l.cases.toBurn, e.Burned)
			return l.cases.enter(e.CaseId, caseExecuted, now, nil, func(c *Case) { l.executed(c, now, e.Bps) })
		}),
		"PenaltiesBurned": on(c.UnpackPenaltiesBurnedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerPenaltiesBurned) error {
			l.cases.toBurn = minus(l.cases.toBurn, e.Amount)
			return nil
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
