package v1_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

func content(t testing.TB) string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"address": "0x1", "time": 1, "allow_amend": false, "environment": map[string]any{"hypervisor": "qemu"},
		"resources": map[string]any{"vcpus": 1, "memory": 256, "seconds": 30}, "payment": map[string]any{"chain": "ETH", "type": "credit"},
		"rootfs": map[string]any{"parent": map[string]any{"ref": spec(9)}, "persistence": "host", "size_mib": 1024}, "volumes": []any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// quoteOf prices an instance at the table's price.
func quoteOf(i *message.Instance, hint uint32) (*scheduler.Quote, error) {
	table, err := pricing.Default()
	if err != nil {
		return nil, err
	}
	flow, err := table.Flow(i, nil, pricing.Bps)
	if err != nil {
		return nil, err
	}
	return &scheduler.Quote{
		Flow: flow, Token: job.TokenALEPH, PrepaySeconds: 3600, PrepayWei: flow.For(3600), NodeID: hint, Reason: "it is the only one",
		Candidates: []state.Candidate{{NodeID: 7, Eligible: true, Chosen: true, Score: "0.25", Reason: "won"}, {NodeID: 8, Reason: "draining"}},
	}, nil
}

func TestQuote(t *testing.T) {
	n := newNode(t)
	v := want(t, n.do(t, "POST", "/api/v1/quotes", `{"content":`+content(t)+`,"node_hint":7,"spec":"`+string(spec(1))+`"}`), 200)
	number := func(s any) *big.Int {
		i, ok := new(big.Int).SetString(s.(string), 10)
		if !ok {
			t.Fatalf("%v is not a decimal number", s)
		}
		return i
	}
	perSecond := number(v["wei_per_second"])
	if perSecond.Sign() <= 0 || new(big.Int).Mul(perSecond, big.NewInt(3600)).Cmp(number(v["wei_per_hour"])) != 0 ||
		new(big.Int).Mul(perSecond, big.NewInt(730*3600)).Cmp(number(v["wei_per_month"])) != 0 || number(v["rate_q32"]).Cmp(new(big.Int).Lsh(perSecond, 32)) != 0 {
		t.Errorf("quote = %v, want one price", v)
	}
	lines := new(big.Int)
	for _, l := range v["lines"].([]any) {
		lines.Add(lines, number(l.(map[string]any)["wei_per_hour"]))
	}
	if lines.Cmp(number(v["wei_per_hour"])) != 0 {
		t.Errorf("lines add up to %s, want %v", lines, v["wei_per_hour"])
	}
	c := v["candidates"].([]any)
	if len(c) != 2 || c[0].(map[string]any)["score"] != 0.25 || c[1].(map[string]any)["score"] != 0.0 || v["node_id"] != 7.0 {
		t.Errorf("candidates = %v", c)
	}
	away := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Planner = planner{errs.New(errs.Unavailable, "not yet")} })
	problem(t, away.do(t, "POST", "/api/v1/quotes", `{"content":`+content(t)+`}`), 503, "not yet")
}

// offerRow returns a row of the payer's offer.
func (n *node) offerRow(number int, status state.OfferStatus) state.Offer {
	return state.Offer{
		Spec: spec(number), Payer: n.payer(), Token: job.TokenALEPH, MaxRateQ32: rate(9), Nonce: big.NewInt(1), Status: status,
		ReceivedAt: time.Unix(int64(100+number), 0), Reason: "because",
		Candidates: []state.Candidate{{NodeID: 8, Reason: "draining"}},
	}
}

func (n *node) put(t *testing.T, rows ...any) {
	t.Helper()
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		for _, row := range rows {
			var err error
			switch r := row.(type) {
			case state.Offer:
				err = tx.PutOffer(ctx, r)
			case state.Job:
				err = tx.PutJob(ctx, r)
			case state.Decision:
				err = tx.PutDecision(ctx, r)
			case state.Payment:
				err = tx.PutPayment(ctx, r)
			case state.Account:
				err = tx.PutAccount(ctx, r)
			case state.Intent:
				err = tx.PutIntent(ctx, r)
			case state.VM:
				err = tx.PutVM(ctx, r)
			default:
				t.Fatalf("no row: %T", row)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *node) jobRow(number int, status state.JobStatus) state.Job {
	return state.Job{
		Spec: spec(number), Payer: n.payer(), NodeID: nodeID, Token: job.TokenALEPH, RateQ32: rate(5), Status: status, Reason: "as it is",
		AssignedAt: chainNow - 100, StartedAt: chainNow - 90, Block: 9,
	}
}

func (n *node) get(t *testing.T, number int) map[string]any {
	t.Helper()
	return want(t, n.do(t, "GET", "/api/v1/jobs/"+string(spec(number)), ""), 200)
}

func TestCreateJob(t *testing.T) {
	n := newNode(t)
	o := job.Offer{Spec: spec(1), Payer: n.payer(), Token: 1, MaxRateQ32: rate(9), Deadline: 5, Nonce: big.NewInt(3)}
	raw, err := json.Marshal(map[string]any{"message": map[string]any{}, "offer": o, "signature": job.Signature(make([]byte, 65))})
	if err != nil {
		t.Fatal(err)
	}
	v := want(t, n.do(t, "POST", "/api/v1/jobs", string(raw)), 202)
	if v["status"] != "offered" || v["spec"] != string(spec(1)) || v["owner"] != n.payer().Hex() || v["wei_per_second"] != "9" {
		t.Errorf("job = %v", v)
	}
	poor := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Intake = intake{err: errs.New(errs.Exhausted, "1.5 ALEPH missing")} })
	problem(t, poor.do(t, "POST", "/api/v1/jobs", string(raw)), 402, "1.5 ALEPH missing")
}

func TestJobFromOfferToEnd(t *testing.T) {
	n := newNode(t)
	n.block(t)
	n.put(t, n.offerRow(1, state.OfferOffered))
	if v := n.get(t, 1); v["status"] != "offered" || v["status_reason"] != "because" || v["offered_at"] != 101.0 || v["vm"] != nil ||
		v["decision"].(map[string]any)["candidates"].([]any)[0].(map[string]any)["reason"] != "draining" {
		t.Errorf("offered = %v", v)
	}
	decision := state.Decision{Spec: spec(1), NodeID: nodeID, RateQ32: rate(5), Reason: "won the race", Candidates: []state.Candidate{{NodeID: nodeID, Chosen: true}}}
	n.put(t, n.offerRow(1, state.OfferDecided), decision)
	if v := n.get(t, 1); v["status"] != "decided" || v["node_id"] != 7.0 || v["wei_per_second"] != "5" || v["decision"].(map[string]any)["reason"] != "won the race" {
		t.Errorf("decided = %v", v)
	}
	n.put(t, n.jobRow(1, state.JobRunning), state.Account{Payer: n.payer(), Token: job.TokenALEPH, PaidUntil: 55, RateQ32: rate(5)})
	if v := n.get(t, 1); v["status"] != "running" || v["metered_seconds"] != 90.0 || v["metered_wei"] != "450" || v["paid_until"] != 55.0 ||
		v["vm"].(map[string]any)["state"] != "unknown" || !strings.Contains(v["vm"].(map[string]any)["detail"].(string), "has not advertised") {
		t.Errorf("running, its node unknown = %v", v)
	}
	n.advertise(t)
	n.peers.reply = job.Reply{VM: &job.VM{
		State: "running", Driver: "qemu", Accelerator: "tcg", Detail: "up", TimingsMS: map[string]int64{"boot": 4},
		Ports:   []job.Port{{Guest: 80, Protocol: "tcp", Host: 8080, HostIP: "127.0.0.1"}},
		History: []job.Step{{At: 77, To: "wanted", Cause: "the chain gave it"}, {At: 78, From: "wanted", To: "running", Cause: "runs"}},
		Usage:   &job.Usage{AtMS: 9, CPUMS: 8, RxBytes: new(int64)},
	}}
	v := n.get(t, 1)
	if v["node_endpoint"] != "http://127.0.0.1:4021" || v["vm"].(map[string]any)["timings_ms"].(map[string]any)["boot"] != 4.0 ||
		v["ports"].([]any)[0].(map[string]any)["host"] != 8080.0 || n.peers.asked.Spec != spec(1) {
		t.Errorf("running = %v", v)
	}
	if h := v["vm"].(map[string]any)["history"].([]any); len(h) != 2 || h[0].(map[string]any)["from"] != "" || h[1].(map[string]any)["cause"] != "runs" ||
		h[1].(map[string]any)["at"] != 78.0 {
		t.Errorf("history = %v", h)
	}
	if u := v["vm"].(map[string]any)["usage"].(map[string]any); u["cpu_ms"] != 8.0 || u["rx_bytes"] != 0.0 || u["tx_bytes"] != nil {
		t.Errorf("usage = %v", u)
	}
	n.peers.reply = job.Reply{VM: &job.VM{State: "paused", Detail: "paused since then"}}
	if v := n.get(t, 1); v["status"] != "running" || v["status_reason"] != "the machine is paused until it is paid" ||
		v["vm"].(map[string]any)["state"] != "paused" || v["vm"].(map[string]any)["detail"] != "paused since then" {
		t.Errorf("paused = %v", v)
	}
	n.peers.err = errs.New(errs.Unavailable, "no route")
	if vm := n.get(t, 1)["vm"].(map[string]any); vm["state"] != "unknown" || !strings.Contains(vm["detail"].(string), "node 7 cannot be reached") {
		t.Errorf("its node away: vm = %v", vm)
	}
	n.peers.err = nil
	n.peers.reply = job.Reply{}
	if vm := n.get(t, 1)["vm"].(map[string]any); vm["state"] != "unknown" || !strings.Contains(vm["detail"].(string), "no machine for it yet") {
		t.Errorf("its node knows nothing: vm = %v", vm)
	}
	n.peers.reply = map[string]string{"reason": strings.Repeat("x", 5000)}
	if vm := n.get(t, 1)["vm"].(map[string]any); vm["state"] != "unknown" {
		t.Errorf("its node talks nonsense: vm = %v", vm)
	}
	ended := n.jobRow(1, state.JobStopped)
	ended.StoppedAt = chainNow - 50
	n.put(t, ended)
	n.peers.err = errs.New(errs.NotFound, "no VM")
	if v := n.get(t, 1); v["status"] != "stopped" || v["metered_wei"] != "200" || v["vm"].(map[string]any)["state"] != "gone" {
		t.Errorf("stopped = %v", v)
	}
	n.put(t, n.offerRow(2, state.OfferRefused))
	if v := n.get(t, 2); v["status"] != "refused" || v["node_id"] != 0.0 {
		t.Errorf("refused = %v", v)
	}
	future := n.jobRow(3, state.JobRunning)
	future.StartedAt = chainNow + 5
	n.put(t, future)
	if v := n.get(t, 3); v["metered_seconds"] != 0.0 {
		t.Errorf("started after the head = %v", v)
	}
}

func TestJobsOfAnOwnerNewestFirst(t *testing.T) {
	n := newNode(t)
	n.block(t)
	n.advertise(t)
	n.put(t, n.offerRow(1, state.OfferOffered), n.offerRow(2, state.OfferOffered), n.jobRow(3, state.JobRunning), n.offerRow(3, state.OfferOpened))
	var jobs []map[string]any

	if err := json.Unmarshal(n.do(t, "GET", "/api/v1/jobs?owner="+n.payer().Hex(), "").Body.Bytes(), &jobs); err != nil {
		t.Fatal(err)
	}

	var order []string
	for _, j := range jobs {
		order = append(order, j["spec"].(string))
	}
	if len(order) != 3 || order[0] != string(spec(3)) || order[1] != string(spec(2)) {
		t.Errorf("order = %v", order)
	}
	if n.peers.asked != nil {
		t.Errorf("a list asked a node %+v, want no question", n.peers.asked)
	}
	if w := n.do(t, "GET", "/api/v1/jobs?owner="+common.Address{}.Hex(), ""); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("jobs of nobody = %s, want an empty list", w.Body)
	}
}

func (n *node) stop(t *testing.T, number int, deadline uint64) *httptest.ResponseRecorder {
	t.Helper()
	sig, err := job.Sign(n.key, domain(), &job.Stop{Spec: spec(number), Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"deadline": deadline, "signature": sig})
	if err != nil {
		t.Fatal(err)
	}
	return n.do(t, "POST", "/api/v1/jobs/"+string(spec(number))+"/stop", string(raw))
}

func TestStop(t *testing.T) {
	n := newNode(t)
	n.block(t)
	n.put(t, n.offerRow(1, state.OfferOffered), n.offerRow(2, state.OfferDecided), n.offerRow(3, state.OfferRefused), n.jobRow(4, state.JobRunning), n.jobRow(5, state.JobStopped))

	if v := want(t, n.stop(t, 1, chainNow+9), 202); v["status"] != "refused" || !strings.Contains(v["status_reason"].(string), "stopped by its payer") {
		t.Errorf("an offer that waits = %v", v)
	}
	problem(t, n.stop(t, 2, chainNow+9), 409, "on its way")
	problem(t, n.stop(t, 3, chainNow+9), 409, "refused already")
	problem(t, n.stop(t, 5, chainNow+9), 409, "over already")
	problem(t, n.stop(t, 4, chainNow), 400, "deadline")
	problem(t, n.stop(t, 6, chainNow+9), 404, "no job")
	want(t, n.stop(t, 4, chainNow+9), 202)
	want(t, n.stop(t, 4, chainNow+10), 202)
	i, err := n.db.Intent(t.Context(), "stop/"+string(spec(4)))
	if err != nil || i.Contract != "JobManager" || i.Method != "stopBySig" || i.Deadline != chainNow+9 || !strings.HasPrefix(string(i.Args), `["0x`+string(spec(4))+`","1000009","0x`) {
		t.Errorf("intent = %+v with %s, %v", i, i.Args, err)
	}
	i.Status = state.IntentReverted
	n.put(t, *i)
	want(t, n.stop(t, 4, chainNow+11), 202)
	if _, err := n.db.Intent(t.Context(), "stop/"+string(spec(4))+"/1000011"); err != nil {
		t.Errorf("after one that failed: %v, want another", err)
	}
	n.key, err = crypto.ToECDSA(crypto.Keccak256([]byte("stranger")))
	if err != nil {
		t.Fatal(err)
	}
	problem(t, n.stop(t, 4, chainNow+12), 403, "stop of job")
}

// sign returns the header of a signed request.
func (n *node) sign(t *testing.T, target, nonce string, expires time.Time) string {
	t.Helper()
	h, err := operator.Sign(n.key, http.MethodGet, target, expires, nonce)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestLogsThroughTheCoordinator(t *testing.T) {
	n := newNode(t)
	n.advertise(t)
	n.put(t, n.jobRow(1, state.JobRunning), n.offerRow(2, state.OfferOffered))
	n.peers.reply = job.Reply{}
	n.peers.body = io.NopCloser(strings.NewReader("boot\nlogin:"))
	target := "/api/v1/jobs/" + string(spec(1)) + "/logs?follow=1"
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	header := n.sign(t, target, "nonce-number-1", in(time.Minute))

	w := n.do(t, "GET", target, "", "Authorization", header)

	if w.Code != 200 || w.Body.String() != "boot\nlogin:" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("logs: %d %q", w.Code, w.Body)
	}
	if a := n.peers.asked; a.Kind != job.AskLogs || !a.Follow || a.Authorization != header || a.Target != target || a.Method != http.MethodGet {
		t.Errorf("the node was asked %+v", a)
	}
	problem(t, n.do(t, "GET", target, "", "Authorization", header), 403, "used before")
	problem(t, n.do(t, "GET", target, "", "Authorization", "Basic x"), 403, "authorization")
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-2", in(-time.Minute))), 403, "expired")
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-3", in(time.Hour))), 403, "authorization")
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, "/other", "nonce-number-4", in(time.Minute))), 403, "")
	early := "/api/v1/jobs/" + string(spec(2)) + "/logs"
	problem(t, n.do(t, "GET", early, "", "Authorization", n.sign(t, early, "nonce-number-5", in(time.Minute))), 404, "no machine yet")
	absent := "/api/v1/jobs/" + string(spec(3)) + "/logs"
	problem(t, n.do(t, "GET", absent, "", "Authorization", n.sign(t, absent, "nonce-number-6", in(time.Minute))), 404, "no job")
	n.peers.err = errs.New(errs.Unavailable, "no route")
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-7", in(time.Minute))), 503, "node 7 cannot be reached")
	n.peers.err = errs.New(errs.Denied, "not yours")
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-8", in(time.Minute))), 403, "not yours")
	other, err := crypto.ToECDSA(crypto.Keccak256([]byte("stranger")))
	if err != nil {
		t.Fatal(err)
	}
	n.key = other
	problem(t, n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-9", in(time.Minute))), 403, "belongs to")
}

// machinesOf knows the machine of spec(1).
type machinesOf struct{ vm *job.VM }

func (m machinesOf) Status(_ context.Context, s message.ItemHash) (*job.VM, error) {
	if s != spec(1) {
		return nil, errs.New(errs.NotFound, "no VM %s", s)
	}
	return m.vm, nil
}

// console gives the same text for every machine.
type console struct{ text string }

func (c console) Logs(_ context.Context, r executor.LogRequest) (io.ReadCloser, error) {
	if r.Authorization == "" || r.Spec != spec(1) {
		return nil, errs.New(errs.NotFound, "no VM %s", r.Spec)
	}
	return io.NopCloser(strings.NewReader(c.text)), nil
}

func TestComputeNode(t *testing.T) {
	n := newNode(t, func(s *v1.Self, p *v1.Parts) {
		s.Role, p.Console = v1.Compute, console{"here"}
		p.Machines = machinesOf{&job.VM{State: "gone", History: []job.Step{{At: 5, From: "stopping", To: "stopped", Cause: "its job ended"}}}}
	})
	v := want(t, n.do(t, "GET", "/api/v1/vms/"+string(spec(1)), ""), 200)
	if v["spec"] != string(spec(1)) || v["state"] != "gone" || v["history"].([]any)[0].(map[string]any)["cause"] != "its job ended" || len(v["ports"].([]any)) != 0 {
		t.Errorf("machine = %v", v)
	}
	problem(t, n.do(t, "GET", "/api/v1/vms/"+string(spec(2)), ""), 404, "no VM")
	n.put(t, state.VM{Spec: spec(1), State: state.VMRunning, PID: 42, Ports: []state.Port{{Protocol: "tcp", Guest: 22, Host: 2222, HostIP: "127.0.0.1"}}})
	var machines []map[string]any
	if err := json.Unmarshal(n.do(t, "GET", "/api/v1/vms", "").Body.Bytes(), &machines); err != nil || len(machines) != 1 || machines[0]["pid"] != 42.0 ||
		machines[0]["ports"].([]any)[0].(map[string]any)["guest"] != 22.0 {
		t.Errorf("machines = %v, %v", machines, err)
	}
	target := "/api/v1/jobs/" + string(spec(1)) + "/logs"
	if w := n.do(t, "GET", target, "", "Authorization", n.sign(t, target, "nonce-number-1", time.Now().Add(time.Minute))); w.Code != 200 || w.Body.String() != "here" {
		t.Errorf("logs: %d %s", w.Code, w.Body)
	}
	problem(t, n.do(t, "GET", target, ""), 403, "not signed")
}

func TestBlobs(t *testing.T) {
	n := newNode(t)
	data := bytes.Repeat([]byte("0123456789"), 1000)
	hash := string(message.HashOf(data))
	up := func(body []byte, headers ...string) *httptest.ResponseRecorder {
		return n.do(t, "POST", "/api/v1/blobs", string(body), append([]string{"Content-Type", "application/octet-stream"}, headers...)...)
	}

	w := up(data, "X-Aleph-Sha256", hash)

	if v := want(t, w, 201); v["hash"] != hash || v["size"] != 10_000.0 || w.Header().Get("Location") != "/api/v1/blobs/"+hash {
		t.Errorf("upload = %v, %v", v, w.Header())
	}
	if v := want(t, up(nil), 201); v["size"] != 0.0 {
		t.Errorf("empty upload = %v", v)
	}
	problem(t, up(data, "X-Aleph-Sha256", string(spec(1))), 400, "hash to")
	problem(t, up(data, "X-Aleph-Sha256", "zz"), 400, "X-Aleph-Sha256")
	problem(t, up(make([]byte, 3_000_000)), 402, "full")
	w = n.do(t, "GET", "/api/v1/blobs/"+hash, "")
	if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), data) || w.Header().Get("ETag") != `"`+hash+`"` {
		t.Errorf("download: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	w = n.do(t, "GET", "/api/v1/blobs/"+hash, "", "Range", "bytes=5-9")
	if w.Code != 206 || w.Body.String() != "56789" || w.Header().Get("Content-Range") != "bytes 5-9/10000" {
		t.Errorf("range: %d %q %v", w.Code, w.Body, w.Header())
	}
	w = n.do(t, "HEAD", "/api/v1/blobs/"+hash, "")
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10000" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	if w = n.do(t, "GET", "/api/v1/blobs/"+hash, "", "If-None-Match", `"`+hash+`"`); w.Code != 304 {
		t.Errorf("If-None-Match: %d, want 304", w.Code)
	}
}

func TestAnUploadThatBreaksOffLeavesNothing(t *testing.T) {
	n := newNode(t)
	r := httptest.NewRequest(http.MethodPost, "/api/v1/blobs", io.MultiReader(strings.NewReader("half"), errReader{}))
	w := httptest.NewRecorder()

	n.srv.ServeHTTP(w, r)

	problem(t, w, 400, "broke off")
	if n.blobs.Used() != 0 {
		t.Errorf("%d bytes are left", n.blobs.Used())
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
