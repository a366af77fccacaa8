package vmnet_test

import (
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// resolve answers questions in the guest as a nameserver that knows nothing.
func (g *guest) resolve(t *testing.T) {
	t.Helper()
	var c net.PacketConn
	var err error
	g.run(func() { c, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			if _, err := c.WriteTo(buf[:n], from); err != nil {
				return
			}
		}
	}()
}

// goodHost returns the settings of a host where all is well.
func goodHost(t *testing.T) vmnet.Config {
	t.Helper()
	uplink(t).resolve(t)
	cfg := vmnet.DefaultConfig()
	cfg.Mode, cfg.Name, cfg.Bind, cfg.IPv6Pool = vmnet.Tap, "test", "0.0.0.0", pool6
	cfg.Nameservers = []string{"198.51.100.2", "2001:db8:1:2::ffff"}
	return cfg
}

func prove(t *testing.T, cfg vmnet.Config) []vmnet.Finding {
	t.Helper()
	return vmnet.Prove(t.Context(), cfg, slog.New(slog.DiscardHandler))
}

func TestNothingIsWrongWithAGoodHost(t *testing.T) {
	cfg := goodHost(t)
	before := kernel(t)

	all := append(vmnet.Check(t.Context(), cfg), prove(t, cfg)...)

	subjects := map[string]int{}
	for _, f := range all {
		subjects[f.Subject]++
		if f.Severity != vmnet.Good {
			t.Errorf("found %+v", f)
		}
	}
	for _, want := range []string{"privileges", "kernel", "uplink", "pool", "ipv6", "ndp", "firewall", "dns", "guest"} {
		if subjects[want] == 0 {
			t.Errorf("nothing was said of %s", want)
		}
	}
	if after := kernel(t); !slices.Equal(before, after) {
		t.Errorf("left: %q, before: %q", after, before)
	}
	if get6(t, "up0", "forwarding") != "0" || get6(t, "all", "forwarding") != "0" {
		t.Error("the host still forwards")
	}
}

func TestAProofDoesNotDisturbTheNodeThatRuns(t *testing.T) {
	cfg := goodHost(t)
	n := open(t, func(c *vmnet.Config) { *c = cfg })
	l := web("a", 0, 24001)
	apply(t, n, l)
	g := newGuest(t, device(t, n, l))
	g.serve(t, 8080, "a")
	if got, err := get(t.Context(), "http://127.0.0.1:24001/"); err != nil || !strings.HasPrefix(got, "a") {
		t.Fatalf("got %q, %v; want the guest's answer", got, err)
	}

	for _, f := range prove(t, cfg) {
		if f.Severity != vmnet.Good {
			t.Errorf("found %+v", f)
		}
	}

	if err := g.dialFor("198.51.100.1:24001"); err != nil {
		t.Errorf("after the proof: %v, want a connection", err)
	}
}

// foreignChain makes a chain of somebody else that drops by its policy what
// its one rule does not accept: what comes by the loopback device.
func foreignChain(t *testing.T, family nftables.TableFamily, table, name string, hook *nftables.ChainHook) (accept func(device string)) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	policy := nftables.ChainPolicyDrop
	tab := c.AddTable(&nftables.Table{Family: family, Name: table})
	ch := c.AddChain(&nftables.Chain{
		Table: tab, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	c.AddChain(&nftables.Chain{Table: tab, Name: "aleph-supervisor-filter"})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DelTable(tab)
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	})
	return func(device string) {
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			c.AddRule(&nftables.Rule{Table: tab, Chain: ch, Exprs: []expr.Any{
				&expr.Meta{Key: key, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(device)},
				&expr.Verdict{Kind: expr.VerdictAccept},
			}})
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRulesOfOthersThatStopMachinesAreFound(t *testing.T) {
	cfg := goodHost(t)
	accept := foreignChain(t, nftables.TableFamilyIPv4, "filter", "FORWARD", nftables.ChainHookForward)
	has := func(all []vmnet.Finding, severity vmnet.Severity, subject, text string) bool {
		return slices.ContainsFunc(all, func(f vmnet.Finding) bool {
			return f.Severity == severity && f.Subject == subject && strings.Contains(f.What, text) && f.Why != "" && f.Do != ""
		})
	}

	checked := vmnet.Check(t.Context(), cfg)

	if !has(checked, vmnet.Warning, "firewall", "chain FORWARD of table ip filter drops") {
		t.Errorf("found %+v, want the chain that drops", checked)
	}
	if !has(checked, vmnet.Warning, "firewall", "chains of aleph-vm") {
		t.Errorf("found %+v, want the chains of aleph-vm", checked)
	}
	if proved := prove(t, cfg); !has(proved, vmnet.Fatal, "guest", "over IPv4") {
		t.Errorf("found %+v, want that a machine reaches nobody", proved)
	}
	// What the finding says to do helps, and the rules of others stay.
	accept("al")
	for _, f := range prove(t, cfg) {
		if f.Severity != vmnet.Good {
			t.Errorf("found %+v", f)
		}
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil || len(chains) != 2 {
		t.Errorf("%d chains of others, %v; want 2", len(chains), err)
	}
}

func TestWhatIsMissingIsFound(t *testing.T) {
	cfg := vmnet.DefaultConfig()
	cfg.Name, cfg.IPv6Pool, cfg.Nameservers = "test", "fc00:1:2:3::/64", []string{"192.0.2.1"}
	addAddress(t, "lan0", "172.16.0.1/16")

	all := vmnet.Check(t.Context(), cfg)

	for subject, text := range map[string]string{
		"uplink": "no default route of IPv4", "ipv6": "no default route of IPv6", "pool": "172.16.0.0/20 overlaps 172.16.0.0/16", "dns": "192.0.2.1 does not answer",
	} {
		if !slices.ContainsFunc(all, func(f vmnet.Finding) bool {
			return f.Subject == subject && f.Severity != vmnet.Good && strings.Contains(f.What, text) && f.Why != "" && f.Do != ""
		}) {
			t.Errorf("found %+v, want of %s that %q", all, subject, text)
		}
	}
}

func TestSettingsThatCannotWorkAreFound(t *testing.T) {
	cfg := vmnet.DefaultConfig()
	cfg.Pool = "nowhere"
	if all := vmnet.Check(t.Context(), cfg); len(all) != 1 || all[0].Severity != vmnet.Fatal || !strings.Contains(all[0].What, "nowhere") {
		t.Errorf("found %+v, want the pool", all)
	}
	cfg = vmnet.DefaultConfig()
	cfg.Mode = vmnet.User
	if all := vmnet.Check(t.Context(), cfg); len(all) != 1 || all[0].Severity != vmnet.Warning {
		t.Errorf("found %+v, want what user mode means", all)
	}
}
