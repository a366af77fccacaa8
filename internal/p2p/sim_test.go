package p2p_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/libp2p/go-msgio"
	"github.com/marcopolo/simnet"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// world is a network of real hosts on virtual time, in which all that a host sends is
// carried by a simulation of packets.
type world struct {
	t    *testing.T
	net  *simnet.Simnet
	link simnet.NodeBiDiLinkSettings
	next int
	keep p2p.Keep // Of each host.
}

const (
	simMbps    = 200
	simLatency = 10 * time.Millisecond
)

// simulate runs a test in a world.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simLatency)
		defer w.net.Close()
		test(w)
	})
}

// newWorld returns a world in which a packet takes as long as oneWay says.
func newWorld(t *testing.T, oneWay time.Duration) *world {
	t.Helper()
	link := simnet.LinkSettings{BitsPerSecond: simMbps * simlibp2p.OneMbps}
	w := &world{t: t, net: &simnet.Simnet{LatencyFunc: simnet.StaticLatency(oneWay)}, link: simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}, keep: p2p.Usual()}
	w.net.Start()
	return w
}

// options put a host of the library into the world, at an address of its own.
func (w *world) options() (addr string, opts []libp2p.Option) {
	w.next++
	addr = fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(w.next))
	return addr, []libp2p.Option{simlibp2p.QUICSimnet(w.net, w.link), libp2p.DisableIdentifyAddressDiscovery(), dialsNobodyBack}
}

// dialsNobodyBack leaves out what dials others back, for which the library opens hosts on the
// real network. test/e2e/mesh has that.
func dialsNobodyBack(cfg *libp2p.Config) error {
	cfg.EnableAutoNATv2, cfg.AutoNATConfig.EnableService = false, false
	return nil
}

// open opens a host.
func (w *world) open(name string, reg prometheus.Registerer, change func(*p2p.Config), more ...libp2p.Option) *p2p.Host {
	w.t.Helper()
	cfg := p2ptest.Config()
	cfg.Reachability, cfg.RelayService, cfg.HolePunching = p2p.ReachPublic, false, false
	addr, opts := w.options()
	cfg.ListenAddr = addr
	if change != nil {
		change(&cfg)
	}
	h, err := p2p.OpenKeeping(w.t.Context(), cfg, p2ptest.Key(name), reg, w.keep, append(opts, more...)...)
	if err != nil {
		w.t.Fatalf("open host %s: %v", name, err)
	}
	return h
}

// run runs hosts until stop, which closes them.
func (w *world) run(hosts ...*p2p.Host) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			if err := h.Run(ctx); !errors.Is(err, context.Canceled) {
				w.t.Errorf("run host %s: %v", h.ID(), err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		for _, h := range hosts {
			if err := h.Close(); err != nil {
				w.t.Errorf("close host: %v", err)
			}
		}
	}
}

// ear notes what a host hears.
type ear struct {
	mu    sync.Mutex
	heard map[string]int
}

func (e *ear) hear(_ context.Context, g p2p.Gossip) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heard == nil {
		e.heard = map[string]int{}
	}
	e.heard[string(g.Data)]++
}

func (e *ear) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[text] > 0
}

func (e *ear) count(prefix string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for text, times := range e.heard {
		if strings.HasPrefix(text, prefix) {
			n += times
		}
	}
	return n
}

const simTopic = "news"

// judgeLies rejects what begins with "lie".
func judgeLies(_ context.Context, g *p2p.Gossip) p2p.Verdict {
	if strings.HasPrefix(string(g.Data), "lie") {
		return p2p.Reject
	}
	return p2p.Accept
}

// publish publishes a text.
func (w *world) publish(h *p2p.Host, text string) {
	w.t.Helper()
	if err := h.Publish(w.t.Context(), simTopic, []byte(text)); err != nil {
		w.t.Fatalf("publish %.20s: %v", text, err)
	}
}

// three opens a victim, an honest peer and a villain, who know each other.
func (w *world) three(rate int) (victim, honest, villain *p2p.Host, heard *ear, stop func()) {
	w.t.Helper()
	victim = w.open("victim", prometheus.NewRegistry(), func(c *p2p.Config) { c.PublishRate = rate })
	honest = w.open("honest", prometheus.NewRegistry(), func(c *p2p.Config) { c.PublishRate, c.BootstrapPeers = rate, victim.Addrs() })
	villain = w.open("villain", prometheus.NewRegistry(), func(c *p2p.Config) {
		c.BootstrapPeers = append(victim.Addrs(), honest.Addrs()...)
		c.Profile = p2p.ProfileAleph // It tells all that it knows, whether they want it in their mesh or not.
	})
	heard = &ear{}
	for _, err := range []error{
		victim.Subscribe(simTopic, judgeLies, heard.hear), honest.Subscribe(simTopic, judgeLies, drop), villain.Subscribe(simTopic, accept, drop),
	} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	stop = w.run(victim, honest, villain)
	time.Sleep(5 * time.Second) // Virtual: the mesh forms.
	for _, h := range []*p2p.Host{honest, villain} {
		text := "hello of " + string(h.ID())
		w.publish(h, text)
		time.Sleep(time.Second)
		if !heard.has(text) {
			w.t.Fatalf("%s is not heard at the beginning", text)
		}
	}
	return victim, honest, villain, heard, stop
}

// standsLow checks that the victim does not hear the villain, and the honest peer still.
func (w *world) standsLow(victim, honest, villain *p2p.Host, heard *ear) {
	w.t.Helper()
	if s := p2p.Score(victim, villain.ID()); s > -100 {
		w.t.Errorf("the villain's standing is %.1f, want it below -100", s)
	}
	if s := p2p.Score(victim, honest.ID()); s < 0 {
		w.t.Errorf("the honest peer's standing is %.1f, want at least 0", s)
	}
	w.publish(villain, "while not heard")
	w.publish(honest, "honest word")
	time.Sleep(2 * time.Second)
	if heard.has("while not heard") {
		w.t.Error("the victim hears the villain")
	}
	if !heard.has("honest word") {
		w.t.Error("the victim does not hear the honest peer")
	}
}

// recovers checks that the villain is heard again after a time in which it behaved.
func (w *world) recovers(victim, villain *p2p.Host, heard *ear, after time.Duration) {
	w.t.Helper()
	time.Sleep(after)
	if s := p2p.Score(victim, villain.ID()); s < -10 {
		w.t.Errorf("the villain's standing is %.1f after %v of behaving, want nearly none", s, after)
	}
	w.publish(villain, "changed for good")
	time.Sleep(2 * time.Second)
	if !heard.has("changed for good") {
		w.t.Errorf("the villain is not heard after %v of behaving", after)
	}
}

func TestAFlooderIsNotHeardUntilItBehaves(t *testing.T) {
	const rate, flood = 20, 2000
	simulate(t, func(w *world) {
		victim, honest, villain, heard, stop := w.three(rate)
		defer stop()

		for i := range flood {
			w.publish(villain, fmt.Sprintf("flood %d", i))
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond) // So that its own queue is no limit.
			}
		}
		time.Sleep(3 * time.Second)

		if n := heard.count("flood"); n < 10*rate || n > 15*rate {
			w.t.Errorf("%d of %d messages are heard, want about the burst of %d", n, flood, 10*rate)
		}
		w.standsLow(victim, honest, villain, heard)
		w.recovers(victim, villain, heard, 10*time.Minute)
	})
}

func TestALiarIsNotHeardUntilItBehaves(t *testing.T) {
	simulate(t, func(w *world) {
		victim, honest, villain, heard, stop := w.three(1000)
		defer stop()

		for i := range 20 {
			w.publish(villain, fmt.Sprintf("lie %d", i))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)

		if n := heard.count("lie"); n > 0 {
			w.t.Errorf("%d lies are heard", n)
		}
		w.standsLow(victim, honest, villain, heard)
		w.recovers(victim, villain, heard, 30*time.Minute)
	})
}

// replayer is a peer that speaks gossip by hand.
type replayer struct {
	w      *world
	key    crypto.PrivKey
	id     peer.ID
	stream network.Stream
}

// frame returns a frame with a signed message.
func (r *replayer) frame(seqno byte, text string) []byte {
	r.w.t.Helper()
	topic := simTopic
	m := &pb.Message{From: []byte(r.id), Data: []byte(text), Seqno: []byte{0, 0, 0, 0, 0, 0, 0, seqno}, Topic: &topic}
	raw, err := proto.Marshal(m)
	if err == nil {
		m.Signature, err = r.key.Sign(append([]byte("libp2p-pubsub:"), raw...))
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
	frame, err := proto.Marshal(&pb.RPC{Publish: []*pb.Message{m}})
	if err != nil {
		r.w.t.Fatal(err)
	}
	return frame
}

func (r *replayer) send(frame []byte) {
	r.w.t.Helper()
	if err := msgio.NewVarintWriter(r.stream).WriteMsg(frame); err != nil {
		r.w.t.Fatal(err)
	}
}

func TestAReplayerIsNotHeardUntilItBehaves(t *testing.T) {
	simulate(t, func(w *world) {
		victim := w.open("victim", prometheus.NewRegistry(), nil)
		heard := &ear{}
		if err := victim.Subscribe(simTopic, accept, heard.hear); err != nil {
			w.t.Fatal(err)
		}
		defer w.run(victim)()
		key, err := crypto.UnmarshalEd25519PrivateKey(p2ptest.Key("replayer"))
		if err != nil {
			w.t.Fatal(err)
		}
		addr, opts := w.options()
		host, err := libp2p.New(append(opts, libp2p.Identity(key), libp2p.ListenAddrStrings(addr))...)
		if err != nil {
			w.t.Fatal(err)
		}
		defer host.Close()
		host.SetStreamHandler("/meshsub/1.1.0", func(s network.Stream) {
			buf := make([]byte, 1<<10)
			for err := error(nil); err == nil; {
				_, err = s.Read(buf)
			}
		})
		if err := host.Connect(w.t.Context(), p2p.Inner(victim).Peerstore().PeerInfo(p2p.Inner(victim).ID())); err != nil {
			w.t.Fatal(err)
		}
		r := &replayer{w: w, key: key, id: host.ID()}
		if r.stream, err = host.NewStream(w.t.Context(), p2p.Inner(victim).ID(), "/meshsub/1.1.0"); err != nil {
			w.t.Fatal(err)
		}
		id := p2p.PeerID(host.ID().String())
		time.Sleep(time.Second)

		again := r.frame(1, "said once")
		for i := range 1000 {
			r.send(again)
			if i%50 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(3 * time.Second)

		if n := heard.count("said once"); n != 1 {
			w.t.Errorf("heard %d times, want once", n)
		}
		if s := p2p.Score(victim, id); s > -100 {
			w.t.Errorf("the replayer's standing is %.1f, want it below -100", s)
		}
		r.send(r.frame(2, "while not heard"))
		time.Sleep(time.Second)
		if heard.has("while not heard") {
			w.t.Error("the victim hears the replayer")
		}
		time.Sleep(10 * time.Minute)
		r.send(r.frame(3, "changed for good"))
		time.Sleep(time.Second)
		if !heard.has("changed for good") {
			w.t.Errorf("the replayer is not heard after ten minutes, its standing is %.1f", p2p.Score(victim, id))
		}
	})
}

// total sums the series of a counter that have a label's value, "" for all.
func total(t *testing.T, reg *prometheus.Registry, name, value string) (sum int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := value == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetValue() == value
			}
			if match {
				sum += int(m.GetCounter().GetValue())
			}
		}
	}
	return sum
}

// slowAndFast are a host whose handler is stuck, and one that knows it and publishes to it.
type slowAndFast struct {
	slow, fast       *p2p.Host
	slowReg, fastReg *prometheus.Registry
	heard            *ear          // by slow
	stuck            chan struct{} // closed, it lets the handler go on
	judged           *atomic.Int64 // messages by slow
}

// slowAndFast opens both and runs them until stop; they have met when it returns.
func (w *world) slowAndFast() (s slowAndFast, stop func()) {
	w.t.Helper()
	s = slowAndFast{slowReg: prometheus.NewRegistry(), fastReg: prometheus.NewRegistry(), heard: &ear{}, stuck: make(chan struct{}), judged: &atomic.Int64{}}
	s.slow = w.open("slow", s.slowReg, nil)
	s.fast = w.open("fast", s.fastReg, func(c *p2p.Config) { c.BootstrapPeers = s.slow.Addrs() })
	judge := func(context.Context, *p2p.Gossip) p2p.Verdict {
		s.judged.Add(1)
		return p2p.Accept
	}
	err := errors.Join(s.slow.Subscribe(simTopic, judge, func(ctx context.Context, g p2p.Gossip) {
		<-s.stuck
		s.heard.hear(ctx, g)
	}), s.fast.Subscribe(simTopic, accept, drop))
	if err != nil {
		w.t.Fatal(err)
	}
	stop = w.run(s.slow, s.fast)
	time.Sleep(5 * time.Second)
	return s, stop
}

// TestWhatASlowHandlerMissesIsCounted: while a handler is stuck, messages wait where
// they may come again; each is handled in the end, or counted where it was dropped.
func TestWhatASlowHandlerMissesIsCounted(t *testing.T) {
	const sent = 9000
	simulate(t, func(w *world) {
		s, stop := w.slowAndFast()
		defer stop()

		for i := range sent {
			w.publish(s.fast, fmt.Sprintf("m %d", i))
			if i%100 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		close(s.stuck)
		time.Sleep(time.Minute)

		got := s.heard.count("m ")
		missed := total(w.t, s.slowReg, "aleph_p2p_gossip_dropped_total", "") + total(w.t, s.fastReg, "aleph_p2p_gossip_dropped_total", "")
		if got < 3000 || got+missed < sent {
			w.t.Errorf("%d of %d messages are handled and %d counted as dropped, want no other missing", got, sent, missed)
		}
		w.publish(s.fast, "afterwards")
		time.Sleep(2 * time.Second)
		if !s.heard.has("afterwards") {
			w.t.Error("nothing is heard after the handler has caught up")
		}
		if s := p2p.Score(s.slow, s.fast.ID()); s < 0 {
			w.t.Errorf("the standing of the peer is %.1f, though it did nothing wrong", s)
		}
	})
}

// TestWhatWaitsForAHandlerIsBoundedInBytes: long before as many large messages wait as
// may of small ones.
func TestWhatWaitsForAHandlerIsBoundedInBytes(t *testing.T) {
	const sent, size = 290, 250 << 10
	simulate(t, func(w *world) {
		s, stop := w.slowAndFast()
		defer stop()

		filler := strings.Repeat("x", size)
		for i := range sent {
			w.publish(s.fast, fmt.Sprintf("m %d %s", i, filler))
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if n := s.judged.Load() * size; n > p2p.DeliverBytesMax+16*size || n < p2p.DeliverBytesMax-size {
			w.t.Errorf("%d bytes are judged while the handler is stuck, want about %d", n, p2p.DeliverBytesMax)
		}
		close(s.stuck)
		time.Sleep(time.Minute)
		w.publish(s.fast, "afterwards")
		time.Sleep(2 * time.Second)
		if !s.heard.has("afterwards") {
			w.t.Error("nothing is heard after the handler has caught up")
		}
	})
}

// apart keeps two hosts from dialling each other directly.
type apart struct{ other peer.ID }

func (apart) InterceptPeerDial(peer.ID) bool { return true }

func (a apart) InterceptAddrDial(id peer.ID, addr ma.Multiaddr) bool {
	_, err := addr.ValueForProtocol(ma.P_CIRCUIT)
	return id != a.other || err == nil
}

func (apart) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (apart) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

func (apart) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func inner(t *testing.T, name string) peer.ID {
	t.Helper()
	id, err := p2p.PeerIDOf(p2ptest.Key(name))
	if err != nil {
		t.Fatal(err)
	}
	out, err := peer.Decode(string(id))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// behind opens a host behind NAT that knows a relay, and cannot dial another but through it.
func (w *world) behind(relay *p2p.Host, name, other string) *p2p.Host {
	w.t.Helper()
	return w.open(name, prometheus.NewRegistry(), func(c *p2p.Config) {
		c.Reachability, c.HolePunching, c.BootstrapPeers = p2p.ReachPrivate, true, relay.Addrs()
	}, libp2p.ConnectionGater(apart{inner(w.t, other)}))
}

func TestHostsBehindNATMeetThroughARelay(t *testing.T) {
	simulate(t, func(w *world) {
		relay := w.open("relay", prometheus.NewRegistry(), func(c *p2p.Config) { c.RelayService = true })
		a, b := w.behind(relay, "a", "b"), w.behind(relay, "b", "a")
		a.HandleAsk("hi", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: question{Text: "through the relay"}}, nil
		})
		defer w.run(relay, a, b)()
		time.Sleep(2 * time.Minute) // Virtual: slots are reserved.
		if addrs := strings.Join(a.Addrs(), " "); !strings.Contains(addrs, string(relay.ID())+"/p2p-circuit") {
			w.t.Errorf("a is reached at %s, want it at the relay", addrs)
		}

		var reply question
		if err := b.Ask(w.t.Context(), a.ID(), question{Kind: "hi"}, &reply); err != nil || reply.Text != "through the relay" {
			w.t.Fatalf("Ask through a relay: %q, %v", reply.Text, err)
		}

		for _, c := range b.Peers() {
			if c.ID == a.ID() && c.Transport != "relay" {
				w.t.Errorf("b reaches a by %s at %v, want the relay", c.Transport, c.Addrs)
			}
		}
		if err := b.Ask(w.t.Context(), a.ID(), question{Kind: "nobody answers this"}, &reply); errs.KindOf(err) != errs.Invalid {
			w.t.Errorf("a failure through the relay: %v, want errs.Invalid", err)
		}
	})
}

func TestWhatNobodyHeardIsToldToWhoComes(t *testing.T) {
	simulate(t, func(w *world) {
		first := w.open("first", prometheus.NewRegistry(), nil)
		late := w.open("late", prometheus.NewRegistry(), func(c *p2p.Config) { c.BootstrapPeers = first.Addrs() })
		heard := &ear{}
		if err := errors.Join(first.Subscribe(simTopic, accept, drop), late.Subscribe(simTopic, accept, heard.hear)); err != nil {
			w.t.Fatal(err)
		}
		defer w.run(first)()
		w.publish(first, "too old")
		time.Sleep(11 * time.Minute)
		for i := range 100 {
			w.publish(first, fmt.Sprintf("early %d", i))
		}
		time.Sleep(time.Minute)

		defer w.run(late)()
		time.Sleep(10 * time.Second)

		if n := heard.count("early"); n != 100 || heard.has("too old") {
			w.t.Errorf("%d messages are told to who came late, want 100, and none that is old: %v", n, heard.has("too old"))
		}
	})
}

// directory is one of fixed content.
type directory struct{ listing p2p.Listing }

// Look implements p2p.Directory.
func (d directory) Look(context.Context) (p2p.Listing, error) { return d.listing, nil }

func TestNodesOfTheDirectoryAreMetAndPreferred(t *testing.T) {
	simulate(t, func(w *world) {
		listed := w.open("listed", prometheus.NewRegistry(), nil)
		h := w.open("h", prometheus.NewRegistry(), nil)
		addr, _, _ := strings.Cut(listed.Addrs()[0], "/p2p/")
		h.UseDirectory(directory{p2p.Listing{
			Peers: []p2p.Peer{{ID: "nonsense"}, {ID: h.ID(), Addrs: []string{"/ip4/1.1.1.1/tcp/1"}}, {ID: listed.ID(), Addrs: []string{"nonsense", addr}}},
			Number: func(id p2p.PeerID) uint32 {
				if id == listed.ID() {
					return 7
				}
				return 0
			},
		}})
		if err := errors.Join(h.Subscribe(simTopic, accept, drop), listed.Subscribe(simTopic, accept, drop)); err != nil {
			w.t.Fatal(err)
		}
		defer w.run(listed, h)()
		time.Sleep(10 * time.Second)

		peers := h.Peers()
		if len(peers) != 1 || peers[0].ID != listed.ID() || peers[0].Node != 7 {
			w.t.Fatalf("peers %+v, want the node of the directory with its number", peers)
		}
		if peers[0].Direction != "out" || peers[0].Transport != "quic" || len(peers[0].Topics) != 1 || peers[0].BytesIn == 0 || peers[0].BytesOut == 0 ||
			peers[0].Latency < 2*simLatency || peers[0].Score < 5 {
			w.t.Errorf("the peer is shown as %+v", peers[0])
		}
		if !p2p.Inner(h).ConnManager().IsProtected(p2p.Inner(listed).ID(), "registered") {
			w.t.Error("the connection to a registered node is not kept")
		}
	})
}
