package ledger_test

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const roleCount = 104 // One more than the greatest that the walk gives out.

func (c *comparison) access(people []common.Address) {
	b, l := bindings.NewAccessManager(), c.l
	who := append([]common.Address{c.net.Admin.Address, c.net.Owner.Address, c.net.Address(c.t, "TimelockController")}, people...)
	for _, role := range append(l.Roles(), roleCount, 1<<64-1) {
		same(c, fmt.Sprintf("admin of role %d", role), "AccessManager", b.PackGetRoleAdmin(role), b.UnpackGetRoleAdmin, l.RoleAdmin(role))
		same(c, fmt.Sprintf("guardian of role %d", role), "AccessManager", b.PackGetRoleGuardian(role), b.UnpackGetRoleGuardian, l.RoleGuardian(role))
		same(c, fmt.Sprintf("delay of role %d", role), "AccessManager", b.PackGetRoleGrantDelay(role), b.UnpackGetRoleGrantDelay, l.GrantDelay(role, c.now))
		for _, account := range who {
			name := fmt.Sprintf("role %d of %s", role, account)
			same(c, name, "AccessManager", b.PackHasRole(role, account), b.UnpackHasRole, l.HasRole(role, account, c.now))
			same(c, name, "AccessManager", b.PackGetAccess(role, account), b.UnpackGetAccess, l.Access(role, account, c.now))
		}
	}
	for _, at := range l.Targets() {
		same(c, "closed "+at.Hex(), "AccessManager", b.PackIsTargetClosed(at), b.UnpackIsTargetClosed, l.TargetClosed(at))
		same(c, "delay of "+at.Hex(), "AccessManager", b.PackGetTargetAdminDelay(at), b.UnpackGetTargetAdminDelay, l.AdminDelay(at, c.now))
		for f, role := range l.FunctionRoles(at) {
			same(c, fmt.Sprintf("role for %x of %s", f, at), "AccessManager", b.PackGetTargetFunctionRole(at, f), b.UnpackGetTargetFunctionRole, role)
		}
	}
	for _, id := range l.Scheduled() {
		same(c, fmt.Sprintf("schedule of %x", id), "AccessManager", b.PackGetSchedule(id), b.UnpackGetSchedule, l.Schedule(id, c.now))
		same(c, fmt.Sprintf("nonce of %x", id), "AccessManager", b.PackGetNonce(id), b.UnpackGetNonce, l.ScheduleNonce(id))
	}
}

func (c *comparison) timelock() {
	b, l := bindings.NewTimelockController(), c.l
	const name = "TimelockController"
	same(c, "delay of the timelock", name, b.PackGetMinDelay(), b.UnpackGetMinDelay, l.MinDelay())
	for _, id := range l.Operations() {
		same(c, fmt.Sprintf("time of %x", id), name, b.PackGetTimestamp(id), b.UnpackGetTimestamp, l.OperationTime(id))
		same(c, fmt.Sprintf("state of %x", id), name, b.PackGetOperationState(id), b.UnpackGetOperationState, l.OperationState(id, c.now))
	}
	for role, all := range l.TimelockRoles() {
		same(c, fmt.Sprintf("admin of %x", role), name, b.PackGetRoleAdmin(role), b.UnpackGetRoleAdmin, l.TimelockRoleAdmin(role))
		for _, who := range append(all, c.net.Admin.Address) {
			same(c, fmt.Sprintf("role %x of %s", role, who), name, b.PackHasRole(role, who), b.UnpackHasRole, l.HasTimelockRole(role, who))
		}
	}
}
