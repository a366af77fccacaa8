package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// texts serves the text records as the domain name system of this process, until
// the test ends.
func texts(t *testing.T, of map[string]string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Header.Response, m.Additionals = true, nil
			q := m.Questions[0]
			if text, ok := of[q.Name.String()]; ok && q.Type == dnsmessage.TypeTXT {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}, Body: &dnsmessage.TXTResource{TXT: []string{text}},
				}}
			} else {
				m.Header.RCode = dnsmessage.RCodeNameError
			}
			raw, err := m.Pack()
			if err == nil {
				_, err = conn.WriteTo(raw, from)
			}
			if err != nil {
				return
			}
		}
	}()
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = was
		conn.Close()
		<-done
	})
}

// TestADomainOfAProgramHasAllPaths: also those where the node has an interface of its
// own, which only hosts of the node lead to.
func TestADomainOfAProgramHasAllPaths(t *testing.T) {
	texts(t, map[string]string{"_aleph-id.shop.example.": string(message.HashOf([]byte("a program")))})
	chain := chaintest.Start(t)
	cfg, _ := join(t, chain, config.Compute)
	cfg.Node.PublicURL = "https://Node.example:4020"
	n, end := begin(t, cfg)
	defer end()
	waitReady(t, n)
	for _, tt := range []struct {
		host, path string
		status     int // 503: a program is called, and this node runs none; 404: the node has no such path.
	}{
		{"shop.example", "/healthz", 200}, // Nobody has asked yet whose it is.
		{"shop.example", "/api/v1/nodes", 503},
		{"SHOP.example.", "/api/v1/nodes", 503},
		{"shop.example:8080", "/healthz", 503},
		{"shop.example", "/", 503},
		{"other.example", "/api/v1/nodes", 404},
		{"node.example", "/api/v1/nodes", 404},
		{"127.0.0.1:1", "/healthz", 200},
		{"localhost", "/metrics", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL()+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != tt.status {
			t.Errorf("%s%s: %d %.200s, %v, want %d", tt.host, tt.path, res.StatusCode, body, err, tt.status)
		}
	}
}

// TestADomainOfAMachineLeadsToIt: by the word of its owner's aggregate and of the domain,
// and nowhere while the machine is down.
func TestADomainOfAMachineLeadsToIt(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody visits a machine that is down") }))
	defer site.Close()
	to := netip.MustParseAddrPort(site.Listener.Addr().String())
	spec, raw := signed(t, "owner", message.TypeInstance, map[string]any{
		"allow_amend": false, "environment": map[string]any{"internet": true, "aleph_api": false, "hypervisor": "qemu"}, "volumes": []any{},
		"resources": map[string]any{"vcpus": 1, "memory": 128, "seconds": 30}, "payment": map[string]any{"chain": "ETH", "type": "credit"},
		"rootfs": map[string]any{"parent": map[string]any{"ref": message.HashOf([]byte("image"))}, "persistence": "host", "size_mib": 100},
	})
	var sent struct {
		Message json.RawMessage `json:"message"`
	}
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatal(err)
	}
	env, err := message.Parse(sent.Message)
	if err != nil {
		t.Fatal(err)
	}
	owner := env.Sender
	core := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v0/aggregates/"+owner+".json" || r.URL.Query().Get("keys") != "domains" {
			http.Error(w, "404: Not Found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"address":%q,"data":{"domains":{"shop.example":{"type":"instance","message_id":%q}}}}`, owner, spec)
	}))
	defer core.Close()
	texts(t, map[string]string{"_control.shop.example.": owner})
	chain := chaintest.Start(t)
	cfg, _ := join(t, chain, config.Compute)
	cfg.CoreNode.Servers, cfg.Domains.Interval = []string{core.URL}, time.Second
	n, end := begin(t, cfg)
	defer end()
	waitReady(t, n)
	now := time.Now().UTC()
	err = n.DB().Update(t.Context(), func(tx *state.Tx) error {
		lease := state.Lease{Spec: spec, Kind: state.LeaseRequested, Owner: owner, Sender: owner, Payment: "credit", Message: sent.Message, Sticky: true, TakenAt: now}
		// It is down, so that the node does not try to start it.
		vm := state.VM{
			Spec: spec, State: state.VMHalted, Detail: "down", Driver: "qemu", Dir: t.TempDir(), CreatedAt: now, StoppedAt: now, Halt: &state.Halt{By: "its owner", At: now},
			Ports: []state.Port{{Protocol: "tcp", Host: to.Port(), HostIP: "127.0.0.1", Guest: 80}},
		}
		return errors.Join(tx.PutLease(t.Context(), lease), tx.PutVM(t.Context(), vm))
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL()+"/api/v1/x?y=z", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	// What is at the ports of a machine that is down may be another's.
	p2ptest.Wait(t, "the domain leads to the machine", func() bool {
		code, body := ask("shop.example")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "the machine of this domain does not run")
	})
	if code, body := ask("other.example"); code != http.StatusNotFound {
		t.Errorf("another domain: %d %s", code, body)
	}
	if code, body := get(t, n.URL()+"/debug/haproxy"); code != http.StatusOK || strings.Contains(string(body), "shop.example") {
		t.Errorf("mappings: %d %s", code, body)
	}
}
