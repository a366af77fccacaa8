//go:build e2e

package mesh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	bsmsg "github.com/ipfs/boxo/bitswap/message"
	bsnetwork "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	meshwire "github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// liarVariable makes this program a liar; it is the path of what it is to be.
	liarVariable = "ALEPH_E2E_LIAR"
	// junkEvery is how often a liar sends what nobody asked for.
	junkEvery = 100 * time.Millisecond
	// gatewayPort is where it is a gateway of IPFS.
	gatewayPort = 8080
	// junkBytes is how long junk is.
	junkBytes = 4096
	// endless is what it says that something has bytes which does not end.
	endless = int64(1) << 40
	// memoryMax is far more than an honest node needs here, in bytes.
	memoryMax = 1 << 30
)

// The kinds of liars.
const (
	junk      = "junk"     // Whatever it says is noise.
	inventor  = "inventor" // What it says has the right form, and is not true.
	neverDone = "endless"  // It always has more to say, or keeps silent.
)

// liarConfig is what a liar is to be.
type liarConfig struct {
	Kind    string
	Network p2p.Config
	KeyDir  string
}

// liar is a process that serves falsehoods at every protocol.
type liar struct {
	liarConfig
	host *p2p.Host
	late *message.Envelope // Is signed, and nobody asked for it.
}

// lie runs a liar until it is killed, and returns its exit code.
func lie(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runLiar(ctx, path); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "liar:", err)
		return 1
	}
	return 0
}

func runLiar(ctx context.Context, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	l := new(liar)
	if err := json.Unmarshal(raw, &l.liarConfig); err != nil {
		return err
	}
	keys, err := keystore.Open(l.KeyDir, "", "")
	if err != nil {
		return err
	}
	if l.late, err = strangersPost(); err != nil {
		return err
	}
	if l.host, err = p2p.Open(ctx, l.Network, keys.Identity, nil, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		return err
	}
	for _, topic := range []string{meshwire.TopicMessages, meshwire.TopicCapacity} {
		any := func(context.Context, *p2p.Gossip) p2p.Verdict { return p2p.Accept }
		if err := l.host.Subscribe(topic, any, func(context.Context, p2p.Gossip) {}); err != nil {
			return err
		}
	}
	for _, kind := range []job.AskKind{job.AskMessage, job.AskReconcile, job.AskMessages, job.AskAccept} {
		l.host.HandleAsk(string(kind), l.answer)
	}
	l.host.HandleBlob(l.blob)
	swap := bsnet.NewFromIpfsHost(l.host.Libp2p())
	swap.Start(&swapper{l, swap})
	defer swap.Stop()
	gateway := &http.Server{Addr: fmt.Sprintf(":%d", gatewayPort), Handler: http.HandlerFunc(l.gateway)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = gateway.ListenAndServe() })
	wg.Go(func() { l.bother(ctx) })
	err = l.host.Run(ctx)
	return errors.Join(err, gateway.Close(), l.host.Close())
}

// strangersPost is a message that is as good as any.
func strangersPost() (*message.Envelope, error) {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte("mesh liar")))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	raw := fmt.Appendf(nil, `{"address":%q,"time":%s,"type":"lie","content":{"body":"nobody asked"}}`, crypto.PubkeyToAddress(key.PublicKey).Hex(), message.FormatTime(now))
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypePost, Time: now, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	return e, signature.SignEVM(key, e)
}

// noise is junk of any length.
func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out) // It cannot fail.
	return out
}

// answer answers every question falsely.
func (l *liar) answer(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return p2p.Answer{}, err
	}
	switch {
	case l.Kind == neverDone && ask.Kind != job.AskReconcile:
		<-ctx.Done()
		return p2p.Answer{}, ctx.Err()
	case l.Kind == junk:
		return p2p.Answer{Reply: map[string]any{"ranges": noise(junkBytes), "messages": noise(junkBytes), "message": "none"}, Body: func(_ context.Context, w io.Writer) error {
			_, err := io.Copy(w, rand.Reader)
			return err
		}}, nil
	case ask.Kind == job.AskReconcile:
		ranges, err := l.ranges(ask)
		return p2p.Answer{Reply: job.Reply{Ranges: ranges}}, err
	case ask.Kind == job.AskMessages:
		return p2p.Answer{Reply: job.Reply{Messages: l.messages(ask)}}, nil
	}
	return p2p.Answer{Reply: job.Reply{Message: l.late, Accepted: true}}, nil
}

// ranges answers in the right form: with items that there are none of, or with parts that
// differ however they are cut.
func (l *liar) ranges(ask *job.Ask) ([]byte, error) {
	q, err := reconcile.ParseQuestion(ask.Ranges)
	if err != nil {
		return nil, err
	}
	from, to := max(q[0].From.At, 0), min(q[0].To.At, math.MaxInt64/2)
	told := reconcile.Told{Kind: reconcile.Listed}
	if l.Kind == neverDone && to-from > 2 {
		middle := reconcile.Point{At: from + (to-from)/2}
		told = reconcile.Told{Kind: reconcile.Cut, Parts: []reconcile.Claim{
			{To: middle, N: 1000, Print: reconcile.Print(noise(16))}, {To: q[0].To, N: 1000, Print: reconcile.Print(noise(16))},
		}}
	} else {
		for i := range min(20, to-from-1) {
			told.Items = append(told.Items, reconcile.Point{At: from + 1 + i, Hash: message.HashOf(noise(8))})
		}
	}
	return reconcile.Answer{told}.Encode(q), nil
}

// messages gives for each hash something else: a message that nobody asked for, and its own
// content under that hash.
func (l *liar) messages(ask *job.Ask) *job.Messages {
	out := &job.Messages{Done: len(ask.ItemHashes)}
	for i, hash := range ask.ItemHashes {
		e := *l.late
		if i%2 == 0 {
			e.ItemHash = hash
		}
		if raw, err := json.Marshal(&e); err == nil {
			out.Messages = append(out.Messages, raw)
		}
	}
	return out
}

// blob serves bytes that are not those of the hash.
func (l *liar) blob(context.Context, p2p.PeerID, message.ItemHash) (io.ReadSeekCloser, int64, error) {
	switch l.Kind {
	case junk:
		return falseBytes{}, junkBytes, nil
	case inventor: // It breaks off.
		return shortBytes{bytes.NewReader(noise(junkBytes))}, 2 * junkBytes, nil
	default:
		return falseBytes{}, endless, nil
	}
}

// falseBytes never end.
type falseBytes struct{}

func (falseBytes) Read(p []byte) (int, error)     { return rand.Read(p) }
func (falseBytes) Seek(int64, int) (int64, error) { return 0, nil }
func (falseBytes) Close() error                   { return nil }

// shortBytes end too early.
type shortBytes struct{ *bytes.Reader }

func (shortBytes) Close() error { return nil }

// gateway serves bytes that are not those of the CID.
func (l *liar) gateway(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.ipld.raw")
	switch l.Kind {
	case junk:
		_, _ = w.Write(noise(junkBytes))
	case inventor:
		w.Header().Set("Content-Length", fmt.Sprint(2*junkBytes))
		_, _ = w.Write(noise(junkBytes))
	default:
		_, _ = io.Copy(w, rand.Reader)
	}
}

// swapper says that it has every block, and gives wrong ones, or none.
type swapper struct {
	*liar
	net bsnetwork.BitSwapNetwork
}

// ReceiveMessage implements bsnetwork.Receiver.
func (s *swapper) ReceiveMessage(ctx context.Context, from peer.ID, m bsmsg.BitSwapMessage) {
	for _, want := range m.Wantlist() {
		reply := bsmsg.New(false)
		reply.AddHave(want.Cid)
		if b, err := blocks.NewBlockWithCid(noise(junkBytes), want.Cid); err == nil && s.Kind != neverDone {
			reply.AddBlock(b)
		}
		go func() { _ = s.net.SendMessage(ctx, from, reply) }()
	}
}

// ReceiveError implements bsnetwork.Receiver.
func (s *swapper) ReceiveError(error) {}

// PeerConnected implements bsnetwork.Receiver.
func (s *swapper) PeerConnected(peer.ID) {}

// PeerDisconnected implements bsnetwork.Receiver.
func (s *swapper) PeerDisconnected(peer.ID) {}

// bother sends what nobody asked for until ctx ends.
func (l *liar) bother(ctx context.Context) {
	tick := time.NewTicker(junkEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch l.Kind {
		case junk:
			_ = l.host.Publish(ctx, meshwire.TopicMessages, noise(junkBytes))
			_ = l.host.Publish(ctx, meshwire.TopicCapacity, noise(junkBytes))
		case inventor:
			if raw, err := l.forged(n); err == nil {
				_ = l.host.Publish(ctx, meshwire.TopicMessages, raw)
			}
		}
		for _, id := range l.host.Connected() {
			l.spoil(ctx, id, n)
		}
	}
}

// forged is a message of somebody else, which that one has not signed.
func (l *liar) forged(n int) ([]byte, error) {
	e := *l.late
	e.ItemContent = fmt.Sprintf(`{"address":%q,"time":%d,"type":"lie","content":{"n":%d}}`, e.Sender, e.Time.Unix(), n)
	e.ItemHash = message.HashOf([]byte(e.ItemContent))
	return json.Marshal(&e)
}

// spoil opens a stream of each protocol and sends frames that are none: noise, a length
// without an end, the half of a frame and then nothing.
func (l *liar) spoil(ctx context.Context, to p2p.PeerID, n int) {
	id, err := peer.Decode(string(to))
	if err != nil {
		return
	}
	protocols := []protocol.ID{meshwire.StreamAsk, meshwire.StreamBulk, "/ipfs/bitswap/1.2.0", "/aleph/kad/1.0.0", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"}
	if l.Kind == neverDone { // Of the others the gossip is to be heard.
		protocols = append(protocols, pubsub.GossipSubID_v11)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := l.host.Libp2p().NewStream(ctx, id, protocols[n%len(protocols)])
	if err != nil {
		return
	}
	if err := s.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	switch l.Kind {
	case junk:
		_, _ = s.Write(noise(junkBytes))
		_ = s.Close()
	case inventor:
		_, _ = s.Write(binary.BigEndian.AppendUint32(nil, math.MaxUint32))
		_ = s.Reset()
	default: // It stays open, until the other one has had enough.
		_, _ = s.Write(append(binary.BigEndian.AppendUint32(nil, junkBytes), `{"kind":`...))
	}
}

// startLiar runs a liar that knows some nodes.
func (w *world) startLiar(t *testing.T, kind string, first ...*node) (name p2p.PeerID, host string) {
	t.Helper()
	h := w.join(t, kind)
	c := liarConfig{Kind: kind, Network: p2p.DefaultConfig(), KeyDir: filepath.Join(w.dir, "keys of "+kind)}
	c.Network.ListenAddr = fmt.Sprintf("/ip4/%s/tcp/%d,/ip4/%s/udp/%d/quic-v1", h.Addr, meshPort, h.Addr, meshPort)
	for _, f := range first {
		c.Network.BootstrapPeers = append(c.Network.BootstrapPeers, f.bootstrap()...)
	}
	keys, err := keystore.Open(c.KeyDir, "", "")
	if err == nil {
		name, err = p2p.PeerIDOf(keys.Identity)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, kind+".json")
	if err := os.WriteFile(path, mustJSON(t, c), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(w.dir, kind+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), liarVariable+"="+path), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("liar %s had ended by itself: %v", kind, err)
		}
		_ = cmd.Wait() // It was killed, and says so.
		if raw, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("liar %s, %s, said (%v)\n%s", kind, name, err, raw[max(0, len(raw)-logTail):])
		}
	})
	return name, h.Addr.String()
}

// TestLiars has three liars among three honest nodes, each connected with all. The honest
// nodes agree, stay reachable and small, and no longer hear who sends what nobody honest does.
func TestLiars(t *testing.T) {
	w := newWorld(t)
	w.network(t, "a", "b", "c")
	w.talk(t, w.nodes, 2)
	w.converge(t, w.nodes)
	names := map[string]p2p.PeerID{}
	var gateways []string
	for _, kind := range []string{junk, inventor, neverDone} {
		name, host := w.startLiar(t, kind, w.nodes...)
		names[kind] = name
		gateways = append(gateways, fmt.Sprintf("http://%s:%d", host, gatewayPort))
	}
	for _, n := range w.nodes { // Those who believe the liars' gateways first.
		n.more["ipfs"] = table{"gateways": gateways, "stall_timeout": "2s"}
		n.stop(t)
		n.start(t)
		n.waitUp(t)
	}
	w.waitMet(t, w.nodes)
	for kind, name := range names {
		for _, n := range w.nodes {
			eventually(t, fmt.Sprintf("liar %s has met %s", kind, n.name), func(ctx context.Context) error {
				peers, err := n.peers(ctx)
				if _, ok := peers[string(name)]; err == nil && !ok {
					err = errors.New("it has not")
				}
				return err
			})
		}
	}

	t.Run("honest nodes agree, whatever liars serve", func(t *testing.T) {
		about := w.subjects(t)
		w.part(w.nodes[:1], w.nodes[1:])
		w.quarrel(t, w.nodes[0], w.nodes[1], about)
		w.talk(t, w.nodes, 5)
		w.heal()
		w.converge(t, w.nodes)
	})
	t.Run("files come from who has them", func(t *testing.T) {
		for _, n := range w.nodes {
			w.store(t, n, w.authors[1], 200_000)
			w.pin(t, n, w.authors[2])
		}
		w.converge(t, w.nodes)
	})
	t.Run("content that only liars have is not believed", func(t *testing.T) {
		name, raw := w.authors[1].block()
		late := w.keep(t, w.nodes[0], w.authors[1], message.IPFS, name, raw)
		for _, n := range w.nodes {
			eventually(t, n.name+" waits for the content", func(ctx context.Context) error {
				status, err := n.statusOf(ctx, late.hash)
				if err == nil && status != "pending" {
					err = fmt.Errorf("it is %q", status)
				}
				return err
			})
			eventually(t, n.name+" caught a gateway lying", func(ctx context.Context) error {
				v, err := n.metric(ctx, "aleph_ipfs_fetches_total", `source="gateway"`, `outcome="lied"`)
				if err == nil && v == 0 {
					err = errors.New("it did not")
				}
				return err
			})
		}
		if !w.upload(t, w.nodes[1], addBlock, raw, name) {
			t.Fatal("nobody has it now")
		}
		w.converge(t, w.nodes)
	})
	t.Run("who sends what nobody honest does is not heard, and that is shown", func(t *testing.T) {
		for _, n := range w.nodes {
			eventually(t, n.name+" shows whom it does not hear", func(ctx context.Context) error {
				peers, err := n.peers(ctx)
				for _, kind := range []string{junk, inventor} {
					p, ok := peers[string(names[kind])]
					if err == nil && ok && p.Score > -100 {
						err = fmt.Errorf("liar %s stands at %f", kind, p.Score)
					}
				}
				return err
			})
			for _, metric := range [][]string{
				{"aleph_p2p_gossip_total", `outcome="rejected"`}, {"aleph_ingest_catch_up_visits_total", `outcome="misconduct"`},
			} {
				if v, err := n.metric(t.Context(), metric[0], metric[1:]...); err != nil || v == 0 {
					t.Errorf("%s has %v = %v (%v), want some", n.name, metric, v, err)
				}
			}
		}
	})
	for _, n := range w.nodes {
		if got := n.memory(t); got > memoryMax {
			t.Errorf("%s uses %d bytes of memory, want at most %d", n.name, got, memoryMax)
		} else {
			t.Logf("%s uses %d MiB of memory", n.name, got>>20)
		}
		if err := n.sees(t.Context(), true, w.nodes...); err != nil {
			t.Error(err)
		}
	}
	check(t, w.nodes)
}
