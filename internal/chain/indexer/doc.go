// Package indexer reads events of contracts on chains that this node has no RPC of, from
// servers that index them: the multichain indexer of the network, that of Tezos, and the
// explorer of NULS2. See sections 6.7 and 6.8 of the protocol.
//
// Nothing that an indexer says can be checked: who reads it trusts whoever runs it with
// what its chain says, and with nothing else. Its answers are bounded in size, number,
// depth and time, what is out of order or out of the range that was asked for is refused,
// and each page brings the cursor on or is an error, so no answer makes a reader loop.
//
// A page holds whole moments: an event is never passed over because its like filled a
// page. What happened too recently is left for later, as a chain may still take it back,
// and nobody tells when it does.
package indexer
