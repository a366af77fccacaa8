package ledger

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Upgrade is announcedUpgrade of a contract.
type Upgrade = bindings.NodeRegistryAnnouncedUpgradeOutput

// AnnouncedUpgrade is announcedUpgrade of a contract behind a proxy.
func (l *Ledger) AnnouncedUpgrade(contract string) Upgrade {
	if u, ok := l.upgrades[contract]; ok {
		return u
	}
	return Upgrade{Arg2: big0()}
}

// upgradeHandlers are those of a contract; the events of all are the same.
func upgradeHandlers(contract string) map[string]handler {
	c := bindings.NewNodeRegistry()
	return map[string]handler{
		"UpgradeAnnounced": on(c.UnpackUpgradeAnnouncedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryUpgradeAnnounced) error {
			l.upgrades[contract] = Upgrade{Arg0: e.Implementation, Arg1: e.Codehash, Arg2: e.Eta}
			return nil
		}),
		"UpgradeCancelled": on(c.UnpackUpgradeCancelledEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryUpgradeCancelled) error {
			if had := l.AnnouncedUpgrade(contract).Arg0; had != e.Implementation {
				return contradiction("%s announced %s, not %s that was called off", contract, had, e.Implementation)
			}
			delete(l.upgrades, contract)
			return nil
		}),
		// The first code of a proxy was announced to nobody.
		"Upgraded": on(c.UnpackUpgradedEvent, func(l *Ledger, _ uint64, _ *bindings.NodeRegistryUpgraded) error {
			delete(l.upgrades, contract)
			return nil
		}),
	}
}
