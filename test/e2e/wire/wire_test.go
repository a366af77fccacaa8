package wire_test

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/e2e/wire"
)

const (
	// port is where all listen.
	port = 7000
	// many packets, of which burst are underway at the same time, so that no buffer of the
	// kernel is full.
	many, burst = 4000, 50
	// waitMax bounds every wait.
	waitMax = 20 * time.Second
	// quiet is how long nothing must come where nothing may. It can only be too short to see
	// a defect, not too short to pass.
	quiet = 200 * time.Millisecond
)

// lab is a network whose hosts listen.
type lab struct {
	*testing.T
	net *wire.Net
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace with a TUN device needs root")
	}
	n := wire.New(1)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, n}
}

// socket is where a host listens.
type socket struct {
	net.PacketConn
	host *wire.Host
	t    *lab
}

func (t *lab) join(name string, number byte) *socket {
	t.Helper()
	h, err := t.net.Join(name, netip.AddrFrom4([4]byte{20, 0, 0, number}))
	if err != nil {
		t.Fatal(err)
	}
	return t.listen(h)
}

func (t *lab) listen(h *wire.Host) *socket {
	t.Helper()
	p, err := h.ListenPacket(t.Context(), "udp4", fmt.Sprintf("%s:%d", h.Addr, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return &socket{p, h, t}
}

func (s *socket) addr() net.Addr { return s.LocalAddr() }

func (s *socket) send(to net.Addr, text string) {
	s.t.Helper()
	if _, err := s.WriteTo([]byte(text), to); err != nil {
		s.t.Fatal(err)
	}
}

// receive waits for a datagram.
func (s *socket) receive() (text string, from net.Addr) {
	s.t.Helper()
	text, from, err := s.within(waitMax)
	if err != nil {
		s.t.Fatalf("%s: %v", s.host.Name, err)
	}
	return text, from
}

func (s *socket) within(d time.Duration) (string, net.Addr, error) {
	s.t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(d)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, from, err := s.ReadFrom(buf)
	return string(buf[:n]), from, err
}

// hearsNothing checks that nothing comes.
func (s *socket) hearsNothing() {
	s.t.Helper()
	if text, from, err := s.within(quiet); !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("%s got %q from %v (%v), want nothing", s.host.Name, text, from, err)
	}
}

// settle waits until all that was sent so far has arrived or is lost, and n packets were sent.
func (t *lab) settle(from, to *socket, n int) wire.Count {
	t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(waitMax)
	defer tick.Stop()
	for {
		c := t.net.Count(from.host, to.host)
		if c.Sent >= n && c.Sent == c.Delivered+c.Lost {
			return c
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("of %d packets %+v after %v", n, c, waitMax)
		}
	}
}

func TestLossIsAsAsked(t *testing.T) {
	l := newLab(t)
	a, b := l.join("a", 1), l.join("b", 2)
	for i, loss := range []float64{0.05, 0.15, 0.30} {
		l.net.Set(a.host, b.host, wire.Link{Loss: loss})
		before := l.net.Count(a.host, b.host)
		heard := 0
		for sent := 0; sent < many; sent += burst {
			was := l.net.Count(a.host, b.host)
			for range burst {
				a.send(b.addr(), "x")
			}
			for now := l.settle(a, b, i*many+sent+burst); heard < now.Delivered-before.Delivered; heard++ {
				b.receive()
			}
			if l.net.Count(a.host, b.host).Sent != was.Sent+burst {
				t.Fatalf("%+v were sent, want %d more than %+v", l.net.Count(a.host, b.host), burst, was)
			}
		}
		// Five standard deviations: the seed is always the same, so it either holds or not.
		got, off := 1-float64(heard)/many, 5*math.Sqrt(loss*(1-loss)/many)
		if math.Abs(got-loss) > off {
			t.Errorf("%.4f of %d packets were lost, want %.2f and at most %.4f beside it", got, many, loss, off)
		}
		t.Logf("asked for %.2f, lost %.4f of %d", loss, got, many)
	}
	b.hearsNothing()
	if back := l.net.Count(b.host, a.host); back.Lost != 0 {
		t.Errorf("%+v the other way, want none lost", back)
	}
}

func TestDelayIsAtLeastThat(t *testing.T) {
	l := newLab(t)
	a, b := l.join("a", 1), l.join("b", 2)
	const delay = 300 * time.Millisecond
	l.net.Set(a.host, b.host, wire.Link{Delay: delay})
	for i := range 5 {
		began := time.Now()
		a.send(b.addr(), fmt.Sprint(i))
		a.send(b.addr(), fmt.Sprint(i, " and its follower"))
		text, from := b.receive()
		if took := time.Since(began); took < delay {
			t.Errorf("it took %v, want %v at least", took, delay)
		}
		if follower, _ := b.receive(); text != fmt.Sprint(i) || follower != fmt.Sprint(i, " and its follower") {
			t.Errorf("got %q, then %q, want them in the order in which they were sent", text, follower)
		}
		b.send(from, "back")
		if text, _ := a.receive(); text != "back" {
			t.Errorf("got %q, want the answer", text)
		}
	}
}

func TestCutIsACut(t *testing.T) {
	l := newLab(t)
	a, b, c := l.join("a", 1), l.join("b", 2), l.join("c", 3)
	l.net.Set(a.host, b.host, wire.Link{Delay: time.Second})
	for range burst {
		a.send(b.addr(), "on its way")
	}

	l.net.Set(a.host, b.host, wire.Link{Cut: true})

	before := l.net.Count(a.host, b.host).Delivered // None, but on a very slow machine.
	for range burst {
		a.send(b.addr(), "cut")
	}
	if got := l.settle(a, b, 2*burst); got.Delivered != before {
		t.Errorf("%+v over a link that is cut, want %d delivered", got, before)
	}
	for range before {
		b.receive()
	}
	b.hearsNothing()
	b.send(a.addr(), "the other way")
	if text, _ := a.receive(); text != "the other way" {
		t.Errorf("got %q over the way that is not cut", text)
	}
	a.send(c.addr(), "to another")
	if text, _ := c.receive(); text != "to another" {
		t.Errorf("got %q at another host", text)
	}
}

func TestCutEnds(t *testing.T) {
	l := newLab(t)
	a, b := l.join("a", 1), l.join("b", 2)
	l.net.Set(a.host, b.host, wire.Link{Cut: true})
	for range burst {
		a.send(b.addr(), "cut")
	}
	l.settle(a, b, burst)

	l.net.Set(a.host, b.host, wire.Link{})

	a.send(b.addr(), "healed")
	if text, _ := b.receive(); text != "healed" {
		t.Errorf("got %q, want what was sent after the cut and nothing from before", text)
	}
}

// TestNAT checks what each kind of router does: who is behind it goes out, only what answers
// comes in, and from which port it goes.
func TestNAT(t *testing.T) {
	for _, kind := range []wire.NAT{wire.Cone, wire.Symmetric} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t)
			a, b := l.join("a", 1), l.join("b", 2)
			router, err := l.net.Join("router", netip.AddrFrom4([4]byte{20, 0, 0, 9}))
			if err != nil {
				t.Fatal(err)
			}
			h, err := l.net.Behind(router, "home", kind)
			if err != nil {
				t.Fatal(err)
			}
			home := l.listen(h)

			home.send(a.addr(), "hello")
			_, seen := a.receive()
			a.send(seen, "answer")
			b.send(seen, "nobody asked")
			if text, _ := home.receive(); text != "answer" {
				t.Errorf("%q came in, want the answer", text)
			}
			home.hearsNothing()

			home.send(b.addr(), "hello")
			text, other := b.receive()
			if ap := netip.MustParseAddrPort(other.String()); text != "hello" || ap.Addr() != router.Addr {
				t.Errorf("got %q from %v, want it from the router at %s", text, other, router.Addr)
			}
			if same := seen.String() == other.String(); same != (kind == wire.Cone) {
				t.Errorf("one socket is %v to one and %v to another", seen, other)
			}
			if kind == wire.Cone && netip.MustParseAddrPort(seen.String()).Port() != port {
				t.Errorf("the socket is %v outside, want port %d", seen, port)
			}
		})
	}
}

func TestHostsOfTheSameAddressAreRefused(t *testing.T) {
	l := newLab(t)
	l.join("a", 1)
	if _, err := l.net.Join("b", netip.AddrFrom4([4]byte{20, 0, 0, 1})); err == nil {
		t.Error("two hosts have the same address")
	}
	if _, err := l.net.Join("c", netip.IPv6LinkLocalAllNodes()); err == nil {
		t.Error("a host has an address of IPv6, which is not carried")
	}
}
