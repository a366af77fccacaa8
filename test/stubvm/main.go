// Command stubvm stands in for QEMU where thousands of machines are started: it
// takes QEMU's command line, holds what QEMU would hold (sockets, disks with QEMU's
// own locks, a TAP device or forwarded ports), speaks as much of QMP as the
// driver does, and plays the guest: its agent, or a function that answers calls.
// No guest code is executed. Build it and name it in [qemu] binary.
//
// The guest does by itself what a signal tells it: SIGUSR1 powers off, SIGUSR2
// panics, SIGHUP resets.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
)

// version is what QEMU would say of itself.
const version = "QEMU emulator version 10.0.0 (stubvm)"

// Why a machine ends, in QEMU's words.
const (
	guestShutdown = "guest-shutdown"
	guestReset    = "guest-reset"
	guestPanic    = "guest-panic"
	hostQuit      = "host-qmp-quit"
	hostSignal    = "host-signal"
)

func main() {
	runtime.GOMAXPROCS(1) // Many run at a time, and each does next to nothing.
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stubvm:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if slices.Contains(args, "--version") {
		_, err := fmt.Fprintln(out, version)
		return err
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if strings.Contains(o.kernelArgs, agent.ProbeArgument) {
		if o.accel != "tcg" {
			return fmt.Errorf("there is no %s", o.accel)
		}
		_, err := fmt.Fprintln(out, agent.ProbeMarker)
		return err
	}
	m := &machine{options: o, over: make(chan string, 1), born: time.Now()}
	if err := m.hold(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	if err := m.serve(); err != nil {
		return err
	}
	var why string
	select {
	case why = <-m.over:
	case s := <-signals:
		why = reasonOf(s)
	}
	m.qmp.tell("SHUTDOWN", map[string]any{"guest": strings.HasPrefix(why, "guest-"), "reason": why})
	return nil
}

func reasonOf(s os.Signal) string {
	switch s {
	case syscall.SIGUSR1:
		return guestShutdown
	case syscall.SIGUSR2:
		return guestPanic
	case syscall.SIGHUP:
		return guestReset
	}
	return hostSignal
}

// options are the parts of the command line that count here.
type options struct {
	name, accel, kernelArgs string
	console                 string
	sockets                 map[string]string // Paths by the names of their character devices.
	drives                  []drive
	tap                     string
	forwards                []forward
}

type forward struct{ protocol, address string }

// parse reads QEMU's command line. What it does not know is passed over.
func parse(args []string) (options, error) {
	o := options{sockets: map[string]string{}}
	for i := 0; i+1 < len(args); i++ {
		value := args[i+1]
		switch args[i] {
		case "-name":
			o.name = value
		case "-accel":
			o.accel = value
		case "-append":
			o.kernelArgs = value
		case "-chardev":
			kind, f := fieldsOf(value)
			switch kind {
			case "socket":
				o.sockets[f["id"]] = f["path"]
			case "file":
				o.console = f["path"]
			}
		case "-blockdev":
			_, f := fieldsOf(value)
			o.drives = append(o.drives, drive{node: f["node-name"], path: f["file.filename"], format: f["driver"], readOnly: f["read-only"] == "on"})
		case "-netdev":
			if err := o.parseNet(value); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

func (o *options) parseNet(value string) error {
	kind, f := fieldsOf(value)
	if kind == "tap" {
		o.tap = f["ifname"]
	}
	for part := range strings.SplitSeq(value, ",") {
		rule, ok := strings.CutPrefix(part, "hostfwd=")
		if !ok {
			continue
		}
		protocol, rest, _ := strings.Cut(rule, ":")
		end := strings.LastIndex(rest, "-:")
		if end < 0 {
			return fmt.Errorf("Invalid host forwarding rule '%s'", rule) //nolint:staticcheck // QEMU's own words.
		}
		o.forwards = append(o.forwards, forward{protocol, rest[:end]})
	}
	return nil
}

// fieldsOf splits "kind,key=value,…"; without a kind the first is a field too.
func fieldsOf(value string) (kind string, fields map[string]string) {
	fields = map[string]string{}
	for i, part := range strings.Split(value, ",") {
		k, v, isField := strings.Cut(part, "=")
		if !isField && i == 0 {
			kind = part
			continue
		}
		fields[k] = v
	}
	return kind, fields
}

// machine is what runs.
type machine struct {
	options

	qmp  monitor
	over chan string // Gets why the machine ends.
	born time.Time
	held []io.Closer // Open until the process ends.

	mu    sync.Mutex
	calls int // guarded by mu
	isSet bool
}

// end ends the machine; only the first reason counts.
func (m *machine) end(why string) {
	select {
	case m.over <- why:
	default:
	}
}

// hold takes what the machine has of the host, or fails as QEMU does.
func (m *machine) hold() error {
	for i := range m.drives {
		f, err := m.drives[i].open()
		if err != nil {
			return err
		}
		m.held = append(m.held, f)
	}
	if m.tap != "" {
		f, err := openTap(m.tap)
		if err != nil {
			return err
		}
		m.held = append(m.held, f)
	}
	for _, f := range m.forwards {
		l, err := m.forward(f)
		if err != nil {
			return fmt.Errorf("Could not set up host forwarding rule '%s:%s': %w", f.protocol, f.address, err) //nolint:staticcheck // QEMU's own words.
		}
		m.held = append(m.held, l)
	}
	if m.console == "" {
		return nil
	}
	f, err := os.OpenFile(m.console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	m.held = append(m.held, f)
	_, err = fmt.Fprintf(f, "stubvm: machine %s is up, ready after %d ms\n", m.name, time.Since(m.born).Milliseconds())
	return err
}

// forward answers at a forwarded port, as an SSH server would begin to.
func (m *machine) forward(f forward) (io.Closer, error) {
	if f.protocol == "udp" {
		return net.ListenPacket("udp", f.address) //nolint:noctx // As long as the process.
	}
	l, err := net.Listen("tcp", f.address) //nolint:noctx // As long as the process.
	if err != nil {
		return nil, err
	}
	go each(l, func(c net.Conn) { _, _ = fmt.Fprintf(c, "SSH-2.0-stubvm_%.12s\r\n", m.name) })
	return l, nil
}

// serve opens the sockets and answers at them.
func (m *machine) serve() error {
	m.qmp.machine = m
	handlers := map[string]func(net.Conn){"qmp": m.qmp.serve, "agent": m.serveAgent, "qga": silent, "streams": m.serveStreams}
	for id, path := range m.sockets {
		handle, ok := handlers[id]
		if !ok {
			continue
		}
		l, err := net.Listen("unix", filepath.Clean(path)) //nolint:noctx // As long as the process.
		if err != nil {
			return fmt.Errorf("listen at %s: %w", path, err)
		}
		// One connection after another, as QEMU's character devices have it.
		go each(l, handle)
	}
	return nil
}

// each handles connections one after another.
func each(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		handle(c)
		c.Close()
	}
}

// silent is a port that nobody in the guest has opened.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
