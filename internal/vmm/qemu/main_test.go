package qemu_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the process of a test is for, in its environment.
const (
	roleVar = "ALEPH_QEMU_TEST_ROLE"
	inside  = "inside" // Runs the tests.
	daemon  = "daemon" // Starts one machine and waits to be killed.
	prober  = "prober" // Probes by a QEMU that hangs, and waits to be killed.
	played  = "sev"    // Plays QEMU on a host with SEV.
	tapHost = "tap"    // Runs one machine on a TAP device, in a namespace.
)

// TestMain runs the tests in a mount namespace of their own, where they can
// mount small file systems to fill.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case inside:
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case tapHost:
		if err := runTapHost(os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, "tap host:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case played:
		if err := playQEMU(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case prober:
		if err := runProber(os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, "prober:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case daemon:
		if err := runDaemon(os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, "daemon:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVar+"="+inside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run tests in a mount namespace:", err)
		os.Exit(1)
	}
}
