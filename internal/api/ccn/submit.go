package ccn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// bodyMax bounds the body of a request, as with the reference.
	bodyMax = 1 << 20
	// depthMax bounds how deep a body is nested.
	depthMax = 128
	// syncTimeout is how long a sender may wait for what becomes of a message, and
	// waitingMax how many do; others are told at once that theirs is pending.
	syncTimeout, waitingMax = 30 * time.Second, 64
	// lookMin and lookMax are the pauses between two looks at a message that waits.
	lookMin, lookMax = 50 * time.Millisecond, time.Second
	// clientTopic is the topic that clients have built in, whatever the network's is.
	clientTopic = "ALEPH-TEST"
)

// readBody reads the body of a request, which is one JSON document.
func readBody(r *http.Request) ([]byte, error) {
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(min(r.ContentLength, bodyMax)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(r.Body)
	raw := body.Bytes()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil:
		// The client went away, or what it sent is no HTTP: nothing failed here.
		return nil, errs.New(errs.Invalid, "body broke off: %w", err)
	}
	if !json.Valid(raw) || tooDeep(raw) {
		return nil, refuse(http.StatusUnprocessableEntity)
	}
	return raw, nil
}

// tooDeep reports whether a valid document is nested too deep.
func tooDeep(raw []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > depthMax {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// submission is what a client hands in.
type submission struct {
	sync bool
	raw  json.RawMessage
}

// readSubmission reads {"sync": ..., "message": {...}}.
func readSubmission(r *http.Request) (*submission, error) {
	raw, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if !isObject(raw) {
		return nil, invalidAnswer([]wrong{{Type: "model_type", Loc: []any{}, Msg: "Input should be a valid dictionary or instance of PubMessageRequest"}}, false)
	}
	fields := splitObject(raw)
	p := &params{}
	s := &submission{raw: fields["message"]}
	if s.raw == nil {
		p.fail("missing", "Field required", nil, "message")
	} else if !isObject(s.raw) {
		p.fail("dict_type", "Input should be a valid dictionary", nil, "message")
	}
	if flag := fields["sync"]; flag != nil {
		var text string
		if json.Unmarshal(flag, &text) != nil {
			text = string(flag)
		}
		asked := &params{values: map[string][]string{"sync": {text}}}
		s.sync = asked.boolean(false, "sync")
		p.wrong = append(p.wrong, asked.wrong...)
	}
	return s, p.err()
}

// fieldsOf are the fields of a document that is an object.
func fieldsOf(raw []byte) (fields map[string]json.RawMessage, ok bool) {
	if !isObject(raw) || !json.Valid(raw) {
		return nil, false
	}
	return splitObject(raw), true
}

// splitObject are the fields of a valid document that is an object. Of fields with
// the same name the last one counts.
func splitObject(raw []byte) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	raw = bytes.TrimLeft(raw, " \t\r\n")[1:]
	for {
		raw = bytes.TrimLeft(raw, " \t\r\n,")
		if raw[0] == '}' {
			return fields
		}
		n := valueLen(raw)
		name := string(raw[1 : n-1])
		if strings.IndexByte(name, '\\') >= 0 || !utf8.ValidString(name) {
			_ = json.Unmarshal(raw[:n], &name) // It is valid.
		}
		raw = bytes.TrimLeft(raw[n:], " \t\r\n:")
		n = valueLen(raw)
		fields[name] = raw[:n:n]
		raw = raw[n:]
	}
}

// valueLen is the length of the value that a valid text begins with.
func valueLen(raw []byte) int {
	depth, i := 0, 0
	for {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth == 0 { // A number or a word.
				if n := bytes.IndexAny(raw[i:], ",}] \t\r\n"); n >= 0 {
					return i + n
				}
				return len(raw)
			}
		}
		if i++; depth == 0 {
			return i
		}
	}
}

func isObject(raw []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) }

// postMessage takes in a message. It is judged at once: a sender who waits is told
// what became of it, and one who does not whether it was refused.
func (s *Server) postMessage(w http.ResponseWriter, r *http.Request) error {
	in, err := readSubmission(r)
	if err != nil {
		return err
	}
	verdict, err := s.submit(r.Context(), in.raw)
	if err != nil {
		return err
	}
	status := s.standing(r.Context(), verdict, in.sync)
	o := newObject(nil)
	o.raw("publication_status", published())
	o.text("message_status", string(status))
	return s.answerJSON(w, r, httpStatus(status), o.end())
}

// standing is what a sender is told of a message that was judged. One who waits for
// it is told what became of it.
func (s *Server) standing(ctx context.Context, verdict *ingest.Verdict, sync bool) state.MessageStatus {
	switch {
	case verdict.Status == state.MessageProcessed && !verdict.Known && !sync:
		return state.MessagePending // As the reference says to who does not wait.
	case verdict.Status == state.MessagePending && sync:
		return s.await(ctx, verdict)
	}
	return verdict.Status
}

// submit hands in a message. One that cannot be read is refused with the name of
// the reference's exception.
func (s *Server) submit(ctx context.Context, raw json.RawMessage) (*ingest.Verdict, error) {
	// What is begun is done even if the client goes away.
	verdict, err := s.parts.Intake.Submit(context.WithoutCancel(ctx), ingest.Submission{Raw: raw, At: time.Now(), MustPay: true})
	var rejected *message.RejectError
	if errors.As(err, &rejected) {
		return nil, refuseText(http.StatusUnprocessableEntity, rejected.Code.Class())
	}
	return verdict, err
}

// published is the word that the message is on its way: it is kept here, and nodes
// ask each other for what they missed.
func published() []byte { return []byte(`{"status":"success","failed":[]}`) }

// httpStatus is the status of an answer that says what became of a message.
func httpStatus(status state.MessageStatus) int {
	switch status {
	case state.MessageProcessed, state.MessageRemoving:
		return http.StatusOK
	case state.MessageRejected:
		return http.StatusUnprocessableEntity
	case state.MessageForgotten, state.MessageRemoved:
		return http.StatusGone
	case state.MessagePending:
	}
	return http.StatusAccepted
}

// await waits for what becomes of a message whose bytes are being fetched. One that
// waits for another message is pending at once, as that may never come.
func (s *Server) await(ctx context.Context, v *ingest.Verdict) state.MessageStatus {
	if v.Refusal == nil || v.Refusal.Code != message.CodeFileUnavailable && v.Refusal.Code != message.CodeContentUnavailable {
		return state.MessagePending
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return state.MessagePending
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	for pause := lookMin; ; pause = min(2*pause, lookMax) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return state.MessagePending
		case <-timer.C:
		}
		if status, ended := s.look(ctx, v.ItemHash); ended {
			return status
		}
	}
}

// look reports what became of a message that waited, and whether that is an end:
// an attempt that failed is one too.
func (s *Server) look(ctx context.Context, hash message.ItemHash) (state.MessageStatus, bool) {
	k, err := s.parts.DB.Known(ctx, hash)
	if err != nil {
		return state.MessagePending, !errors.Is(err, errs.NotFound)
	}
	tried := len(k.Pending) > 0 && k.Pending[0].Attempts > 0
	return k.Status, k.Status != state.MessagePending || tried
}

// publish takes in a message the older way, by a topic. Clients send the message as
// a text, or as an object where they fall back to this.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) error {
	raw, err := readBody(r)
	if err != nil {
		return err
	}
	fields, ok := fieldsOf(raw)
	if !ok {
		return refuse(http.StatusUnprocessableEntity)
	}
	var topic string
	if err := json.Unmarshal(fields["topic"], &topic); err != nil || topic != s.self.Topic && topic != clientTopic {
		if topic == "" {
			topic = "None"
		}
		return refuseReason(http.StatusForbidden, "Unauthorized P2P topic: "+topic+". Use "+s.self.Topic+".")
	}
	data, err := dataOf(fields["data"])
	if err != nil {
		return err
	}
	if _, err := s.submit(r.Context(), data); err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, published())
}

// dataOf is the message of a publication.
func dataOf(raw json.RawMessage) (json.RawMessage, error) {
	if isObject(raw) {
		return raw, nil
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return nil, refuseReason(http.StatusUnprocessableEntity, "'data': expected a serialized JSON string.")
	}
	if !json.Valid([]byte(*text)) || tooDeep([]byte(*text)) {
		return nil, refuseReason(http.StatusUnprocessableEntity, "'data': must be deserializable as JSON.")
	}
	return json.RawMessage(*text), nil
}
