package chaintest

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// upgradeKinds are calls that every contract behind a proxy has. Each is upgraded
// to what it is.
func (w *Walk) upgradeKinds() map[string]func() (move, bool) {
	c := bindings.NewNodeRegistry()
	byAdmin := func(data func(contract string) []byte) func() (move, bool) {
		return func() (move, bool) {
			all := based()
			contract := all[w.rng.IntN(len(all))]
			return move{key: w.net.Admin.Key, contract: contract, data: data(contract)}, true
		}
	}
	return map[string]func() (move, bool){
		"announceUpgrade": byAdmin(func(contract string) []byte {
			if w.rng.IntN(3) == 0 { // It could never be installed.
				contract = "AlephGovernor"
			}
			return c.PackAnnounceUpgrade(w.net.Deployment.Implementations[contract].Address)
		}),
		"cancelUpgrade": byAdmin(func(string) []byte { return c.PackCancelUpgrade() }),
		"upgrade": byAdmin(func(contract string) []byte {
			return c.PackUpgradeToAndCall(w.net.Deployment.Implementations[contract].Address, nil)
		}),
	}
}

// based are the contracts that can be paused, and that a role can upgrade.
func based() []string {
	return []string{
		"NodeRegistry", "StakingManager", "JobManager", "PaymentManager", "StorageRegistry", "DomainRegistry", "ImageMarketplace", "SLAManager",
	}
}
