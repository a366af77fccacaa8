package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// decline is a reason not to take a job, for the coordinator and the payer.
type decline string

func (d decline) Error() string { return string(d) }

func declined(format string, args ...any) error { return decline(fmt.Sprintf(format, args...)) }

// Accept answers a coordinator that asks whether this node runs a job. A yes
// is durable before it is given: the resources are kept until the deadline of
// the terms. The same question gets the same answer. Only the coordinator that
// the terms name may ask, or anybody could keep the whole node taken for free.
func (s *Supervisor) Accept(ctx context.Context, from p2p.PeerID, ask *job.Ask) *job.Reply {
	started := time.Now()
	sig, err := s.accept(ctx, from, ask, started)
	var no decline
	switch {
	case err == nil:
		s.outcomes.WithLabelValues("accepted").Inc()
		s.log.Info("accepted", "job_id", ask.Assignment.Spec, "took", time.Since(started))
		return &job.Reply{Accepted: true, Signature: sig}
	case errors.As(err, &no):
		s.outcomes.WithLabelValues("declined").Inc()
		s.log.Info("declined", "reason", no.Error())
		return &job.Reply{Reason: no.Error()}
	default:
		s.log.Error("judging a job failed", "err", err)
		return &job.Reply{Error: "the node could not judge the job", ErrorKind: string(errs.KindOf(err))}
	}
}

func (s *Supervisor) accept(ctx context.Context, from p2p.PeerID, ask *job.Ask, started time.Time) (job.Signature, error) {
	if ask.Message == nil || ask.Offer == nil || ask.Assignment == nil {
		return nil, declined("the question lacks the message, the offer or the terms")
	}
	instance, err := readMessage(ask.Message)
	if err != nil {
		return nil, err
	}
	needs, err := s.suits(instance, ask)
	if err != nil {
		return nil, err
	}
	terms := job.Terms(*ask.Assignment)
	a := state.Acceptance{
		Spec: terms.Spec, Attempt: terms.Attempt, CoordID: terms.CoordID, Payer: ask.Offer.Payer, RateQ32: terms.RateQ32,
		Resources: state.Resources{VCPUs: needs.VCPUs, MemoryMiB: needs.MemoryMiB, DiskMiB: needs.DiskMiB},
		Until:     terms.Deadline, SignedAt: time.Now().UTC(),
	}
	err = s.db.Update(ctx, func(tx *state.Tx) error {
		if err := s.standing(ctx, tx, terms, ask.Offer.Deadline); err != nil {
			return err
		}
		if err := asker(ctx, tx, terms.CoordID, from); err != nil {
			return err
		}
		if err := s.room(ctx, tx, &a); err != nil {
			return err
		}
		word := job.Accept(terms)
		sig, err := job.Sign(s.self.Key, s.self.Domain, &word)
		if err != nil {
			return declined("the terms cannot be signed: %v", err)
		}
		a.Signature, a.TookMs = sig, time.Since(started).Milliseconds()
		return tx.PutAcceptance(ctx, a)
	})
	return a.Signature, err
}

// readMessage checks everything that an INSTANCE message must be by itself.
func readMessage(e *message.Envelope) (*message.Instance, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, declined("the message cannot be read: %v", err)
	}
	env, err := message.Parse(raw)
	if err != nil {
		return nil, declined("the message is not valid: %v", err)
	}
	if err := signature.Verify(env); err != nil {
		return nil, declined("the message is not its sender's: %v", err)
	}
	instance, err := env.Instance()
	if err != nil {
		return nil, declined("the message is not an instance: %v", err)
	}
	return instance, nil
}

// suits checks the offer and the terms against the message and this node.
func (s *Supervisor) suits(i *message.Instance, ask *job.Ask) (job.Needs, error) {
	terms, offer := ask.Assignment, ask.Offer
	needs, err := job.NeedsOf(i)
	if err != nil {
		return needs, declined("%v", err)
	}
	if needs.Driver != s.parts.Driver.Name() {
		return needs, declined("the node has no %s driver, only %s", needs.Driver, s.parts.Driver.Name())
	}
	if _, err := wantedPorts(i); err != nil {
		return needs, declined("%v", err)
	}
	if err := job.CheckOffer(s.self.Domain, offer, ask.OfferSignature, ask.Message); err != nil {
		return needs, declined("the offer is not good: %v", err)
	}
	switch {
	case terms.Spec != offer.Spec:
		return needs, declined("the terms are for %s, the offer for %s", terms.Spec, offer.Spec)
	case terms.NodeID != s.self.NodeID:
		return needs, declined("the terms name node %d, this is node %d", terms.NodeID, s.self.NodeID)
	case offer.NodeHint != 0 && offer.NodeHint != s.self.NodeID:
		return needs, declined("the offer names node %d, this is node %d", offer.NodeHint, s.self.NodeID)
	case offer.Token != job.TokenALEPH:
		return needs, declined("token %d is not taken, only %d", offer.Token, job.TokenALEPH)
	case terms.RateQ32.Cmp(offer.MaxRateQ32) > 0:
		return needs, declined("the rate is above the offer's ceiling")
	}
	flow, err := s.table.Flow(i, nil, s.cfg.PriceBps)
	if err != nil {
		return needs, declined("the job has no price: %v", err)
	}
	if terms.RateQ32.Cmp(flow.RateQ32) < 0 {
		offered, _ := pricing.WeiPerSecond(terms.RateQ32)
		return needs, declined("the price is %s wei per second, the terms offer %s", flow.WeiPerSecond, offered)
	}
	return needs, nil
}

// standing checks that node and times are such that the chain would take the
// terms.
func (s *Supervisor) standing(ctx context.Context, tx *state.Tx, terms job.Terms, offerUntil uint64) error {
	if !s.parts.Chain.Synced() {
		return declined("the node is behind the chain")
	}
	head, err := tx.Head(ctx)
	if err != nil {
		return declined("the node has not seen the chain yet")
	}
	switch limit := head.Time + s.cfg.AcceptSecondsMax; {
	case terms.Deadline <= head.Time:
		return declined("the terms ended at %s", chainTime(terms.Deadline))
	case terms.Deadline > offerUntil:
		return declined("the terms end at %s, after the offer at %s", chainTime(terms.Deadline), chainTime(offerUntil))
	case terms.Deadline > limit:
		return declined("the terms end at %s, resources are kept until %s at most", chainTime(terms.Deadline), chainTime(limit))
	}
	self, err := tx.Node(ctx, s.self.NodeID)
	switch {
	case errors.Is(err, errs.NotFound):
		return declined("the node is not registered yet")
	case err != nil:
		return err
	case self.Status != state.NodeActive:
		return declined("the node is %s and takes no new jobs", self.Status)
	}
	d, err := drains(ctx, tx)
	if err != nil {
		return err
	}
	if d != nil {
		return declined("%s", drainText(d))
	}
	_, err = tx.Job(ctx, terms.Spec)
	switch {
	case err == nil:
		return declined("the chain has the job already")
	case !errors.Is(err, errs.NotFound):
		return err
	}
	return nil
}

// asker checks that the peer is the active coordinator with the id: the one
// that will sign the terms.
func asker(ctx context.Context, tx *state.Tx, coordID uint32, from p2p.PeerID) error {
	coord, err := tx.Node(ctx, coordID)
	switch {
	case errors.Is(err, errs.NotFound):
		return declined("coordinator %d is not registered", coordID)
	case err != nil:
		return err
	case coord.Kind != state.KindCoordinator || coord.Status != state.NodeActive:
		return declined("node %d is no active coordinator", coordID)
	case crypto.Keccak256Hash(from.Bytes()) != coord.PeerIDHash:
		return declined("the registry has another peer than %s for coordinator %d, and only that one may ask", from, coordID)
	}
	return nil
}

// room checks that the resources are free. An acceptance of the same job by
// the same coordinator is renewed.
func (s *Supervisor) room(ctx context.Context, tx *state.Tx, a *state.Acceptance) error {
	p, err := promisesOf(ctx, tx)
	if err != nil {
		return err
	}
	for _, vm := range p.vms {
		if vm.Spec == a.Spec {
			return declined("the node has a machine of this job, which is %s", vm.State)
		}
	}
	others := p.kept[:0]
	for _, k := range p.kept {
		if k.Spec != a.Spec {
			others = append(others, k)
			continue
		}
		if k.CoordID != a.CoordID {
			return declined("the job is promised to coordinator %d until %s", k.CoordID, chainTime(k.Until))
		}
		a.Until = max(a.Until, k.Until)
	}
	p.kept = others
	return s.fits(a.Resources, s.used(p))
}

// fits declines what does not fit beside what is used.
func (s *Supervisor) fits(need, used state.Resources) error {
	for _, r := range []struct {
		need, free int64
		what       string
	}{
		{int64(need.VCPUs), int64(s.totals.VCPUs - used.VCPUs), "vCPUs"},
		{int64(need.MemoryMiB), int64(s.totals.MemoryMiB - used.MemoryMiB), "MiB of memory"},
		{need.DiskMiB, s.totals.DiskMiB - used.DiskMiB, "MiB of disk"},
	} {
		if r.need > r.free {
			return declined("the job needs %d %s, %d are free", r.need, r.what, max(0, r.free))
		}
	}
	return nil
}
