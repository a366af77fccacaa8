package qemu

import (
	"fmt"
	"os"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// The files of a machine's directory that are ours; the hypervisor runs in it
// and knows them by these names, which fit into a socket's address however
// long the path is.
const (
	diskFile     = vmm.DiskFile
	seedFile     = "seed.iso"
	machineFile  = "machine.json"
	logFile      = "qemu.log"
	qmpSocket    = "qmp.sock"
	agentSocket  = "agent.sock"
	guestSocket  = "qga.sock"
	streamSocket = "streams.sock"
	memoryFile   = "memory" // Of a template.
)

// chipset is that of all machines but confidential ones.
const chipset = "pc,usb=off,vmport=off,hpet=off,graphics=off"

// baseArgs are the same for machines and probes. Nothing that is not asked
// for: no default devices, no user configuration, no display.
func baseArgs(acc vmm.Accelerator, vcpus, memoryMiB int) []string {
	cpu := "max"
	if acc == vmm.KVM {
		cpu = "host"
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", string(acc), "-cpu", cpu,
		"-smp", fmt.Sprint(vcpus), "-m", fmt.Sprintf("%dM", memoryMiB),
		// A guest that breaks out finds no other programs to start.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	}
}

// machineArgs is the command line of a machine, without the program.
// p is the platform of a confidential machine, nil for others.
func machineArgs(spec vmm.Spec, acc vmm.Accelerator, mem memory, p *vmm.Platform) []string {
	args := baseArgs(acc, spec.VCPUs, spec.MemoryMiB)
	if spec.Confidential != nil {
		args = append(args, sevArgs(spec.Confidential, p)...)
	} else {
		args = append(args, "-machine", chipset)
	}
	args = append(args,
		"-name", spec.ID, "-uuid", uuidOf(spec.ID), "-rtc", "base=utc",
		"-chardev", "socket,id=qmp,path="+qmpSocket+",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=console,path="+vmm.ConsoleFile+",append=on", "-serial", "chardev:console",
	)
	args = append(args, mem.args(spec.MemoryMiB)...)
	if spec.Function {
		args = append(args, functionArgs(spec)...)
	} else {
		args = append(args, instanceArgs()...)
	}
	args = append(args, volumeArgs(spec.Volumes)...)
	args = append(args, netArgs(spec.Net)...)
	args = append(args, gpuArgs(spec.GPUs, acc)...)
	switch {
	case spec.Function:
		return append(args, kernelArgs(spec.Image, acc, guest.FunctionArgument)...)
	case spec.Confidential != nil:
		return args // What boots must be measured, and that is the firmware alone.
	}
	return append(args, kernelArgs(spec.Image, acc, gpuCmdline(spec.GPUs)...)...)
}

// instanceArgs are the devices of a machine with a disk of its own.
func instanceArgs() []string {
	return []string{
		"-blockdev", "driver=qcow2,node-name=root,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=" + diskFile,
		"-device", "virtio-blk-pci,drive=root", // First, so that firmware boots it.
		"-blockdev", "driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=" + seedFile,
		"-device", "virtio-blk-pci,drive=seed",
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=" + agentSocket + ",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=" + agent.PortName,
		"-chardev", "socket,id=qga,path=" + guestSocket + ",server=on,wait=off",
		"-device", "virtserialport,chardev=qga,name=" + guestAgentPort,
	}
}

// functionArgs are the devices of a function.
func functionArgs(spec vmm.Spec) []string {
	return []string{
		"-blockdev", fmt.Sprintf("driver=%s,node-name=root,read-only=on,file.driver=file,file.filename=%s", spec.Image.Format, spec.Image.Rootfs),
		"-device", "virtio-blk-pci,drive=root",
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=streams,path=" + streamSocket + ",server=on,wait=off",
		"-device", "virtserialport,chardev=streams,name=" + guest.StreamsPort,
	}
}

// memory says where the memory of a guest is. The zero value is nowhere in
// particular.
type memory struct {
	file  string // "" for none.
	share bool   // The guest writes to the file; otherwise what it writes is its own.
}

func (m memory) args(memoryMiB int) []string {
	if m.file == "" {
		return nil
	}
	share := "off"
	if m.share {
		share = "on"
	}
	args := []string{
		"-object", fmt.Sprintf("memory-backend-file,id=memory,size=%dM,mem-path=%s,share=%s", memoryMiB, m.file, share),
		"-machine", "memory-backend=memory",
	}
	if !m.share {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// volumeArgs are the further drives, in the order in which the guest sees them.
func volumeArgs(volumes []vmm.Volume) []string {
	var args []string
	for i, v := range volumes {
		dev := fmt.Sprintf("driver=%s,node-name=volume%d,discard=unmap,file.driver=file,file.filename=%s", v.Format, i, v.Path)
		if v.ReadOnly {
			dev += ",read-only=on"
		}
		args = append(args, "-blockdev", dev, "-device", fmt.Sprintf("virtio-blk-pci,drive=volume%d", i))
	}
	return args
}

// quickFirmware starts a kernel and nothing else, some 0.15 s sooner than the
// usual firmware under translation. It comes with Debian's QEMU; where it is
// not, the usual one does.
const quickFirmware = "/usr/share/qemu/qboot.rom"

// kernelArgs boots the image's kernel directly, when it has one.
func kernelArgs(img vmm.Image, acc vmm.Accelerator, more ...string) []string {
	if img.Kernel == "" {
		return nil
	}
	args := []string{"-kernel", img.Kernel}
	if _, err := os.Stat(quickFirmware); err == nil {
		args = append(args, "-bios", quickFirmware)
	}
	if img.Initrd != "" {
		args = append(args, "-initrd", img.Initrd)
	}
	cmdline := append([]string{img.Cmdline}, more...)
	if acc == vmm.TCG {
		// Under translation the guest would calibrate a clock and test a timer
		// that are known to work.
		cmdline = append(cmdline, "no_timer_check", "lpj=10400000")
	}
	return append(args, "-append", strings.TrimSpace(strings.Join(cmdline, " ")))
}

// netArgs are the network device. It has no boot ROM: guests boot from disk.
func netArgs(n vmm.NetDevice) []string {
	if n.Kind == vmm.NetNone {
		return nil
	}
	device := "virtio-net-pci,netdev=net,romfile="
	if n.MAC != "" {
		device += ",mac=" + n.MAC
	}
	var dev strings.Builder
	switch n.Kind {
	case vmm.NetTap:
		dev.WriteString("tap,id=net,script=no,downscript=no,ifname=" + n.Tap)
	case vmm.NetUser:
		dev.WriteString("user,id=net")
		if !n.Egress {
			// Nothing but forwarded ports, which are of IPv4.
			dev.WriteString(",ipv6=off,restrict=on")
		}
		for _, f := range n.Forwards {
			fmt.Fprintf(&dev, ",hostfwd=%s:%s:%d-:%d", f.Protocol, f.HostIP, f.HostPort, f.GuestPort)
		}
	case netNowhere:
		dev.WriteString("hubport,id=net,hubid=0")
	case vmm.NetNone:
	}
	return []string{"-netdev", dev.String(), "-device", device}
}

// uuidOf makes the machine's UUID from its id.
func uuidOf(id string) string {
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
}
