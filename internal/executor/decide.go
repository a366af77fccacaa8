package executor

import (
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// wish is what should become of a VM.
type wish int

const (
	wishKeep  wish = iota // It runs, or is made to.
	wishPause             // It is shut down as it is not paid, and keeps all that it has.
	wishHalt              // It is shut down by its owner's order, and keeps its disk and ports.
	wishEnd               // It is stopped, and removed when its retention is over.
)

// order is what should become of a VM, and why.
type order struct {
	wish   wish
	reason string // Of all but wishKeep; "" for a pause whose dues say it.
	dues   dues   // Of wishPause; the zero dues when they are not known.
}

// decide says what should become of the VM. What is missing from the rows, or
// comes from rows that are behind the chain, changes nothing.
func decide(v *view, vm state.VM, nodeID uint32) order {
	o := decideByClaims(v, vm, nodeID)
	h := vm.Halt
	switch {
	case o.wish == wishEnd:
		return o
	case vm.Move != nil:
		return order{wish: wishHalt, reason: "moves to another node, since " + vm.Move.StartedAt.UTC().Format(time.RFC3339)}
	case h == nil:
		return o
	case h.Again && (isDown(vm) || vm.State == state.VMStopped):
		return o // It has been down, which was all that was ordered.
	case h.Again:
		return order{wish: wishHalt, reason: fmt.Sprintf("reboots by the order of %s at %s", h.By, h.At.UTC().Format(time.RFC3339))}
	default:
		return order{wish: wishHalt, reason: fmt.Sprintf("stopped by the order of %s at %s", h.By, h.At.UTC().Format(time.RFC3339))}
	}
}

// isDown reports whether the VM's process is known to be gone, after an order.
func isDown(vm state.VM) bool {
	return (vm.State == state.VMPaused || vm.State == state.VMHalted) && !vm.StoppedAt.IsZero()
}

// decideByClaims goes by what the chain and the message network want.
func decideByClaims(v *view, vm state.VM, nodeID uint32) order {
	j, l := v.jobs[vm.Spec], v.leases[vm.Spec]
	switch {
	case l != nil && l.Open():
		o := decideByLease(v, vm, l)
		if o.wish == wishPause && j != nil && j.NodeID == nodeID && !j.Status.Ended() {
			return decideByMoney(v, vm, j) // The chain may pay what credits do not.
		}
		return o
	case l != nil && j == nil:
		return order{wish: wishEnd, reason: l.End.Detail}
	case j == nil && v.synced && v.head.Time > vm.Until:
		return order{wish: wishEnd, reason: fmt.Sprintf("the chain dropped the job, and it could be opened again until %s only", chainTime(vm.Until))}
	case j == nil && vm.State == state.VMPaused:
		return order{wish: wishPause}
	case j == nil:
		return order{} // It may come back.
	case j.NodeID != nodeID:
		return order{wish: wishEnd, reason: fmt.Sprintf("the job was given to node %d", j.NodeID)}
	case j.Status.Ended():
		return order{wish: wishEnd, reason: endReason(vm, *j)}
	case vm.State == state.VMFailed:
		return order{}
	default:
		return decideByMoney(v, vm, j)
	}
}

// decideByMoney pauses the machine of a live job that its payer has left unpaid
// for too long, until the chain says that it is paid again. The chain must have
// tried to pull: after a chain that stood still for hours, payers are late who
// can pay.
func decideByMoney(v *view, vm state.VM, j *state.Job) order {
	paused, billed := vm.State == state.VMPaused, j.Status == state.JobRunning
	d, known := v.duesOf(j)
	switch {
	case paused && (!v.synced || billed && !known):
		return order{wish: wishPause, dues: d}
	case !v.synced || !known || !billed || !d.late:
		return order{}
	case paused || d.tried && v.head.Time > d.pauseAt:
		return order{wish: wishPause, dues: d}
	default:
		return order{}
	}
}

// endReason says for people why the job ended.
func endReason(vm state.VM, j state.Job) string {
	reason := j.Reason
	if reason == "" {
		reason = "the job is " + string(j.Status)
	}
	if vm.DryAt != 0 && j.Status == state.JobExpired {
		reason += fmt.Sprintf("; the payer's allowance ran dry at %s, the grace ended at %s", chainTime(vm.DryAt), chainTime(j.StoppedAt))
	}
	return reason
}

func chainTime(at uint64) string { return time.Unix(int64(at), 0).UTC().Format(time.RFC3339) }
