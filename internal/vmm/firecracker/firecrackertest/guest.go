package firecrackertest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// bootBusy is the time of the processor that a boot takes: more than the unit in
// which the kernel counts it.
const bootBusy = 30 * time.Millisecond

// guestMachine plays what runs inside.
type guestMachine struct {
	v      *vmmProcess
	args   []string
	booted chan struct{}
	once   sync.Once

	mu       sync.Mutex
	hostname string // guarded by mu
}

func newGuest(v *vmmProcess, args []string) *guestMachine {
	return &guestMachine{v: v, args: args, booted: make(chan struct{})}
}

func (g *guestMachine) has(arg string) bool { return slices.Contains(g.args, arg) }

// end ends the machine, as a guest that restarts does.
func (g *guestMachine) end() { g.once.Do(func() { g.v.ended <- nil }) }

// keys is Ctrl-Alt-Del.
func (g *guestMachine) keys() {
	if !g.has(Deaf) {
		g.end()
	}
}

// run boots.
func (g *guestMachine) run() {
	if g.v.loaded {
		close(g.booted)
		fmt.Fprintln(g.v.console, "resumed")
		return
	}
	if g.has(Broken) {
		g.once.Do(func() { g.v.ended <- errors.New("failed to run the vCPU: KVM exit FailEntry") })
		return
	}
	fmt.Fprintln(g.v.console, "Linux version 6.1 (played)")
	var used unix.Rusage
	for used.Utime.Nano() < int64(bootBusy) && unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		_ = sha256.Sum256(make([]byte, 4096)) // Busy.
	}
	if g.has(agent.ProbeArgument) {
		fmt.Fprintln(g.v.console, agent.ProbeMarker)
		g.end()
		return
	}
	if g.has(Panics) {
		fmt.Fprintln(g.v.console, "Kernel panic - not syncing: played")
		g.end()
		return
	}
	g.readSeed()
	close(g.booted)
	fmt.Fprintln(g.v.console, Greeting)
	if g.has(guest.FunctionArgument) {
		g.callHost()
	}
}

// readSeed takes the host name from the drive that has one.
func (g *guestMachine) readSeed() {
	for _, id := range g.v.order {
		f, err := os.Open(g.v.path(g.v.drives[id].text("path_on_host")))
		if err != nil {
			continue
		}
		files, err := cloudinit.ReadISO(f)
		f.Close()
		if err != nil {
			continue
		}
		if seed, err := cloudinit.Parse(files); err == nil {
			g.mu.Lock()
			g.hostname = seed.Hostname
			g.mu.Unlock()
		}
	}
}

// callHost says on the host's port that the guest is up.
func (g *guestMachine) callHost() {
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "unix", fmt.Sprintf("%s_%d", g.v.vsockPath, guest.PortRun)) //nolint:forbidigo // A process of its own.
	if err != nil {
		fmt.Fprintln(g.v.console, "nobody listens:", err)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "up") // The host may have gone.
}

// openVsock listens for the host's streams.
func (v *vmmProcess) openVsock(name string) error {
	v.vsockPath = v.path(name)
	l, err := net.Listen("unix", v.vsockPath) //nolint:noctx // It lives as long as the process.
	if err != nil {
		return fmt.Errorf("cannot create the vsock device: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go v.stream(conn)
		}
	}()
	return nil
}

// stream takes one stream of the host.
func (v *vmmProcess) stream(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	port, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(line, "CONNECT "), "\n"), 10, 32)
	if err != nil || !strings.HasPrefix(line, "CONNECT ") {
		return
	}
	v.mu.Lock()
	g, on := v.guest, v.state == "Running"
	v.mu.Unlock()
	if g == nil || !on {
		return
	}
	select {
	case <-g.booted:
	default:
		return // Nobody listens yet.
	}
	rw := struct {
		io.Reader
		io.Writer
	}{r, conn}
	switch uint32(port) {
	case agent.VsockPort:
		if g.has(Mute) || g.has(guest.FunctionArgument) {
			return
		}
		_, _ = io.WriteString(conn, "OK 1073741824\n")
		_ = agent.Serve(context.Background(), rw, g) //nolint:forbidigo // A process of its own.
	case guest.PortRun:
		if !g.has(guest.FunctionArgument) {
			return
		}
		_, _ = io.WriteString(conn, "OK 1073741825\n")
		_, _ = io.Copy(conn, r) // Says back what it hears.
	}
}

// Ready implements agent.Handler.
func (g *guestMachine) Ready(context.Context) error { return nil }

// Info implements agent.Handler.
func (g *guestMachine) Info() agent.Info {
	g.mu.Lock()
	defer g.mu.Unlock()
	return agent.Info{Hostname: g.hostname, Kernel: "6.1", Timings: map[string]int64{"init": 1, "ready": 2}}
}

// Shutdown implements agent.Handler.
func (g *guestMachine) Shutdown() { g.keys() }

var _ agent.Handler = (*guestMachine)(nil)
