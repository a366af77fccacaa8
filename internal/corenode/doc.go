// Package corenode asks core channel nodes, the servers of the message network, over HTTP:
// whether a message counts, what it costs, what an address has, what it keeps in its
// aggregates. It asks EVM chains what flows to a node.
//
// Answers decide whether machines run, so each is positive evidence or none. Servers are
// asked in order. One that is away, busy, or says something else than was asked for is left
// for the next. When none answers the error is errs.Unavailable, and errs.NotFound only when
// all that could be reached say so. Messages are checked by hash and signature; for all else
// the servers are believed, so the operator names them.
package corenode
