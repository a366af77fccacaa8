// Package swarm is this node as a peer of IPFS: it serves the blocks of the node's
// content by bitswap, brings content here from others, and announces what is here.
//
// Bitswap runs over two hosts. Over that of the node's own network it always does:
// coordinators have the same content, and ask each other first. Beside it is a host
// of its own, off unless the configuration says otherwise, with another port and
// another name, to meet peers of a private or of the public IPFS network. Nothing
// here connects to anybody whom the configuration does not name, but to whom those
// lead through their DHT.
//
// Content is looked for here, at the nodes that are connected, in the swarm, at
// gateways, and at a Kubo beside this node. None of them is believed: a block is
// taken when its bytes hash to a CID that verified blocks link to, and content when
// all of it is here. Blocks that came stay for the next try; they are no content
// before, are not served, and count to the bound of the node's blobs.
package swarm
