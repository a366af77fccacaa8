package v1

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

type stopInput struct {
	Spec string `path:"spec" doc:"Item hash of the job's INSTANCE message."`
	Body struct {
		Deadline  uint64 `json:"deadline"`
		Signature string `json:"signature" doc:"The payer's EIP-712 signature of the stop, 0x and hex."`
	}
}

// stopJob ends a job for its payer: an offer that no node has taken yet at
// once, a job on chain through a transaction.
func (s *Server) stopJob(ctx context.Context, in *stopInput) (*jobOutput, error) {
	spec, err := parseSpec(in.Spec)
	if err != nil {
		return nil, err
	}
	sig, err := job.ParseSignature(in.Body.Signature)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	rows, err := s.readJob(ctx, spec)
	if err != nil {
		return nil, err
	}
	stop := &job.Stop{Spec: spec, Deadline: in.Body.Deadline}
	if err := job.Verify(s.self.Domain, stop, sig, rows.payer()); err != nil {
		return nil, errs.New(errs.Denied, "stop of job %s: %w", spec, err)
	}
	if stop.Deadline <= rows.now {
		return nil, errs.New(errs.Invalid, "stop's deadline %d is over: the chain's time is %d", stop.Deadline, rows.now)
	}
	if err := s.parts.DB.Update(ctx, func(tx *state.Tx) error { return stopIn(ctx, tx, stop, sig) }); err != nil {
		return nil, err
	}
	if rows, err = s.readJob(ctx, spec); err != nil {
		return nil, err
	}
	return &jobOutput{rows.view()}, nil
}

// stopIn commits the payer's wish, as things stand in the transaction.
func stopIn(ctx context.Context, tx *state.Tx, stop *job.Stop, sig job.Signature) error {
	j, err := maybe(tx.Job(ctx, stop.Spec))
	if err != nil {
		return err
	}
	if j != nil {
		if j.Status.Ended() {
			return errs.New(errs.Conflict, "job %s is over already: %s", stop.Spec, j.Status)
		}
		return enqueueStop(ctx, tx, stop, sig)
	}
	o, err := tx.Offer(ctx, stop.Spec)
	if err != nil {
		return err
	}
	switch o.Status {
	case state.OfferOffered:
		o.Status, o.Reason = state.OfferRefused, "stopped by its payer before a node took it"
		return tx.PutOffer(ctx, *o)
	case state.OfferRefused:
		return errs.New(errs.Conflict, "job %s was refused already: %s", stop.Spec, o.Reason)
	case state.OfferDecided, state.OfferOpened:
	}
	return errs.New(errs.Conflict, "job %s is on its way to the chain; stop it again once it is assigned", stop.Spec)
}

// enqueueStop relays the signature. A stop that failed before does not stand
// in the way of one with a later deadline.
func enqueueStop(ctx context.Context, tx *state.Tx, stop *job.Stop, sig job.Signature) error {
	args, err := json.Marshal([]any{"0x" + string(stop.Spec), strconv.FormatUint(stop.Deadline, 10), sig})
	if err != nil {
		return fmt.Errorf("encode stop of %s: %w", stop.Spec, err)
	}
	i := state.Intent{Key: "stop/" + string(stop.Spec), Contract: "JobManager", Method: "stopBySig", Args: args, Deadline: stop.Deadline}
	old, err := maybe(tx.Intent(ctx, i.Key))
	if err != nil {
		return err
	}
	if old != nil && (old.Status == state.IntentReverted || old.Status == state.IntentExpired) {
		i.Key += "/" + strconv.FormatUint(stop.Deadline, 10)
	}
	_, err = tx.Enqueue(ctx, i)
	return err
}
