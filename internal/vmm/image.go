package vmm

import (
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Format is the format of a disk image.
type Format string

// The disk formats.
const (
	Raw   Format = "raw"
	Qcow2 Format = "qcow2"
)

// Image is a machine image that is ready to boot: unpacked and checked. Use
// OpenImage.
type Image struct {
	Name    string `json:"name"`
	Kernel  string `json:"kernel,omitempty"` // Path; "" boots from the disk by firmware.
	Initrd  string `json:"initrd,omitempty"` // Path.
	Cmdline string `json:"cmdline,omitempty"`
	Rootfs  string `json:"rootfs"` // Path of the disk that machines share, read only.
	Format  Format `json:"format"`
	// VirtualBytes is the size of the disk as a guest sees it.
	VirtualBytes int64 `json:"virtual_bytes"`
	// Agent is set when aleph-guest runs inside.
	Agent bool `json:"agent"`
}

func (i Image) validate() error {
	switch {
	case i.Rootfs == "":
		return errs.New(errs.Invalid, "image %q has no root disk", i.Name)
	case i.Format != Raw && i.Format != Qcow2:
		return errs.New(errs.Invalid, "image %q has disk format %q, want raw or qcow2", i.Name, i.Format)
	case i.Kernel == "" && (i.Initrd != "" || i.Cmdline != ""):
		return errs.New(errs.Invalid, "image %q has an initrd or a command line without a kernel", i.Name)
	}
	return nil
}
