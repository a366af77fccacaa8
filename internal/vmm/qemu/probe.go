package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

const (
	kvmDevice = "/dev/kvm"
	// kvmMin and kvmMax bound how long a boot by KVM may take. A working KVM
	// boots the probe in well under a second; a broken one (nested, often)
	// hangs for ever.
	kvmMin = 1500 * time.Millisecond
	kvmMax = 5 * time.Second
	// tcgMax bounds a boot by translation, about 1.5 s on a quiet host.
	tcgMax         = 60 * time.Second
	probeMemoryMiB = 128
	probeFile      = "probe.json"
	bootIDFile     = "/proc/sys/kernel/random/boot_id"
)

// probeResult is what a probe found, kept for as long as its key holds.
type probeResult struct {
	Key          string           `json:"key"`
	Capabilities vmm.Capabilities `json:"capabilities"`
}

// Probe implements vmm.Driver.
func (d *Driver) Probe(ctx context.Context, img vmm.Image) (vmm.Capabilities, error) {
	d.probeMu.Lock()
	defer d.probeMu.Unlock()
	if d.caps != nil {
		return *d.caps, nil
	}
	binary, err := d.binary()
	if err != nil {
		return vmm.Capabilities{}, err
	}
	ver, err := version(ctx, binary)
	if err != nil {
		return vmm.Capabilities{}, err
	}
	caps := vmm.Capabilities{Driver: Name, Version: ver}
	if img.Kernel == "" || img.Initrd == "" || !img.Agent {
		// Nothing to prove KVM with: translation always works. The next image
		// may bring a kernel, so this is not kept.
		caps.Accelerator = vmm.TCG
		caps.Notes = append(caps.Notes, "KVM was not tried: the image has no kernel to probe with.")
		d.addLimits(&caps)
		return caps, nil
	}
	key, err := probeKey(ver, img)
	if err != nil {
		return vmm.Capabilities{}, err
	}
	if kept, ok := d.loadProbe(key); ok {
		caps = kept
	} else {
		if err := d.probeAccelerator(ctx, binary, img, &caps); err != nil {
			return vmm.Capabilities{}, err
		}
		if err := d.keepProbe(probeResult{key, caps}); err != nil {
			d.log.Warn("probe result not kept", "err", err)
		}
	}
	d.addLimits(&caps)
	d.caps = &caps
	d.log.Info("hypervisor probed", "version", ver, "accelerator", caps.Accelerator, "cgroup", caps.Cgroup)
	return caps, nil
}

// addLimits says whether machines can be limited.
func (d *Driver) addLimits(caps *vmm.Capabilities) {
	_, err := d.cgroups()
	if err != nil {
		caps.Notes = append(caps.Notes, fmt.Sprintf("CPU and memory are not limited by the host: %v.", err))
	}
	caps.Cgroup = err == nil
}

// probeAccelerator boots the image by every accelerator that may work, at the
// same time, and takes the better that does.
func (d *Driver) probeAccelerator(ctx context.Context, binary string, img vmm.Image, caps *vmm.Capabilities) error {
	var boots sync.WaitGroup
	defer boots.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The loop forgets a channel that it waits for no longer: who boots must not.
	start := func(boot func() error) <-chan error {
		done := make(chan error, 1)
		boots.Go(func() { done <- boot() })
		return done
	}
	tcg := start(func() error { return bootProbe(ctx, binary, img, vmm.TCG, tcgMax) })
	kvm := start(func() error { return tryKVM(ctx, binary, img) })

	// KVM is quicker than TCG wherever it works, so when TCG is through, KVM
	// gets little more time. This measures the host's load too.
	begin := time.Now()
	var last <-chan time.Time
	for {
		select {
		case err := <-kvm:
			if err == nil {
				caps.Accelerator = vmm.KVM
				return nil // The other boot is ended.
			}
			caps.Notes = append(caps.Notes, fmt.Sprintf("Guests run by translation: %v.", err))
			kvm, last = nil, nil
		case <-last:
			caps.Notes = append(caps.Notes, fmt.Sprintf("Guests run by translation: %s is there, but no kernel boots by it (tried for %.1f s).", kvmDevice, time.Since(begin).Seconds()))
			kvm, last = nil, nil
		case err := <-tcg:
			if err != nil {
				if ctx.Err() != nil {
					return fmt.Errorf("probe QEMU: %w", context.Cause(ctx))
				}
				return errs.New(errs.Unavailable, "QEMU does not boot the probe image, even by translation: %w", err)
			}
			caps.Accelerator = vmm.TCG
			tcg = nil
			last = time.After(min(max(kvmMin, 2*time.Since(begin)), kvmMax) - time.Since(begin))
		}
		if kvm == nil && tcg == nil {
			return nil
		}
	}
}

// tryKVM boots the image by KVM, when this process may.
func tryKVM(ctx context.Context, binary string, img vmm.Image) error {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s cannot be used (%w)", kvmDevice, err)
	}
	f.Close()
	return bootProbe(ctx, binary, img, vmm.KVM, kvmMax)
}

// bootProbe boots the image's kernel and returns nil when aleph-guest says
// that it runs.
func bootProbe(ctx context.Context, binary string, img vmm.Image, acc vmm.Accelerator, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	args := append(baseArgs(acc, 1, probeMemoryMiB), "-machine", chipset, "-no-reboot", "-serial", "stdio")
	args = append(args, kernelArgs(img, acc, agent.ProbeArgument)...)
	cmd := exec.CommandContext(ctx, binary, args...)
	// The two streams are written by two goroutines, each its own.
	out, stderr := &process.Marker{Want: []byte(agent.ProbeMarker)}, &process.Head{}
	cmd.Stdout, cmd.Stderr = out, stderr
	// A probe ends with this process, however that ends. The kernel goes by the
	// thread that started it, so the thread must stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	switch {
	case out.Found:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("no kernel has booted by %s in %v", acc, most)
	case err != nil:
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("QEMU ended by %s: %w: %s", acc, err, said)
	}
	return fmt.Errorf("QEMU ended without a sign of the guest")
}

// probeKey names what a result depends on: this boot of the host, QEMU, and
// the kernel that was booted.
func probeKey(version string, img vmm.Image) (string, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n", Name, version, strings.TrimSpace(string(boot)), img.Cmdline)
	for _, name := range []string{img.Kernel, img.Initrd} {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("open probe image: %w", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read probe image: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// loadProbe returns the kept result for the key.
func (d *Driver) loadProbe(key string) (vmm.Capabilities, bool) {
	raw, err := os.ReadFile(filepath.Join(d.cfg.CacheDir, probeFile))
	if err != nil {
		return vmm.Capabilities{}, false
	}
	kept, err := parseProbe(raw)
	return kept.Capabilities, err == nil && kept.Key == key
}

func parseProbe(raw []byte) (probeResult, error) {
	var r probeResult
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("decode probe result: %w", err)
	}
	if a := r.Capabilities.Accelerator; a != vmm.KVM && a != vmm.TCG {
		return r, errors.New("probe result has no accelerator")
	}
	return r, nil
}

func (d *Driver) keepProbe(r probeResult) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode probe result: %w", err)
	}
	if err := os.MkdirAll(d.cfg.CacheDir, 0o755); err != nil {
		return fmt.Errorf("make cache directory: %w", err)
	}
	return process.ReplaceFile(filepath.Join(d.cfg.CacheDir, probeFile), raw)
}
