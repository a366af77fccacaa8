package vmnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Where systems keep their nameservers. The second file is an interface of
// systemd-resolved and has what it asks itself, where resolv.conf has only its
// own address on loopback.
const (
	resolvConfPath = "/etc/resolv.conf"
	resolvedPath   = "/run/systemd/resolve/resolv.conf"
	// resolvConfMax bounds what is read, in bytes.
	resolvConfMax = 64 << 10
)

// findNameservers looks where Resolver says, unless servers were set.
func (s *settings) findNameservers(read func(path string) ([]byte, error)) error {
	if len(s.nameservers4)+len(s.nameservers6) > 0 {
		return nil
	}
	paths := map[Resolver][]string{
		Detect: {resolvedPath, resolvConfPath}, ResolvConf: {resolvConfPath}, Resolved: {resolvedPath},
	}[s.Resolver]
	for _, path := range paths {
		raw, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read nameservers: %w", err)
		}
		s.nameservers4, s.nameservers6 = byFamily(parseResolvConf(raw))
		if len(s.nameservers4)+len(s.nameservers6) > 0 {
			return nil
		}
	}
	return errs.New(errs.Invalid, "%s has no nameserver that guests can reach, set [vmnet] nameservers", strings.Join(paths, " or "))
}

// readConf reads the beginning of a file.
func readConf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, resolvConfMax)
	n, err := f.Read(raw)
	if n == 0 && err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return raw[:n], nil
}

// parseResolvConf returns the servers in a file of the form of resolv.conf(5)
// that guests can reach.
func parseResolvConf(raw []byte) (all []netip.Addr) {
	for line := range bytes.Lines(raw) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && reachable(a) && len(all) < nameserversMax {
			all = append(all, a)
		}
	}
	return all
}

// reachable reports whether an address means the same to a guest as to the
// host: a loopback address is the guest's own, and one of a link is nobody's.
func reachable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// byFamily splits addresses, each once, in their order.
func byFamily(all []netip.Addr) (v4, v6 []netip.Addr) {
	for _, a := range all {
		list := &v6
		if a.Is4() {
			list = &v4
		}
		if !slices.Contains(*list, a) {
			*list = append(*list, a)
		}
	}
	return v4, v6
}
