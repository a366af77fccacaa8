package state

import (
	"context"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// vmEventsMax bounds what is kept of one VM's history: the newest.
const vmEventsMax = 200

// VMEvent is a step of a VM from one state to another, and its cause; or, where
// both are the same, something that was said about it.
type VMEvent struct {
	Spec  message.ItemHash `json:"spec"`
	Seq   int              `json:"seq"` // From 1, without gaps.
	At    time.Time        `json:"at"`
	From  VMState          `json:"from,omitempty"` // "" for its first state.
	To    VMState          `json:"to"`
	Cause string           `json:"cause"` // For people.
}

func vmEvents() table[VMEvent] {
	return table[VMEvent]{
		name: "vm_events", noun: "VM event",
		key: func(e *VMEvent) string { return vmEventKey(e.Spec, e.Seq) },
		cols: []column[VMEvent]{
			{"spec", func(e *VMEvent) any { return string(e.Spec) }},
			{"at", func(e *VMEvent) any { return e.At.UnixMilli() }},
		},
	}
}

func vmEventKey(spec message.ItemHash, seq int) string { return fmt.Sprintf("%s/%08d", spec, seq) }

// AddVMEvent writes a step, and forgets the oldest of a long history.
func (tx *Tx) AddVMEvent(ctx context.Context, e VMEvent) error {
	if err := vmEvents().put(ctx, tx, &e); err != nil {
		return err
	}
	if e.Seq <= vmEventsMax {
		return nil
	}
	return vmEvents().remove(ctx, tx, vmEventKey(e.Spec, e.Seq-vmEventsMax))
}

// VMEvents returns the history of the spec's VM on this host, oldest first. It
// outlives the VM's row.
func (r reader) VMEvents(ctx context.Context, spec message.ItemHash) ([]VMEvent, error) {
	return vmEvents().list(ctx, r, "spec = ? ORDER BY pk", string(spec))
}

// RemoveVMEvents deletes up to limit steps that were made before the time, of VMs
// that have no row any more, and returns how many.
func (tx *Tx) RemoveVMEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	old, err := vmEvents().list(ctx, tx.reader, "at < ? AND spec NOT IN (SELECT pk FROM vms) ORDER BY at LIMIT ?", before.UnixMilli(), limit)
	if err != nil {
		return 0, err
	}
	for _, e := range old {
		if err := vmEvents().remove(ctx, tx, vmEventKey(e.Spec, e.Seq)); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}
