package swarm

import (
	"context"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Fetching returns how many contents are being fetched.
func (s *Swarm) Fetching() int { return s.flights.Len() }

// Own returns the host beside that of the mesh.
func (s *Swarm) Own() host.Host { return s.own }

// Announcer returns the pass that announces by provide.
func (s *Swarm) Announcer(interval time.Duration, provide func(context.Context, cid.Cid) error) func(context.Context, time.Time) error {
	a := &announcer{store: s.store, interval: interval, metrics: s.metrics, provide: provide, ready: func() bool { return true }}
	return a.pass
}

// PinPass returns the pass that gives a Kubo what is here.
func (s *Swarm) PinPass() func(context.Context, time.Time) error { return s.pinner.pass }

// Providers returns who has something, as the table says.
func (s *Swarm) Providers(ctx context.Context, c cid.Cid) []peer.ID {
	var out []peer.ID
	for info := range s.table.FindProvidersAsync(ctx, c, 1) {
		out = append(out, info.ID)
	}
	return out
}

// ReadPins reads the answer of a Kubo that was asked what is pinned under a name.
func ReadPins(in io.Reader, name string) (map[string]cid.Cid, error) {
	out := pinned{name: name, roots: map[string]cid.Cid{}}
	return out.roots, readLines(in, "pin/ls", out.add)
}
