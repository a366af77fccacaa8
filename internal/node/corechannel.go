package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/corechannel"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
)

// addCorechannel adds the part that makes the list of nodes.
func (n *Node) addCorechannel() error {
	var key *ecdsa.PrivateKey
	if path := n.cfg.Nodes.KeyPath; path != "" {
		raw, err := keystore.Read(path)
		if err != nil {
			return fmt.Errorf("read key of the list of nodes: %w", err)
		}
		if key, err = crypto.ToECDSA(raw); err != nil {
			return errs.New(errs.Invalid, "the number in %s is no key; correct [corechannel] key_path: %w", path, err)
		}
	}
	rules := credit.Network()
	rules.Authority, rules.BalanceOwners = n.cfg.Ingest.CreditAuthority, n.cfg.Ingest.BalanceAuthority
	keeper, err := corechannel.New(n.cfg.Nodes, rules, n.db, key, announcer{n.ingest, n.blobs}, n.metrics, n.part("corechannel"))
	if err != nil {
		return fmt.Errorf("build corechannel: %w", err)
	}
	n.add("corechannel", keeper.Run)
	return nil
}

// announcer hands in messages of this node.
type announcer struct {
	pipeline *ingest.Pipeline
	blobs    *blob.Store
}

// Keep implements corechannel.Publisher.
func (a announcer) Keep(ctx context.Context, content []byte) error {
	info, err := a.blobs.Put(ctx, bytes.NewReader(content), "")
	if err != nil {
		return err
	}
	return a.pipeline.Uploaded(ctx, state.FileInfo{Hash: info.Hash, SizeBytes: info.Size}, time.Now())
}

// Publish implements corechannel.Publisher.
func (a announcer) Publish(ctx context.Context, envelope json.RawMessage) error {
	v, err := a.pipeline.Submit(ctx, ingest.Submission{Raw: envelope, At: time.Now()})
	switch {
	case err != nil:
		return err
	case v.Status != state.MessageProcessed:
		return fmt.Errorf("message %s is %s: %w", v.ItemHash, v.Status, v.Refusal)
	}
	return nil
}
