package corenode_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
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
type files map[message.ItemHash][]byte

func (f files) put(raw string) message.ItemHash {
	hash := message.HashOf([]byte(raw))
	f[hash] = []byte(raw)
	return hash
}

func (f files) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	raw, ok := f[hash]
	if !ok {
		return state.FileInfo{}, errs.New(errs.NotFound, "no file %s", hash)
	}
	return state.FileInfo{Hash: hash, SizeBytes: int64(len(raw))}, nil
}

func (f files) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := f.Stat(ctx, hash)
	return err
}

func (f files) Read(ctx context.Context, hash message.ItemHash, _ int64) ([]byte, error) {
	_, err := f.Stat(ctx, hash)
	return f[hash], err
}

// node is a core channel node: its interface, with a database and ingest behind it.
type node struct {
	t     *testing.T
	files files
	url   string
	at    time.Time
	*corenode.Client
}

// start starts a core channel node and returns it with a client that asks it.
func start(t *testing.T) *node {
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
	log := slog.New(slog.DiscardHandler)
	n := &node{t: t, files: files{}, at: time.Unix(1_775_000_000, 0).UTC()}
	cfg := ingest.DefaultConfig()
	cfg.PricingAuthority, cfg.CreditAuthority = addressOf(key(t, "prices")), addressOf(key(t, "credits"))
	cfg.BalanceAuthority = []string{addressOf(key(t, "balances"))}
	pipe, err := ingest.New(cfg, job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1")), db, silence{}, n.files, nil, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ccn.New(ccn.Self{Version: ccn.DefaultVersion, Topic: "TESTNET"}, ccn.Parts{DB: db, Intake: pipe, Prices: pipe}, log).Handler())
	t.Cleanup(srv.Close)
	n.url = srv.URL
	n.Client = n.client()
	return n
}

// client returns one that knows nothing yet.
func (n *node) client() *corenode.Client {
	n.t.Helper()
	cfg := corenode.DefaultConfig()
	cfg.Servers, cfg.SettingsAddress = []string{n.url}, addressOf(key(n.t, "prices"))
	c, err := corenode.New(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// send hands in a message, which must be processed.
func (n *node) send(k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) *message.Envelope {
	n.t.Helper()
	n.at = n.at.Add(time.Second)
	content["time"] = n.at.Unix()
	e := signed(n.t, k, typ, content, append(change, func(e *message.Envelope) { e.Time = n.at })...)
	raw, err := json.Marshal(fields{"sync": true, "message": e})
	if err != nil {
		n.t.Fatal(err)
	}
	res, err := http.Post(n.url+"/api/v0/messages", "application/json", bytes.NewReader(raw))
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer bytes.Buffer
	answer.ReadFrom(res.Body)
	if res.StatusCode != http.StatusOK {
		n.t.Fatalf("%s: %d %s", typ, res.StatusCode, &answer)
	}
	return e
}

func (n *node) post(k *ecdsa.PrivateKey, kind string, inner any, ref any, change ...func(*message.Envelope)) message.ItemHash {
	n.t.Helper()
	c := fields{"type": kind, "content": inner}
	if ref != nil {
		c["ref"] = ref
	}
	return n.send(k, message.TypePost, c, change...).ItemHash
}

func TestACoordinatorAnswers(t *testing.T) {
	n := start(t)
	owner := key(t, "owner")
	address, ctx := addressOf(owner), t.Context()
	_, err := n.Standing(ctx, hash)
	wantKind(t, "standing of what nobody sent", err, errs.NotFound)
	_, err = n.Message(ctx, hash)
	wantKind(t, "message that nobody sent", err, errs.NotFound)
	_, err = n.Price(ctx, hash)
	wantKind(t, "price of what nobody sent", err, errs.NotFound)
	_, err = n.Aggregate(ctx, address, "port-forwarding")
	wantKind(t, "aggregate that nobody sent", err, errs.NotFound)
	if held, credits, err := n.client().Balance(ctx, address); err != nil || held.Sign() != 0 || credits.Sign() != 0 {
		t.Errorf("balance of a stranger is %v, %v, %v, want 0", held, credits, err)
	}

	n.post(key(t, "balances"), "balances-update", fields{"chain": "ETH", "main_height": 1, "balances": fields{address: json.Number("12.5")}}, nil)
	n.post(key(t, "credits"), "aleph_credit_distribution", fields{"distribution": fields{"token": "ALEPH", "chain": "ETH", "credits": []fields{
		{"address": address, "amount": 10_000_000, "price": "0.5", "tx_hash": "0x1", "provider": "WALLET"},
	}}}, nil, func(e *message.Envelope) { c := "ALEPH_CREDIT"; e.Channel = &c })
	held, credits, err := n.Balance(ctx, address)
	if err != nil || held.Cmp(big.NewRat(25, 2)) != 0 || credits.Cmp(big.NewRat(10_000_000, 1)) != 0 {
		t.Errorf("balance is %v, %v, %v, want 12.5 and 10000000", held, credits, err)
	}

	rootfs := n.send(owner, message.TypeStore, fields{"item_type": "storage", "item_hash": n.files.put("an image"), "payment": fields{"type": "credit", "chain": "ETH"}})
	machine := n.send(owner, message.TypeInstance, fields{
		"rootfs": fields{"parent": fields{"ref": rootfs.ItemHash, "use_latest": true}, "size_mib": 20480, "persistence": "host"}, "allow_amend": false,
		"resources": fields{"vcpus": 1, "memory": 2048, "seconds": 30}, "payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []any{},
		"environment": fields{"internet": true, "aleph_api": true, "hypervisor": "qemu"}, "authorized_keys": []string{"ssh-ed25519 AAAA"},
	})
	if status, err := n.Standing(ctx, machine.ItemHash); err != nil || status != "processed" {
		t.Errorf("standing is %q, %v", status, err)
	}
	got, err := n.Message(ctx, machine.ItemHash)
	if err != nil || got.ItemContent != machine.ItemContent || got.Signature != machine.Signature || got.Sender != address {
		t.Errorf("message is %+v, %v, want %+v", got, err, machine)
	}
	if i, err := got.Instance(); err != nil || i.PaymentType() != message.PayCredit {
		t.Errorf("its content is %+v, %v", i, err)
	}
	// One unit of compute is 14,250 credits an hour in the vectors.
	price, err := n.Price(ctx, machine.ItemHash)
	if want, _ := new(big.Rat).SetString("3.958333333333333333"); err != nil || price.Cmp(want) != 0 {
		t.Errorf("price is %v, %v, want %s credits per second", price, err, want.FloatString(18))
	}

	n.send(owner, message.TypeAggregate, fields{"key": "port-forwarding", "content": fields{string(machine.ItemHash): fields{"ports": fields{"80": fields{"tcp": true, "udp": false}}}}})
	n.send(owner, message.TypeAggregate, fields{"key": "security", "content": fields{"authorizations": []fields{{"address": addressOf(key(t, "friend")), "types": []string{"INSTANCE"}}}}})
	if raw, err := n.Aggregate(ctx, address, "port-forwarding"); err != nil || !strings.Contains(string(raw), string(machine.ItemHash)) {
		t.Errorf("aggregate is %s, %v", raw, err)
	}
	if s, err := n.Security(ctx, address); err != nil || len(s.Grants) != 1 || s.Grants[0].Address != addressOf(key(t, "friend")) {
		t.Errorf("rights are %+v, %v", s, err)
	}
	scheduler := addressOf(key(t, "scheduler"))
	n.send(key(t, "prices"), message.TypeAggregate, fields{"key": "settings", "content": fields{"authorized_allocation_signers": []string{scheduler}}})
	if all, err := n.Signers(ctx); err != nil || !slices.Equal(all, []common.Address{common.HexToAddress(scheduler)}) {
		t.Errorf("schedulers are %v, %v", all, err)
	}

	n.send(owner, message.TypeForget, fields{"hashes": []message.ItemHash{machine.ItemHash}, "aggregates": []any{}, "reason": "done"})
	fresh := n.client()
	if status, err := fresh.Standing(ctx, machine.ItemHash); err != nil || status != "forgotten" {
		t.Errorf("standing of a forgotten message is %q, %v", status, err)
	}
	_, err = fresh.Message(ctx, machine.ItemHash)
	wantKind(t, "forgotten message", err, errs.NotFound)
	_, err = fresh.Price(ctx, machine.ItemHash)
	wantKind(t, "price of a forgotten message", err, errs.NotFound)
}

func TestANodeFindsItsHash(t *testing.T) {
	n := start(t)
	owner, other := key(t, "owner"), key(t, "other")
	register := func(k *ecdsa.PrivateKey, at string) message.ItemHash {
		return n.post(k, "corechan-operation", fields{"action": "create-resource-node", "tags": []string{"create-resource-node", "mainnet"}, "details": fields{"name": "n", "type": "compute", "address": at}}, nil)
	}
	find := func(what, domain string, want message.ItemHash, kind errs.Kind) {
		t.Helper()
		got, err := n.NodeHash(t.Context(), addressOf(owner), domain)
		wantKind(t, what, err, kind)
		if got != want {
			t.Errorf("%s: node %q, want %q", what, got, want)
		}
	}
	find("nothing", "node.example", "", errs.NotFound)
	register(other, "https://node.example")
	find("another's", "node.example", "", errs.NotFound)
	first := register(owner, "https://Node.Example:443/")
	find("registered", "node.example", first, "")
	register(owner, "http://node.example")
	ported := register(owner, "https://node.example:8443")
	register(owner, "https://node.example.org")
	n.post(owner, "corechan-operation", fields{"action": "link", "tags": []string{"link", "mainnet"}}, first)
	n.post(owner, "corechan-operation", "nonsense", nil)
	find("registered among others", "NODE.example", first, "")
	find("on a port", "node.example:8443", ported, "")

	n.post(owner, "amend", fields{"tags": []string{"mainnet"}, "details": fields{"name": "renamed"}}, first)
	find("renamed", "node.example", first, "")
	n.post(owner, "amend", fields{"tags": []string{"mainnet"}, "details": fields{"name": "renamed", "address": "https://new.example/"}}, first)
	find("moved away", "node.example", "", errs.NotFound)
	find("moved here", "new.example", first, "")
	second := register(owner, "https://new.example")
	find("registered twice", "new.example", "", errs.Conflict)
	n.post(owner, "corechan-operation", fields{"action": "drop-node", "tags": []string{"drop-node", "mainnet"}}, first)
	find("dropped one", "new.example", second, "")

	for i := range 201 { // More than a page.
		n.post(owner, "corechan-operation", fields{"action": "stake-split", "n": strconv.Itoa(i)}, first)
	}
	find("among many", "new.example", second, "")
	for _, domain := range []string{"", "/", "a b", "x?y", "u@x"} {
		_, err := n.NodeHash(t.Context(), addressOf(owner), domain)
		wantKind(t, "domain "+domain, err, errs.Invalid)
	}
}

func TestANodeIsNotNamedByALie(t *testing.T) {
	owner := key(t, "owner")
	content := fields{"action": "create-resource-node", "details": fields{"address": "https://node.example"}}
	list := func(hash message.ItemHash) string {
		raw, err := json.Marshal(fields{"posts": []fields{{"original_item_hash": hash, "content": content}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good := signed(t, owner, message.TypePost, fields{"type": "corechan-operation", "content": content})
	for name, tt := range map[string]struct {
		e    *message.Envelope
		kind errs.Kind
	}{
		"good":               {good, ""},
		"another's":          {signed(t, key(t, "thief"), message.TypePost, fields{"type": "corechan-operation", "content": content}), errs.NotFound},
		"another type":       {signed(t, owner, message.TypePost, fields{"type": "note", "content": content}), errs.NotFound},
		"another operation":  {signed(t, owner, message.TypePost, fields{"type": "corechan-operation", "content": fields{"action": "create-node"}}), errs.NotFound},
		"no post":            {signed(t, owner, message.TypeAggregate, fields{"key": "corechan-operation", "content": content}), errs.NotFound},
		"a broken signature": {signed(t, owner, message.TypePost, fields{"type": "corechan-operation", "content": content, "ref": "x"}), errs.Unavailable},
	} {
		if name == "a broken signature" {
			tt.e.Signature = good.Signature
		}
		n := &network{servers: map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "posts.json") {
				says(list(tt.e.ItemHash))(w, r)
				return
			}
			says(shown(t, tt.e, "processed"))(w, r)
		}}}
		got, err := open(t, n).NodeHash(t.Context(), addressOf(owner), "node.example")
		wantKind(t, name, err, tt.kind)
		if err == nil && got != tt.e.ItemHash {
			t.Errorf("%s: node %s, want %s", name, got, tt.e.ItemHash)
		}
	}
	for _, body := range []string{`{}`, `{"posts":null}`, `{"posts":[` + strings.Repeat("{},", 200) + `{}]}`, `[]`} {
		_, err := open(t, &network{servers: map[string]http.HandlerFunc{"a": says(body)}}).NodeHash(t.Context(), addressOf(owner), "node.example")
		wantKind(t, body[:min(len(body), 20)], err, errs.Unavailable)
	}
	full := says(`{"posts":[` + strings.Repeat(`{"content":{"action":"link"}},`, 199) + `{}]}`)
	_, err := open(t, &network{servers: map[string]http.HandlerFunc{"a": full}}).NodeHash(t.Context(), addressOf(owner), "node.example")
	wantKind(t, "a list without end", err, errs.Exhausted)
}

func TestServersMisbehaveOverRealConnections(t *testing.T) {
	var trap atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trap.Store(true)
		standing("forgotten")(w, r)
	}))
	defer elsewhere.Close()
	good := httptest.NewServer(standing("processed"))
	defer good.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte(`{"status":"forgotten"`))
		},
		"never ends": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		},
		"hangs after the header": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		bad := httptest.NewServer(handler)
		cfg := corenode.DefaultConfig()
		cfg.Servers, cfg.AnswerMaxBytes, cfg.Timeout = []string{bad.URL, good.URL}, 1<<20, time.Second
		c, err := corenode.New(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Standing(t.Context(), hash); err != nil || got != "processed" {
			t.Errorf("%s: standing is %q, %v, want that of the next server", name, got, err)
		}
		bad.Close()
	}
	if trap.Load() {
		t.Error("a redirect was followed")
	}
}

func TestANodeFindsItselfInTheListOfNodes(t *testing.T) {
	n := start(t)
	owner, other, authority := key(t, "owner"), key(t, "other"), key(t, "authority")
	register := func(k *ecdsa.PrivateKey, at string) message.ItemHash {
		return n.post(k, "corechan-operation", fields{"action": "create-resource-node", "tags": []string{"create-resource-node", "mainnet"}, "details": fields{"name": "n", "type": "compute", "address": at}}, nil)
	}
	entry := func(hash message.ItemHash, k *ecdsa.PrivateKey, at, stream string) fields {
		return fields{"hash": hash, "owner": addressOf(k), "address": at, "reward": "0xReward", "stream_reward": stream, "score": 0.5}
	}
	list := func(nodes ...fields) {
		n.send(authority, message.TypeAggregate, fields{"key": "corechannel", "content": fields{"nodes": []fields{}, "resource_nodes": nodes}})
	}
	find := func(what, reward string, want message.ItemHash, kind errs.Kind) {
		t.Helper()
		got, err := n.ListedNode(t.Context(), addressOf(authority), "node.example", reward)
		wantKind(t, what, err, kind)
		if got != want {
			t.Errorf("%s: node %q, want %q", what, got, want)
		}
	}
	find("no list", "", "", errs.NotFound)
	mine, theirs := register(owner, "https://node.example"), register(other, "https://node.example")
	list(entry(theirs, other, "https://elsewhere.example", "0xB"))
	find("not listed", "", "", errs.NotFound)
	list(entry(theirs, other, "https://elsewhere.example", "0xB"), entry(mine, owner, "https://Node.example:443/", "0xA"))
	find("listed", "", mine, "")
	find("listed, for another receiver", "0xC", mine, "")
	list(entry(theirs, other, "https://node.example", "0xB"), entry(mine, owner, "https://node.example/", "0xA"))
	find("listed twice", "", "", errs.Conflict)
	find("listed twice, of one receiver", "0xa", mine, "")
	find("listed twice, of two rewards", "0xreward", "", errs.Conflict)
	find("listed twice, of nobody", "0xC", "", errs.Conflict)
	to, err := url.Parse(n.url)
	if err != nil {
		t.Fatal(err)
	}
	proxied := httputil.NewSingleHostReverseProxy(to)
	unreadable := open(t, &network{servers: map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, string(theirs)) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		proxied.ServeHTTP(w, r)
	}}})
	if got, err := unreadable.ListedNode(t.Context(), addressOf(authority), "node.example", "0xA"); err != nil || got != mine {
		t.Errorf("a stranger's entry that cannot be read: node %q, %v, want %q", got, err, mine)
	}
	list(entry(mine, other, "https://node.example", "0xA"))
	find("a lie about the owner", "", "", errs.NotFound)
	list(entry(hash, owner, "https://node.example", "0xA"), entry("../x", owner, "https://node.example", "0xA"))
	find("no such message", "", "", errs.NotFound)
	n.send(authority, message.TypeAggregate, fields{"key": "corechannel", "content": fields{"resource_nodes": "none"}})
	find("no list at all", "", "", errs.Unavailable)
}

func TestMessagesAreHandedInAtTheFirstServerThatTakesThem(t *testing.T) {
	n := start(t)
	good := signed(t, key(t, "program"), message.TypePost, fields{"type": "note", "content": "x"})
	raw, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // A message that comes twice is one.
		if err := n.Post(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}
	if status, err := n.Standing(t.Context(), good.ItemHash); err != nil || status != "processed" {
		t.Errorf("standing is %q, %v", status, err)
	}
	good.Signature = "0x00"
	forged, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, "a bad signature", n.Post(t.Context(), forged), errs.Invalid)

	ok := `{"publication_status":{"status":"success","failed":[]},"message_status":"pending"}`
	for _, tt := range []struct {
		name  string
		a, b  http.HandlerFunc
		kind  errs.Kind
		asked string
	}{
		{"the first takes it", answers(202, "application/json", ok), nil, "", "a"},
		{"the first is away", nil, says(ok), "", "a b"},
		{"the first fails", answers(500, "text/plain", "broken"), says(ok), "", "a b"},
		{"the first is busy", answers(429, "text/plain", "busy"), says(ok), "", "a b"},
		{"the first could not publish", says(`{"publication_status":{"status":"error","failed":["p2p"]},"message_status":null}`), says(ok), "", "a b"},
		{"the first published in part", says(`{"publication_status":{"status":"warning","failed":["p2p"]},"message_status":"pending"}`), nil, "", "a"},
		{"the first talks nonsense", says(`[]`), says(ok), "", "a b"},
		{"the first refuses it", answers(422, "application/json", `{"details":"x"}`), says(ok), errs.Invalid, "a"},
		{"the first has rejected it", says(`{"publication_status":{"status":"success","failed":[]},"message_status":"rejected"}`), says(ok), errs.Invalid, "a"},
		{"nobody takes it", nil, nil, errs.Unavailable, "a b c"},
	} {
		net := &network{servers: map[string]http.HandlerFunc{"a": tt.a, "b": tt.b}}
		wantKind(t, tt.name, open(t, net).Post(t.Context(), raw), tt.kind)
		if got := net.hosts(); got != tt.asked {
			t.Errorf("%s: asked %s, want %s", tt.name, got, tt.asked)
		}
	}
}
