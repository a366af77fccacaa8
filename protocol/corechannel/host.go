package corechannel

import (
	"strings"

	ma "github.com/multiformats/go-multiaddr"
)

// setMultiaddress gives a CCN its multiaddress: none when there is no host in
// it, or when another CCN has that host. An entry on chain that is about to
// become the same node is no other.
func (f *Fold) setMultiaddress(c *core, address string, same *record) {
	host := multiaddrHost(address)
	taken := host == ""
	for hash, other := range f.cores {
		taken = taken || hash != c.Hash && other.host == host && (same == nil || hash != same.entry)
	}
	if taken {
		address, host = "", ""
	}
	c.Multiaddress, c.host = address, host
}

// setAddress gives a CRN its URL: none when another CRN has the host. As in the
// reference, all URLs without a host are taken for one.
func (f *Fold) setAddress(r *resource, address string, same *record) {
	host := urlHost(address)
	for hash, other := range f.resources {
		if hash != r.Hash && other.host == host && (same == nil || hash != same.entry) {
			address, host = "", ""
			break
		}
	}
	r.Address, r.host = address, host
}

// multiaddrHost returns the first host in a multiaddress; "" if there is none.
func multiaddrHost(s string) string {
	address, err := ma.NewMultiaddr(s)
	if err != nil {
		return ""
	}
	for _, part := range address {
		switch part.Protocol().Code {
		case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			return part.Value()
		}
	}
	return ""
}

// urlHost returns the lower-case host of a URL; "" if there is none. Two nodes
// that read a URL differently would hold different states, so this is what the
// reference's language does and no more: it splits, and checks nothing.
func urlHost(s string) string {
	s = strings.TrimLeft(s, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f"+
		"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(s)
	if scheme, rest, found := strings.Cut(s, ":"); found && isScheme(scheme) {
		s = rest
	}
	s, found := strings.CutPrefix(s, "//")
	if !found {
		return ""
	}
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		s = s[:i]
	}
	s = s[strings.LastIndexByte(s, '@')+1:]
	if _, bracketed, found := strings.Cut(s, "["); found {
		s, _, _ = strings.Cut(bracketed, "]")
	} else {
		s, _, _ = strings.Cut(s, ":")
	}
	return strings.ToLower(s)
}

// isScheme reports whether a text can be the scheme of a URL.
func isScheme(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && !strings.ContainsRune("+-.", c)) {
			return false
		}
	}
	return s != ""
}
