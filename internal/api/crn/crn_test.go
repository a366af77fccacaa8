package crn_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	deca    = message.ItemHash("decadecadecadecadecadecadecadecadecadecadecadecadecadecadecadeca")
	cafe    = message.ItemHash("cafecafecafecafecafecafecafecafecafecafecafecafecafecafecafecafe")
	beef    = message.ItemHash("beefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeef")
	self    = message.ItemHash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	domain  = "crn.example.org"
	secret  = "c2VjcmV0LXRva2VuLWZvci10ZXN0cw-and-more"
	machine = "/control/machine/" + string(deca)
)

// clock is the time of all tests, at which the golden proofs are good.
func clock() time.Time { return time.Date(2030, 1, 1, 0, 1, 0, 0, time.UTC) }

// world is a compute node in memory.
type world struct {
	t   testing.TB
	srv *crn.Server

	mu        sync.Mutex
	here      map[message.ItemHash]*crn.Execution
	gone      map[message.ItemHash]*crn.Execution
	messages  map[message.ItemHash]*crn.Message
	security  authz.Security
	rightsErr error
	txt       map[string]string
	lookups   int
	did       []string // What the parts were asked to do.
	fail      map[string]error
	allocated crn.Allocated
	wanted    crn.Allocation
	lines     []crn.Line
	query     crn.LogQuery
	nodeHash  message.ItemHash
	call      func(program message.ItemHash, r *http.Request) (*http.Response, error)
	backup    *crn.Backup
	tar       []byte
	export    *crn.Export
	imported  *crn.Import
	importOf  crn.ImportRequest
	restored  []byte
	reach     hostinfo.Connectivity
	measured  *crn.Measurement
	session   string
}

func newWorld(t testing.TB, change ...func(*crn.Self, *crn.Parts)) *world {
	t.Helper()
	w := &world{
		t: t, here: map[message.ItemHash]*crn.Execution{}, gone: map[message.ItemHash]*crn.Execution{}, messages: map[message.ItemHash]*crn.Message{},
		fail: map[string]error{}, txt: map[string]string{}, nodeHash: self,
	}
	cfg := crn.DefaultConfig()
	cfg.Domain = domain
	me := crn.Self{Config: cfg, Secret: secret}
	parts := crn.Parts{
		Machines: w, Executions: w, Messages: inMessages{w}, Payments: w, Rights: w, Identity: w, Host: w, Logs: w, Functions: w, Backups: inBackups{w}, Migrations: inMigrations{w},
		Confidential: inConfidential{w}, Resolver: w, Used: newUsed(),
	}
	for _, f := range change {
		f(&me, &parts)
	}
	if err := me.Validate(); err != nil {
		t.Fatal(err)
	}
	srv, err := crn.New(me, parts, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv.SetClock(clock())
	w.srv = srv
	return w
}

// instance is one that runs.
func instance(owner string) *crn.Execution {
	at := time.Date(2026, 8, 7, 12, 0, 0, 1000, time.UTC)
	return &crn.Execution{
		Hash: deca, Kind: crn.Instance, Owner: owner, Running: true, Persistent: true, Hypervisor: message.QEMU, RootfsBytes: 1 << 30,
		Times: crn.Times{
			Defined: at, Preparing: at.Add(99_999 * time.Microsecond), Prepared: at.Add(8_999_999 * time.Microsecond),
			Starting: at.Add(9_499_999 * time.Microsecond), Started: at.Add(11_999_999 * time.Microsecond),
		},
		Network: &crn.Network{
			IPv4Network: netip.MustParsePrefix("172.16.4.0/24"), HostIPv4: netip.MustParseAddr("203.0.113.10"), IPv4: netip.MustParseAddr("172.16.4.2"),
			IPv6Network: netip.MustParsePrefix("2001:db8:1:2:3:deca:deca:dec0/124"), IPv6: netip.MustParseAddr("2001:db8:1:2:3:deca:deca:dec1"),
			Ports: map[uint16]crn.Port{22: {Host: 24000, TCP: true}, 5353: {Host: 24001, UDP: true}},
		},
	}
}

func (w *world) note(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, what)
	name, _, _ := strings.Cut(what, " ")
	return w.fail[name]
}

func (w *world) List(context.Context) ([]crn.Execution, error) {
	var out []crn.Execution
	for _, e := range w.here {
		out = append(out, *e)
	}
	return out, nil
}

func (w *world) Find(_ context.Context, vm message.ItemHash) (*crn.Execution, error) {
	if e, ok := w.here[vm]; ok {
		return e, nil
	}
	return nil, errs.New(errs.NotFound, "no machine %s", vm)
}

func (w *world) Past(ctx context.Context, vm message.ItemHash) (*crn.Execution, error) {
	if e, ok := w.gone[vm]; ok {
		return e, nil
	}
	return w.Find(ctx, vm)
}

func (w *world) Records(context.Context, int) ([]crn.Record, error) {
	return []crn.Record{{Execution: *instance("0xA"), ID: "1", VCPUs: 2, Memory: 2048, Use: crn.Use{CPUUser: 1500 * time.Millisecond}}}, nil
}

func (w *world) Allocate(_ context.Context, want crn.Allocation) (*crn.Allocated, error) {
	w.wanted = want
	return &w.allocated, w.note("allocate")
}

func (w *world) Admit(context.Context, message.ItemHash, *message.Instance) error {
	return w.note("admit")
}

func (w *world) Start(_ context.Context, vm message.ItemHash) error {
	return w.note("start " + string(vm))
}

func (w *world) Resume(_ context.Context, vm message.ItemHash) error {
	return w.note("resume " + string(vm))
}

func (w *world) Reserve(_ context.Context, by string, _ *message.Instance) (time.Time, error) {
	return clock().Add(time.Minute), w.note("reserve " + by)
}

func (w *world) UpdatePorts(_ context.Context, vm message.ItemHash) error {
	return w.note("update " + string(vm))
}

func (w *world) Stop(_ context.Context, vm message.ItemHash) error {
	return w.note("stop " + string(vm))
}

func (w *world) Reboot(_ context.Context, vm message.ItemHash) error {
	return w.note("reboot " + string(vm))
}

func (w *world) Erase(_ context.Context, vm message.ItemHash) error {
	return w.note("erase " + string(vm))
}

func (w *world) Expire(_ context.Context, _ message.ItemHash, after time.Duration) error {
	return w.note("expire " + after.String())
}

func (w *world) Reinstall(_ context.Context, _ message.ItemHash, volumes bool) error {
	if volumes {
		return w.note("reinstall all")
	}
	return w.note("reinstall root")
}

func (w *world) RecreateNetwork(context.Context) (*crn.Recreated, error) {
	return &crn.Recreated{Removed: []string{"a"}, VMs: []message.ItemHash{deca}, Failed: map[message.ItemHash]error{cafe: errs.New(errs.Unavailable, "no tap")}}, w.note("recreate")
}

type inMessages struct{ w *world }

func (m inMessages) Find(_ context.Context, hash message.ItemHash) (*crn.Message, error) {
	if err := m.w.note("find"); err != nil {
		return nil, err
	}
	if found, ok := m.w.messages[hash]; ok {
		return found, nil
	}
	return nil, errs.New(errs.NotFound, "no message")
}

func (w *world) Check(context.Context, *crn.Message, *message.Instance) error { return w.note("check") }

func (w *world) Security(context.Context, string) (authz.Security, error) {
	return w.security, w.rightsErr
}

func (w *world) NodeHash() (message.ItemHash, bool) { return w.nodeHash, w.nodeHash != "" }

func (w *world) Usage(context.Context) (*hostinfo.Usage, error) {
	return &hostinfo.Usage{Active: true}, nil
}

func (w *world) Capability(context.Context) (*hostinfo.Capability, error) {
	return &hostinfo.Capability{}, nil
}

func (w *world) Connectivity(context.Context) *hostinfo.Connectivity { return &w.reach }

func (w *world) IPv6(context.Context) bool { return true }

func (w *world) Lines(_ context.Context, _ message.ItemHash, q crn.LogQuery) iter.Seq2[crn.Line, error] {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.query = q
	return func(yield func(crn.Line, error) bool) {
		for _, line := range w.lines {
			if !yield(line, nil) {
				return
			}
		}
	}
}

func (w *world) Call(_ context.Context, program message.ItemHash, r *http.Request) (*http.Response, error) {
	if w.call == nil {
		return nil, errs.New(errs.Unavailable, "This CRN cannot host the requested workload at this time.")
	}
	return w.call(program, r)
}

func (w *world) LookupTXT(_ context.Context, name string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	name, ends := strings.CutSuffix(name, ".")
	if !ends {
		w.t.Errorf("%q is asked for, which is looked for in domains of this host, too", name)
	}
	if text, ok := w.txt[name]; ok {
		return []string{"something else", text}, nil
	}
	return nil, io.EOF
}

type inBackups struct{ w *world }

func (b inBackups) Begin(_ context.Context, _ message.ItemHash, o crn.BackupOptions) (*crn.Backup, error) {
	what := "backup"
	if o.Volumes {
		what += " volumes"
	}
	if o.SkipFreeze {
		what += " unfrozen"
	}
	return b.w.backup, b.w.note(what)
}

func (b inBackups) Latest(context.Context, message.ItemHash) (*crn.Backup, error) {
	return b.w.backup, b.w.note("latest")
}

func (b inBackups) Open(context.Context, message.ItemHash, string) (*crn.Backup, io.ReadSeekCloser, error) {
	if b.w.backup == nil {
		return nil, nil, errs.New(errs.NotFound, "no backup")
	}
	return b.w.backup, struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(b.w.tar), io.NopCloser(nil)}, nil
}

func (b inBackups) Delete(_ context.Context, _ message.ItemHash, id string) error {
	return b.w.note("delete " + id)
}

func (b inBackups) Restore(_ context.Context, _ message.ItemHash, image io.Reader) error {
	raw, err := io.ReadAll(image)
	if err != nil {
		return fmt.Errorf("read upload: %w", err)
	}
	b.w.restored = raw
	return b.w.note("restore")
}

func (b inBackups) RestoreRef(_ context.Context, _, ref message.ItemHash) error {
	return b.w.note("restore-ref " + string(ref))
}

type inMigrations struct{ w *world }

func (m inMigrations) Export(context.Context, message.ItemHash) (*crn.Export, error) {
	m.w.export = &crn.Export{State: crn.Exporting, Started: clock()}
	return m.w.export, m.w.note("export")
}

func (m inMigrations) Exporting(context.Context, message.ItemHash) (*crn.Export, error) {
	if m.w.export == nil {
		return nil, errs.New(errs.NotFound, "no export")
	}
	return m.w.export, nil
}

func (m inMigrations) OpenExport(context.Context, message.ItemHash, string) (io.ReadSeekCloser, error) {
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(m.w.tar), io.NopCloser(nil)}, nil
}

func (m inMigrations) Cleanup(context.Context, message.ItemHash) error { return m.w.note("cleanup") }

func (m inMigrations) Import(_ context.Context, want crn.ImportRequest) (*crn.Import, error) {
	m.w.importOf = want
	m.w.imported = &crn.Import{State: crn.Importing, Started: clock(), Step: "downloading_disks", BytesTotal: 5}
	return m.w.imported, m.w.note("import")
}

func (m inMigrations) Importing(context.Context, message.ItemHash) (*crn.Import, error) {
	if m.w.imported == nil {
		return nil, errs.New(errs.NotFound, "no import")
	}
	return m.w.imported, nil
}

type inConfidential struct{ w *world }

func (c inConfidential) Certificates(context.Context) ([]byte, error) { return []byte("chain"), nil }

func (c inConfidential) Initialize(_ context.Context, _ message.ItemHash, session, godh []byte) error {
	c.w.session = string(session) + "|" + string(godh)
	return nil
}

func (c inConfidential) Measurement(context.Context, message.ItemHash) (*crn.Measurement, error) {
	if c.w.measured == nil {
		return nil, errs.New(errs.Unavailable, "not yet")
	}
	return c.w.measured, nil
}

func (c inConfidential) Inject(_ context.Context, _ message.ItemHash, s crn.Secret) (json.RawMessage, error) {
	return json.RawMessage(`{"status":"running","singlestep":false,"running":true}`), c.w.note("inject " + s.Secret)
}

// wallet is an owner with a key for the browser.
type wallet struct {
	domain  string // That it signs for.
	address string
	pubKey  string
	session *ecdsa.PrivateKey
	n       int
}

func newWallet(t testing.TB) *wallet {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	session, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := session.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	address := crypto.PubkeyToAddress(key.PublicKey).Hex()
	payload, err := json.Marshal(map[string]any{
		"pubkey": map[string]string{"kty": "EC", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])}, "alg": "ECDSA", "domain": domain,
		"address": address, "expires": clock().Add(time.Hour).Format(time.RFC3339), "chain": "ETH",
	})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := message.SignText(key, payload)
	if err != nil {
		t.Fatal(err)
	}
	return &wallet{domain: domain, address: address, session: session, pubKey: signedText(hex.EncodeToString(payload), sig)}
}

func signedText(payload, signature string) string {
	raw, err := json.Marshal(map[string]string{"payload": payload, "signature": signature})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// operation signs a request as clients do.
func (k *wallet) operation(t testing.TB, method, path string) string {
	t.Helper()
	k.n++ // No two are of one time.
	payload, err := json.Marshal(map[string]string{
		"time": clock().Add(time.Duration(k.n) * time.Microsecond).Format(time.RFC3339Nano), "method": method, "path": path, "domain": k.domain,
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(payload)
	r, s, err := ecdsa.Sign(rand.Reader, k.session, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signedText(hex.EncodeToString(payload), hex.EncodeToString(sig[:]))
}

func (k *wallet) sign(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	r.Header.Set("X-SignedPubKey", k.pubKey)
	r.Header.Set("X-SignedOperation", k.operation(t, r.Method, r.URL.Path))
	return r
}

func request(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = domain
	return r
}

func (w *world) do(r *http.Request) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, r)
	if got := rec.Header().Get("Server"); got != "aleph-vm/1.13.0" {
		w.t.Errorf("%s %s: header Server is %q", r.Method, r.URL.Path, got)
	}
	return rec
}

// want does a request and compares status and body.
func (w *world) want(r *http.Request, status int, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := w.do(r)
	if rec.Code != status || rec.Body.String() != body {
		w.t.Errorf("%s %s: %d %s\nwant %d %s", r.Method, r.URL, rec.Code, rec.Body, status, body)
	}
	return rec
}

// asked reports what the parts were asked to do since the last time.
func (w *world) asked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	did := strings.Join(w.did, ", ")
	w.did = nil
	return did
}

func golden(t *testing.T, name string) any {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return document(t, raw)
}

func document(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func same(t *testing.T, got []byte, want any) {
	t.Helper()
	if diff := cmp.Diff(want, document(t, got)); diff != "" {
		t.Errorf("body differs (-want +got):\n%s", diff)
	}
}

func TestListsAreThoseOfClients(t *testing.T) {
	w := newWorld(t)
	w.here[deca] = instance("0xA")
	w.here[cafe] = &crn.Execution{Hash: cafe, Kind: crn.MicroVM, Running: true, Network: &crn.Network{
		IPv4Network: netip.MustParsePrefix("172.16.5.0/24"), IPv6Network: netip.MustParsePrefix("2001:db8:1:2:1:cafe:cafe:caf0/124"),
	}}
	w.here[beef] = &crn.Execution{Hash: beef, Kind: crn.Instance, Running: true} // It has no addresses yet.
	same(t, w.want(request("GET", "/about/executions/list", ""), 200, w.do(request("GET", "/about/executions/list", "")).Body.String()).Body.Bytes(), golden(t, "executions_list_v1.json"))
	delete(w.here, cafe)
	same(t, w.do(request("GET", "/v2/about/executions/list", "")).Body.Bytes(), golden(t, "executions_list_v2.json"))

	w.here[deca].Running = false
	w.want(request("GET", "/about/executions/list", ""), 200, "{}")
	w.here[deca].AwaitingOwner = true
	if got := w.do(request("GET", "/about/executions/list", "")).Body.String(); !strings.Contains(got, `"awaiting_confidential_init":true`) {
		t.Errorf("one that waits for its owner is not listed: %s", got)
	}
}

func TestRecordsTellNoSecrets(t *testing.T) {
	body := newWorld(t).do(request("GET", "/about/executions/records", "")).Body.String()
	for _, part := range []string{`"uuid":"1"`, `"cpu_time_user":1.5`, `"message":null`, `"original_message":null`, `"time_started":"2026-08-07 12:00:12+00:00"`} {
		if !strings.Contains(body, part) {
			t.Errorf("%s lacks %s", body, part)
		}
	}
}

func TestOperatorsPages(t *testing.T) {
	w := newWorld(t)
	w.want(request("GET", "/about/login", ""), 401, `{"success":false}`)
	w.want(request("GET", "/about/login?token=x", ""), 401, `{"success":false}`)
	w.want(request("GET", "/about/config", ""), 401, `{"error":"401 Invalid token"}`)
	w.want(request("GET", "/about/executions/details", ""), 401, `{"error":"401 Invalid token"}`)

	rec := w.do(request("GET", "/about/login?token="+secret, ""))
	if rec.Code != 302 || rec.Header().Get("Location") != "/about/config" {
		t.Fatalf("login: %d to %q", rec.Code, rec.Header().Get("Location"))
	}
	for _, path := range []string{"/about/config", "/about/executions/details"} {
		r := request("GET", path, "")
		r.AddCookie(rec.Result().Cookies()[0])
		if rec := w.do(r); rec.Code != 200 || strings.Contains(rec.Body.String(), secret) {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestSettingsAreThoseOfClients(t *testing.T) {
	token := "0xc0Fbc4967259786C743361a5885ef49380473dCF"
	w := newWorld(t, func(me *crn.Self, _ *crn.Parts) {
		me.Public = crn.PublicConfig{
			References: crn.PublicReferences{APIServer: "https://official.aleph.cloud", ConnectorURL: "http://localhost:4021/"},
			Security:   crn.PublicSecurity{UseJailer: true, PrintSystemLogs: true, WatchForUpdates: true, AllowNetworking: true},
			Networking: crn.PublicNetworking{IPv6Pool: "2001:db8:1:2::/64", IPv6Policy: "IPv6AllocationPolicy.static", IPv6SubnetPrefix: 124, IPv6Forwarding: true, UseNDPProxy: true},
			Payment: crn.PublicPayment{Receiver: "0x0000000000000000000000000000000000000001", MonitorInterval: 60, Chains: map[string]crn.PublicChain{
				"Chain.AVAX": {ChainID: 43114, RPC: "https://api.avax.network/ext/bc/C/rpc", SuperToken: &token, Active: true},
				"Chain.BASE": {ChainID: 8453, RPC: "https://base-mainnet.public.blastapi.io/", SuperToken: &token, Active: true},
			}},
			Computing: crn.PublicComputing{QEMU: true, DefaultHypervisor: message.Firecracker},
		}
	})
	rec := w.do(request("GET", "/status/config", ""))
	same(t, rec.Body.Bytes(), golden(t, "status_config.json"))
	if !strings.Contains(rec.Body.String(), `"PAYMENT_MONITOR_INTERVAL":60.0`) {
		t.Error("a number lost its point")
	}
	w.nodeHash = ""
	if got := w.do(request("GET", "/status/config", "")).Body.String(); !strings.Contains(got, `"node_hash":null`) {
		t.Errorf("a hash that is not known is %s", got)
	}
}

func TestPathsThatAreNotHere(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/about/x", "/control/x", "/status/check/x", machine + "/x"} {
		w.want(request("GET", path, ""), 404, `{"error":"404: Not Found"}`)
	}
	for _, r := range []*http.Request{request("POST", "/about/x", ""), request("POST", machine+"/rescue", ""), request("GET", "/x", "")} {
		w.want(r, 404, `{"error":"404: Invalid message reference"}`)
	}
	w.want(request("GET", "/debug/haproxy", ""), 404, `{"error":"{\"status\": \"no socket\"}"}`)
	if rec := w.do(request("GET", "/", "")); rec.Code != 200 || !strings.Contains(rec.Body.String(), "/dns4/"+domain+"/tcp/443/https") {
		t.Errorf("the page: %d %s", rec.Code, rec.Body)
	}
}

func TestPagesOfAnyOrigin(t *testing.T) {
	w := newWorld(t)
	w.here[deca] = instance("0xA")
	ask := func(method, path, asked string) *httptest.ResponseRecorder {
		r := request(method, path, "")
		r.Header.Set("Origin", "https://console.example")
		if asked != "" {
			r.Header.Set("Access-Control-Request-Method", asked)
			r.Header.Set("Access-Control-Request-Headers", "x-signedpubkey")
		}
		return w.do(r)
	}
	rec := ask("OPTIONS", machine+"/stop", "POST")
	if h := rec.Header(); rec.Code != 200 || h.Get("Access-Control-Allow-Origin") != "https://console.example" || h.Get("Access-Control-Allow-Credentials") != "true" ||
		h.Get("Access-Control-Allow-Headers") != "x-signedpubkey" || h.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("preflight: %d %v", rec.Code, h)
	}
	if rec := ask("OPTIONS", machine+"/stop", "DELETE"); rec.Code != 403 {
		t.Errorf("preflight of a method that there is not: %d", rec.Code)
	}
	if rec := ask("OPTIONS", "/control/allocations", "POST"); rec.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("pages may allocate")
	}
	if rec := ask("POST", machine+"/stop", ""); rec.Code != 400 || rec.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a page cannot read why it was refused: %d %v", rec.Code, rec.Header())
	}
}

func TestVersions(t *testing.T) {
	w := newWorld(t)
	w.want(request("GET", "/status/check/version?reference=v1.13", ""), 200, "Up-to-date: version 1.13.0 >= 1.13")
	w.want(request("GET", "/status/check/version?reference=1.13.1", ""), 403, `{"error":"Outdated: version 1.13.0 \u003c 1.13.1"}`)
	w.want(request("GET", "/status/check/version", ""), 400, "{\"error\":\"Query field '?reference=` must be specified\"}")
	w.want(request("GET", "/status/check/version?reference=x", ""), 400, `{"error":"Invalid version: 'x'"}`)

	// In order, as PEP 440 has it.
	order := []string{
		"1.dev0", "1.0.dev456", "1.0a1", "1.0a2.dev456", "1.0a12.dev456", "1.0a12", "1.0b1.dev456", "1.0b2", "1.0b2.post345.dev456", "1.0b2.post345", "1.0rc1.dev456", "1.0rc1",
		"1.0", "1.0+abc.5", "1.0+abc.7", "1.0+5", "1.0.post456.dev34", "1.0.post456", "1.0.15", "1.1.dev1", "1!0.1",
	}
	for i, a := range order {
		for j, b := range order {
			got, _, err := crn.CompareVersions(a, b)
			if want := min(max(i-j, -1), 1); err != nil || got != want && i+j != 1 { // The first two are one.
				t.Errorf("%s to %s: %d, %v; want %d", a, b, got, err, want)
			}
		}
	}
	for text, want := range map[string]string{"V1.0-ALPHA.1": "1.0a1", "1.0-1": "1.0.post1", "1.0preview": "1.0rc0", "1.2.3.DEV-4+Ubuntu_1": "1.2.3.dev4+ubuntu.1", " 01.0c2 ": "1.0rc2"} {
		if _, got, err := crn.CompareVersions(text, text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1.", "1.0+", "a", "1.0.x", "1.0dev1dev2", strings.Repeat("1", 30), strings.Repeat("1.", 200) + "1"} {
		if _, got, err := crn.CompareVersions(text, text); err == nil {
			t.Errorf("%q is the version %s", text, got)
		}
	}
}

func FuzzVersion(f *testing.F) {
	f.Add("1.0a1.post2.dev3+abc.1", "1!2.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		order, normal, err := crn.CompareVersions(a, b)
		if err != nil {
			return
		}
		if back, _, err := crn.CompareVersions(b, a); err != nil || back != -order {
			t.Errorf("%q to %q is %d, and back %d, %v", a, b, order, back, err)
		}
		if same, again, err := crn.CompareVersions(normal, a); err != nil || same != 0 || again != normal {
			t.Errorf("%q is %q, which is %q: %d, %v", a, normal, again, same, err)
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*crn.Config){
		"domain": func(c *crn.Config) { c.Domain = "a:443" }, "version": func(c *crn.Config) { c.Version = "" },
		"allocation_signers": func(c *crn.Config) { c.AllocationSigners = []string{"0x1"} }, "allocation_token_hash": func(c *crn.Config) { c.AllocationTokenHash = "00" },
		"check_program": func(c *crn.Config) { c.CheckProgram = "x" }, "function_body_max_bytes": func(c *crn.Config) { c.FunctionBodyMaxBytes = 0 },
	} {
		c := crn.DefaultConfig()
		if change(&c); c.Validate() == nil || !strings.Contains(c.Validate().Error(), name) {
			t.Errorf("%s: %v", name, c.Validate())
		}
	}
}

func TestSecretOutlivesTheProcess(t *testing.T) {
	file := t.TempDir() + "/login_token"
	first, err := crn.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := crn.ReadSecret(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || first != second || len(first) != 43 || info.Mode().Perm() != 0o400 {
		t.Errorf("%q, then %q, %v; %v, %v", first, second, err, info.Mode(), statErr)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := crn.ReadSecret(file); err == nil {
		t.Error("a short secret was taken")
	}
}

// signers names the schedulers of the network.
type signers []common.Address

func (s signers) Signers(context.Context) ([]common.Address, error) { return s, nil }

func addressOf(text string) common.Address { return common.HexToAddress(text) }

func mustKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestEveryEndpointIsDocumented holds the document to the table.
func TestEveryEndpointIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/protocol/crn.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, r := range crn.Routes() {
		if !strings.Contains(text, "| "+r.Method+" "+r.Path+" ") {
			t.Errorf("docs/protocol/crn.md does not have %s %s", r.Method, r.Path)
		}
	}
	if documented := strings.Count(text, "\n| GET ") + strings.Count(text, "\n| POST ") + strings.Count(text, "\n| DELETE "); documented != len(crn.Routes()) {
		t.Errorf("docs/protocol/crn.md has %d endpoints, there are %d", documented, len(crn.Routes()))
	}
}
