package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

const (
	rootDevice = "/dev/vda"
	seedDevice = "/dev/vdb"
	newRoot    = "/newroot"
	// deviceWait bounds how long a disk may take to appear after its driver.
	deviceWait = 10 * time.Second
	devicePoll = time.Millisecond
)

// guest is the state of the machine.
type guest struct {
	console *os.File
	reaper  *reaper
	ready   chan struct{} // Closed when the services are up.
	down    chan power    // What the machine ends with.

	mu       sync.Mutex
	hostname string           // guarded by mu
	timings  map[string]int64 // guarded by mu
	procs    []*service       // guarded by mu
}

// boot is the whole life of the machine; it does not return. A failure that
// leaves no useful machine powers it off, with the reason on the console.
func boot() {
	g := &guest{ready: make(chan struct{}), down: make(chan power, 1), timings: map[string]int64{}}
	early := mountEarly()
	g.openConsole()
	g.mark("init")
	// Ctrl-Alt-Del is a signal to us, and not the end of the machine at once.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		g.logf("keep keys from restarting: %v", err)
	}
	if early != nil {
		g.fatal(early)
	}
	if hasArgument(agent.ProbeArgument) {
		g.logf("%s", strings.TrimPrefix(agent.ProbeMarker, "aleph-guest: "))
		g.powerOff(powerOffNow)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.reaper = newReaper()
	go g.reaper.run()
	go g.watchSignals()
	bringUp := g.bringUpOf()
	go func() {
		if err := bringUp(ctx); err != nil {
			g.fatal(err)
		}
	}()
	how := <-g.down
	cancel()
	g.shutDown(how)
}

// bringUp does everything until the machine is ready.
func (g *guest) bringUp(ctx context.Context) error {
	modules, err := readModules()
	if err != nil {
		return err
	}
	if err := modules.load("virtio", busOf("/sys"), "disk"); err != nil {
		return err
	}
	g.mark("drivers")
	// The other drivers come up while the disk is mounted.
	others := make(chan error, 1)
	go func() { others <- modules.load(channelOf("/sys"), "other") }()
	if err := waitFor(rootDevice); err != nil {
		return err
	}
	seed, seedErr := readSeed(seedDevice)
	g.mark("seed")
	if err := mountRoot(); err != nil {
		return err
	}
	g.mark("mounted")
	if err := <-others; err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	g.mark("root")
	go g.serveAgent(ctx)
	if seedErr != nil {
		g.logf("no seed: %v", seedErr)
		seed = cloudinit.Seed{Hostname: "aleph"}
	}
	if err := g.configure(seed); err != nil {
		return err
	}
	g.mark("network")
	g.startServices(ctx, "/etc/aleph/services.d", seed.Variables)
	g.mark("started")
	if err := g.listenSSH(ctx); err != nil {
		g.logf("ssh: %v", err)
	}
	g.waitServices(ctx)
	g.mark("ready")
	close(g.ready)
	g.logf("ready after %d ms", g.Info().Timings["ready"])
	// Last, since a large disk takes a second; until then the image's own
	// free space must do.
	if err := growRoot(); err != nil {
		// A disk smaller than it could be is better than no machine.
		g.logf("grow root file system: %v", err)
	}
	g.mark("grown")
	return nil
}

// configure applies the seed to the machine.
func (g *guest) configure(seed cloudinit.Seed) error {
	g.mu.Lock()
	g.hostname = seed.Hostname
	g.mu.Unlock()
	if err := unix.Sethostname([]byte(seed.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := writeSeed("/", seed); err != nil {
		return err
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	if seed.Network == nil {
		return nil
	}
	if err := setUpNetwork(*seed.Network); err != nil {
		// The console and the agent still work without a network.
		g.logf("network: %v", err)
	}
	return nil
}

// mark notes the uptime at which a stage was done.
func (g *guest) mark(stage string) {
	ms := uptime().Milliseconds()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timings[stage] = ms
}

func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// logf writes a line to the console.
func (g *guest) logf(format string, args ...any) {
	fmt.Fprintf(g.console, "aleph-guest: "+format+"\n", args...)
}

// openConsole makes the console the standard streams of this process.
func (g *guest) openConsole() {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		g.console = os.Stderr
		return
	}
	for std := range 3 {
		if err := unix.Dup2(fd, std); err != nil {
			break
		}
	}
	g.console = os.NewFile(uintptr(fd), "/dev/console")
}

// fatal ends the machine with a reason.
func (g *guest) fatal(err error) {
	g.logf("cannot go on: %v", err)
	g.powerOff(powerOffNow)
}

// watchSignals takes what poweroff, reboot and the kernel tell process 1.
func (g *guest) watchSignals() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR)
	for s := range ch {
		how := powerOffNow
		if s == unix.SIGTERM || s == unix.SIGINT {
			how = rebootNow // As busybox reboot and Ctrl-Alt-Del mean it.
		}
		g.end(how)
	}
}

// end begins to end the machine; only the first call counts.
func (g *guest) end(how power) {
	select {
	case g.down <- how:
	default:
	}
}

func hasArgument(arg string) bool {
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return false
	}
	for _, a := range strings.Fields(string(raw)) {
		if a == arg {
			return true
		}
	}
	return false
}

// waitFor returns when the device is there.
func waitFor(device string) error {
	deadline := time.Now().Add(deviceWait)
	for {
		_, err := os.Stat(device)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("disk did not appear in %v: %w", deviceWait, err)
		}
		time.Sleep(devicePoll)
	}
}

// readSeed reads the seed from its disk.
func readSeed(device string) (cloudinit.Seed, error) {
	f, err := os.Open(device)
	if err != nil {
		return cloudinit.Seed{}, fmt.Errorf("open seed: %w", err)
	}
	defer f.Close()
	files, err := cloudinit.ReadISO(f)
	if err != nil {
		return cloudinit.Seed{}, err
	}
	return cloudinit.Parse(files)
}

// Ready implements agent.Handler.
func (g *guest) Ready(ctx context.Context) error {
	select {
	case <-g.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Info implements agent.Handler.
func (g *guest) Info() agent.Info {
	var u unix.Utsname
	kernel := "unknown"
	if err := unix.Uname(&u); err == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	info := agent.Info{Hostname: g.hostname, Kernel: kernel, Timings: map[string]int64{}}
	for k, v := range g.timings {
		info.Timings[k] = v
	}
	return info
}

// Shutdown implements agent.Handler.
func (g *guest) Shutdown() { g.end(powerOffNow) }
