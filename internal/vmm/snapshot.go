package vmm

import "context"

// Snapshotter is a driver that starts functions from the memory of one that
// has booted before.
//
// A snapshot is a directory. It serves on the host and during the boot of it
// that made it, with the same hypervisor and for machines of the same shape:
// processors, memory, kernel, number and sizes of drives, kind of network
// device. What the drives hold is for the caller to keep the same, as far as
// the guest has read it.
//
// All clones of a snapshot remember the same: random numbers to come, clock,
// host name, hardware address. Whoever starts one must tell the guest who it
// is before it works for anybody.
type Snapshotter interface {
	// StartTemplate starts a machine whose memory can be saved. Its network
	// device is one that leads nowhere, whatever spec.Net says, so that a
	// template needs nothing of the host's network. Otherwise it is Start.
	StartTemplate(ctx context.Context, spec Spec) (Template, error)

	// StartClone starts the machine of spec as the snapshot in dir left off.
	// A snapshot that is not there, is damaged, or does not fit the machine
	// or the host gives errs.NotFound with the reason: it can be removed, and
	// the machine be started otherwise. Other errors are those of Start.
	StartClone(ctx context.Context, spec Spec, dir string) (Machine, error)
}

// Template is a machine that becomes a snapshot.
type Template interface {
	Machine
	Streamer

	// Save waits for the end of all streams, ends those that stay, stops the guest, writes the snapshot to dir,
	// which must not be there and be on the file system of the machine's own
	// directory, and ends the machine: it appears whole or not at all.
	Save(ctx context.Context, dir string) error
}
