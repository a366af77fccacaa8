package firecracker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	cgroupName = "aleph" // Below the root, for all machines of this host.
	// cgroupPeriod is the scheduling period in microseconds, the kernel's
	// usual.
	cgroupPeriod = 100_000
	// hypervisorMiB is what Firecracker itself may take beside the guest's
	// memory: it promises 5 MiB, and pages of files that it writes count too.
	hypervisorMiB = 128
)

// cgroups are control groups of version 2 below a root. The jailer makes them,
// and leaves them when the machine ends.
type cgroups struct{ root string }

// usable reports what speaks against limits by control groups: the jailer fails
// where they cannot be made.
func (c cgroups) usable() error {
	raw, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("no control groups of version 2 at %s", c.root)
	}
	have := strings.Fields(string(raw))
	if !slices.Contains(have, "cpu") || !slices.Contains(have, "memory") {
		return fmt.Errorf("control groups at %s have no cpu and memory controllers", c.root)
	}
	parent := filepath.Join(c.root, cgroupName)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	for _, dir := range []string{c.root, parent} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory"), 0o600); err != nil {
			return fmt.Errorf("hand controllers down: %w", err)
		}
	}
	return nil
}

// args are the jailer's arguments for the group of a machine, none where there
// are no groups.
func (c cgroups) args(vcpus, memoryMiB int) []string {
	if c.usable() != nil {
		return nil
	}
	return []string{
		"--cgroup-version", "2", "--parent-cgroup", cgroupName,
		"--cgroup", fmt.Sprintf("cpu.max=%d %d", vcpus*cgroupPeriod, cgroupPeriod),
		"--cgroup", fmt.Sprintf("memory.max=%d", int64(memoryMiB+hypervisorMiB)<<20),
	}
}

// remove removes the group of a machine that has ended.
func (c cgroups) remove(id string) error {
	// The kernel's own files go with the directory.
	err := unix.Rmdir(filepath.Join(c.root, cgroupName, id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove control group: %w", err)
	}
	_ = unix.Rmdir(filepath.Join(c.root, cgroupName)) // There may be other machines.
	return nil
}
