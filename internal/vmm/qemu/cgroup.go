package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	cgroupName = "aleph" // Below the root, for all machines of this host.
	// cgroupPeriod is the scheduling period in microseconds, the kernel's
	// usual.
	cgroupPeriod = 100_000
	// hypervisorMiB is what QEMU itself may take beside the guest's memory:
	// about 60 MiB are usual, translated code of TCG takes more.
	hypervisorMiB = 512
)

// cgroups limits machines by control groups of version 2.
type cgroups struct{ dir string } // "" for none.

// openCgroups finds out whether limits work below root, by making the parent
// group and handing the controllers down to it.
func openCgroups(root string) (cgroups, error) {
	raw, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return cgroups{}, fmt.Errorf("no control groups of version 2 at %s", root)
	}
	have := " " + strings.Join(strings.Fields(string(raw)), " ") + " "
	if !strings.Contains(have, " cpu ") || !strings.Contains(have, " memory ") {
		return cgroups{}, fmt.Errorf("control groups at %s have no cpu and memory controllers", root)
	}
	dir := filepath.Join(root, cgroupName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return cgroups{}, fmt.Errorf("make control group: %w", err)
	}
	for _, d := range []string{root, dir} {
		if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+cpu +memory"), 0); err != nil {
			return cgroups{}, fmt.Errorf("hand controllers down: %w", err)
		}
	}
	return cgroups{dir}, nil
}

// make makes the group of a machine and returns its path.
func (c cgroups) make(id string, vcpus, memoryMiB int) (string, error) {
	if c.dir == "" {
		return "", nil
	}
	dir := c.path(id)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make control group: %w", err)
	}
	for name, value := range map[string]string{
		"cpu.max":         fmt.Sprintf("%d %d", vcpus*cgroupPeriod, cgroupPeriod),
		"memory.max":      fmt.Sprint(int64(memoryMiB+hypervisorMiB) << 20),
		"memory.swap.max": "0",
	} {
		err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644)
		if err != nil && name != "memory.swap.max" { // Absent without swap accounting.
			return "", fmt.Errorf("limit control group: %w", err)
		}
	}
	return dir, nil
}

// remove removes the group of a machine that has ended.
func (c cgroups) remove(id string) error {
	if c.dir == "" {
		return nil
	}
	if err := os.Remove(c.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove control group: %w", err)
	}
	return nil
}

func (c cgroups) path(id string) string { return filepath.Join(c.dir, id) }
