package qemu

import "github.com/aleph-onchain/aleph-onchain/internal/vmm"

// gpuArgs give a machine devices of the host. These need a board with PCI Express, and
// processors whose addresses the host's IOMMU can map.
func gpuArgs(gpus []vmm.GPU, acc vmm.Accelerator) []string {
	if len(gpus) == 0 {
		return nil
	}
	args := []string{"-machine", "q35"} // The last one counts.
	if acc == vmm.KVM {
		args = append(args, "-cpu", "host,host-phys-bits-limit=0x28")
	}
	for _, g := range gpus {
		device := "vfio-pci,host=" + g.PCIHost + ",rombar=0"
		if g.Display {
			device += ",x-vga=on"
		}
		args = append(args, "-device", device)
	}
	return args
}

// gpuCmdline is what a kernel with such devices is told: it leaves their windows where
// they are.
func gpuCmdline(gpus []vmm.GPU) []string {
	if len(gpus) == 0 {
		return nil
	}
	return []string{"pci=realloc=off", "pci=noaer"}
}
