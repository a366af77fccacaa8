package vmnet_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// addAddress makes a device of the host with an address.
func addAddress(t *testing.T, name, address string) {
	t.Helper()
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkAdd(link), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
}

// plainDevice makes a TAP device of the host that is not a machine's, and
// returns the device of a neighbour behind it.
func plainDevice(t *testing.T, name, host, neighbour string) vmnet.Device {
	t.Helper()
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	addr, err := netlink.ParseAddr(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkAdd(link), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	return vmnet.Device{TapName: name, MAC: "02:00:00:00:00:02", Address: prefix(neighbour), Gateway: prefix(host).Addr()}
}

func defaultRoute(t *testing.T, name, gateway string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
		t.Fatal(err)
	}
}

func forwardOn(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/forwarding", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// foreignTable makes a table of somebody else and returns what finds it.
func foreignTable(t *testing.T) func() error {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "foreign"})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() error {
		if _, err := c.ListTableOfFamily("foreign", nftables.TableFamilyINet); err != nil {
			return err
		}
		c.DelTable(table)
		return c.Flush()
	}
}

// roundTrip sends a request over a connection.
func roundTrip(c net.Conn, req *http.Request) (string, error) {
	req.Close = true
	if err := req.Write(c); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}
