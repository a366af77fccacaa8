package ingest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

const (
	// knownMax bounds the differences from a peer that are known, each way.
	knownMax = 4096
	// knownAge is after how long they are looked for anew: what was refused may have
	// been refused for its signature, and peers change too.
	knownAge = time.Hour
)

// known is in what a peer differs though it was asked: what it counts and this node
// refuses or waits with, and what it has not got yet. Comparing goes as if this node had what the peer has,
// so that it is not said again. It is ready when zero.
type known struct {
	more, fewer map[message.ItemHash]reconcile.Point
	since       time.Time
}

// over is the set as the peer is known to have it.
func (k *known) over(s reconcile.Set) reconcile.Set {
	if len(k.more)+len(k.fewer) == 0 {
		return s
	}
	return reconcile.Overlay{Set: s, More: inOrder(k.more), Fewer: inOrder(k.fewer)}
}

func inOrder(of map[message.ItemHash]reconcile.Point) []reconcile.Point {
	out := make([]reconcile.Point, 0, len(of))
	for _, p := range of {
		out = append(out, p)
	}
	slices.SortFunc(out, reconcile.Point.Compare)
	return out
}

// keeps is that the peer counts what this node does not.
func (k *known) keeps(p reconcile.Point) { k.put(&k.more, p) }

// lacks is that the peer has not what this node seemed to have.
func (k *known) lacks(p reconcile.Point) {
	if k.more[p.Hash] == p {
		delete(k.more, p.Hash)
		return
	}
	k.put(&k.fewer, p)
}

// has is that the peer has what is here, now or at another time: contents in files need
// not say when they were made.
func (k *known) has(p reconcile.Point) {
	if k.fewer[p.Hash] == p {
		delete(k.fewer, p.Hash)
		return
	}
	k.put(&k.more, p)
}

func (k *known) put(into *map[message.ItemHash]reconcile.Point, p reconcile.Point) {
	if len(*into) >= knownMax {
		return // It is found again, which costs a longer pause; see judge.
	}
	if *into == nil {
		*into = map[message.ItemHash]reconcile.Point{}
	}
	(*into)[p.Hash] = p
}

// prune forgets what is not so any more on this side, and all that is old.
func (k *known) prune(ctx context.Context, db *state.DB, now time.Time) error {
	if now.Sub(k.since) > knownAge {
		*k = known{since: now}
	}
	for _, side := range []map[message.ItemHash]reconcile.Point{k.fewer, k.more} {
		hashes := slices.Collect(maps.Keys(side))
		here, err := db.Standings(ctx, hashes)
		if err != nil {
			return err
		}
		for _, hash := range hashes {
			// What is in both has another time there.
			_, moved := k.fewer[hash]
			if isCounted(here[hash].Status) != moved {
				delete(side, hash)
			}
		}
	}
	return nil
}
