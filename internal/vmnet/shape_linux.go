package vmnet

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// shapingHandle is how our token buckets are told from queues of others.
const shapingHandle = 0xa1ef

// newBucket returns a token bucket in front of a device that gives out rate
// bytes a second: at once what comes in 10 ms, later what comes in another
// 100 ms. What is more gets lost.
func newBucket(index int, rate uint64) *netlink.Tbf {
	const atOnceMin = 256 << 10
	atOnce := max(rate/100, atOnceMin)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(shapingHandle, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Limit:      uint32(atOnce + rate/10),
		Buffer:     netlink.Xmittime(rate, uint32(atOnce)),
	}
}

// tryShaping reports whether a token bucket can be put before a device.
func tryShaping(device string) bool {
	link, err := findDevice(device)
	return err == nil && netlink.QdiscReplace(newBucket(link.Attrs().Index, 1<<20)) == nil
}

// applyShaping limits what a guest receives. What it sends is limited by the
// rules at its device.
func (n *Network) applyShaping(link netlink.Link, rate uint64) error {
	if !n.can.shaping {
		return nil
	}
	want := newBucket(link.Attrs().Index, max(rate, 1))
	if rate > 0 {
		if err := netlink.QdiscReplace(want); err != nil {
			return fmt.Errorf("limit what %s receives: %w", link.Attrs().Name, err)
		}
		return nil
	}
	err := netlink.QdiscDel(want)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("end the limit of %s: %w", link.Attrs().Name, err)
	}
	return nil
}
