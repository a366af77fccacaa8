package vmm

import (
	"regexp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// gpusMax bounds the GPUs of a machine.
const gpusMax = 8

// GPU is a device of the host that a machine has for itself. The host's driver vfio-pci
// holds it.
type GPU struct {
	PCIHost string `json:"pci_host"` // Such as 01:00.0.
	// Display is set for one that may be the machine's display.
	Display bool `json:"display,omitempty"`
}

// pciHost is [domain:]bus:slot.function.
var pciHost = regexp.MustCompile(`^([0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)

func validateGPUs(gpus []GPU) error {
	if len(gpus) > gpusMax {
		return errs.New(errs.Invalid, "machine has %d GPUs, at most %d", len(gpus), gpusMax)
	}
	seen := map[string]bool{}
	for _, g := range gpus {
		if !pciHost.MatchString(g.PCIHost) || seen[g.PCIHost] {
			return errs.New(errs.Invalid, "GPU at %q, want an address such as 01:00.0, once", g.PCIHost)
		}
		seen[g.PCIHost] = true
	}
	return nil
}
