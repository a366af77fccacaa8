package vmnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// proxyInterval is how often the proxy looks for other uplinks, and for
	// those that came back.
	proxyInterval = 10 * time.Second
	// packetMax is more than a solicitation has, in bytes.
	packetMax = 1500
	// groupsMax bounds the groups that a device joins: the kernel charges each
	// to the socket.
	groupsMax = 256
)

// Run answers the neighbours on the uplinks for machines' IPv6 addresses until
// ctx ends. Networks without IPv6 have nothing to answer.
func (n *Network) Run(ctx context.Context) error {
	if n.mode != Tap || !n.set.pool6.IsValid() || !n.set.NDPProxy {
		<-ctx.Done()
		return nil
	}
	p := &proxy{n: n, responders: map[string]*responder{}}
	defer p.close()
	ticker := time.NewTicker(proxyInterval)
	defer ticker.Stop()
	for {
		if err := p.sync(); err != nil {
			n.log.Warn("neighbour proxy failed", "retry_in", proxyInterval, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-n.wake:
		}
	}
}

// announce tells the proxy what to answer for.
func (n *Network) announce(endpoints []endpoint) {
	targets := []target{}
	for _, e := range endpoints {
		if e.subnet6.IsValid() {
			targets = append(targets, target{subnet: e.subnet6, guest: e.guest6})
		}
	}
	n.targets.Store(&targets)
	select {
	case n.wake <- struct{}{}:
	default: // It is going to look anyway.
	}
}

// answersFor reports whether an address is a machine's.
func (n *Network) answersFor(a netip.Addr) bool {
	targets := n.targets.Load()
	if targets == nil || !n.set.pool6.Contains(a) {
		return false
	}
	for _, t := range *targets {
		if t.subnet.Contains(a) {
			return true
		}
	}
	return false
}

// proxy is the responders at all uplinks.
type proxy struct {
	n          *Network
	responders map[string]*responder // by device
	readers    sync.WaitGroup
}

// sync has one responder at each uplink of Ethernet.
func (p *proxy) sync() error {
	names, err := p.n.uplinks(netlink.FAMILY_V6)
	if err == nil && len(names) == 0 {
		names, err = p.n.uplinks(netlink.FAMILY_V4)
	}
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	var all error
	for _, name := range names {
		wanted[name] = true
		link, err := findDevice(name)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		r := p.responders[name]
		if r != nil && (r.index != link.Attrs().Index || r.ended()) {
			p.remove(name)
			r = nil
		}
		if r == nil {
			if r, err = newResponder(p.n, link); err != nil {
				all = errors.Join(all, fmt.Errorf("answer neighbours at %s: %w", name, err))
				continue
			}
			if r == nil {
				continue // Its neighbours have no hardware addresses.
			}
			p.responders[name] = r
			p.readers.Go(r.run)
		}
		r.join(p.n.targets.Load())
	}
	for name := range p.responders {
		if !wanted[name] {
			p.remove(name)
		}
	}
	return all
}

func (p *proxy) remove(name string) {
	p.responders[name].close()
	delete(p.responders, name)
}

func (p *proxy) close() {
	for name := range p.responders {
		p.remove(name)
	}
	p.readers.Wait()
}

// responder answers at one device. Its sockets hold all that it changes of the
// host, so nothing stays when the process is killed.
type responder struct {
	n     *Network
	index int
	mac   net.HardwareAddr
	from  netip.Addr // Of the link; invalid if the device has none.

	packets *os.File // A packet socket.
	groups  int      // A socket that is a member of groups.
	member  map[netip.Addr]bool
	over    chan struct{} // Closed when run has returned.
}

// newResponder returns a responder at a device; nil if it is not Ethernet.
func newResponder(n *Network, link netlink.Link) (*responder, error) {
	if len(link.Attrs().HardwareAddr) != 6 {
		return nil, nil
	}
	r := &responder{
		n: n, index: link.Attrs().Index, mac: link.Attrs().HardwareAddr,
		member: map[netip.Addr]bool{}, over: make(chan struct{}),
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && p.Addr().IsLinkLocalUnicast() {
			r.from = p.Addr()
		}
	}
	if r.packets, err = solicitations(r.index); err != nil {
		return nil, err
	}
	if r.groups, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket for groups: %w", err), r.packets.Close())
	}
	return r, nil
}

// solicitations returns a socket that gets the neighbour solicitations at a
// device, whatever group they are sent to.
func solicitations(index int) (*os.File, error) {
	protocol := networkOrder(unix.ETH_P_IPV6)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	err = filter(fd)
	if err == nil {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to a device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "neighbour solicitations"), nil
}

// filter has the kernel pass on neighbour solicitations only.
func filter(fd int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ip6HeaderBytes, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: neighbourSolicitation, SkipTrue: 1},
		bpf.RetConstant{Val: packetMax},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("BUG: %w", err)
	}
	filters := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filters[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
}

// networkOrder returns a number of 16 bits as packet sockets want it.
func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// run answers until the socket is closed or the device is gone.
func (r *responder) run() {
	defer close(r.over)
	conn, err := r.packets.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, packetMax)
	for {
		var size int
		var from unix.Sockaddr
		var received error
		err := conn.Read(func(fd uintptr) bool {
			size, from, received = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(received, unix.EAGAIN) && !errors.Is(received, unix.EINTR)
		})
		if err != nil {
			return
		}
		if received != nil {
			r.n.log.Debug("neighbour proxy stopped", "device", r.index, "err", received)
			return
		}
		if sender, ok := from.(*unix.SockaddrLinklayer); ok && sender.Pkttype != unix.PACKET_OUTGOING {
			r.answer(buf[:size], sender)
		}
	}
}

// answer answers a packet if it asks for a machine.
func (r *responder) answer(packet []byte, sender *unix.SockaddrLinklayer) {
	s, ok := parseSolicitation(packet)
	if !ok || !r.n.answersFor(s.target) {
		return
	}
	from := r.from
	if !from.IsValid() {
		from = s.target
	}
	reply, to := appendAdvertisement(nil, s, from, r.mac)
	at := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IPV6), Ifindex: r.index, Halen: 6, Addr: sender.Addr}
	if to.IsMulticast() {
		copy(at.Addr[:], multicastMAC(to))
	}
	conn, err := r.packets.SyscallConn()
	if err != nil {
		return
	}
	// Who does not get an answer asks again.
	_ = conn.Control(func(fd uintptr) { err = unix.Sendto(int(fd), reply, unix.MSG_DONTWAIT, at) })
	if err != nil {
		r.n.log.Debug("answer to a neighbour failed", "addr", s.target, "err", err)
	}
}

// join has the device be a member of the groups that neighbours ask, for
// switches that deliver to members only. Without, they may be asked anyway.
func (r *responder) join(targets *[]target) {
	if targets == nil {
		return
	}
	wanted := map[netip.Addr]bool{}
	for _, t := range *targets {
		if len(wanted) < groupsMax {
			wanted[solicitedNode(t.guest)] = true
		}
	}
	set := func(group netip.Addr, option int) error {
		return unix.SetsockoptIPv6Mreq(r.groups, unix.IPPROTO_IPV6, option,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(r.index)})
	}
	for group := range r.member {
		if !wanted[group] {
			delete(r.member, group)
			_ = set(group, unix.IPV6_LEAVE_GROUP) // It went with the device's address.
		}
	}
	for group := range wanted {
		if r.member[group] {
			continue
		}
		if err := set(group, unix.IPV6_JOIN_GROUP); err != nil {
			r.n.log.Debug("join of a group failed", "addr", group, "err", err)
			return
		}
		r.member[group] = true
	}
}

// ended reports whether run has returned.
func (r *responder) ended() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

func (r *responder) close() {
	r.packets.Close()
	unix.Close(r.groups)
}
