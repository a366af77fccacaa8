package scheduler

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// quorumMax is how many coordinator signatures the contract wants at most.
const quorumMax = 3

// OpenKey is the key of the intent that opens the job on chain.
func OpenKey(spec message.ItemHash) string { return fmt.Sprintf("open/%s/%d", spec, attempt) }

func offerWord(o state.Offer) *job.Offer {
	return &job.Offer{
		Spec: o.Spec, Payer: o.Payer, Token: o.Token, MaxRateQ32: o.MaxRateQ32, NodeHint: o.NodeHint,
		MaxUntil: o.MaxUntil, Deadline: o.Deadline, Nonce: o.Nonce,
	}
}

// The tuples of JobManager.open, by the ABI's field names.
type offerTuple struct {
	Spec       string `json:"spec"`
	Payer      string `json:"payer"`
	Token      string `json:"token"`
	MaxRateQ32 string `json:"maxRateQ32"`
	SLAClass   string `json:"slaClass"`
	ImageSeq   string `json:"imageSeq"`
	NodeHint   string `json:"nodeHint"`
	ReqHash    string `json:"reqHash"`
	MaxUntil   string `json:"maxUntil"`
	Deadline   string `json:"deadline"`
	Nonce      string `json:"nonce"`
}

type assignmentTuple struct {
	Spec       string `json:"spec"`
	NodeID     string `json:"nodeId"`
	RateQ32    string `json:"rateQ32"`
	Attempt    string `json:"attempt"`
	CoordID    string `json:"coordId"`
	StatsEpoch string `json:"statsEpoch"`
	ReqHash    string `json:"reqHash"`
	Deadline   string `json:"deadline"`
}

// open signs the assignment and returns the transaction that opens the job.
func (p *Planner) open(o state.Offer, terms job.Terms, accept job.Signature) (state.Intent, error) {
	assignment := job.Assignment(terms)
	signature, err := job.Sign(p.self.Key, p.self.Domain, &assignment)
	if err != nil {
		return state.Intent{}, fmt.Errorf("sign assignment of %s: %w", o.Spec, err)
	}
	word := offerWord(o)
	args, err := json.Marshal([]any{
		offerTuple{
			"0x" + string(o.Spec), o.Payer.Hex(), number(uint64(o.Token)), o.MaxRateQ32.String(), number(uint64(word.SLAClass)),
			number(uint64(word.ImageSeq)), number(uint64(o.NodeHint)), word.ReqHash.Hex(), number(o.MaxUntil), number(o.Deadline),
			o.Nonce.String(),
		},
		job.Signature(o.Signature).String(),
		assignmentTuple{
			"0x" + string(terms.Spec), number(uint64(terms.NodeID)), terms.RateQ32.String(), number(uint64(terms.Attempt)),
			number(uint64(terms.CoordID)), number(uint64(terms.StatsEpoch)), terms.ReqHash.Hex(), number(terms.Deadline),
		},
		accept.String(),
		// Entries of the coordinator's id and its signature, by id.
		job.Signature(append(binary.BigEndian.AppendUint32(nil, terms.CoordID), signature...)).String(),
	})
	if err != nil {
		return state.Intent{}, fmt.Errorf("encode arguments of open: %w", err)
	}
	return state.Intent{
		Key: OpenKey(o.Spec), Contract: "JobManager", Method: "open", Args: args, Deadline: min(o.Deadline, terms.Deadline),
	}, nil
}

func number(v uint64) string { return strconv.FormatUint(v, 10) }

// follow ends decided offers whose transaction has ended.
func (p *Planner) follow(ctx context.Context) error {
	decided, err := p.db.OffersWith(ctx, state.OfferDecided, offersMax)
	if err != nil {
		return err
	}
	for _, o := range decided {
		if err := p.followOne(ctx, o.Spec); err != nil {
			if ctx.Err() != nil {
				return err
			}
			p.log.Warn("offer not followed", "job_id", o.Spec, "err", err) // The others are.
		}
	}
	return nil
}

// followOne ends the offer when its transaction is final. Until then a
// reorganisation may still take the job from the chain, so it stays decided.
func (p *Planner) followOne(ctx context.Context, spec message.ItemHash) error {
	var ended state.Offer
	err := p.db.Update(ctx, func(tx *state.Tx) error {
		o, err := tx.Offer(ctx, spec)
		if err != nil || o.Status != state.OfferDecided {
			return err
		}
		intent, err := tx.Intent(ctx, OpenKey(spec))
		if err != nil {
			return err
		}
		_, err = tx.Job(ctx, spec)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		onChain := err == nil
		switch intent.Status {
		case state.IntentPending, state.IntentSent:
			return nil
		case state.IntentConfirmed:
			if !onChain {
				return nil // Its event is on the way.
			}
			o.Status = state.OfferOpened
		case state.IntentReverted, state.IntentExpired:
			o.Status, o.Reason = ending(*intent, onChain, o.Reason)
		default:
			return errs.New(errs.Internal, "intent %s has the unknown status %q", intent.Key, intent.Status)
		}
		ended = *o
		return tx.PutOffer(ctx, *o)
	})
	if err != nil || ended.Spec == "" {
		return err
	}
	p.outcomes.WithLabelValues(string(ended.Status)).Inc()
	p.log.Info("offer ended", "job_id", spec, "status", ended.Status, "reason", ended.Reason)
	if ended.Status == state.OfferRefused {
		p.mu.Lock()
		delete(p.claims, spec)
		p.mu.Unlock()
	}
	return nil
}

// ending says what an offer becomes whose transaction did not go through. The
// job may be on chain all the same: anybody may relay the signatures.
func ending(i state.Intent, onChain bool, reason string) (state.OfferStatus, string) {
	switch {
	case onChain:
		return state.OfferOpened, reason
	case i.Status == state.IntentExpired:
		return state.OfferRefused, "the transaction that opens the job was not mined before its deadline at " + chainTime(i.Deadline)
	default:
		return state.OfferRefused, "the chain refused to open the job: " + i.Error
	}
}
