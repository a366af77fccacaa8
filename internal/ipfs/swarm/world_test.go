package swarm_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
)

// waitMax bounds how long a test waits for something.
const waitMax = 30 * time.Second

// chunk is how long a leaf is.
const chunk = 256 << 10

// node is a store of content and its swarm.
type node struct {
	*swarm.Swarm
	store *ipfs.Store
	blobs *blob.Store
	mesh  host.Host
	reg   *prometheus.Registry
	close func()
}

// options of a node; the zero value is one of a mesh of its own.
type options struct {
	name     string // of the key
	dir      string
	maxBytes int64
	mesh     host.Host
	change   func(*swarm.Config)
	log      *slog.Logger // nil is that of the test
}

// impatient leaves a source soon that says nothing, where one does.
func impatient(c *swarm.Config) { c.StallTimeout = 5 * time.Second }

func identity(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("swarm test " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func connect(t testing.TB, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func newNode(t testing.TB, o options) *node {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.maxBytes == 0 {
		o.maxBytes = 1e9
	}
	n := &node{reg: prometheus.NewRegistry(), mesh: o.mesh}
	log := o.log
	if log == nil {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	if n.blobs, err = blob.Open(filepath.Join(o.dir, "blobs"), blob.Config{MaxSizeGB: float64(o.maxBytes) / 1e9}, n.reg, log); err != nil {
		t.Fatal(err)
	}
	if n.store, err = ipfs.Open(filepath.Join(o.dir, "ipfs"), content.Blobs(n.blobs), ipfs.DefaultConfig(), n.reg, log); err != nil {
		t.Fatal(err)
	}
	if n.mesh == nil {
		n.mesh = newHost(t)
	}
	cfg := swarm.DefaultConfig()
	cfg.ListenAddr, cfg.StallTimeout, cfg.FetchTimeout = "/ip4/127.0.0.1/tcp/0", waitMax, 2*waitMax
	if o.change != nil {
		o.change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	parts := swarm.Parts{Store: n.store, Identity: identity(o.name), Mesh: n.mesh, Room: func(_ context.Context, size int64) error { return n.blobs.Fits(size) }}
	if n.Swarm, err = swarm.Open(t.Context(), cfg, parts, n.reg, log); err != nil {
		t.Fatal(err)
	}
	n.close = func() {
		n.close = func() {}
		for _, c := range []io.Closer{n.Swarm, n.store, n.blobs} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() { n.close() })
	return n
}

// run runs a node until the test ends.
func (n *node) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func bytesOf(seed byte, size int) []byte {
	out := make([]byte, size)
	var sum [32]byte
	for i := 0; i < size; i += len(sum) {
		sum = sha256.Sum256(binary.BigEndian.AppendUint32([]byte{seed}, uint32(i)))
		copy(out[i:], sum[:])
	}
	return out
}

func (n *node) add(t testing.TB, data []byte) ipfs.Root {
	t.Helper()
	r, err := n.store.Add(t.Context(), bytes.NewReader(data), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *node) export(t testing.TB, c cid.Cid) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := n.store.Export(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fetched fetches content that must be that of another node.
func (n *node) fetched(t testing.TB, want ipfs.Root, from *node) {
	t.Helper()
	got, err := n.Fetch(t.Context(), want.CID)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if !bytes.Equal(n.export(t, want.CID), from.export(t, want.CID)) {
		t.Errorf("%s: the copy is another", want.CID)
	}
}

// notFetched wants content not to come, and nothing to be visible of it.
func (n *node) notFetched(t testing.TB, c cid.Cid, want errs.Kind) error {
	t.Helper()
	root, err := n.Fetch(t.Context(), c)
	if errs.KindOf(err) != want {
		t.Fatalf("got %+v, %v; want %s", root, err, want)
	}
	for r, err := range n.store.Roots(t.Context()) {
		t.Errorf("content %s is here, %v", r.CID, err)
	}
	if ok, err := n.store.Has(c); ok || err != nil {
		t.Errorf("block %s is here, %v", c, err)
	}
	all, err2 := n.blobs.List()
	if err2 != nil || len(all) > 0 {
		t.Errorf("blobs %v are here, %v", all, err2)
	}
	return err
}

// count reads a counter of a node, by its name and its labels in the order of theirs.
func (n *node) count(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := n.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := true
			for _, want := range labels {
				has := false
				for _, l := range m.GetLabel() {
					has = has || l.GetValue() == want
				}
				match = match && has
			}
			if match {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// wait polls until the condition holds.
func wait(t testing.TB, what string, holds func() bool) {
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
