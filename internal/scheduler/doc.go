// Package scheduler gives each offer of a paid job to a compute node.
//
// A pass looks at every offer that has no node yet. All compute nodes of the
// registry are candidates; each gets a reason for people why it was chosen or
// not. The choice among the eligible ones is a weighted race (see race.go) that
// anybody can repeat from the rows. The chosen node is asked; when it signs its
// acceptance, the decision, the transaction that opens the job and the offer's
// new status are committed together, once per job and attempt. A node that
// declines or is away is passed over for a while, and the next one is asked.
//
// An offer that no node takes stays offered, with the reasons in its row, and
// is looked at again when a node advertises, until its deadline has passed on
// chain.
package scheduler
