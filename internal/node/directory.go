package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
)

// metMax bounds the peers that were met before and are compared with the registry.
const metMax = 1000

// directory tells p2p which nodes there are: those of the registry on chain, which has
// hashes of peer ids, and those of the list of nodes, which has addresses.
type directory struct {
	db        *state.DB
	authority string // whose aggregate is the list of nodes
}

// Look implements p2p.Directory. Registered nodes that were met come first, then the
// list of nodes in its order: nothing in it is believed but that somebody may be there,
// as who answers must have the key of the peer id.
func (d directory) Look(ctx context.Context) (p2p.Listing, error) {
	nodes, err := d.db.Nodes(ctx, "")
	if err != nil {
		return p2p.Listing{}, err
	}
	numbers := make(map[common.Hash]uint32, len(nodes))
	for _, n := range nodes {
		switch n.Status {
		case state.NodePending, state.NodeActive, state.NodeDraining, state.NodeSuspended:
			numbers[n.PeerIDHash] = n.ID
		case state.NodeJailed, state.NodeExited, state.NodeBanned:
		}
	}
	out := p2p.Listing{Number: func(id p2p.PeerID) uint32 { return numbers[crypto.Keccak256Hash(id.Bytes())] }}
	met, err := d.db.Peers(ctx, metMax)
	if err != nil {
		return p2p.Listing{}, err
	}
	for _, m := range met {
		if out.Number(p2p.PeerID(m.ID)) != 0 {
			out.Peers = append(out.Peers, p2p.Peer{ID: p2p.PeerID(m.ID), Addrs: m.Addrs})
		}
	}
	listed, err := d.listed(ctx)
	if err != nil {
		return p2p.Listing{}, err
	}
	out.Peers = append(out.Peers, listed...)
	return out, nil
}

// listed reads the multiaddresses of the list of nodes. Owners write what they like
// there: what names no peer is left out.
func (d directory) listed(ctx context.Context) ([]p2p.Peer, error) {
	content, err := d.list(ctx)
	if content == nil || err != nil {
		return nil, err
	}
	var list core.State
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, errs.New(errs.Invalid, "the list of nodes of %s: %w", d.authority, err)
	}
	var out []p2p.Peer
	for _, n := range list.Nodes {
		info, err := peer.AddrInfoFromString(n.Multiaddress)
		if err != nil {
			continue
		}
		p := p2p.Peer{ID: p2p.PeerID(info.ID.String())}
		for _, a := range info.Addrs {
			p.Addrs = append(p.Addrs, a.String())
		}
		out = append(out, p)
	}
	return out, nil
}

// list returns the list of nodes as this node serves it; nil if there is none.
func (d directory) list(ctx context.Context) ([]byte, error) {
	own, err := d.db.OwnAggregates(ctx, d.authority)
	if err != nil {
		return nil, err
	}
	for _, a := range own {
		if a.Key == core.AggregateKey {
			return a.Content, nil
		}
	}
	a, err := d.db.Aggregate(ctx, d.authority, core.AggregateKey)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the list of nodes: %w", err)
	}
	return a.Content, nil
}
