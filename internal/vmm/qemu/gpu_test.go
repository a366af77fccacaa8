package qemu

import (
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

func TestGPUsAreArguments(t *testing.T) {
	t.Parallel()
	spec := vmm.Spec{GPUs: []vmm.GPU{{PCIHost: "01:00.0", Display: true}, {PCIHost: "0001:02:00.1"}}}
	want := []string{
		"-machine", "q35", "-cpu", "host,host-phys-bits-limit=0x28",
		"-device", "vfio-pci,host=01:00.0,rombar=0,x-vga=on", "-device", "vfio-pci,host=0001:02:00.1,rombar=0",
	}
	if got := gpuArgs(spec.GPUs, vmm.KVM); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := gpuArgs(nil, vmm.KVM); got != nil {
		t.Errorf("without GPUs: %q", got)
	}
	if got := strings.Join(gpuCmdline(spec.GPUs), " "); got != "pci=realloc=off pci=noaer" || gpuCmdline(nil) != nil {
		t.Errorf("command line has %q", got)
	}
}

// TestGPUsAreAddresses: nothing else gets onto the command line.
func TestGPUsAreAddresses(t *testing.T) {
	t.Parallel()
	good := vmm.Spec{
		ID: strings.Repeat("0a", 32), VCPUs: 1, MemoryMiB: 512, Dir: "/vm", Function: true, Net: vmm.NetDevice{Kind: vmm.NetNone},
		Image: vmm.Image{Kernel: "/k", Rootfs: "/r", Format: vmm.Raw},
	}
	for _, hosts := range [][]string{{"01:00.0,x-vga=on"}, {"1:0.0"}, {""}, {"01:00.0", "01:00.0"}, {"/dev/sda"}, slices.Repeat([]string{"01:00.0"}, 9)} {
		spec := good
		for _, h := range hosts {
			spec.GPUs = append(spec.GPUs, vmm.GPU{PCIHost: h})
		}
		if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), "GPU") {
			t.Errorf("GPUs at %q: %v, want them refused", hosts, err)
		}
	}
	good.GPUs = []vmm.GPU{{PCIHost: "0001:0f:1f.7"}}
	if err := good.Validate(); err != nil && strings.Contains(err.Error(), "GPU") {
		t.Error(err)
	}
}
