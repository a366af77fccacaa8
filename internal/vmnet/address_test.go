package vmnet_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// vectors are the addresses that other nodes of the Aleph network give.
type vectors struct {
	Vectors []struct {
		Pool     netip.Prefix `json:"pool"`
		Nibble   vmnet.Kind   `json:"type_nibble"`
		Hash     string       `json:"vm_hash"`
		Subnet   netip.Prefix `json:"subnet"`
		HostIP   netip.Addr   `json:"host_ip"`
		GuestIP  netip.Addr   `json:"guest_ip"`
		TypeName string       `json:"vm_type"`
	} `json:"vectors"`
	IPv4 []struct {
		ID      int          `json:"vm_id"`
		Network netip.Prefix `json:"network"`
		Host    netip.Addr   `json:"host"`
		Guest   netip.Addr   `json:"guest"`
	} `json:"ipv4"`
	Dynamic struct {
		Pool   string         `json:"pool"`
		Prefix int            `json:"prefix"`
		Order  []netip.Prefix `json:"allocated_in_order"`
	} `json:"dynamic"`
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/ip_allocation.json")
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Vectors) == 0 || len(v.IPv4) == 0 || len(v.Dynamic.Order) == 0 {
		t.Fatal("the vectors have no addresses")
	}
	return v
}

func TestStaticAddressesAreThoseOfTheAlephNetwork(t *testing.T) {
	for _, v := range readVectors(t).Vectors {
		subnet, err := vmnet.StaticSubnet(v.Pool, v.Nibble, v.Hash, 124)
		if err != nil || subnet != v.Subnet {
			t.Errorf("%s %s in %s: subnet is %s, %v; want %s", v.TypeName, v.Hash, v.Pool, subnet, err, v.Subnet)
		}
		n := open(t, func(c *vmnet.Config) { c.IPv6Pool = v.Pool.String() })
		d := device(t, n, vmnet.Lease{ID: v.Hash, Kind: v.Nibble})
		if d.IPv6Network() != v.Subnet || d.Gateway6 != v.HostIP || d.Address6.Addr() != v.GuestIP {
			t.Errorf("%s %s in %s: device is %+v, want %s, %s and %s", v.TypeName, v.Hash, v.Pool, d, v.Subnet, v.HostIP, v.GuestIP)
		}
	}
}

func TestAPoolCanBeLaidOutAsByOtherNodes(t *testing.T) {
	n := open(t, func(c *vmnet.Config) { c.Pool, c.SubnetBits = "172.16.0.0/12", 24 })
	for _, v := range readVectors(t).IPv4 {
		d := device(t, n, vmnet.Lease{ID: id("a"), Slot: v.ID})
		if d.IPv4Network() != v.Network || d.Gateway != v.Host || d.Address.Addr() != v.Guest {
			t.Errorf("slot %d: device is %+v, want %s, %s and %s", v.ID, d, v.Network, v.Host, v.Guest)
		}
	}
}

func TestDynamicSubnetsAreTakenInOrder(t *testing.T) {
	v := readVectors(t).Dynamic
	n := open(t, func(c *vmnet.Config) {
		c.IPv6Pool, c.IPv6Policy, c.IPv6SubnetBits = v.Pool, vmnet.Dynamic, v.Prefix
	})
	taken := map[int]bool{}
	for _, want := range v.Order {
		index, err := n.FreeSubnet6(func(i int) bool { return taken[i] })
		if err != nil {
			t.Fatal(err)
		}
		taken[index] = true
		if d := device(t, n, vmnet.Lease{ID: id("a"), Subnet6: index}); d.IPv6Network() != want {
			t.Errorf("subnet %d is %s, want %s", index, d.IPv6Network(), want)
		}
	}

	if _, err := n.FreeSubnet6(func(int) bool { return true }); !errors.Is(err, errs.Exhausted) {
		t.Errorf("FreeSubnet6 of a full pool: %v, want exhausted", err)
	}
	if _, err := n.Device(vmnet.Lease{ID: id("a"), Subnet6: 16}); !errors.Is(err, errs.Invalid) {
		t.Errorf("Device with a subnet beyond the pool: %v, want invalid", err)
	}
	if d := device(t, n, vmnet.Lease{ID: id("a")}); d.Address6.IsValid() {
		t.Errorf("a lease without a subnet has %s", d.Address6)
	}
}

func TestDynamicSubnetsOfAnyLength(t *testing.T) {
	for bits, want := range map[int]string{60: "2001:db8:0:30::/60", 64: "2001:db8:0:3::/64", 66: "2001:db8:0:0:c000::/66", 127: "2001:db8::6/127"} {
		n := open(t, func(c *vmnet.Config) {
			c.IPv6Pool, c.IPv6Policy, c.IPv6SubnetBits = "2001:db8::/48", vmnet.Dynamic, bits
		})
		if d := device(t, n, vmnet.Lease{ID: id("a"), Subnet6: 3}); d.IPv6Network().String() != want {
			t.Errorf("/%d: subnet 3 is %s, want %s", bits, d.IPv6Network(), want)
		}
	}
}

func TestMachinesThatWouldShareAnAddressAreRefused(t *testing.T) {
	n := open(t, func(c *vmnet.Config) { c.IPv6Pool = "2001:db8:1:2::/64" })
	a := vmnet.Lease{ID: "0123456789a" + strings.Repeat("0", 53), Slot: 0}
	b := vmnet.Lease{ID: "0123456789a" + strings.Repeat("f", 53), Slot: 1}
	other := vmnet.Lease{ID: "0123456789b" + strings.Repeat("f", 53), Slot: 2}

	err := n.Admit(b, []vmnet.Lease{other, a})

	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), a.ID) || !strings.Contains(err.Error(), "2001:db8:1:2:3:123:4567:89a0/124") {
		t.Errorf("Admit: %v; want a conflict that names the other machine and the subnet", err)
	}
	b.Kind = vmnet.MicroVM
	if err := n.Admit(b, []vmnet.Lease{other, a}); err != nil {
		t.Errorf("Admit of a machine of another kind: %v, want no conflict", err)
	}
}

func TestBadPoolsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*vmnet.Config){
		"no network":        func(c *vmnet.Config) { c.IPv6Pool = "2001:db8::" },
		"IPv4":              func(c *vmnet.Config) { c.IPv6Pool = "10.0.0.0/8" },
		"mapped":            func(c *vmnet.Config) { c.IPv6Pool = "::ffff:10.0.0.0/104" },
		"host bits":         func(c *vmnet.Config) { c.IPv6Pool = "2001:db8::1/64" },
		"static /48":        func(c *vmnet.Config) { c.IPv6Pool = "2001:db8::/48" },
		"static /64 in /96": func(c *vmnet.Config) { c.IPv6Pool, c.IPv6SubnetBits = "2001:db8::/64", 96 },
		"subnet as large":   func(c *vmnet.Config) { c.IPv6Pool, c.IPv6Policy, c.IPv6SubnetBits = "2001:db8::/64", vmnet.Dynamic, 64 },
		"one address": func(c *vmnet.Config) {
			c.IPv6Pool, c.IPv6Policy, c.IPv6SubnetBits = "2001:db8::/64", vmnet.Dynamic, 128
		},
		"policy":           func(c *vmnet.Config) { c.IPv6Policy = "random" },
		"resolver":         func(c *vmnet.Config) { c.Resolver = "dnsmasq" },
		"subnet bits":      func(c *vmnet.Config) { c.SubnetBits = 31 },
		"pool of too many": func(c *vmnet.Config) { c.Pool, c.SubnetBits = "10.0.0.0/8", 30 },
		"bandwidth":        func(c *vmnet.Config) { c.BandwidthMbit = -1 },
		"packets":          func(c *vmnet.Config) { c.PacketRate = 1 << 30 },
		"uplink":           func(c *vmnet.Config) { c.Uplink = "../all" },
	} {
		cfg := vmnet.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Validate returned %v, want invalid", name, err)
		}
	}
}

func TestSettingsThatAreNotThereAreGood(t *testing.T) {
	cfg := vmnet.DefaultConfig()
	cfg.SubnetBits, cfg.IPv6Policy, cfg.IPv6SubnetBits, cfg.Resolver, cfg.Name = 0, "", 0, "", "test"
	cfg.Mode, cfg.IPv6Pool = vmnet.Tap, "2001:db8::/64"
	n, err := vmnet.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if d := device(t, n, vmnet.Lease{ID: id("a")}); d.Address.Bits() != 30 || d.Address6.Bits() != 124 {
		t.Errorf("addresses are %s and %s, want a /30 and a /124", d.Address, d.Address6)
	}
}
