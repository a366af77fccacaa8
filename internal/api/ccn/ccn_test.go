package ccn_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// silence is a network on which nobody is.
type silence struct{}

func (silence) Publish(context.Context, string, []byte) error { return nil }
func (silence) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error {
	return nil
}
func (silence) Connected() []p2p.PeerID       { return nil }
func (silence) Listeners(string) []p2p.PeerID { return nil }
func (silence) Ask(context.Context, p2p.PeerID, any, any) error {
	return errs.New(errs.Unavailable, "nobody is here")
}
func (silence) HandleAsk(string, p2p.AskHandler) {}

// files are the bytes that messages name.
type files struct {
	mu  sync.Mutex
	all map[message.ItemHash][]byte
}

func (f *files) put(raw string) message.ItemHash {
	f.mu.Lock()
	defer f.mu.Unlock()
	hash := message.HashOf([]byte(raw))
	f.all[hash] = []byte(raw)
	return hash
}

func (f *files) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, ok := f.all[hash]
	if !ok {
		return state.FileInfo{}, errs.New(errs.NotFound, "no file %s", hash)
	}
	return state.FileInfo{Hash: hash, SizeBytes: int64(len(raw))}, nil
}

func (f *files) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := f.Stat(ctx, hash)
	return err
}

func (f *files) Read(ctx context.Context, hash message.ItemHash, _ int64) ([]byte, error) {
	if _, err := f.Stat(ctx, hash); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[hash], nil
}

// node is an interface with a real database and real ingest behind it.
type node struct {
	t     testing.TB
	srv   *ccn.Server
	db    *state.DB
	pipe  *ingest.Pipeline
	files *files
	self  ccn.Self
	parts ccn.Parts
	at    time.Time // Of the next message.
}

func open(t testing.TB, parts ...func(*ccn.Parts)) *node {
	t.Helper()
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return openOn(t, db, parts...)
}

// openOn is open with a database.
func openOn(t testing.TB, db *state.DB, parts ...func(*ccn.Parts)) *node {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	n := &node{t: t, db: db, files: &files{all: map[message.ItemHash][]byte{}}, at: time.Unix(1_700_000_000, 500_000_000).UTC()}
	var err error
	domain := job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1"))
	cfg := ingest.DefaultConfig()
	cfg.PricingAuthority = addressOf(key(t, "prices"))
	cfg.CreditAuthority, cfg.BalanceAuthority = addressOf(key(t, "credits")), []string{addressOf(key(t, "balances"))}
	if n.pipe, err = ingest.New(cfg, domain, n.db, silence{}, n.files, nil, prometheus.NewRegistry(), log); err != nil {
		t.Fatal(err)
	}
	p := ccn.Parts{DB: n.db, Intake: n.pipe, Prices: n.pipe}
	for _, fn := range parts {
		fn(&p)
	}
	n.self, n.parts = ccn.Self{Version: ccn.DefaultVersion, Topic: "TESTNET"}, p
	n.srv = ccn.New(n.self, p, log)
	return n
}

func key(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("ccn test " + name)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// fields are those of a JSON object.
type fields = map[string]any

// signed is a message: its content gets an owner and a time if it has none, and it
// is a second younger than the one before.
func (n *node) signed(k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) (message.ItemHash, json.RawMessage) {
	n.t.Helper()
	n.at = n.at.Add(time.Second)
	if content["address"] == nil {
		content["address"] = addressOf(k)
	}
	if content["time"] == nil {
		content["time"] = json.Number(message.FormatTime(n.at))
	}
	raw := encode(n.t, content)
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Time: n.at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	for _, fn := range change {
		fn(e)
	}
	if err := signature.SignEVM(k, e); err != nil {
		n.t.Fatal(err)
	}
	return e.ItemHash, encode(n.t, e)
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func onChannel(name string) func(*message.Envelope) {
	return func(e *message.Envelope) { e.Channel = &name }
}

// send hands in a message of which the answer must be that it was processed.
func (n *node) send(k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) message.ItemHash {
	n.t.Helper()
	hash, raw := n.signed(k, typ, content, change...)
	a := n.post("/api/v0/messages", fields{"sync": true, "message": raw})
	if a.status != http.StatusOK || a.field("message_status") != "processed" {
		n.t.Fatalf("POST %s = %d %s", typ, a.status, a.body)
	}
	return hash
}

// post is a POST message with an inner content.
func (n *node) sendPost(k *ecdsa.PrivateKey, kind string, inner any, more fields, change ...func(*message.Envelope)) message.ItemHash {
	n.t.Helper()
	c := fields{"type": kind, "content": inner}
	for key, value := range more {
		c[key] = value
	}
	return n.send(k, message.TypePost, c, change...)
}

// answer is what a request got.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

func (n *node) do(method, target string, body []byte, header ...string) answer {
	n.t.Helper()
	// The query is as wild as a test wants it.
	path, query, _ := strings.Cut(target, "?")
	r := httptest.NewRequestWithContext(n.t.Context(), method, path, strings.NewReader(string(body)))
	r.URL.RawQuery = query
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	n.srv.Handler().ServeHTTP(w, r)
	return answer{n.t, w.Code, w.Header(), w.Body.String()}
}

func (n *node) get(target string, header ...string) answer {
	n.t.Helper()
	return n.do(http.MethodGet, target, nil, header...)
}

// ok is get for an answer that must be one.
func (n *node) ok(target string) answer {
	n.t.Helper()
	a := n.get(target)
	if a.status != http.StatusOK {
		n.t.Fatalf("GET %s = %d %s", target, a.status, a.body)
	}
	return a
}

func (n *node) post(target string, body any) answer {
	n.t.Helper()
	return n.do(http.MethodPost, target, encode(n.t, body))
}

// value decodes the answer.
func (a answer) value() any {
	a.t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		a.t.Fatalf("answer %q: %v", a.body, err)
	}
	return v
}

// field is what is at a path of the answer, like "message.content.time".
func (a answer) field(path string) any {
	a.t.Helper()
	v := a.value()
	for name := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[name]
	}
	return v
}

// column are the values of a field in a list of the answer.
func (a answer) column(list, name string) []string {
	a.t.Helper()
	out := []string{}
	items, ok := a.field(list).([]any)
	if !ok {
		a.t.Fatalf("answer has no list %s: %s", list, a.body)
	}
	for _, item := range items {
		text, _ := item.(map[string]any)[name].(string)
		out = append(out, text)
	}
	return out
}

// keys are the names of an object, sorted.
func keysOf(v any) []string {
	var out []string
	for key := range v.(map[string]any) {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func hashes(list ...message.ItemHash) []string {
	out := []string{}
	for _, h := range list {
		out = append(out, string(h))
	}
	return out
}

// confirm lets a transaction name a message.
func (n *node) confirm(hash message.ItemHash, height int64, at time.Time) {
	n.t.Helper()
	ctx := n.t.Context()
	err := n.db.Update(ctx, func(tx *state.Tx) error {
		m, err := tx.Message(ctx, hash)
		if err != nil {
			return err
		}
		_, err = tx.PutConfirmation(ctx, m, state.Transaction{Chain: message.Ethereum, Hash: "0xtx", Height: height, At: at, Publisher: "0xP"})
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// run lets the pipeline look again at what waits, until the test ends.
func (n *node) run() {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.pipe.Run(ctx)
	}()
	n.t.Cleanup(func() { cancel(); <-done })
}
