package v1

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type postMessageInput struct {
	Body struct {
		Message json.RawMessage `json:"message" doc:"The signed envelope."`
	}
}

type acceptedView struct {
	ItemHash string `json:"item_hash"`
	Status   string `json:"status" enum:"processed,pending,forgotten,removing,removed"`
}

type acceptedOutput struct{ Body acceptedView }

func (s *Server) postMessage(ctx context.Context, in *postMessageInput) (*acceptedOutput, error) {
	v, err := s.parts.Intake.Submit(ctx, ingest.Submission{Raw: in.Body.Message, At: time.Now()})
	if err != nil {
		return nil, err
	}
	if v.Status == state.MessageRejected {
		return nil, v.Refusal
	}
	return &acceptedOutput{acceptedView{ItemHash: string(v.ItemHash), Status: string(v.Status)}}, nil
}

type messageInput struct {
	Hash string `path:"hash" doc:"Item hash of the message."`
}

type messageView struct {
	Status    string          `json:"status" enum:"processed,pending,rejected,forgotten,removing,removed"`
	Message   json.RawMessage `json:"message"`
	ErrorCode *int            `json:"error_code,omitempty" doc:"The protocol's number for the refusal, or for what is waited for."`
	Detail    string          `json:"detail,omitempty"`
}

type messageOutput struct{ Body messageView }

func (s *Server) message(ctx context.Context, in *messageInput) (*messageOutput, error) {
	hash, err := message.ParseItemHash(in.Hash)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	k, err := s.parts.DB.Known(ctx, hash)
	if err != nil {
		return nil, err
	}
	v := messageView{Status: string(k.Status)}
	switch {
	case k.Message != nil:
		v.Message, err = json.Marshal(k.Message.Envelope)
	case k.Skeleton != nil:
		v.Message, err = json.Marshal(k.Skeleton.Envelope)
	case len(k.Pending) > 0:
		v.Message, v.ErrorCode, v.Detail = k.Pending[0].Envelope, code(k.Pending[0].Code), k.Pending[0].Reason()
	default:
		v.Message, v.ErrorCode, v.Detail = k.Rejected.Envelope, code(k.Rejected.Code), k.Rejected.Reason()
	}
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", hash, err)
	}
	return &messageOutput{v}, nil
}

func code(c message.Code) *int {
	n := int(c)
	return &n
}
