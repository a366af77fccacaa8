package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// openContent opens the IPFS content of a coordinator, whose bytes are in the
// node's blobs, and goes among those who exchange such content.
func (n *Node) openContent(ctx context.Context) (err error) {
	if n.content, err = ipfs.Open(n.cfg.Dir("ipfs"), content.Blobs(n.blobs), n.cfg.IPFS.Config, n.metrics, n.part("ipfs")); err != nil {
		return fmt.Errorf("open ipfs: %w", err)
	}
	n.opened("ipfs", n.content)
	n.swarm, err = swarm.Open(ctx, n.cfg.IPFS, swarm.Parts{
		Store: n.content, Identity: n.keys.Identity, Mesh: n.host.Libp2p(),
		Room: func(ctx context.Context, sizeBytes int64) error { return n.storage.MakeRoom(ctx, sizeBytes) },
	}, n.metrics, n.part("swarm"))
	if err != nil {
		return fmt.Errorf("open swarm: %w", err)
	}
	n.opened("swarm", n.swarm)
	n.add("swarm", n.swarm.Run)
	return nil
}

// contents has the bytes that messages name, for ingest.
type contents struct {
	keeper *storage.Keeper
	blobs  *blob.Store
	ipfs   *ipfs.Store // nil on a node that keeps none, as the rest
	swarm  *swarm.Swarm
	db     *state.DB
	grace  time.Duration // for which content stays that nothing wants yet
}

func (n *Node) contents() contents {
	return contents{keeper: n.storage, blobs: n.blobs, ipfs: n.content, swarm: n.swarm, db: n.db, grace: n.cfg.Ingest.GracePeriod}
}

// root finds content of IPFS by the hash of a message.
func (c contents) root(hash message.ItemHash) (ipfs.Root, error) {
	if c.ipfs == nil {
		return ipfs.Root{}, errs.New(errs.NotFound, "this node keeps no IPFS content")
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return ipfs.Root{}, err
	}
	return c.ipfs.Root(id)
}

// Stat implements ingest.Files.
func (c contents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if hash.Type() == message.IPFS {
		r, err := c.root(hash)
		return state.FileInfo{Hash: hash, Directory: r.Kind == ipfs.KindDirectory, SizeBytes: r.Size}, err
	}
	info, err := c.keeper.Stat(hash)
	return state.FileInfo{Hash: hash, SizeBytes: info.Size}, err
}

// Fetch implements ingest.Files.
func (c contents) Fetch(ctx context.Context, hash message.ItemHash) error {
	if hash.Type() == message.IPFS {
		return c.fetchContent(ctx, hash)
	}
	_, err := c.keeper.Fetch(ctx, hash)
	return err
}

// fetchContent fetches content of IPFS. Until a message wants it, it stays for a
// while: the message may be refused, and then nobody would ever delete it.
func (c contents) fetchContent(ctx context.Context, hash message.ItemHash) error {
	if c.swarm == nil {
		return errs.New(errs.NotFound, "this node keeps no IPFS content")
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return err
	}
	root, err := c.swarm.Fetch(ctx, id)
	if err != nil {
		return err
	}
	return c.db.Update(ctx, func(tx *state.Tx) error {
		pinned, err := tx.Pinned(ctx, hash)
		if err != nil || pinned {
			return err
		}
		info := state.FileInfo{Hash: hash, Directory: root.Kind == ipfs.KindDirectory, SizeBytes: root.Size}
		if err := tx.PutFileInfo(ctx, info); err != nil {
			return err
		}
		now := time.Now()
		return tx.PutPin(ctx, state.Pin{Key: state.GraceKey(hash), Kind: state.PinGrace, File: hash, At: now, Until: now.Add(c.grace)})
	})
}

// Read implements ingest.Files.
func (c contents) Read(_ context.Context, hash message.ItemHash, limit int64) (_ []byte, err error) {
	var b io.ReadCloser
	if hash.Type() == message.IPFS {
		r, err := c.root(hash)
		if err != nil {
			return nil, err
		}
		b, err = c.ipfs.Open(r.CID)
		if err != nil {
			return nil, err
		}
	} else {
		if _, err := c.keeper.Stat(hash); err != nil { // Its message pins it later.
			return nil, err
		}
		if b, err = c.blobs.Open(hash); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, errs.New(errs.Invalid, "content %s has more than %d bytes", hash, limit)
	}
	return raw, err
}
