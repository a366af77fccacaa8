package vmnet

import (
	"fmt"
	"net"
	"strings"

	"github.com/google/nftables"
)

// StrayKind is what a Stray is.
type StrayKind string

// The kinds of stray.
const (
	StrayDevice StrayKind = "device"
	StrayRule   StrayKind = "rule" // An element of a set, or a chain at a device.
)

// Stray is something of this network in the kernel that no lease needs.
type Stray struct {
	Kind StrayKind
	What string
}

// Strays finds what the kernel holds of this network and none of the leases needs. It
// changes nothing; Apply with the same leases removes all of it.
func (n *Network) Strays(leases []Lease) ([]Stray, error) {
	if n.mode == User {
		return nil, nil
	}
	endpoints, wanted, hooks := make([]endpoint, 0, len(leases)), map[string]bool{}, map[string]bool{}
	for _, l := range leases {
		e, err := n.endpoint(l)
		if err != nil {
			return nil, err
		}
		hook, err := n.ingressName(e)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
		wanted[e.tap], hooks[hook] = true, true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	links, err := devices()
	if err != nil {
		return nil, err
	}
	var out []Stray
	for name, link := range links {
		if !wanted[name] && n.isOurs(link) {
			out = append(out, Stray{StrayDevice, fmt.Sprintf("device %s (%s)", name, link.Attrs().Alias)})
		}
	}
	c, err := openNetfilter()
	if err != nil {
		return nil, err
	}
	elements, err := n.strayElements(c, endpoints)
	if err != nil {
		return nil, err
	}
	out = append(out, elements...)
	if !n.can.ingress {
		return out, nil
	}
	has, err := n.chains(c, n.ingressTable())
	for name := range has {
		if !hooks[name] {
			out = append(out, Stray{StrayRule, "chain " + name + " at a device"})
		}
	}
	return out, err
}

// strayElements finds elements of our sets that no endpoint needs.
func (n *Network) strayElements(c *nftables.Conn, endpoints []endpoint) ([]Stray, error) {
	chains, err := n.chains(c, n.table())
	if err != nil || len(chains) == 0 {
		return nil, err // There is no table of ours.
	}
	want := map[string]bool{}
	n.eachSet(&batch{c: c, t: n.table()}, endpoints, func(s *nftables.Set, elements []nftables.SetElement) {
		for _, e := range elements {
			want[s.Name+string(e.Key)] = true
		}
	})
	sets, err := c.GetSets(n.table())
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", n.table().Name, err)
	}
	var out []Stray
	for _, s := range sets {
		if s.Anonymous {
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("list set %s of %s: %w", s.Name, n.table().Name, err)
		}
		for _, e := range elements {
			if !want[s.Name+string(e.Key)] {
				out = append(out, Stray{StrayRule, fmt.Sprintf("element %s of set %s", keyText(e.Key), s.Name)})
			}
		}
	}
	return out, nil
}

// keyText shows the key of an element: the device that it begins with, an address, or
// the bytes.
func keyText(key []byte) string {
	if name, _, ok := strings.Cut(string(key), "\x00"); ok && strings.HasPrefix(name, "al") {
		return name
	}
	if len(key) == net.IPv4len {
		return net.IP(key).String()
	}
	if port, ok := readPortKey(key); ok {
		return port
	}
	return fmt.Sprintf("%x", key)
}
