package executor

import (
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The model of a move is a machine, the two nodes and the scheduler between them,
// each of which may do anything that it can at any time, or die. What the source
// decides is decided by the code that decides in earnest: decide, nextMove, mayRemove,
// and what package disk says of a record. Every state is visited. Checked is, in each:
//
//   - the machine runs at one of the nodes at most, and one at most would start it;
//   - what runs at the target has all that was written at the source;
//   - what the source has is deleted only when the target has the machine, or its
//     owner has ordered it;
//
// and, from some of them, that it runs somewhere once both are up and the scheduler
// goes on.

// What may happen more than once is bounded.
const (
	haulExports  = 3
	haulVersions = 3
)

// The rows of the source, and the target's.
const (
	haulNone uint8 = iota // No row.
	haulWanted
	haulRunning
	haulHalting // Its process may live.
	haulHalted
	haulStopping
	haulStopped
)

// What the source's row says of the move.
const (
	moveNone uint8 = iota
	moveBegun
	moveCopied
	moveGiven
)

// haul is a state. Files are bits: a machine has two.
type haul struct {
	// The source: its row, the record beside its disks and its files that were given
	// to their end, its process and its daemon.
	row, move  uint8
	late       bool
	record     disk.MoveState
	served     uint8
	disks      bool
	runs, up   bool
	lease      state.EndCause // "" while it is open.
	version    uint8          // Of what the guest has written.
	epoch      uint8          // The number of the export, which has the token.
	versions   [haulExports + 1]uint8
	open, sent uint8 // Files whose end the target has asked for, and those whose end is on its way.
	// The target: the record beside what has come, the version of that, the request that
	// runs with the token of an export, and what it was given.
	arrived             disk.MoveState
	has, here, job, got uint8
	there               uint8 // Its row.
	thereRuns, thereUp  bool
}

const haulFiles uint8 = 3

func (h haul) vm() state.VM {
	vm := state.VM{Spec: modelSpec, State: map[uint8]state.VMState{
		haulWanted: state.VMWanted, haulRunning: state.VMRunning, haulHalting: state.VMHalted, haulHalted: state.VMHalted,
		haulStopping: state.VMStopping, haulStopped: state.VMStopped,
	}[h.row]}
	if h.row == haulHalted || h.row == haulStopped {
		vm.StoppedAt = time.Unix(1, 0)
	}
	if h.move == moveNone {
		return vm
	}
	vm.Move = &state.Move{StartedAt: time.Unix(1, 0)}
	if h.move >= moveCopied {
		vm.Move.CopiedAt = haulTime(h.late)
	}
	if h.move == moveGiven {
		vm.Move.GivenAt = time.Unix(2, 0)
	}
	return vm
}

// haulNow is when everything happens, and haulTime when an export was copied.
func haulNow() time.Time { return time.Unix(1_000_000, 0) }

func haulTime(late bool) time.Time {
	if late {
		return haulNow().Add(-disk.ExportFor)
	}
	return haulNow()
}

func (h haul) leaseRow() *state.Lease {
	l := &state.Lease{Spec: modelSpec, Kind: state.LeaseScheduled}
	if h.lease != "" {
		l.End = &state.LeaseEnd{Cause: h.lease}
	}
	return l
}

// moveRecord is the source's record as package disk has it.
func (h haul) moveRecord() disk.Move {
	m := disk.Move{State: h.record, Files: []disk.File{{Name: "a"}, {Name: "b"}}}
	for i, f := range m.Files {
		if h.served>>i&1 == 1 {
			m.Served = append(m.Served, f.Name)
		}
	}
	return m
}

// starts reports whether the source would start the machine if it came to it.
func (h haul) starts() bool {
	return h.row != haulNone && h.row != haulStopping && h.lease == "" && h.move == moveNone && h.record == "" && h.disks
}

// pass is what the source does in a pass, and its worker after that.
func (h *haul) pass() {
	v := &view{synced: true, jobs: map[message.ItemHash]*state.Job{}, leases: map[message.ItemHash]*state.Lease{modelSpec: h.leaseRow()}}
	vm := h.vm()
	o := decide(v, vm, modelSelf)
	switch {
	case h.row == haulStopping:
		h.runs, h.row = false, haulStopped
	case h.row == haulStopped && o.wish == wishEnd:
		if mayRemove(vm, h.leaseRow()) {
			h.row, h.move, h.late, h.record, h.served, h.disks, h.open, h.sent = haulNone, moveNone, false, "", 0, false, 0, 0
		}
	case o.wish == wishEnd:
		h.row = haulStopping
	case o.wish == wishHalt && h.row == haulHalting:
		h.runs, h.row = false, haulHalted
	case o.wish == wishHalt && h.row != haulHalted && h.row != haulStopped:
		h.row = haulHalting
	case o.wish != wishKeep || vm.Move != nil: // As begin has it.
	case h.row == haulHalting || h.row == haulHalted || h.row == haulStopped:
		h.runs, h.row = false, haulWanted
	case h.row == haulWanted && h.record == "" && h.disks: // As the driver has it.
		h.runs, h.row = true, haulRunning
	case h.row == haulRunning && !h.runs:
		h.row = haulWanted
	}
}

// tend is the next thing that the source does for the move.
func (h *haul) tend() {
	if vm := h.vm(); vm.Move != nil && !tends(vm, h.record) {
		return
	}
	step, _ := nextMove(h.vm(), h.record, h.open != 0, haulNow())
	switch step {
	case moveWaits:
	case moveEnds:
		h.lease, h.move, h.late = state.EndMoved, moveNone, false
	case moveOff:
		switch {
		case h.moveRecord().Given():
			h.move = moveGiven
		case h.record != "":
			h.record, h.served = "", 0
		default:
			h.move, h.late = moveNone, false
		}
	case moveCopies:
		switch {
		case h.record == "":
			h.record = disk.Exporting
		case h.record == disk.Exporting:
			h.record, h.served = disk.Exported, 0
		case h.epoch < haulExports:
			h.epoch++
			h.versions[h.epoch], h.move = h.version, moveCopied
		}
	}
}

// serves reports whether the source gives files to the request that runs.
func (h haul) serves() bool {
	return h.up && h.thereUp && h.job != 0 && h.job == h.epoch && h.move >= moveCopied && h.record == disk.Exported
}

// next are all states that may come next.
func (h haul) next() (out []haul) {
	add := func(may bool, change func(*haul)) {
		if !may {
			return
		}
		n := h
		change(&n)
		if n != h {
			out = append(out, n)
		}
	}
	quit := func(n *haul) { n.job, n.got, n.open, n.sent = 0, 0, 0, 0 }
	// The source.
	add(h.runs && h.version < haulVersions, func(n *haul) { n.version++ })
	add(h.runs, func(n *haul) { n.runs = false })
	add(h.up, func(n *haul) { n.up, n.open, n.sent = false, 0, 0 })
	add(!h.up, func(n *haul) { n.up = true })
	add(h.move >= moveCopied, func(n *haul) { n.late = true })
	add(h.up && h.row != haulNone, (*haul).pass)
	add(h.up, (*haul).tend)
	add(h.up && h.row == haulRunning && h.move == moveNone && h.lease == "" && h.epoch < haulExports, func(n *haul) { n.move = moveBegun })
	add(h.up && h.lease == "", func(n *haul) { n.lease = state.EndOwner })
	add(h.up && h.lease == state.EndOwner && h.row == haulStopped && h.move == moveNone, func(n *haul) { n.lease = "" })
	// The scheduler says that it has arrived only when it has.
	add(h.up && h.there != haulNone && h.move != moveNone && h.open == 0 && h.record == disk.Exported && h.moveRecord().Given(),
		func(n *haul) { n.record = disk.Released })
	for i := range 2 {
		file := uint8(1) << i
		add(h.serves() && h.arrived == disk.Importing, func(n *haul) { n.here |= file })
		add(h.serves() && h.arrived == disk.Imported && h.got&file == 0, func(n *haul) { n.open |= file })
		add(h.up && h.open&file != 0 && h.sent&file == 0, func(n *haul) { // Its end is noted, and then sent.
			if n.record != disk.Exported {
				n.open &^= file
				return
			}
			n.served, n.sent = n.served|file, n.sent|file
		})
		add(h.sent&file != 0, func(n *haul) { n.got, n.open, n.sent = n.got|file, n.open&^file, n.sent&^file })
	}
	// The target.
	add(h.thereUp, func(n *haul) { n.thereUp = false; quit(n) })
	add(!h.thereUp, func(n *haul) { n.thereUp = true })
	add(h.thereRuns, func(n *haul) { n.thereRuns, n.there = false, haulWanted })
	add(h.job != 0, quit)
	for e := uint8(1); e <= h.epoch; e++ {
		add(h.thereUp && h.job == 0 && h.there == haulNone, func(n *haul) {
			switch same := n.has == n.versions[e]; {
			case n.arrived == disk.Imported && !same:
				return // It has another one, whole.
			case n.arrived == "" || !same:
				n.arrived, n.has, n.here = disk.Importing, n.versions[e], 0
			}
			n.job = e
		})
	}
	add(h.job != 0 && h.arrived == disk.Importing && h.here == haulFiles, func(n *haul) { n.arrived = disk.Imported })
	add(h.job != 0 && h.arrived == disk.Imported && h.got == haulFiles && h.there == haulNone, func(n *haul) { n.there = haulWanted; quit(n) })
	add(h.thereUp && h.there != haulNone, func(n *haul) { n.arrived = "" })
	add(h.thereUp && h.there == haulWanted && h.arrived == "", func(n *haul) { n.there, n.thereRuns = haulRunning, true })
	add(h.thereUp && h.job == 0 && h.there == haulNone, func(n *haul) { n.arrived, n.here, n.has = "", 0, 0 })
	return out
}

// wrong says what must never be.
func (h haul) wrong() string {
	switch {
	case h.runs && h.thereRuns:
		return "it runs at both nodes"
	case h.there != haulNone && (h.runs || h.starts()):
		return "the target has it, and the source runs it or would"
	case h.there != haulNone && h.has != h.version:
		return "the target has not all that was written"
	case !h.disks && h.there == haulNone && h.lease != state.EndOwner:
		return "nobody has it"
	default:
		return ""
	}
}

// settle lets both nodes be up and the scheduler do its work: the first thing of
// these, again and again.
func (h haul) settle() haul {
	for range 200 {
		h.up, h.thereUp = true, true
		before := h
		h.pass()
		h.tend()
		switch {
		case h.there != haulNone:
			h.arrived, h.there, h.thereRuns = "", haulRunning, true
			if h.move != moveNone && h.moveRecord().Given() {
				h.record = disk.Released
			}
		case h.job != 0 && h.job != h.epoch:
			h.job, h.got, h.open, h.sent = 0, 0, 0, 0 // It is refused.
		case h.serves() && h.arrived == disk.Importing:
			h.here, h.arrived = haulFiles, disk.Imported
		case h.serves() && h.arrived == disk.Imported:
			h.served, h.open, h.sent, h.there, h.job, h.got = haulFiles, 0, 0, haulWanted, 0, 0
		case h.job == 0 && h.move >= moveCopied && h.record == disk.Exported:
			if h.arrived != disk.Importing || h.has != h.versions[h.epoch] {
				h.arrived, h.has, h.here = disk.Importing, h.versions[h.epoch], 0 // What was there of another is forgotten in time.
			}
			h.job = h.epoch
		}
		if h == before {
			break
		}
	}
	return h
}

func TestAMoveNeverDoublesNorLosesAMachine(t *testing.T) {
	const least = 100_000
	first := haul{row: haulRunning, disks: true, runs: true, up: true, thereUp: true}
	from := map[haul]haul{first: {}}
	trace := func(h haul) (all []haul) {
		for ; h != first; h = from[h] {
			all = append([]haul{h}, all...)
		}
		return all
	}
	queue, moved := []haul{first}, 0
	for i := 0; i < len(queue); i++ {
		h := queue[i]
		if wrong := h.wrong(); wrong != "" {
			t.Fatalf("%s\nin %+v\nafter %d steps:\n%+v", wrong, h, len(trace(h)), trace(h))
		}
		if h.thereRuns && !h.disks {
			moved++
		}
		for _, n := range h.next() {
			if _, ok := from[n]; !ok {
				from[n] = h
				queue = append(queue, n)
			}
		}
		if i%16 != 0 || h.lease == state.EndOwner {
			continue
		}
		if end := h.settle(); end.runs == end.thereRuns || end.wrong() != "" {
			t.Fatalf("in the end it runs at the source %v and at the target %v: %s\nin %+v\nfrom %+v", end.runs, end.thereRuns, end.wrong(), end, h)
		}
	}
	if len(queue) < least || moved == 0 {
		t.Errorf("%d states were visited, in %d of which it has moved, want %d and some", len(queue), moved, least)
	}
	t.Logf("%d states, moved in %d", len(queue), moved)
}
