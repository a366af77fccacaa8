package qemu

import (
	"context"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// Do has the machine's QEMU execute a command, for benches of what it could do
// otherwise.
func Do(ctx context.Context, m vmm.Machine, command string, arguments, out any) error {
	qm, ok := m.(*machine)
	if !ok {
		return errors.New("not a machine of QEMU")
	}
	return qm.qmp.do(ctx, command, arguments, out)
}
