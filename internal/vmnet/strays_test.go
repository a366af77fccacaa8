package vmnet_test

import (
	"slices"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// TestStraysAreWhatNoLeaseNeeds applies two machines and asks what is there of none,
// of one, and of both.
func TestStraysAreWhatNoLeaseNeeds(t *testing.T) {
	n := open(t, withIPv6)
	first, second := web("vm0", 0, 24000), web("vm1", 1, 24001)
	if strays, err := n.Strays(nil); err != nil || len(strays) > 0 {
		t.Errorf("strays before anything is there: %v, %v", strays, err)
	}
	apply(t, n, first, second)

	for _, c := range []struct {
		leases  []vmnet.Lease
		devices int
	}{{[]vmnet.Lease{first, second}, 0}, {[]vmnet.Lease{second}, 1}, {nil, 2}} {
		strays, err := n.Strays(c.leases)
		if err != nil {
			t.Fatal(err)
		}
		devices := slices.DeleteFunc(slices.Clone(strays), func(s vmnet.Stray) bool { return s.Kind != vmnet.StrayDevice })
		rules := len(strays) - len(devices)
		// Of each device: an element of six sets at least, and a chain.
		if len(devices) != c.devices || rules < 7*c.devices || c.devices == 0 && rules > 0 {
			t.Errorf("strays beside %d machines: %v, want %d devices and their rules", len(c.leases), strays, c.devices)
		}
	}
	apply(t, n)
	if strays, err := n.Strays(nil); err != nil || len(strays) > 0 {
		t.Errorf("strays after all machines are gone: %v, %v", strays, err)
	}
}
