package p2p

// The bounds of what is answered.
const (
	BodiesMax        = bodiesMax
	BodiesPerPeerMax = bodiesPerPeerMax
)

// Bodies counts the bodies that are being streamed.
type Bodies struct{ b bodies }

// Take makes room for one more body to the peer.
func (b *Bodies) Take(to PeerID) error { return b.b.take(to) }

// Give gives the room of one back.
func (b *Bodies) Give(to PeerID) { b.b.give(to) }
