package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// addSync adds the parts that follow the chains that confirm messages, if there are any:
// one by an RPC, others by indexers.
func (n *Node) addSync(ctx context.Context) error {
	cfg := n.cfg.Sync
	if !cfg.On() && !cfg.Indexed() {
		return nil
	}
	var client *chain.Client
	if cfg.On() {
		var err error
		if client, err = n.syncChain(ctx); err != nil {
			return err
		}
	}
	syncer, err := chainsync.New(cfg, n.db, client, n.ingest, archives{n.contents()}, n.part("chainsync"), n.metrics)
	if err != nil {
		return fmt.Errorf("build chainsync: %w", err)
	}
	n.add("chainsync-taker", syncer.Take)
	n.add("chainsync-retry", syncer.Retry)
	sources, err := cfg.Sources()
	if err != nil {
		return err
	}
	for _, src := range sources {
		n.add("chainsync-"+strings.ToLower(string(src.Chain)), func(ctx context.Context) error { return syncer.Follow(ctx, src) })
	}
	if !cfg.On() {
		return nil
	}
	n.add("chainsync-reader", syncer.Read)
	if !cfg.Publish {
		return nil
	}
	return n.addPublisher(syncer, client)
}

// syncChain reaches the chain that confirms messages.
func (n *Node) syncChain(ctx context.Context) (*chain.Client, error) {
	cfg := n.cfg.Sync
	client, err := chain.Dial(ctx, chain.Config{RPCURL: cfg.RPCURL, ChainID: cfg.ChainID}, n.part("sync-chain"))
	if err != nil {
		return nil, fmt.Errorf("reach the chain that confirms messages: %w", err)
	}
	n.closers = append(n.closers, closer{"sync-chain", func() error { client.Close(); return nil }})
	return client, nil
}

// addPublisher adds the parts that publish archives.
func (n *Node) addPublisher(syncer *chainsync.Syncer, client *chain.Client) error {
	cfg := n.cfg.Sync
	key, err := n.publisherKey()
	if err != nil {
		return err
	}
	ocfg := n.cfg.Outbox
	ocfg.Lane, ocfg.Confirmations, ocfg.MaxFeeGwei = state.LaneSync, cfg.Confirmations, cfg.MaxFeeGwei
	ocfg.StuckAfter = max(ocfg.StuckAfter, chainsync.StuckAfter)
	sender := outbox.New(ocfg, n.db, client, cfg.ContractAt(), key, n.part("sync-outbox"), n.metrics)
	n.add("chainsync-publisher", syncer.Publish)
	n.add("sync-outbox", sender.Run)
	return nil
}

// publisherKey reads the key of the one who publishes archives. One that others would
// not believe must not pay for it, and one that sends the node's transactions too
// would use nonces twice.
func (n *Node) publisherKey() (*ecdsa.PrivateKey, error) {
	cfg := n.cfg.Sync
	raw, err := keystore.Read(cfg.PrivateKeyPath)
	if err != nil {
		return nil, fmt.Errorf("read key of the publisher: %w", err)
	}
	key, err := crypto.ToECDSA(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the number in %s is no key; correct [sync] private_key_path: %w", cfg.PrivateKeyPath, err)
	}
	at := crypto.PubkeyToAddress(key.PublicKey)
	if !cfg.Emits(at) {
		return nil, errs.New(errs.Invalid, "the archives of %s do not count: add it to [sync] emitters, or correct private_key_path", at)
	}
	if cfg.ChainID == n.cfg.Chain.ChainID && key.Equal(n.keys.Signer) {
		return nil, errs.New(errs.Invalid, "%s is the node's signer on chain %d: give [sync] private_key_path another key", at, cfg.ChainID)
	}
	return key, nil
}

// archives has the archives of messages, which are IPFS content.
type archives struct{ contents }

// Add implements chainsync.Files. Archives are laid out as the reference's are.
func (a archives) Add(ctx context.Context, raw []byte, expect func(state.FileInfo) error) (state.FileInfo, error) {
	var info state.FileInfo
	_, err := a.ipfs.AddIf(ctx, bytes.NewReader(raw), ipfs.V0, func(root ipfs.Root) error {
		info = state.FileInfo{Hash: message.ItemHash(root.CID.String()), SizeBytes: root.Size}
		return expect(info)
	})
	if err != nil {
		return state.FileInfo{}, err
	}
	return info, nil
}
