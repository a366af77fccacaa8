package vmnet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rules at each device, which see every frame before ARP, IP and anything else
// on the host do. A chain of them hangs on one device, has the device's name,
// and goes when the device does.

const (
	// ingressPriority is before everything that others are likely to have there.
	ingressPriority = -500
	// neighbourRate is how many ARP and NDP packets a second a guest may send:
	// it has one neighbour.
	neighbourRate = 50
	// ingressMax bounds the chains in one batch: the kernel answers each of
	// their rules.
	ingressMax = 64
)

func (n *Network) ingressTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: tablePrefix + n.set.Name}
}

// applyIngress makes the chains at devices those of the endpoints, whose devices
// exist. Each chain is whole or not there, and a device that has none yet is
// down, so they need not come all at once. has are those that are there, nil if
// nobody knows. It returns those that are there then.
func (n *Network) applyIngress(c *nftables.Conn, endpoints []endpoint, has map[string]bool) (map[string]bool, error) {
	if !n.can.ingress {
		return nil, nil
	}
	t := n.ingressTable()
	if has == nil {
		var err error
		if has, err = n.chains(c, t); err != nil {
			return nil, err
		}
	}
	c.AddTable(t)
	wanted, waiting := map[string]bool{}, 0
	b := &batch{c: c, t: t}
	flush := func(atLeast int) error {
		if waiting < atLeast {
			return nil
		}
		waiting = 0
		if err := c.Flush(); err != nil {
			return fmt.Errorf("change table %s of devices: %w", t.Name, err)
		}
		return nil
	}
	for _, e := range endpoints {
		name, err := n.ingressName(e)
		if err != nil {
			return nil, err
		}
		wanted[name] = true
		if has[name] {
			continue
		}
		n.addIngressChain(b, name, e)
		waiting++
		if err := flush(ingressMax); err != nil {
			return nil, err
		}
	}
	for name := range has {
		if wanted[name] {
			continue
		}
		c.DelChain(&nftables.Chain{Table: t, Name: name})
		waiting++
		if err := flush(ingressMax); err != nil {
			return nil, err
		}
	}
	return wanted, flush(1)
}

// ingressName names a chain after its device and what its rules say.
func (n *Network) ingressName(e endpoint) (string, error) {
	raw, err := json.Marshal([]any{rulesVersion, e.mac, e.guest, e.subnet6, e.bandwidth, e.packets})
	if err != nil {
		return "", fmt.Errorf("encode endpoint: %w", err)
	}
	sum := sha256.Sum256(raw)
	return e.tap + "_" + hex.EncodeToString(sum[:8]), nil
}

// addIngressChain adds the chain of one device.
func (n *Network) addIngressChain(b *batch, name string, e endpoint) {
	policy := nftables.ChainPolicyDrop
	ch := b.c.AddChain(&nftables.Chain{
		Table: b.t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityRef(ingressPriority), Device: e.tap, Policy: &policy,
	})
	b.rule(ch, notFromMAC(e.mac), drop())
	if e.packets > 0 {
		b.rule(ch, packetsOver(e.packets), drop())
	}
	if e.bandwidth > 0 {
		b.rule(ch, bytesOver(e.bandwidth), drop())
	}
	b.rule(ch, isEther(unix.ETH_P_IP), fromNet(netip.PrefixFrom(e.guest, 32)), accept())

	arp := isEther(unix.ETH_P_ARP)
	b.rule(ch, arp, packetsOver(neighbourRate), drop())
	b.rule(ch, arp, arpFrom(e.mac, e.guest), accept())
	// Who asks whether an address is free has none yet (RFC 5227).
	b.rule(ch, arp, arpFrom(e.mac, netip.IPv4Unspecified()), accept())

	if !e.subnet6.IsValid() {
		return
	}
	six := isEther(unix.ETH_P_IPV6)
	for _, typ := range []byte{icmp6NeighbourSolicitation, icmp6NeighbourAdvertisement} {
		b.rule(ch, six, icmp6(typ), packetsOver(neighbourRate), drop())
	}
	for _, rule := range ownIPv6(e.subnet6.Bits()) {
		rule[0] = six // There is no family before IP has looked.
		b.rule(ch, rule...)
	}
	b.rule(ch, six, fromNet(e.subnet6), accept())
}

// arpFrom matches ARP of Ethernet and IPv4 from a neighbour that says so too.
func arpFrom(mac net.HardwareAddr, addr netip.Addr) []expr.Any {
	at := func(offset uint32, want []byte) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(want))},
			equal(want),
		}
	}
	all := at(0, []byte{0, 1, 8, 0, 6, 4}) // Ethernet, IPv4, and the lengths of their addresses.
	all = append(all, at(arpHardware, mac)...)
	return append(all, at(arpAddress, addr.AsSlice())...)
}

// tryIngress reports whether a chain can hang on a device.
func tryIngress(name, device string) bool {
	c, err := openNetfilter()
	if err != nil {
		return false
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: name})
	c.AddChain(&nftables.Chain{
		Table: t, Name: "try", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityRef(ingressPriority), Device: device,
	})
	c.DelTable(t)
	return c.Flush() == nil
}
