// Package corechannel makes the list of nodes that clients read, the aggregate
// `corechannel`, and keeps what the network has measured of nodes.
//
// A Keeper follows the posts that say something of nodes, what confirms them, and
// what the mirror has of the registry on chain. Each is an event with a place in one
// order (protocol/corechannel), whatever the order in which this node hears of it.
// The Keeper keeps the places of all events in memory and their contents in state
// alone. It folds them in order, from the last of its checkpoints before which
// nothing has changed: what comes late, is confirmed, is forgotten or is taken back
// by a reorganisation changes the order from its place on.
//
// What the fold says goes one of two ways when it has changed. With the key of the
// authority it is published as a message of that address, as any other. Without one,
// on a network where nobody publishes it, this node serves its own fold under that
// address, as a row that the door reads: see docs/adr.
package corechannel
