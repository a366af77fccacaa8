package domains_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "0x00000000000000000000000000000000000000A1"
	bob   = "0x00000000000000000000000000000000000000b0"
	sol   = "7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU"
)

// guest is a machine and where it is.
type guest struct {
	domains.Machine
	domains.Place
	down atomic.Bool
}

// world is who has which machine and which domain, and what of it can be asked.
type world struct {
	machines   []*guest
	aggregates map[string]string
	texts      map[string][]string
	away       bool // Core channel nodes.
	dark       bool // The domain name system.
}

func (w *world) keeper(t *testing.T, cfg domains.Config) *domains.Keeper {
	t.Helper()
	return domains.New(cfg, domains.Parts{
		Machines: func(context.Context) (out []domains.Machine, err error) {
			for _, g := range w.machines {
				out = append(out, g.Machine)
			}
			return out, nil
		},
		Place: func(_ context.Context, spec message.ItemHash) (domains.Place, error) {
			for _, g := range w.machines {
				if g.Spec == spec && !g.down.Load() {
					return g.Place, nil
				}
			}
			return domains.Place{}, errs.New(errs.NotFound, "it is down")
		},
		Aggregate: func(_ context.Context, address, key string) (json.RawMessage, error) {
			text, ok := w.aggregates[address]
			switch {
			case w.away || key != "domains":
				return nil, errs.New(errs.Unavailable, "away")
			case !ok:
				return nil, errs.New(errs.NotFound, "none")
			}
			return json.RawMessage(text), nil
		},
		Texts: func(_ context.Context, name string) ([]string, error) {
			texts, ok := w.texts[strings.TrimSuffix(name, ".")]
			if !strings.HasSuffix(name, ".") {
				t.Errorf("%q is asked for, which is looked for in domains of this host, too", name)
			}
			switch {
			case w.dark:
				return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
			case !ok:
				return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
			}
			return texts, nil
		},
	}, []string{"node.example", "localhost", ""}, slog.New(slog.DiscardHandler))
}

func machine(name, owner string, last byte) *guest {
	ip := netip.AddrFrom4([4]byte{172, 16, last, 2})
	return &guest{
		Machine: domains.Machine{Spec: message.HashOf([]byte(name)), Owner: owner},
		Place:   domains.Place{IP: ip, Ports: map[uint16]netip.AddrPort{80: netip.AddrPortFrom(ip, 80), 443: netip.AddrPortFrom(ip, 443)}},
	}
}

func entry(spec message.ItemHash) string {
	return fmt.Sprintf(`{"type":"instance","message_id":%q}`, spec)
}

func TestADomainNeedsTheWordOfItsOwnerAndOfTheMachines(t *testing.T) {
	one, two, three := machine("one", alice, 1), machine("two", bob, 2), machine("three", sol, 3)
	w := &world{
		machines: []*guest{one, two, three},
		aggregates: map[string]string{
			alice: `{"Shop.example":` + entry(one.Spec) + `,"gone.example":null,"bank.example":` + entry(one.Spec) + `,"node.example":` + entry(one.Spec) +
				`,"others.example":` + entry(two.Spec) + `,"10.0.0.1":` + entry(one.Spec) + `,"bad host.example":` + entry(one.Spec) + `,"odd.example":[1],
				"site.example":{"type":"ipfs","message_id":"` + string(one.Spec) + `"},"old.example":{"programType":"instance","message_id":"` + string(one.Spec) + `"}}`,
			bob: `{"shop.example":` + entry(two.Spec) + `,"two.example":` + entry(two.Spec) + `}`,
			sol: `{"three.example":` + entry(three.Spec) + `}`,
		},
		texts: map[string][]string{
			"_control.shop.example": {alice}, "_control.old.example": {"unrelated", " " + alice + " "}, "_control.bank.example": {bob},
			"_control.two.example": {"aleph-v=1; o=" + bob + "; t=0x" + fmt.Sprintf("%064d", 1)}, "_control.three.example": {sol},
			"_control.node.example": {alice}, "_control.others.example": {alice}, "_control.site.example": {alice}, "_control.10.0.0.1": {alice},
		},
	}
	k := w.keeper(t, domains.DefaultConfig())
	want := func(what string, routes map[string]netip.Addr) {
		t.Helper()
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(routes, k.Routes(t.Context()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	all := map[string]netip.Addr{"shop.example": one.IP, "old.example": one.IP, "two.example": two.IP, "three.example": three.IP}
	want("at first", all)
	if way, err := k.Find(t.Context(), "SHOP.example.", domains.PortTLS); err != nil || way != (domains.Way{Spec: one.Spec, To: one.Ports[443]}) {
		t.Errorf("shop.example leads to %v, %v", way, err)
	}
	for _, name := range []string{"", "example", "bank.example", "node.example", "10.0.0.1", "x.shop.example"} {
		if way, err := k.Find(t.Context(), name, domains.PortHTTP); !errors.Is(err, errs.NotFound) {
			t.Errorf("%q leads to %v, %v", name, way, err)
		}
	}
	if way, err := k.Find(t.Context(), "shop.example", 22); !errors.Is(err, errs.Unavailable) {
		t.Errorf("a domain leads to port 22: %v, %v", way, err)
	}
	// The next machine may get the address of one that is down: nothing leads there.
	one.down.Store(true)
	if way, err := k.Find(t.Context(), "shop.example", domains.PortHTTP); !errors.Is(err, errs.Unavailable) {
		t.Errorf("the domain of a machine that is down leads to %v, %v", way, err)
	}
	if ip, ok := k.Routes(t.Context())["shop.example"]; ok {
		t.Errorf("the domain of a machine that is down is shown to lead to %v", ip)
	}
	one.down.Store(false)
	at := one.Ports[80]
	one.Ports[80] = two.Ports[80]
	if way, err := k.Find(t.Context(), "shop.example", domains.PortHTTP); err != nil || way.To != two.Ports[80] {
		t.Errorf("the domain of a machine that has moved leads to %v, %v", way, err)
	}
	one.Ports[80] = at

	w.away = true
	want("while core channel nodes are away", all)
	w.away, w.dark = false, true
	want("while there is no domain name system", all)
	w.texts["_control.new.example"] = []string{bob}
	w.aggregates[bob] = `{"two.example":` + entry(two.Spec) + `,"new.example":` + entry(two.Spec) + `}`
	want("one that nobody has confirmed", all)
	w.dark = false
	// It changes hands.
	w.texts["_control.shop.example"] = []string{bob}
	w.aggregates[bob] = `{"shop.example":` + entry(two.Spec) + `,"new.example":` + entry(two.Spec) + `}`
	want("after changes", map[string]netip.Addr{"shop.example": two.IP, "old.example": one.IP, "new.example": two.IP, "three.example": three.IP})
	w.texts["_control.shop.example"] = []string{alice, bob}
	delete(w.aggregates, sol)
	want("one that names two", map[string]netip.Addr{"old.example": one.IP, "new.example": two.IP})
	w.machines = w.machines[1:]
	want("a machine ends", map[string]netip.Addr{"new.example": two.IP})
}

func TestAMachineHasOnlySoManyDomains(t *testing.T) {
	one, two := machine("one", alice, 1), machine("two", alice, 2)
	w := &world{machines: []*guest{one, two}, texts: map[string][]string{}}
	all := []string{`"z.example":` + entry(two.Spec)}
	w.texts["_control.z.example"] = []string{alice}
	for i := range 40 {
		name := fmt.Sprintf("a%d.example", i)
		all = append(all, fmt.Sprintf("%q:%s", name, entry(one.Spec)))
		w.texts["_control."+name] = []string{alice}
	}
	w.aggregates = map[string]string{alice: "{" + strings.Join(all, ",") + "}"}
	k := w.keeper(t, domains.DefaultConfig())
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[netip.Addr]int{}
	for _, ip := range k.Routes(t.Context()) {
		got[ip]++
	}
	if diff := cmp.Diff(map[netip.Addr]int{one.IP: 32, two.IP: 1}, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("domains by machine (-want +got):\n%s", diff)
	}
}

func TestCrowdBoundsEachAndAll(t *testing.T) {
	c := domains.NewCrowd[string](2, 3)
	enter := func(key string, fits bool) func() {
		t.Helper()
		leave, err := c.Enter(key)
		if (err == nil) != fits || err != nil && !errors.Is(err, errs.Unavailable) {
			t.Fatalf("%s: %v, want room: %v", key, err, fits)
		}
		return leave
	}
	leave := enter("a", true)
	enter("a", true)
	enter("a", false)
	enter("b", true)
	enter("b", false)
	leave()
	enter("b", true)
	enter("a", false)
}

// secure is a server of TLS that says its name to whoever has said something.
func secure(t *testing.T, name string) (netip.AddrPort, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			said, err := io.ReadAll(conn)
			if err == nil {
				_, err = fmt.Fprintf(conn, "%s heard %d bytes", name, len(said))
			}
			_ = errors.Join(err, conn.Close())
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String()), pool
}

func TestTLSIsLedByNameAndNotOpened(t *testing.T) {
	inside, insidePool := secure(t, "shop.example")
	outside, outsidePool := secure(t, "node.example")
	m := machine("one", alice, 1)
	m.Ports[443] = inside
	w := &world{
		machines: []*guest{m}, aggregates: map[string]string{alice: `{"shop.example":` + entry(m.Spec) + `}`},
		texts: map[string][]string{"_control.shop.example": {alice}},
	}
	connections := domains.DefaultConfig().Connections
	serve := func(fallback string) (addr string, stop func()) {
		cfg := domains.DefaultConfig()
		cfg.Connections = connections
		cfg.TLSFallback = fallback
		k := w.keeper(t, cfg)
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.ServeTLS(ctx, l) }()
		return l.Addr().String(), func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("ServeTLS: %v", err)
			}
		}
	}
	talk := func(addr, name string, pool *x509.CertPool) (string, error) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		c := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: pool, MinVersion: tls.VersionTLS12})
		if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			return "", err
		}
		if err := c.CloseWrite(); err != nil {
			return "", err
		}
		got, err := io.ReadAll(c)
		return string(got), err
	}
	addr, stop := serve(outside.String())
	if got, err := talk(addr, "shop.example", insidePool); err != nil || got != "shop.example heard 1048576 bytes" {
		t.Errorf("the machine answered %q, %v", got, err)
	}
	if got, err := talk(addr, "node.example", outsidePool); err != nil || got != "node.example heard 1048576 bytes" {
		t.Errorf("the node answered %q, %v", got, err)
	}
	m.down.Store(true)
	if got, err := talk(addr, "shop.example", insidePool); err == nil {
		t.Errorf("a machine that is down answered %q", got)
	}
	m.down.Store(false)
	stop()
	// One machine takes not all: here it may have one of eight.
	connections = 8
	addr, stop = serve(outside.String())
	held, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "shop.example", RootCAs: insidePool, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(addr, "shop.example", insidePool); err == nil {
		t.Errorf("a machine that has all it may have answered %q", got)
	}
	if got, err := talk(addr, "node.example", outsidePool); err != nil || got == "" {
		t.Errorf("while a machine is busy, the node answered %q, %v", got, err)
	}
	held.Close()
	stop()
	addr, stop = serve("")
	if got, err := talk(addr, "node.example", outsidePool); err == nil {
		t.Errorf("without a place for it, %q answered", got)
	}
	// What is no TLS, and who says nothing while the node ends.
	for _, said := range []string{"GET / HTTP/1.1\r\n\r\n", ""} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, said)
		if said == "" {
			continue
		}
		if got, err := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("%q was answered with %q, %v", said, got, err)
		}
	}
	stop()
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*domains.Config){
		"tls_bind":     func(c *domains.Config) { c.TLSBind = "443" },
		"tls_fallback": func(c *domains.Config) { c.TLSFallback = "nowhere" },
		"interval":     func(c *domains.Config) { c.Interval = 0 },
		"connections":  func(c *domains.Config) { c.Connections = 0 },
	} {
		cfg := domains.DefaultConfig()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: %+v is taken", name, cfg)
		}
	}
}
