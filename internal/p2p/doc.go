// Package p2p carries bytes between nodes: gossip to everyone who listens to a
// topic, a question to one peer with its answer, and the bytes of a blob. It
// knows how to find and keep peers; what the bytes mean is known by the
// handlers that others register.
//
// Connections are libp2p over TCP, or QUIC where the listen address asks for
// it, encrypted and authenticated with noise or TLS 1.3. Peers find each other
// through the bootstrap peers of the configuration and a private Kademlia
// table. A peer is named by the hash of its public key, so nobody can answer
// in another's name.
package p2p
