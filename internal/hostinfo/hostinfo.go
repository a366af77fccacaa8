// Package hostinfo says what the machine is that a node runs on: how much of it is
// in use, what it can do, which GPUs may be lent, and whether it reaches the
// Internet. All is read from /proc and /sys, which needs neither root nor tools.
package hostinfo

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options is what a Host cannot find out itself, and where it looks.
type Options struct {
	// Root is the file system of the host; nil is that at "/".
	Root fs.FS
	// Disk returns what machines may have of the disk, in bytes, less what is
	// promised already. nil takes the figures of the file system of DataDir.
	Disk    func(ctx context.Context) (total, available int64, err error)
	DataDir string
	// GPU says what the network calls a device, by its id like 10de:27b0, and
	// whether it is one of those that machines may ask for. nil knows none.
	GPU func(ctx context.Context, id string) (model string, compatible bool)
	// UsedGPUs returns the PCI addresses that machines have. nil is none.
	UsedGPUs func(ctx context.Context) ([]string, error)
	// Domain is the name of the node, which must resolve.
	Domain string
	// Targets is what must be reached; the zero value takes DefaultTargets.
	Targets Targets
}

// Host is the machine that the node runs on. It is safe for concurrent use.
type Host struct {
	o    Options
	root fs.FS
	now  func() time.Time

	names      sync.Map // Of devices, by id, as they were found once.
	once       sync.Once
	capability Capability // Set by once.
}

// New returns the host as it is.
func New(o Options) *Host {
	h := &Host{o: o, root: o.Root, now: time.Now}
	if h.root == nil {
		h.root = os.DirFS("/")
	}
	if h.o.Targets.isZero() {
		h.o.Targets = DefaultTargets()
	}
	return h
}

// read returns a small file without the space around it, "" if it cannot be read.
func (h *Host) read(name string) string {
	raw, err := fs.ReadFile(h.root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// number returns the number in a small file, 0 if there is none.
func (h *Host) number(name string) float64 {
	n, err := strconv.ParseFloat(h.read(name), 64)
	if err != nil {
		return 0
	}
	return n
}

// list returns the names in a folder.
func (h *Host) list(name string) []string {
	entries, err := fs.ReadDir(h.root, name)
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// disk returns the figures of the disk, in bytes.
func (h *Host) disk(ctx context.Context) (total, available int64, err error) {
	if h.o.Disk != nil {
		return h.o.Disk(ctx)
	}
	var st syscall.Statfs_t
	dir := h.o.DataDir
	if dir == "" {
		dir = "/"
	}
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// Targets is what a host must reach.
type Targets struct {
	EgressIPv4, EgressIPv6 string   // URLs with an address of the family; any answer is one.
	DNS                    string   // Name that has addresses of both families.
	HTTP                   []string // URLs with a name; the first that answers is enough.
}

// DefaultTargets are those of the reference.
func DefaultTargets() Targets {
	return Targets{
		EgressIPv4: "https://1.1.1.1/", EgressIPv6: "https://[2606:4700:4700::1111]/", DNS: "example.org",
		HTTP: []string{"http://detectportal.firefox.com/success.txt", "http://connectivity-check.ubuntu.com/", "http://www.gstatic.com/generate_204"},
	}
}

func (t Targets) isZero() bool {
	return t.EgressIPv4 == "" && t.EgressIPv6 == "" && t.DNS == "" && len(t.HTTP) == 0
}

// Reach is what works by one family of addresses.
type Reach struct {
	Egress bool `json:"egress"` // An address answers.
	DNS    bool `json:"dns"`    // A name of others resolves.
	Domain bool `json:"domain"` // The node's own name resolves.
	HTTP   bool `json:"http"`   // A name of others answers.
}

// Connectivity is what works by both families.
type Connectivity struct {
	IPv4 Reach `json:"ipv4"`
	IPv6 Reach `json:"ipv6"`
}

// reachTimeout bounds each attempt.
const reachTimeout = 5 * time.Second

// Connectivity tries what must work, all at once.
func (h *Host) Connectivity(ctx context.Context) *Connectivity {
	var c Connectivity
	var work sync.WaitGroup
	for _, family := range []struct {
		of       *Reach
		n        string
		egressTo string
	}{{&c.IPv4, "4", h.o.Targets.EgressIPv4}, {&c.IPv6, "6", h.o.Targets.EgressIPv6}} {
		work.Go(func() { family.of.Egress = answers(ctx, family.n, family.egressTo) })
		work.Go(func() { family.of.DNS = resolves(ctx, family.n, h.o.Targets.DNS) })
		work.Go(func() { family.of.Domain = resolves(ctx, family.n, h.o.Domain) })
		work.Go(func() {
			for _, to := range h.o.Targets.HTTP {
				if family.of.HTTP = answers(ctx, family.n, to); family.of.HTTP {
					return
				}
			}
		})
	}
	work.Wait()
	return &c
}

// IPv6 reports whether the host reaches the Internet by IPv6.
func (h *Host) IPv6(ctx context.Context) bool { return answers(ctx, "6", h.o.Targets.EgressIPv6) }

// answers reports whether anything answers at a URL by a family of addresses.
func answers(ctx context.Context, family, to string) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp"+family, addr)
		},
		DisableKeepAlives: true,
	}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to, http.NoBody)
	if err != nil {
		return false
	}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return true
}

func resolves(ctx context.Context, family, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip"+family, name)
	return err == nil && len(addrs) > 0
}

// GPU is a device that is kept for machines.
type GPU struct {
	Vendor      string `json:"vendor"` // NVIDIA, AMD or Intel.
	Model       string `json:"model,omitempty"`
	DeviceName  string `json:"device_name"`
	DeviceClass string `json:"device_class"` // 0300 or 0302
	PCIHost     string `json:"pci_host"`     // Like 01:00.0.
	DeviceID    string `json:"device_id"`    // Like 10de:27b0.
	Compatible  bool   `json:"compatible"`
}

const pciDir = "sys/bus/pci/devices"

// vendorOf is what the network calls the makers of GPUs, "" for others.
func vendorOf(id string) string {
	switch id {
	case "10de":
		return "NVIDIA"
	case "1002":
		return "AMD"
	case "8086":
		return "Intel"
	default:
		return ""
	}
}

// GPUs returns the devices that are kept for machines: those of the driver
// vfio-pci.
func (h *Host) GPUs(ctx context.Context) []GPU {
	found := []GPU{}
	for _, addr := range h.list(pciDir) {
		dir := path.Join(pciDir, addr)
		class := strings.TrimPrefix(h.read(dir+"/class"), "0x")
		if len(class) < 4 || class[:4] != "0300" && class[:4] != "0302" || h.driver(dir) != "vfio-pci" {
			continue
		}
		vendor, device := strings.TrimPrefix(h.read(dir+"/vendor"), "0x"), strings.TrimPrefix(h.read(dir+"/device"), "0x")
		if vendorOf(vendor) == "" {
			continue
		}
		g := GPU{
			Vendor: vendorOf(vendor), DeviceName: h.deviceName(vendor, device), DeviceClass: class[:4],
			PCIHost: strings.TrimPrefix(addr, "0000:"), DeviceID: vendor + ":" + device,
		}
		if h.o.GPU != nil {
			g.Model, g.Compatible = h.o.GPU(ctx, g.DeviceID)
		}
		found = append(found, g)
	}
	return found
}

// driver is the name of the driver of a device.
func (h *Host) driver(dir string) string {
	to, err := fs.ReadLink(h.root, dir+"/driver")
	if err != nil {
		return ""
	}
	return path.Base(to)
}

// deviceName is what a device is called.
func (h *Host) deviceName(vendor, device string) string {
	id := vendor + ":" + device
	if name, known := h.names.Load(id); known {
		return name.(string) //nolint:errcheck // There are no others.
	}
	name := h.lookUp(vendor, device)
	h.names.Store(id, name)
	return name
}

// lookUp looks a device up in the list that distributions have, and names it by its
// number where there is none.
func (h *Host) lookUp(vendor, device string) string {
	for _, file := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"} {
		raw, err := fs.ReadFile(h.root, file)
		if err != nil {
			continue
		}
		inVendor := false
		for line := range strings.Lines(string(raw)) {
			switch {
			case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" || strings.HasPrefix(line, "\t\t"):
			case !strings.HasPrefix(line, "\t"):
				inVendor = strings.HasPrefix(line, vendor+" ")
			case inVendor:
				if name, ok := strings.CutPrefix(line, "\t"+device+" "); ok {
					return strings.TrimSpace(name)
				}
			}
		}
	}
	return "Device " + device
}
