package ingest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
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
}

func config(keepFiles bool) ingest.Config {
	return ingest.Config{RetryInterval: 20 * time.Millisecond, PendingMax: time.Hour, KeepFiles: keepFiles}
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
	if n.pipe, err = ingest.New(cfg, domain(), n.db, n.host, keeper, n.funds, reg, log); err != nil {
		t.Fatal(err)
	}
	return n
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

// status waits until the message has the status.
func (n *node) waitFor(t *testing.T, hash message.ItemHash, want state.MessageStatus) *state.Message {
	t.Helper()
	var m *state.Message
	p2ptest.Wait(t, fmt.Sprintf("message is %s", want), func() bool {
		var err error
		m, err = n.db.Message(t.Context(), hash)
		return err == nil && m.Status == want
	})
	return m
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

	m, err := n.pipe.Submit(t.Context(), raw, time.Now())

	if err != nil || m.Status != state.MessageProcessed || m.Owner != addressOf(k) {
		t.Fatalf("Submit STORE = %+v, %v", m, err)
	}
	f, err := n.db.File(t.Context(), ref)
	if err != nil || f.Hash != info.Hash || f.SizeBytes != int64(len(file)) || f.Name != "debian" {
		t.Errorf("file = %+v, %v", f, err)
	}
	hash, raw := instance(t, k, ref)
	if m, err := n.pipe.Submit(t.Context(), raw, time.Now()); err != nil || m.Status != state.MessageProcessed {
		t.Errorf("Submit INSTANCE = %+v, %v", m, err)
	}
	before, err := n.db.Changes(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := n.pipe.Submit(t.Context(), raw, time.Now()); err != nil || m.Status != state.MessageProcessed || m.ItemHash != hash {
		t.Errorf("Submit again = %+v, %v", m, err)
	}
	if after, err := n.db.Changes(t.Context(), 0, 1000); err != nil || len(after) != len(before) {
		t.Errorf("submitting again made %d changes, %v; want none", len(after)-len(before), err)
	}
}

func TestRefusalsCarryTheProtocolsCode(t *testing.T) {
	n := open(t, "n", config(true))
	k, other := key(t, "owner"), key(t, "other")
	ref, raw := store(t, k, message.HashOf([]byte("x")))
	if _, err := n.blobs.Put(t.Context(), strings.NewReader("x"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := n.pipe.Submit(t.Context(), raw, time.Now()); err != nil {
		t.Fatal(err)
	}
	with := func(name string, v any) func(map[string]any) { return func(c map[string]any) { c[name] = v } }
	of := func(h message.ItemHash, raw []byte) []byte { return raw }
	forged := bytes.Replace(of(instance(t, k, ref)), []byte(addressOf(k)+`","chain"`), []byte(addressOf(other)+`","chain"`), 1)
	tests := []struct {
		name   string
		raw    []byte
		code   message.Code
		stored bool
	}{
		{"not JSON", []byte("{"), message.CodeInvalidFormat, false},
		{"another key signed it", forged, message.CodeInvalidSignature, false},
		{"in another's name", of(instance(t, other, ref, with("address", addressOf(k)))), message.CodePermissionDenied, true},
		{"paid by holding", of(instance(t, k, ref, with("payment", map[string]any{"type": "hold"}))), message.CodeInvalidPaymentMethod, true},
		{"a machine nobody runs", of(instance(t, k, ref, with("replaces", "x"))), message.CodeInvalidFormat, true},
		{"a file in IPFS", of(envelope(t, k, message.TypeStore, map[string]any{
			"address": addressOf(k), "time": 1, "item_type": "ipfs", "item_hash": "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
		})), message.CodeInvalidFormat, true},
		{"a type of others", of(envelope(t, k, message.TypePost, map[string]any{"address": addressOf(k), "time": 1, "type": "x"})), message.CodeInvalidFormat, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := n.pipe.Submit(t.Context(), tt.raw, time.Now())

			var rejected *message.RejectError
			if !errors.As(err, &rejected) || rejected.Code != tt.code {
				t.Fatalf("Submit: %v, want code %d", err, tt.code)
			}
			env, err := message.Parse(tt.raw)
			if err != nil {
				return
			}
			m, err := n.db.Message(t.Context(), env.ItemHash)
			if tt.stored && (err != nil || m.Status != state.MessageRejected || m.Code != int(tt.code) || m.Detail == "") {
				t.Errorf("row = %+v, %v; want it rejected with the code", m, err)
			}
			if !tt.stored && tt.name != "another key signed it" && errs.KindOf(err) != errs.NotFound {
				t.Errorf("row = %+v, %v; want none", m, err)
			}
		})
	}
}

func TestContentThatIsNotInlineIsRefused(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypeInstance, Time: time.Now(), ItemType: message.Storage, ItemHash: message.HashOf([]byte("c"))}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}

	_, err = n.pipe.Submit(t.Context(), raw, time.Now())

	var rejected *message.RejectError
	if !errors.As(err, &rejected) || rejected.Code != message.CodeInvalidFormat {
		t.Errorf("Submit: %v, want code 0", err)
	}
}

func TestWhatIsMissingIsWaitedFor(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	file := []byte("comes late")
	ref, storeRaw := store(t, k, message.HashOf(file))
	hash, raw := instance(t, k, ref)
	now := time.Now()

	m, err := n.pipe.Submit(t.Context(), raw, now)

	if err != nil || m.Status != state.MessagePending || m.Code != int(message.CodeVMVolumeNotFound) || !strings.Contains(m.Detail, string(ref)) {
		t.Fatalf("INSTANCE before its STORE = %+v, %v; want pending with code 301", m, err)
	}
	if m, err = n.pipe.Submit(t.Context(), storeRaw, now); err != nil || m.Status != state.MessagePending || m.Code != int(message.CodeFileUnavailable) {
		t.Fatalf("STORE before its file = %+v, %v; want pending with code 4", m, err)
	}
	n.run(t)
	p2ptest.Start(t, n.host)
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(file), ""); err != nil {
		t.Fatal(err)
	}

	n.waitFor(t, ref, state.MessageProcessed)
	if m := n.waitFor(t, hash, state.MessageProcessed); m.Code != 0 || m.Detail != "" || !m.ReceivedAt.Equal(now) {
		t.Errorf("processed row = %+v; want no trace of the wait", m)
	}
}

func TestWhatNeverComesIsRefusedAndGetsAnotherChance(t *testing.T) {
	cfg := config(true)
	cfg.PendingMax = 50 * time.Millisecond
	n := open(t, "n", cfg)
	k := key(t, "owner")
	file := []byte("came too late")
	ref, raw := store(t, k, message.HashOf(file))
	if _, err := n.pipe.Submit(t.Context(), raw, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	p2ptest.Start(t, n.host)

	m := n.waitFor(t, ref, state.MessageRejected)

	if m.Code != int(message.CodeFileUnavailable) {
		t.Errorf("code = %d, want 4", m.Code)
	}
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(file), ""); err != nil {
		t.Fatal(err)
	}
	if m, err := n.pipe.Submit(t.Context(), raw, time.Now()); err != nil || m.Status != state.MessageProcessed {
		t.Errorf("Submit again = %+v, %v; want processed", m, err)
	}
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

	if _, err := b.pipe.Submit(t.Context(), raw, time.Now()); err != nil {
		t.Fatal(err)
	}

	a.waitFor(t, ref, state.MessageProcessed)
	if !a.blobs.Has(info.Hash) {
		t.Error("the node that keeps files does not have it")
	}
	hash, raw := instance(t, k, ref)
	if _, err := a.pipe.Submit(t.Context(), raw, time.Now()); err != nil {
		t.Fatal(err)
	}
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
		if _, err := a.pipe.Submit(t.Context(), r, time.Now()); err != nil {
			t.Fatal(err)
		}
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
	if m, err := b.pipe.Obtain(t.Context(), hash); err != nil || m.Status != state.MessageProcessed {
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

func TestBadGossipIsNotSpread(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	of := func(h message.ItemHash, raw []byte) []byte { return raw }
	good := of(store(t, k, message.HashOf(nil)))
	post := of(envelope(t, k, message.TypePost, map[string]any{"address": addressOf(k), "time": 1, "type": "x"}))
	for name, tt := range map[string]struct {
		raw  []byte
		want errs.Kind
	}{
		"good": {good, ""}, "not JSON": {[]byte("x"), errs.Invalid}, "a list": {[]byte("[]"), errs.Invalid},
		"a type of a later time": {post, errs.Unavailable},
		"bad signature":          {bytes.Replace(good, []byte(`"signature":"0x`), []byte(`"signature":"0xff`), 1), errs.Invalid},
		"moved to another chain": {bytes.Replace(good, []byte(`"chain":"ETH"`), []byte(`"chain":"SOL"`), 1), errs.Invalid},
	} {
		if err := n.host.Publish(t.Context(), wire.TopicMessages, tt.raw); errs.KindOf(err) != tt.want {
			t.Errorf("%s: %v, want kind %q", name, err, tt.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := ingest.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, c := range map[string]ingest.Config{
		"retry_interval": {PendingMax: time.Hour}, "pending_max": {RetryInterval: time.Second},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Validate: %v, want it to name %s", err, want)
		}
	}
}
