//go:build !machine

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// takeReseed makes this copy of a machine its own.
func (f *function) takeReseed(ctx context.Context, c net.Conn) {
	defer c.Close()
	r, err := words.ReadReseed(bufio.NewReader(c))
	if err == nil {
		err = f.reseed(ctx, r)
	}
	f.answer(c, err)
}

func (f *function) reseed(ctx context.Context, r words.Reseed) error {
	if err := seedKernel(r.Seed); err != nil {
		return err
	}
	if r.Time != 0 {
		ts := unix.NsecToTimespec(r.Time)
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			return fmt.Errorf("set clock: %w", err)
		}
	}
	if r.Hostname != "" {
		if err := f.setHostname(r.Hostname); err != nil {
			return err
		}
	}
	n := functionNetwork{mac: r.MAC, ip: r.IP, route: r.Route, ipv6: r.IPv6, gateway6: r.IPv6Gateway, dns: r.DNSServers}
	if err := n.setUp(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	f.mu.Lock()
	p := f.program
	f.mu.Unlock()
	switch {
	case p != nil:
		return p.reseed(ctx)
	case f.shim != nil:
		return f.shim.reseed(ctx)
	}
	return nil
}

const (
	addEntropy    = 0x40085203 // RNDADDENTROPY
	reseedEntropy = 0x5207     // RNDRESEEDCRNG
)

// seedKernel mixes the seed into the kernel's generator and makes it begin anew
// from there, so that nothing of what copies share is drawn any more.
func seedKernel(seed []byte) error {
	random, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the kernel's generator: %w", err)
	}
	defer random.Close()
	// struct rand_pool_info: bits, bytes, and the bytes.
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(seed)))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))
	info = append(info, seed...)
	if err := ioctl(random, addEntropy, unsafe.Pointer(&info[0])); err != nil {
		return fmt.Errorf("seed the kernel's generator: %w", err)
	}
	if err := ioctl(random, reseedEntropy, nil); err != nil {
		return fmt.Errorf("reseed the kernel's generator: %w", err)
	}
	return nil
}
