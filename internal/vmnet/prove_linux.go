package vmnet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet/nsguest"
)

const (
	// proofName begins the names of networks of proofs; the id of the process
	// follows.
	proofName = "doctor_"
	// pathMax is how long a path that works may take: the kernel needs up to a
	// second to notice a guest.
	pathMax = 6 * time.Second
	// closedMax is how long a path that is closed is tried.
	closedMax = time.Second
	proofPort = 8080 // Of the guest, forwarded.
	otherPort = 9090 // Of the guest, not forwarded.
)

// Prove makes a network as cfg describes, beside that of a node that runs here,
// and tries each path with two guests: into them, between them, to the host and
// to the internet. Guests are namespaces, so it needs no image. Everything that
// it makes goes with it. It may take half a minute.
func Prove(ctx context.Context, cfg Config, log *slog.Logger) []Finding {
	var f findings
	cfg.Name = proofName + strconv.Itoa(os.Getpid())
	sweepProofs(cfg, log)
	n, err := Open(cfg, log)
	if err != nil {
		f.bad(Fatal, "guest", err.Error(), "There is no network to try.", "Look at the findings above.")
		return f
	}
	if n.mode != Tap {
		f.bad(Warning, "guest", "without tap mode no path can be tried", "Whether forwarded ports work shows with the first machine.", "See the finding about mode.")
		return f
	}
	p := &proof{n: n, findings: &f}
	if err := p.setUp(ctx); err != nil {
		f.bad(Fatal, "guest", err.Error(), "Machines cannot have a network.", "Look at the findings above.")
	} else {
		p.try(ctx)
	}
	if err := p.tearDown(); err != nil {
		f.bad(Warning, "guest", fmt.Sprintf("what was made to try is not all gone: %v", err), "Devices and rules named after doctor stay.", "Run this again.")
	}
	return f
}

// sweepProofs removes what a proof that was killed has left.
func sweepProofs(cfg Config, log *slog.Logger) {
	c, err := openNetfilter()
	if err != nil {
		return // Open says why.
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return
	}
	for _, t := range tables {
		pid, ok := strings.CutPrefix(t.Name, tablePrefix+proofName)
		if _, err := os.Stat(filepath.Join("/proc", pid)); !ok || err == nil {
			continue
		}
		cfg.Name = proofName + pid
		if n, err := Open(cfg, log); err == nil {
			if err := n.Purge(); err != nil {
				log.Warn("left from an earlier proof", "name", cfg.Name, "err", err)
			}
		}
	}
}

// proof is two guests and their network.
type proof struct {
	*findings

	n      *Network
	leases []Lease
	device []Device
	guests []*nsguest.Guest
	closes []io.Closer
	stop   context.CancelFunc
	run    sync.WaitGroup
}

// setUp starts the guests. The first one listens at two ports, of which one is
// forwarded.
func (p *proof) setUp(ctx context.Context) error {
	runCtx, stop := context.WithCancel(ctx)
	p.stop = stop
	p.run.Go(func() { _ = p.n.Run(runCtx) }) // It only ends.
	slots, subnets := map[int]bool{}, map[int]bool{}
	for range 2 {
		id := make([]byte, 32)
		if _, err := rand.Read(id); err != nil {
			return fmt.Errorf("name a guest: %w", err)
		}
		l := Lease{ID: hex.EncodeToString(id)}
		var err error
		if l.Slot, err = p.n.FreeSlot(func(i int) bool { return slots[i] }); err != nil {
			return err
		}
		// From the end, where machines of a node that runs here are least likely.
		last := p.n.set.subnets6()
		if l.Subnet6, err = p.n.FreeSubnet6(func(i int) bool { return subnets[i] || i < last-1 }); err != nil {
			return err
		}
		slots[l.Slot], subnets[l.Subnet6] = true, true
		p.leases = append(p.leases, l)
	}
	port, err := p.n.FreePort(TCP, 0, func(int) bool { return false })
	if err != nil {
		return err
	}
	p.leases[0].Forwards = []Forward{{Protocol: TCP, HostPort: port, GuestPort: proofPort}}
	if err := p.n.Apply(ctx, p.leases); err != nil {
		return err
	}
	for _, l := range p.leases {
		d, err := p.n.Device(l)
		if err != nil {
			return err
		}
		p.device = append(p.device, d)
		c := nsguest.Config{Tap: d.TapName, MAC: d.MAC, Addresses: []netip.Prefix{d.Address}, Gateways: []netip.Addr{d.Gateway}}
		if d.Address6.IsValid() {
			c.Addresses, c.Gateways = append(c.Addresses, d.Address6), append(c.Gateways, d.Gateway6)
		}
		g, err := nsguest.Open(c)
		if err != nil {
			return fmt.Errorf("start a guest in a namespace: %w", err)
		}
		p.guests = append(p.guests, g)
	}
	for _, port := range []int{proofPort, otherPort} {
		if err := p.serve(ctx, port); err != nil {
			return err
		}
	}
	return nil
}

// serve has the first guest take connections at a port.
func (p *proof) serve(ctx context.Context, port int) error {
	var l net.Listener
	var err error
	p.guests[0].Do(func() {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	})
	if err != nil {
		return fmt.Errorf("listen in a guest: %w", err)
	}
	p.closes = append(p.closes, l)
	p.run.Go(func() { greet(l) })
	return nil
}

// greeting tells a guest's answer from that of something in between.
const greeting = "aleph guest\n"

func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, greeting) // Who asked sees whether it came.
		c.Close()
	}
}

func (p *proof) tearDown() error {
	p.stop()
	var all error
	for _, c := range p.closes {
		all = errors.Join(all, c.Close())
	}
	for _, g := range p.guests {
		all = errors.Join(all, g.Close())
	}
	p.run.Wait()
	return errors.Join(all, p.n.Purge(), p.n.Close())
}

// try tries each path.
func (p *proof) try(ctx context.Context) {
	first, second := p.device[0], p.device[1]
	host := p.leases[0].Forwards[0].HostPort
	p.into(ctx, "the forwarded port from this host", nil, p.reached(), host)
	if p.n.set.bind.IsUnspecified() || !p.n.set.bind.IsLoopback() {
		for _, a := range p.public() {
			p.into(ctx, "the forwarded port of "+a.String()+" from another machine", p.guests[1], a, host)
		}
	}
	if first.Address6.IsValid() {
		p.into(ctx, "IPv6 from this host", nil, first.Address6.Addr(), proofPort)
	}
	for _, to := range []netip.Prefix{first.Address, first.Address6} {
		if to.IsValid() && !p.n.set.PeerTraffic {
			p.closed(ctx, "the other machine", p.guests[1], to.Addr(), otherPort)
		}
	}
	p.scan(ctx, second)
	p.out(ctx, "IPv4", p.n.set.nameservers4)
	if first.Address6.IsValid() {
		p.out(ctx, "IPv6", p.n.set.nameservers6)
	}
}

// reached is the address at which this host reaches forwarded ports.
func (p *proof) reached() netip.Addr {
	if p.n.set.bind.IsUnspecified() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return p.n.set.bind
}

// public returns the addresses at which others reach forwarded ports.
func (p *proof) public() (all []netip.Addr) {
	if !p.n.set.bind.IsUnspecified() {
		return []netip.Addr{p.n.set.bind}
	}
	names, err := p.n.uplinks(netlink.FAMILY_V4)
	if err != nil {
		return nil // Check has said so.
	}
	for _, name := range names {
		link, err := findDevice(name)
		if err != nil {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if pfx, ok := prefixOf(a.IPNet); ok {
				all = append(all, pfx.Addr())
			}
		}
	}
	return all
}

// into tries to reach the first guest, from another one or from this host.
func (p *proof) into(ctx context.Context, what string, from *nsguest.Guest, to netip.Addr, port int) {
	err := within(ctx, from, pathMax, func(ctx context.Context) error { return hear(ctx, to, port) })
	if err != nil {
		p.bad(Fatal, "guest", fmt.Sprintf("%s does not work: %v", what, err), "Machines cannot be reached.",
			"See the findings about the firewall: what another table drops, this node cannot accept.")
		return
	}
	p.good("guest", "%s works", what)
}

// hear connects and reads the greeting.
func hear(ctx context.Context, to netip.Addr, port int) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, uint16(port)).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
	}
	text, err := io.ReadAll(io.LimitReader(c, int64(len(greeting))))
	if err == nil && string(text) != greeting {
		err = errors.New("somebody else answers there")
	}
	return err
}

// closed tries what a guest must not reach.
func (p *proof) closed(ctx context.Context, what string, from *nsguest.Guest, to netip.Addr, port int) {
	err := within(ctx, from, closedMax, func(ctx context.Context) error { return hear(ctx, to, port) })
	if err == nil {
		p.bad(Fatal, "guest", fmt.Sprintf("a machine reaches %s at %s", what, netip.AddrPortFrom(to, uint16(port))), "Machines are not kept apart.",
			"Look for rules of others that accept everything, such as an early accept in table bridge or netdev: nft list ruleset.")
		return
	}
	p.good("guest", "a machine does not reach %s at %s", what, to)
}

// scan tries whether a guest reaches a port of the host.
func (p *proof) scan(ctx context.Context, d Device) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", ":0")
	if err != nil {
		p.bad(Warning, "guest", fmt.Sprintf("listen on this host: %v", err), "Whether machines reach the host was not tried.", "")
		return
	}
	p.closes = append(p.closes, l)
	p.run.Go(func() { greet(l) })
	addr, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return // A listener of TCP has one.
	}
	for _, to := range []netip.Addr{d.Gateway, d.Gateway6} {
		if to.IsValid() {
			p.closed(ctx, "this host's own services", p.guests[1], to, int(addr.Port()))
		}
	}
}

// out tries whether guests reach nameservers, which are on the internet or the
// way there. One that answers is enough.
func (p *proof) out(ctx context.Context, family string, servers []netip.Addr) {
	var failed []string
	for _, a := range servers {
		err := within(ctx, p.guests[1], answerMax, func(ctx context.Context) error { return askNameserver(ctx, a, net.Dialer{}) })
		if err == nil {
			p.good("guest", "a machine reaches nameserver %s over %s", a, family)
			return
		}
		failed = append(failed, err.Error())
	}
	if failed == nil {
		p.bad(Warning, "guest", "no nameserver of "+family+" is set", "Guests that speak "+family+" only find no names.", "Add one to [vmnet] nameservers.")
		return
	}
	why, severity := "Machines reach nobody, though this host does.", Fatal
	hostReaches := false
	for _, a := range servers {
		hostReaches = hostReaches || askNameserver(ctx, a, net.Dialer{}) == nil
	}
	if !hostReaches {
		why, severity = "Neither does this host.", Warning
	}
	p.bad(severity, "guest", fmt.Sprintf("a machine reaches no nameserver over %s: %s", family, strings.Join(failed, "; ")), why,
		"See the findings about the uplink, the firewall, and for IPv6 whether your provider routes the pool to this host.")
}

// within tries until it works, in a guest or on this host, for a while.
func within(ctx context.Context, g *nsguest.Guest, most time.Duration, try func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	const tries = 8
	attempt := func() {
		one, cancel := context.WithTimeout(ctx, max(most/tries, closedMax))
		defer cancel()
		err = try(one)
	}
	for {
		if g == nil {
			attempt()
		} else {
			g.Do(attempt)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
