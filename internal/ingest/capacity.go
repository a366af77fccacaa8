package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// skewMax is how far the clock of an ad may be from ours: beyond, the ad is
// old, or one of the clocks is wrong.
const skewMax = 2 * time.Minute

// validateCapacity judges an ad by the registry: its node's signer signed it,
// and the peer it names is the node's.
func (p *Pipeline) validateCapacity(ctx context.Context, g *p2p.Gossip) p2p.Verdict {
	ad, err := wire.ParseCapacityAd(g.Data)
	if err != nil {
		p.capacities.WithLabelValues("malformed").Inc()
		return p2p.Reject
	}
	n, err := p.db.Node(ctx, ad.NodeID)
	if err != nil {
		// The registry's row may be on its way.
		p.capacities.WithLabelValues("unknown_node").Inc()
		return p2p.Ignore
	}
	if n.Kind != state.KindCompute || crypto.Keccak256Hash(p2p.PeerID(ad.PeerID).Bytes()) != n.PeerIDHash {
		p.capacities.WithLabelValues("wrong_peer").Inc()
		return p2p.Ignore // the registry may have changed a block ago
	}
	if err := ad.Verify(n.Signer); err != nil {
		p.log.Debug("capacity ad refused", "node", ad.NodeID, "peer", g.From, "err", err)
		p.capacities.WithLabelValues("wrong_signer").Inc()
		return p2p.Ignore // so may its signer
	}
	if age := p.now().Sub(time.UnixMilli(ad.AtMS)); age.Abs() > skewMax {
		p.log.Debug("capacity ad out of time", "node", ad.NodeID, "took", age)
		p.capacities.WithLabelValues("out_of_time").Inc()
		return p2p.Ignore
	}
	last, err := lastAd(ctx, p.db, ad.NodeID)
	if err != nil || (last != nil && ad.AtMS <= last.AtMS) {
		p.capacities.WithLabelValues("stale").Inc()
		return p2p.Ignore
	}
	return p2p.Accept
}

// capacityReader is what state.DB and state.Tx share for lastAd.
type capacityReader interface {
	Capacity(ctx context.Context, nodeID uint32) (*state.Capacity, error)
}

// lastAd returns the node's ad that is in state, nil if there is none.
func lastAd(ctx context.Context, r capacityReader, nodeID uint32) (*wire.CapacityAd, error) {
	c, err := r.Capacity(ctx, nodeID)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return wire.ParseCapacityAd(c.Ad)
}

// hearCapacity keeps a validated ad, if no newer one came meanwhile.
func (p *Pipeline) hearCapacity(ctx context.Context, g p2p.Gossip) {
	ad, err := wire.ParseCapacityAd(g.Data)
	if err != nil {
		return // the validator let nothing of the kind through
	}
	err = p.db.Update(ctx, func(tx *state.Tx) error {
		last, err := lastAd(ctx, tx, ad.NodeID)
		if err != nil || (last != nil && ad.AtMS <= last.AtMS) {
			return err
		}
		return tx.PutCapacity(ctx, state.Capacity{NodeID: ad.NodeID, PeerID: ad.PeerID, Ad: g.Data, ReceivedAt: p.now()})
	})
	if err != nil && ctx.Err() == nil {
		p.log.Warn("capacity ad not stored", "node", ad.NodeID, "err", err)
		return
	}
	p.capacities.WithLabelValues("accepted").Inc()
}
