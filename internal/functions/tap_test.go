package functions_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// dialer is a program that connects to where it is asked to, and listens itself.
const dialer = `
import socket, threading
def listen():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.bind(("0.0.0.0", 9000))
    s.listen(8)
    while True:
        c, _ = s.accept()
        c.sendall(b"hello from a guest")
        c.close()
threading.Thread(target=listen, daemon=True).start()
def dial(host, port):
    try:
        s = socket.create_connection((host, int(port)), 4)
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        out = b""
        while True:
            more = s.recv(4096)
            if not more:
                return out
            out += more
    except Exception as e:
        return ("failed: %r" % e).encode()
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    where = scope["query_string"]
    if isinstance(where, bytes):
        where = where.decode()
    host, port = where.rsplit("_", 1)
    out = dial(host, port) if scope["path"] != "/resolv" else open("/etc/resolv.conf", "rb").read()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": out})
`

// insideTap is set in the environment of the process that has a network of its own.
const insideTap = "ALEPH_FUNCTIONS_TEST_TAP"

// TestAProgramOnARealNetwork runs functions in real machines on devices and rules of
// their own: one reaches the internet by both families, and neither the host nor another
// one, in a machine that has booted and in a copy of a snapshot. It runs in a process of
// its own, with a network namespace.
func TestAProgramOnARealNetwork(t *testing.T) {
	if os.Getenv(insideTap) != "" {
		onARealNetwork(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("machines on TAP devices need root")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProgramOnARealNetwork$", "-test.v", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), insideTap+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a namespace: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
}

// tapped gives machines places on a real network.
type tapped struct {
	network *vmnet.Network

	mu     sync.Mutex
	leases map[message.ItemHash]vmnet.Lease // guarded by mu
}

func (n *tapped) Up(ctx context.Context, spec message.ItemHash) (functions.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, ok := n.leases[spec]
	if !ok {
		l = vmnet.Lease{ID: string(spec), Slot: len(n.leases) + 1, Kind: vmnet.MicroVM}
		n.leases[spec] = l
	}
	if err := n.apply(ctx); err != nil {
		return functions.Network{}, err
	}
	d, err := n.network.Device(l)
	return functions.NetworkAt(d), err
}

func (n *tapped) Down(ctx context.Context, spec message.ItemHash) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.leases, spec)
	return n.apply(ctx)
}

// apply is called with mu held.
func (n *tapped) apply(ctx context.Context) error {
	var all []vmnet.Lease
	for _, l := range n.leases {
		all = append(all, l)
	}
	return n.network.Apply(ctx, all)
}

func onARealNetwork(t *testing.T) {
	t.Helper()
	w := newRealWorld(t)
	const internet, internet6, host, port = "198.51.100.2", "2001:db8:1:2::ffff", "198.51.100.1", 8081
	serveInternet(t, host+"/24", internet+"/24", "2001:db8:1:2::1/64", internet6+"/64", port)
	serve(t, fmt.Sprintf(":%d", port), "hello from the host")
	cfg := vmnet.DefaultConfig()
	cfg.Mode, cfg.Name, cfg.IPv6Pool, cfg.Nameservers = vmnet.Tap, "fntest", "2001:db8:1:2::/64", []string{internet}
	network, err := vmnet.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("no TAP devices here: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- network.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ran, network.Purge()); err != nil {
			t.Errorf("end of the network: %v", err)
		}
	})
	nets := &tapped{network: network, leases: map[message.ItemHash]vmnet.Lease{}}
	w.networked = nets

	asgi := "asgi"
	program := func(name string) message.ItemHash {
		p := &message.Program{}
		p.Address, p.Resources, p.Environment.Internet = "0xowner", message.Resources{VCPUs: 1, MemoryMiB: 256, Seconds: 120}, true
		p.Code = message.ProgramCode{Encoding: "plain", Entrypoint: "app", Interface: &asgi, Ref: hashOf(name + " code")}
		p.Runtime = message.ProgramRuntime{Ref: hashOf("runtime")}
		w.programs[hashOf(name)], w.files[p.Code.Ref] = p, dialer
		return hashOf(name)
	}
	a, b := program("a"), program("b")
	s, _ := w.start(t)
	dial := func(spec message.ItemHash, addr string, port int) string {
		t.Helper()
		status, body, err := get(t.Context(), s, spec, http.MethodGet, fmt.Sprintf("/?%s_%d", addr, port), "")
		if err != nil || status != http.StatusOK {
			t.Fatalf("call: %d %s, %v", status, body, err)
		}
		return body
	}
	placeOf := func(spec message.ItemHash) vmnet.Device {
		t.Helper()
		nets.mu.Lock()
		defer nets.mu.Unlock()
		d, err := network.Device(nets.leases[spec])
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	check := func(how string) {
		t.Helper()
		for _, addr := range []string{internet, internet6} {
			if got := dial(a, addr, port); !strings.Contains(got, "hello from the internet") {
				t.Errorf("%s: at %s of the internet the program got %q", how, addr, got)
			}
		}
		da, db := placeOf(a), placeOf(b)
		for name, at := range map[string]netip.Addr{"its gateway": da.Gateway, "its gateway of IPv6": da.Gateway6, "the host": netip.MustParseAddr(host)} {
			if got := dial(a, at.String(), port); !strings.HasPrefix(got, "failed") {
				t.Errorf("%s: of %s the program got %q", how, name, got)
			}
		}
		for _, at := range []netip.Addr{db.Address.Addr(), db.Address6.Addr()} {
			if got := dial(a, at.String(), 9000); !strings.HasPrefix(got, "failed") {
				t.Errorf("%s: of another guest at %s the program got %q", how, at, got)
			}
		}
		if _, body, err := get(t.Context(), s, a, http.MethodGet, "/resolv?x_1", ""); err != nil || !strings.Contains(body, internet) {
			t.Errorf("%s: the guest asks %q for names (%v), want %s", how, body, err, internet)
		}
	}
	dial(b, internet, port)
	// The other one listens: the host hears it.
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(placeOf(b).Address.Addr(), 9000).String(), 10*time.Second)
	if err != nil {
		t.Fatalf("the other guest does not listen: %v", err)
	}
	if raw, _ := io.ReadAll(c); string(raw) != "hello from a guest" {
		t.Errorf("the other guest says %q", raw)
	}
	c.Close()
	check("booted")
	awaitSnapshot(t, w.snapshots())
	for s.Machines()[0].How != "snapshot" && s.Machines()[len(s.Machines())-1].How != "snapshot" {
		if err := s.Stop(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		awaitSnapshot(t, w.snapshots())
		dial(a, internet, port)
	}
	check("copied")
}

// serve answers at an address of the namespace that the thread is in.
func serve(t *testing.T, addr, text string) {
	t.Helper()
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })}
	t.Cleanup(func() { srv.Close() })
	for _, family := range []string{"tcp4", "tcp6"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), family, addr)
		if err != nil {
			t.Error(err)
			return
		}
		go func() { _ = srv.Serve(l) }() // It ends with the test.
	}
}

// serveInternet makes a namespace behind up0, in which a server answers at two addresses.
func serveInternet(t *testing.T, host, there, host6, there6 string, port int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "net0"}))
	address := func(device string, addrs ...string) {
		t.Helper()
		link, err := netlink.LinkByName(device)
		must(err)
		for _, text := range addrs {
			addr, err := netlink.ParseAddr(text)
			must(err)
			if addr.IP.To4() == nil {
				addr.Flags = unix.IFA_F_NODAD
			}
			must(netlink.AddrAdd(link, addr))
		}
		must(netlink.LinkSetUp(link))
	}
	tid, ready := make(chan int), make(chan struct{})
	served := make(chan struct{})
	go func() {
		// The thread is of another namespace from here on, and ends with this.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		tid <- unix.Gettid()
		<-ready
		defer close(served)
		address("net0", there, there6)
		serve(t, fmt.Sprintf(":%d", port), "hello from the internet")
	}()
	peer, err := netlink.LinkByName("net0")
	must(err)
	must(netlink.LinkSetNsPid(peer, <-tid))
	address("up0", host, host6)
	close(ready)
	<-served
	up, err := netlink.LinkByName("up0")
	must(err)
	for _, gateway := range []string{strings.Split(there, "/")[0], strings.Split(there6, "/")[0]} {
		must(netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: net.ParseIP(gateway)}))
	}
}
