package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
)

func TestPeersCommand(t *testing.T) {
	status, answer := http.StatusOK, `{"peers":[{"id":"12D3KooWpeer","node":7,"addrs":["/ip4/192.0.2.9/tcp/4001"],"agent":"x","direction":"in","transport":"tcp",`+
		`"latency_ms":1.25,"score":-3.5,"topics":["aleph/v1/messages"],"bytes_in":2048,"bytes_out":20,"since":1700000000},`+
		`{"id":"12D3KooWquiet","node":0,"addrs":[],"agent":"","direction":"out","transport":"relay","latency_ms":0,"score":0,"topics":[],"bytes_in":3221225472,"bytes_out":0,"since":1700000000}]}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/peers" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer srv.Close()
	bind := strings.TrimPrefix(srv.URL, "http://")
	run := func(environ []string, args ...string) (code int, out, err string) {
		var stdout, stderr bytes.Buffer
		a := &app{out: &stdout, err: &stderr, environ: environ}
		return a.run(context.Background(), append([]string{"peers"}, args...)), stdout.String(), stderr.String()
	}

	code, out, _ := run([]string{"ALEPH_API_BIND=" + bind})
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || len(lines) != 3 || !strings.HasPrefix(lines[0], "PEER") {
		t.Fatalf("exit %d with %s, want a table of two peers", code, out)
	}
	for _, want := range []string{"12D3KooWpeer", "7", "in", "tcp", "1.2ms", "-3.5", "2.0 KiB", "20 B", "aleph/v1/messages", "/ip4/192.0.2.9/tcp/4001"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("line %q, want %q in it", lines[1], want)
		}
	}
	if !strings.Contains(lines[2], "3.0 GiB") || !strings.Contains(lines[2], " - ") {
		t.Errorf("line %q, want 3.0 GiB and dashes for what is not known", lines[2])
	}
	if code, out, _ := run(nil, "--json", "--url", srv.URL+"/"); code != exitOK || !strings.Contains(out, `"latency_ms": 1.25`) {
		t.Errorf("exit %d with %s, want the same as JSON", code, out)
	}

	for _, tt := range []struct {
		name    string
		status  int
		answer  string
		environ []string
		args    []string
		want    string
	}{
		{"refused", http.StatusForbidden, `{"title":"Forbidden","status":403,"detail":"not you"}`, nil, []string{"--url", srv.URL}, "says: not you"},
		{"not ours", http.StatusNotFound, "nothing", nil, []string{"--url", srv.URL}, "404"},
		{"not JSON", http.StatusOK, "nothing", nil, []string{"--url", srv.URL}, "answer of"},
		{"away", 0, "", []string{"ALEPH_API_BIND=127.0.0.1:1"}, nil, "no node answers at http://127.0.0.1:1"},
		{"any port", 0, "", []string{"ALEPH_API_BIND=127.0.0.1:0"}, nil, "say --url"},
		{"no port", 0, "", []string{"ALEPH_API_BIND=localhost"}, nil, "say --url"},
		{"bad url", 0, "", nil, []string{"--url", "http://a b"}, "url"},
	} {
		status, answer = tt.status, tt.answer
		if code, _, err := run(tt.environ, tt.args...); code != exitError || !strings.Contains(err, tt.want) {
			t.Errorf("%s: exit %d with %q, want %d with %q", tt.name, code, err, exitError, tt.want)
		}
	}
	for bind, want := range map[string]string{"0.0.0.0:4024": "http://localhost:4024", ":4024": "http://localhost:4024", "[::]:1": "http://localhost:1", "node.example:80": "http://node.example:80"} {
		if got, err := nodeURL(api.Config{Bind: bind}); err != nil || got != want {
			t.Errorf("URL of %s = %s, %v; want %s", bind, got, err, want)
		}
	}
}
