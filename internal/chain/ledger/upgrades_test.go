package ledger_test

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func (c *comparison) upgrades() {
	b := bindings.NewNodeRegistry() // All contracts behind proxies have the same view.
	for _, of := range bindings.Suite() {
		if of.Role == bindings.Proxied {
			same(c, "upgrade of "+of.Name, of.Name, b.PackAnnouncedUpgrade(), b.UnpackAnnouncedUpgrade, c.l.AnnouncedUpgrade(of.Name))
		}
	}
}
