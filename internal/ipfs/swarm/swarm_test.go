package swarm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-msgio"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
)

// TestNodesFetchFromEachOther: two nodes of one mesh have different content and both
// get both, files and a directory of shards, by bitswap alone.
func TestNodesFetchFromEachOther(t *testing.T) {
	a, b := newNode(t, options{name: "a"}), newNode(t, options{name: "b"})
	connect(t, a.mesh, b.mesh)
	file, small := a.add(t, bytesOf(1, 200*chunk+5)), b.add(t, []byte("small"))
	folder := a.addFolder(t, 3000)

	b.fetched(t, file, a)
	b.fetched(t, folder, a)
	a.fetched(t, small, b)

	if got := b.count(t, "aleph_ipfs_fetched_blocks_total", "mesh"); got < 200 {
		t.Errorf("%v blocks are counted as fetched", got)
	}
	if sent, got := a.count(t, "aleph_ipfs_served_bytes_total", "mesh"), b.count(t, "aleph_ipfs_fetched_bytes_total", "mesh"); sent < got {
		t.Errorf("%v bytes are counted as served, %v as fetched", sent, got)
	}
	if got := b.count(t, "aleph_ipfs_fetches_total", "mesh", "done"); got != 2 {
		t.Errorf("%v fetches are counted", got)
	}
}

// addFolder adds a directory of so many files whose names are long enough that it is
// sharded.
func (n *node) addFolder(t testing.TB, count int) ipfs.Root {
	t.Helper()
	tree, err := n.store.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		name := fmt.Sprintf("%s-%d", strings.Repeat("n", 80), i)
		if err := tree.Add(t.Context(), name, strings.NewReader(name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := tree.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestFetchesOfOneContentAreOne: many who want the same share one fetch.
func TestFetchesOfOneContentAreOne(t *testing.T) {
	a, b := newNode(t, options{name: "a"}), newNode(t, options{name: "b"})
	connect(t, a.mesh, b.mesh)
	want := a.add(t, bytesOf(1, 40*chunk))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, err := b.Fetch(t.Context(), want.CID); err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if got := b.count(t, "aleph_ipfs_fetches_total"); got != 1 {
		t.Errorf("%v sources were asked, want one", got)
	}
	if got := b.count(t, "aleph_ipfs_fetched_blocks_total"); got != 41 {
		t.Errorf("%v blocks came, want 41", got)
	}
}

// bad is a peer that answers each want as it likes.
func bad(t testing.TB, answer func(c cid.Cid, out message.BitSwapMessage)) host.Host {
	t.Helper()
	h := newHost(t)
	h.SetStreamHandler(bsnet.ProtocolBitswap, func(s network.Stream) {
		defer s.Close()
		in := msgio.NewVarintReaderSize(s, network.MessageSizeMax)
		for {
			msg, _, err := message.FromMsgReader(in)
			if err != nil {
				return
			}
			out := message.New(false)
			for _, e := range msg.Wantlist() {
				if !e.Cancel {
					answer(e.Cid, out)
				}
			}
			if out.Empty() {
				continue
			}
			back, err := h.NewStream(context.Background(), s.Conn().RemotePeer(), bsnet.ProtocolBitswap)
			if err != nil {
				return
			}
			_ = out.ToNetV1(back) // Who asked may have had enough.
			_ = back.Close()
		}
	})
	return h
}

// TestPeersThatLieOrStall: what they send is not taken, what is said to be here never
// comes, and the fetch ends in time, with nothing to be seen. When an honest peer
// comes the next try works.
func TestPeersThatLieOrStall(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(cid.Cid, message.BitSwapMessage){
		"wrong bytes": func(c cid.Cid, out message.BitSwapMessage) {
			lie, err := blocks.NewBlockWithCid([]byte("lie"), c)
			if err != nil {
				t.Error(err)
				return
			}
			out.AddHave(c)
			out.AddBlock(lie)
		},
		"stalls": func(c cid.Cid, out message.BitSwapMessage) { out.AddHave(c) },
		"silent": func(cid.Cid, message.BitSwapMessage) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // Each waits for a peer that says nothing.
			liar := bad(t, answer)
			honest := newNode(t, options{name: "honest"})
			n := newNode(t, options{name: "n", change: func(c *swarm.Config) { c.StallTimeout = 8 * time.Second }})
			want := honest.add(t, bytesOf(2, 3*chunk))
			connect(t, n.mesh, liar)

			err := n.notFetched(t, want.CID, errs.Unavailable)

			if !strings.Contains(err.Error(), "no block came in time") {
				t.Errorf("got %v", err)
			}
			if got := n.count(t, "aleph_ipfs_fetches_total", "mesh", "stalled"); got != 1 {
				t.Errorf("%v fetches are counted as stalled", got)
			}
			if err := liar.Close(); err != nil {
				t.Fatal(err)
			}
			connect(t, n.mesh, honest.mesh)
			n.fetched(t, want, honest)
		})
	}
}

// TestOthersAreAskedPastOneThatNeverSends: a peer says that it has every block and
// sends none, however often it is asked. One that is slower to say so sends them all.
func TestOthersAreAskedPastOneThatNeverSends(t *testing.T) {
	liar := bad(t, func(c cid.Cid, out message.BitSwapMessage) { out.AddHave(c) })
	honest, n := newNode(t, options{name: "honest"}), newNode(t, options{name: "n"})
	want := honest.add(t, bytesOf(7, 40*chunk))
	connect(t, n.mesh, liar)
	connect(t, n.mesh, honest.mesh)
	n.fetched(t, want, honest)
}

// TestEndlessLinksEnd: a peer that makes blocks without end, each of them right, is
// stopped by the bounds of content, and nothing is left.
func TestEndlessLinksEnd(t *testing.T) {
	deep := newNode(t, options{name: "deep"})
	root, all := chain(t, 200)
	other := bad(t, func(c cid.Cid, out message.BitSwapMessage) {
		if b, ok := all[c.KeyString()]; ok {
			out.AddBlock(b)
		}
	})
	connect(t, deep.mesh, other)
	err := deep.notFetched(t, root, errs.Invalid)
	if !strings.Contains(err.Error(), "blocks deep") || deep.blobs.Used() != 0 {
		t.Errorf("got %v, and %d bytes are left", err, deep.blobs.Used())
	}
	if got := deep.count(t, "aleph_ipfs_fetches_total", "mesh", "ended"); got != 1 {
		t.Errorf("%v fetches are counted as ended", got)
	}
}

// TestNoRoomLeavesNothing: the quota ends a fetch at once if the root tells how much
// there is, else in the middle.
func TestNoRoomLeavesNothing(t *testing.T) {
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(3, 20*chunk))
	for name, o := range map[string]options{
		"no room":  {name: "b", maxBytes: 10 * chunk},
		"too much": {name: "b", change: func(c *swarm.Config) { c.MaxFetchGB = 0.001 }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNode(t, o)
			connect(t, a.mesh, b.mesh)
			b.notFetched(t, want.CID, errs.Exhausted)
			if b.blobs.Used() != 0 {
				t.Errorf("%d bytes are left", b.blobs.Used())
			}
			if got := b.count(t, "aleph_ipfs_fetched_blocks_total"); got > 1 {
				t.Errorf("%v blocks came, want the root at most", got)
			}
		})
	}
}

// TestFetchesGoOnAfterARestart: a peer gives a part and falls silent; the node starts
// again, and of what it has nothing is sent twice.
func TestFetchesGoOnAfterARestart(t *testing.T) {
	a := newNode(t, options{name: "a"})
	want := a.add(t, bytesOf(4, 50*chunk))
	left := 20
	var mu sync.Mutex
	part := bad(t, func(c cid.Cid, out message.BitSwapMessage) {
		mu.Lock()
		defer mu.Unlock()
		if left == 0 {
			return
		}
		left--
		data, err := a.store.Block(c)
		if err != nil {
			t.Error(err)
			return
		}
		b, err := blocks.NewBlockWithCid(data, c)
		if err != nil {
			t.Error(err)
			return
		}
		out.AddBlock(b)
	})
	dir := t.TempDir()
	b := newNode(t, options{name: "b", dir: dir, change: impatient})
	connect(t, b.mesh, part)
	b.notFetched(t, want.CID, errs.Unavailable)
	came := b.count(t, "aleph_ipfs_fetched_blocks_total")
	if came == 0 || b.blobs.Used() == 0 {
		t.Fatalf("%v blocks came and %d bytes are kept, want some", came, b.blobs.Used())
	}
	b.close()

	b = newNode(t, options{name: "b", dir: dir})
	connect(t, b.mesh, a.mesh)
	b.fetched(t, want, a)
	if more := b.count(t, "aleph_ipfs_fetched_blocks_total"); came+more != 51 {
		t.Errorf("%v blocks came, then %v; want 51 in all", came, more)
	}
}

// TestFetchEndsWithItsCallers: who gives up gets an error, and when all have, the
// fetch ends; what came is gone on with later.
func TestFetchEndsWithItsCallers(t *testing.T) {
	silent := bad(t, func(cid.Cid, message.BitSwapMessage) {})
	n := newNode(t, options{name: "n"})
	connect(t, n.mesh, silent)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	c := newNode(t, options{name: "other"}).add(t, []byte("x")).CID
	go func() {
		_, err := n.Fetch(ctx, c)
		done <- err
	}()
	wait(t, "the fetch runs", func() bool { return n.Fetching() == 1 })
	cancel()
	if err := <-done; errs.KindOf(err) != errs.Unavailable {
		t.Errorf("got %v", err)
	}
	if n.Fetching() != 0 {
		t.Error("the fetch goes on")
	}
}

// TestAPeerThatAsksTooMuchIsRefused: beyond its rate a peer is told that nothing is
// here.
func TestAPeerThatAsksTooMuchIsRefused(t *testing.T) {
	a := newNode(t, options{name: "a", change: func(c *swarm.Config) { c.ServeRate = 5 }})
	b := newNode(t, options{name: "b", change: func(c *swarm.Config) { c.StallTimeout, c.FetchTimeout = 5*time.Second, 5*time.Second }})
	connect(t, a.mesh, b.mesh)
	want := a.add(t, bytesOf(5, 100*chunk))
	if _, err := b.Fetch(t.Context(), want.CID); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("got %v", err)
	}
	if got := a.count(t, "aleph_ipfs_refused_wants_total", "mesh"); got == 0 {
		t.Error("nothing was refused")
	}
	if got := a.count(t, "aleph_ipfs_served_blocks_total", "mesh"); got > 60 {
		t.Errorf("%v blocks were served at 5 a second", got)
	}
}

// TestContentIsAnnouncedAndFound: in a private network a node that was told of none
// of those who have something finds them by the table.
func TestContentIsAnnouncedAndFound(t *testing.T) {
	enabled := func(c *swarm.Config) { c.Enabled = true }
	hub := newNode(t, options{name: "hub", change: enabled})
	with := func(c *swarm.Config) { c.Enabled, c.BootstrapPeers = true, hub.Addrs() }
	a, b := newNode(t, options{name: "a", change: with}), newNode(t, options{name: "b", change: with})
	want := a.add(t, bytesOf(6, 5*chunk))
	for _, n := range []*node{hub, a, b} {
		n.run(t)
	}
	wait(t, "content is announced", func() bool { return a.count(t, "aleph_ipfs_provided_total", "done") == 1 })
	wait(t, "the table says who has it", func() bool { return slices.Contains(b.Providers(t.Context(), want.CID), a.Own().ID()) })

	b.fetched(t, want, a)

	if got := b.count(t, "aleph_ipfs_fetches_total", "swarm", "done"); got != 1 {
		t.Errorf("%v fetches from the swarm are counted", got)
	}
	if id := a.mesh.ID(); strings.Contains(strings.Join(a.Addrs(), " "), id.String()) {
		t.Error("the node has one name in both networks")
	}
}

// TestAnnouncementsFollowContent: new content is announced, what is announced is not
// until it is due again, and what went never.
func TestAnnouncementsFollowContent(t *testing.T) {
	n := newNode(t, options{name: "n"})
	var told []string
	var mu sync.Mutex
	failing := ""
	pass := n.Announcer(time.Hour, func(_ context.Context, c cid.Cid) error {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(c.Hash()))
		if string(c.Hash()) == failing {
			return errs.New(errs.Unavailable, "nobody listens")
		}
		return nil
	})
	now := time.Now()
	step := func(after time.Duration, want ...ipfs.Root) {
		t.Helper()
		told = nil
		now = now.Add(after)
		if err := pass(t.Context(), now); (err != nil) != (failing != "") {
			t.Errorf("got %v", err)
		}
		if len(told) != len(want) {
			t.Errorf("announces %d contents, want %d", len(told), len(want))
			return
		}
		for _, w := range want {
			if !strings.Contains(strings.Join(told, "|"), string(w.CID.Hash())) {
				t.Errorf("%s is not announced", w.CID)
			}
		}
	}
	step(0)
	a := n.add(t, []byte("a"))
	step(time.Minute, a)
	b := n.add(t, []byte("b"))
	step(time.Minute, b)
	step(time.Minute)
	failing = string(a.CID.Hash())
	step(58*time.Minute, a)
	failing = ""
	step(time.Second, a)
	if _, err := n.store.Delete(a.CID); err != nil {
		t.Fatal(err)
	}
	step(2*time.Hour, b)
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*swarm.Config){
		"max_index_gb":                   func(c *swarm.Config) { c.MaxIndexGB = 0 },
		"listen_addr":                    func(c *swarm.Config) { c.ListenAddr = "127.0.0.1:4001" },
		"neither /tcp/":                  func(c *swarm.Config) { c.ListenAddr = "/ip4/127.0.0.1" },
		"bootstrap_peers":                func(c *swarm.Config) { c.BootstrapPeers = []string{"/ip4/127.0.0.1/tcp/1"} },
		`dht is "lan"`:                   func(c *swarm.Config) { c.DHT = "lan" },
		"provide_interval":               func(c *swarm.Config) { c.ProvideInterval = 0 },
		"max_fetch_gb":                   func(c *swarm.Config) { c.MaxFetchGB = -1 },
		"max_fetches":                    func(c *swarm.Config) { c.MaxFetches = 0 },
		"stall_timeout":                  func(c *swarm.Config) { c.StallTimeout = 0 },
		"fetch_timeout":                  func(c *swarm.Config) { c.FetchTimeout = time.Second },
		"serve_rate":                     func(c *swarm.Config) { c.ServeRate = 0 },
		"gateways: want http":            func(c *swarm.Config) { c.Gateways = []string{"ipfs.example"} },
		"kubo_rpc: want http":            func(c *swarm.Config) { c.KuboRPC = "/ip4/127.0.0.1/tcp/5001" },
		"kubo_pin is true, and kubo_rpc": func(c *swarm.Config) { c.KuboPin = true },
	} {
		c := swarm.DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if err := swarm.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// TestByDefaultNobodyIsMet: without a word in the configuration the node has no
// host beside its own network's.
func TestByDefaultNobodyIsMet(t *testing.T) {
	c := swarm.DefaultConfig()
	if c.Enabled || len(c.BootstrapPeers)+len(c.Gateways) > 0 || c.KuboRPC != "" {
		t.Errorf("the defaults are %+v", c)
	}
	addr, err := ma.NewMultiaddr(c.ListenAddr)
	if err != nil || !strings.HasPrefix(addr.String(), "/ip4/127.0.0.1/") {
		t.Errorf("listens at %v, %v", addr, err)
	}
	if n := newNode(t, options{name: "n"}); n.Addrs() != nil {
		t.Errorf("listens at %v", n.Addrs())
	}
}
