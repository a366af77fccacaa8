package v1_test

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
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	chainNow = 1_000_000
	nodeID   = 7
)

// The collaborators answer one thing, always the same.
type (
	intake struct {
		v   *ingest.Verdict
		err error
		db  *state.DB
	}
	planner struct{ err error }
	funds   struct {
		balance, allowance, refund int64
		err, permit                error
		tried                      *[]job.Signature
	}
	ether struct{ err error }
	peers struct {
		reply any
		err   error
		body  io.ReadCloser
		asked *job.Ask
	}
)

func (i intake) Submit(context.Context, ingest.Submission) (*ingest.Verdict, error) {
	return i.v, i.err
}

func (i intake) SubmitOffer(ctx context.Context, _ []byte, o job.Offer, sig job.Signature, now time.Time) (*state.Offer, error) {
	if i.err != nil {
		return nil, i.err
	}
	row := state.Offer{
		Spec: o.Spec, Payer: o.Payer, Token: o.Token, MaxRateQ32: o.MaxRateQ32, Deadline: o.Deadline, Nonce: o.Nonce,
		Signature: sig, Status: state.OfferOffered, ReceivedAt: now,
	}
	return &row, i.db.Update(ctx, func(tx *state.Tx) error { return tx.PutOffer(ctx, row) })
}

func (p planner) Quote(ctx context.Context, i *message.Instance, spec message.ItemHash, hint uint32) (*scheduler.Quote, error) {
	if p.err != nil {
		return nil, p.err
	}
	return quoteOf(i, hint)
}

func (f funds) Funds(context.Context, common.Address, uint8) (balance, allowance, refund *big.Int, err error) {
	return big.NewInt(f.balance), big.NewInt(f.allowance), big.NewInt(f.refund), f.err
}

func (e ether) Balance(context.Context, common.Address) (*big.Int, error) {
	return big.NewInt(5), e.err
}

func (f funds) CheckPermit(_ context.Context, _ common.Address, _ *big.Int, _ uint64, sig job.Signature) error {
	if f.tried != nil {
		*f.tried = append(*f.tried, sig)
	}
	return f.permit
}

func (p *peers) Ask(_ context.Context, _ p2p.PeerID, request, reply any) error {
	if p.err != nil {
		return p.err
	}
	ask := request.(job.Ask)
	p.asked = &ask
	raw, err := json.Marshal(p.reply)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, reply)
}

func (p *peers) AskStream(ctx context.Context, id p2p.PeerID, request, reply any) (io.ReadCloser, error) {
	if err := p.Ask(ctx, id, request, reply); err != nil {
		return nil, err
	}
	return p.body, nil
}

// room has what the store has.
type room struct{ blobs *blob.Store }

func (r room) MakeRoom(_ context.Context, sizeBytes int64) error { return r.blobs.Fits(sizeBytes) }

// node is an interface with what is behind it.
type node struct {
	srv   *v1.Server
	db    *state.DB
	blobs *blob.Store
	peers *peers
	key   *ecdsa.PrivateKey // of the payer
}

func (n *node) payer() common.Address { return crypto.PubkeyToAddress(n.key.PublicKey) }

func domain() job.Domain { return job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1")) }

func newNode(t *testing.T, change ...func(*v1.Self, *v1.Parts)) *node {
	t.Helper()
	n := &node{peers: &peers{reply: job.Reply{VM: &job.VM{State: "running"}}}}
	var err error
	if n.db, err = state.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.db.Close(); err != nil {
			t.Error(err)
		}
	})
	reg, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	if n.blobs, err = blob.Open(t.TempDir(), blob.Config{MaxSizeGB: 0.002}, reg, log); err != nil {
		t.Fatal(err)
	}
	if n.key, err = crypto.ToECDSA(crypto.Keccak256([]byte("payer"))); err != nil {
		t.Fatal(err)
	}
	self := v1.Self{
		Role: v1.Coordinator, NodeID: 1, Version: "test", PeerID: "12D3KooWtest", Domain: domain(),
		Contracts: map[string]common.Address{"PaymentManager": common.HexToAddress("0xB0"), "JobManager": common.HexToAddress("0xA1")},
	}
	parts := v1.Parts{
		DB: n.db, Blobs: n.blobs, Room: room{n.blobs}, Peers: n.peers, Planner: planner{}, Funds: funds{balance: 10, allowance: 3, refund: 2}, Ether: ether{},
		Intake: intake{v: &ingest.Verdict{ItemHash: message.HashOf(nil), Status: state.MessageProcessed}, db: n.db}, Gatherer: reg,
	}
	for _, fn := range change {
		fn(&self, &parts)
	}
	n.srv = v1.New(self, parts, log)
	return n
}

func (n *node) update(t *testing.T, fn func(ctx context.Context, tx *state.Tx) error) {
	t.Helper()
	if err := n.db.Update(t.Context(), func(tx *state.Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

// block makes the chain's time chainNow.
func (n *node) block(t *testing.T) {
	t.Helper()
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutBlock(ctx, state.Block{Number: 9, Time: chainNow, Hash: common.HexToHash("0x9")})
	})
}

func (n *node) do(t *testing.T, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	n.srv.ServeHTTP(w, r)
	return w
}

// want checks the status and decodes the answer.
func want(t *testing.T, w *httptest.ResponseRecorder, status int) map[string]any {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer is not an object: %v: %s", err, w.Body)
	}
	return v
}

// problem checks that the answer is a problem with the status and the text.
func problem(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q, want a problem: %s", ct, w.Body)
	}
	v := want(t, w, status)
	if detail, _ := v["detail"].(string); !strings.Contains(detail, text) || v["title"] == "" || v["status"] != float64(status) {
		t.Errorf("problem %v, want it to say %q", v, text)
	}
}

// rate is one wei per second times n, as contracts hold it.
func rate(n int64) *big.Int { return new(big.Int).Lsh(big.NewInt(n), 32) }

// spec returns the name of the test's job number n.
func spec(n int) message.ItemHash { return message.HashOf([]byte{byte(n)}) }

func ad(t *testing.T) []byte {
	t.Helper()
	raw, err := json.Marshal(wire.CapacityAd{
		NodeID: nodeID, PeerID: "12D3KooWcompute", Endpoint: "http://127.0.0.1:4021", PublicIP: "127.0.0.1", VCPUsTotal: 4, VCPUsFree: 2,
		MemoryTotalMiB: 4096, MemoryFreeMiB: 1024, DiskTotalMiB: 10_000, DiskFreeMiB: 5000, PriceBps: 9000, Accelerator: "tcg",
		Drivers: []string{"qemu"}, AtMS: 1, Signature: "0x00",
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (n *node) advertise(t *testing.T) {
	t.Helper()
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutCapacity(ctx, state.Capacity{NodeID: nodeID, PeerID: "12D3KooWcompute", Ad: ad(t), ReceivedAt: time.Unix(77, 0)})
	})
}

func TestOperation(t *testing.T) {
	ready := errors.New("still reading the chain")
	n := newNode(t, func(_ *v1.Self, p *v1.Parts) {
		p.Checks = []v1.Check{{"p2p", func(context.Context) error { return nil }}, {"chain", func(context.Context) error { return ready }}}
	})
	if v := want(t, n.do(t, "GET", "/healthz", ""), 200); v["status"] != "ok" {
		t.Errorf("healthz = %v", v)
	}
	v := want(t, n.do(t, "GET", "/readyz", ""), 503)
	if parts := v["parts"].(map[string]any); v["ready"] != false || parts["p2p"] != "ok" || parts["chain"] != "still reading the chain" {
		t.Errorf("readyz = %v", v)
	}
	ready = fmt.Errorf("/srv/node: %w", errs.Placed(errs.New(errs.Exhausted, "the disk of /srv/node is full"), "the disk is full"))
	v = want(t, n.do(t, "GET", "/readyz", ""), 503)
	if parts := v["parts"].(map[string]any); parts["chain"] != "the disk is full" {
		t.Errorf("readyz = %v, want a reason without a path", v)
	}
	ready = nil
	if v := want(t, n.do(t, "GET", "/readyz", ""), 200); v["ready"] != true {
		t.Errorf("readyz = %v", v)
	}
	if w := n.do(t, "GET", "/metrics", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "aleph_blob_used_bytes") {
		t.Errorf("metrics: %d %.200s", w.Code, w.Body)
	}
	if v := want(t, n.do(t, "GET", "/openapi.json", ""), 200); v["openapi"] != "3.1.0" {
		t.Errorf("openapi = %v", v["openapi"])
	}
	v = want(t, n.do(t, "GET", "/api/v1/info", ""), 200)
	if v["role"] != "coordinator" || v["chain"].(map[string]any)["id"] != 31337.0 || v["token"].(map[string]any)["symbol"] != "ALEPH" {
		t.Errorf("info = %v", v)
	}
	n.block(t)
	if v = want(t, n.do(t, "GET", "/api/v1/info", ""), 200); v["chain"].(map[string]any)["time"] != float64(chainNow) {
		t.Errorf("info = %v", v)
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	n := newNode(t)
	problem(t, n.do(t, "GET", "/nowhere", ""), 404, "/openapi.json")
	w := n.do(t, "DELETE", "/api/v1/jobs", "")
	problem(t, w, 405, "DELETE")
	if allow := w.Header().Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "POST") {
		t.Errorf("Allow = %q", allow)
	}
	problem(t, newNode(t, func(s *v1.Self, _ *v1.Parts) { s.Role = v1.Compute }).do(t, "POST", "/api/v1/jobs", "{}"), 404, "nothing")
}

func TestBadInputIsRefusedInWords(t *testing.T) {
	n := newNode(t)
	n.block(t)
	offer := func(change string) string {
		base := map[string]any{
			"spec": spec(1), "payer": n.payer().Hex(), "token": 1, "max_rate_q32": "1", "node_hint": 0, "max_until": 0, "deadline": chainNow + 1, "nonce": "1",
		}
		if name, value, ok := strings.Cut(change, "="); ok {
			base[name] = json.RawMessage(value)
		}
		raw, err := json.Marshal(map[string]any{"message": map[string]any{}, "offer": base, "signature": "0x" + strings.Repeat("00", 65)})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	permit := func(change string) string {
		base := map[string]any{
			"owner": n.payer().Hex(), "spender": common.HexToAddress("0xB0").Hex(), "value": "4", "deadline": chainNow + 1, "v": 27,
			"r": common.HexToHash("0x1").Hex(), "s": common.HexToHash("0x2").Hex(),
		}
		if name, value, ok := strings.Cut(change, "="); ok {
			base[name] = json.RawMessage(value)
		}
		raw, err := json.Marshal(base)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	tests := []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "/api/v1/messages", "{", 400, "body"},
		{"POST", "/api/v1/messages", "", 400, "required"},
		{"POST", "/api/v1/messages", `{}`, 422, "message"},
		{"POST", "/api/v1/messages", `{"message":{},"extra":1}`, 422, "extra"},
		{"POST", "/api/v1/messages", `{"message":"` + strings.Repeat("x", 3<<20) + `"}`, 413, ""},
		{"GET", "/api/v1/messages/nonsense", "", 400, "nonsense"},
		{"GET", "/api/v1/messages/" + string(spec(1)), "", 404, "no message"},
		{"POST", "/api/v1/quotes", `{"content":{}}`, 422, "content."},
		{"POST", "/api/v1/quotes", `{"content":` + content(t) + `,"spec":"x"}`, 400, "spec"},
		{"POST", "/api/v1/jobs", offer(`payer="0x12"`), 400, "offer.payer"},
		{"POST", "/api/v1/jobs", offer(`spec="x"`), 400, "spec"},
		{"POST", "/api/v1/jobs", offer(`max_rate_q32="-1"`), 400, "offer.max_rate_q32"},
		{"POST", "/api/v1/jobs", offer(`max_rate_q32="` + strings.Repeat("9", 60) + `"`), 400, "max_rate_q32"},
		{"POST", "/api/v1/jobs", offer(`nonce="` + strings.Repeat("9", 78) + `"`), 400, "offer.nonce"},
		{"POST", "/api/v1/jobs", offer(`deadline=99999999999999`), 400, "deadline"},
		{"POST", "/api/v1/jobs", offer(`token=300`), 422, ""},
		{"POST", "/api/v1/jobs", strings.Replace(offer(""), "0x0000", "0xzz", 1), 400, "signature"},
		{"GET", "/api/v1/jobs", "", 422, "owner"},
		{"GET", "/api/v1/jobs?owner=me", "", 400, "owner"},
		{"GET", "/api/v1/jobs/x", "", 400, "spec"},
		{"GET", "/api/v1/jobs/" + string(spec(1)), "", 404, "no job"},
		{"GET", "/api/v1/jobs/x/receipt", "", 400, "spec"},
		{"GET", "/api/v1/jobs/" + string(spec(1)) + "/receipt", "", 404, "no job"},
		{"GET", "/api/v1/jobs/x/logs", "", 400, "spec"},
		{"GET", "/api/v1/jobs/" + string(spec(1)) + "/logs", "", 403, "not signed"},
		{"GET", "/api/v1/jobs/" + string(spec(1)) + "/logs?follow=maybe", "", 422, "follow"},
		{"POST", "/api/v1/jobs/x/stop", `{"deadline":1,"signature":"0x"}`, 400, "spec"},
		{"POST", "/api/v1/jobs/" + string(spec(1)) + "/stop", `{"deadline":1,"signature":"0x"}`, 400, "signature"},
		{"POST", "/api/v1/permits", permit(`owner="x"`), 400, "owner"},
		{"POST", "/api/v1/permits", permit(`spender="x"`), 400, "spender"},
		{"POST", "/api/v1/permits", permit(`spender="` + n.payer().Hex() + `"`), 400, "payment contract"},
		{"POST", "/api/v1/permits", permit(`value="0"`), 400, "value is 0"},
		{"POST", "/api/v1/permits", permit(`value="x"`), 400, "value"},
		{"POST", "/api/v1/permits", permit(`value="3"`), 409, "allowance"},
		{"POST", "/api/v1/permits", permit(`deadline=5`), 400, "deadline"},
		{"POST", "/api/v1/permits", permit(`v=5`), 422, "v"},
		{"POST", "/api/v1/permits", permit(`r="0x12"`), 400, "r is"},
		{"POST", "/api/v1/permits", permit(`s="x"`), 400, "s is"},
		{"GET", "/api/v1/accounts/x", "", 400, "address"},
		{"GET", "/api/v1/blobs/x", "", 400, "blob name"},
		{"GET", "/api/v1/blobs/" + string(spec(1)), "", 404, "no blob"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path[:min(len(tt.path), 40)]+" "+tt.text, func(t *testing.T) {
			problem(t, n.do(t, tt.method, tt.path, tt.body), tt.status, tt.text)
		})
	}
}

func FuzzRequestBodies(f *testing.F) {
	for _, seed := range []string{"{}", `{"message":{}}`, `{"offer":{"nonce":"1"}}`, `{"content":{}}`, `{"deadline":1,"signature":"0x"}`, "[]", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n := newNode(t)
		for _, path := range []string{"/api/v1/messages", "/api/v1/quotes", "/api/v1/jobs", "/api/v1/permits", "/api/v1/jobs/" + string(spec(1)) + "/stop"} {
			w := httptest.NewRecorder()
			n.srv.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
			if w.Code >= 500 && w.Code != 503 {
				t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}

func TestMessages(t *testing.T) {
	const code = message.CodeVMVolumeNotFound
	n := newNode(t)
	v := want(t, n.do(t, "POST", "/api/v1/messages", `{"message":{}}`), 202)
	if v["item_hash"] != string(message.HashOf(nil)) || v["status"] != "processed" {
		t.Errorf("answer = %v", v)
	}
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		body := &message.Post{Address: "0xA", Type: "t"}
		processed := state.NewMessage(&message.Envelope{ItemHash: spec(2), Type: message.TypePost, ItemType: message.Inline, ItemContent: "{}"}, []byte("{}"), body, time.Now())
		details := json.RawMessage(`{"errors":["soon"]}`)
		return errors.Join(
			tx.PutPending(ctx, state.Pending{Key: "1", Hash: spec(1), Envelope: []byte(`{"a":1}`), Code: code, Details: details}),
			tx.PutRejected(ctx, state.Rejected{Hash: spec(3), Envelope: []byte(`{"b":1}`), Code: code, Details: details}),
			tx.PutSkeleton(ctx, state.Skeleton{Status: state.MessageForgotten, Envelope: message.Envelope{ItemHash: spec(4), ItemType: message.Storage}}),
			tx.AddMessages(ctx, []*state.Message{processed}))
	})
	v = want(t, n.do(t, "GET", "/api/v1/messages/"+string(spec(1)), ""), 200)
	if v["status"] != "pending" || v["error_code"] != float64(code) || !strings.HasSuffix(v["detail"].(string), ": soon") || v["message"].(map[string]any)["a"] != 1.0 {
		t.Errorf("pending = %v", v)
	}
	if v = want(t, n.do(t, "GET", "/api/v1/messages/"+string(spec(2)), ""), 200); v["error_code"] != nil || v["status"] != "processed" {
		t.Errorf("processed = %v", v)
	}
	if v = want(t, n.do(t, "GET", "/api/v1/messages/"+string(spec(3)), ""), 200); v["error_code"] != float64(code) || v["status"] != "rejected" {
		t.Errorf("rejected = %v", v)
	}
	if v = want(t, n.do(t, "GET", "/api/v1/messages/"+string(spec(4)), ""), 200); v["status"] != "forgotten" {
		t.Errorf("forgotten = %v", v)
	}
	refused := newNode(t, func(_ *v1.Self, p *v1.Parts) {
		p.Intake = intake{v: &ingest.Verdict{Status: state.MessageRejected, Refusal: &message.RejectError{Code: message.CodeInvalidSignature, Detail: "not yours"}}}
	})
	w := refused.do(t, "POST", "/api/v1/messages", `{"message":{}}`)
	problem(t, w, 422, "not yours")
	if v := want(t, w, 422); v["error_code"] != 1.0 {
		t.Errorf("refusal = %v, want error_code 1", v)
	}
	broken := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Intake = intake{err: errors.New("secret")} })
	problem(t, broken.do(t, "POST", "/api/v1/messages", `{"message":{}}`), 500, "internal error")
}

func TestNodesAndAccounts(t *testing.T) {
	n := newNode(t)
	n.advertise(t)
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		for _, row := range []state.Node{{ID: 1, Kind: state.KindCoordinator, Status: state.NodeActive}, {ID: nodeID, Kind: state.KindCompute, Status: state.NodeActive}} {
			if err := tx.PutNode(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
	var nodes []map[string]any
	if err := json.Unmarshal(n.do(t, "GET", "/api/v1/nodes", "").Body.Bytes(), &nodes); err != nil || len(nodes) != 2 {
		t.Fatalf("nodes = %v, %v", nodes, err)
	}
	if nodes[0]["capacity"] != nil || nodes[1]["capacity"].(map[string]any)["vcpus_free"] != 2.0 || nodes[1]["price_bps"] != 9000.0 || nodes[1]["seen_at"] != 77.0 {
		t.Errorf("nodes = %v", nodes)
	}
	account := "/api/v1/accounts/" + n.payer().Hex()
	v := want(t, n.do(t, "GET", account, ""), 200)
	if v["eth_wei"] != "5" || v["token_balance"] != "10" || v["allowance"] != "3" || v["refund"] != "2" || v["rate_q32"] != "0" || v["soft_stop"] != 0.0 {
		t.Errorf("account = %v", v)
	}
	put := func(a state.Account) {
		a.Payer, a.Token = n.payer(), job.TokenALEPH
		n.update(t, func(ctx context.Context, tx *state.Tx) error {
			if err := tx.PutParams(ctx, state.Params{PrepaySeconds: 20, GraceSoftSeconds: 10, GraceHardSeconds: 100}); err != nil {
				return err
			}
			return tx.PutAccount(ctx, a)
		})
	}
	put(state.Account{RateQ32: rate(1), PaidUntil: 1000})
	if v = want(t, n.do(t, "GET", account, ""), 200); v["soft_stop"] != 1010.0 || v["hard_stop"] != 1100.0 {
		t.Errorf("running account = %v", v)
	}
	put(state.Account{RateQ32: rate(1), PaidUntil: 1000, ArrearsSince: 900}) // A part of the gap was paid.
	if v = want(t, n.do(t, "GET", account, ""), 200); v["soft_stop"] != 1010.0 || v["hard_stop"] != 1100.0 || v["arrears_since"] != 900.0 {
		t.Errorf("account in arrears = %v", v)
	}
	for _, broken := range []func(*v1.Self, *v1.Parts){
		func(_ *v1.Self, p *v1.Parts) { p.Funds = funds{err: errors.New("away")} },
		func(_ *v1.Self, p *v1.Parts) { p.Ether = ether{errors.New("away")} },
	} {
		problem(t, newNode(t, broken).do(t, "GET", account, ""), 503, "away")
	}
}

func TestPermitBecomesAnIntent(t *testing.T) {
	var tried []job.Signature
	n := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Funds = funds{balance: 10, allowance: 3, tried: &tried} })
	n.block(t)
	body := `{"owner":"` + n.payer().Hex() + `","spender":"` + common.HexToAddress("0xB0").Hex() + `","value":"4","deadline":2000000,"v":28,"r":"` +
		common.HexToHash("0x1").Hex() + `","s":"` + common.HexToHash("0x2").Hex() + `"}`

	v := want(t, n.do(t, "POST", "/api/v1/permits", body), 202)

	i, err := n.db.Intent(t.Context(), v["intent"].(string))
	if err != nil {
		t.Fatal(err)
	}
	args := `["` + strings.ToLower(n.payer().Hex()) + `","1","4","2000000","28","` + common.HexToHash("0x1").Hex() + `","` + common.HexToHash("0x2").Hex() + `"]`
	if i.Contract != "PaymentManager" || i.Method != "permit" || i.Deadline != 2_000_000 || !i.Yields || string(i.Args) != args {
		t.Errorf("intent = %+v with %s, want %s", i, i.Args, args)
	}
	if again := want(t, n.do(t, "POST", "/api/v1/permits", body), 202); again["intent"] != v["intent"] {
		t.Errorf("the same permit again is %v, want the same intent", again)
	}
	sig := append(append(common.HexToHash("0x1").Bytes(), common.HexToHash("0x2").Bytes()...), 28)
	if len(tried) != 2 || !bytes.Equal(tried[0], sig) {
		t.Errorf("tried %v, want %x twice", tried, sig)
	}
	other := strings.Replace(body, `"value":"4"`, `"value":"5"`, 1)
	problem(t, n.do(t, "POST", "/api/v1/permits", other), 409, "another permit")
	i.Status = state.IntentReverted
	n.update(t, func(ctx context.Context, tx *state.Tx) error { return tx.PutIntent(ctx, *i) })
	problem(t, n.do(t, "POST", "/api/v1/permits", body), 409, "sent already")
	want(t, n.do(t, "POST", "/api/v1/permits", other), 202)
	poor := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Funds = funds{} })
	poor.block(t)
	problem(t, poor.do(t, "POST", "/api/v1/permits", body), 402, "no ALEPH")
	away := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Funds = funds{err: errs.New(errs.Unavailable, "rpc away")} })
	problem(t, away.do(t, "POST", "/api/v1/permits", body), 503, "not been read")
	away.block(t)
	problem(t, away.do(t, "POST", "/api/v1/permits", body), 503, "rpc away")
}

// TestPermitsThatTheTokenRefusesAreNotRelayed counts what is written.
func TestPermitsThatTheTokenRefusesAreNotRelayed(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		status int
		text   string
	}{
		"refused":  {errs.New(errs.Denied, "signed by somebody else"), 403, "signed by somebody else"},
		"rpc away": {errs.New(errs.Unavailable, "rpc away"), 503, "rpc away"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Funds = funds{balance: 10, allowance: 3, permit: tt.err} })
			n.block(t)
			body := `{"owner":"` + n.payer().Hex() + `","spender":"` + common.HexToAddress("0xB0").Hex() + `","value":"4","deadline":2000000,"v":28,"r":"` +
				common.HexToHash("0x1").Hex() + `","s":"` + common.HexToHash("0x2").Hex() + `"}`

			problem(t, n.do(t, "POST", "/api/v1/permits", body), tt.status, tt.text)

			if count, err := n.db.Intents(state.LaneNode).Count(t.Context(), state.IntentPending); err != nil || count != 0 {
				t.Errorf("%d intents, %v, want none", count, err)
			}
		})
	}
}
