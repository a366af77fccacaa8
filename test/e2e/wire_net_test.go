//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// wire stands between nodes and the chain, and can be cut.
type wire struct {
	chain string // URL of the chain.
	addr  string // Where nodes reach it.

	mu     sync.Mutex
	server *http.Server  // nil while connections are refused; guarded by mu
	mended chan struct{} // closed when the wire is whole again; guarded by mu
	cut    cut           // guarded by mu
	held   []string      // What the requests that methods stop carried; guarded by mu
}

// cut is what a wire does to requests.
type cut struct {
	all     bool     // No request gets an answer.
	methods []string // Those with one of these methods get none,
	about   string   // if their parameters have this, in hexadecimal; "" takes all.
	deliver bool     // But they reach the chain.
}

// rewire puts a wire between the chain and nodes, which are killed for it.
func (n *network) rewire(t *testing.T, nodes ...devnet.Node) *wire {
	t.Helper()
	w := &wire{chain: n.RPCURL, addr: "127.0.0.1:0", mended: make(chan struct{})}
	w.mend(t)
	t.Cleanup(func() {
		w.mend(t)
		w.server.Close()
	})
	for _, node := range nodes {
		path := filepath.Join(node.DataDir, "config.toml")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(raw), n.RPCURL, "http://"+w.addr)
		if changed == string(raw) {
			t.Fatalf("%s does not name %s", path, n.RPCURL)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		if err := n.Kill(t.Context(), node.Name); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		n.ready(t, node.Name)
	}
	return w
}

// mend makes the wire whole. Requests that hang get no answer all the same.
func (w *wire) mend(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.held = cut{}, nil
	close(w.mended)
	w.mended = make(chan struct{})
	if w.server != nil {
		return
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", w.addr)
	if t.Context().Err() != nil {
		w.server = &http.Server{} // The test is over: nobody asks any more.
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	w.server = &http.Server{Handler: http.HandlerFunc(w.serve)}
	go func(s *http.Server) { _ = s.Serve(l) }(w.server)
}

// refuse makes every connection fail.
func (w *wire) refuse(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	w.server = nil
}

// silence leaves requests without an answer.
func (w *wire) silence(c cut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.held = c, nil
}

// caught waits until at least count requests that the cut stops have come, and
// returns what they carried.
func (w *wire) caught(t *testing.T, count int) []string {
	t.Helper()
	var out []string
	eventually(t, "requests on the wire", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.held) < count {
			return fmt.Errorf("%d have come, want %d", len(w.held), count)
		}
		out = slices.Clone(w.held)
		return nil
	})
	return out
}

func (w *wire) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.mu.Lock()
	how, mended := w.cut, w.mended
	stopped := how.all
	for _, call := range calls(body) {
		if slices.Contains(how.methods, call.Method) && bytes.Contains(call.Params, []byte(how.about)) {
			w.held = append(w.held, string(call.Params))
			stopped = true
		}
	}
	w.mu.Unlock()
	var answer []byte
	if !stopped || how.deliver {
		answer, err = w.pass(r, body)
	}
	if stopped || err != nil {
		if err == nil {
			select {
			case <-mended:
			case <-r.Context().Done():
			}
		}
		panic(http.ErrAbortHandler) // The connection breaks.
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(answer)
}

// pass hands a request on to the chain.
func (w *wire) pass(r *http.Request, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, w.chain, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// rpcCall is a call of JSON-RPC.
type rpcCall struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// calls are the calls of a request, a single one or a batch.
func calls(body []byte) []rpcCall {
	var many []rpcCall
	if json.Unmarshal(body, &many) == nil {
		return many
	}
	var one rpcCall
	if json.Unmarshal(body, &one) == nil {
		return []rpcCall{one}
	}
	return nil
}
