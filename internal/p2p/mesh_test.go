package p2p_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// The flags with which test/bench/mesh runs TestGossipReachesAllSoonAndNotTooOften.
var (
	meshHosts    = flag.Int("mesh.hosts", 30, "hosts of the simulated network")
	meshMessages = flag.Int("mesh.messages", 200, "messages to publish")
	meshConns    = flag.Int("mesh.connections", p2p.ConnsHigh, "connections that a host keeps at most")
	meshFrugal   = flag.Bool("mesh.frugal", false, "hosts look for few peers, so that a thousand fit into memory")
	meshProfile  = flag.String("mesh.profile", p2p.ProfilePrivate, "profile of the hosts")
	meshOut      = flag.String("mesh.out", "", "file to write the figures to, as JSON")
)

const (
	meshOneWay = 25 * time.Millisecond // Half of the round trip.
	meshRate   = 20                    // Messages per second, of all hosts together.
	meshSize   = 1000                  // Bytes of a message, as most of the network have.
	// meshCheck is the time in which a host checks the signature of a message.
	meshCheck = 200 * time.Microsecond
	// meshFriends are the hosts that a new one knows.
	meshFriends = 3
	// meshJoin is the time in which all hosts come, unless that is more than meshJoinRate a
	// second, and meshForms the one after the last.
	meshJoin, meshJoinRate, meshForms = 20 * time.Second, 25, time.Minute
	// frugalGrace and frugalTable are p2p.Keep's of hosts that look for few peers.
	frugalGrace, frugalTable = 10 * time.Second, 8
)

// meshFigures are what a run measured. Times are virtual, but for the processor's.
type meshFigures struct {
	Hosts, Messages int
	Lost            int       // Pairs of a message and a host that did not get it.
	MS              []float64 // Quantiles of delivery in milliseconds, by meshQuantiles.
	Copies          float64   // Received, for each that was the first.
	Bytes           float64   // Of gossip's payloads, received, for each that was the first.
	CPUUS           float64   // Processor time for each delivery, in microseconds.
	Connections     float64   // Of a host, on average.
	Mesh            float64   // Peers of a host with whom it exchanges messages at once, on average.
	HostBytes       float64   // Memory of a host, all of its connections and the network's share among it.
}

// meshQuantiles are those of meshFigures.
var meshQuantiles = []float64{0.5, 0.9, 0.99, 1}

// check takes as long as it takes to check a message's signature.
func check(context.Context, *p2p.Gossip) p2p.Verdict {
	time.Sleep(meshCheck)
	return p2p.Accept
}

// meshRun is one network.
type meshRun struct {
	w     *world
	hosts []*p2p.Host
	regs  []*prometheus.Registry

	mu    sync.Mutex
	sent  []time.Time     // guarded by mu
	took  []time.Duration // guarded by mu
	twice int             // guarded by mu
	heard map[[2]int]bool // guarded by mu
}

func (m *meshRun) hear(host int) func(context.Context, p2p.Gossip) {
	return func(_ context.Context, g p2p.Gossip) {
		m.mu.Lock()
		defer m.mu.Unlock()
		n := int(binary.BigEndian.Uint64(g.Data))
		if n >= len(m.sent) {
			return // It warms up.
		}
		if at := [2]int{n, host}; m.heard[at] {
			m.twice++
		} else {
			m.heard[at] = true
			m.took = append(m.took, time.Since(m.sent[n]))
		}
	}
}

// open opens and runs hosts, one after the other, of which each knows some that came
// before it. The rest of the network they find themselves.
func (m *meshRun) open(n int, r *rand.Rand) (stop func()) {
	var stops []func()
	for i := range n {
		reg := prometheus.NewRegistry()
		h := m.w.open(fmt.Sprint("mesh ", i), reg, func(c *p2p.Config) {
			c.Profile = *meshProfile
			for _, k := range r.Perm(i)[:min(i, meshFriends)] {
				c.BootstrapPeers = append(c.BootstrapPeers, m.hosts[k].Addrs()...)
			}
		})
		if err := h.Subscribe(simTopic, check, m.hear(i)); err != nil {
			m.w.t.Fatal(err)
		}
		m.hosts, m.regs = append(m.hosts, h), append(m.regs, reg)
		stops = append(stops, m.w.run(h))
		time.Sleep(max(meshJoin/time.Duration(n), time.Second/meshJoinRate))
	}
	return func() {
		var wg sync.WaitGroup
		for _, stop := range stops {
			wg.Go(stop)
		}
		wg.Wait()
	}
}

// publish publishes messages of random hosts at the rate, and waits for the last.
func (m *meshRun) publish(n int, r *rand.Rand) {
	for i := range n {
		data := make([]byte, meshSize)
		for k := 8; k < len(data); k += 8 {
			binary.BigEndian.PutUint64(data[k:], r.Uint64())
		}
		binary.BigEndian.PutUint64(data, uint64(i))
		m.mu.Lock()
		m.sent = append(m.sent, time.Now())
		m.mu.Unlock()
		if err := m.hosts[r.IntN(len(m.hosts))].Publish(m.w.t.Context(), simTopic, data); err != nil {
			m.w.t.Fatal(err)
		}
		time.Sleep(time.Second / meshRate)
	}
	time.Sleep(10 * time.Second)
}

// results are how long messages took, the fastest first, and how many came twice. Hosts may
// hear more meanwhile.
func (m *meshRun) results() (took []time.Duration, twice int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(slices.Values(m.took)), m.twice
}

// sum is a counter of all hosts together.
func (m *meshRun) sum(name, label string) (out float64) {
	for _, reg := range m.regs {
		out += float64(total(m.w.t, reg, name, label))
	}
	return out
}

// mesh measures a network of n hosts.
func mesh(t *testing.T, hosts, messages int) (out meshFigures) {
	t.Helper()
	before := held()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, meshOneWay)
		defer w.net.Close()
		r := rand.New(rand.NewPCG(1, uint64(hosts)))
		w.keep.Conns = *meshConns
		if *meshFrugal {
			w.keep.Grace, w.keep.Table = frugalGrace, frugalTable
		}
		m := &meshRun{w: w, heard: map[[2]int]bool{}}
		defer m.open(hosts, r)()
		time.Sleep(meshForms)
		out = meshFigures{Hosts: hosts, Messages: messages, HostBytes: (held() - before) / float64(hosts)}
		for _, h := range m.hosts {
			out.Connections += float64(len(h.Connected())) / float64(hosts)
			out.Mesh += float64(p2p.MeshSize(h, simTopic)) / float64(hosts)
		}
		const duplicates, bytes = "aleph_p2p_gossip_duplicates_total", "aleph_p2p_gossip_bytes_total"
		copies, received, used := m.sum(duplicates, simTopic), m.sum(bytes, "received"), processor(t)
		m.publish(messages, r)
		used = processor(t) - used
		took, twice := m.results()
		firsts := float64(len(took))
		out.Lost = messages*(hosts-1) - len(took)
		if twice > 0 {
			t.Errorf("%d messages are delivered twice", twice)
		}
		if firsts == 0 {
			t.Fatal("nothing is delivered")
		}
		out.Copies = (m.sum(duplicates, simTopic) - copies + firsts) / firsts
		out.Bytes = (m.sum(bytes, "received") - received) / firsts
		out.CPUUS = float64(used.Microseconds()) / firsts
		for _, q := range meshQuantiles {
			at := took[min(int(q*firsts), len(took)-1)]
			out.MS = append(out.MS, float64(at.Microseconds())/1000)
		}
	})
	return out
}

// held is the memory that is in use, in bytes.
func held() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// processor is the time that the process has used.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestGossipReachesAllSoonAndNotTooOften is on virtual time: how long a message takes is
// what the network's way takes, whatever the machine does.
func TestGossipReachesAllSoonAndNotTooOften(t *testing.T) {
	got := mesh(t, *meshHosts, *meshMessages)
	t.Logf("%+v", got)
	if *meshOut != "" {
		raw, err := json.Marshal(got)
		if err == nil {
			err = os.WriteFile(*meshOut, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if p99 := got.MS[2]; got.Lost > 0 || p99 > 400 || got.Copies > 2.5 {
		t.Errorf("%d are lost, p99 is %.0f ms and %.2f copies come, want none, at most 400 ms and 2.5", got.Lost, p99, got.Copies)
	}
}
