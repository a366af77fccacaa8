package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

// drive is a disk of the machine.
type drive struct {
	node, path, format string
	readOnly           bool
	bytes              int64 // As the guest sees it.
}

// The bytes of an image by which processes of QEMU tell each other what they do
// with it: the first says who writes, the second who bears no other writer.
const (
	lockWrites  = 100 + 1
	lockNoOther = 200 + 1
)

// open opens the disk and locks it as QEMU does.
func (d *drive) open() (*os.File, error) {
	flag := os.O_RDWR
	if d.readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(d.path, flag, 0)
	if err != nil {
		return nil, fmt.Errorf("Could not open '%s': %w", d.path, err) //nolint:staticcheck // QEMU's own words.
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at disk: %w", err)
	}
	d.bytes = info.Size()
	if d.format == "qcow2" {
		h, err := qcow2.Read(f, info.Size())
		if err != nil {
			return nil, fmt.Errorf("read disk: %w", err)
		}
		d.bytes = h.VirtualBytes
	}
	if d.readOnly {
		return f, nil
	}
	for _, at := range []int64{lockWrites, lockNoOther} {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: at, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
			return nil, fmt.Errorf("lock disk: %w", err)
		}
	}
	for _, at := range []int64{lockWrites, lockNoOther} {
		other := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &other); err != nil {
			return nil, fmt.Errorf("ask for locks of disk: %w", err)
		}
		if other.Type != unix.F_UNLCK {
			return nil, fmt.Errorf(`Failed to get "write" lock. Is another process using the image [%s]?`, d.path) //nolint:staticcheck // QEMU's own words.
		}
	}
	return f, nil
}

// openTap attaches to a TAP device that is there already, which only one process
// can.
func openTap(name string) (*os.File, error) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("TAP device %q: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, ifr); err != nil {
		return nil, fmt.Errorf("could not configure /dev/net/tun (%s): %w", name, err)
	}
	return f, nil
}
