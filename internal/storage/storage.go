// Package storage brings blobs from the nodes that have them to the node that
// needs them, and serves to others what is here.
//
// No peer is trusted: a blob becomes visible after its bytes hash to its name.
// A peer that sends other bytes is not asked for that blob again. A file of IPFS, which
// compute nodes fetch from servers, becomes a blob after its bytes match its CID.
//
// It also deletes the files that no row pins any more; see Collector.
package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/flight"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// kindHas is the question whether a node has a blob.
const kindHas = "has"

// Network is how a Keeper reaches other nodes; p2p.Host is one.
type Network interface {
	Connected() []p2p.PeerID
	Bootstrap() []p2p.PeerID
	Ask(ctx context.Context, id p2p.PeerID, request, reply any) error
	OpenBlob(ctx context.Context, id p2p.PeerID, hash message.ItemHash, offset int64) (io.ReadCloser, int64, error)
	HandleAsk(kind string, fn p2p.AskHandler)
	HandleBlob(fn p2p.BlobHandler)
}

// Keeper fetches and serves blobs. Use New. It is safe for concurrent use.
type Keeper struct {
	blobs   *blob.Store
	net     Network
	log     *slog.Logger
	fetches *prometheus.CounterVec // outcome
	room    Room                   // nil deletes nothing; see Reclaim
	servers []Server               // See AskServers.
	names   *names                 // nil fetches no files of IPFS; see FetchContent

	flights  flight.Group[message.ItemHash, blob.Info]
	watchers watchers
}

// New returns a Keeper of the blobs in the store, and serves them to peers.
func New(blobs *blob.Store, net Network, reg prometheus.Registerer, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{
		blobs: blobs, net: net, log: log, watchers: watchers{of: map[message.ItemHash]map[*watcher]struct{}{}},
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aleph_storage_fetches_total", Help: "Transfers of blobs from peers by outcome.",
		}, []string{"outcome"}),
	}
	if err := reg.Register(k.fetches); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	net.HandleBlob(k.serve)
	net.HandleAsk(kindHas, k.serveHas)
	return k, nil
}

// Stat returns the length of a blob that is here, or errs.NotFound. Who asks counts
// on it and may be about to say that it must stay, so this is a use: see
// blob.Store.MakeRoom.
func (k *Keeper) Stat(hash message.ItemHash) (blob.Info, error) { return k.blobs.Use(hash, time.Now()) }

// serve opens a blob for a peer.
func (k *Keeper) serve(_ context.Context, _ p2p.PeerID, hash message.ItemHash) (io.ReadSeekCloser, int64, error) {
	r, err := k.blobs.Open(hash)
	if err != nil {
		return nil, 0, err
	}
	return r, r.Info.Size, nil
}

// hasRequest and hasReply are the question and answer of kindHas.
type hasRequest struct {
	Kind string           `json:"kind"`
	Hash message.ItemHash `json:"hash"`
}

type hasReply struct {
	Has  bool  `json:"has"`
	Size int64 `json:"size,omitempty"` // bytes
}

func (k *Keeper) serveHas(_ context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	var req hasRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "decode question: %w", err)
	}
	info, err := k.blobs.Stat(req.Hash)
	switch errs.KindOf(err) {
	case "":
		return p2p.Answer{Reply: hasReply{Has: true, Size: info.Size}}, nil
	case errs.NotFound:
		return p2p.Answer{Reply: hasReply{}}, nil
	default:
		return p2p.Answer{}, err
	}
}
