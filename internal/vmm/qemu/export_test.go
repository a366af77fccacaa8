package qemu

import (
	"context"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// SetHost says where the devices and parameters of the host are.
func (d *Driver) SetHost(root string) { d.host = root }

// Confidential are the arguments of a confidential machine, and of a question to its
// platform.
func Confidential(spec vmm.Spec, p *vmm.Platform) (machine, platform []string) {
	return machineArgs(spec, vmm.KVM, memory{}, p), platformArgs()
}

// Do has the machine's QEMU execute a command, for benches of what it could do
// otherwise.
func Do(ctx context.Context, m vmm.Machine, command string, arguments, out any) error {
	qm, ok := m.(*machine)
	if !ok {
		return errors.New("not a machine of QEMU")
	}
	return qm.qmp.do(ctx, command, arguments, out)
}
