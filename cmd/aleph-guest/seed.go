package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

// instanceFile remembers for which instance the first boot was done: what the
// tenant changes afterwards is kept.
const instanceFile = "var/lib/aleph/instance-id"

// writeSeed writes what the seed says below root. Name and nameservers may
// differ at each boot; keys and variables are written once per instance.
func writeSeed(root string, seed cloudinit.Seed) error {
	files := []seedFile{
		{"etc/hostname", 0o644, seed.Hostname + "\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 " + seed.Hostname + "\n"},
	}
	if seed.Network != nil {
		files = append(files, seedFile{"etc/resolv.conf", 0o644, resolvConf(seed.Network.Nameservers)})
	}
	done, err := os.ReadFile(filepath.Join(root, instanceFile))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read instance id: %w", err)
	}
	if string(done) != seed.InstanceID+"\n" {
		files = append(files,
			seedFile{"root/.ssh/authorized_keys", 0o600, lines(seed.AuthorizedKeys)},
			seedFile{strings.TrimPrefix(cloudinit.VariablesPath, "/"), 0o600, seed.ShellVariables()},
			seedFile{instanceFile, 0o644, seed.InstanceID + "\n"},
		)
	}
	for _, f := range files {
		if err := f.write(root); err != nil {
			return err
		}
	}
	return nil
}

type seedFile struct {
	name    string
	mode    os.FileMode
	content string
}

// write replaces the file in one step, so that a machine that is killed now
// boots with the old or the new one.
func (f seedFile) write(root string) error {
	name := filepath.Join(root, f.name)
	old, err := os.ReadFile(name)
	if err == nil && string(old) == f.content {
		return nil
	}
	dirMode := os.FileMode(0o755)
	if f.mode&0o077 == 0 {
		dirMode = 0o700
	}
	if err := os.MkdirAll(filepath.Dir(name), dirMode); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	tmp := name + ".aleph-tmp"
	if err := os.WriteFile(tmp, []byte(f.content), f.mode); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	return nil
}

func resolvConf(servers []netip.Addr) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s.String() + "\n")
	}
	return b.String()
}

func lines(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}
