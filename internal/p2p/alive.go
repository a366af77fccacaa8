package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// topicAlive is our name for the profile's topic.
	topicAlive = "alive"
	// aliveInterval is how often a node tells that it lives.
	aliveInterval = 2 * time.Minute
	// aliveMax is how long a node that told so is one to meet.
	aliveMax = 24 * time.Hour
	// alivesMax bounds the nodes of which it is known; only listed ones may say it.
	alivesMax = 4096
)

// Alive is an address that a listed node told.
type Alive struct {
	ID      PeerID
	Type    wire.PeerType
	Address string
	Version string
	SeenAt  time.Time
}

type aliveKey struct {
	id   peer.ID
	kind wire.PeerType
}

// alives are what nodes told last.
type alives struct {
	mu  sync.Mutex
	all map[aliveKey]Alive // guarded by mu
}

func (a *alives) put(id peer.ID, v Alive) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[aliveKey]Alive{}
	}
	key := aliveKey{id, v.Type}
	if _, ok := a.all[key]; !ok && len(a.all) >= alivesMax {
		for k, old := range a.all {
			if v.SeenAt.Sub(old.SeenAt) > aliveMax {
				delete(a.all, k)
			}
		}
		if len(a.all) >= alivesMax {
			return
		}
	}
	a.all[key] = v
}

// list returns who told within aliveMax, by name and type.
func (a *alives) list(now time.Time) []Alive {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Alive
	for _, v := range a.all {
		if now.Sub(v.SeenAt) <= aliveMax {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Alive) int {
		return strings.Compare(string(a.ID)+"/"+string(a.Type), string(b.ID)+"/"+string(b.Type))
	})
	return out
}

// infos returns where those are reached that told an address of this network.
func (a *alives) infos(now time.Time) []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, v := range a.list(now) {
		if v.Type != wire.PeerP2P {
			continue
		}
		if info, err := peer.AddrInfoFromString(v.Address); err == nil {
			out = append(out, *info)
		}
	}
	return out
}

// Alive returns what listed nodes told in the last day of where they are reached.
func (h *Host) Alive() []Alive { return h.alive.list(time.Now()) }

// TellHTTP says under which base URL others reach this node's HTTP interface, which is
// then told with the node's own addresses. Call it before Run.
func (h *Host) TellHTTP(baseURL string) { h.httpURL = baseURL }

// subscribeAlive joins the topic on which nodes tell that they live, if there is one.
func (h *Host) subscribeAlive() error {
	if h.profile.alive == "" {
		return nil
	}
	return h.Subscribe(topicAlive, h.validateAlive, func(_ context.Context, g Gossip) { h.hearAlive(g, time.Now()) })
}

// mayTell reports whether anybody cares when a peer says that it lives: only nodes that
// the operator or the list of nodes names count.
func (h *Host) mayTell(id peer.ID) bool {
	return id == h.self || h.nodes.has(id) || slices.ContainsFunc(h.bootstrap, func(i peer.AddrInfo) bool { return i.ID == id })
}

func (h *Host) validateAlive(_ context.Context, g *Gossip) Verdict {
	_, id, err := readAlive(*g)
	switch {
	case err != nil:
		h.metrics.alives.WithLabelValues("invalid").Inc()
		return Reject
	case !h.mayTell(id):
		h.metrics.alives.WithLabelValues("unlisted").Inc()
		return Ignore
	}
	return Accept
}

// readAlive reads a node's word. An address of this network must be the node's own.
func readAlive(g Gossip) (*wire.Alive, peer.ID, error) {
	a, err := wire.ParseAlive(g.Data)
	if err != nil {
		return nil, "", err
	}
	id, err := peer.Decode(string(g.From))
	if err != nil {
		return nil, "", err
	}
	if a.PeerType == wire.PeerP2P {
		info, err := peer.AddrInfoFromString(a.Address)
		if err != nil {
			return nil, "", err
		}
		if info.ID != id {
			return nil, "", errors.New("the address is another node's")
		}
	}
	return a, id, nil
}

func (h *Host) hearAlive(g Gossip, now time.Time) {
	a, id, err := readAlive(g)
	if err != nil {
		return // The validator has read it.
	}
	h.metrics.alives.WithLabelValues("heard").Inc()
	h.alive.put(id, Alive{ID: g.From, Type: a.PeerType, Address: a.Address, Version: a.Version, SeenAt: now})
}

// tellAlive tells that this node lives, and where, until ctx ends.
func (h *Host) tellAlive(ctx context.Context) {
	if h.profile.alive == "" {
		return
	}
	tick := time.NewTicker(aliveInterval)
	defer tick.Stop()
	for {
		for _, word := range h.words() {
			raw, err := json.Marshal(word)
			if err == nil {
				err = h.Publish(ctx, topicAlive, raw)
			}
			if err != nil && ctx.Err() == nil && errs.KindOf(err) != errs.Unavailable {
				h.log.Warn("alive message not published", "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// words are what this node tells.
func (h *Host) words() []wire.Alive {
	var out []wire.Alive
	if addr := h.bestAddr(); addr != nil {
		out = append(out, wire.NewAlive(wire.PeerP2P, addr.String()+"/p2p/"+h.self.String(), build.Version))
	}
	if h.httpURL != "" {
		out = append(out, wire.NewAlive(wire.PeerHTTP, h.httpURL, build.Version))
	}
	return out
}

// bestAddr is the one address to tell: TCP, which all nodes of the network speak, as
// the operator gave it, or else a public one, or else any.
func (h *Host) bestAddr() (best ma.Multiaddr) {
	for _, addr := range append(slices.Clone(h.announced), h.host.Addrs()...) {
		if transportOf(addr) != transportTCP {
			continue
		}
		if manet.IsPublicAddr(addr) || slices.ContainsFunc(h.announced, addr.Equal) {
			return addr
		}
		if best == nil {
			best = addr
		}
	}
	return best
}
