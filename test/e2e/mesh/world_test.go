//go:build e2e

// Package mesh_test breaks a message network of real processes: each node has a network
// namespace of its own on a wire that the tests cut, slow down and make lossy (test/e2e/wire).
// What is published meanwhile must, once all is well again, be the same on every honest node.
//
// The files whose names say what breaks have the tests. world_test.go makes the network,
// node_test.go runs a node, load_test.go publishes, and picture_test.go compares.
package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/test/e2e/wire"
)

var (
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what decides which packets are lost, who publishes what, and who is killed when")
	// Connections that lost much wait long before they try again.
	waitMax = flag.Duration("wait", 3*time.Minute, "the longest that anything may take, on a busy machine")
)

const (
	// pollEvery is how often a condition is looked at.
	pollEvery = 200 * time.Millisecond
	// identities are registered on the chain at the beginning.
	identities = 16
	rpcPort    = 8545
)

func TestMain(m *testing.M) {
	flag.Parse()
	if path := os.Getenv(liarVariable); path != "" {
		os.Exit(lie(path))
	}
	os.Exit(m.Run())
}

// world is a wire with a chain at it that every node reaches, and nodes.
type world struct {
	net       *wire.Net
	r         *rand.Rand
	dir       string
	deployed  *deploy.Deployment
	keys      []keys // Registered, and of no node yet.
	nodes     []*node
	addresses byte // Given so far.
	said      []*said
	authors   []*author
}

// keys are the files of an identity, and its name.
type keys struct {
	dir  string
	peer p2p.PeerID
}

// addr is the n-th address of the network. It is none of those for private use, with
// which nodes would take each other for neighbours; nothing leaves the namespaces.
func addr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{20, 0, 0, n}) }

// newWorld makes a wire and a chain at it.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace with a TUN device needs root")
	}
	t.Logf("seed %d", *seed)
	w := &world{net: wire.New(*seed), r: rand.New(rand.NewPCG(*seed, 1)), dir: t.TempDir()}
	t.Cleanup(func() {
		if err := w.net.Close(); err != nil {
			t.Error(err)
		}
	})
	w.startChain(t)
	w.authors = newAuthors(t)
	return w
}

// join adds a host with the next address.
func (w *world) join(t *testing.T, name string) *wire.Host {
	t.Helper()
	w.addresses++
	h, err := w.net.Join(name, addr(w.addresses))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// startChain makes a chain with the contracts and the identities of nodes. It is in this
// process, and a host of its own passes on to it.
func (w *world) startChain(t *testing.T) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	c, err := devchain.Open(devchain.Config{}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("chain: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.register(t, client)

	l, err := w.join(t, "chain").Listen(t.Context(), "tcp4", fmt.Sprintf("%s:%d", addr(1), rpcPort))
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}}
	go func() { _ = proxy.Serve(l) }()
	t.Cleanup(func() { proxy.Close() })
}

// register deploys the contracts and lets all identities join.
func (w *world) register(t *testing.T, client *chain.Client) {
	t.Helper()
	whole := func(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	accounts := devchain.Accounts()
	params.Pools = deploy.Pools{Stakers: accounts[2].Address, Coordinators: accounts[3].Address, Development: accounts[4].Address}
	owner := accounts[1]
	extras := deploy.Extras{Grants: []deploy.Grant{{To: owner.Address, AlephWei: whole(identities * 250_000)}}}
	if w.deployed, err = deploy.Deploy(t.Context(), client, accounts[0].Key, params, extras); err != nil {
		t.Fatal(err)
	}
	var joining []deploy.Node
	for i := range identities {
		k := keys{dir: filepath.Join(w.dir, fmt.Sprint("keys", i))}
		opened, err := keystore.Open(k.dir, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if k.peer, err = p2p.PeerIDOf(opened.Identity); err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, k)
		joining = append(joining, deploy.Node{Owner: owner.Key, Signer: opened.Signer, Kind: job.KindCoordinator, PeerID: k.peer.Bytes(), EtherWei: whole(1)})
	}
	if _, err := deploy.Join(t.Context(), client, w.deployed.Contracts, joining...); err != nil {
		t.Fatal(err)
	}
}

// takeKeys gives away an identity that is registered.
func (w *world) takeKeys(t *testing.T) keys {
	t.Helper()
	if len(w.keys) == 0 {
		t.Fatalf("more than %d identities are needed", identities)
	}
	k := w.keys[0]
	w.keys = w.keys[1:]
	return k
}

// every calls fn for each ordered pair of the nodes.
func every(nodes []*node, fn func(a, b *node)) {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				fn(a, b)
			}
		}
	}
}

// heal makes every link between nodes perfect.
func (w *world) heal() { w.links(wire.Link{}) }

// links makes every link between nodes alike. That to the chain stays as it is.
func (w *world) links(how wire.Link) {
	every(w.nodes, func(a, b *node) { w.net.Set(a.host, b.host, how) })
}

// cut cuts every link from the one nodes to the others, in that direction.
func (w *world) cut(from, to []*node) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				w.net.Set(a.host, b.host, wire.Link{Cut: true})
			}
		}
	}
}

// mend makes the link from one node to another perfect.
func (w *world) mend(from, to *node) { w.net.Set(from.host, to.host, wire.Link{}) }

// part cuts every link between nodes of different groups, in both directions.
func (w *world) part(groups ...[]*node) {
	for i, a := range groups {
		for k, b := range groups {
			if i != k {
				w.cut(a, b)
			}
		}
	}
}

// eventually waits until fn gives no error.
func eventually(t *testing.T, what string, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *waitMax)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := fn(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err // Else it is only that time is up.
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v long not: %s: %v", *waitMax, what, last)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
