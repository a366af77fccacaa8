package v1

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type quoteInput struct {
	Body struct {
		Spec     string          `json:"spec,omitempty" doc:"Item hash that the message will have; decides ties as it will for the job."`
		NodeHint uint32          `json:"node_hint,omitempty" doc:"Node to run on; 0 leaves the choice open."`
		Content  json.RawMessage `json:"content" doc:"Content of an INSTANCE message."`
	}
}

type lineView struct {
	Name       string `json:"name"`
	WeiPerHour string `json:"wei_per_hour" doc:"Negative for a discount."`
}

type candidateView struct {
	NodeID   uint32  `json:"node_id"`
	Eligible bool    `json:"eligible"`
	Chosen   bool    `json:"chosen"`
	Reason   string  `json:"reason"`
	Score    float64 `json:"score" doc:"The key of the race among eligible nodes; 0 for others."`
}

type quoteView struct {
	RateQ32       string          `json:"rate_q32" doc:"Wei per second times 2^32, as contracts hold it."`
	WeiPerSecond  string          `json:"wei_per_second"`
	WeiPerHour    string          `json:"wei_per_hour"`
	WeiPerMonth   string          `json:"wei_per_month" doc:"Of 730 hours."`
	PrepaySeconds uint64          `json:"prepay_seconds"`
	PrepayWei     string          `json:"prepay_wei" doc:"What the payer must have when the job opens."`
	Token         uint8           `json:"token"`
	NodeID        uint32          `json:"node_id" doc:"The node that would be chosen; 0 for none."`
	Reason        string          `json:"reason" doc:"Why that node, or why none."`
	Lines         []lineView      `json:"lines" doc:"They add up to wei_per_hour."`
	Candidates    []candidateView `json:"candidates"`
}

type quoteOutput struct{ Body quoteView }

func (s *Server) quote(ctx context.Context, in *quoteInput) (*quoteOutput, error) {
	i, err := message.ParseInstance(in.Body.Content)
	if err != nil {
		return nil, err
	}
	var spec message.ItemHash
	if in.Body.Spec != "" {
		if spec, err = parseSpec(in.Body.Spec); err != nil {
			return nil, err
		}
	}
	q, err := s.parts.Planner.Quote(ctx, i, spec, in.Body.NodeHint)
	if err != nil {
		return nil, err
	}
	return &quoteOutput{viewQuote(q)}, nil
}

func viewQuote(q *scheduler.Quote) quoteView {
	v := quoteView{
		RateQ32: decimal(q.Flow.RateQ32), WeiPerSecond: decimal(q.Flow.WeiPerSecond), WeiPerHour: decimal(q.Flow.PerHour()),
		WeiPerMonth: decimal(q.Flow.PerMonth()), PrepaySeconds: q.PrepaySeconds, PrepayWei: decimal(q.PrepayWei), Token: q.Token,
		NodeID: q.NodeID, Reason: q.Reason, Lines: []lineView{}, Candidates: viewCandidates(q.Candidates),
	}
	for _, l := range q.Flow.Lines {
		v.Lines = append(v.Lines, lineView{Name: l.Name, WeiPerHour: decimal(l.WeiPerHour)})
	}
	return v
}

func viewCandidates(candidates []state.Candidate) []candidateView {
	out := make([]candidateView, 0, len(candidates))
	for _, c := range candidates {
		// A node that did not race has no score.
		score, err := strconv.ParseFloat(c.Score, 64)
		if err != nil {
			score = 0
		}
		out = append(out, candidateView{NodeID: c.NodeID, Eligible: c.Eligible, Chosen: c.Chosen, Reason: c.Reason, Score: score})
	}
	return out
}
