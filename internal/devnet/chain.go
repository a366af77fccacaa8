package devnet

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// What the funded accounts are for, by number. The last one is the source of
// 'aleph account fund'.
const (
	adminAccount       = 0
	ownerAccount       = 1
	stakersAccount     = 2
	coordinatorAccount = 3
	developmentAccount = 4
	sourceAccount      = 9
)

const (
	// Play money, in ALEPH: the owner stakes for three nodes.
	ownerAleph   = 500_000
	sourceAleph  = 1_000_000
	accountAleph = 10_000
	// gasEther is what a node's signer gets for gas.
	gasEther = 100

	deploymentFile = "deployment.json"
)

func tokens(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

// settle deploys the contracts and lets the nodes join, or finds that done. It
// can be cut off anywhere and goes on from there.
func (n *Network) settle(ctx context.Context) (err error) {
	accounts := devchain.Accounts()
	path := filepath.Join(n.opts.DataDir, deploymentFile)
	n.deployed, err = deploy.Read(path)
	if errors.Is(err, errs.NotFound) {
		n.deployed, err = n.deploy(ctx, accounts)
		if err == nil {
			err = n.deployed.Write(path)
		}
	}
	if err != nil {
		return err
	}
	var nodes []deploy.Node
	var joining []*member
	for _, m := range n.members {
		signer := crypto.PubkeyToAddress(m.keys.Signer.PublicKey)
		if m.id, err = mirror.NodeOfSigner(ctx, n.client, n.deployed.Contracts, signer); err != nil {
			return err
		}
		if m.id != 0 {
			continue
		}
		peer, err := p2p.PeerIDOf(m.keys.Identity)
		if err != nil {
			return err
		}
		joining = append(joining, m)
		nodes = append(nodes, deploy.Node{
			Owner: accounts[ownerAccount].Key, Signer: m.keys.Signer, Kind: m.kind, PeerID: peer.Bytes(), EtherWei: tokens(gasEther),
		})
	}
	ids, err := deploy.Join(ctx, n.client, n.deployed.Contracts, nodes...)
	if err != nil {
		return err
	}
	for i, m := range joining {
		m.id = ids[i]
	}
	return nil
}

func (n *Network) deploy(ctx context.Context, accounts []devchain.Account) (*deploy.Deployment, error) {
	var grants []deploy.Grant
	for i, a := range accounts {
		amount := int64(accountAleph)
		switch i {
		case ownerAccount:
			amount = ownerAleph
		case sourceAccount:
			amount = sourceAleph
		}
		grants = append(grants, deploy.Grant{To: a.Address, AlephWei: tokens(amount)})
	}
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		return nil, err
	}
	params.Pools = deploy.Pools{
		Stakers:      accounts[stakersAccount].Address,
		Coordinators: accounts[coordinatorAccount].Address,
		Development:  accounts[developmentAccount].Address,
	}
	d, err := deploy.Deploy(ctx, n.client, accounts[adminAccount].Key, params, deploy.Extras{Grants: grants})
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	return d, nil
}

// kindOf returns the kind of the i-th member in the registry.
func kindOf(i int) job.NodeKind {
	if i == 0 {
		return job.KindCoordinator
	}
	return job.KindCompute
}
