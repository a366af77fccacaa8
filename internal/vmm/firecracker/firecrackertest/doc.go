// Package firecrackertest plays Firecracker and its jailer, for tests on hosts
// that cannot run them.
//
// Both are the test's own program under other names: Install puts it there, and
// Main, which the test's TestMain calls first, plays what the name says. So a
// driver starts real processes with real command lines, and they are strict: an
// argument, a call or the body of a call that the real programs would not take is
// refused, as is a file of the jail that the machine's user may not read or
// write. The guest is played too, with an agent, streams and a console.
package firecrackertest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// Names of the programs.
const (
	firecrackerName = "firecracker"
	jailerName      = "jailer"
)

// Version is what the Firecracker that is played here says it is.
const Version = "1.16.1"

// Words on a kernel's command line that make the guest behave badly.
const (
	Deaf   = "fake.deaf"   // It does not shut down, whatever it hears.
	Panics = "fake.panics" // Its kernel panics once it has booted.
	Mute   = "fake.mute"   // It has no agent, and shuts down by keys.
	Broken = "fake.broken" // Its processor stops before it says anything.
)

// Greeting is the last that a guest says when it has booted.
const Greeting = "aleph-guest: ready"

// CallsFile is the file of a jail's root with the calls of the API, one a line:
// method, path, status and body.
const CallsFile = "calls"

// Main plays a program when this process is one of them.
func Main() (code int, played bool) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case jailerName, programName(jailerName):
		err = playJailer(os.Args[1:])
	case firecrackerName, programName(firecrackerName):
		err = playFirecracker(os.Args[1:], os.Stdout)
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// programName is what the file of a program is called in a release.
func programName(name string) string { return name + "-v" + Version + "-x86_64" }

// Root is the root of a machine's jail.
func Root(spec vmm.Spec) string {
	return filepath.Join(spec.Dir, "jail", programName(firecrackerName), spec.ID, "root")
}

// Install puts the programs in a directory of the test, under the names that they
// have in a release, and returns the paths of links to them.
func Install(t testing.TB) (firecracker, jailer string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	firecracker, jailer = filepath.Join(dir, firecrackerName), filepath.Join(dir, jailerName)
	for _, name := range []string{firecracker, jailer} {
		if err := errors.Join(linkOrCopy(self, programName(name)), os.Symlink(programName(name), name)); err != nil {
			t.Fatal(err)
		}
	}
	return firecracker, jailer
}

// linkOrCopy puts a program at another path.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // A program that another user runs.
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// Image returns an image that the guest boots from, with an agent.
func Image(t testing.TB) vmm.Image {
	t.Helper()
	dir := t.TempDir()
	img := vmm.Image{
		Name: "played", Kernel: filepath.Join(dir, "vmlinux"), Initrd: filepath.Join(dir, "initrd"), Cmdline: "console=ttyS0",
		Rootfs: filepath.Join(dir, "rootfs"), Format: vmm.Raw, VirtualBytes: 1 << 20, Agent: true,
	}
	for name, bytes := range map[string]int{img.Kernel: 4096, img.Initrd: 4096, img.Rootfs: 1 << 20} {
		raw := make([]byte, bytes)
		copy(raw, "\x7fELF")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return img
}
