package p2p_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func accept(context.Context, *p2p.Gossip) p2p.Verdict { return p2p.Accept }

func drop(context.Context, p2p.Gossip) {}

// pair returns two connected hosts; setup registers handlers on the first.
func pair(t *testing.T, setup func(a *p2p.Host)) (a, b *p2p.Host) {
	t.Helper()
	a = p2ptest.Open(t, "a")
	if setup != nil {
		setup(a)
	}
	b = p2ptest.Open(t, "b", a.Addrs()...)
	p2ptest.Start(t, a, b)
	p2ptest.Meet(t, a, b)
	return a, b
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	id, err := p2p.PeerIDOf(p2ptest.Key("x"))
	if err != nil {
		t.Fatal(err)
	}
	set := func(change func(*p2p.Config)) p2p.Config {
		cfg := p2p.DefaultConfig()
		change(&cfg)
		return cfg
	}
	listen := func(addr string) p2p.Config { return set(func(c *p2p.Config) { c.ListenAddr = addr }) }
	bootstrap := func(addr string) p2p.Config {
		return set(func(c *p2p.Config) { c.BootstrapPeers = []string{addr} })
	}
	tests := []struct {
		name string
		cfg  p2p.Config
		want string // part of the error, "" for none
	}{
		{"default", p2p.DefaultConfig(), ""},
		{"tcp and quic", listen("/ip4/0.0.0.0/tcp/4001, /ip4/0.0.0.0/udp/4001/quic-v1"), ""},
		{"not a multiaddress", listen("0.0.0.0:4001"), "is not a multiaddress like"},
		{"no port", listen("/ip4/0.0.0.0"), "neither /tcp/<port> nor /udp/<port>/quic-v1"},
		{"websocket", listen("/ip4/0.0.0.0/tcp/1/ws"), "neither"},
		{"empty", p2p.Config{}, "listen_addr"},
		{"bootstrap", bootstrap("/ip4/1.2.3.4/tcp/1/p2p/" + string(id)), ""},
		{"bootstrap by rsa id", bootstrap("/dns/api2.aleph.im/tcp/4025/p2p/QmZkurbY2G2hWay59yiTgQNaQxHSNzKZFt2jbnwJhQcKgV"), ""},
		{"bootstrap without a name", bootstrap("/ip4/1.2.3.4/tcp/1"), "does not end in /p2p/<peer id>"},
		{"bootstrap is no address", bootstrap("a.example:1"), "bootstrap_peers"},
		{"no such profile", set(func(c *p2p.Config) { c.Profile = "public" }), "profile is \"public\", want private or aleph"},
		{"aleph", set(func(c *p2p.Config) { c.Profile = p2p.ProfileAleph }), ""},
		{"topics of its own", set(func(c *p2p.Config) { c.Profile, c.MessagesTopic, c.AliveTopic = p2p.ProfileAleph, "OURS", "OUR-ALIVE" }), ""},
		{"a topic twice", set(func(c *p2p.Config) { c.MessagesTopic, c.AliveTopic = "A", "A" }), "must differ"},
		{"the topic of capacities", set(func(c *p2p.Config) { c.MessagesTopic = wire.TopicCapacity }), "must differ"},
		{"a topic with a space", set(func(c *p2p.Config) { c.MessagesTopic = "A B" }), "messages_topic"},
		{"relay is no address", set(func(c *p2p.Config) { c.Relays = []string{"a.example:1"} }), "relays"},
		{"announced is no address", set(func(c *p2p.Config) { c.AnnounceAddrs = []string{"a.example:1"} }), "announce_addrs"},
		{"announced has no port", set(func(c *p2p.Config) { c.AnnounceAddrs = []string{"/dns4/a.example"} }), "announce_addrs"},
		{"no such reachability", set(func(c *p2p.Config) { c.Reachability = "maybe" }), "reachability is \"maybe\""},
		{"nobody may publish", set(func(c *p2p.Config) { c.PublishRate = 0 }), "publish_rate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()

			if tt.want == "" && err != nil {
				t.Fatalf("Validate: %v, want nil", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("Validate: %v, want it to contain %q", err, tt.want)
			}
			if tt.want != "" {
				if _, err := p2p.Open(t.Context(), tt.cfg, p2ptest.Key("x"), nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); errs.KindOf(err) != errs.Invalid {
					t.Errorf("Open: %v, want errs.Invalid", err)
				}
			}
		})
	}
}

func TestOpenRefusesBadKeyAndTakenPort(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if _, err := p2p.Open(t.Context(), p2p.DefaultConfig(), ed25519.PrivateKey("short"), nil, prometheus.NewRegistry(), log); err == nil {
		t.Error("Open accepted a key of five bytes")
	}
	a := p2ptest.Open(t, "a")
	addr, _, _ := strings.Cut(a.Addrs()[0], "/p2p/")

	taken := p2ptest.Config()
	taken.ListenAddr = addr
	_, err := p2p.Open(t.Context(), taken, p2ptest.Key("b"), nil, prometheus.NewRegistry(), log)

	if errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "[network] listen_addr") {
		t.Errorf("Open on a taken port: %v, want errs.Conflict that names the setting", err)
	}
}

func TestPeerIDIsStableAndHasBytes(t *testing.T) {
	a := p2ptest.Open(t, "a")
	want, err := p2p.PeerIDOf(p2ptest.Key("a"))
	if err != nil {
		t.Fatal(err)
	}
	if a.ID() != want {
		t.Errorf("ID = %s, want %s", a.ID(), want)
	}
	if got, err := p2p.ParsePeerID(string(want)); err != nil || got != want {
		t.Errorf("ParsePeerID = %s, %v, want %s", got, err, want)
	}
	if len(want.Bytes()) == 0 || crypto.Keccak256Hash(want.Bytes()) == crypto.Keccak256Hash(nil) {
		t.Error("Bytes is empty")
	}
	if _, err := p2p.ParsePeerID("nobody"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("ParsePeerID of nonsense: %v, want errs.Invalid", err)
	}
	if b := p2p.PeerID("nobody").Bytes(); b != nil {
		t.Errorf("Bytes of nonsense = %x, want none", b)
	}
	if _, err := p2p.PeerIDOf(nil); err == nil {
		t.Error("PeerIDOf accepted no key")
	}
}

func TestGossipReachesEveryone(t *testing.T) {
	const hosts, each = 4, 250
	var got sync.Map // "receiver/payload" of what was heard
	var count atomic.Int64
	var all []*p2p.Host
	for i := range hosts {
		var bootstrap []string
		if i > 0 {
			bootstrap = all[0].Addrs()
		}
		h := p2ptest.Open(t, fmt.Sprint(i), bootstrap...)
		err := h.Subscribe("news", accept, func(_ context.Context, g p2p.Gossip) {
			if _, twice := got.LoadOrStore(fmt.Sprintf("%d/%s", i, g.Data), true); twice {
				t.Errorf("host %d got %s twice", i, g.Data)
			}
			if g.Data[0] != 'w' {
				count.Add(1)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	p2ptest.Start(t, all...)
	publish := func(i int, text string) {
		if err := all[i].Publish(t.Context(), "news", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	// Warm up until the relays are in place.
	for i := range all {
		n := 0
		p2ptest.Wait(t, "everyone hears everyone", func() bool {
			n++
			publish(i, fmt.Sprintf("w%d-%d", i, n))
			heard := 0
			got.Range(func(k, _ any) bool {
				if strings.Contains(k.(string), fmt.Sprintf("/w%d-%d", i, n-1)) {
					heard++
				}
				return true
			})
			return heard == hosts-1
		})
	}

	for i := range all {
		for n := range each {
			publish(i, fmt.Sprintf("%d says %d", i, n))
		}
	}

	const want = hosts * each * (hosts - 1)
	p2ptest.Wait(t, "all is delivered", func() bool { return count.Load() >= want })
	if n := count.Load(); n != want {
		t.Errorf("%d deliveries, want %d: nobody hears itself", n, want)
	}
}

func TestGossipVerdicts(t *testing.T) {
	var own atomic.Int64
	judge := func(_ context.Context, g *p2p.Gossip) p2p.Verdict {
		switch string(g.Data) {
		case "bad":
			return p2p.Reject
		case "early":
			return p2p.Ignore
		case "odd":
			return p2p.Verdict(42)
		}
		if g.Own {
			own.Add(1)
		}
		g.Read = fmt.Sprintf("read, own %t", g.Own)
		return p2p.Accept
	}
	heard := make(chan string, 16)
	a := p2ptest.Open(t, "a")
	if err := a.Subscribe("t", judge, func(_ context.Context, g p2p.Gossip) { heard <- fmt.Sprint(g.From, " ", string(g.Data), " ", g.Read) }); err != nil {
		t.Fatal(err)
	}
	b := p2ptest.Open(t, "b", a.Addrs()...)
	if err := b.Subscribe("t", judge, drop); err != nil {
		t.Fatal(err)
	}
	if err := b.Subscribe("t", judge, drop); errs.KindOf(err) != errs.Internal {
		t.Errorf("second Subscribe: %v, want errs.Internal", err)
	}
	p2ptest.Start(t, a, b)
	p2ptest.Wait(t, "a listens", func() bool { return len(b.Listeners("t")) == 1 })

	for _, tt := range []struct {
		topic, data string
		kind        errs.Kind
	}{
		{"t", "bad", errs.Invalid},
		{"t", "early", errs.Unavailable},
		{"t", "odd", errs.Unavailable},
		{"t", strings.Repeat("x", wire.MaxGossip+1), errs.Invalid},
		{"other", "x", errs.Internal},
		{"t", "good", ""},
	} {
		if err := b.Publish(t.Context(), tt.topic, []byte(tt.data)); errs.KindOf(err) != tt.kind {
			t.Errorf("Publish(%.10s): %v, want kind %q", tt.data, err, tt.kind)
		}
	}

	if got, want := <-heard, string(b.ID())+" good read, own false"; got != want {
		t.Errorf("heard %q, want %q and nothing else", got, want)
	}
	if own.Load() == 0 {
		t.Error("b judged none as its own, and has published one")
	}
	if got := p2p.Verdict(42).String(); got != "verdict 42" {
		t.Errorf("String of an unknown verdict = %q", got)
	}
}

// TestSilentPeersDoNotKeepAMesh: in a thin one those few would be all that a node hears.
func TestSilentPeersDoNotKeepAMesh(t *testing.T) {
	silent, best, graft := p2p.Standings(p2ptest.Open(t, "a"))
	if silent >= graft || best <= graft {
		t.Errorf("peers come to %.1f by time alone and to %.1f by what they deliver, and better ones are taken in below %.1f, want that in between", silent, best, graft)
	}
}

type question struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

func TestAskKeepsTheKindOfAFailure(t *testing.T) {
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleAsk("echo", func(_ context.Context, from p2p.PeerID, raw []byte) (p2p.Answer, error) {
			var q question
			if err := json.Unmarshal(raw, &q); err != nil {
				return p2p.Answer{}, err
			}
			return p2p.Answer{Reply: question{Text: q.Text + " from " + string(from)}}, nil
		})
		for _, kind := range []errs.Kind{errs.Invalid, errs.Denied, errs.NotFound, errs.Conflict, errs.Exhausted, errs.Unavailable, errs.Internal} {
			a.HandleAsk(string(kind), func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
				return p2p.Answer{}, errs.New(kind, "secret of %s", kind)
			})
		}
		a.HandleAsk("huge", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: strings.Repeat("x", wire.MaxFrame+1)}, nil
		})
		a.HandleAsk("text", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: "not an object"}, nil
		})
	})

	var reply question
	if err := b.Ask(t.Context(), a.ID(), question{"echo", "hello"}, &reply); err != nil || reply.Text != "hello from "+string(b.ID()) {
		t.Errorf("Ask = %q, %v", reply.Text, err)
	}
	for _, tt := range []struct {
		ask  any
		want errs.Kind
		text string
	}{
		{question{string(errs.Denied), ""}, errs.Denied, "secret of denied"},
		{question{string(errs.NotFound), ""}, errs.NotFound, "secret"},
		{question{string(errs.Exhausted), ""}, errs.Exhausted, "secret"},
		{question{string(errs.Conflict), ""}, errs.Conflict, "secret"},
		{question{string(errs.Invalid), ""}, errs.Invalid, "secret"},
		{question{string(errs.Unavailable), ""}, errs.Unavailable, "secret"},
		{question{string(errs.Internal), ""}, errs.Unavailable, "internal error"},
		{question{"nobody answers this", ""}, errs.Invalid, "does not answer questions of kind"},
		{"not an object", errs.Invalid, "not a JSON object"},
		{question{"huge", ""}, errs.Unavailable, ""},
		{question{"text", ""}, errs.Unavailable, ""},
		{question{"echo", strings.Repeat("x", wire.MaxFrame)}, errs.Invalid, "bad frame"},
		{func() {}, errs.Unavailable, "encode"},
	} {
		err := b.Ask(t.Context(), a.ID(), tt.ask, &reply)
		if errs.KindOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("Ask(%.40v): %.200v, want kind %q with %q", tt.ask, err, tt.want, tt.text)
		}
		if tt.want == errs.Unavailable && strings.Contains(err.Error(), "secret of internal") {
			t.Error("the text of an internal failure left the node")
		}
	}
}

func TestAskOfNobody(t *testing.T) {
	a, b := pair(t, nil)
	stranger, err := p2p.PeerIDOf(p2ptest.Key("stranger"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id   p2p.PeerID
		want errs.Kind
	}{{b.ID(), errs.Invalid}, {"nonsense", errs.Invalid}, {stranger, errs.Unavailable}} {
		if err := b.Ask(t.Context(), tt.id, question{}, new(question)); errs.KindOf(err) != tt.want {
			t.Errorf("Ask(%s): %v, want %s", tt.id, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Ask(ctx, a.ID(), question{}, new(question)); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("Ask with a context that ended: %v, want errs.Unavailable", err)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleAsk("slow", func(ctx context.Context, _ p2p.PeerID, _ []byte) (p2p.Answer, error) {
			close(asked)
			<-ctx.Done()
			return p2p.Answer{}, ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()

	err := b.Ask(ctx, a.ID(), question{Kind: "slow"}, new(question))

	if errs.KindOf(err) != errs.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("Ask: %v, want errs.Unavailable because of the context", err)
	}
}

func TestAskStreamCarriesABodyUntilTheCallerLeaves(t *testing.T) {
	left := make(chan struct{})
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleAsk("logs", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: question{Text: "here"}, Body: func(ctx context.Context, w io.Writer) error {
				if _, err := w.Write([]byte("first\n")); err != nil {
					return err
				}
				<-ctx.Done()
				close(left)
				return ctx.Err()
			}}, nil
		})
		a.HandleAsk("short", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: question{}, Body: func(_ context.Context, w io.Writer) error {
				_, err := io.Copy(w, bytes.NewReader(make([]byte, 1<<20)))
				return err
			}}, nil
		})
	})

	var reply question
	body, err := b.AskStream(t.Context(), a.ID(), question{Kind: "logs"}, &reply)
	if err != nil || reply.Text != "here" {
		t.Fatalf("AskStream = %q, %v", reply.Text, err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(body, buf); err != nil || string(buf) != "first\n" {
		t.Fatalf("body = %q, %v", buf, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler did not learn that the caller left")
	}
	body, err = b.AskStream(t.Context(), a.ID(), question{Kind: "short"}, &reply)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); n != 1<<20 || err != nil {
		t.Errorf("body has %d bytes, %v; want %d", n, err, 1<<20)
	}
}

// TestFollowersLeaveRoomForQuestions: a peer that follows all it may follow can
// ask still, and follow another when one has ended.
func TestFollowersLeaveRoomForQuestions(t *testing.T) {
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleAsk("follow", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: question{}, Body: func(ctx context.Context, _ io.Writer) error {
				<-ctx.Done()
				return ctx.Err()
			}}, nil
		})
		a.HandleAsk("status", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
			return p2p.Answer{Reply: question{Text: "fine"}}, nil
		})
	})
	var reply question
	follow := func() (io.ReadCloser, error) {
		body, err := b.AskStream(t.Context(), a.ID(), question{Kind: "follow"}, &reply)
		if err == nil {
			t.Cleanup(func() { _ = body.Close() })
		}
		return body, err
	}
	first, err := follow()
	for range p2p.BodiesPerPeerMax - 1 {
		if err == nil {
			_, err = follow()
		}
	}
	if err != nil {
		t.Fatal(err)
	}

	if _, err := follow(); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "streamed to this peer already") {
		t.Errorf("one follower more: %v, want errs.Unavailable and why", err)
	}
	var asked sync.WaitGroup
	for range p2p.BodiesPerPeerMax / 2 {
		asked.Go(func() {
			var reply question
			if err := b.Ask(t.Context(), a.ID(), question{Kind: "status"}, &reply); err != nil || reply.Text != "fine" {
				t.Errorf("a question beside the followers: %q, %v", reply.Text, err)
			}
		})
	}
	asked.Wait()

	if err := first.Close(); err != nil {
		t.Error(err)
	}
	p2ptest.Wait(t, "there is room for another follower", func() bool {
		_, err := follow()
		return err == nil
	})
}

func TestBodiesAreBoundedPerPeerAndInAll(t *testing.T) {
	var b p2p.Bodies
	name := func(n int) p2p.PeerID { return p2p.PeerID(fmt.Sprint(n / p2p.BodiesPerPeerMax)) }
	for n := range p2p.BodiesMax {
		if err := b.Take(name(n)); err != nil {
			t.Fatalf("body %d: %v", n, err)
		}
	}

	if err := b.Take(name(0)); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "to this peer") {
		t.Errorf("one more of the first peer: %v", err)
	}
	if err := b.Take("another"); errs.KindOf(err) != errs.Unavailable || strings.Contains(err.Error(), "to this peer") {
		t.Errorf("one more in all: %v", err)
	}
	b.Give(name(0))
	if err := b.Take("another"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// seeker makes a reader what a blob handler returns.
type seeker struct{ *bytes.Reader }

func (seeker) Close() error { return nil }

func TestOpenBlobFromAnOffset(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	hash := message.HashOf(data)
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleBlob(func(_ context.Context, _ p2p.PeerID, h message.ItemHash) (io.ReadSeekCloser, int64, error) {
			if h != hash {
				return nil, 0, errs.New(errs.NotFound, "no blob %s", h)
			}
			return seeker{bytes.NewReader(data)}, int64(len(data)), nil
		})
	})
	for _, offset := range []int64{0, 1, 999_999, 1_000_000} {
		body, size, err := b.OpenBlob(t.Context(), a.ID(), hash, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || size != int64(len(data)) || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes of %d, %v", offset, len(got), size, err)
		}
		_ = body.Close()
	}
	for _, tt := range []struct {
		hash   message.ItemHash
		offset int64
		want   string
	}{
		{message.HashOf(nil), 0, "no blob"}, {"nonsense", 0, "hex digits"}, {hash, int64(len(data)) + 1, "behind the end"}, {hash, -1, "offset"},
	} {
		if _, _, err := b.OpenBlob(t.Context(), a.ID(), tt.hash, tt.offset); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("OpenBlob(%.8s, %d): %v, want errs.Unavailable with %q", tt.hash, tt.offset, err, tt.want)
		}
	}
	if _, _, err := a.OpenBlob(t.Context(), b.ID(), hash, 0); err == nil || !strings.Contains(err.Error(), "serves nothing of kind") {
		t.Errorf("OpenBlob of a host without blobs: %v", err)
	}
}

func TestHostsFindEachOtherThroughTheTable(t *testing.T) {
	a := p2ptest.Open(t, "a")
	b := p2ptest.Open(t, "b", a.Addrs()...)
	c := p2ptest.Open(t, "c", a.Addrs()...)
	c.HandleAsk("hi", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
		return p2p.Answer{Reply: question{}}, nil
	})
	p2ptest.Start(t, a, b, c)
	p2ptest.Meet(t, a, b)
	p2ptest.Meet(t, a, c)

	// b has never been told where c is.
	p2ptest.Wait(t, "b can ask c", func() bool {
		return b.Ask(t.Context(), c.ID(), question{Kind: "hi"}, new(question)) == nil
	})
}

func TestQUIC(t *testing.T) {
	cfg := p2ptest.Config()
	cfg.ListenAddr = "/ip4/127.0.0.1/udp/0/quic-v1"
	a := p2ptest.OpenWith(t, cfg, "a", nil)
	cfg.BootstrapPeers = a.Addrs()
	b := p2ptest.OpenWith(t, cfg, "b", nil)
	if !strings.Contains(a.Addrs()[0], "quic-v1") {
		t.Fatalf("a listens on %v, want QUIC", a.Addrs())
	}
	p2ptest.Start(t, a, b)
	p2ptest.Meet(t, a, b)
}

func TestTheDefaultListensByTCPAndQUICOnOnePort(t *testing.T) {
	a := p2ptest.OpenWith(t, p2p.DefaultConfig(), "a", nil)
	addrs := a.Addrs()
	if len(addrs) != 2 {
		t.Fatalf("addresses %v, want one of TCP and one of QUIC", addrs)
	}
	port := map[string]string{}
	for _, addr := range addrs {
		parts := strings.Split(addr, "/") // "", ip4, 127.0.0.1, tcp, 4001, ...
		if len(parts) < 5 || parts[2] != "127.0.0.1" {
			t.Fatalf("address %s, want one on loopback", addr)
		}
		port[parts[3]] = parts[4]
	}
	if port["tcp"] == "" || port["tcp"] != port["udp"] {
		t.Errorf("ports %v, want the same for both", port)
	}
	for i, addr := range addrs {
		b := p2ptest.OpenWith(t, p2p.DefaultConfig(), fmt.Sprint("b", i), nil)
		p2ptest.Start(t, b)
		p2p.Dial(t, b, addr)
		p2ptest.Wait(t, "a peer is there by "+addr, func() bool { return slices.Contains(b.Connected(), a.ID()) })
	}

	for _, addr := range addrs {
		cfg := p2ptest.Config()
		cfg.ListenAddr, _, _ = strings.Cut(addr, "/p2p/")
		_, err := p2p.Open(t.Context(), cfg, p2ptest.Key("other"), nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "[network] listen_addr") {
			t.Errorf("Open on %s, which is taken: %v, want errs.Conflict that names the setting", cfg.ListenAddr, err)
		}
	}
}

// book keeps peers in memory.
type book struct {
	mu    sync.Mutex
	peers []p2p.Peer
	err   error
}

func (b *book) Known(context.Context, int) ([]p2p.Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.peers), b.err
}

func (b *book) Remember(_ context.Context, peers []p2p.Peer, _ time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers = peers
	return b.err
}

func TestPeersAreRememberedOverARestart(t *testing.T) {
	a := p2ptest.Open(t, "a")
	p2ptest.Start(t, a)
	memory := &book{}
	b := p2ptest.OpenWith(t, p2ptest.Config(a.Addrs()...), "b", memory)
	stop := p2ptest.Start(t, b)
	p2ptest.Wait(t, "b wrote a down", func() bool {
		known, _ := memory.Known(t.Context(), 1)
		return len(known) == 1 && known[0].ID == a.ID() && len(known[0].Addrs) > 0
	})
	stop()

	memory.peers = append(memory.peers, p2p.Peer{ID: "nonsense"}, p2p.Peer{ID: b.ID(), Addrs: []string{"nonsense"}})
	again := p2ptest.OpenWith(t, p2ptest.Config(), "again", memory)
	p2ptest.Start(t, again)

	p2ptest.Wait(t, "the remembered peer is connected", func() bool { return slices.Contains(again.Connected(), a.ID()) })
}

func TestABookThatFailsStopsNothing(t *testing.T) {
	a := p2ptest.Open(t, "a")
	b := p2ptest.OpenWith(t, p2ptest.Config(a.Addrs()...), "b", &book{err: errors.New("disk")})
	p2ptest.Start(t, a, b)
	p2ptest.Meet(t, a, b)
}

func TestABootstrapPeerThatComesLateIsMet(t *testing.T) {
	first := p2ptest.Open(t, "late")
	addr, _, _ := strings.Cut(first.Addrs()[0], "/p2p/")
	name := first.Addrs()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	b := p2ptest.Open(t, "b", name...)
	p2ptest.Start(t, b)
	p2ptest.Wait(t, "b noticed that nobody is there", func() bool { return errs.KindOf(b.Ready()) == errs.Unavailable })

	cfg := p2ptest.Config()
	cfg.ListenAddr = addr
	late := p2ptest.OpenWith(t, cfg, "late", nil)
	p2ptest.Start(t, late)

	p2ptest.Meet(t, late, b)
	if err := b.Ready(); err != nil {
		t.Errorf("Ready: %v, want nil once connected", err)
	}
	if got := b.Bootstrap(); len(got) != 1 || got[0] != late.ID() {
		t.Errorf("Bootstrap = %v, want %s", got, late.ID())
	}
}

func TestSubscribeAfterRunIsADefect(t *testing.T) {
	b := p2ptest.Open(t, "b")
	b.HandleAsk("hi", func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) {
		return p2p.Answer{Reply: question{}}, nil
	})
	a := p2ptest.Open(t, "a", b.Addrs()...)
	p2ptest.Start(t, a, b)
	// A host is connected before it runs, but only one that runs answers.
	p2ptest.Wait(t, "b answers", func() bool {
		return a.Ask(t.Context(), b.ID(), question{Kind: "hi"}, new(question)) == nil
	})

	if err := b.Subscribe("t", accept, drop); errs.KindOf(err) != errs.Internal {
		t.Errorf("Subscribe after Run: %v, want errs.Internal", err)
	}
}
