package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setUpIPv6 gives the device its IPv6 address and default route. The address is
// nobody else's, so the kernel need not ask around for a second first, and no
// router tells the machine of others.
func setUpIPv6(name string, address netip.Prefix, gateway netip.Addr) error {
	for _, key := range []string{"accept_dad", "accept_ra"} {
		path := filepath.Join("/proc/sys/net/ipv6/conf", name, key)
		err := os.WriteFile(path, []byte("0"), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // The image's kernel has no IPv6, but the machine runs.
		}
		if err != nil {
			return fmt.Errorf("turn off %s of %s: %w", key, name, err)
		}
	}
	index, err := deviceIndex(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	a := in6Ifreq{addr: address.Addr().As16(), prefix: uint32(address.Bits()), index: index}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return fmt.Errorf("give %s to %s: %w", address, name, errno)
	}
	if !gateway.IsValid() {
		return nil
	}
	r := in6Rtmsg{gateway: gateway.As16(), metric: 1, flags: routeUp | routeGateway, index: index}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("add default route by %s: %w", gateway, errno)
	}
	return nil
}

// in6Ifreq is the kernel's struct in6_ifreq.
type in6Ifreq struct {
	addr   [16]byte
	prefix uint32
	index  int32
}

// in6Rtmsg is the kernel's struct in6_rtmsg on 64-bit machines.
type in6Rtmsg struct {
	_, _    [16]byte // Destination and source: everything.
	gateway [16]byte
	_       uint32 // Type.
	_, _    uint16 // Lengths of destination and source.
	metric  uint32
	_       uint64 // Info.
	flags   uint32
	index   int32
}

// deviceIndex returns the kernel's number of a device.
func deviceIndex(name string) (int32, error) {
	fd, err := inetSocket()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("find the number of %s: %w", name, err)
	}
	return int32(ifr.Uint32()), nil
}
