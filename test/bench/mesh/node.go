package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

// line joins two nodes and counts what goes over it.
type line struct {
	mu             sync.Mutex
	kinds          map[string]p2p.AskHandler // Of the node that has all; guarded by mu.
	answers, bytes atomic.Int64
}

// end is a node's end of a line. The node that has all asks nobody.
type end struct {
	line *line
	asks bool
}

// Publish implements ingest.Network.
func (end) Publish(context.Context, string, []byte) error { return nil }

// Subscribe implements ingest.Network.
func (end) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error { return nil }

// Listeners implements ingest.Network.
func (end) Listeners(string) []p2p.PeerID { return nil }

// Connected implements ingest.Network.
func (e end) Connected() []p2p.PeerID {
	if e.asks {
		return []p2p.PeerID{"full"}
	}
	return nil
}

// HandleAsk implements ingest.Network.
func (e end) HandleAsk(kind string, fn p2p.AskHandler) {
	if e.asks {
		return
	}
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	e.line.kinds[kind] = fn
}

// Ask implements ingest.Network.
func (e end) Ask(ctx context.Context, _ p2p.PeerID, request, reply any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return err
	}
	way := time.NewTimer(roundTrip)
	defer way.Stop()
	select {
	case <-way.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.line.mu.Lock()
	fn := e.line.kinds[string(ask.Kind)]
	e.line.mu.Unlock()
	a, err := fn(ctx, "other", raw)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(a.Reply)
	if err != nil {
		return err
	}
	const heads = 8 // Of both frames.
	e.line.answers.Add(1)
	e.line.bytes.Add(int64(len(raw) + len(answer) + heads))
	return json.Unmarshal(answer, reply)
}

// nothing has no files.
type nothing struct{}

// Stat implements ingest.Files.
func (nothing) Stat(context.Context, message.ItemHash) (state.FileInfo, error) {
	return state.FileInfo{}, errs.New(errs.NotFound, "no file")
}

// Fetch implements ingest.Files.
func (nothing) Fetch(context.Context, message.ItemHash) error {
	return errs.New(errs.NotFound, "no file")
}

// Read implements ingest.Files.
func (nothing) Read(context.Context, message.ItemHash, int64) ([]byte, error) {
	return nil, errs.New(errs.NotFound, "no file")
}

// open opens a node.
func open(ctx context.Context, dir string, e end) (*state.DB, *ingest.Pipeline, error) {
	db, err := state.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	cfg := ingest.DefaultConfig()
	cfg.CatchUpInterval = time.Second
	domain := job.Jobs(big.NewInt(1), common.Address{1})
	p, err := ingest.New(cfg, domain, db, e, nothing{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, p, nil
}

// setOf is the fingerprint of what counts.
func setOf(ctx context.Context, db *state.DB) (reconcile.Sum, error) {
	sums, err := db.MessageSet(ctx).Sums([]reconcile.Point{reconcile.Start(), reconcile.End()})
	if err != nil {
		return reconcile.Sum{}, err
	}
	return sums[0], nil
}
