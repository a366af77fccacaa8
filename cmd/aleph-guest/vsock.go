package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// virtioVsock is the number of the virtio device that carries vsocks.
const virtioVsock = "0x0013"

// hasVsock reports whether the machine has the device.
func hasVsock(sys string) bool {
	devices, err := filepath.Glob(filepath.Join(sys, "bus/virtio/devices/*/device"))
	return err == nil && slices.ContainsFunc(devices, func(d string) bool {
		raw, err := os.ReadFile(d)
		return err == nil && strings.TrimSpace(string(raw)) == virtioVsock
	})
}

// channelOf names the drivers of the device that carries streams, where they are
// not needed anyway.
func channelOf(sys string) string {
	if hasVsock(sys) {
		return "vsock"
	}
	return ""
}

// vsockStreams are streams of the kernel.
type vsockStreams struct{}

func (vsockStreams) Dial(_ context.Context, port uint32) (net.Conn, error) {
	c, err := vsock.Dial(vsock.Host, port, nil)
	if err != nil {
		return nil, fmt.Errorf("reach port %d of the host: %w", port, err)
	}
	return c, nil
}

// Listen listens at any address of the machine, which is another one in a copy.
func (vsockStreams) Listen(port uint32) (net.Listener, error) {
	return vsock.ListenContextID(unix.VMADDR_CID_ANY, port, nil)
}

func (vsockStreams) Run(ctx context.Context, began func()) {
	began()
	<-ctx.Done()
}
