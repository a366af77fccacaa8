package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// asksMax bounds the nodes that are asked about one offer in one pass, so that
// an offer that nobody likes does not hold a slot for long.
const asksMax = 8

// errWait says that the offer's message is not known well enough yet.
var errWait = errors.New("message has not been processed yet")

// messageReader is a database, a snapshot or a transaction.
type messageReader interface {
	Known(ctx context.Context, hash message.ItemHash) (*state.Known, error)
}

// read returns the offer's message and what it needs. Its error is errWait, or
// errs.Invalid with what makes the message impossible to run, or a defect.
func read(ctx context.Context, r messageReader, spec message.ItemHash) (*message.Envelope, job.Needs, *message.Instance, error) {
	known, err := r.Known(ctx, spec)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil, job.Needs{}, nil, errWait
	case err != nil:
		return nil, job.Needs{}, nil, err
	case known.Rejected != nil:
		return nil, job.Needs{}, nil, errs.New(errs.Invalid, "the message was rejected: %s", known.Rejected.Reason())
	case known.Skeleton != nil:
		return nil, job.Needs{}, nil, errs.New(errs.Invalid, "the message was %s", known.Status)
	case known.Message == nil:
		return nil, job.Needs{}, nil, errWait
	}
	env := &known.Message.Envelope
	instance, err := env.Instance()
	if err != nil {
		return nil, job.Needs{}, nil, errs.New(errs.Invalid, "the message cannot be run: %w", err)
	}
	needs, err := job.NeedsOf(instance)
	if err != nil {
		return nil, job.Needs{}, nil, errs.New(errs.Invalid, "the message cannot be run: %w", err)
	}
	return env, needs, instance, nil
}

// place tries to find a node for the offer.
func (p *Planner) place(ctx context.Context, m *market, o state.Offer) error {
	started := time.Now()
	if m.head.Time > o.Deadline {
		reason := fmt.Sprintf("the offer's deadline passed at %s before a node took it", chainTime(o.Deadline))
		if o.Reason != "" {
			reason += "; at the last look: " + o.Reason
		}
		return p.refuse(ctx, o.Spec, reason)
	}
	// There is one decision per spec. An offer for a spec that has one can come to
	// nothing, so nobody is asked about it.
	d, err := p.db.Decision(ctx, o.Spec, attempt)
	if err == nil {
		return p.refuse(ctx, o.Spec, fmt.Sprintf("the job was given to node %d before and came to nothing; sign a new message for another try", d.NodeID))
	}
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	env, needs, instance, err := read(ctx, p.db, o.Spec)
	switch {
	case errors.Is(err, errWait):
		return p.wait(ctx, o, nil, errWait.Error())
	case errors.Is(err, errs.Invalid):
		return p.refuse(ctx, o.Spec, err.Error())
	case err != nil:
		return err
	}
	if need := min(quorumMax, m.coordinators); need > 1 {
		return p.wait(ctx, o, nil, fmt.Sprintf("the contract wants the signatures of %d coordinators, and this one can give its own only", need))
	}
	if o.Seed == (common.Hash{}) {
		// Kept before anybody is asked, so that a restart asks the same node.
		o.Seed = m.head.Hash
		if err := p.change(ctx, o.Spec, func(row *state.Offer) { row.Seed = o.Seed }); err != nil {
			return err
		}
	}
	q := request{
		table: p.table, spec: o.Spec, seed: o.Seed, instance: instance, needs: needs, maxRate: o.MaxRateQ32, nodeHint: o.NodeHint,
	}
	for range asksMax {
		c, err := p.choose(m, q)
		if err != nil {
			return err
		}
		if c.chosen == nil {
			p.outcomes.WithLabelValues("no_candidate").Inc()
			return p.wait(ctx, o, c.candidates, noNode(c.candidates))
		}
		signature, terms, refused := p.ask(ctx, m, o, env, c)
		if refused != nil {
			p.passOver(o.Spec, c.chosen.node.ID, *refused)
			continue
		}
		err = p.decide(ctx, o, c, terms, signature)
		p.settleClaim(o.Spec, c.chosen.node.ID, needs, err == nil)
		if err == nil {
			p.took.Observe(time.Since(started).Seconds())
		}
		return err
	}
	return nil
}

// choose picks a node and claims its resources until the offer is decided or
// the node is passed over.
func (p *Planner) choose(m *market, q request) (choice, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetShown(m)
	c, err := choose(m, q, p.cfg.AdMaxAge, p.claims, p.passed[q.spec])
	if err == nil && c.chosen != nil {
		p.claims[q.spec] = claim{nodeID: c.chosen.node.ID, needs: q.needs}
	}
	return c, err
}

// forgetShown drops claims that the nodes' ads show by now, and those of nodes
// that are long gone. The caller holds p.mu.
func (p *Planner) forgetShown(m *market) {
	const goneAfter = 10 * time.Minute // Far above the age at which a node counts as away.
	for spec, c := range p.claims {
		ad := p.ads[c.nodeID]
		if !c.at.IsZero() && (ad.receivedAt.After(c.at) || m.now.Sub(c.at) > goneAfter) {
			delete(p.claims, spec)
		}
	}
}

func (p *Planner) passOver(spec message.ItemHash, nodeID uint32, r refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.claims, spec)
	if p.passed[spec] == nil {
		p.passed[spec] = map[uint32]refusal{}
	}
	r.until = time.Now().Add(p.cfg.DeclineRetry)
	p.passed[spec][nodeID] = r
}

func (p *Planner) settleClaim(spec message.ItemHash, nodeID uint32, needs job.Needs, decided bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.passed, spec)
	if !decided {
		delete(p.claims, spec)
		return
	}
	p.claims[spec] = claim{nodeID, needs, time.Now()}
}

// ask asks the chosen node to accept. It returns the node's signature and the
// terms it signed, or why there is none.
func (p *Planner) ask(ctx context.Context, m *market, o state.Offer, env *message.Envelope, c choice) (job.Signature, job.Terms, *refusal) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AskTimeout)
	defer cancel()
	node := c.chosen.node
	terms := job.Terms{
		Spec: o.Spec, NodeID: node.ID, RateQ32: c.rateQ32, Attempt: attempt, CoordID: p.self.NodeID,
		Deadline: min(o.Deadline, m.head.Time+p.cfg.AcceptSeconds),
	}
	assignment := job.Assignment(terms)
	reply, err := p.asker.Ask(ctx, c.chosen.ad.PeerID, &job.Ask{
		Kind: job.AskAccept, Message: env, Offer: offerWord(o), OfferSignature: o.Signature, Assignment: &assignment,
	})
	switch {
	case err != nil:
		p.outcomes.WithLabelValues("unreachable").Inc()
		return nil, terms, &refusal{reason: "could not be asked: " + clip(err.Error()), heardAt: c.chosen.receivedAt}
	case reply.Error != "":
		p.outcomes.WithLabelValues("unreachable").Inc()
		return nil, terms, &refusal{reason: "could not answer: " + clip(reply.Error)}
	case !reply.Accepted:
		p.outcomes.WithLabelValues("declined").Inc()
		return nil, terms, &refusal{reason: "declined: " + clip(reply.Reason)}
	}
	accept := job.Accept(terms)
	if err := job.Verify(p.self.Domain, &accept, reply.Signature, node.Signer); err != nil {
		p.outcomes.WithLabelValues("declined").Inc()
		return nil, terms, &refusal{reason: "accepted with a signature that is not its own: " + clip(err.Error())}
	}
	return reply.Signature, terms, nil
}

// decide commits the decision, its transaction and the offer's new status, all
// or nothing, unless the offer has been decided meanwhile.
func (p *Planner) decide(ctx context.Context, o state.Offer, c choice, terms job.Terms, accept job.Signature) error {
	intent, err := p.open(o, terms, accept)
	if err != nil {
		return err
	}
	intent.Reason = chosenReason(c)
	d := state.Decision{
		Spec: o.Spec, Attempt: attempt, NodeID: terms.NodeID, CoordID: terms.CoordID, RateQ32: terms.RateQ32,
		Deadline: terms.Deadline, Seed: o.Seed, Reason: chosenReason(c), Candidates: c.candidates,
		AcceptSig: accept, DecidedAt: time.Now().UTC(),
	}
	err = p.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.Offer(ctx, o.Spec)
		if err != nil {
			return err
		}
		if row.Status != state.OfferOffered {
			return errs.New(errs.Conflict, "offer %s is %s already", o.Spec, row.Status)
		}
		if _, err := tx.Decision(ctx, o.Spec, attempt); !errors.Is(err, errs.NotFound) {
			return errors.Join(errs.New(errs.Conflict, "offer %s has a decision already", o.Spec), err)
		}
		if err := tx.PutDecision(ctx, d); err != nil {
			return err
		}
		if _, err := tx.Enqueue(ctx, intent); err != nil {
			return err
		}
		row.Status, row.Reason, row.Candidates = state.OfferDecided, d.Reason, nil
		return tx.PutOffer(ctx, *row)
	})
	if err != nil {
		return fmt.Errorf("decide offer %s: %w", o.Spec, err)
	}
	p.outcomes.WithLabelValues("decided").Inc()
	p.log.Info("decided", "job_id", o.Spec, "node", d.NodeID, "candidates", len(d.Candidates))
	return nil
}

// wait leaves the offer offered and says why.
func (p *Planner) wait(ctx context.Context, o state.Offer, candidates []state.Candidate, reason string) error {
	return p.change(ctx, o.Spec, func(row *state.Offer) { row.Reason, row.Candidates = reason, candidates })
}

// refuse ends the offer.
func (p *Planner) refuse(ctx context.Context, spec message.ItemHash, reason string) error {
	err := p.change(ctx, spec, func(row *state.Offer) { row.Status, row.Reason = state.OfferRefused, reason })
	if err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.claims, spec)
	delete(p.passed, spec)
	p.mu.Unlock()
	p.outcomes.WithLabelValues("refused").Inc()
	p.log.Info("refused", "job_id", spec, "reason", reason)
	return nil
}

// change edits an offer that is still offered.
func (p *Planner) change(ctx context.Context, spec message.ItemHash, edit func(*state.Offer)) error {
	err := p.db.Update(ctx, func(tx *state.Tx) error {
		row, err := tx.Offer(ctx, spec)
		if err != nil || row.Status != state.OfferOffered {
			return err
		}
		edit(row)
		return tx.PutOffer(ctx, *row)
	})
	if err != nil {
		return fmt.Errorf("change offer %s: %w", spec, err)
	}
	return nil
}

func chosenReason(c choice) string {
	for _, cand := range c.candidates {
		if cand.Chosen {
			return fmt.Sprintf("node %d was %s", cand.NodeID, cand.Reason)
		}
	}
	return ""
}

// noNode says in one sentence why no node is eligible.
func noNode(candidates []state.Candidate) string {
	const named = 3 // More would hide the point; the rest is in the candidates.
	if len(candidates) == 0 {
		return "no compute node is registered"
	}
	text := "no eligible node"
	for i, c := range candidates {
		if i == named {
			return text + fmt.Sprintf("; and %d more", len(candidates)-named)
		}
		text += fmt.Sprintf("; node %d %s", c.NodeID, c.Reason)
	}
	return text
}

func clip(s string) string {
	if len(s) > reasonCharsMax {
		return s[:reasonCharsMax] + "..."
	}
	return s
}

func chainTime(at uint64) string {
	return time.Unix(int64(at), 0).UTC().Format(time.RFC3339)
}
