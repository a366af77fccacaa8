package ccn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// itemHash reads the hash in the path of a request.
func itemHash(r *http.Request) (message.ItemHash, error) {
	raw := r.PathValue("item_hash")
	hash, err := message.ParseItemHash(raw)
	if err != nil {
		return "", refuseText(http.StatusBadRequest, "Invalid message hash: "+raw)
	}
	return hash, nil
}

// known returns what is known of the message that a request names, read in one
// snapshot with its confirmations.
func (s *Server) known(r *http.Request) (known *state.Known, view message.View, err error) {
	hash, err := itemHash(r)
	if err != nil {
		return nil, view, err
	}
	ctx := r.Context()
	err = s.parts.DB.View(ctx, func(v *state.View) error {
		if known, err = v.Known(ctx, hash); err != nil || known.Message == nil {
			return err
		}
		views, err := viewsOf(ctx, v, []*state.Message{known.Message})
		if err != nil {
			return err
		}
		view = views[0]
		return nil
	})
	if errors.Is(err, errs.NotFound) {
		err = refuse(http.StatusNotFound)
	}
	return known, view, err
}

// oneMessage answers with a message in the form that its status has.
func (s *Server) oneMessage(w http.ResponseWriter, r *http.Request) error {
	k, view, err := s.known(r)
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("status", string(k.Status))
	o.text("item_hash", r.PathValue("item_hash"))
	o.text("reception_time", message.FormatISO(k.ReceivedAt))
	switch k.Status {
	case state.MessageProcessed, state.MessageRemoving:
		o.key("message")
		o.buf, err = view.AppendSingle(o.buf)
		if k.Status == state.MessageRemoving {
			o.text("reason", reasonOf(k.Message.Reason))
		}
	case state.MessagePending:
		err = o.pending(k.Pending)
	case state.MessageRejected:
		o.raw("message", k.Rejected.Envelope)
		o.integer("error_code", int64(k.Rejected.Code))
		o.raw("details", k.Rejected.Details)
	case state.MessageForgotten:
		o.key("message")
		o.buf = skeletonOf(k.Skeleton).Append(o.buf)
		o.texts("forgotten_by", texts(k.Skeleton.ForgottenBy))
	case state.MessageRemoved:
		o.removed(k.Skeleton)
	}
	if err != nil {
		return fmt.Errorf("show message %s: %w", r.PathValue("item_hash"), err)
	}
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// reasonOf is why a message is removed; rows of older versions do not say.
func reasonOf(reason string) string {
	if reason == "" {
		return "balance_insufficient"
	}
	return reason
}

// pending writes the copies of a message that wait, one for each signature.
func (o *object) pending(rows []state.Pending) (err error) {
	o.key("messages")
	o.buf = append(o.buf, '[')
	for i, row := range rows {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		var e message.Envelope
		if err := e.UnmarshalJSON(row.Envelope); err != nil {
			return err
		}
		view := message.View{Envelope: &e}
		if e.ItemType == message.Inline {
			view.Content = []byte(e.ItemContent)
		}
		if o.buf, err = view.AppendPending(o.buf, row.ReceivedAt); err != nil {
			return err
		}
	}
	o.buf = append(o.buf, ']')
	return nil
}

func skeletonOf(s *state.Skeleton) *message.Skeleton {
	out := &message.Skeleton{Envelope: &s.Envelope, Owner: &s.Owner, PaymentType: s.PaymentType, SizeBytes: s.SizeBytes}
	if !s.EndedAt.IsZero() {
		out.ForgottenAt = &s.EndedAt
	}
	return out
}

// removed writes what is left of a message that nobody paid for.
func (o *object) removed(s *state.Skeleton) {
	e := &s.Envelope
	m := newObject(nil)
	m.text("sender", e.Sender)
	m.text("chain", string(e.Chain))
	m.signature(e.Signature)
	m.text("type", string(e.Type))
	m.text("item_type", string(e.ItemType))
	m.text("item_hash", string(e.ItemHash))
	m.seconds("time", e.Time)
	m.textOrNull("channel", e.Channel)
	m.text("owner", s.Owner)
	m.textOrNull("payment_type", (*string)(s.PaymentType))
	m.integerOrNull("size", s.SizeBytes)
	m.seconds("removed_at", s.EndedAt)
	o.raw("message", m.end())
	o.text("reason", reasonOf(s.Reason))
	o.seconds("removed_at", s.EndedAt)
	o.integerOrNull("size", s.SizeBytes)
}

// messageStatus answers with what became of a message, and when it came.
func (s *Server) messageStatus(w http.ResponseWriter, r *http.Request) error {
	k, _, err := s.known(r)
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("status", string(k.Status))
	o.text("item_hash", r.PathValue("item_hash"))
	o.text("reception_time", message.FormatISO(k.ReceivedAt))
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// messageContent answers with the content of a message; of a POST with what is in
// it.
func (s *Server) messageContent(w http.ResponseWriter, r *http.Request) error {
	k, view, err := s.known(r)
	if err != nil {
		return err
	}
	if k.Status != state.MessageProcessed {
		return refuseText(http.StatusUnprocessableEntity, fmt.Sprintf("Message %s is not processed (status: %s)", r.PathValue("item_hash"), k.Status))
	}
	single, err := view.AppendSingle(nil)
	if err != nil {
		return fmt.Errorf("show message %s: %w", r.PathValue("item_hash"), err)
	}
	content, err := innerOf(single, k.Message.Envelope.Type == message.TypePost)
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, content)
}

// innerOf is the content of a message as it is shown alone, or what is in it.
func innerOf(single []byte, post bool) (json.RawMessage, error) {
	var m struct {
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(single, &m); err != nil || !post {
		return m.Content, err
	}
	err := json.Unmarshal(m.Content, &m)
	return m.Content, err
}

// consumedCredits answers with what a machine or a file has cost, which is nothing
// for what nobody knows.
func (s *Server) consumedCredits(w http.ResponseWriter, r *http.Request) error {
	raw := r.PathValue("item_hash")
	consumed, err := s.parts.DB.CreditsConsumed(r.Context(), message.ItemHash(raw))
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("item_hash", raw)
	o.integer("consumed_credits", consumed[message.ItemHash(raw)])
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// listHashes answers with the hashes of messages by when they came, whatever became
// of them.
func (s *Server) listHashes(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	var q state.ReceptionQuery
	if raw, ok := p.text("status"); ok {
		if q.Status = state.MessageStatus(raw); !isStatus(raw) {
			p.fail("enum", "Input should be a status of messages", raw, "status")
		}
	}
	q.From, q.To = p.span()
	q.Oldest = p.oldestFirst()
	only := p.boolean(true, "hash_only")
	pg := p.page(perPage, 0, numberMax)
	pg.cursor = nil
	if err := p.err(); err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error { return fillHashes(r.Context(), v, st, q, pg, only) })
}

// hashesMax is how many hashes of a list are read at once.
const hashesMax = 5000

func fillHashes(ctx context.Context, v *state.View, st *stream, q state.ReceptionQuery, pg page, only bool) error {
	if err := st.text(`{"hashes":[`); err != nil {
		return err
	}
	var n int64
	for {
		limit := int64(hashesMax)
		if pg.per > 0 {
			limit = min(limit, pg.per-n)
		}
		found, total, err := v.Receptions(ctx, q, pg.offset()+n, limit)
		if err != nil {
			return err
		}
		for _, rec := range found {
			if err := st.grow(func(dst []byte) ([]byte, error) { return appendReception(dst, rec, n == 0, only), nil }); err != nil {
				return err
			}
			n++
		}
		if int64(len(found)) < limit || n == pg.per {
			return st.endPage("hashes", pg, total)
		}
	}
}

func appendReception(dst []byte, rec state.Reception, first, only bool) []byte {
	if !first {
		dst = append(dst, ',')
	}
	if only {
		return appendText(dst, string(rec.Hash))
	}
	o := newObject(dst)
	o.text("item_hash", string(rec.Hash))
	o.seconds("reception_time", rec.ReceivedAt)
	o.text("status", string(rec.Status))
	return o.end()
}
