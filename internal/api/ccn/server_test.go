package ccn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// example is a path that a documented one stands for.
func example(path string) string {
	return strings.NewReplacer("{page}", "1", "{item_hash}", string(message.HashOf([]byte("absent"))), "{address}", "0xA", "{node_id}", "absent").Replace(path)
}

type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Schema   map[string]any
		}
		Responses map[string]any
	}
}

func openAPI(n *node) (d document) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.ok("/api/ccn/openapi.json").body), &d); err != nil {
		n.t.Fatal(err)
	}
	return d
}

var update = flag.Bool("update", false, "rewrite docs/api/ccn.json")

// TestDocumentIsCommitted holds the committed document to the table of routes. A
// difference is a change of the interface: look at it, then run the test with -update.
func TestDocumentIsCommitted(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "api", "ccn.json")
	got, err := ccn.Document("")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/api/ccn.json is not the interface's; look at the difference and run this test with -update")
	}
}

func TestEveryRouteAnswersWhatIsDocumented(t *testing.T) {
	for _, n := range []*node{open(t), resuming(t).node} {
		answersWhatIsDocumented(n)
	}
}

func answersWhatIsDocumented(n *node) {
	t := n.t
	t.Helper()
	d := openAPI(n)
	same(t, "openapi", d.OpenAPI, "3.1.0")
	for _, route := range n.srv.Registered() {
		path := strings.Replace(strings.TrimSuffix(route[1], "{$}"), "...}", "}", 1)
		if _, there := d.Paths[path][strings.ToLower(route[0])]; !there {
			t.Errorf("%s %s is not in the document", route[0], path)
		}
	}
	for path, operations := range d.Paths {
		for method, op := range operations {
			method = strings.ToUpper(method)
			a := n.do(method, example(path), []byte("{}"))
			if op.Responses[strconv.Itoa(a.status)] == nil {
				t.Errorf("%s %s: got %d %s, which is not documented", method, path, a.status, a.body)
			}
			for _, p := range op.Parameters {
				if p.Schema["type"] == nil {
					t.Errorf("%s %s: parameter %s has no type", method, path, p.Name)
				}
				if p.In != "query" {
					continue
				}
				// No parameter is read in a way that its absence or any text breaks.
				target := example(path) + "?" + p.Name + "=" + strings.Repeat("~", 3)
				if a := n.do(method, target, []byte("{}")); op.Responses[strconv.Itoa(a.status)] == nil {
					t.Errorf("%s %s: got %d %s, which is not documented", method, target, a.status, a.body)
				}
			}
		}
	}
}

func TestEveryRouteIsOpenToPagesOfAnyOrigin(t *testing.T) {
	n := open(t)
	const origin = "https://app.example"
	for path, operations := range openAPI(n).Paths {
		for method := range operations {
			method = strings.ToUpper(method)
			a := n.do(http.MethodOptions, example(path), nil, "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "content-type,x-mine")
			if a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Headers") != "content-type,x-mine" ||
				!slices.Contains(strings.Split(a.header.Get("Access-Control-Allow-Methods"), ", "), method) {
				t.Errorf("OPTIONS %s for %s: got %d %v", path, method, a.status, a.header)
			}
			if a := n.do(method, example(path), []byte("{}"), "Origin", origin); a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Vary") == "" {
				t.Errorf("%s %s: got headers %v", method, path, a.header)
			}
		}
	}
	same(t, "a refusal", n.get("/nothing", "Origin", origin).header.Get("Access-Control-Allow-Origin"), origin)
	same(t, "no origin", n.get("/version").header.Get("Access-Control-Allow-Origin"), "")
}

func TestWhatIsNotHereIsRefusedInWords(t *testing.T) {
	n := open(t)
	for _, tt := range []struct {
		method, target string
		status         int
		body, allow    string
	}{
		{"GET", "/nothing", 404, "404: Not Found", ""},
		{"OPTIONS", "/nothing", 404, "404: Not Found", ""},
		{"GET", "/api/v0/messages/a/b/c", 404, "404: Not Found", ""},
		{"DELETE", "/api/v0/messages.json", 405, "405: Method Not Allowed", "GET"},
		{"GET", "/api/v0/messages", 405, "405: Method Not Allowed", "POST"},
		{"POST", "/version", 405, "405: Method Not Allowed", "GET"},
	} {
		a := n.do(tt.method, tt.target, nil)
		if a.status != tt.status || a.body != tt.body || a.header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: got %d %q, Allow %q", tt.method, tt.target, a.status, a.body, a.header.Get("Allow"))
		}
	}
	a := n.do(http.MethodHead, "/api/v0/messages.json", nil)
	if a.status != http.StatusOK || a.body != "" || a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: got %d %q %v, want the headers alone", a.status, a.body, a.header)
	}
}

func TestServesSaysWhichRequestsAreForThisInterface(t *testing.T) {
	n := open(t)
	for target, want := range map[string]bool{"/api/v1/posts.json": true, "/api/v1/jobs": false, "/version": true, "/api/v0/messages": true, "/": true, "/healthz": false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, target, n.srv.Serves(r), want)
	}
}

// network is a network with two peers.
type network struct{}

func (network) Addresses() []string { return []string{"/ip4/1.2.3.4/tcp/4025/p2p/Qm1"} }
func (network) Count() int          { return 2 }

// heights are those of a chain of which 100 of 130 blocks were read.
type heights struct{ err error }

func (h heights) Heights(context.Context) (read, newest int64, known bool, err error) {
	return 100, 130, h.err == nil, h.err
}

func TestNodeTellsWhoItIs(t *testing.T) {
	n := open(t, func(p *ccn.Parts) { p.Peers, p.Heights = network{}, heights{} })
	n.sendPost(key(t, "a"), "note", fields{}, nil)

	for _, path := range []string{"/version", "/api/v0/version"} {
		same(t, path, n.ok(path).body, `{"version":"`+ccn.DefaultVersion+`"}`)
	}
	same(t, "addresses", n.ok("/api/v0/info/public.json").body, `{"node_multi_addresses":["/ip4/1.2.3.4/tcp/4025/p2p/Qm1"]}`)
	a := n.ok("/metrics.json")
	same(t, "build info", a.field("pyaleph_build_info.version"), any(ccn.DefaultVersion))
	text, err := n.srv.AppendMetrics(t.Context(), []byte("other 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pyaleph_status_peers_total": "2", "pyaleph_status_sync_messages_total": "1", "pyaleph_status_sync_pending_messages_total": "0", "pyaleph_status_sync_pending_txs_total": "0",
		"pyaleph_status_chain_eth_last_committed_height": "100", "pyaleph_status_chain_eth_height_reference_total": "130", "pyaleph_status_chain_eth_height_remaining_total": "30",
		"pyaleph_ws_messages_connections_active": "0", "pyaleph_store_fetch_storage_duration_ms_sum": "0",
	} {
		same(t, name, a.field(name), any(json.Number(want)))
		if !strings.Contains(string(text), "\n"+name+" "+want+"\n") {
			t.Errorf("text of the metrics has no line %s %s: %s", name, want, text)
		}
	}
	if !strings.HasPrefix(string(text), "other 1\npyaleph_build_info{python_version=\"3.12\",version=\""+ccn.DefaultVersion+"\"} 1\n") || strings.Contains(string(text), "null") {
		t.Errorf("text of the metrics is %s", text)
	}
	prometheus := n.ok("/metrics")
	if !strings.HasPrefix(prometheus.header.Get("Content-Type"), "text/plain") || prometheus.body != strings.TrimPrefix(string(text), "other 1\n") {
		t.Errorf("/metrics is %v %s, want %s", prometheus.header, prometheus.body, text)
	}
	page := n.ok("/")
	if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || !strings.Contains(page.body, "pyaleph_status_sync_messages_total") {
		t.Errorf("index is %s", page.body)
	}
}

func TestHeightsThatAreNotKnownAreNull(t *testing.T) {
	n := open(t, func(p *ccn.Parts) { p.Heights = heights{err: errors.New("no chain")} })
	a := n.ok("/metrics.json")
	if v, there := a.value().(fields)["pyaleph_status_chain_eth_height_remaining_total"]; v != nil || !there {
		t.Errorf("remaining height is %v, want null", v)
	}
	same(t, "messages", a.field("pyaleph_status_sync_messages_total"), any(json.Number("0")))
}

// broken is an intake that fails.
type broken struct{ err error }

func (b broken) Submit(context.Context, ingest.Submission) (*ingest.Verdict, error) {
	return nil, b.err
}

func TestFailuresOfTheNodeAreNotTold(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		body   string
	}{
		{errors.New("disk 7 is gone"), 500, "500: internal error"},
		{errs.New(errs.Unavailable, "too many messages wait"), 503, "503: too many messages wait"},
		{errs.New(errs.Exhausted, "the disk is full"), 503, "503: the disk is full"},
	} {
		n := open(t, func(p *ccn.Parts) { p.Intake = broken{tt.err} })
		if a := n.post("/api/v0/messages", fields{"message": fields{}}); a.status != tt.status || a.body != tt.body {
			t.Errorf("%v: got %d %q, want %d %q", tt.err, a.status, a.body, tt.status, tt.body)
		}
	}
}
