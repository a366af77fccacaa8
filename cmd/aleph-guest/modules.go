package main

import (
	"errors"
	"fmt"
	"os"
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

// load loads the drivers of a group.
func (m modules) load(group string) error {
	for _, path := range m[group] {
		if err := loadModule(path); err != nil {
			return err
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
