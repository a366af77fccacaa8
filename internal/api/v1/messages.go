package v1

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
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
	Status   string `json:"status" enum:"processed,pending"`
}

type acceptedOutput struct{ Body acceptedView }

func (s *Server) postMessage(ctx context.Context, in *postMessageInput) (*acceptedOutput, error) {
	m, err := s.parts.Intake.Submit(ctx, in.Body.Message, time.Now())
	if err != nil {
		return nil, err
	}
	return &acceptedOutput{acceptedView{ItemHash: string(m.ItemHash), Status: string(m.Status)}}, nil
}

type messageInput struct {
	Hash string `path:"hash" doc:"Item hash of the message."`
}

type messageView struct {
	Status    string          `json:"status" enum:"processed,pending,rejected"`
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
	m, err := s.parts.DB.Message(ctx, hash)
	if err != nil {
		return nil, err
	}
	v := messageView{Status: string(m.Status), Message: m.Envelope, Detail: m.Detail}
	if m.Status != state.MessageProcessed {
		v.ErrorCode = &m.Code
	}
	return &messageOutput{v}, nil
}
