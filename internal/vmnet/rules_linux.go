package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	nfnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tablePrefix = "aleph_" // Of every node's tables.
	// rulesVersion is part of the fingerprint: raise it when the rules change,
	// so that an upgraded node replaces the rules of the old one.
	rulesVersion   = 2
	fingerprintTag = "is_"   // A chain of this name tells which leases the table was made for.
	portsName      = "ports" // The map of forwarded ports.
	// elementsMax bounds the elements in one message: an attribute has 64 KiB.
	elementsMax = 512
	// batchMax and answersMax are room in the socket for a batch, in bytes, and
	// for the kernel's answers to it.
	batchMax   = 32 << 20
	answersMax = 8 << 20
)

// Networks that guests may not reach unless Config.PrivateEgress.
const (
	privateNetworks  = "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16"
	privateNetworks6 = "fc00::/7 fec0::/10 ::ffff:0:0/96 64:ff9b:1::/48"
)

func (n *Network) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tablePrefix + n.set.Name}
}

// openNetfilter returns a connection that takes large batches.
func openNetfilter() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(s *nfnetlink.Conn) error {
		if err := s.SetWriteBuffer(batchMax); err != nil {
			return err
		}
		return s.SetReadBuffer(answersMax)
	}))
	if err != nil {
		return nil, fmt.Errorf("open netfilter: %w", err)
	}
	return c, nil
}

// tryTable makes and removes a table of the name.
func tryTable(name string) error {
	c, err := openNetfilter()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	c.AddChain(&nftables.Chain{
		Table: t, Name: "nat", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("make an nftables table: %w", err)
	}
	return nil
}

// applied is what this process has written last.
type applied struct {
	fingerprint string              // Of all rules; "" is unknown.
	endpoints   map[string]endpoint // In the sets, by device.
	hooks       map[string]bool     // Chains at devices.
}

// applyRules makes our tables what the leases want; each is changed in one step,
// or not at all. What the kernel has is what this process wrote last if the
// fingerprint in the table says so; then it writes what differs, else all.
func (n *Network) applyRules(leases []Lease, endpoints []endpoint, links map[string]netlink.Link) error {
	c, err := openNetfilter()
	if err != nil {
		return err
	}
	chains, err := n.chains(c, n.table())
	if err != nil {
		return err
	}
	want, err := n.fingerprint(leases)
	if err != nil {
		return err
	}
	last := n.applied
	n.applied = applied{} // Until all of this has worked.
	b := &batch{c: c, t: n.table()}
	switch {
	case chains[want]:
	case last.fingerprint != "" && chains[last.fingerprint]:
		n.changeSets(b, last.endpoints, endpoints)
		c.DelChain(&nftables.Chain{Table: b.t, Name: last.fingerprint})
		c.AddChain(&nftables.Chain{Table: b.t, Name: want})
	default:
		// Add, delete, add: the delete works whether the table was there or
		// not, and the kernel takes the whole batch or nothing.
		c.AddTable(b.t)
		c.DelTable(b.t)
		c.AddTable(b.t)
		n.addRules(b, endpoints)
		c.AddChain(&nftables.Chain{Table: b.t, Name: want})
		for name := range chains {
			if isNote(name) {
				c.AddChain(&nftables.Chain{Table: b.t, Name: name})
			}
		}
	}
	if b.err != nil {
		return b.err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change table %s: %w", b.t.Name, err)
	}
	hooks := last.hooks
	if !chains[last.fingerprint] || !n.same(last.endpoints, links) || time.Since(n.lookedAt) > lookInterval {
		hooks = nil
	}
	if hooks, err = n.applyIngress(c, endpoints, hooks); err != nil {
		return err
	}
	n.applied = applied{fingerprint: want, endpoints: byDevice(endpoints), hooks: hooks}
	return nil
}

func byDevice(endpoints []endpoint) map[string]endpoint {
	all := map[string]endpoint{}
	for _, e := range endpoints {
		all[e.tap] = e
	}
	return all
}

// same reports whether the devices of endpoints are those that this process has
// settled: a chain goes with its device.
func (n *Network) same(endpoints map[string]endpoint, links map[string]netlink.Link) bool {
	for tap := range endpoints {
		if link := links[tap]; link == nil || n.settled[tap].index != link.Attrs().Index {
			return false
		}
	}
	return true
}

// changeSets adds to the batch what makes the sets for some endpoints those for
// others.
func (n *Network) changeSets(b *batch, from map[string]endpoint, to []endpoint) {
	var gone, come []endpoint
	for _, e := range to {
		old, there := from[e.tap]
		if there && reflect.DeepEqual(old, e) {
			continue
		}
		if there {
			gone = append(gone, old)
		}
		come = append(come, e)
	}
	wanted := byDevice(to)
	for tap, e := range from {
		if _, there := wanted[tap]; !there {
			gone = append(gone, e)
		}
	}
	n.eachSet(b, gone, b.remove)
	n.eachSet(b, come, b.insert)
}

// removeRules removes our tables and undoes what notes say.
func (n *Network) removeRules() error {
	c, err := openNetfilter()
	if err != nil {
		return err
	}
	chains, err := n.chains(c, n.table())
	if err != nil {
		return err
	}
	if err := undoNotes(chains); err != nil {
		return err
	}
	tables := []*nftables.Table{n.table()}
	if n.can.ingress {
		tables = append(tables, n.ingressTable())
	}
	for _, t := range tables {
		c.AddTable(t)
		c.DelTable(t)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove tables %s: %w", n.table().Name, err)
	}
	return nil
}

// chains returns the names of a table's chains. Some of ours hold no rules and
// are there for their names.
func (n *Network) chains(c *nftables.Conn, t *nftables.Table) (map[string]bool, error) {
	chains, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	names := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Name == t.Name {
			names[ch.Name] = true
		}
	}
	return names, nil
}

// fingerprint names the rules for leases.
func (n *Network) fingerprint(leases []Lease) (string, error) {
	raw, err := json.Marshal([]any{rulesVersion, n.set.Config, n.set.nameservers4, n.set.nameservers6, leases})
	if err != nil {
		return "", fmt.Errorf("encode leases: %w", err)
	}
	sum := sha256.Sum256(raw)
	return fingerprintTag + hex.EncodeToString(sum[:12]), nil
}

// forwardedPorts returns the ports that any node's table on this host
// forwards, as portKey names them.
func (n *Network) forwardedPorts() (map[string]bool, error) {
	ports := map[string]bool{}
	if n.mode == User {
		return ports, nil
	}
	c, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if !strings.HasPrefix(t.Name, tablePrefix) {
			continue
		}
		sets, err := c.GetSets(t)
		if err != nil {
			return nil, fmt.Errorf("list sets of %s: %w", t.Name, err)
		}
		for _, s := range sets {
			if s.Name != portsName {
				continue
			}
			elements, err := c.GetSetElements(s)
			if err != nil {
				return nil, fmt.Errorf("list ports of %s: %w", t.Name, err)
			}
			for _, e := range elements {
				if key, ok := readPortKey(e.Key); ok {
					ports[key] = true
				}
			}
		}
	}
	return ports, nil
}

// batch adds to a table.
type batch struct {
	c    *nftables.Conn
	t    *nftables.Table
	sets uint32 // How many there are.
	err  error  // The first one.
}

// chain adds a chain that others jump to.
func (b *batch) chain(name string) *nftables.Chain {
	return b.c.AddChain(&nftables.Chain{Table: b.t, Name: name})
}

// base adds a chain that packets come to.
func (b *batch) base(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	return b.c.AddChain(&nftables.Chain{Table: b.t, Name: name, Type: typ, Hooknum: hook, Priority: prio})
}

// rule adds a rule of parts to a chain.
func (b *batch) rule(ch *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.c.AddRule(&nftables.Rule{Table: b.t, Chain: ch, Exprs: all})
}

// set adds a set, or a map if it has data, with elements.
func (b *batch) set(s *nftables.Set, elements []nftables.SetElement) {
	b.sets++
	s.ID = b.sets
	if err := b.c.AddSet(s, nil); err != nil {
		b.fail(s, err)
	}
	b.insert(s, elements)
}

// insert adds elements to a set.
func (b *batch) insert(s *nftables.Set, elements []nftables.SetElement) {
	for some := range slices.Chunk(elements, elementsMax) {
		if err := b.c.SetAddElements(s, some); err != nil {
			b.fail(s, err)
		}
	}
}

// remove removes elements from a set.
func (b *batch) remove(s *nftables.Set, elements []nftables.SetElement) {
	for some := range slices.Chunk(elements, elementsMax) {
		if err := b.c.SetDeleteElements(s, some); err != nil {
			b.fail(s, err)
		}
	}
}

func (b *batch) fail(s *nftables.Set, err error) {
	if b.err == nil {
		b.err = fmt.Errorf("write set %s: %w", s.Name, err)
	}
}

// sets are what the rules know of machines.
type sets struct {
	senders   *nftables.Set // device, hardware address, address
	senders6  *nftables.Set // device, hardware address, IPv6 subnet
	subnets6  *nftables.Set // device, IPv6 subnet
	guests    *nftables.Set // addresses
	published *nftables.Set // device, address, protocol, port
	open6     *nftables.Set // the same of IPv6
	ports     *nftables.Set // protocol, port of the host: address, port
}

// eachSet calls write with each set and its elements for endpoints.
func (n *Network) eachSet(b *batch, endpoints []endpoint, write func(*nftables.Set, []nftables.SetElement)) (s sets) {
	var senders, senders6, subnets6, guests, published, open6, ports []nftables.SetElement
	key := func(parts ...[]byte) nftables.SetElement { return nftables.SetElement{Key: concat(parts...)} }
	for _, e := range endpoints {
		device := deviceName(e.tap)
		senders = append(senders, key(device, e.mac, e.guest.AsSlice()))
		guests = append(guests, key(e.guest.AsSlice()))
		if e.subnet6.IsValid() {
			senders6 = append(senders6, key(device, e.mac, e.subnet6.Addr().AsSlice()))
			subnets6 = append(subnets6, key(device, e.subnet6.Addr().AsSlice()))
		}
		seen := map[string]bool{} // A guest's port may have two ports of the host.
		for _, f := range e.Forwards {
			proto, port := []byte{protocolNumber(f.Protocol)}, bigEndian16(f.GuestPort)
			ports = append(ports, nftables.SetElement{
				Key: concat(proto, bigEndian16(f.HostPort)), Val: concat(e.guest.AsSlice(), port),
			})
			name := portKey(f.Protocol, f.GuestPort)
			if seen[name] {
				continue
			}
			seen[name] = true
			published = append(published, key(device, e.guest.AsSlice(), proto, port))
			if e.subnet6.IsValid() {
				open6 = append(open6, key(device, e.guest6.AsSlice(), proto, port))
			}
		}
	}
	set := func(name string, elements []nftables.SetElement, types ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: b.t, Name: name, Concatenation: len(types) > 1, KeyType: nftables.MustConcatSetType(types...)}
		if name == portsName {
			s.IsMap, s.DataType = true, nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
		}
		write(s, elements)
		return s
	}
	device, mac, proto, port := nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeInetProto, nftables.TypeInetService
	s.senders = set("senders", senders, device, mac, nftables.TypeIPAddr)
	s.senders6 = set("senders6", senders6, device, mac, nftables.TypeIP6Addr)
	s.subnets6 = set("subnets6", subnets6, device, nftables.TypeIP6Addr)
	s.guests = set("guests", guests, nftables.TypeIPAddr)
	s.published = set("published", published, device, nftables.TypeIPAddr, proto, port)
	s.open6 = set("published6", open6, device, nftables.TypeIP6Addr, proto, port)
	s.ports = set(portsName, ports, proto, port)
	return s
}

// addRules adds the chains and rules for endpoints to the batch. The rules are
// the same for any number of machines; what differs is in sets.
func (n *Network) addRules(b *batch, endpoints []endpoint) {
	s := n.eachSet(b, endpoints, b.set)
	n.addFromGuest(b, s)
	n.addToHost(b)
	n.addThroughHost(b, s)
	n.addTranslation(b, s)
}

// addFromGuest adds what a guest may send: its own addresses only, and never
// to loopback, which route_localnet would let in. Devices without a lease say
// nothing.
func (n *Network) addFromGuest(b *batch, s sets) {
	ch := b.base("from_guest", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(ch, notInPrefix(n.tapPrefix()), accept())
	b.rule(ch, isIPv4(), toNet(netip.MustParsePrefix("127.0.0.0/8")), drop())
	b.rule(ch, isIPv4(), sender(), fromAddressTo(word(6)), in(s.senders), accept())
	if n.set.pool6.IsValid() {
		for _, rule := range ownIPv6(n.set.IPv6SubnetBits) {
			b.rule(ch, rule...)
		}
		b.rule(ch, isIPv6(), sender(), subnetOf(ip6Source, n.set.IPv6SubnetBits, word(6)), in(s.senders6), accept())
	}
	b.rule(ch, drop())
}

// ownIPv6 are the rules for what a guest sends over IPv6 from other addresses
// than those of its subnet, and for what it says to be but is not: a router,
// and the host, which has the first address of the subnet.
func ownIPv6(subnetBits int) [][][]expr.Any {
	link, group := netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16")
	none := netip.PrefixFrom(netip.IPv6Unspecified(), 128)
	return [][][]expr.Any{
		{isIPv6(), icmp6(icmp6RouterAdvertisement), drop()},
		{isIPv6(), icmp6(icmp6Redirect), drop()},
		{isIPv6(), fromNet(link), toNet(link), accept()},
		{isIPv6(), fromNet(link), toNet(group), accept()},
		{isIPv6(), isProtocol(unix.IPPROTO_ICMPV6), fromNet(none), toNet(group), accept()},
		{isIPv6(), isFirstOf(subnetBits), drop()},
	}
}

// addToHost adds what may reach the host itself: answers, ping, questions for
// its hardware address, and nameservers, if those that guests are told of are
// on this host.
func (n *Network) addToHost(b *batch) {
	ch := b.base("to_host", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	b.rule(ch, notInPrefix(n.tapPrefix()), accept())
	b.rule(ch, established(), accept())
	b.rule(ch, isIPv4(), icmp4(icmpEchoRequest), pingLimit(), accept())
	if n.set.pool6.IsValid() {
		b.rule(ch, isIPv6(), icmp6(icmp6NeighbourSolicitation), accept())
		b.rule(ch, isIPv6(), icmp6(icmp6NeighbourAdvertisement), accept())
		b.rule(ch, isIPv6(), icmp6(icmp6EchoRequest), pingLimit(), accept())
	}
	n.addNameservers(b, ch, accept())
	b.rule(ch, drop())
}

// addNameservers adds a verdict for questions to the guests' nameservers.
func (n *Network) addNameservers(b *batch, ch *nftables.Chain, verdict []expr.Any) {
	const dns = 53
	family := isIPv4()
	for _, list := range [][]netip.Addr{n.set.nameservers4, n.set.nameservers6} {
		for _, a := range list {
			to := toNet(netip.PrefixFrom(a, a.BitLen()))
			b.rule(ch, family, to, toPort(UDP, dns), verdict)
			b.rule(ch, family, to, toPort(TCP, dns), verdict)
		}
		family = isIPv6()
	}
}

// addThroughHost adds what may pass through the host: answers both ways,
// forwarded ports in, the internet out; between machines what is open to all.
func (n *Network) addThroughHost(b *batch, s sets) {
	ours := n.tapPrefix()
	ch := b.base("through_host", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	leave, arrive := b.chain("leave_guest"), b.chain("arrive_at_guest")
	b.rule(ch, inPrefix(ours), jump(leave))
	b.rule(ch, outPrefix(ours), jump(arrive))
	b.rule(ch, inPrefix(ours), accept())

	b.rule(leave, established(), leaveChain())
	// To another machine, of this node or another one of this host: the port
	// of it that the host forwards, which has led here by way of the host's
	// address, or the same over IPv6.
	b.rule(leave, outPrefix("al"), forwarded(), leaveChain())
	if n.set.pool6.IsValid() {
		b.rule(leave, isIPv6(), outDeviceName(), target6(), in(s.open6), leaveChain())
	}
	if n.set.PeerTraffic {
		b.rule(leave, outPrefix(ours), leaveChain())
	}
	b.rule(leave, outPrefix("al"), drop())
	n.addNameservers(b, leave, leaveChain())
	if !n.set.PrivateEgress {
		for _, p := range strings.Fields(privateNetworks) {
			b.rule(leave, isIPv4(), toNet(netip.MustParsePrefix(p)), drop())
		}
		for _, p := range strings.Fields(privateNetworks6) {
			b.rule(leave, isIPv6(), toNet(netip.MustParsePrefix(p)), drop())
		}
	}

	b.rule(arrive, established(), accept())
	if n.set.PeerTraffic {
		b.rule(arrive, inPrefix(ours), accept())
	}
	b.rule(arrive, isIPv4(), forwarded(), outDeviceName(), target4(), in(s.published), accept())
	if n.set.pool6.IsValid() {
		b.rule(arrive, isIPv6(), outDeviceName(), target6(), in(s.open6), accept())
		b.rule(arrive, isIPv6(), icmp6(icmp6EchoRequest), outDeviceName(), subnetOf(ip6Destination, n.set.IPv6SubnetBits, word(4)), in(s.subnets6), accept())
		if !n.set.IPv6Firewall {
			b.rule(arrive, isIPv6(), outDeviceName(), subnetOf(ip6Destination, n.set.IPv6SubnetBits, word(4)), in(s.subnets6), accept())
		}
	}
	b.rule(arrive, drop())
}

// addTranslation adds forwarded ports, and the addresses behind which guests
// are seen.
func (n *Network) addTranslation(b *batch, s sets) {
	ours := n.tapPrefix()
	nat := nftables.ChainTypeNAT
	remote := b.base("forward_remote", nat, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	local := b.base("forward_local", nat, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	source := b.base("behind_host", nat, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	if !n.set.bind.IsLoopback() {
		b.rule(remote, isIPv4(), n.toBind(), hostPort(), toPortOf(s.ports))
	}
	b.rule(local, isIPv4(), n.toBind(), hostPort(), toPortOf(s.ports))
	// The guest sees the host's own connections come from its gateway, not
	// from 127.0.0.1, as it does those of guests, itself too, that come by a
	// forwarded port: they would see answers from another address than they
	// asked. The internet sees the host.
	b.rule(source, isIPv4(), fromNet(netip.MustParsePrefix("127.0.0.0/8")), outPrefix(ours), masquerade())
	b.rule(source, isIPv4(), fromAddressTo(1), in(s.guests), outPrefix(ours), forwarded(), masquerade())
	b.rule(source, isIPv4(), fromAddressTo(1), in(s.guests), notOutPrefix(ours), masquerade())
	if n.set.pool6.IsValid() && n.set.pool6.Addr().IsPrivate() {
		b.rule(source, isIPv6(), fromNet(n.set.pool6), notOutPrefix("al"), masquerade())
	}
}

// toBind matches what is meant for the address where forwards listen.
func (n *Network) toBind() []expr.Any {
	if !n.set.bind.IsUnspecified() {
		return toNet(netip.PrefixFrom(n.set.bind, 32))
	}
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		equal(native32(unix.RTN_LOCAL)),
	}
}

// readPortKey names the key of an element of a map of ports.
func readPortKey(key []byte) (string, bool) {
	if len(key) != 8 {
		return "", false
	}
	proto := TCP
	if key[0] == unix.IPPROTO_UDP {
		proto = UDP
	}
	return portKey(proto, int(key[4])<<8|int(key[5])), true
}

func portKey(proto Protocol, port int) string { return string(proto) + " " + strconv.Itoa(port) }
