package ingest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// funds answers for the chain: what everyone has.
type funds struct {
	balance, allowance, refund *big.Int
	err                        error
}

func (f *funds) Funds(context.Context, common.Address, uint8) (balance, allowance, refund *big.Int, err error) {
	return f.balance, f.allowance, f.refund, f.err
}

func domain() job.Domain { return job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1")) }

// node is a host with state, blobs and a pipeline.
type node struct {
	host  *p2p.Host
	db    *state.DB
	blobs *blob.Store
	pipe  *ingest.Pipeline
	funds *funds
	stop  func()
	// broken says that the disk is.
	broken atomic.Bool
}

func config(keepFiles bool) ingest.Config {
	cfg := ingest.DefaultConfig()
	cfg.RetryInterval, cfg.KeepFiles, cfg.CatchUpInterval = 20*time.Millisecond, keepFiles, 0
	return cfg
}

// open returns a node that is not running yet.
func open(t *testing.T, name string, cfg ingest.Config, bootstrap ...string) *node {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	n := &node{host: p2ptest.Open(t, name, bootstrap...), funds: &funds{aleph(1000), aleph(1000), new(big.Int), nil}}
	var err error
	if n.db, err = state.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if n.blobs, err = blob.Open(t.TempDir(), blob.DefaultConfig(), reg, log); err != nil {
		t.Fatal(err)
	}
	keeper, err := storage.New(n.blobs, n.host, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	if n.pipe, err = ingest.New(cfg, domain(), n.db, n.host, contents{keeper, n.blobs, &n.broken}, n.funds, reg, log); err != nil {
		t.Fatal(err)
	}
	return n
}

// contents has the bytes that messages name.
type contents struct {
	keeper *storage.Keeper
	blobs  *blob.Store
	broken *atomic.Bool
}

func (c contents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if c.broken != nil && c.broken.Load() {
		return state.FileInfo{}, errors.New("disk is broken")
	}
	if hash.Type() == message.IPFS {
		return state.FileInfo{}, noContent(hash)
	}
	info, err := c.keeper.Stat(hash)
	return state.FileInfo{Hash: hash, SizeBytes: info.Size}, err
}

func (c contents) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := c.keeper.Fetch(ctx, hash)
	return err
}

func (c contents) Read(_ context.Context, hash message.ItemHash, limit int64) ([]byte, error) {
	if hash.Type() == message.IPFS {
		return nil, noContent(hash)
	}
	b, err := c.blobs.Open(hash)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Info.Size > limit {
		return nil, errs.New(errs.Invalid, "content %s has more than %d bytes", hash, limit)
	}
	return io.ReadAll(b)
}

// noContent says that IPFS content is not here, or cannot be anywhere.
func noContent(hash message.ItemHash) error {
	if _, err := ipfs.ParseCID(string(hash)); err != nil {
		return err
	}
	return errs.New(errs.NotFound, "no content %s", hash)
}

// submit hands in a message that can be read.
func (n *node) submit(t *testing.T, raw []byte) *ingest.Verdict {
	t.Helper()
	v, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// run starts the node's pipeline until the test ends.
func (n *node) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.pipe.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	n.stop = func() { cancel(); <-done }
	t.Cleanup(n.stop)
}

func (n *node) update(t *testing.T, fn func(ctx context.Context, tx *state.Tx) error) {
	t.Helper()
	if err := n.db.Update(t.Context(), func(tx *state.Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until the message has the status.
func (n *node) waitFor(t *testing.T, hash message.ItemHash, want state.MessageStatus) *state.Known {
	t.Helper()
	var k *state.Known
	p2ptest.Wait(t, fmt.Sprintf("message is %s", want), func() bool {
		var err error
		k, err = n.db.Known(t.Context(), hash)
		return err == nil && k.Status == want
	})
	return k
}

func aleph(n int64) *big.Int {
	return new(big.Int).Mul(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil))
}

func key(t *testing.T, name string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("ingest test " + name)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// envelope signs a content.
func envelope(t *testing.T, k *ecdsa.PrivateKey, typ message.Type, content map[string]any) (message.ItemHash, []byte) {
	t.Helper()
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Now(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return e.ItemHash, out
}

func store(t *testing.T, k *ecdsa.PrivateKey, file message.ItemHash) (message.ItemHash, []byte) {
	t.Helper()
	return envelope(t, k, message.TypeStore, map[string]any{
		"address": addressOf(k), "time": 1, "item_type": "storage", "item_hash": file, "metadata": map[string]any{"name": "debian"},
	})
}

func instanceContent(owner string, ref message.ItemHash) map[string]any {
	return map[string]any{
		"address": owner, "time": 1, "allow_amend": false, "environment": map[string]any{"hypervisor": "qemu", "internet": true},
		"resources": map[string]any{"vcpus": 1, "memory": 256, "seconds": 30},
		"payment":   map[string]any{"chain": "ETH", "type": "credit"},
		"rootfs":    map[string]any{"parent": map[string]any{"ref": ref}, "persistence": "host", "size_mib": 1024},
		"volumes":   []any{},
	}
}

func instance(t *testing.T, k *ecdsa.PrivateKey, ref message.ItemHash, change ...func(map[string]any)) (message.ItemHash, []byte) {
	t.Helper()
	c := instanceContent(addressOf(k), ref)
	for _, fn := range change {
		fn(c)
	}
	return envelope(t, k, message.TypeInstance, c)
}

func TestStoreThenInstanceAreProcessed(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	file := bytes.Repeat([]byte("image"), 1000)
	info, err := n.blobs.Put(t.Context(), bytes.NewReader(file), "")
	if err != nil {
		t.Fatal(err)
	}
	ref, raw := store(t, k, info.Hash)

	if v := n.submit(t, raw); v.Status != state.MessageProcessed || v.Known {
		t.Fatalf("Submit STORE = %+v", v)
	}
	f, err := n.db.File(t.Context(), ref)
	if err != nil || f.Hash != info.Hash || f.SizeBytes != int64(len(file)) || f.Name != "debian" || f.Owner != addressOf(k) {
		t.Errorf("file = %+v, %v", f, err)
	}
	hash, raw := instance(t, k, ref)
	if v := n.submit(t, raw); v.Status != state.MessageProcessed {
		t.Errorf("Submit INSTANCE = %+v", v)
	}
	before, err := n.db.LastMessage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := n.submit(t, raw); v.Status != state.MessageProcessed || v.ItemHash != hash || !v.Known {
		t.Errorf("Submit again = %+v", v)
	}
	if after, err := n.db.LastMessage(t.Context()); err != nil || after != before {
		t.Errorf("submitting again made message %d after %d, %v", after, before, err)
	}
	if c, err := n.db.Cost(t.Context(), hash); err != nil || c.Payment != message.PayCredit {
		t.Errorf("cost = %+v, %v", c, err)
	}
}

func TestRefusalsCarryTheProtocolsCode(t *testing.T) {
	n := open(t, "n", config(true))
	k, other := key(t, "owner"), key(t, "other")
	ref, raw := store(t, k, message.HashOf([]byte("x")))
	if _, err := n.blobs.Put(t.Context(), strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	n.submit(t, raw)
	with := func(name string, v any) func(map[string]any) { return func(c map[string]any) { c[name] = v } }
	of := func(h message.ItemHash, raw []byte) []byte { return raw }
	forged := bytes.Replace(of(instance(t, k, ref, with("metadata", map[string]any{"a": 1}))), []byte(addressOf(k)+`","chain"`), []byte(addressOf(other)+`","chain"`), 1)
	tests := []struct {
		name string
		raw  []byte
		code message.Code
	}{
		{"another key signed it", forged, message.CodeInvalidSignature},
		{"in another's name", of(instance(t, other, ref, with("address", addressOf(k)))), message.CodePermissionDenied},
		{"paid by holding", of(instance(t, k, ref, with("payment", map[string]any{"type": "hold"}))), message.CodeInvalidPaymentMethod},
		{"a character that no database holds", of(envelope(t, k, message.TypePost, map[string]any{"address": addressOf(k), "time": 1, "type": "a\x00b"})), message.CodeInvalidFormat},
		{"a FORGET of nothing", of(envelope(t, k, message.TypeForget, map[string]any{"address": addressOf(k), "time": 1, "hashes": []string{}})), message.CodeForgetNoTarget},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := n.submit(t, tt.raw)

			if v.Status != state.MessageRejected || v.Refusal == nil || v.Refusal.Code != tt.code {
				t.Fatalf("Submit: %+v, want code %d", v, tt.code)
			}
			r, err := n.db.Rejected(t.Context(), v.ItemHash)
			if err != nil || r.Code != tt.code || string(r.Envelope) != string(tt.raw) {
				t.Errorf("row = %+v, %v; want it rejected with the code", r, err)
			}
		})
	}
	_, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: []byte("{")})
	var rejected *message.RejectError
	if !errors.As(err, &rejected) || rejected.Code != message.CodeInvalidFormat {
		t.Errorf("no message: %v, want code 0", err)
	}
}

// TestContentsThatAreNotInline are read from the files that are here, or waited for.
func TestContentsThatAreNotInline(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	content := []byte(`{"type":"t","content":{"a":1}}`) // Its owner is the sender, and its time the message's.
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypePost, Time: time.Now(), ItemType: message.Storage, ItemHash: message.HashOf(content)}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if v := n.submit(t, raw); v.Status != state.MessagePending || v.Refusal.Code != message.CodeContentUnavailable {
		t.Fatalf("without its content: %+v", v)
	}
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(content), ""); err != nil {
		t.Fatal(err)
	}
	if err := n.pipe.Uploaded(t.Context(), state.FileInfo{Hash: e.ItemHash, SizeBytes: int64(len(content))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	p2ptest.Start(t, n.host)
	m := n.waitFor(t, e.ItemHash, state.MessageProcessed).Message
	if m.Owner != addressOf(k) || string(m.Content) != string(content) {
		t.Errorf("message: %+v", m)
	}
	if kept, err := n.db.Pinned(t.Context(), e.ItemHash); err != nil || !kept {
		t.Errorf("content is pinned: %v, %v", kept, err)
	}
}

func TestWhatIsMissingIsWaitedFor(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	file := []byte("comes late")
	ref, storeRaw := store(t, k, message.HashOf(file))
	hash, raw := instance(t, k, ref)

	if v := n.submit(t, raw); v.Status != state.MessagePending || v.Refusal.Code != message.CodeVMVolumeNotFound || !strings.Contains(v.Refusal.Detail, string(ref)) {
		t.Fatalf("INSTANCE before its STORE = %+v; want pending with code 301", v)
	}
	if v := n.submit(t, storeRaw); v.Status != state.MessagePending || v.Refusal.Code != message.CodeFileUnavailable {
		t.Fatalf("STORE before its file = %+v; want pending with code 4", v)
	}
	n.run(t)
	p2ptest.Start(t, n.host)
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(file), ""); err != nil {
		t.Fatal(err)
	}
	if err := n.pipe.Uploaded(t.Context(), state.FileInfo{Hash: message.HashOf(file), SizeBytes: int64(len(file))}, time.Now()); err != nil {
		t.Fatal(err)
	}

	n.waitFor(t, ref, state.MessageProcessed)
	n.waitFor(t, hash, state.MessageProcessed)
	if waits, err := n.db.Waits(t.Context()); err != nil || waits {
		t.Errorf("something waits still: %v, %v", waits, err)
	}
}

func TestWhatNeverComesIsRefusedAndGetsAnotherChance(t *testing.T) {
	cfg := config(true)
	cfg.RetriesMax = 0
	n := open(t, "n", cfg)
	k := key(t, "owner")
	file := []byte("came too late")
	ref, raw := store(t, k, message.HashOf(file))
	n.submit(t, raw)
	n.run(t)
	p2ptest.Start(t, n.host)

	refused := n.waitFor(t, ref, state.MessageRejected)

	if refused.Rejected.Code != message.CodeFileUnavailable {
		t.Errorf("code = %d, want 4", refused.Rejected.Code)
	}
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(file), ""); err != nil {
		t.Fatal(err)
	}
	// What it lacked has come: nobody needs to hand it in again.
	if err := n.pipe.Uploaded(t.Context(), state.FileInfo{Hash: message.HashOf(file), SizeBytes: int64(len(file))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.waitFor(t, ref, state.MessageProcessed)
}

// pairOf returns two running nodes that listen to each other; only the first
// keeps files.
func pairOf(t *testing.T) (a, b *node) {
	t.Helper()
	a = open(t, "a", config(true))
	b = open(t, "b", config(false), a.host.Addrs()...)
	p2ptest.Start(t, a.host, b.host)
	a.run(t)
	b.run(t)
	p2ptest.Wait(t, "they listen", func() bool {
		return len(a.host.Listeners(wire.TopicMessages)) == 1 && len(b.host.Listeners(wire.TopicMessages)) == 1 &&
			len(a.host.Listeners(wire.TopicCapacity)) == 1 && len(b.host.Listeners(wire.TopicCapacity)) == 1
	})
	return a, b
}

func TestGossipAndFetchBringMessagesAndFiles(t *testing.T) {
	a, b := pairOf(t)
	k := key(t, "owner")
	file := bytes.Repeat([]byte("image"), 100_000)
	// The file is at b, which does not keep what it is not asked to; a fetches it.
	info, err := b.blobs.Put(t.Context(), bytes.NewReader(file), "")
	if err != nil {
		t.Fatal(err)
	}
	ref, raw := store(t, k, info.Hash)

	b.submit(t, raw)

	a.waitFor(t, ref, state.MessageProcessed)
	if !a.blobs.Has(info.Hash) {
		t.Error("the node that keeps files does not have it")
	}
	hash, raw := instance(t, k, ref)
	a.submit(t, raw)
	b.waitFor(t, hash, state.MessageProcessed)
}

func TestObtainBringsWhatWasMissed(t *testing.T) {
	a := open(t, "a", config(true))
	k := key(t, "owner")
	if _, err := a.blobs.Put(t.Context(), strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	ref, storeRaw := store(t, k, message.HashOf([]byte("x")))
	hash, raw := instance(t, k, ref)
	for _, r := range [][]byte{storeRaw, raw} { // nobody listens yet
		a.submit(t, r)
	}
	b := open(t, "b", config(false), a.host.Addrs()...)
	p2ptest.Start(t, a.host, b.host)
	p2ptest.Meet(t, a.host, b.host)
	b.run(t)

	m, err := b.pipe.Obtain(t.Context(), hash)

	if err != nil || m.ItemHash != hash {
		t.Fatalf("Obtain = %+v, %v", m, err)
	}
	b.waitFor(t, hash, state.MessageProcessed) // its STORE came too
	if f, err := b.db.File(t.Context(), ref); err != nil || f.Hash != message.HashOf([]byte("x")) {
		t.Errorf("file = %+v, %v", f, err)
	}
	if m, err := b.pipe.Obtain(t.Context(), hash); err != nil || m.ItemHash != hash {
		t.Errorf("Obtain of what is here = %+v, %v", m, err)
	}
	if _, err := b.pipe.Obtain(t.Context(), message.HashOf([]byte("absent"))); errs.KindOf(err) != errs.NotFound {
		t.Errorf("Obtain of what nobody has: %v, want errs.NotFound", err)
	}
}

func TestAPeerThatGivesAnotherMessageIsNotBelieved(t *testing.T) {
	a, b := pairOf(t)
	k := key(t, "owner")
	_, raw := store(t, k, message.HashOf([]byte("other")))
	env, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, reply := range map[string]job.Reply{
		"another": {Message: env}, "none": {}, "unsigned": {Message: func() *message.Envelope { e := *env; e.Sender = addressOf(key(t, "x")); return &e }()},
	} {
		a.host.HandleAsk(string(job.AskMessage), func(context.Context, p2p.PeerID, []byte) (p2p.Answer, error) { return p2p.Answer{Reply: reply}, nil })
		if _, err := b.pipe.Obtain(t.Context(), message.HashOf([]byte("wanted"))); errs.KindOf(err) != errs.NotFound {
			t.Errorf("%s: %v, want errs.NotFound", name, err)
		}
	}
	if err := a.host.Ask(t.Context(), b.host.ID(), map[string]string{"kind": "message", "item_hash": ""}, new(job.Reply)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a question without a hash: %v, want errs.Invalid", err)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := ingest.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, c := range map[string]ingest.Config{
		"retry_interval": {}, "catch_up_interval": {RetryInterval: time.Second, CatchUpInterval: 1}, "retries_max": {RetryInterval: time.Second, RetriesMax: -1}, "grace_period": {RetryInterval: time.Second},
		"removal_interval": {RetryInterval: time.Second, GracePeriod: time.Hour}, "removal_grace": {RetryInterval: time.Second, GracePeriod: time.Hour, RemovalInterval: time.Hour},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Validate: %v, want it to name %s", err, want)
		}
	}
}

// TestAClockThatIsSetBackKeepsNothingWaiting has a message come while the clock is an hour fast.
func TestAClockThatIsSetBackKeepsNothingWaiting(t *testing.T) {
	n := open(t, "n", config(false))
	fast := time.Hour
	n.pipe.Surround(ingest.Surroundings{Now: func() time.Time { return time.Now().Add(fast) }})
	hash, raw := envelope(t, key(t, "owner"), message.TypePost, map[string]any{
		"address": addressOf(key(t, "owner")), "time": 1, "type": "amend", "ref": message.HashOf([]byte("late")), "content": map[string]any{},
	})
	if v := n.submit(t, raw); v.Status != state.MessagePending {
		t.Fatalf("Submit = %+v, want it pending", v)
	}
	fast = 0

	if err := n.pipe.RetryPass(t.Context()); err != nil {
		t.Fatal(err)
	}

	rows, err := n.db.PendingFor(t.Context(), hash)
	if err != nil || len(rows) != 1 || time.Until(rows[0].RetryAt) > 10*time.Minute {
		t.Errorf("rows = %+v, %v; want one that is looked at soon", rows, err)
	}
}
