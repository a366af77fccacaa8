package vmnet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// elements returns what the sets of a table hold.
func elements(t *testing.T, name string) (all []string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	sets, err := c.GetSets(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		has, err := c.GetSetElements(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range has {
			all = append(all, fmt.Sprintf("%s %x %x", s.Name, e.Key, e.Val))
		}
	}
	slices.Sort(all)
	return all
}

// chainsAtDevices returns the chains of our table of family netdev.
func chainsAtDevices(t *testing.T, name string) (all []string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range chains {
		if ch.Table.Name == name {
			all = append(all, ch.Name)
		}
	}
	slices.Sort(all)
	return all
}

// TestChangesLeadToTheSameRules compares what small changes make with what is
// made anew.
func TestChangesLeadToTheSameRules(t *testing.T) {
	const table = "aleph_test"
	n := open(t, withIPv6)
	rng := rand.New(rand.NewPCG(3, 4))
	for step := range 40 {
		var leases []vmnet.Lease
		for slot := range 6 {
			if rng.IntN(3) == 0 {
				continue
			}
			l := web(fmt.Sprint("vm", slot), slot, 24000+slot)
			for i := range rng.IntN(3) {
				l.Forwards = append(l.Forwards, vmnet.Forward{Protocol: vmnet.UDP, HostPort: 25000 + 10*slot + i, GuestPort: 53 + rng.IntN(2)})
			}
			l.Kind = vmnet.Kind(rng.IntN(3) + 1)
			l.PacketRate = rng.IntN(2) * 1000
			leases = append(leases, l)
		}
		apply(t, n, leases...)
		changed, hooks := elements(t, table), chainsAtDevices(t, table)

		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: table})
		if rng.IntN(2) == 0 && len(leases) > 0 {
			c.DelTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: table})
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		again := n
		if rng.IntN(2) == 0 {
			again = open(t, withIPv6)
		}
		apply(t, again, leases...)

		if diff := cmp.Diff(elements(t, table), changed); diff != "" {
			t.Fatalf("step %d: changes made other elements than all anew (-want +got):\n%s", step, diff)
		}
		if diff := cmp.Diff(chainsAtDevices(t, table), hooks); diff != "" || len(hooks) != len(leases) {
			t.Fatalf("step %d: %d chains for %d machines (-want +got):\n%s", step, len(hooks), len(leases), diff)
		}
	}
}
