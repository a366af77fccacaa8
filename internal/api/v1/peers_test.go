package v1_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// connections are fixed ones.
type connections []p2p.Connection

func (c connections) Peers() []p2p.Connection { return c }

func TestPeersAreForTheNodesOwnMachine(t *testing.T) {
	n := newNode(t, func(_ *v1.Self, parts *v1.Parts) {
		parts.Connections = connections{{
			ID: "12D3KooWpeer", Node: 7, Addrs: []string{"/ip4/192.0.2.9/tcp/4001"}, Agent: "other/1", Direction: "in", Transport: "tcp",
			Latency: 1500 * time.Microsecond, Score: -3.5, Topics: []string{"aleph/v1/messages"}, BytesIn: 10, BytesOut: 20, Since: time.Unix(1700000000, 0),
		}, {ID: "12D3KooWquiet", Direction: "out", Transport: "relay", Since: time.Unix(1700000001, 0)}}
	})
	tests := []struct {
		name, from string
		headers    []string
		status     int
		answer     string
	}{
		{"from this machine", "127.0.0.1:1", nil, http.StatusOK, `{"peers":[{"id":"12D3KooWpeer","node":7,"addrs":["/ip4/192.0.2.9/tcp/4001"],"agent":"other/1",` +
			`"direction":"in","transport":"tcp","latency_ms":1.5,"score":-3.5,"topics":["aleph/v1/messages"],"bytes_in":10,"bytes_out":20,"since":1700000000},{"id":"12D3KooWquiet"`},
		{"by IPv6", "[::1]:1", nil, http.StatusOK, "12D3KooWpeer"},
		{"from another", "192.0.2.1:1", nil, http.StatusForbidden, "own machine"},
		{"through a proxy", "127.0.0.1:1", []string{"X-Forwarded-For", "192.0.2.1"}, http.StatusForbidden, "own machine"},
		{"through another proxy", "127.0.0.1:1", []string{"Forwarded", "for=192.0.2.1"}, http.StatusForbidden, "own machine"},
		{"from nowhere", "@", nil, http.StatusForbidden, "own machine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/api/v1/peers", http.NoBody)
			r.RemoteAddr = tt.from
			for i := 0; i < len(tt.headers); i += 2 {
				r.Header.Set(tt.headers[i], tt.headers[i+1])
			}
			w := httptest.NewRecorder()

			n.srv.ServeHTTP(w, r)

			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.answer) {
				t.Errorf("status %d, answer %s; want %d with %s", w.Code, w.Body, tt.status, tt.answer)
			}
		})
	}
}
