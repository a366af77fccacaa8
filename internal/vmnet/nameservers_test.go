package vmnet

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func addrs(text string) (all []netip.Addr) {
	for _, a := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// TestNameserversAreSplitByFamily has what aleph-vm's test_dns_configuration
// asks of its settings, as far as one list for both families can be wrong.
func TestNameserversAreSplitByFamily(t *testing.T) {
	for name, c := range map[string]struct{ set, v4, v6 string }{
		"IPv4 only":              {"8.8.8.8 1.1.1.1", "8.8.8.8 1.1.1.1", ""},
		"IPv6 only":              {"2001:4860:4860::8888 2606:4700::1111", "", "2001:4860:4860::8888 2606:4700::1111"},
		"mixed":                  {"8.8.8.8 2001:db8::1 1.1.1.1", "8.8.8.8 1.1.1.1", "2001:db8::1"},
		"twice":                  {"8.8.8.8 2001:db8::1 8.8.8.8 2001:db8::1", "8.8.8.8", "2001:db8::1"},
		"the same written twice": {"2001:db8::1 2001:db8:0::1", "", "2001:db8::1"},
	} {
		cfg := DefaultConfig()
		cfg.Nameservers = strings.Fields(c.set)
		for range 2 { // Nothing grows when settings are read again.
			s, err := cfg.parse()
			if err != nil || !slices.Equal(s.nameservers4, addrs(c.v4)) || !slices.Equal(s.nameservers6, addrs(c.v6)) {
				t.Errorf("%s: %v and %v, %v; want %s and %s", name, s.nameservers4, s.nameservers6, err, c.v4, c.v6)
			}
		}
	}
}

func TestNameserversThatGuestsCannotReachAreRefused(t *testing.T) {
	for _, bad := range []string{"dns.example", "", "1.1.1.1:53", "127.0.0.53", "::1", "0.0.0.0", "fe80::1", "fe80::1%eth0", "::ffff:1.1.1.1", "224.0.0.1"} {
		cfg := DefaultConfig()
		cfg.Nameservers = []string{"9.9.9.9", bad}
		if err := cfg.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: Validate returned %v, want invalid", bad, err)
		}
	}
}

func TestNameserversAreFound(t *testing.T) {
	const stub = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\nsearch example\n"
	for name, c := range map[string]struct {
		resolver         Resolver
		resolv, resolved string // "" is not there.
		v4, v6           string
	}{
		"a plain file":              {Detect, "nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "", "192.0.2.1", "2001:db8::1"},
		"what is behind the stub":   {Detect, stub, "nameserver 192.0.2.2\n", "192.0.2.2", ""},
		"the stub of a plain file":  {ResolvConf, stub + "nameserver 192.0.2.3\n", "nameserver 192.0.2.2\n", "192.0.2.3", ""},
		"a broken systemd-resolved": {Detect, "nameserver 192.0.2.4\n", "# nothing\n", "192.0.2.4", ""},
		"systemd-resolved":          {Resolved, "nameserver 192.0.2.4\n", "nameserver 2001:db8::2\n", "", "2001:db8::2"},
		"odd lines":                 {Detect, "nameserver\nnameserver x\n  nameserver\t192.0.2.5 # why\r\nnameserver fe80::1%eth0\n;nameserver 192.0.2.6", "", "192.0.2.5", ""},
		"the stub only":             {Detect, stub, "", "", ""},
		"nothing":                   {Detect, "", "", "", ""},
		"no systemd-resolved":       {Resolved, "nameserver 192.0.2.4\n", "", "", ""},
	} {
		cfg := DefaultConfig()
		cfg.Nameservers, cfg.Resolver = nil, c.resolver
		s, err := cfg.parse()
		if err != nil {
			t.Fatal(err)
		}
		err = s.findNameservers(func(path string) ([]byte, error) {
			text := map[string]string{resolvConfPath: c.resolv, resolvedPath: c.resolved}[path]
			if text == "" {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		})
		if c.v4+c.v6 == "" {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%s: %v, want a refusal", name, err)
			}
			continue
		}
		if err != nil || !slices.Equal(s.nameservers4, addrs(c.v4)) || !slices.Equal(s.nameservers6, addrs(c.v6)) {
			t.Errorf("%s: %v and %v, %v; want %q and %q", name, s.nameservers4, s.nameservers6, err, c.v4, c.v6)
		}
	}
}

func TestSetNameserversAreNotLookedFor(t *testing.T) {
	s, err := DefaultConfig().parse()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.findNameservers(func(string) ([]byte, error) { return nil, errors.New("looked") }); err != nil {
		t.Error(err)
	}
}

func TestManyNameserversAreCut(t *testing.T) {
	text := strings.Repeat("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", 1000)
	if got := parseResolvConf([]byte(text)); len(got) != nameserversMax {
		t.Errorf("%d servers, want %d", len(got), nameserversMax)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nnameserver fe80::1%eth0\n"))
	f.Add([]byte("nameserver \x00\n\r\nnameserver ::ffff:1.2.3.4"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, a := range parseResolvConf(raw) {
			if !reachable(a) {
				t.Errorf("%s is given to guests", a)
			}
		}
	})
}
