// Package setup_test runs the scripts of this folder on machines of another kind
// than this one: with other programs, users and files.
package setup_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bare is a machine that has apt-get and sudo, both of which do nothing, and
// hardly anything else.
type bare struct {
	t   *testing.T
	dir string
}

func newBare(t *testing.T) *bare {
	t.Helper()
	m := &bare{t, t.TempDir()}
	m.program("apt-get", `echo "${DEBIAN_FRONTEND:-none} $*" >>`+m.path("calls"))
	m.program("sudo", `[ "$1" != -n ] || shift; exec env -i PATH="$PATH" "$@"`)
	m.program("id", "echo 1000")
	for _, name := range []string{"sh", "env", "true"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, m.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *bare) path(name string) string { return filepath.Join(m.dir, name) }

func (m *bare) program(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// install runs debian.sh after the commands of hide, in a mount namespace of its
// own, and returns what it said and the calls of apt-get.
func (m *bare) install(group, hide string) (said string, calls []string, err error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", hide+"; PATH="+m.dir+" exec ./debian.sh "+group)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		m.t.Skip("this user may have no namespaces")
	}
	raw, rerr := os.ReadFile(m.path("calls"))
	if rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		m.t.Fatal(rerr)
	}
	return string(out), slices.Collect(strings.Lines(string(raw))), err
}

// noCertificates hides every bundle that Go looks for on Debian.
const noCertificates = "unset SSL_CERT_FILE; mount -t tmpfs none /etc/ssl"

func TestNobodyIsAskedQuestionsThroughSudo(t *testing.T) {
	said, calls, err := newBare(t).install("demo", "true")

	if err != nil || len(calls) < 2 {
		t.Fatalf("debian.sh: %v, %d calls of apt-get: %s", err, len(calls), said)
	}
	for _, c := range calls {
		if !strings.HasPrefix(c, "noninteractive ") {
			t.Errorf("apt-get may ask questions: %s", c)
		}
	}
}

func TestCertificatesComeFirst(t *testing.T) {
	said, calls, err := newBare(t).install("demo", noCertificates)

	if err != nil || len(calls) < 3 || !strings.HasSuffix(calls[1], "install --no-install-recommends ca-certificates\n") {
		t.Errorf("debian.sh: %v, calls %q, want the certificates after the update: %s", err, calls, said)
	}
	_, calls, _ = newBare(t).install("demo", "true")
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err == nil && strings.Contains(strings.Join(calls, ""), "ca-certificates") {
		t.Error("certificates that are there are installed again")
	}
}

func TestADemoWithoutRootGoesOnWithoutWhatItCanMiss(t *testing.T) {
	m := newBare(t)
	m.program("sudo", "exit 1")
	for _, name := range []string{"qemu-system-x86_64", "mke2fs", "debugfs", "dpkg-deb"} {
		m.program(name, "exit 0")
	}
	// What QEMU and the image need beside programs.
	const has = "mount -t tmpfs none /usr/share && mkdir -p /usr/share/seabios /usr/share/keyrings && " +
		"touch /usr/share/seabios/bios-256k.bin /usr/share/keyrings/debian-archive-keyring.gpg; "

	said, calls, err := m.install("demo", has+noCertificates)
	if err != nil || len(calls) > 0 || !strings.Contains(said, "nothing new can be downloaded") || !strings.Contains(said, "without showing SSH") {
		t.Errorf("demo: %v, calls %q: %s", err, calls, said)
	}
	if said, _, err := m.install("test", has+noCertificates); err == nil || !strings.Contains(said, "ask an administrator to run: apt-get install") {
		t.Errorf("test: %v: %s", err, said)
	}
}

// TestSilentPhasesSayThatTheyRun: whatever takes longer than two seconds shows
// progress.
func TestSilentPhasesSayThatTheyRun(t *testing.T) {
	script, err := filepath.Abs("phases.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, "try", "that is all.", "quick", "echo done", "slow", "sleep 3.5; echo done")
	cmd.Dir = t.TempDir()

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	quick, slow, _ := strings.Cut(string(out), "==> try 2/2: slow\n")
	if !strings.HasPrefix(slow, "   ... ") || strings.Contains(quick, "...") {
		t.Errorf("want a sign of the slow phase only:\n%s", out)
	}
	if !strings.Contains(slow, "try: all 2 phases passed") || !strings.Contains(slow, "that is all.") {
		t.Errorf("no last sentence:\n%s", out)
	}
	cmd = exec.CommandContext(ctx, script, "try", "that is all.", "bad", "exit 3")
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "bad failed; read the last lines above") {
		t.Errorf("a phase that fails: %v: %s", err, out)
	}
}
