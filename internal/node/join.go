package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// book keeps the peers of p2p in state.
type book struct{ db *state.DB }

// Known implements p2p.Book.
func (b book) Known(ctx context.Context, limit int) ([]p2p.Peer, error) {
	rows, err := b.db.Peers(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := make([]p2p.Peer, len(rows))
	for i, r := range rows {
		out[i] = p2p.Peer{ID: p2p.PeerID(r.ID), Addrs: r.Addrs}
	}
	return out, nil
}

// Remember implements p2p.Book.
func (b book) Remember(ctx context.Context, peers []p2p.Peer, at time.Time) error {
	return b.db.Update(ctx, func(tx *state.Tx) error {
		for _, p := range peers {
			if err := tx.PutPeer(ctx, state.Peer{ID: string(p.ID), Addrs: p.Addrs, SeenAt: at}); err != nil {
				return err
			}
		}
		return tx.KeepPeers(ctx, metMax)
	})
}

// asker asks other nodes for the scheduler.
type asker struct{ host *p2p.Host }

// Ask implements scheduler.Asker.
func (a asker) Ask(ctx context.Context, peerID string, ask *job.Ask) (*job.Reply, error) {
	id, err := p2p.ParsePeerID(peerID)
	if err != nil {
		return nil, err
	}
	var raw json.RawMessage
	if err := a.host.Ask(ctx, id, ask, &raw); err != nil {
		return nil, err
	}
	return job.ParseReply(raw)
}

// images gets files for the executor.
type images struct {
	keeper *storage.Keeper
	blobs  *blob.Store
}

// Fetch implements executor.Images.
func (i images) Fetch(ctx context.Context, hash message.ItemHash, progress func(done, total int64)) (string, error) {
	info, err := i.keeper.FetchFrom(ctx, hash, storage.FetchOptions{Progress: progress})
	if err != nil {
		return "", err
	}
	return i.blobs.Path(info.Hash)
}

// Blob implements executor.Images.
func (i images) Blob(hash message.ItemHash) message.ItemHash { return i.keeper.Blob(hash) }

// Drop implements executor.Images.
func (i images) Drop(hash message.ItemHash) error { return i.keeper.Drop(hash) }

// MakeRoom implements executor.Images.
func (i images) MakeRoom(ctx context.Context, sizeBytes int64) error {
	return i.keeper.MakeRoom(ctx, sizeBytes)
}

// uploadGrace is how long a blob that no STORE message names stays for sure: it
// may have been uploaded, and its message is on the way.
const uploadGrace = time.Hour

// files are what a coordinator keeps.
type files struct {
	db      *state.DB
	content interface {
		Uses(blob message.ItemHash) (bool, error)
	}
	log *slog.Logger
}

// Needed implements storage.Room.
func (f files) Needed(ctx context.Context) (blob.Keep, error) {
	named, err := f.db.PinnedFiles(ctx)
	if err != nil {
		return nil, err
	}
	fresh := time.Now().Add(-uploadGrace)
	broken := false
	inContent := func(hash message.ItemHash) bool {
		used, err := f.content.Uses(hash)
		if err != nil && !broken {
			broken = true // Said once, not for each blob.
			f.log.Error("blobs stay, it cannot be told which ipfs content needs", "err", err)
		}
		return used || err != nil
	}
	return func(hash message.ItemHash, usedAt time.Time) bool {
		return named[hash] || usedAt.After(fresh) || inContent(hash)
	}, nil
}

// FreeDisk implements storage.Room: a coordinator has nothing beside its blobs.
func (f files) FreeDisk(context.Context) error { return nil }

const (
	// tellMax is how long a word waits to be heard, and tellEvery how often it
	// is tried.
	tellMax   = 5 * time.Second
	tellEvery = 50 * time.Millisecond
)

// publisher spreads the capacity of this node.
type publisher struct{ host *p2p.Host }

// PublishCapacity implements executor.Publisher. The first word of a node comes
// before it is connected to anybody, and before it has read from the chain that
// it is a node, so it is tried again for a while.
func (p publisher) PublishCapacity(ctx context.Context, ad *wire.CapacityAd) error {
	raw, err := json.Marshal(ad)
	if err != nil {
		return fmt.Errorf("encode capacity: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		err := p.tell(ctx, raw)
		if !errors.Is(err, errs.Unavailable) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (p publisher) tell(ctx context.Context, raw []byte) error {
	if len(p.host.Listeners(wire.TopicCapacity)) == 0 {
		return errs.New(errs.Unavailable, "no peer listens to capacities")
	}
	return p.host.Publish(ctx, wire.TopicCapacity, raw)
}
