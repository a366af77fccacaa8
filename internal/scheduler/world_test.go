package scheduler_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	chainNow    = 1_000_000 // chain time of the head block at the start
	coordinator = 1
)

func domain() job.Domain { return job.Jobs(big.NewInt(31337), common.Address{0x0b}) }

// keyOf returns the key of the signer with the number.
func keyOf(t testing.TB, n int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "key %d", n)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func address(t testing.TB, n int) common.Address {
	t.Helper()
	return crypto.PubkeyToAddress(keyOf(t, n).PublicKey)
}

// world is a coordinator's database and the nodes that it can ask.
type world struct {
	t    testing.TB
	dir  string
	db   *state.DB
	cfg  scheduler.Config
	asks *asker
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), cfg: scheduler.DefaultConfig()}
	w.asks = &asker{t: t, answers: map[string]answer{}}
	w.open()
	t.Cleanup(func() { w.db.Close() })
	w.update(func(ctx context.Context, tx *state.Tx) error {
		if err := tx.PutParams(ctx, state.Params{PrepaySeconds: 3600, StartSeconds: 900, GraceHardSeconds: 86400}); err != nil {
			return err
		}
		return tx.PutNode(ctx, state.Node{ID: coordinator, Kind: state.KindCoordinator, Status: state.NodeActive, Signer: address(t, coordinator)})
	})
	w.block(1, chainNow)
	return w
}

func (w *world) open() {
	w.t.Helper()
	db, err := state.Open(w.t.Context(), w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db
}

// reopen is what a crash leaves: the database, and nothing in memory.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) update(fn func(ctx context.Context, tx *state.Tx) error) {
	w.t.Helper()
	ctx := w.t.Context()
	if err := w.db.Update(ctx, func(tx *state.Tx) error { return fn(ctx, tx) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) block(number, at uint64) {
	w.t.Helper()
	w.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutBlock(ctx, state.Block{Number: number, Hash: common.Hash{byte(number), 1}, Time: at})
	})
}

// node registers a compute node and lets it advertise; edit may change both,
// and leaves no ad when it clears the ad's node id.
func (w *world) node(id uint32, edit func(*state.Node, *wire.CapacityAd)) {
	w.t.Helper()
	n := state.Node{ID: id, Kind: state.KindCompute, Status: state.NodeActive, Signer: address(w.t, int(id))}
	ad := wire.CapacityAd{
		NodeID: id, PeerID: peer(id), Endpoint: "http://127.0.0.1:1", PublicIP: "127.0.0.1",
		VCPUsTotal: 8, VCPUsFree: 8, MemoryTotalMiB: 8192, MemoryFreeMiB: 8192, DiskTotalMiB: 100_000, DiskFreeMiB: 100_000,
		PriceBps: wire.Bps, Accelerator: "tcg", Drivers: []string{"qemu"}, ScoreBps: wire.Bps, AtMS: time.Now().UnixMilli(),
	}
	if edit != nil {
		edit(&n, &ad)
	}
	w.update(func(ctx context.Context, tx *state.Tx) error {
		if err := tx.PutNode(ctx, n); err != nil {
			return err
		}
		if ad.NodeID == 0 {
			return nil
		}
		if err := ad.Sign(keyOf(w.t, int(id))); err != nil {
			return err
		}
		raw, err := json.Marshal(ad)
		if err != nil {
			return err
		}
		return tx.PutCapacity(ctx, state.Capacity{NodeID: id, PeerID: ad.PeerID, Ad: raw, ReceivedAt: time.UnixMilli(ad.AtMS).UTC()})
	})
}

func peer(id uint32) string { return fmt.Sprintf("peer%d", id) }

// instance is the content of the nth message.
func instance(n int) string {
	return fmt.Sprintf(`{"address":"0x0000000000000000000000000000000000000000","time":%d,"allow_amend":false,"variables":{"N":"%d"},
		"environment":{"internet":true,"aleph_api":false},"resources":{"vcpus":2,"memory":2048,"seconds":30},
		"payment":{"chain":"ETH","type":"credit"},"volumes":[],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":10000}}`, 1_700_000_000+n, n, message.HashOf([]byte("image")))
}

const payerKey = 100

// offer puts the nth message and an offer for it.
func (w *world) offer(n int, edit func(*state.Offer)) message.ItemHash {
	w.t.Helper()
	content := instance(n)
	env := message.Envelope{
		Chain: message.Ethereum, Type: message.TypeInstance, Time: time.Unix(1_700_000_000, 0).UTC(),
		ItemType: message.Inline, ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(keyOf(w.t, payerKey), &env); err != nil {
		w.t.Fatal(err)
	}
	o := state.Offer{
		Spec: env.ItemHash, Payer: address(w.t, payerKey), Token: job.TokenALEPH, MaxRateQ32: new(big.Int).Lsh(big.NewInt(1), 120),
		Deadline: chainNow + 600, Nonce: big.NewInt(int64(n)), Status: state.OfferOffered, ReceivedAt: time.Now().UTC(),
	}
	if edit != nil {
		edit(&o)
	}
	word := job.Offer{
		Spec: o.Spec, Payer: o.Payer, Token: o.Token, MaxRateQ32: o.MaxRateQ32, NodeHint: o.NodeHint, MaxUntil: o.MaxUntil,
		Deadline: o.Deadline, Nonce: o.Nonce,
	}
	var err error
	if o.Signature, err = job.Sign(keyOf(w.t, payerKey), domain(), &word); err != nil {
		w.t.Fatal(err)
	}
	w.update(func(ctx context.Context, tx *state.Tx) error {
		body, err := env.Content()
		if err != nil {
			return err
		}
		m := state.NewMessage(&env, []byte(env.ItemContent), body, o.ReceivedAt)
		return errors.Join(tx.AddMessages(ctx, []*state.Message{m}), tx.PutOffer(ctx, o))
	})
	return o.Spec
}

// planner returns a new planner, as after a start of the node.
func (w *world) planner() *scheduler.Planner {
	w.t.Helper()
	p, err := scheduler.New(w.cfg, scheduler.Self{NodeID: coordinator, Key: keyOf(w.t, coordinator), Domain: domain()},
		w.db, w.asks, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// run runs a new planner for d.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	if err := w.planner().Run(ctx); ctx.Err() == nil {
		w.t.Fatalf("Run: %v", err)
	}
}

func (w *world) row(spec message.ItemHash) *state.Offer {
	w.t.Helper()
	o, err := w.db.Offer(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) decision(spec message.ItemHash) *state.Decision {
	w.t.Helper()
	d, err := w.db.Decision(w.t.Context(), spec, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) wantStatus(spec message.ItemHash, want state.OfferStatus) *state.Offer {
	w.t.Helper()
	o := w.row(spec)
	if o.Status != want {
		w.t.Fatalf("offer is %s (%s), want %s", o.Status, o.Reason, want)
	}
	return o
}

// answer is how a node answers.
type answer func(ctx context.Context, ask *job.Ask) (*job.Reply, error)

// asker is the nodes, as the planner reaches them. A node without an answer
// accepts.
type asker struct {
	t testing.TB

	mu      sync.Mutex
	answers map[string]answer // by peer
	asked   []string          // peers in the order of the questions
}

func (a *asker) set(id uint32, fn answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[peer(id)] = fn
}

func (a *asker) order() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

func (a *asker) Ask(ctx context.Context, peerID string, ask *job.Ask) (*job.Reply, error) {
	a.mu.Lock()
	a.asked = append(a.asked, peerID)
	fn := a.answers[peerID]
	a.mu.Unlock()
	// What goes over the wire must be what the other side can read.
	raw, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	read, err := job.ParseAsk(raw)
	if err != nil {
		return nil, err
	}
	if fn == nil {
		fn = accepts(a.t)
	}
	return fn(ctx, read)
}

// accepts signs as the node that the terms name.
func accepts(t testing.TB) answer {
	t.Helper()
	return func(_ context.Context, ask *job.Ask) (*job.Reply, error) {
		word := job.Accept(*ask.Assignment)
		sig, err := job.Sign(keyOf(t, int(word.NodeID)), domain(), &word)
		return &job.Reply{Accepted: true, Signature: sig}, err
	}
}

func declines(reason string) answer {
	return func(context.Context, *job.Ask) (*job.Reply, error) { return &job.Reply{Reason: reason}, nil }
}
