package mirror

import (
	"context"
	"encoding/hex"

	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func (b *block) jobAssigned(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewJobManager().UnpackJobAssignedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.tx.PutJob(ctx, state.Job{
		Spec: itemHash(e.Spec), Payer: e.Payer, NodeID: e.NodeId, CoordID: e.CoordId, Token: e.Token,
		RateQ32: e.RateQ32, Attempt: e.Attempt, MaxUntil: e.MaxUntil.Uint64(), ReservedSeconds: uint64(e.ReservedSeconds),
		Status: state.JobAssigned, AssignedAt: b.header.Time, OpenTx: l.TxHash, Block: b.header.Number,
	})
}

func (b *block) jobRunning(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewJobManager().UnpackJobRunningEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeJob(ctx, e.Spec, func(j *state.Job) {
		j.Status, j.StartedAt = state.JobRunning, e.StartedAt.Uint64()
	})
}

func (b *block) jobStopped(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewJobManager().UnpackJobStoppedEvent(l)
	if err != nil {
		return malformed(err)
	}
	status, err := jobStatus(e.Status)
	if err != nil {
		return err
	}
	if e.NodeId == 0 {
		return nil // It was offered on the chain and never given to a node: no row tells of it.
	}
	return b.changeJob(ctx, e.Spec, func(j *state.Job) {
		waited := j.Status.Ended() // For another node: what ran ended before, and its times are what is billed.
		j.Status, j.Reason = status, endReason(e.Reason)
		if !waited {
			j.StartedAt, j.StoppedAt = e.StartedAt.Uint64(), e.StoppedAt.Uint64()
		}
	})
}

// jobUnplaced takes a job from its node; it ends there, and another node may get
// it by a JobAssigned of a later attempt.
func (b *block) jobUnplaced(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewJobManager().UnpackJobUnplacedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeJob(ctx, e.Spec, func(j *state.Job) {
		j.Status, j.Reason = state.JobFailed, endReason(e.Reason)
		j.StartedAt, j.StoppedAt = e.StartedAt.Uint64(), e.StoppedAt.Uint64()
	})
}

func (b *block) jobResized(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewJobManager().UnpackJobResizedEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeJob(ctx, e.Spec, func(j *state.Job) { j.RateQ32, j.MaxUntil = e.RateQ32, e.MaxUntil.Uint64() })
}

// changeJob changes a job's row.
func (b *block) changeJob(ctx context.Context, spec [32]byte, change func(*state.Job)) error {
	j, err := b.tx.Job(ctx, itemHash(spec))
	if err != nil {
		return missed(err)
	}
	change(j)
	j.Block = b.header.Number
	return b.tx.PutJob(ctx, *j)
}

func itemHash(spec [32]byte) message.ItemHash { return message.ItemHash(hex.EncodeToString(spec[:])) }

// jobStatus returns the final status with the number in IJobManager.Status.
func jobStatus(n uint8) (state.JobStatus, error) {
	switch n {
	case 5:
		return state.JobStopped, nil
	case 6:
		return state.JobCompleted, nil
	case 7:
		return state.JobFailed, nil
	case 8:
		return state.JobExpired, nil
	}
	return "", errs.New(errs.Internal, "no final status of a job has the number %d", n)
}

// endReason says for people what a number of EndReason means; the larger ones
// are the node's.
func endReason(n uint8) string {
	switch n {
	case 1:
		return "stopped by its payer"
	case 2:
		return "reached the end that its payer signed"
	case 3:
		return "payment ran dry and the grace period passed"
	case 4:
		return "the node did not start it in time"
	case 5:
		return "its payer was in arrears when it was to start"
	case 6:
		return "no node was found for it"
	case 7:
		return "it is done"
	case 8:
		return "ended by its node after notice"
	case 9:
		return "its node has gone"
	case 10:
		return "it moved to another node"
	}
	return "ended by its node: " + job.NodeReason(n).String()
}
