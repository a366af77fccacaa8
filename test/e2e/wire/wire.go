// Package wire is a network between processes of one machine in which a test decides
// what arrives.
//
// Each host is a network namespace whose only way out is a TUN device. This process holds
// the other end of all of them and carries packets of IPv4 by their destination. For every
// ordered pair of hosts it is said which part of the packets gets lost, how long they take, and
// whether any arrive at all. So a partition of any shape is a few lines, a cable that is cut in
// one direction is one, and nothing of the kernel is needed but TUN. What gets lost is decided
// by a seed and the number of the packet on its way. Packets of one way arrive in their order.
//
// A host can be a router with another one behind it, whose address it translates as home
// routers do (nat.go). That needs root, as all of it does.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// mtu is that of Ethernet, in bytes.
	mtu = 1500
	// underwayMax bounds the packets on one way at the same time; what is more gets lost, as
	// in a router. It is a burst of 12 MiB.
	underwayMax = 8192
)

// Link is what happens to packets from one host to another, in that direction.
type Link struct {
	Cut   bool          // None arrive, not even those that are on their way.
	Loss  float64       // Part of them that gets lost, from 0 to 1.
	Delay time.Duration // From one end to the other, at least.
}

// Count is what has happened to packets from one host to another.
type Count struct {
	Sent      int // By the one host.
	Delivered int // To the other one.
	Lost      int // For a cut, by chance, or for want of room. The rest is on its way.
}

// way is an ordered pair of hosts.
type way struct{ from, to *Host }

// Net is a network. Use New, Join its hosts, and Close it. It is safe for concurrent use.
type Net struct {
	seed   uint64
	over   chan struct{} // Closed by Close.
	copies sync.WaitGroup

	mu    sync.RWMutex
	hosts map[netip.Addr]*Host // guarded by mu
	links map[way]*link        // guarded by mu
	all   []*Host              // With those behind a router; guarded by mu
}

// New returns a network without hosts. The same seed loses the same packets by chance.
func New(seed uint64) *Net {
	return &Net{seed: seed, over: make(chan struct{}), hosts: map[netip.Addr]*Host{}, links: map[way]*link{}}
}

// Join adds a host with the address, which everything reaches that joined before and
// joins later. Links are perfect at first.
func (n *Net) Join(name string, addr netip.Addr) (_ *Host, err error) {
	h := &Host{Name: name, Addr: addr}
	if !addr.Is4() {
		return nil, fmt.Errorf("join %s: %s is no address of IPv4, which is all that is carried", name, addr)
	}
	if err := h.open(); err != nil {
		return nil, fmt.Errorf("make a namespace for %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, errors.Join(fmt.Errorf("join %s: %s has the address %s", name, n.hosts[addr].Name, addr), h.close())
	}
	for _, other := range n.hosts {
		n.link(h, other)
		n.link(other, h)
	}
	n.hosts[addr] = h
	n.all = append(n.all, h)
	n.copies.Go(func() { n.listen(h) })
	return h, nil
}

// link makes a link. The caller holds mu.
func (n *Net) link(from, to *Host) {
	l := &link{to: to, rand: rand.New(rand.NewPCG(n.seed, pairOf(from, to))), underway: make(chan packet, underwayMax)} //nolint:gosec // Nothing is secret here.
	n.links[way{from, to}] = l
	n.copies.Go(func() { l.deliver(n.over) })
}

// pairOf numbers a way by its addresses.
func pairOf(from, to *Host) uint64 {
	a, b := from.Addr.As4(), to.Addr.As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<32 | uint64(binary.BigEndian.Uint32(b[:]))
}

// Set says how packets go from one host to another from now on. Once it returns, nothing
// arrives over a link that is cut.
func (n *Net) Set(from, to *Host, how Link) {
	l := n.of(from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.how = how
}

// Count returns what has happened to packets from one host to another.
func (n *Net) Count(from, to *Host) Count {
	l := n.of(from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (n *Net) of(from, to *Host) *link {
	n.mu.RLock()
	defer n.mu.RUnlock()
	l := n.links[way{from, to}]
	if l == nil {
		panic(fmt.Sprintf("BUG: there is no link from %s to %s", from.Name, to.Name))
	}
	return l
}

// Close ends the network. Namespaces stay for as long as processes are in them.
func (n *Net) Close() error {
	close(n.over)
	n.mu.Lock()
	var all error
	for _, h := range n.all {
		all = errors.Join(all, h.close())
	}
	n.mu.Unlock()
	n.copies.Wait()
	return all
}

// listen carries what a host sends until its device is closed.
func (n *Net) listen(h *Host) {
	for {
		buf := make([]byte, mtu)
		size, err := h.tun.Read(buf)
		if err != nil {
			return
		}
		to, ok := destinationOf(buf[:size])
		if !ok {
			continue
		}
		n.mu.RLock()
		l := n.links[way{h, n.hosts[to]}]
		n.mu.RUnlock()
		if l != nil {
			l.send(buf[:size])
		}
	}
}

// destinationOf returns where a packet of IPv4 goes; what a host tells its neighbours by
// IPv6 goes nowhere.
func destinationOf(p []byte) (netip.Addr, bool) {
	const headBytes, at = 20, 16
	if len(p) < headBytes || p[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(p[at : at+4])), true
}

// packet is one on its way.
type packet struct {
	bytes []byte
	due   time.Time
}

// link is a way and what is on it.
type link struct {
	to       *Host
	underway chan packet

	mu    sync.Mutex
	how   Link       // guarded by mu
	rand  *rand.Rand // guarded by mu
	count Count      // guarded by mu
}

// send puts a packet on its way, or loses it.
func (l *link) send(bytes []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Sent++
	// Chance is asked for each packet, so that the seed means the same whatever else happens.
	unlucky := l.rand.Float64() < l.how.Loss
	if l.how.Cut || unlucky {
		l.count.Lost++
		return
	}
	select {
	case l.underway <- packet{bytes, time.Now().Add(l.how.Delay)}:
	default:
		l.count.Lost++
	}
}

// deliver hands packets over when they are due, until the network is over.
func (l *link) deliver(over <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var p packet
		select {
		case p = <-l.underway:
		case <-over:
			return
		}
		if wait := time.Until(p.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-over:
				return
			}
		}
		if err := l.handOver(p.bytes); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// handOver gives the host a packet, unless the link was cut meanwhile.
func (l *link) handOver(bytes []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.how.Cut {
		l.count.Lost++
		return nil
	}
	_, err := l.to.tun.Write(bytes)
	if err != nil {
		l.count.Lost++ // The host has no room.
		return err
	}
	l.count.Delivered++
	return nil
}
