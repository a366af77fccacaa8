package main

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

// The boot itself runs in a real machine: internal/vmm/qemu tests it. Here are
// the parts that need none.

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// newGuest returns a guest whose console is a file.
func newGuest(t *testing.T) (*guest, func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g := &guest{console: f, ready: make(chan struct{}), down: make(chan power, 1), timings: map[string]int64{}, reaper: newReaper()}
	return g, func() string { return read(t, f.Name()) }
}

func TestSeedIsWrittenOncePerInstance(t *testing.T) {
	root := t.TempDir()
	seed := cloudinit.Seed{
		InstanceID: "one", Hostname: "vm", AuthorizedKeys: []string{"key a", "key b"}, Variables: map[string]string{"A": "1"},
		Network: &cloudinit.Network{Nameservers: []netip.Addr{netip.MustParseAddr("1.1.1.1")}},
	}
	if err := writeSeed(root, seed); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/hostname": "vm\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 vm\n", "etc/resolv.conf": "nameserver 1.1.1.1\n",
		"root/.ssh/authorized_keys": "key a\nkey b\n", "etc/aleph/variables": "A='1'\n", instanceFile: "one\n",
	} {
		if got := read(t, filepath.Join(root, name)); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "root/.ssh/authorized_keys")); err != nil || info.Mode() != 0o600 {
		t.Errorf("authorized_keys: %v, %v; want it private", info.Mode(), err)
	}

	// What the tenant changed stays for this instance, and goes with the next.
	write(t, filepath.Join(root, "root/.ssh/authorized_keys"), "mine\n", 0o600)
	if err := writeSeed(root, seed); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, "root/.ssh/authorized_keys")); got != "mine\n" {
		t.Errorf("authorized_keys has %q, want the tenant's", got)
	}
	seed.InstanceID, seed.AuthorizedKeys = "two", nil
	if err := writeSeed(root, seed); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(root, "root/.ssh/authorized_keys")); got != "" {
		t.Errorf("authorized_keys has %q, want none", got)
	}
}

// Whatever the seed says, only the files of the seed are written, and the
// second boot finds the first done.
func FuzzSeedFiles(f *testing.F) {
	seed := cloudinit.Seed{
		InstanceID: "one", Hostname: "vm", AuthorizedKeys: []string{"key a"}, Variables: map[string]string{"A": "it's"},
		Network: &cloudinit.Network{
			MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2"),
			Nameservers: []netip.Addr{netip.MustParseAddr("1.1.1.1")},
		},
	}
	files, err := seed.Files()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files[cloudinit.UserDataFile], files[cloudinit.MetaDataFile], files[cloudinit.NetworkFile])
	ours := map[string]bool{
		"etc/hostname": true, "etc/hosts": true, "etc/resolv.conf": true, "root/.ssh/authorized_keys": true,
		strings.TrimPrefix(cloudinit.VariablesPath, "/"): true, instanceFile: true,
	}
	f.Fuzz(func(t *testing.T, user, meta, network []byte) {
		seed, err := cloudinit.Parse(map[string][]byte{
			cloudinit.UserDataFile: user, cloudinit.MetaDataFile: meta, cloudinit.NetworkFile: network,
		})
		if err != nil {
			return
		}
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		for range 2 {
			if err := writeSeed(root, seed); err != nil {
				t.Fatal(err)
			}
		}
		err = filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
			rel, _ := filepath.Rel(root, name)
			if err == nil && !e.IsDir() && !ours[rel] {
				t.Errorf("seed %+v wrote %s", seed, rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"etc/hostname", instanceFile} {
			if got := read(t, filepath.Join(root, name)); strings.Count(got, "\n") != 1 {
				t.Errorf("%s is %q, want one line", name, got)
			}
		}
	})
}

func TestSeedThatCannotBeWritten(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "etc"), "a file", 0o600)
	if err := writeSeed(root, cloudinit.Seed{Hostname: "x"}); err == nil {
		t.Error("a seed was written below a file")
	}
	if _, err := readSeed(filepath.Join(root, "none")); err == nil {
		t.Error("a seed was read from nothing")
	}
	if _, err := readSeed(filepath.Join(root, "etc")); err == nil {
		t.Error("a seed was read from a text")
	}
}

func TestModulesAreLoadedByGroup(t *testing.T) {
	m, err := parseModules("disk /a.ko\nother /b.ko\n\ndisk /c.ko\n")
	if err != nil || strings.Join(m["disk"], " ") != "/a.ko /c.ko" || len(m["other"]) != 1 {
		t.Errorf("parseModules = %v, %v", m, err)
	}
	if _, err := parseModules("disk"); err == nil {
		t.Error("a line without a path was taken")
	}
	if err := m.load("disk"); err == nil {
		t.Error("a driver that is not there was loaded")
	}
	if err := m.load("none"); err != nil {
		t.Errorf("no drivers: %v", err)
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add("disk /a.ko\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseModules(text) })
}

func TestDevicesAreFoundByName(t *testing.T) {
	sys := t.TempDir()
	write(t, filepath.Join(sys, "lo/address"), "00:00:00:00:00:00\n", 0o600)
	write(t, filepath.Join(sys, "eth0/address"), "52:54:00:aa:bb:cc\n", 0o600)
	for mac, want := range map[string]string{"52:54:00:AA:BB:CC": "eth0", "": "eth0", "52:54:00:00:00:00": ""} {
		if got, err := deviceByMAC(sys, mac); got != want || (err == nil) != (want != "") {
			t.Errorf("deviceByMAC(%q) = %q, %v; want %q", mac, got, err, want)
		}
	}
	if _, err := deviceByMAC(filepath.Join(sys, "none"), ""); err == nil {
		t.Error("a device was found in nothing")
	}
	write(t, filepath.Join(sys, "vport0p1/name"), agent.PortName+"\n", 0o600)
	if got, err := virtioPort(sys, agent.PortName); err != nil || got != "/dev/vport0p1" {
		t.Errorf("virtioPort = %q, %v", got, err)
	}
	if _, err := virtioPort(filepath.Join(sys, "none"), agent.PortName); err == nil {
		t.Error("a port was found in nothing")
	}
}

func TestServicesAreRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "#!/bin/sh\n# aleph-ready: tcp 8080\n", 0o755)
	write(t, filepath.Join(dir, "b"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(dir, "empty"), "", 0o755)
	write(t, filepath.Join(dir, "readme"), "not a program", 0o644)

	all, err := readServices(dir)

	if err != nil || len(all) != 3 || all[0].port != "8080" || all[1].port != "" {
		t.Errorf("readServices = %v, %v; want a at 8080, b and empty", all, err)
	}
	if all, err := readServices(filepath.Join(dir, "none")); err != nil || len(all) != 0 {
		t.Errorf("no directory: %v, %v; want no services", all, err)
	}
	write(t, filepath.Join(dir, "c"), "# aleph-ready: when it feels like it\n", 0o755)
	if _, err := readServices(dir); err == nil {
		t.Error("a header of another form was taken")
	}
}

func TestServiceIsRunAgainWithVariables(t *testing.T) {
	g, console := newGuest(t)
	go g.reaper.run()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	write(t, filepath.Join(dir, "s"), "#!/bin/sh\necho \"run $NAME\" >> "+out+"\n[ $(wc -l < "+out+") -ge 2 ] && exec sleep 60\n", 0o755)
	ctx, cancel := context.WithCancel(t.Context())

	g.startServices(ctx, dir, map[string]string{"NAME": "it's me"})

	deadline := time.Now().Add(20 * time.Second)
	for {
		if raw, err := os.ReadFile(out); err == nil && strings.Count(string(raw), "run it's me\n") >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service was not run twice; console: %s", console())
		}
		<-time.After(5 * time.Millisecond)
	}
	if got := console(); !strings.Contains(got, "service s ended") {
		t.Errorf("console has %q, want that the service ended", got)
	}
	g.waitServices(t.Context()) // It names no port: up at once.
	cancel()
	g.mu.Lock()
	s := g.procs[0]
	g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid > 0 {
		if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}

func TestListeningIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := waitListening(t.Context(), l.Addr().String()); err != nil {
		t.Errorf("a port that listens: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := waitListening(ctx, "127.0.0.1:1"); err == nil {
		t.Error("a port that nobody has listens")
	}
}

func TestHostKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for range 2 {
		if err := ensureHostKey(path, "vm"); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := ssh.ParsePrivateKey([]byte(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(read(t, path+".pub")))
	if err != nil || comment != "root@vm" || string(public.Marshal()) != string(signer.PublicKey().Marshal()) || public.Type() != ssh.KeyAlgoED25519 {
		t.Errorf("public key is %v (%s), %v; want that of the private one", public, comment, err)
	}
	if key, ok := signer.PublicKey().(ssh.CryptoPublicKey); !ok || len(key.CryptoPublicKey().(ed25519.PublicKey)) != ed25519.PublicKeySize {
		t.Error("the key is not ed25519")
	}
}

func TestAgentAnswersForTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGuest(t)
		g.hostname = "vm"
		g.mark("init")
		info := g.Info()
		if info.Hostname != "vm" || info.Kernel == "" || info.Timings["init"] <= 0 {
			t.Errorf("Info = %+v", info)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Ready(ctx); err == nil {
			t.Error("ready before it is")
		}
		close(g.ready)
		if err := g.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
		g.Shutdown()
		g.end(rebootNow) // Too late: the first word counts.
		if how := <-g.down; how != powerOffNow {
			t.Errorf("the machine ends with %d, want power off", how)
		}
	})
}

func TestRawFileReadsToTheEnd(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	if n, err := rawFile(fds[1]).Write([]byte("hello")); n != 5 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	syscall.Close(fds[1])
	b := make([]byte, 16)
	if n, err := rawFile(fds[0]).Read(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("Read = %q, %v", b[:n], err)
	}
	if _, err := rawFile(fds[0]).Read(b); err == nil {
		t.Error("no end")
	}
	if _, err := rawFile(-1).Read(b); err == nil {
		t.Error("read from no file")
	}
	if _, err := rawFile(-1).Write(b); err == nil {
		t.Error("written to no file")
	}
}

func TestDeviceThatIsThere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vda")
	write(t, name, "", 0o600)
	if err := waitFor(name); err != nil {
		t.Errorf("waitFor: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := waitFor(name + "x"); err == nil {
			t.Error("a device that is not there appeared")
		}
	})
	if hasArgument("aleph.no-such-argument") {
		t.Error("the kernel of this machine has an argument of nobody")
	}
}
