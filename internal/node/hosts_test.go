package node_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
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
