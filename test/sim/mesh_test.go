package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	meshMbps = 200
	// lost is how late a packet is that does not arrive: after all else.
	lost = 1000 * time.Hour
	// meshLoad is the time in which messages are handed in, and meshFor the one in which the
	// network must agree after the faults.
	meshLoad, meshFor = 10 * time.Minute, time.Hour
)

// sky is the weather of packets.
type sky struct {
	mu   sync.Mutex
	r    *rand.Rand                 // guarded by mu
	loss float64                    // guarded by mu
	cut  func(from, to string) bool // By addresses; guarded by mu.

	cutOff, lost int // Packets; guarded by mu.
}

func (s *sky) latency(p *simnet.Packet) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil && s.cut(p.From.String(), p.To.String()) {
		s.cutOff++
		return lost
	}
	if s.r.Float64() < s.loss {
		s.lost++
		return lost
	}
	return latencyMin + time.Duration(s.r.Int64N(int64(latencyMax-latencyMin)))
}

func (s *sky) set(loss float64, cut func(from, to string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss, s.cut, s.cutOff, s.lost = loss, cut, 0, 0
}

// idle says what of the weather did nothing since it was set, "" if all did something.
func (s *sky) idle() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cut != nil && s.cutOff == 0:
		return "no packet was cut off"
	case s.loss > 0 && s.lost == 0:
		return "no packet was lost"
	}
	return ""
}

// mesh is a network of nodes with real hosts, whose packets are simulated.
type mesh struct {
	*network
	net   *simnet.Simnet
	sky   *sky
	first []string // Addresses of the nodes that are known to all.
	ends  int      // Addresses that were given.
}

func addrOf(end int) string { return fmt.Sprintf("%s:8000", simnet.IntToPublicIPv4(end)) }

// turnOn starts a node with a real host.
func (m *mesh) turnOn(nd *node) {
	p, err := nd.newProcess()
	m.must(err)
	m.ends++
	link := simnet.LinkSettings{BitsPerSecond: meshMbps * simlibp2p.OneMbps}
	cfg := p2ptest.Config(m.first...)
	cfg.Reachability, cfg.RelayService, cfg.HolePunching = p2p.ReachPublic, false, false
	cfg.ListenAddr = fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(m.ends))
	key := p2ptest.Key(fmt.Sprint("node ", nd.index))
	host, err := p2p.OpenOver(p.life, cfg, key, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler),
		simlibp2p.QUICSimnet(m.net, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}), libp2p.DisableIdentifyAddressDiscovery())
	m.must(err)
	m.must(p.open(m.cfg, host))
	if nd.index < 2 && nd.lives == 0 {
		m.first = append(m.first, host.Addrs()...)
	}
	nd.lives++
	nd.process = p
	p.run()
	p.done.Go(func() {
		if err := host.Run(p.life); !errors.Is(err, context.Canceled) {
			m.w.t.Errorf("node %d: host ended: %v", nd.index, err)
		}
		m.closed(host)
	})
}

func (m *mesh) closed(host io.Closer) {
	if err := host.Close(); err != nil {
		m.w.t.Errorf("close host: %v", err)
	}
}

// TestAMeshOfRealHostsAgrees has the whole of p2p under the nodes: gossip, questions and streams of
// libp2p over QUIC, in packets that are lost and cut off. What it does is not the same
// each time.
func TestAMeshOfRealHostsAgrees(t *testing.T) {
	pl := chosen(plan{seed: seeds(1)[0], nodes: 8, messages: 40})
	words, base, dir := write(t, pl.seed, pl.messages, meshLoad), template(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &sky{r: rand.New(rand.NewPCG(pl.seed, 3))}
		m := &mesh{
			network: &network{w: newWorld(t, pl.seed, nil), plan: pl, cfg: config(), base: base, words: words, names: map[message.ItemHash]string{}},
			net:     &simnet.Simnet{LatencyFunc: s.latency, Logger: slog.New(slog.DiscardHandler)}, sky: s,
		}
		for _, w := range words {
			m.names[w.hash] = w.name
		}
		m.net.Start()
		defer m.net.Close()
		defer m.close()
		for i := range pl.nodes {
			nd := m.newNode(filepath.Join(dir, fmt.Sprint(i)))
			m.w.nodes = append(m.w.nodes, nd)
			m.turnOn(nd)
		}
		m.live()

		healed := m.w.now()
		differs := m.differs()
		for ; differs != "" && m.w.now() < healed+meshFor; differs = m.differs() {
			time.Sleep(lookEvery)
		}
		if differs != "" {
			t.Errorf("%v after the end of faults nodes differ: %s", m.w.now()-healed, differs)
		}
		m.verify()
		t.Logf("agreed %v after the end of faults", m.w.now()-healed)
	})
}

// live hands in messages while things go wrong.
func (m *mesh) live() {
	half := map[string]bool{}
	for end := 1; end <= m.ends; end += 2 {
		half[addrOf(end)] = true
	}
	faults := []func(){
		func() {},
		func() { m.sky.set(0, func(from, to string) bool { return half[from] != half[to] }) },
		func() { m.sky.set(0.2, nil) },
		func() { m.sky.set(0.05, func(from, to string) bool { return !half[from] && half[to] }) },
		func() {
			m.sky.set(0, nil)
			nd := m.w.nodes[len(m.w.nodes)-1]
			m.must(nd.stop(true))
			m.turnOn(nd)
		},
	}
	for i, begin := range faults {
		begin()
		for time.Sleep(time.Second); m.w.now() < meshLoad*time.Duration(i+1)/time.Duration(len(faults)); time.Sleep(time.Second) {
			for _, w := range m.words {
				if w.at > m.w.now() || w.handed.Load() {
					continue
				}
				if err := m.w.nodes[w.where%uint64(len(m.w.nodes))].process.take(w); err != nil {
					m.w.t.Errorf("%s: %v", w.name, err)
				}
				w.handed.Store(true)
			}
		}
		if idle := m.sky.idle(); idle != "" {
			m.w.t.Errorf("%s by fault %d: nothing was tried", idle, i)
		}
	}
	for i := range m.words {
		if !m.words[i].handed.Load() {
			m.w.t.Errorf("%s was not handed in", m.words[i].name)
		}
	}
}
