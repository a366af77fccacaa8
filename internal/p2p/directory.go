package p2p

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

const (
	// lookUpInterval is how often the directory is read: a list of nodes is some
	// minutes old anyway.
	lookUpInterval = 5 * time.Minute
	// listedMax bounds the nodes that are taken from it.
	listedMax = 4096
	// listedTTL is how long the address of a node in it is known.
	listedTTL = 2 * lookUpInterval
	// registeredTag is why a connection is kept.
	registeredTag = "registered"
)

// Listing is what others know of the network's nodes.
type Listing struct {
	Peers  []Peer                 // Nodes and their addresses, in the order of trust.
	Number func(id PeerID) uint32 // Number of the node in the registry on chain that is bound to the peer id; 0 for none.
}

// Directory knows nodes from elsewhere than from peers: from the registry on chain and
// from the list of nodes of the message network.
type Directory interface {
	Look(ctx context.Context) (Listing, error)
}

// nodes is what the directory said last.
type nodes struct {
	self peer.ID

	mu      sync.Mutex
	listed  []peer.AddrInfo     // guarded by mu
	isThere map[peer.ID]bool    // the same; guarded by mu
	number  func(PeerID) uint32 // guarded by mu; nil before the first look
	lookAt  time.Time           // guarded by mu
	numbers map[peer.ID]uint32  // of peers that were asked for since; guarded by mu
}

// set takes over a listing.
func (n *nodes) set(l Listing, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listed, n.isThere, n.numbers, n.number, n.lookAt = nil, map[peer.ID]bool{}, map[peer.ID]uint32{}, l.Number, now
	for _, p := range l.Peers[:min(len(l.Peers), listedMax)] {
		// Addresses that cannot be read are left out; the name counts.
		info, err := p.info()
		if info.ID == "" || info.ID == n.self || n.isThere[info.ID] {
			continue
		}
		if err != nil && len(info.Addrs) == 0 {
			info.Addrs = nil
		}
		n.isThere[info.ID] = true
		n.listed = append(n.listed, info)
	}
}

func (n *nodes) due(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookAt.IsZero() || now.Sub(n.lookAt) >= lookUpInterval
}

// of returns the number of a peer in the registry, 0 for none.
func (n *nodes) of(id peer.ID) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.number == nil {
		return 0
	}
	if v, ok := n.numbers[id]; ok {
		return v
	}
	v := n.number(PeerID(id.String()))
	if len(n.numbers) >= listedMax {
		clear(n.numbers)
	}
	n.numbers[id] = v
	return v
}

// has reports whether a peer is listed.
func (n *nodes) has(id peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isThere[id]
}

// infos returns the listed nodes with an address, those in the registry first.
func (n *nodes) infos() []peer.AddrInfo {
	n.mu.Lock()
	listed := slices.DeleteFunc(slices.Clone(n.listed), func(i peer.AddrInfo) bool { return len(i.Addrs) == 0 })
	n.mu.Unlock()
	slices.SortStableFunc(listed, func(a, b peer.AddrInfo) int { return b2i(n.of(a.ID) == 0) - b2i(n.of(b.ID) == 0) })
	return listed
}

// registered returns the nodes of infos that are in the registry.
func (n *nodes) registered() []peer.AddrInfo {
	return slices.DeleteFunc(n.infos(), func(i peer.AddrInfo) bool { return n.of(i.ID) == 0 })
}

// UseDirectory has the host meet, keep and prefer the nodes that d knows. Call it
// before Run.
func (h *Host) UseDirectory(d Directory) { h.directory = d }

// lookUp reads the directory when it is due, and dials some of its nodes while few
// peers are connected.
func (h *Host) lookUp(ctx context.Context, now time.Time) {
	if h.directory == nil || !h.nodes.due(now) {
		return
	}
	listing, err := h.directory.Look(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("directory of nodes not read", "err", err)
		}
		h.nodes.late(now)
		return
	}
	h.nodes.set(listing, now)
	for _, info := range h.nodes.infos() {
		h.host.Peerstore().AddAddrs(info.ID, info.Addrs, listedTTL)
	}
	for _, id := range h.host.Network().Peers() {
		h.recognise(id)
	}
}

// late has the directory read again in a while.
func (n *nodes) late(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookAt = now
}

// recognise keeps and prefers a connected peer that is a registered node.
func (h *Host) recognise(id peer.ID) {
	registered := h.nodes.of(id) != 0
	h.standings.prefer(id, registered)
	if registered {
		h.host.ConnManager().Protect(id, registeredTag)
		return
	}
	h.host.ConnManager().Unprotect(id, registeredTag)
}

// meetListed dials nodes of the directory and such as said that they live, while few
// peers are connected.
func (h *Host) meetListed(ctx context.Context, now time.Time) {
	missing := knownWanted - len(h.host.Network().Peers())
	if missing <= 0 {
		return
	}
	var wg sync.WaitGroup
	for _, info := range append(h.nodes.infos(), h.alive.infos(now)...) {
		if missing == 0 {
			break
		}
		if info.ID == h.self || h.isMet(info.ID) || !h.due(info.ID, now) {
			continue
		}
		missing--
		h.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
		wg.Go(func() { h.meet(ctx, info, now, slog.LevelDebug) })
	}
	wg.Wait()
}
