package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

const (
	// announceEvery is the time between two looks at what is to be announced.
	announceEvery = 5 * time.Second
	// announceDelayMax bounds the pause after failed looks.
	announceDelayMax = 5 * time.Minute
	// provideParallel is how many contents are announced at the same time, provideMax
	// how long one may take, and provideBatch how many one look announces.
	provideParallel, provideBatch = 8, 256
	provideMax                    = time.Minute
	// pinEvery is the time after which Kubo is asked what it has pinned even if
	// nothing changed here, and pinMax bounds giving it one content.
	pinEvery = time.Hour
	pinMax   = 30 * time.Minute
)

// announcer tells the DHT what is here. A table cannot be told that something went:
// what is not announced again is forgotten there.
type announcer struct {
	store    *ipfs.Store
	provide  func(ctx context.Context, c cid.Cid) error
	ready    func() bool // There is somebody to tell.
	interval time.Duration
	metrics  *metrics

	looked  bool
	changes uint64               // of the store, when its roots were listed last
	given   map[string]time.Time // by multihash, when it was announced; zero for what was not yet
}

// pass announces what is due.
func (a *announcer) pass(ctx context.Context, now time.Time) error {
	if !a.ready() {
		return nil
	}
	if err := a.list(ctx); err != nil {
		return err
	}
	due := make([]string, 0, provideBatch)
	for hash, at := range a.given {
		if now.Sub(at) >= a.interval {
			due = append(due, hash)
		}
	}
	slices.SortFunc(due, func(x, y string) int {
		return cmp.Or(a.given[x].Compare(a.given[y]), cmp.Compare(x, y))
	})
	due = due[:min(len(due), provideBatch)]
	failed := make([]error, len(due))
	each(len(due), provideParallel, func(i int) { failed[i] = a.announce(ctx, due[i]) })
	var first error
	for i, err := range failed {
		if err == nil {
			a.given[due[i]] = now
			a.metrics.provided.WithLabelValues("done").Inc()
			continue
		}
		a.metrics.provided.WithLabelValues("failed").Inc()
		if first == nil {
			first = err // One says what is wrong.
		}
	}
	return first
}

// each calls fn with 0 to n-1, several at the same time.
func each(n, parallel int, fn func(i int)) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, parallel)
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			fn(i)
		})
	}
	wg.Wait()
}

// list takes note of which roots there are.
func (a *announcer) list(ctx context.Context) error {
	changes := a.store.Changes()
	if a.looked && changes == a.changes {
		return nil
	}
	given := map[string]time.Time{}
	for root, err := range a.store.Roots(ctx) {
		if err != nil {
			return fmt.Errorf("list what is to be announced: %w", err)
		}
		if root.CID.Prefix().MhType == mh.IDENTITY {
			continue // Who has the CID has the content.
		}
		hash := string(root.CID.Hash())
		given[hash] = a.given[hash]
	}
	a.looked, a.changes, a.given = true, changes, given
	return nil
}

func (a *announcer) announce(ctx context.Context, hash string) error {
	ctx, cancel := context.WithTimeout(ctx, provideMax)
	defer cancel()
	c := cid.NewCidV1(cid.Raw, mh.Multihash(hash)) // The table knows no codecs.
	if err := a.provide(ctx, c); err != nil {
		return fmt.Errorf("announce %s: %w", c, err)
	}
	return nil
}

// pinner keeps in a Kubo what is kept here.
type pinner struct {
	store *ipfs.Store
	kubo  kubo
	name  string

	changes  uint64
	lookedAt time.Time
}

// pass gives Kubo what it lacks, and lets it forget what went.
func (p *pinner) pass(ctx context.Context, now time.Time) error {
	changes := p.store.Changes()
	if changes == p.changes && now.Sub(p.lookedAt) < pinEvery {
		return nil
	}
	pinned, err := p.kubo.pins(ctx, p.name)
	if err != nil {
		return fmt.Errorf("ask Kubo what it has pinned: %w", err)
	}
	var failed error
	wanted := map[string]struct{}{}
	for root, err := range p.store.Roots(ctx) {
		if err != nil {
			return fmt.Errorf("list what is to be pinned: %w", err)
		}
		hash := string(root.CID.Hash())
		_, twice := wanted[hash]
		wanted[hash] = struct{}{}
		if _, ok := pinned[hash]; ok || twice {
			continue
		}
		if err := p.pin(ctx, root.CID); err != nil {
			failed = errors.Join(failed, err) // Others may be taken.
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	for hash, c := range pinned {
		if _, ok := wanted[hash]; ok {
			continue
		}
		if err := p.kubo.unpin(ctx, c); err != nil {
			failed = errors.Join(failed, fmt.Errorf("let Kubo forget %s: %w", c, err))
		}
	}
	if failed == nil {
		p.changes, p.lookedAt = changes, now
	}
	return failed
}

func (p *pinner) pin(ctx context.Context, c cid.Cid) error {
	ctx, cancel := context.WithTimeout(ctx, pinMax)
	defer cancel()
	err := p.kubo.importDAG(ctx, func(w io.Writer) error { return p.store.Export(ctx, c, w) })
	if err == nil {
		err = p.kubo.pin(ctx, c, p.name)
	}
	if err != nil {
		return fmt.Errorf("give Kubo %s: %w", c, err)
	}
	return nil
}
