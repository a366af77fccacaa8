package vmnet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const (
	tablePrefix = "aleph_" // Of every node's table.
	// rulesVersion is part of the fingerprint: raise it when ruleset changes,
	// so that an upgraded node replaces the rules of the old one.
	rulesVersion   = 1
	fingerprintTag = "is_"           // A chain of this name tells which leases the table was made for.
	forwardingTag  = "forwarded_"    // A chain of this name tells that Purge takes forwarding from the device.
	forwardComment = "aleph forward" // Marks a rule that forwards a port: "aleph forward tcp 24000".
)

// privateNetworks are what guests may not reach unless Config.PrivateEgress.
const privateNetworks = "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16"

func (n *Network) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tablePrefix + n.set.Name}
}

// tryTable makes and removes a table of the name.
func tryTable(name string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
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

// applyRules replaces our table in one step, unless it already is what the
// leases want.
func (n *Network) applyRules(leases []Lease) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
	}
	notes, err := n.notes(c)
	if err != nil {
		return err
	}
	want, err := n.fingerprint(leases)
	if err != nil {
		return err
	}
	if notes[want] {
		return nil
	}
	// Add, delete, add: the delete works whether the table was there or not,
	// and the kernel takes the whole batch or nothing.
	t := n.table()
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	n.addRules(c, t, leases)
	c.AddChain(&nftables.Chain{Table: t, Name: want})
	for note := range notes {
		if strings.HasPrefix(note, forwardingTag) {
			c.AddChain(&nftables.Chain{Table: t, Name: note})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("replace table %s: %w", t.Name, err)
	}
	return nil
}

// removeRules removes our table and undoes what notes say.
func (n *Network) removeRules() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
	}
	notes, err := n.notes(c)
	if err != nil {
		return err
	}
	for note := range notes {
		device, ok := strings.CutPrefix(note, forwardingTag)
		if !ok {
			continue
		}
		// A device that is gone has taken its setting along.
		if err := setDeviceSysctl(device, "forwarding", "0"); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	t := n.table()
	c.AddTable(t)
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove table %s: %w", t.Name, err)
	}
	return nil
}

// notes returns the names of our table's chains. Two sorts of them hold no
// rules and are there for their names.
func (n *Network) notes(c *nftables.Conn) (map[string]bool, error) {
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	names := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Name == n.table().Name {
			names[ch.Name] = true
		}
	}
	return names, nil
}

// noteForwarding writes down that forwarding of the device was off.
func (n *Network) noteForwarding(device string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
	}
	c.AddChain(&nftables.Chain{Table: n.table(), Name: forwardingTag + device})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("note forwarding of %s: %w", device, err)
	}
	return nil
}

// fingerprint names the rules for leases.
func (n *Network) fingerprint(leases []Lease) (string, error) {
	raw, err := json.Marshal([]any{rulesVersion, n.set.Config, leases})
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
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netfilter: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, ch := range chains {
		if !strings.HasPrefix(ch.Table.Name, tablePrefix) || ch.Name != "forward_local" {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", ch.Table.Name, err)
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			if key, ok := strings.CutPrefix(comment, forwardComment+" "); ok {
				ports[key] = true
			}
		}
	}
	return ports, nil
}

// addRules adds the chains and rules for leases to the batch.
func (n *Network) addRules(c *nftables.Conn, t *nftables.Table, leases []Lease) {
	base := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Table: t, Name: name, Type: typ, Hooknum: hook, Priority: prio})
	}
	spoof := base("from_guest", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	input := base("to_host", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	forward := base("through_host", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	remote := base("forward_remote", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	local := base("forward_local", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	source := base("behind_host", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)

	add := func(ch *nftables.Chain, comment string, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		r := &nftables.Rule{Table: t, Chain: ch, Exprs: all}
		if comment != "" {
			r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
		}
		c.AddRule(r)
	}
	ours := n.tapPrefix()

	// What a guest sends: its own addresses only, and never to loopback,
	// which route_localnet would let in. Devices without a lease say nothing.
	add(spoof, "", isIPv4(), inPrefix(ours), toNet(netip.MustParsePrefix("127.0.0.0/8")), drop())
	for _, l := range leases {
		_, guest := n.set.addresses(l.Slot)
		add(spoof, l.ID[:16], inDevice(n.tapName(l.ID)), fromMAC(macOf(l.ID)), isIPv4(), fromNet(netip.PrefixFrom(guest, 32)), accept())
	}
	add(spoof, "", inPrefix(ours), drop())

	// What may reach the host itself: answers, and ping.
	add(input, "", inPrefix(ours), established(), accept())
	add(input, "", inPrefix(ours), isProtocol(unix.IPPROTO_ICMP), pingLimit(), accept())
	add(input, "", inPrefix(ours), drop())

	// What may pass through the host: answers both ways, forwarded ports in,
	// the internet out; between machines nothing.
	add(forward, "", inPrefix(ours), outPrefix("al"), drop())
	add(forward, "", inPrefix(ours), established(), accept())
	if !n.set.PrivateEgress {
		for _, p := range strings.Fields(privateNetworks) {
			add(forward, "", inPrefix(ours), isIPv4(), toNet(netip.MustParsePrefix(p)), drop())
		}
	}
	add(forward, "", inPrefix(ours), accept())
	add(forward, "", outPrefix(ours), established(), accept())
	add(forward, "", outPrefix(ours), forwarded(), accept())
	add(forward, "", outPrefix(ours), drop())

	for _, l := range leases {
		_, guest := n.set.addresses(l.Slot)
		for _, f := range l.Forwards {
			comment := forwardComment + " " + string(f.Protocol) + " " + strconv.Itoa(f.HostPort)
			to := destination(guest, f.GuestPort)
			port := toPort(f.Protocol, f.HostPort)
			if !n.set.bind.IsLoopback() {
				add(remote, comment, isIPv4(), n.toBind(), port, to)
			}
			add(local, comment, isIPv4(), n.toBind(), port, to)
		}
		// The guest sees the host's own connections come from its gateway,
		// not from 127.0.0.1, and the internet sees the host.
		add(source, l.ID[:16], isIPv4(), fromNet(netip.MustParsePrefix("127.0.0.0/8")), outDevice(n.tapName(l.ID)), masquerade())
		add(source, l.ID[:16], isIPv4(), fromNet(netip.PrefixFrom(guest, 32)), notOutPrefix(ours), masquerade())
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

// The parts of rules. Register 1 is the one that they all use.

func equal(b []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func isIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{unix.NFPROTO_IPV4})}
}

func isProtocol(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

// deviceName is a whole name as the kernel compares it.
func deviceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func inDevice(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(deviceName(name))}
}

func outDevice(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(deviceName(name))}
}

// A comparison of fewer bytes than a name has matches all names that start so.

func inPrefix(prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte(prefix))}
}

func outPrefix(prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal([]byte(prefix))}
}

func notOutPrefix(prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(prefix)},
	}
}

func fromMAC(mac string) []expr.Any {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		panic("BUG: hardware address " + mac) // Made by macOf.
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
		equal(binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		equal(hw),
	}
}

// Offsets of the addresses in an IPv4 header.
const (
	ipSource      = 12
	ipDestination = 16
)

func fromNet(p netip.Prefix) []expr.Any { return inNet(ipSource, p) }
func toNet(p netip.Prefix) []expr.Any   { return inNet(ipDestination, p) }

func inNet(offset uint32, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr().As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		equal(addr[:]),
	}
}

func toPort(proto Protocol, port int) []expr.Any {
	number := byte(unix.IPPROTO_TCP)
	if proto == UDP {
		number = unix.IPPROTO_UDP
	}
	return append(isProtocol(number),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, uint16(port))))
}

func destination(addr netip.Addr, port int) []expr.Any {
	a := addr.As4()
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: a[:]},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, uint16(port))},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func established() []expr.Any {
	return anyBit(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// forwarded matches connections whose destination a rule of ours has changed.
func forwarded() []expr.Any { return anyBit(expr.CtKeySTATUS, ctStatusDNAT) }

// ctStatusDNAT is IPS_DST_NAT of the kernel's nf_conntrack_common.h.
const ctStatusDNAT = 1 << 5

func anyBit(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(bits), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)},
	}
}

// pingLimit matches ten packets a second: enough to see that the host lives.
func pingLimit() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: 10, Unit: expr.LimitTimeSecond, Burst: 20}}
}
