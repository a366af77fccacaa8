//go:build !machine

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
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
	if err := seedKernel(f.random, r.Seed); err != nil {
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
	var err error
	n := functionNetwork{mac: r.MAC, ip: r.IP, route: r.Route, ipv6: r.IPv6, gateway6: r.IPv6Gateway, dns: r.DNSServers}
	if err := n.setUp(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	f.mu.Lock()
	p := f.program
	f.mu.Unlock()
	switch {
	case p != nil:
		err = p.reseed(ctx)
	case f.shim != nil:
		err = f.shim.reseed(ctx)
	}
	if err != nil || p == nil || !r.Rehearsal {
		return err
	}
	return f.rehearse(ctx, p)
}

// rehearsals is how often a call is rehearsed: Python rewrites code that has run
// some times, and then runs less of it.
const rehearsals = 16

// rehearse has everything but the program do what it does for a call.
func (f *function) rehearse(ctx context.Context, p program) error {
	ctx, cancel := context.WithTimeout(ctx, rehearseMax)
	defer cancel()
	raw, err := words.Run{Stream: true, Scope: words.Scope{
		Type: words.TypeHTTP, Path: "/", Method: "GET", QueryString: "a=b", Headers: []words.Header{{Name: []byte("host"), Value: []byte("localhost")}},
	}}.Encode()
	if err != nil {
		return err
	}
	raw = append(raw, 0, 0, 0, 0) // The end of the body.
	for n := 0; n < rehearsals && ctx.Err() == nil; n++ {
		run, host := net.Pipe()
		heard := make(chan error, 1)
		go func() {
			_, err := host.Write(raw)
			if err == nil {
				_, err = io.Copy(io.Discard, host)
			}
			heard <- errors.Join(err, host.Close())
		}()
		f.takeRunOf(ctx, rehearsed{p}, run, bufio.NewReader(run))
		if err := <-heard; err != nil {
			return fmt.Errorf("rehearse a call: %w", err)
		}
	}
	// Copies start without garbage.
	runtime.GC()
	return nil
}

// rehearsed is a program that is not called itself.
type rehearsed struct{ program }

func (r rehearsed) call(ctx context.Context, scope words.Scope, body io.Reader, to replyWriter) error {
	if s, ok := r.program.(*shim); ok {
		return s.rehearse(ctx, scope, body, to)
	}
	return to.start(http.StatusNoContent, nil)
}

const (
	addEntropy    = 0x40085203 // RNDADDENTROPY
	reseedEntropy = 0x5207     // RNDRESEEDCRNG
)

// seedKernel mixes the seed into the kernel's generator and makes it begin anew
// from there, so that nothing of what copies share is drawn any more.
func seedKernel(random *os.File, seed []byte) error {
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
