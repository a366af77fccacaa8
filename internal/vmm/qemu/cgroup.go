package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	cgroupName = "aleph" // Below the root, for all machines of this host while there are any.
	// cgroupPeriod is the scheduling period in microseconds, the kernel's
	// usual.
	cgroupPeriod = 100_000
	// cgroupTries is how often a group is made anew whose parent somebody else
	// has just found empty and removed.
	cgroupTries = 5
	// cgroupYoung is how long a group may have no process because one is being
	// started.
	cgroupYoung = time.Minute
	// hypervisorMiB is what QEMU itself may take beside the guest's memory:
	// about 60 MiB are usual, translated code of TCG takes more.
	hypervisorMiB = 512
)

// cgroups limits machines by control groups of version 2. The zero value limits
// nothing.
type cgroups struct {
	root  string
	rmdir func(string) error // The kernel's own files go with the directory; one that is in use stays.
}

// openCgroups finds out whether limits work below root, by making the parent
// group and handing the controllers down to it. It removes what machines that
// have ended while nobody looked have left.
func openCgroups(root string, rmdir func(string) error) (cgroups, error) {
	raw, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return cgroups{}, fmt.Errorf("no control groups of version 2 at %s", root)
	}
	have := " " + strings.Join(strings.Fields(string(raw)), " ") + " "
	if !strings.Contains(have, " cpu ") || !strings.Contains(have, " memory ") {
		return cgroups{}, fmt.Errorf("control groups at %s have no cpu and memory controllers", root)
	}
	c := cgroups{root, rmdir}
	err = c.makeParent()
	c.sweep(time.Now().Add(-cgroupYoung))
	if err != nil {
		return cgroups{}, err
	}
	return c, nil
}

// hostCgroups opens the groups of this host.
func hostCgroups() (cgroups, error) { return openCgroups(cgroupRoot, unix.Rmdir) }

// makeParent makes the group of all machines.
func (c cgroups) makeParent() error {
	if err := os.MkdirAll(c.path(""), 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	for _, d := range []string{c.root, c.path("")} {
		if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+cpu +memory"), 0); err != nil {
			return fmt.Errorf("hand controllers down: %w", err)
		}
	}
	return nil
}

// make makes the group of a machine and returns its path.
func (c cgroups) make(id string, vcpus, memoryMiB int) (dir string, err error) {
	if c.root == "" {
		return "", nil
	}
	for range cgroupTries {
		if err = c.makeParent(); err == nil {
			err = c.makeOne(c.path(id), vcpus, memoryMiB)
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			break
		}
	}
	if err != nil {
		return "", errors.Join(err, c.remove(id))
	}
	return c.path(id), nil
}

func (c cgroups) makeOne(dir string, vcpus, memoryMiB int) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	for name, value := range map[string]string{
		"cpu.max":         fmt.Sprintf("%d %d", vcpus*cgroupPeriod, cgroupPeriod),
		"memory.max":      fmt.Sprint(int64(memoryMiB+hypervisorMiB) << 20),
		"memory.swap.max": "0",
	} {
		err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644)
		if err != nil && name != "memory.swap.max" { // Absent without swap accounting.
			return fmt.Errorf("limit control group: %w", err)
		}
	}
	return nil
}

// remove removes the group of a machine that has ended, and the one of all
// machines after the last.
func (c cgroups) remove(id string) error {
	if c.root == "" {
		return nil
	}
	if err := c.rmdir(c.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove control group: %w", err)
	}
	_ = c.rmdir(c.path("")) // There may be other machines, also of other nodes.
	return nil
}

// sweep removes groups that were made before a time and have no process, and
// the one of all machines if none is left.
func (c cgroups) sweep(before time.Time) {
	entries, err := os.ReadDir(c.path(""))
	if err != nil {
		return // There is none.
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && info.ModTime().Before(before) {
			_ = c.rmdir(c.path(e.Name())) // Its machine may run.
		}
	}
	_ = c.rmdir(c.path(""))
}

func (c cgroups) path(id string) string { return filepath.Join(c.root, cgroupName, id) }
