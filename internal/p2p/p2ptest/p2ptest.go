// Package p2ptest makes small networks of real hosts on loopback for the tests
// of other packages.
package p2ptest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// waitMax bounds how long Wait waits before the test fails.
const waitMax = 30 * time.Second

// Key returns the identity key that the name always gives.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("p2ptest " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Config returns the settings of a host on loopback that knows some peers. It listens
// on TCP only: machines that run tests have small buffers for QUIC.
func Config(bootstrap ...string) p2p.Config {
	cfg := p2p.DefaultConfig()
	cfg.ListenAddr, cfg.BootstrapPeers = "/ip4/127.0.0.1/tcp/0", bootstrap
	return cfg
}

// Open returns a host on loopback with the key of its name, closed when the
// test ends. Register handlers, then call Start.
func Open(t testing.TB, name string, bootstrap ...string) *p2p.Host {
	t.Helper()
	return OpenWith(t, Config(bootstrap...), name, nil)
}

// OpenWith is Open with a configuration and a book.
func OpenWith(t testing.TB, cfg p2p.Config, name string, book p2p.Book) *p2p.Host {
	t.Helper()
	h, err := p2p.Open(t.Context(), cfg, Key(name), book, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("open host %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host %s: %v", name, err)
		}
	})
	return h
}

// Start runs the hosts until the test ends or stop is called.
func Start(t testing.TB, hosts ...*p2p.Host) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			if err := h.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("run host %s: %v", h.ID(), err)
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// Wait polls until the condition holds and fails the test if it never does.
func Wait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitMax)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain until %s", waitMax, what)
		case <-tick.C:
		}
	}
}

// Meet waits until every host is connected to every other.
func Meet(t testing.TB, hosts ...*p2p.Host) {
	t.Helper()
	Wait(t, "all hosts are connected", func() bool {
		for _, a := range hosts {
			for _, b := range hosts {
				if a != b && !slices.Contains(a.Connected(), b.ID()) {
					return false
				}
			}
		}
		return true
	})
}
