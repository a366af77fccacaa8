// Package aleph is the Go client of the network: it speaks a node's HTTP
// interface v1, builds and signs what a user signs, reads and funds accounts on
// a chain, and changes nodes in their owner's name.
//
// A [Client] talks to one node and holds no keys. An [Account] is a key with
// what it can sign. A [Registry] makes the calls of a node's owner. Nothing
// retries on its own except the Wait methods, which poll until their context
// ends.
package aleph
