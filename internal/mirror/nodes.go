package mirror

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func (b *block) nodeRegistered(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeRegisteredEvent(l)
	if err != nil {
		return malformed(err)
	}
	kind, err := nodeKind(e.Kind)
	if err != nil {
		return err
	}
	return b.putNode(ctx, state.Node{
		ID: e.NodeId, Kind: kind, Status: state.NodePending, Owner: e.Owner, Signer: e.Signer, Payout: e.Owner,
		PeerIDHash: crypto.Keccak256Hash(e.PeerId), MetaHash: e.MetaHash, Features: e.Features, Region: e.Region,
		SelfStake: new(big.Int), SinceAt: b.header.Time, MadeAt: b.header.Time, Block: b.header.Number,
	}, nil)
}

func (b *block) nodeMetaUpdated(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeMetaUpdatedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) {
		n.MetaHash, n.Features, n.Region = e.MetaHash, e.Features, e.Region
	})
}

func (b *block) nodeStatusChanged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeStatusChangedEvent(l)
	if err != nil {
		return malformed(err)
	}
	status, err := nodeStatus(e.NewStatus)
	if err != nil {
		return err
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) {
		n.Status, n.SinceAt = status, b.header.Time
	})
}

func (b *block) nodeSignerChanged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeSignerChangedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Signer = e.NewSigner })
}

func (b *block) nodePayoutChanged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodePayoutChangedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Payout = e.Payout })
}

func (b *block) staked(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackStakedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.SelfStake = e.SelfStake })
}

func (b *block) selfUnbonding(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackSelfUnbondingEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.SelfStake = e.SelfStake })
}

// slashed takes what a node lost from what its owner has staked.
func (b *block) slashed(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackSlashedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) {
		n.SelfStake = new(big.Int).Sub(n.SelfStake, e.SelfPart)
		if n.PoolShares == nil || n.PoolShares.Sign() == 0 {
			return // PoolReset told of it.
		}
		n.PoolTokens = new(big.Int).Sub(n.PoolTokens, e.PoolPart)
		if n.PoolTokens.Sign() < 0 {
			n.PoolTokens.SetInt64(0) // A part of it had dripped, which nothing tells.
		}
	})
}

func (b *block) nodeLinked(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeLinkedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Linked = e.CoordId })
}

func (b *block) nodeUnlinked(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeUnlinkedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Linked = 0 })
}

func (b *block) nodeLockSet(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeLockSetEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Locked = e.Locked })
}

func (b *block) delegated(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackDelegatedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.delegate(ctx, e.NodeId, e.Delegator, e.Shares, e.PoolTokens, e.PoolShares)
}

func (b *block) undelegated(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackUndelegatedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.delegate(ctx, e.NodeId, e.Delegator, new(big.Int).Neg(e.Shares), e.PoolTokens, e.PoolShares)
}

func (b *block) undelegationCancelled(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackUndelegationCancelledEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.delegate(ctx, e.NodeId, e.Delegator, e.Shares, e.PoolTokens, e.PoolShares)
}

// delegate notes that somebody has more of a pool, or less.
func (b *block) delegate(ctx context.Context, id uint32, who common.Address, shares, poolTokens, poolShares *big.Int) error {
	n, err := b.tx.Node(ctx, id)
	if err != nil {
		return missed(err)
	}
	n.PoolTokens, n.PoolShares = poolTokens, poolShares
	return b.putNode(ctx, *n, func(c *state.RegistryChange) { c.Delegator, c.Shares = who, shares })
}

func (b *block) poolReset(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewStakingManager().UnpackPoolResetEvent(l)
	if err != nil {
		return malformed(err)
	}
	n, err := b.tx.Node(ctx, e.NodeId)
	if err != nil {
		return missed(err)
	}
	n.PoolTokens, n.PoolShares = new(big.Int), new(big.Int)
	return b.putNode(ctx, *n, func(c *state.RegistryChange) { c.Void = true })
}

func (b *block) nodeOwnerChanged(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewNodeRegistry().UnpackNodeOwnerChangedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeNode(ctx, e.NodeId, func(n *state.Node) { n.Owner = e.NewOwner })
}

// changeNode changes a node's row.
func (b *block) changeNode(ctx context.Context, id uint32, change func(*state.Node)) error {
	n, err := b.tx.Node(ctx, id)
	if err != nil {
		return missed(err)
	}
	change(n)
	return b.putNode(ctx, *n, nil)
}

// putNode writes a node's row, and what the event that is being folded has changed
// with it.
func (b *block) putNode(ctx context.Context, n state.Node, add func(*state.RegistryChange)) error {
	n.Block = b.header.Number
	if err := b.tx.PutNode(ctx, n); err != nil {
		return err
	}
	c := state.RegistryChange{Block: b.header.Number, Index: b.index, At: b.header.Time, Node: n}
	if add != nil {
		add(&c)
	}
	return b.tx.PutRegistryChange(ctx, c)
}

// missed is the error of a change to something that was never made: from_block
// is too late.
func missed(err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return errs.New(errs.Internal, "an event is about something unknown (%w): set from_block to the block of the deployment and start with an empty data_dir", err)
	}
	return err
}

// nodeKind returns the kind with the number in INodeRegistry.Kind.
func nodeKind(n uint8) (state.NodeKind, error) {
	switch n {
	case 1:
		return state.KindCoordinator, nil
	case 2:
		return state.KindCompute, nil
	case 3:
		return state.KindStorage, nil
	}
	return "", errs.New(errs.Internal, "no kind of node has the number %d", n)
}

// nodeStatus returns the status with the number in INodeRegistry.Status.
func nodeStatus(n uint8) (state.NodeStatus, error) {
	switch n {
	case 1:
		return state.NodePending, nil
	case 2:
		return state.NodeActive, nil
	case 3:
		return state.NodeSuspended, nil
	case 4:
		return state.NodeDraining, nil
	case 5:
		return state.NodeJailed, nil
	case 6:
		return state.NodeExited, nil
	case 7:
		return state.NodeBanned, nil
	}
	return "", errs.New(errs.Internal, "no status of a node has the number %d", n)
}

// NodeOfSigner asks the chain which node has the signer; 0 is none. A node asks
// this once, before it has rows.
func NodeOfSigner(ctx context.Context, c Chain, contracts chain.Contracts, signer common.Address) (uint32, error) {
	registry := bindings.NewNodeRegistry()
	out, err := c.Calls(ctx, []chain.Call{{To: contracts.NodeRegistry, Data: registry.PackNodeOfSigner(signer)}})
	if err != nil {
		return 0, fmt.Errorf("ask the registry for signer %s: %w", signer, err)
	}
	id, err := registry.UnpackNodeOfSigner(out[0])
	if err != nil {
		return 0, errs.New(errs.Invalid, "there is no NodeRegistry at %s; correct [chain.contracts]: %w", contracts.NodeRegistry, err)
	}
	return id, nil
}

// NodeOfPeer asks the registry for the id of the node with a peer id, whose bytes hash
// to it; 0 for none.
func NodeOfPeer(ctx context.Context, c Chain, contracts chain.Contracts, peerID []byte) (uint32, error) {
	registry := bindings.NewNodeRegistry()
	out, err := c.Calls(ctx, []chain.Call{{To: contracts.NodeRegistry, Data: registry.PackNodeOfPeer(crypto.Keccak256Hash(peerID))}})
	if err != nil {
		return 0, fmt.Errorf("ask the registry for a peer id: %w", err)
	}
	id, err := registry.UnpackNodeOfPeer(out[0])
	if err != nil {
		return 0, errs.New(errs.Invalid, "there is no NodeRegistry at %s; correct [chain.contracts]: %w", contracts.NodeRegistry, err)
	}
	return id, nil
}
