// Package executor runs the virtual machines of the jobs that the chain gave
// to this compute node.
//
// A pass compares what is wanted (job rows of this node, assigned or running)
// with what is there (VM rows and the machines behind them) and hands each VM
// to a worker of its own, so that one slow image delays nobody else:
//
//	wanted -> fetching -> preparing -> booting -> running -> stopping -> stopped
//	   ^                                             |   `-> failed
//	   `------------------- paused <-----------------´
//
// A row is written before the step that it names has any effect, so a crash at
// any moment is recovered from the rows: a machine that still runs is adopted,
// never started twice, and whatever belongs to no row is set aside.
//
// A machine is stopped on positive evidence only: the chain says that the job
// has ended or belongs to another node, or the job vanished from the chain and
// the acceptance that could bring it back has ended at a mined block. A chain
// that cannot be reached, a row that is missing or any other error keeps it
// running.
//
// The message network asks for machines too: those have leases in place of jobs,
// see lease.go. Their owners may order a machine to halt, to reboot or to be
// installed anew (orders.go); a halted machine keeps its disk and ports.
//
// The machine of a payer who is late for longer than the chain's soft grace, or
// than what is prepaid at most, and from whom the chain could not pull, is
// paused: shut down with all that it has kept.
// It goes on when the chain says that it is paid, and ends when the chain ends
// its job. The same rule holds: doubt pauses nothing and wakes nothing.
//
// The package also answers the questions of other nodes about jobs, meters
// what ran by chain time, and advertises what is free.
package executor
