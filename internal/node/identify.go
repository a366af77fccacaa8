package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// identifyMax bounds what the node asks the chain before it starts.
	identifyMax = 15 * time.Second
	// skewMax is how far the clock may be from the chain's. Signatures of owners
	// are good for some minutes only.
	skewMax = 2 * time.Minute
)

// identify returns the number that this node has on chain. The first start
// needs the chain for that; later ones go on without it, because machines must
// be adopted and payments settled whether or not an RPC answers.
func (n *Node) identify(ctx context.Context) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, identifyMax)
	defer cancel()
	known, err := n.db.Identity(ctx)
	if err != nil && !errors.Is(err, errs.NotFound) {
		return 0, err
	}
	contracts := n.cfg.Chain.Contracts.ByName()
	if known != nil {
		for name, address := range contracts {
			if was := known.Contracts[name]; was != address {
				return 0, errs.New(errs.Invalid, "data_dir %s belongs to the %s at %s, but the configuration names %s: correct [chain.contracts], or use an empty data_dir",
					n.cfg.Node.DataDir, name, was, address)
			}
		}
	}
	now, err := n.look(ctx, known)
	switch {
	case errors.Is(err, errs.Unavailable) && known != nil:
		n.log.Warn("chain not reached, going on with what is known", "err", err)
		return known.NodeID, nil
	case err != nil:
		return 0, err
	case known != nil && known.NodeID == now.NodeID:
		return known.NodeID, nil
	}
	now.Contracts = contracts
	return now.NodeID, n.db.Update(ctx, func(tx *state.Tx) error { return tx.PutIdentity(ctx, *now) })
}

// look asks the chain who this node is. known is who it was, nil for nobody.
func (n *Node) look(ctx context.Context, known *state.Identity) (*state.Identity, error) {
	genesis, err := n.chain.Check(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the chain: %w", err)
	}
	if known != nil && known.Genesis != genesis.Hex() {
		return nil, errs.New(errs.Invalid, "data_dir %s belongs to the chain with genesis %s, but the RPC serves %s: correct [chain] rpc_url, or use an empty data_dir",
			n.cfg.Node.DataDir, known.Genesis, genesis)
	}
	if err := n.checkClock(ctx); err != nil {
		return nil, err
	}
	id, err := n.register(ctx)
	return &state.Identity{ChainID: n.chain.ChainID(), Genesis: genesis.Hex(), NodeID: id}, err
}

// checkClock compares the clock with the chain's. A local network has a time of
// its own.
func (n *Node) checkClock(ctx context.Context) error {
	if n.cfg.Chain.ChainID == devchain.ChainID {
		return nil
	}
	err := n.chain.CheckClock(ctx, time.Now(), skewMax)
	if errors.Is(err, errs.Unavailable) {
		n.log.Warn("clock not compared with the chain's", "err", err)
		return nil
	}
	return err
}

// register returns the number under which the registry has the signer, and makes sure
// that it has it with this node's peer id: others would not know this node otherwise.
func (n *Node) register(ctx context.Context) (uint32, error) {
	signer := crypto.PubkeyToAddress(n.keys.Signer.PublicKey)
	id, err := mirror.NodeOfSigner(ctx, n.chain, n.cfg.Chain.Contracts, signer)
	if err != nil {
		return 0, err
	}
	peer, err := p2p.PeerIDOf(n.keys.Identity)
	if err != nil {
		return 0, err
	}
	if id == 0 {
		return 0, errs.New(errs.NotFound, "no node is registered with signer %s: let its owner register it at the NodeRegistry (%s) with peer id %s, then start again",
			signer, n.cfg.Chain.Contracts.NodeRegistry, peer)
	}
	switch named, err := mirror.NodeOfPeer(ctx, n.chain, n.cfg.Chain.Contracts, peer.Bytes()); {
	case err != nil:
		return 0, err
	case named != id:
		return 0, errs.New(errs.Invalid, "node %d of signer %s is registered with another peer id than %s: put its identity key back ([network] identity_path), which nothing can replace",
			id, signer, peer)
	}
	return id, nil
}
