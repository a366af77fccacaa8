package job

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Needs is what the machine of an INSTANCE takes from its host.
type Needs struct {
	Driver    string // hypervisor that must run it
	VCPUs     int
	MemoryMiB int
	DiskMiB   int64
}

// NeedsOf returns what the instance needs. The error says, for its owner,
// which part of the content no node of this network can give.
func NeedsOf(i *message.Instance) (Needs, error) {
	switch {
	case i.PaymentType() != message.PayCredit:
		return Needs{}, fmt.Errorf("payment by %s is not taken here, only credit", i.PaymentType())
	case i.Environment.TrustedExecution != nil:
		return Needs{}, fmt.Errorf("no node runs confidential machines")
	case i.Requirements != nil:
		return Needs{}, fmt.Errorf("requirements are not matched here; name a node in the offer instead")
	case len(i.Volumes) > 0:
		return Needs{}, fmt.Errorf("no node attaches volumes besides the root disk")
	case i.Replaces != nil:
		return Needs{}, fmt.Errorf("a machine cannot replace another here; stop the other one and create this one")
	}
	if _, ok := i.Rootfs.Parent.Ref.Digest(); !ok {
		return Needs{}, fmt.Errorf("rootfs.parent.ref %s is not the hash of a STORE message", i.Rootfs.Parent.Ref)
	}
	n := Needs{
		Driver: message.QEMU, VCPUs: i.Resources.VCPUs, MemoryMiB: i.Resources.MemoryMiB, DiskMiB: i.Rootfs.SizeMiB,
	}
	if i.Environment.Hypervisor != nil {
		n.Driver = *i.Environment.Hypervisor
	}
	return n, nil
}
