package state

import (
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// JobStatus is where a job is in its life on chain.
type JobStatus string

// The statuses of IJobManager.Status that this node meets.
const (
	JobAssigned  JobStatus = "assigned"
	JobRunning   JobStatus = "running"
	JobStopped   JobStatus = "stopped"
	JobCompleted JobStatus = "completed"
	JobFailed    JobStatus = "failed"
	JobExpired   JobStatus = "expired"
)

// Ended reports whether the status is final: positive evidence that the lease
// is over.
func (s JobStatus) Ended() bool {
	switch s {
	case JobStopped, JobCompleted, JobFailed, JobExpired:
		return true
	case JobAssigned, JobRunning:
		return false
	}
	return false
}

// Job is a job as the chain has it. A row mirrors the chain.
type Job struct {
	Spec            message.ItemHash `json:"spec"`
	Payer           common.Address   `json:"payer"`
	NodeID          uint32           `json:"node_id"`
	CoordID         uint32           `json:"coord_id"`
	Token           uint8            `json:"token"`
	RateQ32         *big.Int         `json:"rate_q32"` // Token wei per second, times 2^32.
	Attempt         uint8            `json:"attempt"`
	MaxUntil        uint64           `json:"max_until"` // Chain time.
	ReservedSeconds uint64           `json:"reserved_seconds"`
	Status          JobStatus        `json:"status"`
	Reason          string           `json:"reason"` // Why it ended, for people.
	AssignedAt      uint64           `json:"assigned_at"`
	StartedAt       uint64           `json:"started_at"` // Billing starts; 0 before.
	StoppedAt       uint64           `json:"stopped_at"`
	OpenTx          common.Hash      `json:"open_tx"`
	Block           uint64           `json:"block"` // Of the last change.
}

func jobs() table[Job] {
	return table[Job]{
		name: "jobs", noun: "job",
		key: func(j *Job) string { return string(j.Spec) },
		cols: []column[Job]{
			{"payer", func(j *Job) any { return j.Payer.Hex() }},
			{"node_id", func(j *Job) any { return int64(j.NodeID) }},
			{"status", func(j *Job) any { return string(j.Status) }},
			{"assigned_at", func(j *Job) any { return int64(j.AssignedAt) }},
			{"block", func(j *Job) any { return int64(j.Block) }},
		},
	}
}

// PutJob writes a job's row.
func (tx *Tx) PutJob(ctx context.Context, j Job) error { return jobs().put(ctx, tx, &j) }

// Job returns the job with the spec, or errs.NotFound.
func (r reader) Job(ctx context.Context, spec message.ItemHash) (*Job, error) {
	return jobs().one(ctx, r, string(spec))
}

// JobsOfNode returns the jobs that the chain gave to the node and that have one
// of the statuses, oldest first.
func (r reader) JobsOfNode(ctx context.Context, nodeID uint32, statuses ...JobStatus) ([]Job, error) {
	clause, args := in(statuses)
	return jobs().list(ctx, r, "node_id = ? AND status IN "+clause+" ORDER BY assigned_at, pk", append([]any{int64(nodeID)}, args...)...)
}

// JobsOfNodeAfter returns up to limit jobs of the node, of any status, in the
// order of their last change: those that come after the one with the spec that
// changed in the block.
func (r reader) JobsOfNodeAfter(ctx context.Context, nodeID uint32, block uint64, spec message.ItemHash, limit int) ([]Job, error) {
	return jobs().list(ctx, r, "node_id = ? AND (block, pk) > (?, ?) ORDER BY block, pk LIMIT ?", int64(nodeID), int64(block), string(spec), limit)
}

// JobsWith returns all jobs with one of the statuses, oldest first.
func (r reader) JobsWith(ctx context.Context, statuses ...JobStatus) ([]Job, error) {
	clause, args := in(statuses)
	return jobs().list(ctx, r, "status IN "+clause+" ORDER BY assigned_at, pk", args...)
}

// JobsOfPayer returns the payer's jobs, newest first, at most limit.
func (r reader) JobsOfPayer(ctx context.Context, payer common.Address, limit int) ([]Job, error) {
	return jobs().list(ctx, r, "payer = ? ORDER BY assigned_at DESC, pk LIMIT ?", payer.Hex(), limit)
}
