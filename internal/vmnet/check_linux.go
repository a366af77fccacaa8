package vmnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Severity is how much a finding matters.
type Severity string

// The severities.
const (
	Good    Severity = "good"
	Warning Severity = "warning" // Machines run, with less than they could have.
	Fatal   Severity = "fatal"   // Machines do not run, or have no network.
)

// Finding is something about this host that decides what network machines have.
type Finding struct {
	Subject  string   `json:"subject"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`         // What is so.
	Why      string   `json:"why"`          // What it means for machines; "" if it is good.
	Do       string   `json:"do,omitempty"` // What to do about it.
}

// findings collects.
type findings []Finding

func (f *findings) good(subject, format string, args ...any) {
	*f = append(*f, Finding{Subject: subject, Severity: Good, What: fmt.Sprintf(format, args...)})
}

func (f *findings) bad(severity Severity, subject, what, why, do string) {
	*f = append(*f, Finding{Subject: subject, Severity: severity, What: what, Why: why, Do: do})
}

// Check looks at what the host has for the network that cfg describes. It
// changes nothing but what Open does. Prove tries it with guests.
func Check(ctx context.Context, cfg Config) []Finding {
	var f findings
	set, err := cfg.parse()
	if err != nil {
		f.bad(Fatal, "settings", err.Error(), "The node does not start.", "Correct [vmnet] in the configuration.")
		return f
	}
	n := &Network{set: set, mode: Tap}
	if set.Mode == User {
		f.userMode("[vmnet] mode is \"user\"", "Set mode to \"auto\" to use addresses of their own where that is possible.")
		return f
	}
	if !f.privileges(n) {
		return f
	}
	f.kernel(n)
	f.uplinks(n)
	f.pool(n)
	if set.pool6.IsValid() {
		f.ipv6(n)
	}
	f.foreignRules()
	f.nameservers(ctx, &n.set)
	return f
}

func (f *findings) userMode(what, do string) {
	f.bad(Warning, "mode", what, "Machines use the network of their hypervisor: forwarded ports work, but they have no addresses of their own and no IPv6.", do)
}

// privileges reports whether tap mode is possible.
func (f *findings) privileges(n *Network) bool {
	err := n.tryTap()
	if err == nil {
		f.good("privileges", "TAP devices, their settings and nftables can be made")
		return true
	}
	do := "Run the node as root or with CAP_NET_ADMIN, with /dev/net/tun and a writable /proc/sys/net; set mode to \"user\" to do without."
	if n.set.Mode == Tap {
		f.bad(Fatal, "privileges", "mode is \"tap\", but "+err.Error(), "The node does not start.", do)
		return false
	}
	f.userMode(err.Error(), do)
	return false
}

// kernel tells what the kernel cannot do.
func (f *findings) kernel(n *Network) {
	if n.can.ingress {
		f.good("kernel", "rules see frames of machines before the host does")
	} else {
		f.bad(Warning, "kernel", "there is no nftables hook at devices", "Forged ARP is not filtered, and packet_rate and bandwidth_mbit do not limit what machines send.",
			"Use a kernel with CONFIG_NETFILTER_INGRESS and CONFIG_NF_TABLES_NETDEV.")
	}
	if !n.can.shaping {
		f.bad(Warning, "kernel", "there is no token bucket", "bandwidth_mbit does not limit what machines receive.", "Use a kernel with CONFIG_NET_SCH_TBF (module sch_tbf).")
	}
}

// uplinks tells by which devices machines reach the internet.
func (f *findings) uplinks(n *Network) {
	names, err := n.uplinks(netlink.FAMILY_V4)
	if err != nil {
		f.bad(Warning, "uplink", err.Error(), "Machines may not reach the internet.", "Look at the host's routes: ip route.")
		return
	}
	if len(names) == 0 {
		f.bad(Warning, "uplink", "there is no default route of IPv4", "Machines reach nobody but this host.", "Give the host a default route, or set [vmnet] uplink.")
		return
	}
	for _, name := range names {
		if _, err := findDevice(name); err != nil {
			f.bad(Fatal, "uplink", err.Error(), "The node cannot set up the network of any machine.", "Correct [vmnet] uplink.")
			continue
		}
		when := ""
		if v, err := readSysctl(ipv4, name, "forwarding"); err == nil && v == "0" {
			when = " once there is a machine"
		}
		f.good("uplink", "%s forwards IPv4%s", name, when)
	}
}

// pool tells whether other networks use machines' addresses.
func (f *findings) pool(n *Network) {
	others, err := n.foreignNetworks()
	if err != nil {
		f.bad(Warning, "pool", err.Error(), "Machines may get addresses that are in use.", "Look at the host's addresses and routes: ip addr, ip route.")
		return
	}
	var clashes []string
	for _, o := range others {
		if o.Overlaps(n.set.pool) && !slices.Contains(clashes, o.String()) {
			clashes = append(clashes, o.String())
		}
	}
	if len(clashes) == 0 {
		f.good("pool", "%s is free, for %d machines", n.set.pool, n.set.slots())
		return
	}
	severity := Warning
	if _, err := n.FreeSlot(func(int) bool { return false }); err != nil {
		severity = Fatal
	}
	f.bad(severity, "pool", fmt.Sprintf("%s overlaps %s, which this host has already (a node that runs here has its machines' networks)", n.set.pool, strings.Join(clashes, ", ")),
		"Machines do not get addresses of those.", "If they are not this node's, set [vmnet] pool to a network that nobody here uses.")
}

// ipv6 tells whether machines' IPv6 can work.
func (f *findings) ipv6(n *Network) {
	names, err := n.uplinks(netlink.FAMILY_V6)
	if err != nil || len(names) == 0 {
		f.bad(Warning, "ipv6", fmt.Sprintf("there is no default route of IPv6 (%v)", err), "Machines reach nobody over IPv6, and nobody them.",
			"Give the host a default route of IPv6, or empty [vmnet] ipv6_pool.")
		return
	}
	if n.set.pool6.Addr().IsPrivate() {
		f.bad(Warning, "ipv6", n.set.pool6.String()+" is a private network", "Machines reach the internet behind the host's address, and nobody reaches them.",
			"Set [vmnet] ipv6_pool to a network that your provider routes to this host.")
	}
	onLink := false
	for _, name := range names {
		link, err := findDevice(name)
		if err != nil {
			f.bad(Fatal, "ipv6", err.Error(), "The node cannot set up the network of any machine.", "Correct [vmnet] uplink.")
			continue
		}
		f.routers(name)
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			continue // The device is going.
		}
		for _, a := range addrs {
			p, ok := prefixOf(a.IPNet)
			onLink = onLink || ok && p.Masked().Overlaps(n.set.pool6)
		}
		if n.set.NDPProxy {
			f.proxy(link)
		}
	}
	switch {
	case onLink && !n.set.NDPProxy:
		f.bad(Warning, "ipv6", n.set.pool6.String()+" is that of the uplink, but ndp_proxy is off", "Routers and neighbours do not find machines.", "Set [vmnet] ndp_proxy = true.")
	case onLink:
		f.good("ipv6", "%s is that of the uplink: the node answers neighbours for machines", n.set.pool6)
	default:
		f.good("ipv6", "%s is not on the uplink, so it must be routed to this host", n.set.pool6)
	}
}

// routers tells whether the host is about to lose what it has from a router.
func (f *findings) routers(name string) {
	forwards, err1 := readSysctl(ipv6, name, "forwarding")
	listens, err2 := readSysctl(ipv6, name, "accept_ra")
	routes, err3 := netlink.RouteList(nil, netlink.FAMILY_V6)
	if errors.Join(err1, err2, err3) != nil {
		f.bad(Fatal, "ipv6", name+" has no IPv6", "Machines reach nobody over IPv6.", "Remove disable_ipv6 from the device, or empty [vmnet] ipv6_pool.")
		return
	}
	learned := slices.ContainsFunc(routes, func(r netlink.Route) bool {
		p, ok := prefixOf(r.Dst)
		return r.Protocol == unix.RTPROT_RA && (!ok || p.Bits() == 0)
	})
	if learned && forwards == "1" && listens != "2" {
		f.bad(Warning, "ipv6", fmt.Sprintf("%s forwards, and has its default route from a router that it does not listen to any more", name),
			"The host loses its IPv6 when that route ends.", fmt.Sprintf("sysctl -w net.ipv6.conf.%s.accept_ra=2, and keep it in /etc/sysctl.d.", name))
		return
	}
	f.good("ipv6", "%s keeps its routes while it forwards", name)
}

// proxy tries to listen to neighbours.
func (f *findings) proxy(link netlink.Link) {
	name := link.Attrs().Name
	if len(link.Attrs().HardwareAddr) != 6 {
		f.good("ndp", "%s is not Ethernet: nobody asks there", name)
		return
	}
	s, err := solicitations(link.Attrs().Index)
	if err != nil {
		f.bad(Fatal, "ndp", fmt.Sprintf("%s cannot be listened to: %v", name, err), "Neighbours do not find machines over IPv6.", "Run the node as root or with CAP_NET_RAW.")
		return
	}
	s.Close()
	f.good("ndp", "neighbours can be answered at %s", name)
}

// foreignRules tells of rules of others that may stop machines. What one table
// accepts another may still drop, and ours changes none of others.
func (f *findings) foreignRules() {
	c, err := openNetfilter()
	if err != nil {
		f.bad(Warning, "firewall", err.Error(), "Rules of others could not be looked at.", "Run this as root.")
		return
	}
	clean := true
	aleph := map[string]bool{}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		chains, err := c.ListChainsOfTableFamily(family)
		if err != nil {
			f.bad(Warning, "firewall", fmt.Sprintf("list chains: %v", err), "Rules of others could not be looked at.", "Look yourself: nft list ruleset.")
			return
		}
		for _, ch := range chains {
			if family == nftables.TableFamilyINet && strings.HasPrefix(ch.Table.Name, tablePrefix) {
				continue
			}
			if strings.HasPrefix(ch.Name, "aleph-supervisor-") && !aleph[ch.Table.Name] {
				aleph[ch.Table.Name] = true
				clean = false
				f.bad(Warning, "firewall", fmt.Sprintf("table %s %s has chains of aleph-vm", familyName(family), ch.Table.Name),
					"Ports that it forwards and this node does too lead to one of the two.", "Remove aleph-vm, or give it and [vmnet] port_min and port_max different ports.")
			}
			if ch.Hooknum == nil || ch.Policy == nil || *ch.Policy != nftables.ChainPolicyDrop {
				continue
			}
			clean = !f.drops(family, ch) && clean
		}
	}
	if raw, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && strings.Contains(string(raw), "filter") {
		clean = false
		f.bad(Warning, "firewall", "iptables-legacy has a filter table", "What it drops does not show here.", "iptables-legacy -S FORWARD must not drop what comes from and goes to al+ devices.")
	}
	if clean {
		f.good("firewall", "no table of others drops by its policy")
	}
}

// drops tells of a chain that drops what its rules do not accept, if machines
// meet it.
func (f *findings) drops(family nftables.TableFamily, ch *nftables.Chain) bool {
	name := fmt.Sprintf("chain %s of table %s %s drops what its rules do not accept", ch.Name, familyName(family), ch.Table.Name)
	switch *ch.Hooknum {
	case *nftables.ChainHookForward:
		do := fmt.Sprintf("nft insert rule %s %s %s iifname \"al*\" accept; nft insert rule %s %s %s oifname \"al*\" accept; and where the firewall keeps its rules.",
			familyName(family), ch.Table.Name, ch.Name, familyName(family), ch.Table.Name, ch.Name)
		if ch.Table.Name == "filter" && ch.Name == "FORWARD" {
			do = "With Docker: iptables -I DOCKER-USER -i al+ -j ACCEPT; iptables -I DOCKER-USER -o al+ -j ACCEPT; the same with ip6tables. Else: " + do
		}
		f.bad(Warning, "firewall", name, "Machines may reach nobody, and nobody them: this node's rules cannot accept what another table drops.", do)
		return true
	case *nftables.ChainHookInput:
		f.bad(Warning, "firewall", name, "Guests may not find their gateway over IPv6, nor ping it.",
			fmt.Sprintf("nft insert rule %s %s %s iifname \"al*\" meta l4proto ipv6-icmp accept", familyName(family), ch.Table.Name, ch.Name))
		return true
	}
	return false
}

func familyName(family nftables.TableFamily) string {
	switch family {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	default:
		return "inet"
	}
}

// nameservers asks each of the guests' nameservers from the host.
func (f *findings) nameservers(ctx context.Context, s *settings) {
	if err := s.findNameservers(readConf); err != nil {
		f.bad(Fatal, "dns", err.Error(), "The node does not start.", "Set [vmnet] nameservers.")
		return
	}
	all := slices.Clone(s.nameservers4)
	if s.pool6.IsValid() {
		all = append(all, s.nameservers6...)
	}
	failed := make([]error, len(all))
	var asked sync.WaitGroup
	for i, a := range all {
		asked.Go(func() { failed[i] = askNameserver(ctx, a, net.Dialer{}) })
	}
	asked.Wait()
	for i, a := range all {
		if failed[i] != nil {
			f.bad(Warning, "dns", fmt.Sprintf("nameserver %s does not answer this host: %v", a, failed[i]), "Guests wait for it before they ask the next one.", "Set [vmnet] nameservers to ones that answer.")
			continue
		}
		f.good("dns", "nameserver %s answers", a)
	}
}

// answerMax bounds how long a nameserver may take.
const answerMax = 3 * time.Second

// askNameserver asks for the nameservers of the root.
func askNameserver(ctx context.Context, a netip.Addr, d net.Dialer) error {
	const dns = 53
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	conn, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(a, dns).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	const id, recursion, typeNS, classIN = 0xa1ef, 0x0100, 2, 1
	question := binary.BigEndian.AppendUint16(nil, id)
	for _, v := range []uint16{recursion, 1, 0, 0, 0} { // One question, of the name of no label.
		question = binary.BigEndian.AppendUint16(question, v)
	}
	question = append(question, 0, 0, typeNS, 0, classIN)
	if _, err := conn.Write(question); err != nil {
		return err
	}
	answer := make([]byte, 512)
	size, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if size < 12 || binary.BigEndian.Uint16(answer) != id || answer[2]&0x80 == 0 {
		return errors.New("it does not speak DNS")
	}
	return nil
}
