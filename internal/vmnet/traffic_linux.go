package vmnet

import (
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Traffic is what a machine has received and sent since its device was made, in
// bytes of frames.
type Traffic struct {
	Received, Sent int64
}

// Traffic returns what went through the machine's device. It gives errs.NotFound
// when nobody counts: in user mode, or without the device.
func (n *Network) Traffic(l Lease) (Traffic, error) {
	if n.mode == User {
		return Traffic{}, errs.New(errs.NotFound, "the network of machine %s is its hypervisor's own, nobody counts there", l.ID)
	}
	name := n.tapName(l.ID)
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return Traffic{}, errs.New(errs.NotFound, "machine %s has no device %s", l.ID, name)
	}
	if err != nil {
		return Traffic{}, fmt.Errorf("look at device %s: %w", name, err)
	}
	counted := link.Attrs().Statistics
	if counted == nil {
		return Traffic{}, errs.New(errs.NotFound, "device %s has no counters", name)
	}
	// What the host receives from the device, the machine has sent.
	return Traffic{Received: count(counted.TxBytes), Sent: count(counted.RxBytes)}, nil
}

func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
