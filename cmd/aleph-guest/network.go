package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

// setUpNetwork gives the machine's device its addresses and default routes.
func setUpNetwork(n cloudinit.Network) error {
	name, err := deviceByMAC("/sys/class/net", n.MAC)
	if err != nil {
		return err
	}
	if err := setAddress(name, n.Address); err != nil {
		return err
	}
	if err := linkUp(name); err != nil {
		return err
	}
	if n.Address6.IsValid() {
		if err := setUpIPv6(name, n.Address6, n.Gateway6); err != nil {
			return err
		}
	}
	if !n.Gateway.IsValid() {
		return nil
	}
	return addDefaultRoute(n.Gateway)
}

// deviceByMAC finds the name of the device with the address; "" finds the
// first that is not the loopback.
func deviceByMAC(sys, mac string) (string, error) {
	devices, err := os.ReadDir(sys)
	if err != nil {
		return "", fmt.Errorf("list network devices: %w", err)
	}
	for _, d := range devices {
		if d.Name() == "lo" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(sys, d.Name(), "address"))
		if err != nil {
			return "", fmt.Errorf("read address of %s: %w", d.Name(), err)
		}
		if mac == "" || strings.EqualFold(strings.TrimSpace(string(raw)), mac) {
			return d.Name(), nil
		}
	}
	return "", fmt.Errorf("no network device has the address %s", mac)
}

// inetSocket opens the socket that device ioctls go through.
func inetSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	return fd, nil
}

func linkUp(name string) error {
	fd, err := inetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

func setAddress(name string, p netip.Prefix) error {
	fd, err := inetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, set := range []struct {
		request uint
		value   []byte
	}{
		{unix.SIOCSIFADDR, p.Addr().AsSlice()},
		{unix.SIOCSIFNETMASK, net.CIDRMask(p.Bits(), 32)},
	} {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return fmt.Errorf("give %s to %s: %w", p, name, err)
		}
		if err := ifr.SetInet4Addr(set.value); err != nil {
			return fmt.Errorf("give %s to %s: %w", p, name, err)
		}
		if err := unix.IoctlIfreq(fd, set.request, ifr); err != nil {
			return fmt.Errorf("give %s to %s: %w", p, name, err)
		}
	}
	return nil
}

// rtentry is the kernel's struct rtentry on 64-bit machines.
type rtentry struct {
	_            uint64
	dst, gw, net unix.RawSockaddrInet4
	flags        uint16
	_            int16
	_            uint64
	_            uintptr
	metric       int16
	dev          uintptr
	mtu, window  uint64
	irtt         uint16
}

const (
	routeUp      = 1 // RTF_UP
	routeGateway = 2 // RTF_GATEWAY
)

func addDefaultRoute(gateway netip.Addr) error {
	fd, err := inetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	family := unix.RawSockaddrInet4{Family: unix.AF_INET}
	r := rtentry{dst: family, gw: family, net: family, flags: routeUp | routeGateway}
	r.gw.Addr = gateway.As4()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("add default route by %s: %w", gateway, errno)
	}
	return nil
}
