package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const (
	// rolePublic is the role that everybody has.
	rolePublic = 1<<64 - 1
	// expiration is AccessManager.expiration: for so long a call that was scheduled
	// can be made, in seconds.
	expiration = 7 * 24 * 60 * 60
)

// delay is a delay that becomes another one at a time, in seconds.
type delay struct {
	before, after uint32
	effect        uint64
}

// at returns the delay at a time, and what it becomes and when; zeros when that
// is over.
func (d delay) at(now uint64) (present, next uint32, effect uint64) {
	if d.effect <= now {
		return d.after, 0, 0
	}
	return d.before, d.after, d.effect
}

// become sets what the delay becomes.
func (d *delay) become(next uint32, effect *big.Int, now uint64) {
	present, _, _ := d.at(now)
	*d = delay{present, next, effect.Uint64()}
}

// holder is that an account holds a role.
type holder struct {
	since uint64
	delay delay
}

type role struct {
	admin, guardian uint64
	grantDelay      delay
	holders         map[common.Address]*holder
}

func newRole() *role { return &role{holders: map[common.Address]*holder{}} }

type target struct {
	closed     bool
	adminDelay delay
	roles      map[[4]byte]uint64
}

func newTarget() *target { return &target{roles: map[[4]byte]uint64{}} }

// scheduled is a call that somebody wants to make through the AccessManager.
type scheduled struct {
	at    uint64 // Zero when it was made or called off.
	nonce uint32
}

type access struct {
	roles     map[uint64]*role
	targets   map[common.Address]*target
	scheduled map[[32]byte]*scheduled
}

func newAccess() access {
	return access{roles: map[uint64]*role{}, targets: map[common.Address]*target{}, scheduled: map[[32]byte]*scheduled{}}
}

func (l *Ledger) role(id uint64) *role { return entry(l.access.roles, id, newRole) }

func (l *Ledger) target(at common.Address) *target { return entry(l.access.targets, at, newTarget) }

// Roles returns the numbers of all roles that were told of, ascending.
func (l *Ledger) Roles() []uint64 { return sortedKeys(l.access.roles) }

// RoleAdmin is AccessManager.getRoleAdmin.
func (l *Ledger) RoleAdmin(roleID uint64) uint64 { return l.role(roleID).admin }

// RoleGuardian is AccessManager.getRoleGuardian.
func (l *Ledger) RoleGuardian(roleID uint64) uint64 { return l.role(roleID).guardian }

// GrantDelay is AccessManager.getRoleGrantDelay at a time.
func (l *Ledger) GrantDelay(roleID, now uint64) uint32 {
	present, _, _ := l.role(roleID).grantDelay.at(now)
	return present
}

// Access is AccessManager.getAccess at a time.
func (l *Ledger) Access(roleID uint64, who common.Address, now uint64) bindings.AccessManagerGetAccessOutput {
	h := l.role(roleID).holders[who]
	if h == nil {
		h = &holder{}
	}
	present, next, effect := h.delay.at(now)
	return bindings.AccessManagerGetAccessOutput{Since: seconds(h.since), CurrentDelay: present, PendingDelay: next, Effect: seconds(effect)}
}

// HasRole is AccessManager.hasRole at a time.
func (l *Ledger) HasRole(roleID uint64, who common.Address, now uint64) bindings.AccessManagerHasRoleOutput {
	if roleID == rolePublic {
		return bindings.AccessManagerHasRoleOutput{IsMember: true}
	}
	a := l.Access(roleID, who, now)
	return bindings.AccessManagerHasRoleOutput{IsMember: a.Since.Sign() != 0 && a.Since.Cmp(seconds(now)) <= 0, ExecutionDelay: a.CurrentDelay}
}

// Targets returns the contracts of which it was told who may call what.
func (l *Ledger) Targets() (all []common.Address) {
	for at := range l.access.targets {
		all = append(all, at)
	}
	return all
}

// FunctionRoles is AccessManager.getTargetFunctionRole of each function that was
// told of; of others it is the admin's.
func (l *Ledger) FunctionRoles(at common.Address) map[[4]byte]uint64 { return l.target(at).roles }

// TargetClosed is AccessManager.isTargetClosed.
func (l *Ledger) TargetClosed(at common.Address) bool { return l.target(at).closed }

// AdminDelay is AccessManager.getTargetAdminDelay at a time.
func (l *Ledger) AdminDelay(at common.Address, now uint64) uint32 {
	present, _, _ := l.target(at).adminDelay.at(now)
	return present
}

// Scheduled returns the ids of all calls that were ever scheduled.
func (l *Ledger) Scheduled() (ids [][32]byte) {
	for id := range l.access.scheduled {
		ids = append(ids, id)
	}
	return ids
}

// Schedule is AccessManager.getSchedule at a time.
func (l *Ledger) Schedule(id [32]byte, now uint64) *big.Int {
	if s := l.access.scheduled[id]; s != nil && s.at+expiration > now {
		return seconds(s.at)
	}
	return big0()
}

// ScheduleNonce is AccessManager.getNonce.
func (l *Ledger) ScheduleNonce(id [32]byte) uint32 {
	if s := l.access.scheduled[id]; s != nil {
		return s.nonce
	}
	return 0
}

// unschedule is that a call was made, or called off. Its nonce stays.
func (l *Ledger) unschedule(id [32]byte, nonce uint32) error {
	s := l.access.scheduled[id]
	if s == nil || s.at == 0 || s.nonce != nonce {
		return contradiction("the call %x is not scheduled for the time number %d", id, nonce)
	}
	s.at = 0
	return nil
}

func accessHandlers() map[string]handler {
	c := bindings.NewAccessManager()
	return map[string]handler{
		"RoleLabel": nil, // No view tells the label.
		"RoleGranted": on(c.UnpackRoleGrantedEvent, func(l *Ledger, now uint64, e *bindings.AccessManagerRoleGranted) error {
			if holders := l.role(e.RoleId).holders; e.NewMember {
				holders[e.Account] = &holder{e.Since.Uint64(), delay{after: e.Delay}}
				return nil
			}
			h := l.role(e.RoleId).holders[e.Account]
			if h == nil {
				return contradiction("%s does not hold the role %d, whose delay changed", e.Account, e.RoleId)
			}
			h.delay.become(e.Delay, e.Since, now)
			return nil
		}),
		"RoleRevoked": on(c.UnpackRoleRevokedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerRoleRevoked) error {
			delete(l.role(e.RoleId).holders, e.Account)
			return nil
		}),
		"RoleAdminChanged": on(c.UnpackRoleAdminChangedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerRoleAdminChanged) error {
			l.role(e.RoleId).admin = e.Admin
			return nil
		}),
		"RoleGuardianChanged": on(c.UnpackRoleGuardianChangedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerRoleGuardianChanged) error {
			l.role(e.RoleId).guardian = e.Guardian
			return nil
		}),
		"RoleGrantDelayChanged": on(c.UnpackRoleGrantDelayChangedEvent, func(l *Ledger, now uint64, e *bindings.AccessManagerRoleGrantDelayChanged) error {
			l.role(e.RoleId).grantDelay.become(e.Delay, e.Since, now)
			return nil
		}),
		"TargetFunctionRoleUpdated": on(c.UnpackTargetFunctionRoleUpdatedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerTargetFunctionRoleUpdated) error {
			l.target(e.Target).roles[e.Selector] = e.RoleId
			return nil
		}),
		"TargetClosed": on(c.UnpackTargetClosedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerTargetClosed) error {
			l.target(e.Target).closed = e.Closed
			return nil
		}),
		"TargetAdminDelayUpdated": on(c.UnpackTargetAdminDelayUpdatedEvent, func(l *Ledger, now uint64, e *bindings.AccessManagerTargetAdminDelayUpdated) error {
			l.target(e.Target).adminDelay.become(e.Delay, e.Since, now)
			return nil
		}),
		"OperationScheduled": on(c.UnpackOperationScheduledEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerOperationScheduled) error {
			l.access.scheduled[e.OperationId] = &scheduled{e.Schedule.Uint64(), e.Nonce}
			return nil
		}),
		"OperationExecuted": on(c.UnpackOperationExecutedEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerOperationExecuted) error {
			return l.unschedule(e.OperationId, e.Nonce)
		}),
		"OperationCanceled": on(c.UnpackOperationCanceledEvent, func(l *Ledger, _ uint64, e *bindings.AccessManagerOperationCanceled) error {
			return l.unschedule(e.OperationId, e.Nonce)
		}),
	}
}
