package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func TestBookKeepsPeers(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	book, ctx := node.NewBook(db), t.Context()
	old := p2p.Peer{ID: "old", Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}
	recent := p2p.Peer{ID: "new", Addrs: []string{"/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/3"}}
	now := time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

	if err := errors.Join(book.Remember(ctx, []p2p.Peer{old}, now), book.Remember(ctx, []p2p.Peer{recent}, now.Add(time.Minute))); err != nil {
		t.Fatal(err)
	}

	for limit, want := range map[int][]p2p.Peer{9: {recent, old}, 1: {recent}} {
		got, err := book.Known(ctx, limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d peers (-want +got):\n%s", limit, diff)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, errKnown := book.Known(ctx, 1)
	if errRemember := book.Remember(ctx, []p2p.Peer{old}, now); errKnown == nil || errRemember == nil {
		t.Errorf("without a database: %v and %v, want errors", errKnown, errRemember)
	}
}

func TestAskerAsksOtherNodes(t *testing.T) {
	server := p2ptest.Open(t, "server")
	server.HandleAsk(string(job.AskStatus), func(_ context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
		var ask job.Ask
		if err := json.Unmarshal(raw, &ask); err != nil {
			return p2p.Answer{}, err
		}
		switch ask.Spec {
		case chaintest.Spec("nonsense"):
			return p2p.Answer{Reply: map[string]any{"accepted": true}}, nil // But not signed.
		case chaintest.Spec("unknown"):
			return p2p.Answer{}, errs.New(errs.NotFound, "no such job")
		}
		return p2p.Answer{Reply: job.Reply{Reason: "about " + string(ask.Spec)}}, nil
	})
	client := p2ptest.Open(t, "client", server.Addrs()...)
	p2ptest.Start(t, server, client)
	p2ptest.Meet(t, server, client)
	asker, ctx := node.NewAsker(client), t.Context()
	spec := chaintest.Spec("job")

	reply, err := asker.Ask(ctx, string(server.ID()), &job.Ask{Kind: job.AskStatus, Spec: spec})

	if err != nil || reply.Reason != "about "+string(spec) {
		t.Errorf("got %+v, %v, want a reply about the job", reply, err)
	}
	if _, err := asker.Ask(ctx, string(server.ID()), &job.Ask{Kind: job.AskStatus, Spec: chaintest.Spec("nonsense")}); err == nil || !strings.Contains(err.Error(), "accepted without a signature") {
		t.Errorf("a reply that is nonsense: %v", err)
	}
	if _, err := asker.Ask(ctx, string(server.ID()), &job.Ask{Kind: job.AskStatus, Spec: chaintest.Spec("unknown")}); !errors.Is(err, errs.NotFound) {
		t.Errorf("a refusal: %v, want not found", err)
	}
	if _, err := asker.Ask(ctx, "nobody", &job.Ask{Kind: job.AskStatus}); !errors.Is(err, errs.Invalid) {
		t.Errorf("a peer id that is none: %v, want invalid", err)
	}
}

func TestPublisherWaitsUntilItIsHeard(t *testing.T) {
	speaker, alone := p2ptest.Open(t, "speaker"), p2ptest.Open(t, "alone")
	listener := p2ptest.Open(t, "listener", speaker.Addrs()...)
	heard := make(chan wire.CapacityAd, 1)
	accept := func(context.Context, *p2p.Gossip) p2p.Verdict { return p2p.Accept }
	for _, h := range []*p2p.Host{speaker, alone} {
		if err := h.Subscribe(wire.TopicCapacity, accept, func(context.Context, p2p.Gossip) {}); err != nil {
			t.Fatal(err)
		}
	}
	err := listener.Subscribe(wire.TopicCapacity, accept, func(_ context.Context, g p2p.Gossip) {
		var ad wire.CapacityAd
		if err := json.Unmarshal(g.Data, &ad); err != nil {
			t.Errorf("heard %q", g.Data)
		}
		heard <- ad
	})
	if err != nil {
		t.Fatal(err)
	}
	p2ptest.Start(t, speaker, alone)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := node.NewPublisher(alone).PublishCapacity(ctx, &wire.CapacityAd{}); !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "no peer listens") {
		t.Errorf("with nobody there: %v, want unavailable", err)
	}

	// It speaks before it is connected.
	done := make(chan error, 1)
	go func() { done <- node.NewPublisher(speaker).PublishCapacity(t.Context(), &wire.CapacityAd{NodeID: 7}) }()
	p2ptest.Start(t, listener)

	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ad := <-heard; ad.NodeID != 7 {
		t.Errorf("heard of node %d, want 7", ad.NodeID)
	}
}

func TestExecutorGetsMessagesAndImagesFromTheirKeepers(t *testing.T) {
	cfg, _ := join(t, chaintest.Start(t), config.Coordinator)
	n, _ := begin(t, cfg)
	ctx := t.Context()
	info, err := n.Blobs().Put(ctx, strings.NewReader("an image"), "")
	if err != nil {
		t.Fatal(err)
	}

	path, err := n.Images().Fetch(ctx, info.Hash, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "an image" {
		t.Errorf("the image is %q, %v", raw, err)
	}
	if _, err := n.Images().Fetch(ctx, message.HashOf([]byte("elsewhere")), nil); err == nil {
		t.Error("an image that nobody has was fetched")
	}

	const content = `{"address":"0x0","time":1,"type":"t"}`
	hash := message.HashOf([]byte(content))
	env := &message.Envelope{
		Chain: message.Ethereum, Sender: "0x0", Type: message.TypePost, Time: time.Unix(1, 0),
		ItemType: message.Inline, ItemContent: content, ItemHash: hash, Signature: "0x00",
	}
	body, err := env.Content()
	if err != nil {
		t.Fatal(err)
	}
	err = n.DB().Update(ctx, func(tx *state.Tx) error {
		return tx.AddMessages(ctx, []*state.Message{state.NewMessage(env, []byte(content), body, time.Now())})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Messages().Message(ctx, hash)
	if err != nil || got.ItemHash != hash {
		t.Errorf("the message is %+v, %v", got, err)
	}
	if _, err := n.Messages().Message(ctx, message.HashOf([]byte("elsewhere"))); err == nil {
		t.Error("a message that nobody has was found")
	}
}

// A compute node has a file of IPFS from the first core channel node that sends the right
// one, once, and machines open it under its sha256.
func TestAComputeNodeFetchesFilesByCID(t *testing.T) {
	const id = message.ItemHash("QmTSZuGYUpVrhMmC4duxRJbPtKXTUZyx73oebV8oRMiDTs") // Of the network's vectors.
	data := strings.Repeat("x", 262_145)
	var asked [2]atomic.Int32
	var urls []string
	for i, body := range []string{strings.Replace(data, "x", "y", 1), data} {
		core := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v0/storage/raw/"+string(id) {
				http.Error(w, "404: Not Found", http.StatusNotFound)
				return
			}
			asked[i].Add(1)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
		}))
		defer core.Close()
		urls = append(urls, core.URL)
	}
	cfg, _ := join(t, chaintest.Start(t), config.Compute)
	cfg.CoreNode.Servers = urls
	sha := message.HashOf([]byte(data))
	for _, start := range []string{"first", "second"} {
		n, end := begin(t, cfg)
		path, err := n.Images().Fetch(t.Context(), id, nil)
		if err != nil {
			t.Fatalf("%s start: %v", start, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != data || filepath.Base(path) != string(sha) {
			t.Errorf("%s start: %d bytes at %s, %v", start, len(raw), path, err)
		}
		if blob := n.Images().Blob(id); blob != sha {
			t.Errorf("%s start: it is kept as %s", start, blob)
		}
		if a, b := asked[0].Load(), asked[1].Load(); a != 1 || b != 1 {
			t.Errorf("%s start: the servers were asked %d and %d times, want once each", start, a, b)
		}
		end()
	}
}

// A coordinator keeps what STORE messages name, what may be named soon, and what
// IPFS content is made of.
func TestACoordinatorNeedsFilesFreshUploadsAndContent(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	named, other, part := message.HashOf([]byte("named")), message.HashOf([]byte("other")), message.HashOf([]byte("part"))
	err = db.Update(t.Context(), func(tx *state.Tx) error {
		return tx.PutPin(t.Context(), state.Pin{Key: string(message.HashOf(nil)), Kind: state.PinMessage, File: named})
	})
	if err != nil {
		t.Fatal(err)
	}

	var broken error
	needed, err := node.Files(db, func(hash message.ItemHash) (bool, error) { return hash == part, broken }).Needed(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	long := time.Now().Add(-2 * time.Hour)
	for _, tt := range []struct {
		hash   message.ItemHash
		usedAt time.Time
		want   bool
	}{{named, long, true}, {other, long, false}, {other, time.Now(), true}, {part, long, true}} {
		if got := needed(tt.hash, tt.usedAt); got != tt.want {
			t.Errorf("blob %s used at %s is needed: %v, want %v", tt.hash, tt.usedAt, got, tt.want)
		}
	}
	if broken = errors.New("the index cannot be read"); !needed(other, long) {
		t.Error("a blob went while nobody could tell whether content needs it")
	}
}
