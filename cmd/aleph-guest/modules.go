package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesFile in the initrd lists the drivers, one "GROUP PATH" a line, each
// after those that it needs. The image recipe writes it.
const modulesFile = "/lib/modules/load"

// modules are the drivers of the initrd by group, in loading order.
type modules map[string][]string

func readModules() (modules, error) {
	raw, err := os.ReadFile(modulesFile)
	if err != nil {
		return nil, fmt.Errorf("read list of drivers: %w", err)
	}
	return parseModules(string(raw))
}

func parseModules(text string) (modules, error) {
	m := modules{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		group, path, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("list of drivers has %q, want GROUP PATH", line)
		}
		m[group] = append(m[group], path)
	}
	return m, nil
}

// load loads the drivers of groups. A group that is not in the list has none.
func (m modules) load(groups ...string) error {
	for _, group := range groups {
		for _, path := range m[group] {
			if err := loadModule(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open driver: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load driver %s: %w", path, err)
	}
	return nil
}

// The buses that a machine's devices may be on, and the groups of their drivers.
const (
	busPCI  = "pci"
	busMMIO = "mmio"
)

// busOf tells on which bus the machine's devices are.
func busOf(sys string) string {
	devices, err := os.ReadDir(filepath.Join(sys, "bus/pci/devices"))
	if err != nil || len(devices) == 0 {
		return busMMIO
	}
	return busPCI
}
