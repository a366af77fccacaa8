package chainsync_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// waitMax bounds how long a test waits for something.
const waitMax = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// world is a chain with the contract of the public network on it.
type world struct {
	t        *testing.T
	chain    *devchain.Chain
	client   *chain.Client
	contract common.Address
	emitter  *ecdsa.PrivateKey // Its archives count.
	other    *ecdsa.PrivateKey // Its do not.
	serial   int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := devchain.Open(devchain.Config{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	a := devchain.Accounts()
	w := &world{t: t, chain: c, client: client, emitter: a[3].Key, other: a[4].Key}
	r := w.transact(w.other, nil, creation(t))
	w.contract = *r.CreatedAt
	return w
}

// creation is the code that makes the contract as it is on Ethereum.
func creation(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../protocol/testdata/vectors/sync_contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Code string `json:"deployed_bytecode"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	code, err := hex.DecodeString(v.Code[2:])
	if err != nil {
		t.Fatal(err)
	}
	// Copies what follows to memory and returns it.
	return append([]byte{0x61, byte(len(code) >> 8), byte(len(code)), 0x80, 0x60, 0x0c, 0x60, 0, 0x39, 0x60, 0, 0xf3}, code...)
}

// transact sends a transaction and makes a block with it.
func (w *world) transact(key *ecdsa.PrivateKey, to *common.Address, data []byte) *chain.Receipt {
	w.t.Helper()
	ctx := w.t.Context()
	nonce, err := w.client.Nonce(ctx, crypto.PubkeyToAddress(key.PublicKey), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	id := w.client.ChainID()
	tx, err := types.SignNewTx(key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, Gas: 5_000_000, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), To: to, Data: data,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.client.Send(ctx, raw); err != nil {
		w.t.Fatal(err)
	}
	w.mine(1)
	r, err := w.client.Receipt(ctx, tx.Hash())
	if err != nil || !r.OK {
		w.t.Fatalf("transaction: %+v, %v", r, err)
	}
	return r
}

// call calls the contract.
func (w *world) call(key *ecdsa.PrivateKey, method string, args ...any) *chain.Receipt {
	w.t.Helper()
	parsed, err := chain.SyncContract{}.ABI(chain.SyncName)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := parsed.Pack(method, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.transact(key, &w.contract, data)
}

func (w *world) mine(blocks int) {
	w.t.Helper()
	for range blocks {
		if _, err := w.chain.Mine(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) reorg(depth int) {
	w.t.Helper()
	if err := w.chain.Reorg(depth); err != nil {
		w.t.Fatal(err)
	}
}

// events counts the events that the chain has.
func (w *world) events() int {
	w.t.Helper()
	head, err := w.client.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	logs, err := w.client.LogsBetween(w.t.Context(), 0, head.Number, []common.Address{w.contract})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(logs)
}

// post is a signed message.
func (w *world) post(text string) (message.ItemHash, json.RawMessage) {
	w.t.Helper()
	return w.sign(fmt.Sprintf(`"type":"note","content":{"body":%q}`, text))
}

// amend is a signed message that replaces what another one says.
func (w *world) amend(original message.ItemHash, text string) (message.ItemHash, json.RawMessage) {
	w.t.Helper()
	return w.sign(fmt.Sprintf(`"type":"amend","ref":%q,"content":{"body":%q}`, original, text))
}

// forget is a signed message that ends others.
func (w *world) forget(hash message.ItemHash) json.RawMessage {
	w.t.Helper()
	_, raw := w.signAs(message.TypeForget, fmt.Sprintf(`"hashes":[%q],"aggregates":[]`, hash))
	return raw
}

// sign is a post with fields.
func (w *world) sign(fields string) (message.ItemHash, json.RawMessage) {
	w.t.Helper()
	return w.signAs(message.TypePost, fields)
}

func (w *world) signAs(as message.Type, fields string) (message.ItemHash, json.RawMessage) {
	w.t.Helper()
	w.serial++
	at := time.Unix(1_700_000_000+w.serial, 123_456_000).UTC()
	content := fmt.Sprintf(`{"address":%q,"time":%s,%s}`, crypto.PubkeyToAddress(w.other.PublicKey).Hex(), message.FormatTime(at), fields)
	e := &message.Envelope{Chain: message.Ethereum, Type: as, Time: at, ItemType: message.Inline, ItemContent: content, ItemHash: message.HashOf([]byte(content))}
	if err := signature.SignEVM(w.other, e); err != nil {
		w.t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return e.ItemHash, raw
}

func (w *world) config() chainsync.Config {
	cfg := chainsync.DefaultConfig()
	cfg.RPCURL, cfg.ChainID, cfg.Contract, cfg.FromBlock = w.chain.URL(), devchain.ChainID, w.contract.Hex(), 1
	cfg.Emitters, cfg.Confirmations = []string{crypto.PubkeyToAddress(w.emitter.PublicKey).Hex()}, 0
	cfg.Interval, cfg.CommitDelay = 50*time.Millisecond, 50*time.Millisecond
	return cfg
}

// member is a node of the network, as far as confirmations go.
type member struct {
	*chainsync.Syncer
	w       *world
	dir     string
	db      *state.DB
	pipe    *ingest.Pipeline
	files   *files
	blobs   *blob.Store
	log     *slog.Logger // Of the syncer.
	reg     *prometheus.Registry
	closers []io.Closer
}

// open opens a node in a directory. Archives that it lacks it gets from source, which
// may be nil.
func (w *world) open(dir string, cfg chainsync.Config, source *member, change ...func(*member) (chainsync.Chain, chainsync.Intake)) *member {
	w.t.Helper()
	t := w.t
	m, err := openMember(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m.w = w
	if source != nil {
		m.files.source = source.files
	}
	var c chainsync.Chain = w.client
	var intake chainsync.Intake = m.pipe
	for _, fn := range change {
		c, intake = fn(m)
	}
	if m.Syncer, err = chainsync.New(cfg, m.db, c, intake, m.files, m.log, m.reg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

// openMember opens what a node has in a directory.
func openMember(ctx context.Context, dir string) (m *member, err error) {
	m = &member{dir: dir, log: quiet, reg: prometheus.NewRegistry()}
	if m.db, err = state.Open(ctx, dir); err != nil {
		return nil, err
	}
	if m.blobs, err = blob.Open(dir+"/blobs", blob.DefaultConfig(), m.reg, quiet); err != nil {
		return nil, err
	}
	store, err := ipfs.Open(dir+"/ipfs", content.Blobs(m.blobs), ipfs.DefaultConfig(), m.reg, quiet)
	if err != nil {
		return nil, err
	}
	m.closers = []io.Closer{m.db, m.blobs, store}
	m.files = &files{content: store}
	m.pipe, err = ingest.New(ingest.DefaultConfig(), job.Jobs(big.NewInt(1), common.Address{}), m.db, nil, m.files, nil, m.reg, quiet)
	return m, err
}

// close ends a node as a crash would: nothing is said to anybody before.
func (m *member) close() {
	m.w.t.Helper()
	for _, c := range slices.Backward(m.closers) {
		if err := c.Close(); err != nil {
			m.w.t.Error(err)
		}
	}
	m.closers = nil
}

// sync reads the chain and takes what is new.
func (m *member) sync() {
	m.w.t.Helper()
	if err := m.ReadOnce(m.w.t.Context()); err != nil {
		m.w.t.Fatalf("read: %v", err)
	}
	if err := m.TakeOnce(m.w.t.Context(), false); err != nil {
		m.w.t.Fatalf("take: %v", err)
	}
}

// send runs the publisher's outbox until its last intent is confirmed, in another block
// than the one that is given, while blocks are made.
func (m *member) send(but common.Hash) *state.Intent {
	m.w.t.Helper()
	t := m.w.t
	cfg := outbox.Config{Lane: state.LaneSync, Interval: 50 * time.Millisecond, StuckAfter: time.Hour, MaxFeeGwei: 100, Replacements: 3}
	sender := outbox.New(cfg, m.db, m.w.client, chain.SyncContract{At: m.w.contract}, m.w.emitter, quiet, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sender.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("outbox: %v", err)
		}
	}()
	var last *state.Intent
	wait(t, "the intent is confirmed", func() bool {
		m.w.mine(1)
		var err error
		last, err = m.db.Intents(state.LaneSync).Last(t.Context())
		return err == nil && last.Status == state.IntentConfirmed && last.MinedIn != but
	})
	return last
}

// submit hands in messages as a client would.
func (m *member) submit(raws ...json.RawMessage) {
	m.w.t.Helper()
	for _, raw := range raws {
		v, err := m.pipe.Submit(m.w.t.Context(), ingest.Submission{Raw: raw, At: time.Now()})
		if err != nil || v.Status != state.MessageProcessed {
			m.w.t.Fatalf("submit: %+v, %v", v, err)
		}
	}
}

// confirmations are those of messages, as text.
func (m *member) confirmations(hashes ...message.ItemHash) string {
	m.w.t.Helper()
	all, err := m.db.Confirmations(m.w.t.Context(), hashes)
	if err != nil {
		m.w.t.Fatal(err)
	}
	var out []string
	for _, h := range hashes {
		if found, err := m.db.Message(m.w.t.Context(), h); err != nil || found.Status != state.MessageProcessed {
			out = append(out, "missing")
			continue
		}
		for _, c := range all[h] {
			out = append(out, fmt.Sprintf("%s %s %d %d %s", c.Chain, c.Hash, c.Height, c.At.Unix(), c.Publisher))
		}
	}
	return fmt.Sprint(out)
}

// count is how many messages of a list have exactly one confirmation.
func (m *member) count(hashes []message.ItemHash) (n int) {
	m.w.t.Helper()
	all, err := m.db.Confirmations(m.w.t.Context(), hashes)
	if err != nil {
		m.w.t.Fatal(err)
	}
	for _, h := range hashes {
		if len(all[h]) == 1 {
			n++
		}
	}
	return n
}

func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.NewTimer(waitMax)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-end.C:
			t.Fatalf("waited %v in vain until %s", waitMax, what)
		case <-tick.C:
		}
	}
}

// files has IPFS content, and gets what it lacks from another node block by block.
type files struct {
	content *ipfs.Store
	source  *files
	cut     atomic.Bool            // No other node can be reached.
	kept    func(message.ItemHash) // Called when a file was added; nil does nothing.
}

func (f *files) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return state.FileInfo{}, err
	}
	r, err := f.content.Root(id)
	return state.FileInfo{Hash: hash, SizeBytes: r.Size, Directory: r.Kind == ipfs.KindDirectory}, err
}

func (f *files) Fetch(ctx context.Context, hash message.ItemHash) error {
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return err
	}
	if f.source == nil || f.cut.Load() {
		return errs.New(errs.Unavailable, "nobody has it")
	}
	var out bytes.Buffer
	if err := f.source.content.Export(ctx, id, &out); err != nil {
		return err
	}
	car, err := ipfs.OpenCAR(&out)
	if err != nil {
		return err
	}
	_, err = f.content.AddCAR(ctx, car)
	return err
}

func (f *files) Read(_ context.Context, hash message.ItemHash, limit int64) ([]byte, error) {
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return nil, err
	}
	r, err := f.content.Open(id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, errs.New(errs.Invalid, "too long")
	}
	return raw, err
}

func (f *files) Add(ctx context.Context, raw []byte, expect func(state.FileInfo) error) (state.FileInfo, error) {
	var info state.FileInfo
	_, err := f.content.AddIf(ctx, bytes.NewReader(raw), ipfs.V0, func(root ipfs.Root) error {
		info = state.FileInfo{Hash: message.ItemHash(root.CID.String()), SizeBytes: root.Size}
		return expect(info)
	})
	if err != nil {
		return state.FileInfo{}, err
	}
	if f.kept != nil {
		f.kept(info.Hash)
	}
	return info, nil
}

// unasked expects any file.
func unasked(state.FileInfo) error { return nil }
