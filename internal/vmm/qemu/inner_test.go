package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// qemuEnd plays QEMU: it answers each command as the test says.
func qemuEnd(t *testing.T, answer func(qmpCommand) string) *qmp {
	t.Helper()
	us, them := net.Pipe()
	var events []string
	q := newQMP(us, func(e event) { events = append(events, e.Event) })
	ran := make(chan error, 1)
	go func() { ran <- q.run() }()
	go func() {
		io.WriteString(them, `{"QMP":{"version":{}}}`+"\r\n")
		lines := bufio.NewScanner(them)
		for lines.Scan() {
			var c qmpCommand
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(them, answer(c)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		us.Close()
		them.Close()
		<-ran
	})
	return q
}

func TestQMPAnswersAreMatched(t *testing.T) {
	q := qemuEnd(t, func(c qmpCommand) string {
		switch c.Execute {
		case "query-name":
			// An event, and an answer to somebody else, come in between.
			return `{"event":"RESET","data":{}}` + "\n" + `{"return":{},"id":"99"}` + "\n" + fmt.Sprintf(`{"return":{"name":"x"},"id":%q}`, c.ID) + "\n"
		case "fail":
			return fmt.Sprintf(`{"error":{"class":"GenericError","desc":"no luck"},"id":%q}`, c.ID) + "\n"
		}
		return fmt.Sprintf(`{"return":{},"id":%q}`, c.ID) + "\n"
	})
	if err := q.negotiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out struct{ Name string }
	if err := q.do(t.Context(), "query-name", nil, &out); err != nil || out.Name != "x" {
		t.Errorf("query-name: %q, %v; want x", out.Name, err)
	}
	if err := q.do(t.Context(), "fail", nil, nil); err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("fail: %v, want QEMU's words", err)
	}
	var number int
	if err := q.do(t.Context(), "other", nil, &number); err == nil {
		t.Error("an answer of another shape was taken")
	}
}

func TestQMPThatHangsOrGoes(t *testing.T) {
	q := qemuEnd(t, func(qmpCommand) string { return "" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.do(ctx, "query-name", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("do: %v, want it canceled", err)
	}
	us, them := net.Pipe()
	q = newQMP(us, func(event) {})
	ran := make(chan error)
	go func() { ran <- q.run() }()
	go func() {
		bufio.NewReader(them).ReadString('\n')
		them.Close()
	}()
	if err := q.do(t.Context(), "query-name", nil, nil); !errors.Is(err, errs.Unavailable) {
		t.Errorf("do: %v, want unavailable", err)
	}
	if err := <-ran; !errors.Is(err, io.EOF) {
		t.Errorf("run: %v, want the end", err)
	}
	if err := q.do(t.Context(), "query-name", nil, nil); !errors.Is(err, errs.Unavailable) {
		t.Errorf("do after the end: %v, want unavailable", err)
	}
}

func FuzzQMP(f *testing.F) {
	f.Add([]byte(`{"return":{},"id":"1"}` + "\n" + `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &machine{d: New(Config{}, slog.New(slog.DiscardHandler))}
		q := newQMP(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(raw), io.Discard}, m.onEvent)
		if err := q.run(); err == nil {
			t.Fatal("run ended without a reason")
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"id":"x","driver":"qemu"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := parseRecord(raw); err == nil && r.Driver != Name {
			t.Fatalf("accepted %+v", r)
		}
	})
}

func FuzzParseProbe(f *testing.F) {
	f.Add([]byte(`{"key":"k","capabilities":{"accelerator":"tcg"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := parseProbe(raw); err == nil && r.Capabilities.Accelerator == "" {
			t.Fatalf("accepted %+v", r)
		}
	})
}

// TestLockHeldByOthersIsNotNothing: a directory whose lock somebody holds who
// is not its process must never look free.
func TestLockHeldByOthersIsNotNothing(t *testing.T) {
	dir := t.TempDir()
	d := New(Config{}, slog.New(slog.DiscardHandler))
	lock, err := vmm.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	self, err := process.ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"no file":         "",
		"garbage":         "x",
		"another process": fmt.Sprintf("%d (x) S 1 1 1 0 -1 1 1 1 1 1 1 1 1 1 1 1 1 1 %d 1 1 1", os.Getpid(), self.Start+5),
	} {
		if line != "" {
			if err := os.WriteFile(filepath.Join(dir, processFile), []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Adopt(t.Context(), dir); !errors.Is(err, errs.Unavailable) {
			t.Errorf("%s: Adopt returned %v, want unavailable", name, err)
		}
	}
}

// fakeCgroups makes the root of control groups, of files. Removing a group takes
// its files along, as the kernel does, and calls removed before.
func fakeCgroups(t *testing.T, controllers string, removed func(dir string)) (string, func(string) error) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte(controllers), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return root, func(dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				return unix.EBUSY
			}
		}
		if removed != nil {
			removed(dir)
		}
		return os.RemoveAll(dir)
	}
}

// groups are the names of the groups of machines; there is no group of all when
// it is nil.
func groups(t *testing.T, c cgroups) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(c.path(""))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	names = []string{}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCgroupLimits(t *testing.T) {
	c, err := openCgroups(fakeCgroups(t, "cpuset cpu io memory pids\n", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := groups(t, c); got != nil {
		t.Errorf("without a machine there are groups %q, want not even the one of all", got)
	}
	dir, err := c.make("vm", 2, 256)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cpu.max": "200000 100000", "memory.max": fmt.Sprint(768 << 20)} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := c.make("other", 1, 256); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.remove("vm"), c.remove("vm")); err != nil {
		t.Errorf("remove: %v", err)
	}
	if got := groups(t, c); !slices.Equal(got, []string{"other"}) {
		t.Errorf("groups are %q, want the other one", got)
	}
	if err := c.remove("other"); err != nil || groups(t, c) != nil {
		t.Errorf("after the last machine there are groups %q (%v), want not even the one of all", groups(t, c), err)
	}
	if _, err := c.make("vm", 1, 1); err != nil || len(groups(t, c)) != 1 {
		t.Errorf("a machine later: %v, groups %q", err, groups(t, c))
	}
	for _, controllers := range []string{"cpu", ""} {
		if _, err := openCgroups(fakeCgroups(t, controllers, nil)); err == nil {
			t.Errorf("opened with controllers %q", controllers)
		}
	}
	if _, err := openCgroups(t.TempDir(), nil); err == nil {
		t.Error("opened without control groups")
	}
	if dir, err := (cgroups{}).make("vm", 1, 1); err != nil || dir != "" {
		t.Errorf("without control groups: %q, %v; want nothing", dir, err)
	}
}

// TestGroupsOfMachinesThatEndedUnseenAreRemoved: by whoever opens the groups,
// and by Adopt at once.
func TestGroupsOfMachinesThatEndedUnseenAreRemoved(t *testing.T) {
	root, rmdir := fakeCgroups(t, "cpu memory", nil)
	c := cgroups{root, rmdir}
	old := time.Now().Add(-2 * cgroupYoung)
	for _, id := range []string{"ended", "runs", "starts"} {
		if _, err := c.make(id, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	// What is inside keeps a group here, as a process does in the kernel.
	if err := os.Mkdir(filepath.Join(c.path("runs"), "process"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(c.path("ended"), old, old), os.Chtimes(c.path("runs"), old, old)); err != nil {
		t.Fatal(err)
	}

	if _, err := openCgroups(root, rmdir); err != nil {
		t.Fatal(err)
	}
	if got := groups(t, c); !slices.Equal(got, []string{"runs", "starts"}) {
		t.Errorf("groups are %q, want those of machines that run or start", got)
	}

	d := New(Config{}, slog.New(slog.DiscardHandler))
	d.cgroups = func() (cgroups, error) { return c, nil }
	dir := t.TempDir()
	if err := writeRecord(vmm.Spec{ID: "starts", Dir: dir}, vmm.TCG, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Adopt(t.Context(), dir); !errors.Is(err, errs.NotFound) {
		t.Errorf("Adopt: %v, want not found", err)
	}
	if got := groups(t, c); !slices.Equal(got, []string{"runs"}) {
		t.Errorf("groups are %q, want the one of the machine that runs", got)
	}
}

// TestAMachineWithoutAKernelToProbeIsLimited starts one by a QEMU that fails.
func TestAMachineWithoutAKernelToProbeIsLimited(t *testing.T) {
	script := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	if err := os.WriteFile(rootfs, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var limits []string
	root, rmdir := fakeCgroups(t, "cpu memory", func(dir string) {
		if limit, err := os.ReadFile(filepath.Join(dir, "cpu.max")); err == nil {
			limits = append(limits, filepath.Base(dir)+" "+string(limit))
		}
	})
	d := New(Config{Binary: script, CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	d.cgroups = func() (cgroups, error) { return openCgroups(root, rmdir) }
	spec := vmm.Spec{
		ID: strings.Repeat("0a", 32), Dir: filepath.Join(t.TempDir(), "vm"), VCPUs: 1, MemoryMiB: 64, DiskMiB: 64,
		Image: vmm.Image{Name: "plain", Rootfs: rootfs, Format: vmm.Raw}, Net: vmm.NetDevice{Kind: vmm.NetNone},
		Seed: cloudinit.Seed{Hostname: "plain"},
	}

	caps, err := d.Probe(t.Context(), spec.Image)
	if err != nil || !caps.Cgroup {
		t.Errorf("capabilities are %+v, %v, want limits", caps, err)
	}
	if _, err := d.Start(t.Context(), spec); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Start: %v, want unavailable", err)
	}
	if want := []string{spec.ID + " 100000 100000"}; !slices.Equal(limits, want) {
		t.Errorf("groups that were made and removed: %q, want %q", limits, want)
	}
}

func TestArguments(t *testing.T) {
	spec := vmm.Spec{
		ID: strings.Repeat("0a", 32), VCPUs: 2, MemoryMiB: 300, Dir: "/vm", Image: vmm.Image{Kernel: "/k", Initrd: "/i", Cmdline: "quiet"},
		Net: vmm.NetDevice{Kind: vmm.NetTap, Tap: "al0", MAC: "52:54:00:00:00:01"},
	}
	has := func(args []string, want ...string) {
		t.Helper()
		for i := range args {
			if i+len(want) <= len(args) && slices.Equal(args[i:i+len(want)], want) {
				return
			}
		}
		t.Errorf("arguments %q lack %q", args, want)
	}
	args := machineArgs(spec, vmm.KVM, memory{}, nil)
	has(args, "-m", "300M")
	has(args, "-smp", "2")
	has(args, "-accel", "kvm", "-cpu", "host")
	has(args, "-append", "quiet")
	has(args, "-netdev", "tap,id=net,script=no,downscript=no,ifname=al0")
	has(args, "-uuid", "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a")
	if text := strings.Join(args, " "); strings.Contains(text, "mitigations=off") {
		t.Errorf("a tenant's machine is started with %q", text)
	}
	forward := vmm.Forward{Protocol: vmm.UDP, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 1000, GuestPort: 53}
	spec.Net = vmm.NetDevice{Kind: vmm.NetUser, Forwards: []vmm.Forward{forward}}
	has(machineArgs(spec, vmm.TCG, memory{}, nil), "-netdev", "user,id=net,ipv6=off,restrict=on,hostfwd=udp:127.0.0.1:1000-:53")
	spec.Net.Egress = true
	has(machineArgs(spec, vmm.TCG, memory{}, nil), "-netdev", "user,id=net,hostfwd=udp:127.0.0.1:1000-:53")
	has(machineArgs(spec, vmm.TCG, memory{}, nil), "-append", "quiet no_timer_check lpj=10400000")
}
