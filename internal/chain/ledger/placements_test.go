package ledger_test

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func (c *comparison) placements() {
	jobs, sla, l := bindings.NewJobManager(), bindings.NewSLAManager(), c.l
	for _, d := range l.Disputes() {
		name := fmt.Sprintf("challenge of try %d of %x with %d", d.Attempt, d.Spec, d.Better)
		same(c, name, "JobManager", jobs.PackChallenge(d.Spec, d.Attempt, d.Better), jobs.UnpackChallenge, l.PlacementChallenge(d))
		same(c, "bond of the "+name, "SLAManager", sla.PackBond(d.ID()), sla.UnpackBond, l.Bond(d.ID()))
	}
	for _, id := range l.Cases() { // Whose bonds are their own.
		same(c, fmt.Sprintf("bond of case %x", id), "SLAManager", sla.PackBond(id), sla.UnpackBond, l.Bond(id))
	}
}
