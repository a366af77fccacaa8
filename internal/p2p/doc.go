// Package p2p carries bytes between nodes: gossip to everyone who listens to a
// topic, a question to one peer with its answer, and bulk from an offset on. It
// knows how to find and keep peers; what the bytes mean is known by the
// handlers that others register.
//
// Connections are libp2p over TCP and QUIC, encrypted and authenticated with noise
// or TLS 1.3. Peers find each other through the bootstrap peers of the
// configuration, a private Kademlia table and what a Directory knows. A peer is
// named by the hash of its public key, so nobody can answer in another's name.
//
// A message that a node hears goes inspect (rate, limits of the network) -> the
// library (signature, known?) -> judge (the handler's validator) -> receive -> deliver.
// What is dropped on the way is counted by tracer.go; what is held against whom is in
// standing.go.
package p2p
