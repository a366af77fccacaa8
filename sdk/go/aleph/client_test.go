package aleph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph/alephtest"
)

const image = message.ItemHash("6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595")

func start(t *testing.T) (*alephtest.Node, *aleph.Client, *aleph.Account) {
	t.Helper()
	node := alephtest.New()
	t.Cleanup(node.Close)
	c, err := aleph.New(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return node, c, aleph.NewAccount(key)
}

func machine() aleph.InstanceSpec {
	return aleph.InstanceSpec{
		Image: image, Name: "box", SSHKeys: []string{"ssh-ed25519 AAAA"}, VCPUs: 1, MemoryMiB: 512, DiskMiB: 2048,
		Ports: []message.PublishedPort{{Protocol: "tcp", Port: 80}}, Variables: map[string]string{"A": "1"},
	}
}

func rich(node *alephtest.Node, a *aleph.Account) {
	node.SetAccount(a.Address(), func(v *aleph.AccountView) { v.Allowance = aleph.NewWei(big.NewInt(1e18)) })
}

func wantKind(t *testing.T, err error, kind aleph.Kind, text string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want kind %q with %q", err, kind, text)
	}
}

// open creates a running job.
func open(t *testing.T, c *aleph.Client, a *aleph.Account) *aleph.Job {
	t.Helper()
	content, err := machine().Content(a.Address(), time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := aleph.SpecOf(content)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := c.Quote(t.Context(), aleph.QuoteRequest{Spec: spec, Content: content})
	if err != nil {
		t.Fatal(err)
	}
	j, err := c.CreateInstance(t.Context(), a, content, aleph.Limits{MaxRateQ32: quote.RateQ32})
	if err != nil {
		t.Fatal(err)
	}
	if j.Spec != spec {
		t.Fatalf("job %s, want %s", j.Spec, spec)
	}
	return j
}

func TestAnInstanceRunsStopsAndIsPaid(t *testing.T) {
	node, c, a := start(t)
	rich(node, a)
	offered := open(t, c, a)
	var seen []aleph.JobStatus

	running, err := c.WaitRunning(t.Context(), offered.Spec, func(j *aleph.Job) { seen = append(seen, j.Status) })
	if err != nil {
		t.Fatal(err)
	}

	want := []aleph.JobStatus{aleph.JobDecided, aleph.JobAssigned, aleph.JobRunning}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if p, ok := running.Port("tcp", 22); !ok || p.Host != 30022 {
		t.Errorf("SSH port %+v, %v; want 30022", p, ok)
	}
	if _, ok := running.Port("udp", 22); ok {
		t.Error("a UDP port 22 is there, want none")
	}
	jobs, err := c.Jobs(t.Context(), a.Address())
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs, %v; want 1", len(jobs), err)
	}
	if _, err := c.Stop(t.Context(), a, running.Spec); err != nil {
		t.Fatal(err)
	}
	ended, err := c.WaitEnded(t.Context(), running.Spec, nil)
	if err != nil || ended.Status != aleph.JobStopped {
		t.Errorf("job %+v, %v; want stopped", ended, err)
	}
	receipt, err := c.WaitReceipt(t.Context(), running.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.SettledWei.Cmp(receipt.QuotedWei) != 0 || receipt.Split.Sum().Cmp(receipt.SettledWei) != 0 {
		t.Errorf("settled %s, quoted %s, split adds up to %s; want one amount", receipt.SettledWei, receipt.QuotedWei, receipt.Split.Sum())
	}
	_, err = c.Stop(t.Context(), a, running.Spec)
	wantKind(t, err, aleph.Conflict, "ended already")
}

func TestAJobThatEndsInsteadOfRunningSaysWhy(t *testing.T) {
	node, c, a := start(t)
	rich(node, a)
	node.Steps("no node has 1 vCPU free", aleph.JobOffered, aleph.JobRefused)
	j := open(t, c, a)

	_, err := c.WaitRunning(t.Context(), j.Spec, nil)

	var ended *aleph.EndedError
	if !errors.As(err, &ended) || !strings.HasSuffix(err.Error(), "is refused: no node has 1 vCPU free") {
		t.Errorf("error %v, want the reason of the refusal", err)
	}
	silent := &aleph.EndedError{Job: &aleph.Job{Spec: "x", Status: aleph.JobFailed}}
	if got, want := silent.Error(), "job x is failed"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	_, err = c.Receipt(t.Context(), j.Spec)
	wantKind(t, err, aleph.NotFound, "has not run")
}

func TestFundsThatAreShortAreNamed(t *testing.T) {
	_, c, a := start(t)
	content, err := machine().Content(a.Address(), time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}

	_, err = c.CreateInstance(t.Context(), a, content, aleph.Limits{})

	wantKind(t, err, aleph.Exhausted, "ALEPH missing: the first 3600 s cost")
}

func TestForeignersAreRefused(t *testing.T) {
	node, c, a := start(t)
	rich(node, a)
	j := open(t, c, a)
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger := aleph.NewAccount(key)

	_, err = c.Stop(t.Context(), stranger, j.Spec)
	wantKind(t, err, aleph.Denied, "only the payer")
	wantKind(t, c.Logs(t.Context(), stranger, j.Spec, false, io.Discard), aleph.Denied, "only the owner")
	wantKind(t, c.Logs(t.Context(), stranger, image, false, io.Discard), aleph.NotFound, "not known")
}

func TestLogsStream(t *testing.T) {
	node, c, a := start(t)
	rich(node, a)
	j := open(t, c, a)
	for follow, want := range map[bool]string{false: "booting\nready\n", true: "booting\nready\nfollowed\n"} {
		var buf bytes.Buffer
		if err := c.Logs(t.Context(), a, j.Spec, follow, &buf); err != nil {
			t.Fatal(err)
		}
		if buf.String() != want {
			t.Errorf("logs %q, want %q", buf.String(), want)
		}
	}
}

func TestBlobsAreNamedByTheirBytesBothWays(t *testing.T) {
	node, c, a := start(t)
	data := bytes.Repeat([]byte("image"), 10_000)
	var sent int64

	blob, err := c.Upload(t.Context(), bytes.NewReader(data), func(n, _ int64) { sent = n })
	if err != nil {
		t.Fatal(err)
	}

	if blob.Hash != message.HashOf(data) || blob.Size != int64(len(data)) || sent != blob.Size {
		t.Errorf("blob %+v after %d bytes, want %s of %d", blob, sent, message.HashOf(data), len(data))
	}
	sent = 0
	if _, err := c.Upload(t.Context(), bytes.NewReader(data), func(n, _ int64) { sent = n }); err != nil || sent != 0 {
		t.Errorf("second upload sent %d bytes, %v; want none", sent, err)
	}
	var back bytes.Buffer
	if _, err := c.Download(t.Context(), blob.Hash, &back); err != nil || !bytes.Equal(back.Bytes(), data) {
		t.Errorf("downloaded %d bytes, %v; want %d", back.Len(), err, len(data))
	}
	store, err := a.SignStore(*blob, map[string]string{"name": "img"}, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := c.PublishMessage(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.WaitMessage(t.Context(), accepted.ItemHash); err != nil || m.Status != message.StatusProcessed {
		t.Errorf("message %+v, %v; want processed", m, err)
	}

	node.Corrupt()
	if _, err := c.Download(t.Context(), blob.Hash, io.Discard); err == nil || !strings.Contains(err.Error(), "the bytes hash to") {
		t.Errorf("corrupt download: %v, want a refusal by hash", err)
	}
	_, err = c.Download(t.Context(), image, io.Discard)
	wantKind(t, err, aleph.NotFound, "is not here")
}

func TestRejectedMessagesCarryTheCode(t *testing.T) {
	_, c, a := start(t)
	missing, err := a.SignStore(aleph.Blob{Hash: image, Size: 1}, nil, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishMessage(t.Context(), missing); err != nil {
		t.Fatal(err)
	}

	_, err = c.WaitMessage(t.Context(), missing.ItemHash)

	var refused *aleph.Error
	if !errors.As(err, &refused) || refused.Code == nil || *refused.Code != message.CodeFileUnavailable {
		t.Errorf("error %v, want code %d", err, message.CodeFileUnavailable)
	}
	forged := *missing
	forged.Sender = common.Address{}.Hex()
	_, err = c.PublishMessage(t.Context(), &forged)
	if !errors.As(err, &refused) || refused.Code == nil || *refused.Code != message.CodeInvalidSignature {
		t.Errorf("error %v, want code %d", err, message.CodeInvalidSignature)
	}
	wantKind(t, err, aleph.Invalid, "code 1")
}

func TestNodesInfoAndHealth(t *testing.T) {
	_, c, _ := start(t)
	if err := errors.Join(c.Healthy(t.Context()), c.Ready(t.Context())); err != nil {
		t.Error(err)
	}
	nodes, err := c.Nodes(t.Context())
	if err != nil || len(nodes) != 3 || nodes[1].Capacity.VCPUsFree != 8 || nodes[0].Capacity != nil {
		t.Errorf("nodes %+v, %v; want a coordinator and two compute nodes", nodes, err)
	}
	_, err = c.Job(t.Context(), image)
	wantKind(t, err, aleph.NotFound, "is not known here (HTTP 404)")
}

func TestAnswersThatAreNoAnswers(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		kind    aleph.Kind
		text    string
	}{
		{"not a problem", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "gone wrong", http.StatusInternalServerError)
		}, aleph.Internal, "gone wrong (HTTP 500)"},
		{"an empty problem", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "{}")
		}, aleph.Unavailable, "Service Unavailable (HTTP 503)"},
		{"a broken problem", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, "{")
		}, aleph.Exhausted, "not a problem"},
		{"too many redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, aleph.Unavailable, "redirects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.handler)
			defer srv.Close()
			c, err := aleph.New(srv.URL)
			if err != nil {
				t.Fatal(err)
			}

			_, err = c.Info(t.Context())

			wantKind(t, err, tt.kind, tt.text)
		})
	}
}

func TestAnswersOfOtherServersAreNotBelieved(t *testing.T) {
	for _, body := range []string{"<html>", `{"chain":7}`, `"` + strings.Repeat("x", 9<<20) + `"`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		c, err := aleph.New(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Info(t.Context()); err == nil || !strings.Contains(err.Error(), "/api/v1/info") {
			t.Errorf("answer %.20q: %v, want an error that names the request", body, err)
		}
		if _, err := c.Upload(t.Context(), strings.NewReader("x"), nil); err == nil {
			t.Errorf("answer %.20q to an upload was believed", body)
		}
		srv.Close()
	}
}

func TestANodeThatIsAwayIsUnavailable(t *testing.T) {
	node, c, _ := start(t)
	node.Close()

	_, err := c.Info(t.Context())
	wantKind(t, err, aleph.Unavailable, "no answer from "+node.URL)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = c.WaitRunning(ctx, image, nil)
	wantKind(t, err, aleph.Unavailable, "wait for job")

	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Info(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after the caller gave up: %v, want %v", err, context.Canceled)
	}
	for _, bad := range []string{"", "127.0.0.1:4024", "ftp://x", "http://"} {
		if _, err := aleph.New(bad); err == nil {
			t.Errorf("node URL %q accepted, want an error", bad)
		}
	}
}

func TestSpecsAreCheckedBeforeTheyAreSigned(t *testing.T) {
	s := machine()
	s.VCPUs = 0
	if _, err := s.Content(common.Address{}, time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "vcpus is 0") {
		t.Errorf("error %v, want one about vcpus", err)
	}
}

func TestWeiReadsAndWritesTokens(t *testing.T) {
	for text, wei := range map[string]string{
		"0": "0", "1": "1000000000000000000", "12.5": "12500000000000000000", "0.000000000000000001": "1", ".5": "500000000000000000",
	} {
		w, err := aleph.ParseTokens(text)
		if err != nil || w.String() != wei {
			t.Errorf("ParseTokens(%q) = %s, %v; want %s", text, w, err, wei)
		}
		if back := w.Tokens(); back != strings.Replace(text, ".5", "0.5", 1) && text != "12.5" {
			t.Errorf("%s wei read %s tokens, want %s", w, back, text)
		}
	}
	for _, text := range []string{"", ".", "-1", "1e3", "1.2.3", "0.0000000000000000001", strings.Repeat("1", 81)} {
		if w, err := aleph.ParseTokens(text); err == nil {
			t.Errorf("ParseTokens(%q) = %s, want an error", text, w)
		}
	}
	var w aleph.Wei
	for _, raw := range []string{`7`, `"x"`, `"0x1"`, `"` + strings.Repeat("1", 81) + `"`} {
		if err := json.Unmarshal([]byte(raw), &w); err == nil {
			t.Errorf("amount %s accepted, want an error", raw)
		}
	}
	if err := json.Unmarshal([]byte(`null`), &w); err != nil || w.Sign() != 0 {
		t.Errorf("null is %s, %v; want 0", w, err)
	}
}

func FuzzWei(f *testing.F) {
	f.Add(`"12"`)
	f.Fuzz(func(t *testing.T, raw string) {
		var w aleph.Wei
		if err := json.Unmarshal([]byte(raw), &w); err != nil {
			return
		}
		own, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var again aleph.Wei
		if err := json.Unmarshal(own, &again); err != nil || again.Cmp(w) != 0 {
			t.Fatalf("%s reads back as %s, %v", w, again, err)
		}
	})
}

func FuzzParseTokens(f *testing.F) {
	f.Add("12.5")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := aleph.ParseTokens(text)
		if err != nil {
			return
		}
		again, err := aleph.ParseTokens(w.Tokens())
		if err != nil || again.Cmp(w) != 0 || w.Sign() < 0 {
			t.Fatalf("%q is %s wei, reads back as %s, %v", text, w, again, err)
		}
	})
}

// FuzzAnswers reads answers of a node that says anything: each is a value that
// can be used, or an error.
func FuzzAnswers(f *testing.F) {
	var status int
	var kind string
	var answer []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		w.Write(answer)
	}))
	f.Cleanup(server.Close)
	c, err := aleph.New(server.URL)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"chain":{"id":31337},"contracts":{}}`, `{"jobs":[{"status":"running","rate_q32":"5","ports":[{"protocol":"tcp","guest":80}]}]}`,
		`{"nodes":[null]}`, `{"split":{"node":"1","staker":null},"claims":[{"gross":"-1"}]}`, `{"status":"processed"}`, `null`, `[]`,
	} {
		f.Add(true, []byte(seed))
	}
	f.Add(false, []byte(`{"title":"Not found","detail":"no job","error_code":5}`))
	f.Fuzz(func(t *testing.T, ok bool, raw []byte) {
		status, kind, answer = http.StatusOK, "application/json", raw
		if !ok {
			status, kind = http.StatusNotFound, "application/problem+json"
		}
		ctx := t.Context()
		wantRefused := func(err error) {
			t.Helper()
			if !ok && !errors.Is(err, aleph.NotFound) || err != nil && err.Error() == "" {
				t.Errorf("answer %q with status %d: error %v", raw, status, err)
			}
		}
		info, err := c.Info(ctx)
		wantRefused(err)
		if err == nil {
			info.Jobs()
		}
		jobs, err := c.Jobs(ctx, common.Address{})
		wantRefused(err)
		for _, j := range jobs {
			j.Port("tcp", 80)
			_ = j.Status.Ended()
			_ = j.RateQ32.Tokens()
		}
		receipt, err := c.Receipt(ctx, image)
		wantRefused(err)
		if err == nil {
			_ = receipt.Split.Sum().Tokens()
		}
		_, err = c.Nodes(ctx)
		wantRefused(err)
		_, err = c.Quote(ctx, aleph.QuoteRequest{})
		wantRefused(err)
		_, err = c.Message(ctx, image)
		wantRefused(err)
		_, err = c.Account(ctx, common.Address{})
		wantRefused(err)
	})
}
