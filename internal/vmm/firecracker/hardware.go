package firecracker

import (
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	vcpusMax = 32
	netID    = "eth0"
	// guestCID is the guest's address on its own vsock; there is one guest on
	// each, so all have the same.
	guestCID = 3
	// plainArgs boot a kernel that was given to a plain disk: what the machine
	// does not have is not looked for.
	plainArgs = "console=ttyS0 quiet panic=1 random.trust_cpu=on i8042.noaux i8042.nomux i8042.dumbkbd"
	// resetArg ends the machine when the guest restarts: it has no other switch.
	resetArg = "reboot=k"
	// serialBytesPerSecond bounds what a guest writes to its console where
	// Firecracker can: it fills a screen thirty times a second, and a disk in
	// days rather than minutes while no daemon trims the file.
	serialBytesPerSecond = 64 << 10
)

// fits reports what in a spec Firecracker cannot do, as errs.Invalid.
func fits(spec vmm.Spec) error {
	switch {
	case spec.VCPUs > vcpusMax:
		return errs.New(errs.Invalid, "machine has %d vCPUs, Firecracker has at most %d", spec.VCPUs, vcpusMax)
	case spec.Confidential != nil:
		return errs.New(errs.Invalid, "Firecracker has no confidential machines")
	case spec.Net.Kind == vmm.NetUser:
		return errs.New(errs.Invalid, "Firecracker has no user-mode networking: the node needs root, or CAP_NET_ADMIN and /dev/net/tun")
	case spec.Image.Kernel == "":
		return errs.New(errs.Invalid, "image %q has no kernel, and Firecracker no firmware that would look for one: set kernel in [firecracker]", spec.Image.Name)
	case spec.Image.Format != vmm.Raw:
		return errs.New(errs.Invalid, "image %q is a %s disk, Firecracker has raw ones only", spec.Image.Name, spec.Image.Format)
	}
	if len(spec.GPUs) > 0 {
		return errs.New(errs.Invalid, "the machine wants %d GPUs, Firecracker gives none", len(spec.GPUs))
	}
	for _, v := range spec.Volumes {
		if v.Format != vmm.Raw {
			return errs.New(errs.Invalid, "volume %s is a %s disk, Firecracker has raw ones only", v.Path, v.Format)
		}
	}
	return nil
}

// hardware is a machine in Firecracker's words.
type hardware struct {
	machine machineConfig
	boot    bootSource
	drives  []drive
	net     *networkInterface
}

// bootArgs is the kernel's command line.
func bootArgs(spec vmm.Spec) string {
	args := []string{spec.Image.Cmdline, resetArg}
	if spec.Image.Cmdline == "" {
		args[0] = plainArgs
	}
	if spec.Function {
		args = append(args, guest.FunctionArgument)
	}
	return strings.TrimSpace(strings.Join(args, " "))
}

// limit is a limiter to so many bytes in a second; 0 gives none.
func limit(bytes int) *rateLimiter {
	if bytes == 0 {
		return nil
	}
	return &rateLimiter{Bandwidth: &tokenBucket{Size: int64(bytes), RefillMillis: 1000}}
}

// calls describe the machine to a process that has none yet.
func (h hardware) calls(spec vmm.Spec, ver version) []call {
	calls := []call{
		put("/machine-config", h.machine),
		put("/boot-source", h.boot),
	}
	for _, d := range h.drives {
		calls = append(calls, put("/drives/"+d.ID, d))
	}
	if h.net != nil {
		calls = append(calls, put("/network-interfaces/"+h.net.ID, *h.net))
	}
	calls = append(calls,
		put("/vsock", vsockDevice{CID: guestCID, Path: "/" + vsockSocket}),
		put("/entropy", entropyDevice{}),
	)
	if ver.atLeast(serialLimits) {
		calls = append(calls, put("/serial", serialDevice{Limiter: &tokenBucket{Size: serialBytesPerSecond, RefillMillis: 1000}}))
	}
	if spec.Function {
		return calls
	}
	if ver.atLeast(pageReporting) {
		// Memory that the guest has freed goes back to the host.
		calls = append(calls, put("/balloon", balloon{DeflateOnOOM: true, Reporting: true}))
	}
	if h.net != nil {
		calls = append(calls,
			put("/mmds/config", mmdsConfig{Version: "V2", Interfaces: []string{h.net.ID}}),
			put("/mmds", metadata(spec)),
		)
	}
	return calls
}

// metadata is what a guest can ask for at the address that clouds have for it.
func metadata(spec vmm.Spec) map[string]any {
	return map[string]any{"latest": map[string]any{"meta-data": map[string]any{
		"instance-id": spec.Seed.InstanceID, "local-hostname": spec.Seed.Hostname, "hostname": spec.Seed.Hostname,
	}}}
}
