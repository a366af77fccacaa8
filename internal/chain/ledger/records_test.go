package ledger_test

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func (c *comparison) records() {
	b := bindings.NewSLAManager()
	for _, id := range c.l.Nodes() {
		same(c, fmt.Sprintf("points of %d", id), "SLAManager", b.PackPoints(id), b.UnpackPoints, c.l.Points(id, c.now))
	}
}
