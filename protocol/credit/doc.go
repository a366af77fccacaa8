// Package credit reads the posts that move credits and token balances, and keeps
// the ledger of credits. See sections 4.9 and 4.10 of the protocol.
//
// Credits come in lots: what an address got at one place, with the time at which
// it is worth nothing any more. What is spent drains the lots of an address, the
// oldest first. A [Book] is the lots; [Book.Spend] is the one rule by which an
// event changes them.
//
// Messages arrive in any order, and every node must have the same lots in the
// end. So an event has a [Place], its content's time and its item hash, and
// counts as if all events had come in the order of their places. A transfer that
// is not covered at its place moves nothing. A [Ledger] holds this for events in
// any order by doing it all again; the node's database does the same with less
// work.
//
// Posts of these types by anybody else are posts like any other: the readers
// return nothing for them, and no error. What the protocol's own accounts write
// wrongly is refused.
package credit
