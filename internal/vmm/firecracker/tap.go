package firecracker

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const tunDevice = "/dev/net/tun"

// tapFlags are those by which Firecracker opens a device: frames without a
// header of the kernel's, with one of virtio's.
const tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// openTap attaches to the TAP device, and makes it when it is not there.
func openTap(name string) (int, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errs.New(errs.Unavailable, "open %s: %w", tunDevice, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return -1, errs.New(errs.Invalid, "TAP network device %q: %w", name, err)
	}
	ifr.SetUint16(tapFlags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, errs.New(errs.Unavailable, "attach to the TAP network device %s: %w", name, err)
	}
	return fd, nil
}

// grantTap lets the owner, who has no privileges, attach to a TAP device.
func grantTap(name string, o owner) error {
	fd, err := openTap(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, o.uid); err != nil {
		return fmt.Errorf("let the machine's user have the TAP network device %s: %w", name, err)
	}
	return nil
}

// makeTap makes a device of the owner that leads nowhere and stays until it is
// dropped.
func makeTap(name string, o owner) error {
	fd, err := openTap(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.IoctlSetInt(fd, unix.TUNSETOWNER, o.uid)
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		return fmt.Errorf("make the TAP network device %s: %w", name, err)
	}
	return nil
}

// dropTap removes a device that makeTap made.
func dropTap(name string) error {
	fd, err := openTap(name)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0), unix.Close(fd))
}
