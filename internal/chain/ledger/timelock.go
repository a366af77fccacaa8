package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of TimelockController.OperationState.
const (
	operationUnset   = 0
	operationWaiting = 1
	operationReady   = 2
	operationDone    = 3
)

// doneAt is what TimelockController keeps as the time of what was carried out.
const doneAt = 1

// grant is a role of the timelock and who holds it.
type grant struct {
	role [32]byte
	who  common.Address
}

// timelock is what was voted for and waits, and who may do what with it.
type timelock struct {
	minDelay   *big.Int
	operations map[[32]byte]uint64 // When each is ready; doneAt.
	grants     map[grant]bool
	admins     map[[32]byte][32]byte
}

func newTimelock() timelock {
	return timelock{minDelay: big0(), operations: map[[32]byte]uint64{}, grants: map[grant]bool{}, admins: map[[32]byte][32]byte{}}
}

// MinDelay is TimelockController.getMinDelay.
func (l *Ledger) MinDelay() *big.Int { return l.timelock.minDelay }

// Operations returns the ids of all operations of the timelock.
func (l *Ledger) Operations() (ids [][32]byte) {
	for id := range l.timelock.operations {
		ids = append(ids, id)
	}
	return ids
}

// OperationTime is TimelockController.getTimestamp.
func (l *Ledger) OperationTime(id [32]byte) *big.Int { return seconds(l.timelock.operations[id]) }

// OperationState is TimelockController.getOperationState at a time.
func (l *Ledger) OperationState(id [32]byte, now uint64) uint8 {
	switch at := l.timelock.operations[id]; {
	case at == 0:
		return operationUnset
	case at == doneAt:
		return operationDone
	case at > now:
		return operationWaiting
	}
	return operationReady
}

// TimelockRoles returns who has ever held which role of the timelock.
func (l *Ledger) TimelockRoles() map[[32]byte][]common.Address {
	all := map[[32]byte][]common.Address{}
	for g := range l.timelock.grants {
		all[g.role] = append(all[g.role], g.who)
	}
	return all
}

// HasTimelockRole is TimelockController.hasRole.
func (l *Ledger) HasTimelockRole(role [32]byte, who common.Address) bool {
	return l.timelock.grants[grant{role, who}]
}

// TimelockRoleAdmin is TimelockController.getRoleAdmin.
func (l *Ledger) TimelockRoleAdmin(role [32]byte) [32]byte { return l.timelock.admins[role] }

func timelockHandlers() map[string]handler {
	c := bindings.NewTimelockController()
	return map[string]handler{
		"CallSalt": nil, // It is in the operation's id.
		"CallScheduled": on(c.UnpackCallScheduledEvent, func(l *Ledger, now uint64, e *bindings.TimelockControllerCallScheduled) error {
			l.timelock.operations[e.Id] = now + e.Delay.Uint64()
			return nil
		}),
		"CallExecuted": on(c.UnpackCallExecutedEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerCallExecuted) error {
			if l.timelock.operations[e.Id] == 0 {
				return contradiction("the operation %x was carried out, which was never scheduled", e.Id)
			}
			l.timelock.operations[e.Id] = doneAt
			return nil
		}),
		"Cancelled": on(c.UnpackCancelledEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerCancelled) error {
			l.timelock.operations[e.Id] = 0
			return nil
		}),
		"MinDelayChange": on(c.UnpackMinDelayChangeEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerMinDelayChange) error {
			l.timelock.minDelay = e.NewDuration
			return nil
		}),
		"RoleGranted": on(c.UnpackRoleGrantedEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerRoleGranted) error {
			l.timelock.grants[grant{e.Role, e.Account}] = true
			return nil
		}),
		"RoleRevoked": on(c.UnpackRoleRevokedEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerRoleRevoked) error {
			l.timelock.grants[grant{e.Role, e.Account}] = false
			return nil
		}),
		"RoleAdminChanged": on(c.UnpackRoleAdminChangedEvent, func(l *Ledger, _ uint64, e *bindings.TimelockControllerRoleAdminChanged) error {
			l.timelock.admins[e.Role] = e.NewAdminRole
			return nil
		}),
	}
}
