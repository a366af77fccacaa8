package deploy

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Node is a node that is to join.
type Node struct {
	Owner    *ecdsa.PrivateKey // Cold: pays the stake; not the signer.
	Signer   *ecdsa.PrivateKey // The node's own key.
	Kind     job.NodeKind      // What it does.
	PeerID   []byte            // The bytes of the libp2p peer id.
	MetaHash common.Hash       // Item hash of the message that describes the node; zero: the hash of the peer id.
	Features uint64
	Region   uint16
	StakeWei *big.Int // ALEPH; nil = what the kind needs.
	EtherWei *big.Int // Gas money for the signer, from the owner; nil = none.
}

// Join registers, stakes and activates nodes and gives their signers gas money.
// It returns their ids, in order, when all of it is mined. Nobody else may
// register a node meanwhile, as is so on a local network.
func Join(ctx context.Context, c *chain.Client, contracts chain.Contracts, nodes ...Node) ([]uint32, error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	registry, staking := bindings.NewNodeRegistry(), bindings.NewStakingManager()
	out, err := c.Calls(ctx, []chain.Call{
		{To: contracts.NodeRegistry, Data: registry.PackLastNodeId()},
		{To: contracts.StakingManager, Data: staking.PackRequirement(1)},
		{To: contracts.StakingManager, Data: staking.PackRequirement(2)},
		{To: contracts.StakingManager, Data: staking.PackRequirement(3)},
	})
	if err != nil {
		return nil, fmt.Errorf("ask what nodes need: %w", err)
	}
	last, err := registry.UnpackLastNodeId(out[0])
	if err != nil {
		return nil, errs.New(errs.Internal, "there is no NodeRegistry at %s: %w", contracts.NodeRegistry, err)
	}
	j := joiner{client: c, contracts: contracts, next: last + 1}
	for kind := range j.stakes {
		if j.stakes[kind], err = staking.UnpackRequirement(out[kind+1]); err != nil {
			return nil, errs.New(errs.Internal, "there is no StakingManager at %s: %w", contracts.StakingManager, err)
		}
	}
	for i := range nodes {
		if err := j.add(ctx, &nodes[i]); err != nil {
			return nil, fmt.Errorf("let node %d of %d join: %w", i+1, len(nodes), err)
		}
	}
	if _, err := sendAll(ctx, c, j.batches); err != nil {
		return nil, fmt.Errorf("let %d nodes join: %w", len(nodes), err)
	}
	return j.ids, nil
}

type joiner struct {
	client    *chain.Client
	contracts chain.Contracts
	stakes    [3]*big.Int // Needed, by kind - 1.
	next      uint32      // The next node's id.
	batches   []*Batch    // In the order in which they are to be mined.
	owner     common.Address
	ids       []uint32
}

// add adds the transactions of a node. Ids are given out in the order of
// registration, so nodes of one owner that follow each other share a batch.
func (j *joiner) add(ctx context.Context, n *Node) error {
	if n.Kind < 1 || int(n.Kind) > len(j.stakes) {
		return errs.New(errs.Invalid, "%s is no kind of node", n.Kind)
	}
	owner := crypto.PubkeyToAddress(n.Owner.PublicKey)
	if len(j.batches) == 0 || j.owner != owner {
		for _, b := range j.batches {
			if b.from == owner {
				return errs.New(errs.Invalid, "nodes of the owner %s do not follow each other", owner)
			}
		}
		b, err := NewBatch(ctx, j.client, n.Owner)
		if err != nil {
			return err
		}
		j.batches, j.owner = append(j.batches, b), owner
	}
	domain := job.Nodes(j.client.ChainID(), j.contracts.NodeRegistry)
	consent, err := job.Sign(n.Signer, domain, &job.Register{Owner: owner, Kind: n.Kind, PeerID: n.PeerID})
	if err != nil {
		return fmt.Errorf("sign the signer's consent: %w", err)
	}
	meta := n.MetaHash
	if meta == (common.Hash{}) {
		meta = crypto.Keccak256Hash(n.PeerID)
	}
	stake := n.StakeWei
	if stake == nil {
		stake = j.stakes[n.Kind-1]
	}
	b, signer := j.batches[len(j.batches)-1], crypto.PubkeyToAddress(n.Signer.PublicKey)
	registry, staking := bindings.NewNodeRegistry(), bindings.NewStakingManager()
	b.Call(j.contracts.NodeRegistry, registry.PackRegisterNode(uint8(n.Kind), n.PeerID, signer, meta, n.Features, n.Region, consent), gasCall)
	b.Call(j.contracts.AlephToken, bindings.NewAlephToken().PackApprove(j.contracts.StakingManager, stake), gasCall)
	b.Call(j.contracts.StakingManager, staking.PackStake(j.next, stake), gasCall)
	b.Call(j.contracts.NodeRegistry, registry.PackActivate(j.next), gasCall)
	if n.EtherWei != nil && n.EtherWei.Sign() > 0 {
		b.Pay(signer, n.EtherWei)
	}
	j.ids = append(j.ids, j.next)
	j.next++
	return nil
}

// Give gives play money to accounts of a local network; key is the admin's. It
// returns when all of it is mined.
func Give(ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey, d *Deployment, grants ...Grant) error {
	if d.DevGateway == (common.Address{}) {
		return errs.New(errs.Invalid, "chain %d has no play money", d.ChainID)
	}
	b, err := NewBatch(ctx, c, key)
	if err != nil {
		return err
	}
	if grant(b, d.DevGateway, d.Contracts.AlephToken, grants); len(b.txs) == 0 {
		return nil
	}
	if _, err := b.Send(ctx); err != nil {
		return fmt.Errorf("give play money: %w", err)
	}
	return nil
}
