package vmnet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// TestTheHostIsKnownByAGlobalAddress has the cases of aleph-vm's
// test_get_interface_ipv4.
func TestTheHostIsKnownByAGlobalAddress(t *testing.T) {
	addAddress(t, "up0", "192.168.9.1/24")
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	n := open(t, func(c *vmnet.Config) { c.Uplink = "up0" })
	for has, want := range map[string]string{
		"8.8.8.8":                        "8.8.8.8",
		"192.168.1.1 8.8.8.8":            "8.8.8.8",
		"10.0.0.1 100.64.0.1":            "10.0.0.1",
		"192.168.1.1":                    "192.168.1.1",
		"169.254.1.1":                    "169.254.1.1",
		"169.254.1.1 8.8.8.8 1.1.1.1":    "8.8.8.8",
		"198.51.100.1 192.0.2.1 9.9.9.9": "9.9.9.9",
		"":                               "",
	} {
		old, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range old {
			if err := netlink.AddrDel(link, &a); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range strings.Fields(has) {
			a, err := netlink.ParseAddr(text + "/32")
			if err == nil {
				err = netlink.AddrAdd(link, a)
			}
			if err != nil {
				t.Fatal(err)
			}
		}

		got, err := n.HostIPv4()

		if want == "" {
			if !errors.Is(err, errs.NotFound) {
				t.Errorf("without addresses: %s, %v; want none", got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %s, %v; want %s", has, got, err, want)
		}
	}
	if _, err := open(t, func(c *vmnet.Config) { c.Uplink = "nowhere0" }).HostIPv4(); err == nil {
		t.Error("an uplink that is not there has an address")
	}
}
