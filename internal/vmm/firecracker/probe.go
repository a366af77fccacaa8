package firecracker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

const (
	kvmDevice = "/dev/kvm"
	// probeMax bounds a boot. A working KVM boots the probe in well under a
	// second; a broken one (nested, often) hangs for ever.
	probeMax       = 5 * time.Second
	probeMemoryMiB = 128
	probeFile      = "firecracker-probe.json"
	probeConfig    = "/config.json"
)

// probeResult is what a probe found, kept for as long as its key holds.
type probeResult struct {
	Key          string           `json:"key"`
	Capabilities vmm.Capabilities `json:"capabilities"`
}

// Probe implements vmm.Driver. There is no other way to run a guest than KVM, so
// a host on which the image does not boot gives errs.Unavailable.
func (d *Driver) Probe(ctx context.Context, img vmm.Image) (vmm.Capabilities, error) {
	d.probeMu.Lock()
	defer d.probeMu.Unlock()
	if d.caps != nil {
		return *d.caps, nil
	}
	t, err := d.tools(ctx)
	if err != nil {
		return vmm.Capabilities{}, err
	}
	caps := vmm.Capabilities{Driver: Name, Version: t.version.text, Accelerator: vmm.KVM}
	if err := d.cgroups.usable(); err != nil {
		caps.Notes = append(caps.Notes, fmt.Sprintf("CPU and memory are not limited by the host: %v.", err))
	}
	caps.Cgroup = len(caps.Notes) == 0
	if img.Kernel == "" || img.Initrd == "" || !img.Agent {
		// Nothing to prove KVM with. The next image may bring a kernel, so this
		// is not kept.
		if err := kvmOpens(); err != nil {
			return vmm.Capabilities{}, err
		}
		caps.Notes = append(caps.Notes, "KVM was not tried: the image has no kernel to probe with.")
		return caps, nil
	}
	key, err := d.probeKey(t, img)
	if err != nil {
		return vmm.Capabilities{}, err
	}
	if !d.wasProbed(key) {
		if err := d.bootProbe(ctx, t, img); err != nil {
			return vmm.Capabilities{}, err
		}
		if err := d.keepProbe(probeResult{key, caps}); err != nil {
			d.log.Warn("probe result not kept", "err", err)
		}
	}
	d.caps = &caps
	d.log.Info("hypervisor probed", "driver", Name, "version", caps.Version, "cgroup", caps.Cgroup)
	return caps, nil
}

// kvmOpens reports why guests cannot run in hardware, as errs.Unavailable.
func kvmOpens() error {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return errs.New(errs.Unavailable, "Firecracker needs KVM, and %s cannot be used (%w): run the node on hardware with virtualisation, or with QEMU", kvmDevice, err)
	}
	f.Close()
	return nil
}

// bootProbe boots the image's kernel in a jail and returns nil when aleph-guest
// says that it runs.
func (d *Driver) bootProbe(ctx context.Context, t tools, img vmm.Image) (err error) {
	if err := os.MkdirAll(d.cfg.CacheDir, 0o755); err != nil {
		return fmt.Errorf("make cache directory: %w", err)
	}
	dir, err := os.MkdirTemp(d.cfg.CacheDir, "probe-")
	if err != nil {
		return fmt.Errorf("make probe directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	id := "probe-" + strings.ToLower(rand.Text())
	rec := record{ID: id, Exec: filepath.Base(t.binary)}
	j := jail{rec.root(dir), t.owner}
	if err := j.make(dir); err != nil {
		return err
	}
	err = errors.Join(j.share(img.Kernel, kernelPath), j.share(img.Initrd, initrdPath))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(map[string]any{
		"machine-config": machineConfig{VCPUs: 1, MemoryMiB: probeMemoryMiB},
		"boot-source": bootSource{
			Kernel: kernelPath, Initrd: initrdPath,
			Args: strings.TrimSpace(strings.Join([]string{img.Cmdline, resetArg, agent.ProbeArgument}, " ")),
		},
		"drives": []drive{},
	})
	if err != nil {
		return fmt.Errorf("encode probe: %w", err)
	}
	config := filepath.Join(j.root, probeConfig)
	if err := os.WriteFile(config, raw, 0o600); err != nil {
		return fmt.Errorf("write probe: %w", err)
	}
	if err := t.owner.take(config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.jailer,
		"--id", id, "--exec-file", t.binary, "--uid", strconv.Itoa(t.owner.uid), "--gid", strconv.Itoa(t.owner.gid),
		"--chroot-base-dir", filepath.Join(dir, jailDir), "--", "--no-api", "--config-file", probeConfig)
	out, stderr := &process.Marker{Want: []byte(agent.ProbeMarker)}, &process.Head{}
	cmd.Stdout, cmd.Stderr = out, stderr
	err = cmd.Run()
	if out.Found {
		return nil
	}
	if kvm := kvmOpens(); kvm != nil {
		return kvm
	}
	if ctx.Err() != nil {
		return errs.New(errs.Unavailable, "%s is there, but no kernel boots by it (tried for %v): run the node on hardware with virtualisation, or with QEMU", kvmDevice, probeMax)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	return errs.New(errs.Unavailable, "Firecracker does not boot the probe image: %w: %s", err, said)
}

// probeKey names what a result depends on: this boot of the host, the program,
// and the kernel that was booted.
func (d *Driver) probeKey(t tools, img vmm.Image) (string, error) {
	host, err := d.hostOf(t)
	if err != nil {
		return "", err
	}
	kernel, err := d.sums.Of(img.Kernel)
	if err != nil {
		return "", err
	}
	initrd, err := d.sums.Of(img.Initrd)
	return strings.Join([]string{host.BinarySum, host.Boot, kernel, initrd, img.Cmdline}, " "), err
}

// wasProbed reports whether the image has booted before.
func (d *Driver) wasProbed(key string) bool {
	raw, err := os.ReadFile(filepath.Join(d.cfg.CacheDir, probeFile))
	if err != nil {
		return false
	}
	kept, err := parseProbe(raw)
	return err == nil && kept.Key == key
}

func parseProbe(raw []byte) (probeResult, error) {
	var r probeResult
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("decode probe result: %w", err)
	}
	if r.Capabilities.Driver != Name || r.Key == "" {
		return r, fmt.Errorf("probe result is of the driver %q, want %s", r.Capabilities.Driver, Name)
	}
	return r, nil
}

func (d *Driver) keepProbe(r probeResult) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode probe result: %w", err)
	}
	return process.ReplaceFile(filepath.Join(d.cfg.CacheDir, probeFile), raw)
}
