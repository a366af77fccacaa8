// Package alephtest runs a node's HTTP interface in memory, as httptest runs a
// server: for tests of programs that talk to a node. It checks what a real
// node checks of signatures and hashes, prices with the real price table, and
// moves a job one step each time it is looked at, so that tests need no clock.
package alephtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	// ChainTime is the chain time of the node: Unix seconds.
	ChainTime = 1_800_000_000
	// ChainID is the id of local networks.
	ChainID = 31337

	prepaySeconds = 3600
	jobSeconds    = 90 // metered seconds of every ended job
	bodyMax       = 64 << 20
)

// Node is a node in memory.
type Node struct {
	*httptest.Server

	mu       sync.Mutex
	info     aleph.Info
	messages map[message.ItemHash]*message.Envelope
	jobs     map[message.ItemHash]*aleph.Job
	order    []message.ItemHash
	blobs    map[message.ItemHash][]byte
	accounts map[common.Address]*aleph.AccountView
	nodes    []aleph.Node
	path     []aleph.JobStatus // that a job takes, one step each look
	reason   string            // of the last status
	relay    *Chain            // that permits are sent to
}

// New starts a node; Close stops it. Jobs go from offered to running.
func New() *Node {
	n := &Node{
		messages: map[message.ItemHash]*message.Envelope{}, jobs: map[message.ItemHash]*aleph.Job{},
		blobs: map[message.ItemHash][]byte{}, accounts: map[common.Address]*aleph.AccountView{},
		path: []aleph.JobStatus{aleph.JobOffered, aleph.JobDecided, aleph.JobAssigned, aleph.JobRunning},
	}
	contract := func(b byte) common.Address { return common.BytesToAddress([]byte{0xC0, b}) }
	n.info = aleph.Info{
		Role: "coordinator", NodeID: 1, Version: "test", PeerID: "12D3KooWCoordinator",
		Chain: aleph.ChainInfo{ID: ChainID, Head: 42, Time: ChainTime},
		Contracts: aleph.Contracts{
			AlephToken: contract(1), NodeRegistry: contract(2), StakingManager: contract(3), JobManager: contract(4),
			PaymentManager: contract(5), AccessManager: contract(6),
		},
		Token: aleph.TokenInfo{Index: job.TokenALEPH, Symbol: "ALEPH", Decimals: 18},
	}
	n.nodes = []aleph.Node{
		{NodeID: 1, Kind: "coordinator", Status: "active", PeerID: n.info.PeerID, PriceBps: pricing.Bps, Endpoint: "http://127.0.0.1:4024", SeenAt: ChainTime},
		compute(2, "active"), compute(3, "draining"),
	}
	n.Server = httptest.NewServer(n.routes())
	return n
}

func compute(id uint32, status string) aleph.Node {
	return aleph.Node{
		NodeID: id, Kind: "compute", Status: status, PeerID: fmt.Sprintf("12D3KooWCompute%d", id), Region: 1,
		Capacity: &aleph.Capacity{VCPUsTotal: 8, VCPUsFree: 8, MemoryTotalMiB: 16384, MemoryFreeMiB: 15360, DiskTotalMiB: 102400, DiskFreeMiB: 102400},
		PriceBps: pricing.Bps, Accelerator: "tcg", Endpoint: fmt.Sprintf("http://127.0.0.1:%d", 4024+id), SeenAt: ChainTime,
	}
}

// Steps sets the statuses that jobs take from now on, and the reason of the
// last.
func (n *Node) Steps(reason string, path ...aleph.JobStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.path, n.reason = path, reason
}

// SetInfo changes what the node says about itself.
func (n *Node) SetInfo(change func(*aleph.Info)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.info)
}

// SetAccount changes what the node knows of an address.
func (n *Node) SetAccount(a common.Address, change func(*aleph.AccountView)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n.account(a))
}

// Corrupt changes a byte of every blob it holds.
func (n *Node) Corrupt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.blobs {
		b[0] ^= 1
	}
}

func (n *Node) account(a common.Address) *aleph.AccountView {
	if n.accounts[a] == nil {
		n.accounts[a] = &aleph.AccountView{Address: a}
	}
	return n.accounts[a]
}

// answer is what a handler returns: a status and a body, or a problem.
type answer struct {
	status int
	body   any
}

func problem(status int, format string, args ...any) answer {
	return answer{status, map[string]any{"title": http.StatusText(status), "status": status, "detail": fmt.Sprintf(format, args...)}}
}

func (n *Node) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(r *http.Request) answer) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
			n.mu.Lock()
			a := h(r)
			n.mu.Unlock()
			write(w, a)
		})
	}
	ok := func(*http.Request) answer { return answer{http.StatusOK, map[string]string{"status": "ok"}} }
	handle("GET /healthz", ok)
	handle("GET /readyz", ok)
	handle("GET /api/v1/info", func(*http.Request) answer { return answer{http.StatusOK, n.info} })
	handle("GET /api/v1/nodes", func(*http.Request) answer { return answer{http.StatusOK, n.nodes} })
	handle("POST /api/v1/quotes", n.quote)
	handle("POST /api/v1/messages", n.publish)
	handle("GET /api/v1/messages/{hash}", n.message)
	handle("POST /api/v1/jobs", n.open)
	handle("GET /api/v1/jobs", n.list)
	handle("GET /api/v1/jobs/{spec}", n.job)
	handle("POST /api/v1/jobs/{spec}/stop", n.stop)
	handle("GET /api/v1/jobs/{spec}/receipt", n.receipt)
	handle("POST /api/v1/permits", n.permit)
	handle("GET /api/v1/accounts/{address}", func(r *http.Request) answer {
		return answer{http.StatusOK, n.account(common.HexToAddress(r.PathValue("address")))}
	})
	handle("POST /api/v1/blobs", n.upload)
	mux.HandleFunc("GET /api/v1/blobs/{hash}", n.download)
	mux.HandleFunc("GET /api/v1/jobs/{spec}/logs", n.logs)
	return mux
}

func write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	if a.status >= http.StatusBadRequest {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(a.status)
	// A client that has gone away needs no answer.
	_ = json.NewEncoder(w).Encode(a.body)
}

// flow prices a content, with the error as a problem.
func flow(content *message.Instance) (*pricing.Flow, error) {
	table, err := pricing.Default()
	if err != nil {
		return nil, err
	}
	return table.Flow(content, nil, pricing.Bps)
}

func (n *Node) quote(r *http.Request) answer {
	var in aleph.QuoteRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	f, err := flow(in.Content)
	if err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	q := aleph.Quote{
		RateQ32: aleph.NewWei(f.RateQ32), WeiPerSecond: aleph.NewWei(f.WeiPerSecond), WeiPerHour: aleph.NewWei(f.PerHour()),
		WeiPerMonth: aleph.NewWei(f.PerMonth()), PrepaySeconds: prepaySeconds, PrepayWei: aleph.NewWei(f.For(prepaySeconds)),
		Token: job.TokenALEPH, NodeID: 2, Reason: "highest weight of 1 node that fits", Candidates: candidates(),
	}
	if in.NodeHint == 3 {
		for i := range q.Candidates {
			q.Candidates[i].Eligible, q.Candidates[i].Chosen = false, false
		}
		q.NodeID, q.Reason = 0, "node 3 is draining"
	}
	for _, l := range f.Lines {
		q.Lines = append(q.Lines, aleph.QuoteLine{Name: l.Name, WeiPerHour: aleph.NewWei(l.WeiPerHour)})
	}
	return answer{http.StatusOK, q}
}

func candidates() []aleph.Candidate {
	return []aleph.Candidate{
		{NodeID: 2, Eligible: true, Chosen: true, Reason: "highest weight of 1 node that fits", Score: 0.71},
		{NodeID: 3, Reason: "is draining"},
	}
}

func (n *Node) publish(r *http.Request) answer {
	var in struct{ Message json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return problem(http.StatusBadRequest, "%v", err)
	}
	e, a := checkMessage(in.Message)
	if e == nil {
		return a
	}
	n.messages[e.ItemHash] = e
	return answer{http.StatusAccepted, aleph.Accepted{ItemHash: e.ItemHash, Status: message.StatusPending}}
}

func checkMessage(raw []byte) (*message.Envelope, answer) {
	e, err := message.Parse(raw)
	if err == nil {
		err = signature.Verify(e)
	}
	if err == nil {
		return e, answer{}
	}
	a := problem(http.StatusUnprocessableEntity, "%v", err)
	body, fits := a.body.(map[string]any)
	if rejected, ok := err.(*message.RejectError); ok && fits { //nolint:errorlint // Parse and Verify return it bare
		body["error_code"] = rejected.Code
	}
	return nil, a
}

func (n *Node) message(r *http.Request) answer {
	e := n.messages[message.ItemHash(r.PathValue("hash"))]
	if e == nil {
		return problem(http.StatusNotFound, "message %s is not known here", r.PathValue("hash"))
	}
	if s, err := e.Store(); err == nil && n.blobs[s.ItemHash] == nil {
		code := message.CodeFileUnavailable
		return answer{http.StatusOK, aleph.MessageView{Status: message.StatusRejected, Message: e, ErrorCode: &code, Detail: "the file is not here"}}
	}
	return answer{http.StatusOK, aleph.MessageView{Status: message.StatusProcessed, Message: e}}
}

func (n *Node) open(r *http.Request) answer {
	var in struct {
		Message   json.RawMessage
		Offer     *job.Offer
		Signature job.Signature
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	e, a := checkMessage(in.Message)
	if e == nil {
		return a
	}
	if err := job.CheckOffer(n.info.Jobs(), in.Offer, in.Signature, e); err != nil {
		return problem(http.StatusForbidden, "%v", err)
	}
	content, err := e.Instance()
	if err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	f, err := flow(content)
	if err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	need, funds := aleph.NewWei(f.For(prepaySeconds)), n.account(in.Offer.Payer)
	if funds.Allowance.Cmp(need) < 0 {
		missing := aleph.NewWei(new(big.Int).Sub(need.Big(), funds.Allowance.Big()))
		return problem(http.StatusPaymentRequired,
			"%s ALEPH missing: the first %d s cost %s ALEPH; balance is %s ALEPH, allowance to PaymentManager %s ALEPH",
			missing.Tokens(), prepaySeconds, need.Tokens(), funds.TokenBalance.Tokens(), funds.Allowance.Tokens())
	}
	j := &aleph.Job{
		Spec: e.ItemHash, Owner: in.Offer.Payer, Status: n.path[0], RateQ32: aleph.NewWei(f.RateQ32),
		WeiPerSecond: aleph.NewWei(f.WeiPerSecond), OfferedAt: ChainTime,
	}
	n.messages[e.ItemHash], n.jobs[e.ItemHash] = e, j
	n.order = append(n.order, e.ItemHash)
	return answer{http.StatusAccepted, j}
}

func (n *Node) list(r *http.Request) answer {
	jobs := []*aleph.Job{}
	for _, spec := range n.order {
		if n.jobs[spec].Owner == common.HexToAddress(r.URL.Query().Get("owner")) {
			jobs = append(jobs, n.jobs[spec])
		}
	}
	return answer{http.StatusOK, jobs}
}

func (n *Node) job(r *http.Request) answer {
	j := n.jobs[message.ItemHash(r.PathValue("spec"))]
	if j == nil {
		return problem(http.StatusNotFound, "job %s is not known here", r.PathValue("spec"))
	}
	n.step(j)
	use(j)
	return answer{http.StatusOK, j}
}

// use lets a second go by for the job's machine each time that it is looked at: a
// quarter of a processor is busy, and a KiB comes for two that go.
func use(j *aleph.Job) {
	if j.VM == nil {
		return
	}
	if j.Status.Ended() {
		j.VM.Usage = nil
		return
	}
	if j.VM.Usage == nil {
		j.VM.Usage = &job.Usage{AtMS: ChainTime * 1000, RSSBytes: 64 << 20, DiskBytes: 3 << 29, RxBytes: new(int64), TxBytes: new(int64)}
	}
	u := j.VM.Usage
	u.AtMS += 1000
	u.CPUMS += 250
	*u.RxBytes += 1 << 10
	*u.TxBytes += 2 << 10
}

// step moves a job to the next status of the path.
func (n *Node) step(j *aleph.Job) {
	for i, s := range n.path {
		if s == j.Status && i+1 < len(n.path) {
			j.Status = n.path[i+1]
			break
		}
	}
	if j.Status != n.path[len(n.path)-1] {
		return
	}
	j.StatusReason = n.reason
	if j.Status != aleph.JobRunning || j.StartedAt != 0 {
		return
	}
	j.NodeID, j.NodeEndpoint, j.AssignedAt, j.StartedAt = 2, "http://127.0.0.1:4026", ChainTime+1, ChainTime+5
	j.Ports = []job.Port{{Guest: 22, Protocol: "tcp", Host: 30022, HostIP: "127.0.0.1"}, {Guest: 80, Protocol: "tcp", Host: 30080, HostIP: "127.0.0.1"}}
	j.VM = &job.VM{
		State: "running", Driver: "qemu", Accelerator: "tcg", Ports: j.Ports,
		TimingsMS: map[string]int64{"accept": 12, "fetch": 340, "prepare": 80, "boot": 4100},
		History: []job.Step{
			{At: ChainTime + 1, To: "wanted", Cause: "the chain gave the job to this node"},
			{At: ChainTime + 5, From: "wanted", To: "running", Cause: "runs"},
		},
	}
	j.Decision = &aleph.Decision{NodeID: 2, Reason: "highest weight of 1 node that fits", Candidates: candidates()}
	j.PaidUntil = j.StartedAt + prepaySeconds
	j.MeteredSeconds = jobSeconds
	j.MeteredWei = aleph.NewWei(pricing.Amount(j.RateQ32.Big(), jobSeconds))
}

func (n *Node) stop(r *http.Request) answer {
	spec := message.ItemHash(r.PathValue("spec"))
	j := n.jobs[spec]
	if j == nil {
		return problem(http.StatusNotFound, "job %s is not known here", spec)
	}
	var in aleph.StopRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	if err := job.Verify(n.info.Jobs(), &job.Stop{Spec: spec, Deadline: in.Deadline}, in.Signature, j.Owner); err != nil {
		return problem(http.StatusForbidden, "only the payer stops a job: %v", err)
	}
	if j.Status.Ended() {
		return problem(http.StatusConflict, "job %s has ended already", spec)
	}
	n.path, n.reason = []aleph.JobStatus{j.Status, aleph.JobStopped}, "stopped by the payer"
	j.StoppedAt = j.StartedAt + jobSeconds
	return answer{http.StatusAccepted, j}
}

func (n *Node) receipt(r *http.Request) answer {
	j := n.jobs[message.ItemHash(r.PathValue("spec"))]
	if j == nil || j.StartedAt == 0 {
		return problem(http.StatusNotFound, "job %s has not run", r.PathValue("spec"))
	}
	gross := pricing.Amount(j.RateQ32.Big(), jobSeconds)
	percent := func(p int64) *big.Int {
		v := new(big.Int).Mul(gross, big.NewInt(p))
		return v.Div(v, big.NewInt(100))
	}
	coordinator, staker, development := percent(10), percent(5), percent(5)
	node := new(big.Int).Sub(gross, coordinator)
	node.Sub(node, staker).Sub(node, development)
	split := aleph.Split{Node: aleph.NewWei(node), Coordinator: aleph.NewWei(coordinator), Staker: aleph.NewWei(staker), Development: aleph.NewWei(development)}
	return answer{http.StatusOK, aleph.Receipt{
		Spec: j.Spec, RateQ32: j.RateQ32, StartedAt: j.StartedAt, StoppedAt: j.StartedAt + jobSeconds, Seconds: jobSeconds,
		QuotedWei: aleph.NewWei(gross), SettledWei: aleph.NewWei(gross), Split: split,
		Claims: []aleph.Claim{{
			Tx: common.BytesToHash([]byte{1}), Gross: aleph.NewWei(gross), Amount: aleph.NewWei(gross), At: j.StartedAt + jobSeconds, Node: split.Node, Coordinator: split.Coordinator,
			Staker: split.Staker, Development: split.Development,
		}},
		RefundWei: aleph.NewWei(pricing.Amount(j.RateQ32.Big(), prepaySeconds-jobSeconds)), Complete: j.Status.Ended(),
	}}
}

func (n *Node) permit(r *http.Request) answer {
	var in aleph.PermitRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return problem(http.StatusUnprocessableEntity, "%v", err)
	}
	if n.relay == nil {
		return problem(http.StatusServiceUnavailable, "this node has no chain to send permits to")
	}
	if err := n.relay.permit(r.Context(), in); err != nil {
		return problem(http.StatusForbidden, "%v", err)
	}
	n.account(in.Owner).Allowance = in.Value
	return answer{http.StatusAccepted, aleph.Relayed{Intent: "permit-1"}}
}

// Relay makes the node send permits to a chain, whose token it names.
func (n *Node) Relay(c *Chain) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relay, n.info.Contracts.AlephToken, n.info.Chain.Time = c, c.Token, uint64(time.Now().Unix())
}

func (n *Node) upload(r *http.Request) answer {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return problem(http.StatusRequestEntityTooLarge, "%v", err)
	}
	hash := message.ItemHashOf(sha256.Sum256(raw))
	if want := r.Header.Get("X-Aleph-Sha256"); want != "" && want != string(hash) {
		return problem(http.StatusUnprocessableEntity, "the bytes hash to %s, not %s", hash, want)
	}
	n.blobs[hash] = raw
	return answer{http.StatusCreated, aleph.Blob{Hash: hash, Size: int64(len(raw))}}
}

func (n *Node) download(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	raw, ok := n.blobs[message.ItemHash(r.PathValue("hash"))]
	raw = bytes.Clone(raw)
	n.mu.Unlock()
	if !ok {
		write(w, problem(http.StatusNotFound, "blob %s is not here", r.PathValue("hash")))
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

func (n *Node) logs(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	j := n.jobs[message.ItemHash(r.PathValue("spec"))]
	n.mu.Unlock()
	if j == nil {
		write(w, problem(http.StatusNotFound, "job %s is not known here", r.PathValue("spec")))
		return
	}
	req, err := operator.Parse(r.Header.Get(operator.HeaderName))
	if err == nil {
		err = req.Verify(r.Method, r.URL.RequestURI(), time.Now())
	}
	if err != nil || req.Address != j.Owner {
		write(w, problem(http.StatusForbidden, "only the owner reads the logs: %v", err))
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	lines := "booting\nready\n"
	if strings.Contains(r.URL.RawQuery, "follow=1") {
		lines += "followed\n"
	}
	_, _ = io.WriteString(w, lines)
}
