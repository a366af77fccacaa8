package chaintest

import (
	"crypto/ecdsa"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// operation is a call that somebody scheduled at the AccessManager.
type operation struct {
	by       *ecdsa.PrivateKey
	contract string
	data     []byte
}

const (
	// firstRole and those after it are roles that no function asks for.
	firstRole uint64 = 100
	roleCount uint64 = 4
)

// accessKinds change who may do what, of roles and targets that nothing depends
// on; one role that people get lets them set parameters, after a delay.
func (w *Walk) accessKinds() map[string]func() (move, bool) {
	c := bindings.NewAccessManager()
	spareRole := func() uint64 { return firstRole + w.rng.Uint64N(roleCount) }
	role := func() uint64 {
		if w.rng.IntN(2) == 0 {
			return bindings.RoleParam
		}
		return spareRole()
	}
	other := func() common.Address { return addressOf(w.person()) }
	hours := func(most int) uint32 { return uint32(3600 * (1 + w.rng.IntN(most))) }
	byAdmin := func(data func() []byte) func() (move, bool) {
		return func() (move, bool) { return move{key: w.net.Admin.Key, contract: "AccessManager", data: data()}, true }
	}
	return map[string]func() (move, bool){
		"grantRole":       byAdmin(func() []byte { return c.PackGrantRole(role(), other(), hours(12)) }),
		"revokeRole":      byAdmin(func() []byte { return c.PackRevokeRole(role(), other()) }),
		"labelRole":       byAdmin(func() []byte { return c.PackLabelRole(spareRole(), fmt.Sprintf("label %d", w.count)) }),
		"setRoleAdmin":    byAdmin(func() []byte { return c.PackSetRoleAdmin(spareRole(), w.rng.Uint64N(2)*spareRole()) }),
		"setRoleGuardian": byAdmin(func() []byte { return c.PackSetRoleGuardian(spareRole(), spareRole()) }),
		"setGrantDelay":   byAdmin(func() []byte { return c.PackSetGrantDelay(spareRole(), hours(200)) }),
		"setFunctionRole": byAdmin(func() []byte {
			h := w.hash()
			return c.PackSetTargetFunctionRole(other(), [][4]byte{[4]byte(h[:4]), [4]byte(h[4:8])}, spareRole())
		}),
		"setTargetDelay": byAdmin(func() []byte { return c.PackSetTargetAdminDelay(common.Address{byte(1 + w.rng.IntN(4))}, hours(200)) }),
		"closeTarget":    byAdmin(func() []byte { return c.PackSetTargetClosed(other(), w.rng.IntN(2) == 0) }),
		"renounceRole": func() (move, bool) {
			key, roleID := w.person(), role()
			v, err := c.UnpackHasRole(w.view("AccessManager", c.PackHasRole(roleID, addressOf(key))))
			if err != nil {
				w.tb.Fatal(err)
			}
			return move{key: key, contract: "AccessManager", data: c.PackRenounceRole(roleID, addressOf(key))}, v.IsMember
		},
		"schedule": w.schedule,
		"executeScheduled": w.byScheduler(func(o operation, _ *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
			return o.by, c.PackExecute(w.net.Address(w.tb, o.contract), o.data)
		}),
		"cancelScheduled": w.byScheduler(func(o operation, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
			return by, c.PackCancel(addressOf(o.by), w.net.Address(w.tb, o.contract), o.data)
		}),
	}
}

// schedule announces the change of a parameter, which few numbers have, so that
// the same is scheduled again.
func (w *Walk) schedule() (move, bool) {
	c := bindings.NewAccessManager()
	o := operation{w.person(), "SLAManager", bindings.NewSLAManager().PackSetBond(Aleph(int64(50 + w.rng.IntN(3))))}
	when := number(w.now() + w.rng.Uint64N(3*day))
	return move{
		key: o.by, contract: "AccessManager", data: c.PackSchedule(w.net.Address(w.tb, o.contract), o.data, when),
		after: func(*chain.Receipt) { w.operations = append(w.operations, o) },
	}, true
}

// byScheduler makes a call of who scheduled something, or of the admin.
func (w *Walk) byScheduler(call func(o operation, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte)) func() (move, bool) {
	return func() (move, bool) {
		if len(w.operations) == 0 {
			return move{}, false
		}
		o := w.operations[w.rng.IntN(len(w.operations))]
		by := o.by
		if w.rng.IntN(3) == 0 {
			by = w.net.Admin.Key
		}
		key, data := call(o, by)
		return move{key: key, contract: "AccessManager", data: data}, true
	}
}
