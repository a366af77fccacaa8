package v1

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// Drainer has a compute node take nothing new, and machines again;
// executor.Supervisor is one.
type Drainer interface {
	Drain(ctx context.Context, by string, until time.Time) error
	EndDrain(ctx context.Context, by string) error
}

// DrainView says whether a compute node drains.
type DrainView struct {
	Draining bool   `json:"draining" doc:"Who runs the node ordered that it take nothing new."`
	Until    int64  `json:"until" doc:"Unix seconds by which its machines should be elsewhere; 0 for none."`
	By       string `json:"by" doc:"Who signed the order."`
	At       int64  `json:"at" doc:"Unix seconds of the order."`
	Machines int    `json:"machines" doc:"Machines that are here and have not ended."`
}

type drainOutput struct{ Body DrainView }

// orderInput is an order to this node. All of it is in the target, so that all of
// it is signed: the number of the node too, for who has several.
type orderInput struct {
	Node   uint32 `query:"node" required:"true" doc:"Number of the node that is meant."`
	Until  int64  `query:"until" doc:"Of PUT: Unix seconds by which the machines should be elsewhere, within a year."`
	Signed string `header:"Authorization" doc:"Signed by the node's owner or its signer: Aleph base64url(JSON{address,expires,nonce,signature})."`

	method, target string
}

// Resolve implements huma.Resolver.
func (i *orderInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	i.method, i.target = ctx.Method(), u.RequestURI()
	return nil
}

// DrainPath is where it is told whether a compute node drains, and ordered.
const DrainPath = "/api/v1/drain"

// DrainTarget is the path and query of an order to drain, which is signed; until 0
// ends a drain.
func DrainTarget(node uint32, until int64) string {
	q := url.Values{"node": {strconv.FormatUint(uint64(node), 10)}}
	if until != 0 {
		q.Set("until", strconv.FormatInt(until, 10))
	}
	return DrainPath + "?" + q.Encode()
}

func (s *Server) registerDrain() {
	handle(s, op("drain", http.MethodGet, DrainPath, "Whether the node drains, and until when", http.StatusOK, "operation"), s.drain)
	start := op("start-drain", http.MethodPut, DrainPath, "Take nothing new, and tell the machines by when to be elsewhere; none is stopped", http.StatusOK, "operation")
	end := op("end-drain", http.MethodDelete, DrainPath, "Take machines again", http.StatusOK, "operation")
	start.Errors = append(start.Errors, http.StatusForbidden)
	end.Errors = append(end.Errors, http.StatusForbidden)
	handle(s, start, s.startDrain)
	handle(s, end, s.endDrain)
}

func (s *Server) drain(ctx context.Context, _ *struct{}) (*drainOutput, error) {
	out := new(drainOutput)
	err := s.parts.DB.View(ctx, func(v *state.View) error {
		d, err := maybe(v.Drain(ctx))
		if err != nil {
			return err
		}
		if d != nil {
			out.Body = DrainView{Draining: true, Until: d.Until.Unix(), By: d.By, At: d.At.Unix()}
		}
		vms, err := v.VMs(ctx)
		for _, vm := range vms {
			if vm.State != state.VMStopped && vm.State != state.VMFailed {
				out.Body.Machines++
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) startDrain(ctx context.Context, in *orderInput) (*drainOutput, error) {
	by, err := s.runsThis(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := s.parts.Drainer.Drain(ctx, by.Hex(), time.Unix(in.Until, 0)); err != nil {
		return nil, err
	}
	return s.drain(ctx, nil)
}

func (s *Server) endDrain(ctx context.Context, in *orderInput) (*drainOutput, error) {
	by, err := s.runsThis(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := s.parts.Drainer.EndDrain(ctx, by.Hex()); err != nil {
		return nil, err
	}
	return s.drain(ctx, nil)
}

// runsThis returns who signed the order: whoever the registry has as the owner or
// the signer of this node, nobody else.
func (s *Server) runsThis(ctx context.Context, in *orderInput) (common.Address, error) {
	by, err := s.authenticate(in.Signed, in.method, in.target, time.Now())
	if err != nil {
		return by, err
	}
	if in.Node != s.self.NodeID {
		return by, errs.New(errs.Denied, "the order is for node %d, this is node %d", in.Node, s.self.NodeID)
	}
	self, err := maybe(s.parts.DB.Node(ctx, s.self.NodeID))
	switch {
	case err != nil:
		return by, fmt.Errorf("read who runs the node: %w", err)
	case self == nil:
		return by, errs.New(errs.Unavailable, "the node has not found itself in the registry yet, so it knows nobody who may order it")
	case by != self.Owner && by != self.Signer:
		return by, errs.New(errs.Denied, "the order is signed by %s; only the node's owner, %s, and its signer, %s, may order it", by, self.Owner, self.Signer)
	}
	return by, nil
}
