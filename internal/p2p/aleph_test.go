package p2p_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	tptu "github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// bare is a peer as nodes of the public network are: an RSA key, TCP, noise, yamux and
// gossip, and nothing else: it identifies itself to nobody, answers no ping and has no
// table. Its gossip is set as theirs is.
type bare struct {
	host  *blankhost.BlankHost
	topic map[string]*pubsub.Topic

	mu    sync.Mutex
	heard []string
}

func openBare(t *testing.T, topics ...string) *bare {
	t.Helper()
	const rsaBits = 2048
	key, _, err := crypto.GenerateRSAKeyPair(rsaBits, rand.Reader)
	must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	must(t, err)
	store, err := pstoremem.NewPeerstore()
	must(t, err)
	must(t, store.AddPrivKey(id, key))
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, store, bus)
	must(t, err)
	muxers := []tptu.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := noise.New(noise.ID, key, muxers)
	must(t, err)
	up, err := tptu.New([]sec.SecureTransport{security}, muxers, nil, nil, nil)
	must(t, err)
	tr, err := tcp.NewTCPTransport(up, nil, nil, tcp.DisableReuseport())
	must(t, err)
	must(t, sw.AddTransport(tr))
	must(t, sw.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")))
	b := &bare{host: blankhost.NewBlankHost(sw, blankhost.WithEventBus(bus)), topic: map[string]*pubsub.Topic{}}
	t.Cleanup(func() { _ = b.host.Close() })
	// Other libraries try each peer; this one has to be told of them.
	told, err := bus.Emitter(new(event.EvtPeerProtocolsUpdated))
	must(t, err)
	sw.Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		go func() {
			_ = told.Emit(event.EvtPeerProtocolsUpdated{Peer: c.RemotePeer(), Added: []protocol.ID{pubsub.GossipSubID_v11}})
		}()
	}})
	gossip, err := pubsub.NewGossipSub(t.Context(), b.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictSign), pubsub.WithMaxMessageSize(1<<18),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { return strconv.FormatUint(rustHash(m.GetData()), 10) }),
		pubsub.WithFloodPublish(true), pubsub.WithGossipSubProtocols([]protocol.ID{pubsub.GossipSubID_v11, pubsub.GossipSubID_v10}, pubsub.GossipSubDefaultFeatures))
	must(t, err)
	for _, name := range topics {
		topic, err := gossip.Join(name)
		must(t, err)
		sub, err := topic.Subscribe()
		must(t, err)
		b.topic[name] = topic
		go func() {
			for {
				m, err := sub.Next(t.Context())
				if err != nil {
					return
				}
				b.mu.Lock()
				b.heard = append(b.heard, name+" "+string(m.Data))
				b.mu.Unlock()
			}
		}()
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bare) has(test func(string) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.heard, test)
}

func (b *bare) addr() string {
	return b.host.Addrs()[0].String() + "/p2p/" + b.host.ID().String()
}

// rustHash is the hash of the reference network, in words of its description.
func rustHash(data []byte) uint64 {
	v0, v1, v2, v3 := uint64(0x736f6d6570736575), uint64(0x646f72616e646f6d), uint64(0x6c7967656e657261), uint64(0x7465646279746573)
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	in := func(m uint64) { v3 ^= m; round(); v0 ^= m }
	total := len(data) + 8
	in(uint64(len(data)))
	for len(data) >= 8 {
		in(binary.LittleEndian.Uint64(data))
		data = data[8:]
	}
	var last [8]byte
	copy(last[:], data)
	last[7] = byte(total)
	in(binary.LittleEndian.Uint64(last[:]))
	v2 ^= 0xff
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}

func alephConfig(bootstrap ...string) p2p.Config {
	cfg := p2ptest.Config(bootstrap...)
	cfg.Profile = p2p.ProfileAleph
	return cfg
}

// judgeWord accepts {"word": ...}, of which "bad" is bad.
func judgeWord(_ context.Context, g *p2p.Gossip) p2p.Verdict {
	var w struct{ Word string }
	if json.Unmarshal(g.Data, &w) != nil || w.Word == "bad" || w.Word == "" {
		return p2p.Reject
	}
	return p2p.Accept
}

func TestANodeIsPartOfThePublicNetwork(t *testing.T) {
	b := openBare(t, wire.TopicAlephMessages, wire.TopicAlephAlive)
	h := p2ptest.OpenWith(t, alephConfig(b.addr()), "h", nil)
	words := make(chan string, 10)
	must(t, h.Subscribe(wire.TopicMessages, judgeWord, func(_ context.Context, g p2p.Gossip) {
		if g.From != p2p.PeerID(b.host.ID().String()) {
			t.Errorf("message from %s, want %s", g.From, b.host.ID())
		}
		var w struct{ Word string }
		if err := json.Unmarshal(g.Data, &w); err != nil {
			t.Error(err)
		}
		words <- w.Word
	}))
	h.TellHTTP("http://192.0.2.1:4024")
	p2ptest.Start(t, h)
	p2ptest.Wait(t, "both listen to each other", func() bool {
		return len(h.Listeners(wire.TopicMessages)) == 1 && len(b.topic[wire.TopicAlephMessages].ListPeers()) == 1
	})

	// Here: as it stands, quoted, and with what only looks quoted.
	for raw, want := range map[string]string{`{"word":"plain é"}`: "plain é", `{"word":"%41%C3%A9"}`: "Aé", `{"word":"%22"}`: "%22"} {
		must(t, b.topic[wire.TopicAlephMessages].Publish(t.Context(), []byte(raw)))
		if got := <-words; got != want {
			t.Errorf("%s arrives as %q, want %q", raw, got, want)
		}
	}
	// There, where it is decoded before it is read.
	for _, word := range []string{"plain", "100%41", "%"} {
		raw, err := json.Marshal(struct{ Word string }{word})
		must(t, err)
		must(t, h.Publish(t.Context(), wire.TopicMessages, raw))
		p2ptest.Wait(t, "the other hears "+word, func() bool {
			return b.has(func(heard string) bool {
				var w struct{ Word string }
				topic, text, _ := strings.Cut(heard, " ")
				return topic == wire.TopicAlephMessages && json.Unmarshal(wire.Unquote([]byte(text)), &w) == nil && w.Word == word
			})
		})
	}
	// What would not fit into a frame there is not published.
	if err := h.Publish(t.Context(), wire.TopicMessages, []byte(`{"word":"`+strings.Repeat("x", wire.MaxGossip)+`"}`)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("Publish of too much: %v, want errs.Invalid", err)
	}
	// It tells that it lives, and hears who may say so.
	for _, want := range []string{`"peer_type":"P2P"`, `"address":"http://192.0.2.1:4024","interests":null,"peer_type":"HTTP"`} {
		p2ptest.Wait(t, "the other hears that this node lives: "+want, func() bool {
			return b.has(func(heard string) bool {
				return strings.HasPrefix(heard, wire.TopicAlephAlive+" ") && strings.Contains(heard, want)
			})
		})
	}
	for _, word := range []wire.Alive{wire.NewAlive(wire.PeerP2P, b.addr(), "v1"), wire.NewAlive(wire.PeerHTTP, "http://192.0.2.2:4024", "v1")} {
		raw, err := json.Marshal(word)
		must(t, err)
		must(t, b.topic[wire.TopicAlephAlive].Publish(t.Context(), raw))
	}
	p2ptest.Wait(t, "this node knows that the other lives", func() bool { return len(h.Alive()) == 2 })
	for _, a := range h.Alive() {
		if a.ID != p2p.PeerID(b.host.ID().String()) || a.Version != "v1" {
			t.Errorf("alive %+v, want the other", a)
		}
	}
	peers := h.Peers()
	if len(peers) != 1 || !slices.Equal(peers[0].Topics, []string{wire.TopicAlephMessages, wire.TopicAlephAlive}) || peers[0].Transport != "tcp" || peers[0].Latency != 0 {
		t.Errorf("peers %+v, want the other on both topics", peers)
	}
}

func TestOnlyListedNodesSayThatTheyLive(t *testing.T) {
	b, listed := openBare(t, wire.TopicAlephAlive), openBare(t, wire.TopicAlephAlive)
	h := p2ptest.OpenWith(t, alephConfig("/ip4/127.0.0.1/tcp/9/p2p/QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV"), "h", nil)
	h.UseDirectory(directory{p2p.Listing{
		Peers: []p2p.Peer{{ID: p2p.PeerID(listed.host.ID().String()), Addrs: []string{listed.host.Addrs()[0].String()}}}, Number: func(p2p.PeerID) uint32 { return 0 },
	}})
	p2ptest.Start(t, h)
	p2p.Dial(t, h, b.addr())
	p2ptest.Wait(t, "all listen", func() bool {
		return len(b.topic[wire.TopicAlephAlive].ListPeers()) == 1 && len(listed.topic[wire.TopicAlephAlive].ListPeers()) == 1
	})
	tell := func(from *bare, word wire.Alive) {
		raw, err := json.Marshal(word)
		must(t, err)
		must(t, from.topic[wire.TopicAlephAlive].Publish(t.Context(), raw))
	}

	tell(b, wire.NewAlive(wire.PeerHTTP, "http://stranger", "v1"))
	tell(listed, wire.NewAlive(wire.PeerP2P, b.addr(), "not its own"))
	tell(listed, wire.NewAlive(wire.PeerHTTP, "http://listed", "v1"))
	p2ptest.Wait(t, "the listed node is heard", func() bool { return len(h.Alive()) > 0 })

	if got := h.Alive(); len(got) != 1 || got[0].Address != "http://listed" {
		t.Errorf("alive %+v, want what the listed node said of itself", got)
	}
}

// TestAtMostAHundredMessagesAreInAFrame: nodes of the public network drop the rest.
func TestAtMostAHundredMessagesAreInAFrame(t *testing.T) {
	h := p2ptest.OpenWith(t, alephConfig(), "h", nil)
	ids := make([]string, 3*p2p.AlephMessagesMax)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	rpc := &pubsub.RPC{RPC: pb.RPC{Control: &pb.ControlMessage{Iwant: []*pb.ControlIWant{{MessageIDs: ids[:50]}, {MessageIDs: ids[50:250]}, {MessageIDs: ids[250:]}}}}}

	p2p.Inspect(t, h, rpc)

	n := 0
	for _, want := range rpc.GetControl().GetIwant() {
		n += len(want.GetMessageIDs())
	}
	if n != p2p.AlephMessagesMax {
		t.Errorf("%d messages would be in one frame, want %d", n, p2p.AlephMessagesMax)
	}
}

func TestHeldIsBounded(t *testing.T) {
	var q p2p.Held
	now := time.Now()
	lost := 0
	for i := range p2p.HeldMax + 5 {
		lost += q.Put([]byte(fmt.Sprint(i)), now)
	}
	all, old := q.Take(now)
	if lost != 5 || len(all) != p2p.HeldMax || old != 0 || string(all[0]) != "5" {
		t.Errorf("%d lost, %d held from %s on, want 5, %d and the newest", lost, len(all), all[0], p2p.HeldMax)
	}
	big := make([]byte, 9<<20)
	if lost := q.Put(big, now) + q.Put(big, now); lost != 1 {
		t.Errorf("%d lost of two that are too big together, want 1", lost)
	}
	if all, old := q.Take(now.Add(time.Hour)); len(all) != 0 || old != 1 {
		t.Errorf("%d held and %d old after an hour, want none and 1", len(all), old)
	}
}
