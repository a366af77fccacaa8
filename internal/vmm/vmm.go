package vmm

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

// Bounds of a Spec. They are those of an INSTANCE message.
const (
	vcpusMax     = 256
	memoryMiBMin = 64 // A Linux guest does not start with less.
	memoryMiBMax = 1 << 20
	diskMiBMax   = 2 << 20
	idChars      = 64 // An item hash in hex.
	forwardsMax  = 128
	// volumesMax bounds the further drives: a machine has 32 places for
	// devices, of which root, seed, network, channel and chipset take eight.
	volumesMax = 24
)

// Accelerator is how guest code is executed.
type Accelerator string

// The accelerators.
const (
	KVM Accelerator = "kvm" // In hardware.
	TCG Accelerator = "tcg" // By translation: works everywhere, slower.
)

// Capabilities are what a driver can do on this host.
type Capabilities struct {
	Driver      string      `json:"driver"`
	Version     string      `json:"version"` // Of the hypervisor.
	Accelerator Accelerator `json:"accelerator"`
	Cgroup      bool        `json:"cgroup"`          // CPU and memory limits by cgroup v2 work.
	Notes       []string    `json:"notes,omitempty"` // What is missing and why, one sentence each.
}

// Protocol is a transport protocol of a forwarded port.
type Protocol string

// The protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Forward makes a port of the guest reachable on the host. A hypervisor only
// does this itself in user-mode networking.
type Forward struct {
	Protocol  Protocol   `json:"protocol"`
	HostIP    netip.Addr `json:"host_ip"`
	HostPort  int        `json:"host_port"`
	GuestPort int        `json:"guest_port"`
}

// NetKind is the kind of a machine's network device.
type NetKind string

// The kinds of network device.
const (
	NetNone NetKind = "none" // No device.
	NetTap  NetKind = "tap"  // A TAP device that exists already.
	NetUser NetKind = "user" // User-mode networking inside the hypervisor.
)

// NetDevice is a machine's network device. Package vmnet plans it.
type NetDevice struct {
	Kind     NetKind   `json:"kind"`
	MAC      string    `json:"mac,omitempty"`
	Tap      string    `json:"tap,omitempty"`      // NetTap: name of the device.
	Forwards []Forward `json:"forwards,omitempty"` // NetUser: at most 128.
	// Egress lets a NetUser guest open connections. It then also reaches the
	// host's own loopback services at the gateway address, so it is off
	// unless the operator says otherwise.
	Egress bool `json:"egress,omitempty"`
}

// Volume is a further drive of a machine. In the guest the first one follows
// the seed, or the root disk where there is no seed.
type Volume struct {
	Path     string `json:"path"` // Absolute.
	Format   Format `json:"format"`
	ReadOnly bool   `json:"read_only"`
}

// Spec is a machine to start.
type Spec struct {
	ID        string // 64 lowercase hex digits, the item hash of the INSTANCE message.
	VCPUs     int
	MemoryMiB int
	DiskMiB   int // Size of the disk that the guest sees; at least the image's.
	Image     Image
	Dir       string // The machine's own directory; made when absent. See the package comment.
	Seed      cloudinit.Seed
	Net       NetDevice
	Volumes   []Volume // At most 24.
	// Function is set for a machine that answers calls: the image's disk
	// itself is its root, read only and shared with others. It has no disk and
	// no seed of its own, and is configured and called by streams.
	Function bool
	// Confidential is set for a machine whose memory the host cannot read; only a
	// Guard starts it.
	Confidential *Confidential
	// GPUs are devices of the host that the machine has for itself; at most 8.
	GPUs []GPU
}

// Driver runs machines with one hypervisor.
type Driver interface {
	// Name returns the driver's name, as it appears in capacity ads: "qemu".
	Name() string

	// Probe finds out what works here by booting probe, an image with a
	// kernel and an initrd that holds aleph-guest, once per boot of the host;
	// later calls answer from a file. A hypervisor that is missing gives
	// errs.Unavailable with a sentence for the operator.
	Probe(ctx context.Context, probe Image) (Capabilities, error)

	// Start starts the machine and returns once its process is up; Ready
	// tells when the guest is. A disk that spec.Dir already holds is used
	// again. errs.Conflict means that the machine runs already: Adopt it.
	// errs.Invalid means that this spec or image can never start,
	// errs.Exhausted that the disk is full, errs.Unavailable anything that
	// may work later. After an error no process is left, and no new file.
	Start(ctx context.Context, spec Spec) (Machine, error)

	// Adopt takes over the machine that runs in dir, started by this or an
	// earlier process. It gives errs.NotFound when no process of that machine
	// runs; the directory is then safe to Start in or to Remove.
	Adopt(ctx context.Context, dir string) (Machine, error)

	// Close lets go of all machines without stopping any.
	Close() error
}

// Machine is a running machine, or one that has ended.
type Machine interface {
	// ID returns Spec.ID.
	ID() string
	// PID returns the number of the hypervisor's process.
	PID() int
	// Accelerator returns how the guest runs.
	Accelerator() Accelerator

	// Ready returns nil when the guest's agent says that its services are up;
	// for an image without agent, when the process is up. It gives
	// errs.Unavailable when the machine ends first.
	Ready(ctx context.Context) error
	// Info asks the guest's agent about its boot. An image without agent
	// gives errs.NotFound.
	Info(ctx context.Context) (Info, error)
	// Stats returns what the process has used on the host.
	Stats(ctx context.Context) (Stats, error)

	// Done is closed when the process has ended and its disk is free.
	Done() <-chan struct{}
	// Exit tells how the process ended. It is the zero Exit before Done.
	Exit() Exit

	// Stop asks the guest to shut down, and returns nil when the process has
	// ended. A guest that has not within grace is ended as Kill does. When
	// ctx ends first, the machine may still run.
	Stop(ctx context.Context, grace time.Duration) error
	// Kill ends the process without asking the guest, and returns nil when it
	// has ended.
	Kill(ctx context.Context) error
}

// Exit is how a machine ended.
type Exit struct {
	// Reason is one sentence for a user, such as "the guest powered off".
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Asked is set when Stop or Kill was called.
	Asked bool `json:"asked"`
	// Clean is set when the guest itself shut down.
	Clean bool `json:"clean"`
}

// Stats is what a machine's process has used.
type Stats struct {
	CPU      time.Duration `json:"cpu"` // Since it started, user and system.
	RSSBytes int64         `json:"rss_bytes"`
}

// Info is what the guest's agent tells about its boot.
type Info struct {
	Hostname string `json:"hostname"`
	Kernel   string `json:"kernel"`
	// Timings are milliseconds of guest uptime at which a stage was done, for
	// example "init", "root", "network", "services", "ready".
	Timings map[string]int64 `json:"timings_ms"`
}

// Validate reports the first thing in s that no driver can start, as
// errs.Invalid.
func (s Spec) Validate() error {
	switch {
	case !isID(s.ID):
		return errs.New(errs.Invalid, "machine id %q is not 64 lowercase hex digits", s.ID)
	case s.Dir == "":
		return errs.New(errs.Invalid, "machine %s has no directory", s.ID)
	case s.VCPUs < 1 || s.VCPUs > vcpusMax:
		return errs.New(errs.Invalid, "machine has %d vCPUs, want 1 to %d", s.VCPUs, vcpusMax)
	case s.MemoryMiB < memoryMiBMin || s.MemoryMiB > memoryMiBMax:
		return errs.New(errs.Invalid, "machine has %d MiB of memory, want %d to %d", s.MemoryMiB, memoryMiBMin, memoryMiBMax)
	case s.Function:
	case s.DiskMiB < 1 || s.DiskMiB > diskMiBMax:
		return errs.New(errs.Invalid, "machine has a disk of %d MiB, want 1 to %d", s.DiskMiB, diskMiBMax)
	case int64(s.DiskMiB)<<20 < s.Image.VirtualBytes:
		return errs.New(errs.Invalid, "disk of %d MiB is smaller than its image, which has %d MiB",
			s.DiskMiB, (s.Image.VirtualBytes+1<<20-1)>>20)
	}
	if len(s.Volumes) > volumesMax {
		return errs.New(errs.Invalid, "machine has %d volumes, at most %d", len(s.Volumes), volumesMax)
	}
	if s.Confidential != nil {
		if err := s.Confidential.validate(); err != nil {
			return err
		}
	}
	for _, v := range s.Volumes {
		if !filepath.IsAbs(v.Path) || strings.ContainsAny(v.Path, ",\n") || v.Format != Raw && v.Format != Qcow2 {
			return errs.New(errs.Invalid, "volume %q of format %q, want an absolute path without commas, and raw or qcow2", v.Path, v.Format)
		}
	}
	if err := validateGPUs(s.GPUs); err != nil {
		return err
	}
	if err := s.Net.validate(); err != nil {
		return err
	}
	return s.Image.validate()
}

func (n NetDevice) validate() error {
	switch n.Kind {
	case NetNone, NetUser:
	case NetTap:
		if !isMemberName(n.Tap) {
			return errs.New(errs.Invalid, "TAP network device %q is not a device name", n.Tap)
		}
	default:
		return errs.New(errs.Invalid, "network device of kind %q, want none, tap or user", n.Kind)
	}
	if _, err := net.ParseMAC(n.MAC); n.MAC != "" && err != nil {
		return errs.New(errs.Invalid, "network device has hardware address %q", n.MAC)
	}
	if len(n.Forwards) > forwardsMax {
		return errs.New(errs.Invalid, "%d forwarded ports, at most %d", len(n.Forwards), forwardsMax)
	}
	for _, f := range n.Forwards {
		if f.Protocol != TCP && f.Protocol != UDP || !isPort(f.HostPort) || !isPort(f.GuestPort) || !f.HostIP.IsValid() {
			return errs.New(errs.Invalid, "forward %s %s:%d to port %d is not valid", f.Protocol, f.HostIP, f.HostPort, f.GuestPort)
		}
	}
	return nil
}

func isPort(p int) bool { return p >= 1 && p <= 65535 }

func isID(s string) bool {
	if len(s) != idChars {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
