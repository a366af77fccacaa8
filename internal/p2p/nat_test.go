package p2p_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// TestWhoHelpsOthersToBeReached looks what a node serves by what its operator says of it. One
// that said it can be dialled did not dial others back, and in a network with no other public
// node none that is behind NAT learned it, nor asked for a relay.
func TestWhoHelpsOthersToBeReached(t *testing.T) {
	for _, tt := range []struct {
		reachability string
		want         []string
		not          []string
	}{
		{p2p.ReachPublic, []string{string(autonat.AutoNATProto), autonatv2.DialProtocol, proto.ProtoIDv2Hop}, nil},
		{p2p.ReachPrivate, nil, []string{string(autonat.AutoNATProto), proto.ProtoIDv2Hop}},
		{p2p.ReachAuto, nil, []string{string(autonat.AutoNATProto), autonatv2.DialProtocol, proto.ProtoIDv2Hop}}, // It is on loopback.
	} {
		t.Run(tt.reachability, func(t *testing.T) {
			cfg := p2ptest.Config()
			cfg.Reachability = tt.reachability
			h := p2ptest.OpenWith(t, cfg, "a", nil)
			var serves []string
			p2ptest.Wait(t, "it serves all", func() bool {
				serves = nil
				for _, id := range h.Libp2p().Mux().Protocols() {
					serves = append(serves, string(id))
				}
				return !slices.ContainsFunc(tt.want, func(id string) bool { return !slices.Contains(serves, id) })
			})
			for _, id := range tt.not {
				if slices.Contains(serves, id) {
					t.Errorf("it serves %s, want not", id)
				}
			}
		})
	}
}

// opening is what a peer writes that asks for a protocol; what it is answered is lost.
type opening struct{ io.Reader }

func (opening) Write(p []byte) (int, error) { return len(p), nil }
func (opening) Close() error                { return nil }

// between has f decide what becomes of the streams of a protocol of the library's: handle
// does what it does without.
func between(t *testing.T, h *p2p.Host, id protocol.ID, f func(s network.Stream, handle func())) {
	t.Helper()
	var hello []byte
	for _, line := range []string{"/multistream/1.0.0\n", string(id) + "\n"} {
		hello = append(binary.AppendUvarint(hello, uint64(len(line))), line...)
	}
	mux := h.Libp2p().Mux()
	_, inner, err := mux.Negotiate(opening{bytes.NewReader(hello)})
	if err != nil {
		t.Fatalf("get the handler of %s: %v", id, err)
	}
	mux.AddHandler(id, func(id protocol.ID, rwc io.ReadWriteCloser) error {
		s, ok := rwc.(network.Stream)
		if !ok {
			t.Errorf("a stream of %s is a %T", id, rwc)
			return nil
		}
		f(s, func() {
			if err := inner(id, rwc); err != nil {
				t.Errorf("handle a stream of %s: %v", id, err)
			}
		})
		return nil
	})
}

// loses has a host lose the streams of a protocol that come in the next three seconds.
func loses(id protocol.ID) func(w *world, h *p2p.Host) {
	return func(w *world, h *p2p.Host) {
		start := time.Now()
		between(w.t, h, id, func(s network.Stream, handle func()) {
			if time.Since(start) < 3*time.Second {
				_ = s.Reset()
				return
			}
			handle()
		})
	}
}

// firstLast has a host read the first of what each peer tells it after all that comes within
// half a second.
func firstLast(w *world, h *p2p.Host) {
	var mu sync.Mutex
	told := map[peer.ID]bool{}
	between(w.t, h, identify.IDPush, func(s network.Stream, handle func()) {
		mu.Lock()
		who := s.Conn().RemotePeer()
		first := !told[who]
		told[who] = true
		mu.Unlock()
		if first {
			time.Sleep(500 * time.Millisecond)
		}
		handle()
	})
}

// tellsSomething has a host tell its peers something before it has a slot at a relay.
func tellsSomething(_ *world, h *p2p.Host) {
	h.Libp2p().Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) {
		time.AfterFunc(simLatency, func() { h.Libp2p().SetStreamHandler("/something", func(s network.Stream) { _ = s.Reset() }) })
	}})
}

// TestNodesBehindNATFindEachOther has two nodes that nobody can dial meet by a relay, which is
// all that they know, though things go wrong at first of which neither is told.
func TestNodesBehindNATFindEachOther(t *testing.T) {
	const (
		// later is when the second of them comes.
		later       = time.Second
		foundWithin = time.Minute
	)
	nothing := func(*world, *p2p.Host) {}
	for name, tt := range map[string]struct {
		relay, home func(w *world, h *p2p.Host)
	}{
		"nothing goes wrong":                           {nothing, nothing},
		"the relay is not told where they are reached": {loses(identify.IDPush), nothing},
		"the relay reads what it is told first last":   {firstLast, tellsSomething},
		"the relay does not take them into its table":  {nothing, loses("/aleph/kad/1.0.0")},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				relay := w.open("relay", prometheus.NewRegistry(), func(c *p2p.Config) { c.RelayService = true })
				tt.relay(w, relay)
				defer w.run(relay)()
				open := func(name, other string) *p2p.Host {
					h := w.behind(relay, name, other)
					tt.home(w, h)
					return h
				}
				a := open("a", "b")
				defer w.run(a)()
				time.Sleep(later)
				b := open("b", "a")
				defer w.run(b)()

				w.until(foundWithin, "they are connected through the relay", func() bool { return relayed(a, b) && relayed(b, a) })
			})
		})
	}
}

// relayed reports whether a host is connected to another through a relay.
func relayed(h, to *p2p.Host) bool {
	return slices.ContainsFunc(h.Peers(), func(c p2p.Connection) bool { return c.ID == to.ID() && c.Transport == "relay" })
}

// until waits on virtual time until the condition holds, and fails the test if it does not.
func (w *world) until(most time.Duration, what string, holds func() bool) {
	w.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		synctest.Wait()
		if holds() {
			return
		}
		if time.Since(start) > most {
			w.t.Fatalf("waited %v in vain until %s", most, what)
		}
	}
}
