package state

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Resources are what a VM takes from its host.
type Resources struct {
	VCPUs     int   `json:"vcpus"`
	MemoryMiB int   `json:"memory_mib"`
	DiskMiB   int64 `json:"disk_mib"`
}

// Acceptance is a promise this compute node signed: until then, the resources
// are kept for the job.
type Acceptance struct {
	Spec      message.ItemHash `json:"spec"`
	Attempt   uint8            `json:"attempt"`
	CoordID   uint32           `json:"coord_id"`
	Payer     common.Address   `json:"payer"`
	RateQ32   *big.Int         `json:"rate_q32"`
	Resources Resources        `json:"resources"`
	Until     uint64           `json:"until"` // Chain time: the acceptance's deadline.
	Signature []byte           `json:"signature"`
	SignedAt  time.Time        `json:"signed_at"`
	TookMs    int64            `json:"took_ms"` // From the question to the signature.
}

func acceptances() table[Acceptance] {
	return table[Acceptance]{
		name: "acceptances", noun: "acceptance",
		key:  func(a *Acceptance) string { return decisionKey(a.Spec, a.Attempt) },
		cols: []column[Acceptance]{{"until", func(a *Acceptance) any { return int64(a.Until) }}},
	}
}

// PutAcceptance writes an acceptance's row.
func (tx *Tx) PutAcceptance(ctx context.Context, a Acceptance) error {
	return acceptances().put(ctx, tx, &a)
}

// RemoveAcceptance deletes an acceptance: the chain has the job, or its time is
// over.
func (tx *Tx) RemoveAcceptance(ctx context.Context, spec message.ItemHash, attempt uint8) error {
	return acceptances().remove(ctx, tx, decisionKey(spec, attempt))
}

// Acceptance returns the acceptance of the spec's attempt, or errs.NotFound.
func (r reader) Acceptance(ctx context.Context, spec message.ItemHash, attempt uint8) (*Acceptance, error) {
	return acceptances().one(ctx, r, decisionKey(spec, attempt))
}

// Acceptances returns every open acceptance.
func (r reader) Acceptances(ctx context.Context) ([]Acceptance, error) {
	return acceptances().list(ctx, r, "TRUE ORDER BY pk")
}

// VMState is what this host knows of a VM.
type VMState string

// The states of a VM, in order of its life.
const (
	VMWanted    VMState = "wanted"    // The chain gave it to this node.
	VMFetching  VMState = "fetching"  // Its message and image are on their way.
	VMPreparing VMState = "preparing" // Its disk, seed and network are made.
	VMBooting   VMState = "booting"   // The process runs.
	VMRunning   VMState = "running"   // The guest answered.
	VMPaused    VMState = "paused"    // It was shut down as its payer is late; its resources are kept. It runs again when paid.
	VMHalted    VMState = "halted"    // It was shut down by its owner's order; disk and ports are kept, processors and memory are free. It runs again when asked for.
	VMStopping  VMState = "stopping"
	VMStopped   VMState = "stopped" // Its process is gone and its host resources are free.
	VMFailed    VMState = "failed"  // It cannot run here; Detail says why.
)

// next returns the states that may follow one.
func (s VMState) next() []VMState {
	switch s {
	case "", VMStopped:
		return []VMState{VMWanted}
	case VMWanted:
		return []VMState{VMFetching, VMBooting, VMRunning, VMPaused, VMHalted, VMStopping, VMFailed}
	case VMFetching:
		return []VMState{VMWanted, VMPreparing, VMBooting, VMRunning, VMPaused, VMHalted, VMStopping, VMFailed}
	case VMPreparing:
		return []VMState{VMWanted, VMFetching, VMBooting, VMRunning, VMPaused, VMHalted, VMStopping, VMFailed}
	case VMBooting:
		return []VMState{VMWanted, VMFetching, VMRunning, VMPaused, VMHalted, VMStopping, VMFailed}
	case VMRunning:
		return []VMState{VMWanted, VMFetching, VMBooting, VMPaused, VMHalted, VMStopping, VMFailed}
	case VMPaused:
		return []VMState{VMWanted, VMHalted, VMStopping}
	case VMHalted:
		return []VMState{VMWanted, VMPaused, VMStopping}
	case VMStopping:
		return []VMState{VMStopped}
	case VMFailed:
		return []VMState{VMWanted, VMStopping}
	}
	return nil
}

// CanBecome reports whether a VM may go from the state to the other.
func (s VMState) CanBecome(to VMState) bool { return slices.Contains(s.next(), to) }

// Halt is the order of an owner that a machine be shut down, which holds until it
// is asked for again.
type Halt struct {
	By string    `json:"by"` // Who signed the order.
	At time.Time `json:"at"`
	// Again starts the machine as soon as it is down: a reboot.
	Again bool `json:"again,omitempty"`
	// Wipe deletes disks once it is down, before it starts again: a new start
	// from the image.
	Wipe Wipe `json:"wipe,omitempty"`
	// Restore is the upload that becomes the root disk once it is down, before
	// it starts again; "" for none.
	Restore string `json:"restore,omitempty"`
}

// Same reports whether both are one order.
func (h *Halt) Same(as *Halt) bool {
	if h == nil || as == nil {
		return h == as
	}
	return h.At.Equal(as.At) && h.By == as.By && h.Again == as.Again && h.Wipe == as.Wipe && h.Restore == as.Restore
}

// Wipe is what of a machine's disks is deleted.
type Wipe string

// What is deleted.
const (
	WipeNothing Wipe = ""
	WipeRoot    Wipe = "root" // The root disk.
	WipeAll     Wipe = "all"  // The root disk and the machine's own volumes.
)

// Move is a machine's way to another node, seen from where it comes from. As long
// as it is there the machine does not start here.
type Move struct {
	StartedAt time.Time `json:"started_at"`
	// CopiedAt is when its disks were copied, and could be fetched with the token.
	CopiedAt time.Time `json:"copied_at,omitzero"`
	Token    string    `json:"token,omitempty"`
	// GivenAt is when it was found that another node has fetched all of it and may
	// run it.
	GivenAt time.Time `json:"given_at,omitzero"`
}

// Given reports whether another node may run the machine.
func (m *Move) Given() bool { return !m.GivenAt.IsZero() }

// Port is a way into a VM from outside.
type Port struct {
	Protocol string `json:"protocol"` // tcp or udp.
	Guest    uint16 `json:"guest"`
	Host     uint16 `json:"host"`
	HostIP   string `json:"host_ip"`
}

// VM is a virtual machine on this host, of a job or of a lease. It holds enough to find, adopt
// and clean up the machine after a crash at any moment.
type VM struct {
	Spec        message.ItemHash `json:"spec"`
	Attempt     uint8            `json:"attempt"`
	Until       uint64           `json:"until,omitempty"` // Chain time of the acceptance's end: a job that vanished from the chain can come back before it.
	State       VMState          `json:"state"`
	Detail      string           `json:"detail"` // The reason, for people.
	StopReason  string           `json:"stop_reason,omitempty"`
	Driver      string           `json:"driver"`
	Accelerator string           `json:"accelerator,omitempty"`
	ImageRef    message.ItemHash `json:"image_ref"`
	ImageHash   message.ItemHash `json:"image_hash,omitempty"`
	// Files are the files of its volumes, by the STORE messages that name them:
	// those that it has begun with, whatever the network says later.
	Files     map[message.ItemHash]message.ItemHash `json:"files,omitempty"`
	Dir       string                                `json:"dir"`
	Net       int                                   `json:"net"`            // Its index in the address pool.
	Net6      int                                   `json:"net6,omitempty"` // The same for dynamic IPv6 subnets; 0 = none.
	Ports     []Port                                `json:"ports"`
	PID       int                                   `json:"pid,omitempty"`
	Resources Resources                             `json:"resources"`
	Starts    int                                   `json:"starts"` // How often a process was started for it.
	Failures  int                                   `json:"failures,omitempty"`
	DryAt     uint64                                `json:"dry_at,omitempty"`     // Chain time at which its payer's money ran out; 0 = it has not.
	PausedAt  uint64                                `json:"paused_at,omitempty"`  // Chain time since when it is paused, or was when its job ended; 0 = it is not.
	ResumedAt uint64                                `json:"resumed_at,omitempty"` // Chain time at which its last pause ended.
	Halt      *Halt                                 `json:"halt,omitempty"`       // nil for none.
	Move      *Move                                 `json:"move,omitempty"`       // nil for none.
	// Arrived is set when its disks came from another node, which starts it no more.
	Arrived bool `json:"arrived,omitempty"`
	// AwaitsOwner is set while all is ready for a confidential machine but the session of
	// its owner.
	AwaitsOwner bool             `json:"awaits_owner,omitempty"`
	RetryAt     time.Time        `json:"retry_at,omitzero"`
	TimingsMs   map[string]int64 `json:"timings_ms,omitempty"`
	Steps       int              `json:"steps,omitempty"` // How many steps its history has.
	// Removing is set when what is left of it is about to be deleted: nothing
	// starts it again.
	Removing bool `json:"removing,omitempty"`
	// Entered tells when it last came into each state.
	Entered   map[VMState]time.Time `json:"entered,omitempty"`
	CreatedAt time.Time             `json:"created_at"`
	RunningAt time.Time             `json:"running_at,omitzero"`
	StoppedAt time.Time             `json:"stopped_at,omitzero"` // When the process of a machine that is paused, stopped or failed was gone.
}

func vms() table[VM] {
	return table[VM]{
		name: "vms", noun: "VM",
		key:  func(v *VM) string { return string(v.Spec) },
		cols: []column[VM]{{"state", func(v *VM) any { return string(v.State) }}},
	}
}

// PutVM writes a VM's row.
func (tx *Tx) PutVM(ctx context.Context, v VM) error { return vms().put(ctx, tx, &v) }

// RemoveVM deletes a VM's row.
func (tx *Tx) RemoveVM(ctx context.Context, spec message.ItemHash) error {
	return vms().remove(ctx, tx, string(spec))
}

// VM returns the job's VM on this host, or errs.NotFound.
func (r reader) VM(ctx context.Context, spec message.ItemHash) (*VM, error) {
	return r.vms.one(ctx, r, vms(), string(spec))
}

// VMs returns the VMs with one of the states, or all when none is named. It decodes
// none that it has before: they are read again and again while one of many starts.
func (r reader) VMs(ctx context.Context, states ...VMState) ([]VM, error) {
	if len(states) == 0 {
		return r.vms.list(ctx, r, vms(), "TRUE ORDER BY pk")
	}
	clause, args := in(states)
	return r.vms.list(ctx, r, vms(), "state IN "+clause+" ORDER BY pk", args...)
}

func newDecodedVMs() *decoded[VM] { return &decoded[VM]{clone: VM.clone} }

// clone returns a VM that shares nothing with v that can be changed.
func (v VM) clone() VM {
	v.Files, v.Ports, v.TimingsMs, v.Entered = maps.Clone(v.Files), slices.Clone(v.Ports), maps.Clone(v.TimingsMs), maps.Clone(v.Entered)
	if v.Halt != nil {
		v.Halt = new(*v.Halt)
	}
	if v.Move != nil {
		v.Move = new(*v.Move)
	}
	return v
}

// Usage is a stretch of time in which this host ran a VM, by chain time. Rows of
// one job do not overlap and leave no gap but its pauses.
type Usage struct {
	Spec   message.ItemHash `json:"spec"`
	NodeID uint32           `json:"node_id"`
	From   uint64           `json:"from"`
	To     uint64           `json:"to"`
	Paused uint64           `json:"paused,omitempty"` // When the pause began that ended at From; 0 = there was none.
	CPUMs  int64            `json:"cpu_ms,omitempty"`
	RSSMiB int64            `json:"rss_mib,omitempty"`
}

func usages() table[Usage] {
	return table[Usage]{
		name: "usages", noun: "usage",
		key: func(u *Usage) string { return fmt.Sprintf("%s/%d", u.Spec, u.From) },
		cols: []column[Usage]{
			{"spec", func(u *Usage) any { return string(u.Spec) }},
			{"from_at", func(u *Usage) any { return int64(u.From) }},
		},
	}
}

// PutUsage writes a usage's row; writing it again with a later To extends it.
func (tx *Tx) PutUsage(ctx context.Context, u Usage) error { return usages().put(ctx, tx, &u) }

// RemoveUsage deletes a usage: the chain moved the start of the job.
func (tx *Tx) RemoveUsage(ctx context.Context, u Usage) error {
	return usages().remove(ctx, tx, usages().key(&u))
}

// Usages returns the job's usage, oldest first.
func (r reader) Usages(ctx context.Context, spec message.ItemHash) ([]Usage, error) {
	return usages().list(ctx, r, "spec = ? ORDER BY from_at", string(spec))
}
