//go:build conformance

package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// listen opens a WebSocket and returns the hashes of what comes.
func (c client) listen(query string) <-chan string {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.url, "http")+"/api/ws0/messages?"+query, nil) //nolint:bodyclose // the library says that it need not be closed
	if err != nil {
		c.Fatal(err)
	}
	out := make(chan string, 10_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, raw, err := ws.Read(ctx)
			if err != nil {
				return
			}
			var m struct {
				Hash string `json:"item_hash"`
			}
			if json.Unmarshal(raw, &m) == nil {
				out <- m.Hash
			}
		}
	}()
	c.Cleanup(func() { cancel(); _ = ws.CloseNow(); <-done })
	return out
}

// heard are the next n of what comes.
func (c client) heard(from <-chan string, n int) []string {
	c.Helper()
	var out []string
	timeout := time.After(waitMax)
	for len(out) < n {
		select {
		case hash := <-from:
			out = append(out, hash)
		case <-timeout:
			c.Fatalf("%d messages came in %v, want %d", len(out), waitMax, n)
		}
	}
	return out
}

func TestCase28ManyListen(t *testing.T) {
	c := open(t)
	// A tenth of the table's messages: the interface's own tests send all of them.
	const listeners, messages = 100, 100
	var before []string
	for i := range 5 {
		before = append(before, c.note(key("a"), fields{"content": i}, on("L")))
	}
	ears := make([]<-chan string, listeners)
	for i := range ears {
		ears[i] = c.listen("channels=L&history=3")
	}
	other := c.listen("channels=M&history=0")
	for i, ear := range ears {
		c.same(fmt.Sprint("history of ", i), c.heard(ear, 3), before[2:])
	}
	sent := make([]string, messages)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := w; i < messages; i += 4 {
				hash, raw := c.signed(key("a"), message.TypePost, fields{"type": "note", "content": i + 100}, on("L"))
				if a := c.submit(raw); a.status != http.StatusOK {
					c.Errorf("message %d: %d %s", i, a.status, a.body)
				}
				sent[i] = hash
			}
		})
	}
	all.Wait()
	for i, ear := range ears {
		c.same(fmt.Sprint("what listener ", i, " heard"), sorted(c.heard(ear, messages)), sorted(sent))
	}
	last := c.note(key("a"), nil, on("M"))
	c.same("what the other heard", c.heard(other, 1), []string{last})
}

func TestCase31PagesOfAnyOriginMayAsk(t *testing.T) {
	c := open(t)
	paths, ok := c.ok("/api/ccn/openapi.json").field("paths").(fields)
	if !ok || len(paths) == 0 {
		t.Fatal("the document has no paths")
	}
	const origin = "https://app.example"
	for path, methods := range paths {
		for method := range methods.(fields) {
			method = strings.ToUpper(method)
			target := path
			for strings.Contains(target, "{") {
				before, rest, _ := strings.Cut(target, "{")
				_, after, _ := strings.Cut(rest, "}")
				target = before + strings.Repeat("0", 64) + after
			}
			a := c.do(http.MethodOptions, target, nil, "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "content-type,x-any")
			allowed := a.header.Get("Access-Control-Allow-Origin")
			if a.status/100 != 2 || allowed != origin && allowed != "*" || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("%s %s: %d, origin %q, methods %q", method, path, a.status, allowed, a.header.Get("Access-Control-Allow-Methods"))
			}
		}
	}
}

// two runs two coordinators of one network, which have met, and returns their clients
// and what ends the second and what runs it again.
func two(t *testing.T) (a, b client, end func(), again func() client) {
	t.Helper()
	t.Parallel()
	chain := chaintest.Start(t)
	first, second := settings(t, chain), settings(t, chain)
	url, _ := nodes.Run(t, first)
	a = visit(t, url)
	addr, ok := a.ok("/api/v0/info/public.json").field("node_multi_addresses", 0).(string)
	if !ok {
		t.Fatal("the first node tells no address")
	}
	second.Network.BootstrapPeers = []string{addr}
	url, end = nodes.Run(t, second)
	b = visit(t, url)
	// Nodes that have met still have to tell each other what they want to hear of.
	b.until("a first message", func() bool {
		return b.verdict(a.note(key("a"), fields{"content": a.at.Load()})) == "processed"
	})
	return a, b, end, func() client {
		url, _ := nodes.Run(t, second)
		return visit(t, url)
	}
}

func TestCase33TwoNodesShowTheSame(t *testing.T) {
	a, b, _, _ := two(t)
	hash := a.note(key("a"), fields{"content": "from the first"})
	began := time.Now()
	b.eventually(hash, "processed")
	// The table says a second; a machine that runs other tests too may need more.
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a message took %v to the other node, want a second", took)
	}
	a.eventually(b.note(key("b"), fields{"content": "from the second"}), "processed")
}

func TestCase33ANodeThatWasAwayCatchesUp(t *testing.T) {
	a, _, end, again := two(t)
	end()
	missed := a.note(key("a"), fields{"content": "while the other is away"})
	again().eventually(missed, "processed")
}
