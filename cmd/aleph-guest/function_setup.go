//go:build !machine

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	// unzippedMax bounds what a zip unpacks to. Memory ends it sooner in most
	// machines.
	unzippedMax = 4 << 30
	zipFilesMax = 200_000
	// ipv4Bits is the network of a guest, whose address comes without.
	ipv4Bits = 24
)

// setUp makes the machine what its config says, all but the program.
func (f *function) setUp(ctx context.Context, c words.Config) error {
	if err := f.setHostname(words.Hostname(c.VMHash)); err != nil {
		return err
	}
	for _, v := range c.Volumes {
		if err := f.mountVolume(v); err != nil {
			return err
		}
	}
	n := functionNetwork{ip: c.IP, route: c.Route, ipv6: c.IPv6, gateway6: c.IPv6Gateway, dns: c.DNSServers}
	if err := n.setUp(); err != nil {
		// The program still answers without a network.
		f.g.logf("network: %v", err)
	}
	if len(c.InputData) > 0 {
		if err := unzip(c.InputData, dataDir); err != nil {
			return fmt.Errorf("unpack input: %w", err)
		}
	}
	if len(c.AuthorizedKeys) > 0 {
		keys := seedFile{"root/.ssh/authorized_keys", 0o600, lines(c.AuthorizedKeys)}
		if err := keys.write("/"); err != nil {
			return err
		}
		if err := f.g.listenSSH(ctx); err != nil {
			f.g.logf("ssh: %v", err)
		}
	}
	return nil
}

func (f *function) setHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	f.g.mu.Lock()
	f.g.hostname = name
	f.g.mu.Unlock()
	for _, file := range []seedFile{
		{"etc/hostname", 0o644, name + "\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + name + "\n"},
	} {
		if err := file.write("/"); err != nil {
			return err
		}
	}
	return nil
}

// mountVolume mounts one volume.
func (f *function) mountVolume(v words.Volume) error {
	if !filepath.IsAbs(v.Mount) || filepath.Clean(v.Mount) == "/" {
		return fmt.Errorf("mount volume at %q: want an absolute path below the root", v.Mount)
	}
	if v.Device != filepath.Base(v.Device) {
		return fmt.Errorf("mount %q: want the name of a device, such as vdb", v.Device)
	}
	device := filepath.Join("/dev", v.Device)
	if err := waitFor(device); err != nil {
		return fmt.Errorf("mount volume at %s: %w", v.Mount, err)
	}
	m := mount{device, filepath.Clean(v.Mount), "squashfs", unix.MS_RDONLY, ""}
	if !v.ReadOnly {
		m.fstype, m.flags = "ext4", unix.MS_NOATIME
	}
	if err := mountAll([]mount{m}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mounts = append(f.mounts, m.target)
	return nil
}

// functionNetwork are the addresses of the only network device.
type functionNetwork struct {
	mac, ip, route, ipv6, gateway6 string
	dns                            []string
}

// setUp gives the device what is known, in place of what it had.
func (n functionNetwork) setUp() error {
	if n.ip == "" && n.ipv6 == "" && n.mac == "" {
		return nil
	}
	name, err := deviceByMAC("/sys/class/net", "")
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find network device %s: %w", name, err)
	}
	if n.mac != "" {
		if err := setMAC(link, n.mac); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	for _, family := range []struct {
		number           int
		address, gateway string
	}{{netlink.FAMILY_V4, n.ip, n.route}, {netlink.FAMILY_V6, n.ipv6, n.gateway6}} {
		if family.address == "" {
			continue
		}
		if err := setFamily(link, family.number, family.address, family.gateway); err != nil {
			return err
		}
	}
	if len(n.dns) == 0 {
		return nil
	}
	var servers []netip.Addr
	for _, s := range n.dns {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("name server: %w", err)
		}
		servers = append(servers, a)
	}
	return seedFile{"etc/resolv.conf", 0o644, resolvConf(servers)}.write("/")
}

// setMAC changes the device's own address; while it is down, since not every
// device can else.
func setMAC(link netlink.Link, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("address of device: %w", err)
	}
	if bytes.Equal(link.Attrs().HardwareAddr, hw) {
		return nil
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take device down: %w", err)
	}
	if err := netlink.LinkSetHardwareAddr(link, hw); err != nil {
		return fmt.Errorf("change address of device: %w", err)
	}
	return nil
}

// setFamily replaces the addresses and the default route of one family.
func setFamily(link netlink.Link, family int, address, gateway string) error {
	if !strings.Contains(address, "/") {
		address = fmt.Sprintf("%s/%d", address, ipv4Bits)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	// An address on a link of two needs no search for others that have it, which
	// would keep it from use for a second.
	if family == netlink.FAMILY_V6 {
		addr.Flags = unix.IFA_F_NODAD
	}
	old, err := netlink.AddrList(link, family)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range old {
		if a.Equal(*addr) || a.Scope == int(netlink.SCOPE_LINK) {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("set address %s: %w", address, err)
	}
	if gateway == "" {
		return nil
	}
	gw := net.ParseIP(gateway)
	if gw == nil {
		return fmt.Errorf("gateway %q is no address", gateway)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw, Family: family}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("set default route by %s: %w", gateway, err)
	}
	return nil
}

// startProgram unpacks and starts the program.
func (f *function) startProgram(ctx context.Context, c words.Config) (program, error) {
	variables := map[string]string{
		"ALEPH_INIT_VERSION": words.Version2, "ALEPH_ADDRESS_TO_USE": words.Hostname(c.VMHash),
		"ALEPH_API_HOST": "http://localhost", "ALEPH_API_UNIX_SOCKET": apiSocket,
		"ALEPH_REMOTE_CRYPTO_HOST": "http://localhost", "ALEPH_REMOTE_CRYPTO_UNIX_SOCKET": apiSocket,
	}
	maps.Copy(variables, c.Variables)
	switch c.Interface {
	case words.ASGI:
		return f.startASGI(ctx, c, variables)
	case words.Executable:
		if f.shim != nil {
			f.shim.kill()
		}
		path, err := placeExecutable(c, "/opt/code")
		if err != nil {
			return nil, err
		}
		e := f.g.newExecutable(path, environment(variables))
		go e.supervise(ctx)
		return e, nil
	default:
		return nil, fmt.Errorf("interface %q is neither %s nor %s", c.Interface, words.ASGI, words.Executable)
	}
}

func (f *function) startASGI(ctx context.Context, c words.Config, variables map[string]string) (program, error) {
	if f.shim == nil {
		return nil, errors.New("the runtime has no python3, which programs of the interface asgi need")
	}
	load := shimLoad{Environ: variables, Entrypoint: c.Entrypoint}
	switch c.Encoding {
	case words.Squashfs:
		load.Path = []string{words.CodeMount, "/opt/packages"}
	case words.Zip:
		load.Path = []string{"/opt", "/opt/packages"}
		if err := unzip(c.Code, "/opt"); err != nil {
			return nil, fmt.Errorf("unpack code: %w", err)
		}
	case words.Plain:
		load.Path = []string{"/opt/packages"}
		source := string(c.Code)
		load.Source = &source
	default:
		return nil, fmt.Errorf("encoding %q is not one of code", c.Encoding)
	}
	if load.Source == nil && !strings.Contains(load.Entrypoint, ":") {
		return nil, fmt.Errorf("entrypoint %q names no object, want MODULE:OBJECT", load.Entrypoint)
	}
	if err := f.shim.load(ctx, load); err != nil {
		return nil, err
	}
	return f.shim, nil
}

// placeExecutable puts the code where programs lie and returns the path of the
// one to run.
func placeExecutable(c words.Config, dir string) (string, error) {
	if !filepath.IsLocal(c.Entrypoint) {
		return "", fmt.Errorf("entrypoint %q leads out of the code", c.Entrypoint)
	}
	path := filepath.Join(dir, c.Entrypoint)
	switch c.Encoding {
	case words.Squashfs:
	case words.Zip:
		if err := unzip(c.Code, dir); err != nil {
			return "", fmt.Errorf("unpack code: %w", err)
		}
	case words.Plain:
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", fmt.Errorf("write code: %w", err)
		}
		if err := os.WriteFile(path, c.Code, 0o755); err != nil {
			return "", fmt.Errorf("write code: %w", err)
		}
	default:
		return "", fmt.Errorf("encoding %q is not one of code", c.Encoding)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("entrypoint: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("entrypoint %q is not a file", c.Entrypoint)
	}
	if info.Mode()&0o111 == 0 {
		// That of a squashfs stays what it is: the volume is read only.
		if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // To be run.
			return "", fmt.Errorf("make entrypoint executable: %w", err)
		}
	}
	return path, nil
}

// unzip unpacks files and directories below dir. Links and devices are left out.
func unzip(raw []byte, dir string) error {
	r, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return fmt.Errorf("read zip: %w", err)
	}
	if len(r.File) > zipFilesMax {
		return fmt.Errorf("zip has %d files, at most %d", len(r.File), zipFilesMax)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	left := int64(unzippedMax)
	for _, f := range r.File {
		n, err := unzipFile(root, f, left)
		if err != nil {
			return fmt.Errorf("unpack %.100q: %w", f.Name, err)
		}
		left -= n
	}
	return nil
}

func unzipFile(root *os.Root, f *zip.File, limit int64) (int64, error) {
	name := filepath.Clean(filepath.FromSlash(f.Name))
	if f.FileInfo().IsDir() {
		return 0, root.MkdirAll(name, 0o755)
	}
	if !f.Mode().IsRegular() {
		return 0, nil
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	from, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer from.Close()
	const rest = fs.FileMode(0o111)
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644|f.Mode()&rest)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(to, io.LimitReader(from, limit+1))
	if n > limit {
		err = fmt.Errorf("files of more than %d bytes", int64(unzippedMax))
	}
	return n, errors.Join(err, to.Close())
}
