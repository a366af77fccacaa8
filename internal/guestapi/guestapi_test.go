package guestapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/guestapi"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

var (
	spec  = message.HashOf([]byte("a program"))
	other = message.HashOf([]byte("another program"))
)

// network is what the programs' node is part of.
type network struct {
	published []string
	refuse    error
}

func (n *network) Publish(_ context.Context, _ message.ItemHash, raw json.RawMessage) error {
	n.published = append(n.published, string(raw))
	return n.refuse
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Host, r.Header.Get("Authorization"))
	if strings.Contains(r.URL.Path, "large") {
		io.WriteString(w, strings.Repeat("x", 3<<10))
	}
}

// serve returns what asks the interface as a program.
func serve(t *testing.T, n *network, cfg guestapi.Config, edit func(*message.Program)) func(spec message.ItemHash, method, path, body string) (int, string) {
	t.Helper()
	cache, err := guestapi.OpenCache(t.TempDir(), cfg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	k, err := crypto.ToECDSA([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewEVM(crypto.FromECDSA(k))
	if err != nil {
		t.Fatal(err)
	}
	account := guestapi.Account{Signer: signer, PublicKey: crypto.CompressPubkey(&k.PublicKey)}
	s := guestapi.New(cfg, cache, account, n, n, slog.New(slog.DiscardHandler))
	program := &message.Program{Environment: message.FunctionEnvironment{AlephAPI: true}}
	if edit != nil {
		edit(program)
	}
	handlers := map[message.ItemHash]*httptest.Server{}
	for _, h := range []message.ItemHash{spec, other} {
		handlers[h] = httptest.NewServer(s.Handler(h, program))
		t.Cleanup(handlers[h].Close)
	}
	return func(spec message.ItemHash, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, handlers[spec].URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return resp.StatusCode, err.Error()
		}
		return resp.StatusCode, strings.TrimSpace(string(raw))
	}
}

type step struct {
	spec               message.ItemHash
	method, path, body string
	status             int
	want               string
}

func walk(t *testing.T, ask func(message.ItemHash, string, string, string) (int, string), steps []step) {
	t.Helper()
	for _, s := range steps {
		if status, got := ask(s.spec, s.method, s.path, s.body); status != s.status || got != s.want {
			t.Errorf("%s %s: %d %q, want %d %q", s.method, s.path, status, got, s.status, s.want)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	ask := serve(t, &network{}, guestapi.DefaultConfig(), nil)
	walk(t, ask, []step{
		{spec, "GET", "/cache/a", "", 404, "No such key in cache"},
		{spec, "PUT", "/cache/a", "one\x00", 200, "true"},
		{spec, "PUT", "/cache/ab", "two", 200, "true"},
		{other, "PUT", "/cache/a", "theirs", 200, "true"},
		{spec, "GET", "/cache/a", "", 200, "one\x00"},
		{spec, "GET", "/cache/", "", 200, `["a","ab"]`},
		{spec, "GET", "/cache/?pattern=a%3F", "", 200, `["ab"]`},
		{spec, "GET", "/cache/?pattern=*b*", "", 200, `["ab"]`},
		{spec, "GET", "/cache/?pattern=%5Ba%5D", "", 400, "Invalid key"},
		{spec, "GET", "/cache/a-b", "", 400, "Invalid key"},
		{spec, "PUT", "/cache/" + strings.Repeat("a", 257), "", 400, "Invalid key"},
		{spec, "DELETE", "/cache/a", "", 200, "1"},
		{spec, "DELETE", "/cache/a", "", 200, "0"},
		{other, "GET", "/cache/a", "", 200, "theirs"},
	})
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	cfg := guestapi.DefaultConfig()
	cfg.CacheKeys, cfg.CacheKiB, cfg.ValueKiB = 2, 2, 1
	ask := serve(t, &network{}, cfg, nil)
	kib := strings.Repeat("x", 1<<10)
	walk(t, ask, []step{
		{spec, "PUT", "/cache/a", kib + "x", 413, `{"error":"an entry has at most 1 KiB"}`},
		{spec, "PUT", "/cache/a", kib, 200, "true"},
		{spec, "PUT", "/cache/b", kib, 507, `{"error":"the cache is full: at most 2 entries of 2 KiB in all"}`},
		{spec, "PUT", "/cache/a", "small", 200, "true"},
		{spec, "PUT", "/cache/b", "small", 200, "true"},
		{spec, "PUT", "/cache/c", "small", 507, `{"error":"the cache is full: at most 2 entries of 2 KiB in all"}`},
		{spec, "PUT", "/cache/b", "again", 200, "true"},
		{other, "PUT", "/cache/c", kib, 200, "true"},
	})
}

// TestCacheStays: over a restart, until its time is over or its program is
// forgotten.
func TestCacheStays(t *testing.T) {
	t.Parallel()
	dir, cfg, now := t.TempDir(), guestapi.DefaultConfig(), time.Unix(1_700_000_000, 0)
	c, err := guestapi.OpenCache(dir, cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []message.ItemHash{spec, other} {
		if err := c.Put(h, "k", []byte(h), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = guestapi.OpenCache(dir, cfg, now); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.Get(spec, "k", now.Add(cfg.CacheTTL-time.Second)); err != nil || string(got) != string(spec) {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if _, err := c.Get(spec, "k", now.Add(cfg.CacheTTL)); errs.KindOf(err) != errs.NotFound {
		t.Errorf("after its time: %v, want not found", err)
	}
	if err := c.Forget(spec); err != nil {
		t.Fatal(err)
	}
	if keys := c.Keys(spec, "*", now); len(keys) != 0 {
		t.Errorf("forgotten program has %v", keys)
	}
	if keys := c.Keys(other, "*", now); len(keys) != 1 {
		t.Errorf("another program has %v", keys)
	}
	if err := c.Sweep(now.Add(cfg.CacheTTL)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(other, "k", now); errs.KindOf(err) != errs.NotFound {
		t.Errorf("after a sweep: %v, want not found", err)
	}
}

// unsigned is a message of a program.
func unsigned(address message.ItemHash, edit func(map[string]any)) string {
	content := fmt.Sprintf(`{"address":%q,"time":1700000000,"type":"test","content":{}}`, address)
	m := map[string]any{
		"chain": "ETH", "type": "POST", "time": 1700000000, "item_type": "inline", "item_content": content,
		"item_hash": message.HashOf([]byte(content)), "channel": "TEST",
	}
	if edit != nil {
		edit(m)
	}
	raw, _ := json.Marshal(m)
	return string(raw)
}

func TestMessagesOfAProgramAreSigned(t *testing.T) {
	t.Parallel()
	n := &network{}
	ask := serve(t, n, guestapi.DefaultConfig(), nil)
	_, raw := ask(spec, "GET", "/properties", "")
	var properties struct {
		Chain, Curve, Address string
		PublicKey             string `json:"public_key"`
	}
	if err := json.Unmarshal([]byte(raw), &properties); err != nil || properties.Chain != "ETH" || properties.Curve != "secp256k1" || len(properties.PublicKey) != 66 {
		t.Fatalf("properties %s, %v", raw, err)
	}
	status, raw := ask(spec, "POST", "/sign", unsigned(spec, nil))
	e, err := message.Parse([]byte(raw))
	if status != 200 || err != nil || e.Sender != properties.Address {
		t.Fatalf("sign: %d %s, %v", status, raw, err)
	}
	if err := signature.Verify(e); err != nil {
		t.Errorf("signature: %v", err)
	}
	for name, body := range map[string]string{
		"another program's": unsigned(other, nil),
		"another hash":      unsigned(spec, func(m map[string]any) { m["item_hash"] = other }),
		"another chain":     unsigned(spec, func(m map[string]any) { m["chain"] = "SOL" }),
		"another case": unsigned(spec, func(m map[string]any) {
			content := fmt.Sprintf(`{"address":"0x1","Address":%q}`, spec)
			m["item_content"], m["item_hash"] = content, message.HashOf([]byte(content))
		}),
		"another sender": unsigned(spec, func(m map[string]any) { m["sender"] = "0x1" }),
		"no content":     unsigned(spec, func(m map[string]any) { delete(m, "item_content") }),
		"no message":     `[]`,
	} {
		if status, raw := ask(spec, "POST", "/sign", body); status != 400 {
			t.Errorf("%s: %d %s, want 400", name, status, raw)
		}
	}

	// Published as it is when it is signed, and signed when it is not.
	for _, data := range []string{raw, unsigned(spec, nil)} {
		body, _ := json.Marshal(map[string]string{"topic": "t", "data": data})
		if status, got := ask(spec, "POST", "/api/v0/p2p/pubsub/pub", string(body)); status != 200 || got != `{"status":"success"}` {
			t.Errorf("publish: %d %s", status, got)
		}
	}
	if len(n.published) != 2 || n.published[0] != raw || !strings.Contains(n.published[1], e.Signature) {
		t.Errorf("published %q", n.published)
	}
	n.refuse = errs.New(errs.Invalid, "the message is not valid")
	body, _ := json.Marshal(map[string]string{"topic": "t", "data": raw})
	if status, got := ask(spec, "POST", "/api/v0/ipfs/pubsub/pub", string(body)); status != 422 {
		t.Errorf("publish of what is refused: %d %s", status, got)
	}
}

func TestTheNetworkIsRead(t *testing.T) {
	t.Parallel()
	cfg := guestapi.DefaultConfig()
	cfg.AnswerKiB = 4
	ask := serve(t, &network{}, cfg, nil)
	walk(t, ask, []step{
		{spec, "GET", "/api/v0/messages.json?page=1", "", 200, "GET /api/v0/messages.json?page=1 localhost"},
		{spec, "POST", "/api/v0/messages", "{}", 405, `{"error":"programs may only read"}`},
		{spec, "DELETE", "/api/v0/x", "", 405, `{"error":"programs may only read"}`},
	})
	if status, _ := ask(spec, "GET", "/large", ""); status != 200 {
		t.Errorf("a large answer: %d", status)
	}
	if status, got := ask(spec, "GET", "/large", ""); status == 200 && !strings.Contains(got, "EOF") {
		t.Errorf("more than may be read in a minute: %d, %d bytes", status, len(got))
	}
	if status, _ := ask(other, "GET", "/large", ""); status != 200 {
		t.Errorf("another program's answer: %d", status)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	cfg := guestapi.DefaultConfig()
	cfg.RequestsPerMinute, cfg.SignsPerMinute = 3, 1
	ask := serve(t, &network{}, cfg, nil)
	var last int
	for range 2 * 4 { // A minute may begin in between.
		last, _ = ask(spec, "GET", "/properties", "")
	}
	if last != 429 {
		t.Errorf("the last of many requests: %d, want 429", last)
	}
	if status, _ := ask(other, "GET", "/properties", ""); status != 200 {
		t.Errorf("another program's request: %d", status)
	}
}

func TestAProgramWithoutTheInterface(t *testing.T) {
	t.Parallel()
	ask := serve(t, &network{}, guestapi.DefaultConfig(), func(p *message.Program) { p.Environment.AlephAPI = false })
	const no = `{"error":"environment.aleph_api is not set"}`
	walk(t, ask, []step{
		{spec, "GET", "/api/v0/messages.json", "", 403, no},
		{spec, "POST", "/sign", unsigned(spec, nil), 403, no},
		{spec, "PUT", "/cache/a", "", 200, "true"},
	})
}

func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	cache, err := guestapi.OpenCache(t.TempDir(), guestapi.DefaultConfig(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	s := guestapi.New(guestapi.DefaultConfig(), cache, guestapi.Account{}, &network{}, &network{}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.ServeProgram(spec, &message.Program{}, l) }()
	l.Close()
	if err := <-ended; err != nil {
		t.Errorf("ServeProgram: %v", err)
	}
}
