package vmnet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Network is the network of a node's machines. Use Open.
type Network struct {
	set  settings
	mode Mode // Tap or User.
	log  *slog.Logger
	can  abilities
	// oldForwarding forwards IPv6 as on a kernel before 6.17; for tests.
	oldForwarding bool

	mu      sync.Mutex            // held during Apply and Purge: one change of the kernel at a time
	settled map[string]settledTap // by device; guarded by mu
	applied applied               // guarded by mu
	// lookedAt is when uplinks and what others may have changed of devices were
	// looked at; guarded by mu.
	lookedAt time.Time

	targets atomic.Pointer[[]target] // what the NDP proxy answers for
	wake    chan struct{}            // told of new targets
}

// lookInterval is how often an Apply looks at what only others change.
const lookInterval = 10 * time.Second

// target is a subnet for which the NDP proxy answers.
type target struct {
	subnet netip.Prefix
	guest  netip.Addr
}

// abilities are what this kernel can do of what not every kernel can.
type abilities struct {
	ingress bool // Rules at a device, before ARP and IP see a frame.
	shaping bool // Token buckets in front of a device.
}

// Open returns the network that cfg describes. It changes nothing yet, but in
// modes auto and tap it makes and removes a device and a table to see whether
// it may. Mode tap without privileges gives errs.Denied.
func Open(cfg Config, log *slog.Logger) (*Network, error) {
	set, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	if err := checkName(cfg.Name); err != nil {
		return nil, err
	}
	n := &Network{set: set, mode: set.Mode, log: log, settled: map[string]settledTap{}, wake: make(chan struct{}, 1)}
	if set.Mode == User {
		return n, nil
	}
	err = n.tryTap()
	switch {
	case err == nil:
		n.mode = Tap
		for _, note := range n.notes() {
			log.Info("network note", "note", note)
		}
		return n, n.set.findNameservers(readConf)
	case set.Mode == Tap:
		return nil, errs.New(errs.Denied, "mode tap needs CAP_NET_ADMIN and /dev/net/tun, run as root or set mode to user: %w", err)
	default:
		n.mode = User
		log.Info("fell back to user-mode networking", "err", err)
	}
	return n, nil
}

// Mode returns Tap or User.
func (n *Network) Mode() Mode { return n.mode }

// notes says what this kernel cannot do for machines.
func (n *Network) notes() (all []string) {
	if !n.can.ingress {
		all = append(all, "the kernel has no nftables hook at devices (CONFIG_NETFILTER_INGRESS, NF_TABLES_NETDEV): "+
			"forged ARP is not filtered and packet_rate does not count")
	}
	if !n.can.shaping {
		all = append(all, "the kernel has no token bucket (CONFIG_NET_SCH_TBF): bandwidth_mbit does not count for what machines receive")
	}
	return all
}

// Apply makes the kernel hold what leases, all of them, need, and removes
// what is ours and in none of them. It may be called again at any time and
// repairs what others have removed.
func (n *Network) Apply(ctx context.Context, leases []Lease) error {
	if err := n.checkAll(leases); err != nil {
		return err
	}
	if n.mode == User {
		return nil
	}
	endpoints := make([]endpoint, 0, len(leases))
	for _, l := range leases {
		e, err := n.endpoint(l)
		if err != nil {
			return err
		}
		endpoints = append(endpoints, e)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	links, err := devices()
	if err != nil {
		return err
	}
	// Devices are made down, and have their rules before they come up; those that no
	// lease wants go before their rules do.
	if err := n.removeTaps(links, devicesOf(endpoints)); err != nil {
		return err
	}
	if err := n.makeTaps(ctx, links, endpoints); err != nil {
		return err
	}
	if err := n.applyRules(leases, endpoints, links); err != nil {
		return fmt.Errorf("apply firewall rules: %w", err)
	}
	if err := n.applyTaps(ctx, links, endpoints); err != nil {
		return err
	}
	n.announce(endpoints)
	return nil
}

// Purge removes everything that is ours from the kernel. Machines that still
// run lose their network.
func (n *Network) Purge() error {
	if n.mode == User {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.announce(nil)
	n.applied, n.lookedAt = applied{}, time.Time{}
	links, err := devices()
	if err != nil {
		return err
	}
	return errors.Join(n.removeTaps(links, nil), n.removeRules())
}

// Close lets go of the network and leaves devices and rules to the machines,
// which outlive the daemon.
func (n *Network) Close() error { return nil }

// FreeSlot returns a slot that taken does not claim and that no other network
// of this host overlaps; errs.Exhausted when there is none. Nodes of one host
// may look at the same moment, before either's device is there, so each begins
// at a place of its own.
func (n *Network) FreeSlot(taken func(slot int) bool) (int, error) {
	var others []netip.Prefix
	if n.mode == Tap {
		var err error
		if others, err = n.foreignNetworks(); err != nil {
			return 0, err
		}
	}
	count := n.set.slots()
	first := n.first(count)
	for i := range count {
		slot := (first + i) % count
		if taken(slot) {
			continue
		}
		subnet, clash := n.set.subnet(slot), false
		for _, o := range others {
			clash = clash || o.Overlaps(subnet)
		}
		if !clash {
			return slot, nil
		}
	}
	return 0, errs.New(errs.Exhausted, "pool %s has no free subnet", n.set.pool)
}

// FreeSubnet6 returns the number of a dynamic IPv6 subnet that taken does not
// claim; 0 when the network has none to give, because it has no IPv6 or static
// addresses. errs.Exhausted when all are taken.
func (n *Network) FreeSubnet6(taken func(index int) bool) (int, error) {
	if n.mode != Tap || !n.set.pool6.IsValid() || n.set.IPv6Policy != Dynamic {
		return 0, nil
	}
	for i := 1; i <= n.set.subnets6(); i++ {
		if !taken(i) {
			return i, nil
		}
	}
	return 0, errs.New(errs.Exhausted, "pool %s has no free subnet", n.set.pool6)
}

// first is where this network begins to look among count places.
func (n *Network) first(count int) int {
	sum := sha256.Sum256([]byte("first " + n.set.Name))
	return int(binary.BigEndian.Uint32(sum[:]) % uint32(count))
}

// FreePort returns a host port that can be forwarded now: prefer when it is
// in the range and free, else the first free one after it, wrapping around.
// With prefer out of the range it begins where no other node does, as FreeSlot.
// errs.Exhausted when there is none.
func (n *Network) FreePort(proto Protocol, prefer int, taken func(port int) bool) (int, error) {
	used, err := n.forwardedPorts()
	if err != nil {
		return 0, err
	}
	count := n.set.PortMax - n.set.PortMin + 1
	first := n.first(count)
	if prefer >= n.set.PortMin && prefer <= n.set.PortMax {
		first = prefer - n.set.PortMin
	}
	for i := range count {
		port := n.set.PortMin + (first+i)%count
		if !taken(port) && !used[portKey(proto, port)] && n.bindable(proto, port) {
			return port, nil
		}
	}
	return 0, errs.New(errs.Exhausted, "no free %s port between %d and %d", proto, n.set.PortMin, n.set.PortMax)
}

// PortFree reports whether nobody on this host uses the port at the bind
// address: no process that listens and no forward, ours or another node's.
func (n *Network) PortFree(proto Protocol, port int) bool {
	used, err := n.forwardedPorts()
	if err != nil {
		n.log.Warn("list of forwarded ports failed", "err", err)
		return false
	}
	return !used[portKey(proto, port)] && n.bindable(proto, port)
}

// bindable reports whether this process can listen on the port.
func (n *Network) bindable(proto Protocol, port int) bool {
	addr := netip.AddrPortFrom(n.set.bind, uint16(port))
	kind, sa := syscall.SOCK_STREAM, &syscall.SockaddrInet4{Port: port, Addr: n.set.bind.As4()}
	if proto == UDP {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	// Bind and no listen: nobody can connect to a socket that is only asked.
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	// As servers do, so that connections that linger do not count.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return false
	}
	if err := syscall.Bind(fd, sa); err != nil {
		return false
	}
	// With SO_REUSEADDR two sockets may be bound until one listens.
	return syscall.Listen(fd, 1) == nil
}
