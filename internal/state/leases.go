package state

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// LeaseKind is who asked for a machine that the message network pays.
type LeaseKind string

// The kinds of lease.
const (
	LeaseScheduled LeaseKind = "scheduled" // A scheduler's signed list names it, and may drop it.
	LeaseRequested LeaseKind = "requested" // Somebody asked to start what its owner pays; no list drops it.
)

// Lease is why this host runs a machine that no contract of the chain asks for:
// the message network does. Its row is all that a restart needs to go on.
type Lease struct {
	Spec    message.ItemHash `json:"spec"`
	Kind    LeaseKind        `json:"kind"`
	Owner   string           `json:"owner"`  // The address of the message's content, who pays.
	Sender  string           `json:"sender"` // Who signed the message.
	Payment string           `json:"payment"`
	// Resources are what its machine takes.
	Resources Resources       `json:"resources"`
	Message   json.RawMessage `json:"message"` // The envelope; hash and signature were checked.
	// Sticky leases are not ended by a list that does not name them: their owner
	// pays by time, or they hold what another host cannot give (a confidential
	// machine, a GPU).
	Sticky  bool      `json:"sticky,omitempty"`
	By      string    `json:"by,omitempty"` // Signer of the list that named it last; "" for anyone.
	TakenAt time.Time `json:"taken_at"`
	Watch   Watch     `json:"watch"`
	// Ports are the guest's that its owner wants forwarded, beside SSH; what was
	// last known holds while nobody can say.
	Ports []Port `json:"ports,omitempty"`
	// Session is what the owner of a confidential machine sent for it; nil while the
	// machine waits for that.
	Session *Session `json:"session,omitempty"`
	// GPUs are the devices of the host that its machine has for itself.
	GPUs []GPU `json:"gpus,omitempty"`
	// Until ends the lease at a chain time, by its owner's order; 0 = never.
	Until   uint64    `json:"until,omitempty"`
	UntilBy string    `json:"until_by,omitempty"` // Who ordered it.
	End     *LeaseEnd `json:"end,omitempty"`      // nil while it is open.
}

// Session is what a confidential machine is started with: only the platform that it was
// made for can open it.
type Session struct {
	Session []byte    `json:"session"` // As base64 of the owner's client, as is GODH.
	GODH    []byte    `json:"godh"`
	At      time.Time `json:"at"`
}

// GPU is a device that a machine has for itself.
type GPU struct {
	PCIHost  string `json:"pci_host"`  // Such as 01:00.0.
	DeviceID string `json:"device_id"` // Such as 10de:27b0.
	// Display is set for one that may be the machine's display.
	Display bool `json:"display,omitempty"`
}

// Watch is what the message network said of a lease's message and payment when it
// was last asked. Times are of the chain; what nobody could say changes nothing.
type Watch struct {
	AskedAt     uint64 `json:"asked_at,omitempty"`     // When it was last told whether it is paid.
	PaidUntil   uint64 `json:"paid_until,omitempty"`   // Through when its payment lasts by that answer; 0 = not paid by time.
	UnpaidSince uint64 `json:"unpaid_since,omitempty"` // When an answer first said that it is not paid; 0 = the last one said that it is.
	Gone        int    `json:"gone,omitempty"`         // How many answers in a row said that the message is forgotten, removed or rejected.
	Detail      string `json:"detail,omitempty"`       // For people.
}

// EndCause is the evidence on which a lease ended.
type EndCause string

// The causes.
const (
	EndDropped EndCause = "dropped" // A signed list does not name it any more.
	EndMessage EndCause = "message" // The message was forgotten, removed or rejected.
	EndUnpaid  EndCause = "unpaid"  // It was not paid for longer than its grace and what a paused machine is kept.
	EndOwner   EndCause = "owner"   // Its owner ordered it.
	EndMoved   EndCause = "moved"   // Another node runs it now, and has verified the copy.
)

// LeaseEnd is why and when a lease ended.
type LeaseEnd struct {
	Cause  EndCause  `json:"cause"`
	Detail string    `json:"detail"`
	At     time.Time `json:"at"`
	Head   uint64    `json:"head"` // Chain time.
}

// Open reports whether the lease still wants its machine.
func (l *Lease) Open() bool { return l.End == nil }

func leases() table[Lease] {
	return table[Lease]{
		name: "leases", noun: "lease",
		key: func(l *Lease) string { return string(l.Spec) },
		cols: []column[Lease]{
			{"owner", func(l *Lease) any { return l.Owner }},
			{"open", func(l *Lease) any { return number(l.Open()) }},
		},
	}
}

// PutLease writes a lease's row.
func (tx *Tx) PutLease(ctx context.Context, l Lease) error { return leases().put(ctx, tx, &l) }

// RemoveLease deletes a lease's row: its machine has been gone for long.
func (tx *Tx) RemoveLease(ctx context.Context, spec message.ItemHash) error {
	return leases().remove(ctx, tx, string(spec))
}

// Lease returns the lease of the spec, or errs.NotFound.
func (r reader) Lease(ctx context.Context, spec message.ItemHash) (*Lease, error) {
	return leases().one(ctx, r, string(spec))
}

// Leases returns every lease, also those that have ended and whose machine is
// kept for a while.
func (r reader) Leases(ctx context.Context) ([]Lease, error) {
	return leases().list(ctx, r, "TRUE ORDER BY pk")
}
