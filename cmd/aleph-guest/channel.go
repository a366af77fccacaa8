package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
)

// absentPause is how often the agent looks whether a host has connected. A
// virtio port reads as ended while there is none.
const absentPause = 50 * time.Millisecond

// serveAgent answers the host until the machine ends. A machine with neither a
// vsock nor the port has a host that does not ask.
func (g *guest) serveAgent(ctx context.Context) {
	if hasVsock("/sys") {
		l, err := vsockStreams{}.Listen(agent.VsockPort)
		if err == nil {
			err = g.serveStreams(ctx, l)
		}
		g.logf("agent: %v", err)
		return
	}
	device, err := virtioPort("/sys/class/virtio-ports", agent.PortName)
	if err != nil {
		g.logf("agent: %v", err)
		return
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		g.logf("agent: open %s: %v", device, err)
		return
	}
	// A blocking file: the runtime's poller would spin while no host is there.
	port := rawFile(fd)
	for ctx.Err() == nil {
		if err := agent.Serve(ctx, port, g); err == nil {
			return
		}
		time.Sleep(absentPause)
	}
}

// serveStreams answers on every stream that the host opens.
func (g *guest) serveStreams(ctx context.Context, l net.Listener) error {
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("take stream: %w", err)
		}
		go func() {
			defer conn.Close()
			_ = agent.Serve(ctx, conn, g) // It ends with the stream.
		}()
	}
}

// virtioPort finds a port by its name.
func virtioPort(sys, name string) (string, error) {
	ports, err := filepath.Glob(filepath.Join(sys, "*", "name"))
	if err != nil {
		return "", fmt.Errorf("list virtio ports: %w", err)
	}
	for _, p := range ports {
		raw, err := os.ReadFile(p)
		if err == nil && strings.TrimSpace(string(raw)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(p))), nil
		}
	}
	return "", fmt.Errorf("no virtio port is named %s", name)
}

// rawFile reads and writes a file descriptor in the calling thread.
type rawFile int

func (f rawFile) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("read", err)
		}
		if n == 0 && len(p) > 0 {
			return 0, io.EOF
		}
		return n, nil
	}
}

func (f rawFile) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, err := unix.Write(int(f), p[done:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, os.NewSyscallError("write", err)
		}
		done += n
	}
	return len(p), nil
}
