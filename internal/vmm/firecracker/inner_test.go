package firecracker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker/firecrackertest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

func TestVersions(t *testing.T) {
	for out, want := range map[string]version{
		"Firecracker v1.15.1\n\nSupported snapshot data format versions: v8.0.0\n": {1, 15, "1.15.1"},
		"Firecracker v1.10.0-dev+abc\n":                                            {1, 10, "1.10.0-dev+abc"},
	} {
		if got, err := parseVersion(out); err != nil || got != want {
			t.Errorf("parseVersion(%q) = %+v, %v; want %+v", out, got, err, want)
		}
	}
	for _, bad := range []string{"", "QEMU emulator version 7.2", "Firecracker v1", "Firecracker v99999.1.1"} {
		if _, err := parseVersion(bad); !errors.Is(err, errs.Unavailable) {
			t.Errorf("parseVersion(%q): %v, want unavailable", bad, err)
		}
	}
	if !(version{2, 0, ""}).atLeast(oldest) || (version{1, 9, ""}).atLeast(oldest) || !oldest.atLeast(oldest) {
		t.Error("versions are compared wrongly")
	}
}

// TestBodiesAreOfTheDescription holds every body that the driver makes to what
// is known of the API, also those that need privileges on the host.
func TestBodiesAreOfTheDescription(t *testing.T) {
	spec := vmm.Spec{
		ID: strings.Repeat("0a", 32), VCPUs: 3, MemoryMiB: 256, Image: vmm.Image{Cmdline: "quiet"},
		Seed: cloudinit.Seed{InstanceID: "i", Hostname: "h"},
	}
	h := hardware{
		machine: machineConfig{VCPUs: spec.VCPUs, MemoryMiB: spec.MemoryMiB},
		boot:    bootSource{Kernel: kernelPath, Initrd: initrdPath, Args: bootArgs(spec)},
		drives:  []drive{{ID: "root", Path: "/drives/0", Root: true, Cache: "Writeback", Limiter: limit(1 << 20)}},
		net:     &networkInterface{ID: netID, Tap: "tap0", MAC: "52:54:00:12:34:56", Rx: limit(1000), Tx: limit(1000)},
	}
	calls := append(h.calls(spec, version{major: 2}),
		put("/actions", action{"InstanceStart"}), put("/actions", action{"SendCtrlAltDel"}),
		call{http.MethodPatch, "/vm", vmState{"Paused"}},
		put("/snapshot/create", snapshotCreate{State: statePath, Memory: memoryPath, Type: "Full"}),
		put("/snapshot/load", snapshotLoad{State: statePath, Memory: memoryBackend{"File", memoryPath}, Resume: true, Networks: []networkOverride{{netID, "tap1"}}}),
	)
	var paths []string
	for _, c := range calls {
		raw, err := json.Marshal(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if err := firecrackertest.CheckCall(c.method, c.path, raw); err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
		paths = append(paths, c.path)
	}
	// What needs a device comes behind it.
	if slices.Index(paths, "/mmds/config") < slices.Index(paths, "/network-interfaces/eth0") {
		t.Errorf("calls come in the order %q", paths)
	}
	old := h.calls(spec, oldest)
	for _, newer := range []string{"/serial", "/balloon"} {
		if slices.ContainsFunc(old, func(c call) bool { return c.path == newer }) {
			t.Errorf("Firecracker %d.%d is called for %s", oldest.major, oldest.minor, newer)
		}
	}
}

func TestJailerArguments(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpuset cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := launch{
		d: &Driver{cgroups: cgroups{root}}, tools: tools{binary: "/opt/firecracker", owner: owner{100, 200}},
		spec: vmm.Spec{ID: strings.Repeat("0a", 32), VCPUs: 2, MemoryMiB: 256, DiskMiB: 1024, Dir: "/vm"},
	}
	got := strings.Join(l.args(), " ")
	for _, want := range []string{
		"--uid 100 --gid 200 ", "--chroot-base-dir /vm/jail --new-pid-ns ", "--resource-limit no-file=1024 ",
		"--cgroup-version 2 --parent-cgroup aleph --cgroup cpu.max=200000 100000 --cgroup memory.max=402653184 ",
		" -- --api-sock /api.sock --log-path /vmm.log",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("arguments %q lack %q", got, want)
		}
	}
	l.d.cgroups.root = t.TempDir()
	if got := strings.Join(l.args(), " "); strings.Contains(got, "cgroup") {
		t.Errorf("arguments without control groups are %q", got)
	}
}

func TestOwners(t *testing.T) {
	if o, err := lookupOwner("100:200"); err != nil || o != (owner{100, 200}) {
		t.Errorf("owner is %+v, %v", o, err)
	}
	if o, err := lookupOwner("root"); err != nil || o != (owner{}) {
		t.Errorf("owner is %+v, %v", o, err)
	}
	for _, bad := range []string{":", "1:", "-1:1", "1:4294967296"} {
		if _, err := lookupOwner(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, want invalid", bad, err)
		}
	}
}

func TestCopiesKeepHoles(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at, size = 8 << 20, 16 << 20
	if _, err := f.WriteAt([]byte("data"), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(from, to, 2*size); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(to)
	if err != nil || len(raw) != 2*size || string(raw[at:at+4]) != "data" {
		t.Errorf("the copy has %d bytes, %v", len(raw), err)
	}
	info, err := os.Stat(to)
	if err != nil || blocksOf(info)*512 > 1<<20 {
		t.Errorf("the copy takes %d blocks, %v", blocksOf(info), err)
	}
	if err := copySparse(from, to, 0); !errors.Is(err, os.ErrExist) {
		t.Errorf("a copy over another file: %v", err)
	}
}

// TestAnswersAreBounded: a Firecracker that was taken over by its guest cannot
// make the node read for ever.
func TestAnswersAreBounded(t *testing.T) {
	if got := fault(400, []byte(`{"fault_message":"no"}`)); got != "no" {
		t.Errorf("fault is %q", got)
	}
	if got := fault(500, []byte("<html>")); got != "status 500" {
		t.Errorf("fault is %q", got)
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", 1000) + "\n")); err == nil {
		t.Error("a line of 1000 bytes was taken for an answer")
	}
	if line, err := readLine(strings.NewReader("OK 7\nrest")); err != nil || line != "OK 7" {
		t.Errorf("line is %q, %v", line, err)
	}
}

func TestLogsAreBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), ownLogFile)
	if err := os.WriteFile(name, make([]byte, logBytesMax+1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trimLog(name); err != nil {
		t.Fatal(err)
	}
	// Its writer goes on where it was.
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("first\nlast words\n"), logBytesMax+1<<16); err != nil {
		t.Fatal(err)
	}
	if err := trimLog(name); err != nil {
		t.Fatal(err)
	}
	if got := lastLine(name); got != "last words" {
		t.Errorf("last line is %q", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, c := range []Config{{Kernel: "/does/not/exist"}, {User: "a:b"}, {ProbeImage: "/does/not/exist"}, {DriveMiBPerSecond: -1}, {NetworkMbitPerSecond: rateMax + 1}} {
		if err := c.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v, want invalid", c, err)
		}
	}
}

// TestSocketsHaveLongNames: a machine's directory may be deeper than a socket's
// address is long.
func TestSocketsHaveLongNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := &machine{root: root}
	m.streams.listeners = map[uint32]*portListener{}
	l, err := m.bind(t.Context(), 52)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := dialIn(ctx, root, vsockSocket+"_52")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"x","driver":"firecracker","exec":"firecracker"}`))
	f.Add([]byte("1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 2 1 1 1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := parseRecord(raw); err == nil && !strings.HasPrefix(r.root("/vm"), "/vm/jail/") {
			t.Fatalf("accepted %+v", r)
		}
		if r, err := parseProbe(raw); err == nil && r.Key == "" {
			t.Fatalf("accepted %+v", r)
		}
		if r, err := parseSnapshot(raw); err == nil && r.StateSum == "" {
			t.Fatalf("accepted %+v", r)
		}
		_, _ = process.ParseStat(string(raw))
		_, _ = parseVersion(string(raw))
	})
}

// tapVar is set in the process of a test that has a network of its own.
const tapVar = "ALEPH_FIRECRACKER_TEST_TAP"

// TestTapsAreGranted: a device gets an owner who has no privileges, and one that
// was made for a template goes again.
func TestTapsAreGranted(t *testing.T) {
	if os.Getenv(tapVar) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTapsAreGranted$")
		cmd.Env = append(os.Environ(), tapVar+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if uid := os.Getuid(); uid != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	const name = "alt0"
	o := owner{uid: 0}
	if err := makeTap(name, o); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if tap, ok := link.(*netlink.Tuntap); !ok || tap.Mode != netlink.TUNTAP_MODE_TAP || tap.Owner != 0 {
		t.Errorf("the device is %+v, want a TAP of user 0", link)
	}
	if err := grantTap(name, o); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(name); err != nil {
		t.Errorf("after it was granted: %v", err)
	}
	if err := dropTap(name); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(name); err == nil {
		t.Error("the device is still there")
	}
	if err := grantTap("a-name-that-is-too-long", o); !errors.Is(err, errs.Invalid) {
		t.Errorf("a name that no device can have: %v, want invalid", err)
	}
}

// TestAGuestThatNeverBeganIsEnded: a daemon that dies in the middle of a start
// leaves a process without a guest. It is found by what the jailer wrote.
func TestAGuestThatNeverBeganIsEnded(t *testing.T) {
	cfg := Config{CacheDir: t.TempDir(), User: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())}
	cfg.Binary, cfg.Jailer = firecrackertest.Install(t)
	d := New(cfg, slog.New(slog.DiscardHandler))
	tools, err := d.tools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := vmmtest.NewSpec(t, firecrackertest.Image(t))
	lock, err := vmm.LockDir(spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	l := launch{d: d, tools: tools, spec: spec, rec: recordOf(spec, filepath.Base(tools.binary), time.Now()), lock: lock}
	if err := errors.Join(l.prepare(&undo{}), l.jail(t.Context()), lock.Close()); err != nil {
		t.Fatal(err)
	}
	if running, err := vmm.Running(spec.Dir); err != nil || !running {
		t.Fatalf("Running = %t, %v; the process has not inherited the lock", running, err)
	}
	if _, err := d.Adopt(t.Context(), spec.Dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("Adopt: %v, want not found", err)
	}
	if running, err := vmm.Running(spec.Dir); err != nil || running {
		t.Errorf("Running = %t, %v; want it ended", running, err)
	}
	if _, err := os.Stat(filepath.Join(spec.Dir, jailDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("jail: %v, want none", err)
	}
}
