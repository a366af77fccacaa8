package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// guest is a machine that answers, and the way to it.
func guest(t *testing.T, h http.HandlerFunc) domains.Way {
	t.Helper()
	site := httptest.NewServer(h)
	t.Cleanup(site.Close)
	return domains.Way{Spec: message.HashOf([]byte("guest")), To: netip.MustParseAddrPort(site.Listener.Addr().String())}
}

// TestAMachineMayThinkForLongerThanTheNode: the times of the server end neither a
// request that was read nor an answer that pauses.
func TestAMachineMayThinkForLongerThanTheNode(t *testing.T) {
	const short, long = 50 * time.Millisecond, 300 * time.Millisecond
	way := guest(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		<-time.After(long)
		w.(http.Flusher).Flush() // The headers.
		<-time.After(long)
		fmt.Fprintf(w, "%s %q %v", r.Method, body, err)
		w.(http.Flusher).Flush()
		<-time.After(long)
		fmt.Fprint(w, ", and")
		w.(http.Flusher).Flush()
		<-time.After(long)
	})
	pass := node.MachineProxy(short, time.Minute, 8)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pass(w, r, way) }))
	front.Config.ReadTimeout, front.Config.WriteTimeout = short, short
	front.Start()
	defer front.Close()
	for _, body := range []string{"", "body"} {
		res, err := http.Post(front.URL, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Errorf("%q: %v", body, err)
			continue
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprintf("POST %q <nil>, and", body); string(got) != want || err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%q: %d %q, %v, want %q", body, res.StatusCode, got, err, want)
		}
	}
}

// TestWhatTheClientDoesNotSendIsNotWaitedFor: a machine answers before it has heard a
// body that does not come.
func TestWhatTheClientDoesNotSendIsNotWaitedFor(t *testing.T) {
	way := guest(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	pass := node.MachineProxy(50*time.Millisecond, time.Minute, 8)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pass(w, r, way) }))
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays open: %v after %q", err, all)
	}
}

// TestVisitorsOfOneMachineLeaveRoomForOthers: what is upgraded has its place in a
// budget of its own, and ends when nobody says anything.
func TestVisitorsOfOneMachineLeaveRoomForOthers(t *testing.T) {
	way := guest(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			fmt.Fprint(w, "fine")
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		io.Copy(conn, rw)
	})
	other := way
	other.Spec = message.HashOf([]byte("other"))
	const quiet = time.Second
	pass := node.MachineProxy(time.Minute, quiet, 1)
	srv, err := api.Listen(t.Context(), api.Config{Bind: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "other.example" {
				pass(w, r, other)
				return
			}
			pass(w, r, way)
		}))
	}()
	defer func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	heard := bufio.NewReader(conn)
	res, err := http.ReadResponse(heard, nil) //nolint:bodyclose // The connection is closed.
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := heard.ReadString('\n'); line != "hello\n" {
		t.Fatalf("the machine says %q, %v", line, err)
	}
	ask := func(host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
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
	if code, body := ask("shop.example"); code != http.StatusServiceUnavailable || !strings.Contains(body, "open already") {
		t.Errorf("a machine that has all it may have: %d %s", code, body)
	}
	if code, body := ask("other.example"); code != http.StatusOK {
		t.Errorf("another machine: %d %s", code, body)
	}
	if rest, err := io.ReadAll(heard); len(rest) > 0 || err != nil {
		t.Errorf("after nobody said anything: %q, %v", rest, err)
	}
}

// TestOnlyAProxyOfThisHostSpeaksForClients: anybody else could say to be anybody.
func TestOnlyAProxyOfThisHostSpeaksForClients(t *testing.T) {
	way := guest(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", strings.Join(r.Header["X-Forwarded-For"], "|"), " ", r.Header.Get("X-Forwarded-Proto"))
	})
	pass := node.MachineProxy(time.Minute, time.Minute, 8)
	for peer, want := range map[string]string{
		"127.0.0.1:1":     "shop.example 203.0.113.9, 127.0.0.1 https",
		"[::1]:1":         "shop.example 203.0.113.9, ::1 https",
		"198.51.100.7:99": "shop.example 198.51.100.7 http",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://shop.example/", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.Header.Set("X-Forwarded-Proto", "https")
		w := httptest.NewRecorder()
		pass(w, r, way)
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Errorf("from %s (-want +got):\n%s", peer, diff)
		}
	}
}

// network places all machines.
type network struct{}

func (network) Place(state.VM) (vmnet.Device, error) {
	return vmnet.Device{Address: netip.MustParsePrefix("172.16.1.2/24"), Mode: vmnet.Tap}, nil
}

// TestAMachineHasAPlaceWhileItRuns: another may have its address afterwards.
func TestAMachineHasAPlaceWhileItRuns(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	spec := message.HashOf([]byte("guest"))
	if place, err := node.PlaceOf(t.Context(), db, network{}, spec); err == nil {
		t.Errorf("one that is not here is at %v", place)
	}
	now := time.Now().UTC()
	for _, tt := range []struct {
		state state.VMState
		pid   int
		up    bool
	}{{state.VMBooting, 0, false}, {state.VMBooting, 7, true}, {state.VMRunning, 7, true}, {state.VMHalted, 0, false}} {
		vm := state.VM{Spec: spec, State: tt.state, PID: tt.pid, Driver: "qemu", Dir: t.TempDir(), CreatedAt: now}
		if err := db.Update(t.Context(), func(tx *state.Tx) error { return tx.PutVM(t.Context(), vm) }); err != nil {
			t.Fatal(err)
		}
		place, err := node.PlaceOf(t.Context(), db, network{}, spec)
		if up := err == nil && place.Ports[80] == netip.MustParseAddrPort("172.16.1.2:80"); up != tt.up {
			t.Errorf("%s with process %d: %v, %v, want it up: %v", tt.state, tt.pid, place, err, tt.up)
		}
	}
}
