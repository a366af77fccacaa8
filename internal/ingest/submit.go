package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// Verdict is what became of a message that could be read.
type Verdict struct {
	ItemHash message.ItemHash
	Status   state.MessageStatus
	// Refusal says why the message is rejected, or for what it waits; nil if
	// neither.
	Refusal *message.RejectError
	Known   bool // The message was here before and had this status.
}

// Submission is a message that somebody hands in.
type Submission struct {
	Raw json.RawMessage // The envelope.
	At  time.Time       // Now.
	// MustPay: what is paid by credit needs the credits now. Not so where an offer
	// pays for it, nor where another node has asked already.
	MustPay bool
}

// Submit takes in a message that arrived now, judges it and tells other nodes. A
// message that cannot be read is a *message.RejectError; of any other the verdict
// says what became of it, which is durable.
func (p *Pipeline) Submit(ctx context.Context, s Submission) (*Verdict, error) {
	it, err := p.read(ctx, s.Raw, s.At)
	if err != nil {
		return nil, err
	}
	it.origin.MustPay = s.MustPay
	p.findRunway(ctx, it)
	v, err := p.write(ctx, it)
	if err != nil {
		return nil, err
	}
	if p.onNetwork && isNews(v) {
		p.tell(ctx, it.env)
	}
	return v, nil
}

// item is a message on its way to a verdict.
type item struct {
	env        *message.Envelope
	raw        json.RawMessage // As it was received.
	content    []byte          // Exact bytes; nil if they are not here.
	sigErr     error           // *message.RejectError
	contentErr error           // *message.RejectError: there can be no such content.
	origin     state.Origin
	receivedAt time.Time
	runway     *big.Rat       // Credits of the owner's wallet; nil if they are not known.
	waiting    *state.Pending // The row of one that waits; nil if it is new.
	again      *state.Pending // The row of one that waits and comes again.
	known      bool           // It was here before: it waited, was refused, or ended.
	processed  bool           // Another node says that it has processed it; see catchup.go. Then,
	// of a FORGET, what it says is left of targets, each signed by its sender.
	ended map[message.ItemHash]state.Skeleton
}

// read runs the stages that need nothing but the bytes.
func (p *Pipeline) read(ctx context.Context, raw json.RawMessage, now time.Time) (*item, error) {
	env, err := message.Parse(raw)
	if err != nil {
		p.count(state.MessageRejected, err)
		return nil, err
	}
	return p.itemOf(ctx, env, raw, signature.Verify(env), now)
}

// itemOf is read of a message that is parsed, and whose signature was checked.
func (p *Pipeline) itemOf(ctx context.Context, env *message.Envelope, raw json.RawMessage, sigErr error, now time.Time) (*item, error) {
	if err := checkTexts(env); err != nil {
		p.count(state.MessageRejected, err)
		return nil, err
	}
	it := &item{env: env, raw: raw, receivedAt: now, sigErr: sigErr}
	if env.ItemType == message.Inline {
		it.content = []byte(env.ItemContent)
		return it, nil
	}
	return it, p.readContent(ctx, it)
}

// contentBytesMax bounds a content that is not in its message. It has 16 times as
// many bytes as one that is may have characters.
const contentBytesMax = 16 * message.MaxInlineChars

// readContent reads the content of a message from the files that are here; nil if
// it is not among them.
func (p *Pipeline) readContent(ctx context.Context, it *item) (err error) {
	it.content, err = p.files.Read(ctx, it.env.ItemHash, contentBytesMax)
	switch {
	case errors.Is(err, errs.NotFound):
		return nil
	case errors.Is(err, errs.Invalid):
		it.contentErr = message.Reject(message.CodeInvalidFormat, "%v", err)
		return nil
	}
	return err
}

// checkTexts refuses texts that no database can hold.
func checkTexts(env *message.Envelope) error {
	texts := []string{env.Sender, env.Signature}
	if env.Channel != nil {
		texts = append(texts, *env.Channel)
	}
	for _, text := range texts {
		if strings.ContainsRune(text, 0) {
			return message.Reject(message.CodeInvalidFormat, "a text of the message has a character that is zero")
		}
	}
	return nil
}

func (p *Pipeline) count(status state.MessageStatus, err error) {
	code := 0
	var rejected *message.RejectError
	if errors.As(err, &rejected) {
		code = int(rejected.Code)
	}
	p.messages.WithLabelValues(string(status), strconv.Itoa(code)).Inc()
}

// tell publishes a message. A peer that misses it finds it when it compares what it
// has; see catchup.go.
func (p *Pipeline) tell(ctx context.Context, env *message.Envelope) {
	raw, err := env.MarshalJSON() // Not by json.Marshal, which would look through the result.
	if err != nil {
		p.log.Error("message not published", "item_hash", env.ItemHash, "err", err)
		return
	}
	if len(raw) > wire.MaxGossip {
		p.log.Debug("message too big for gossip", "item_hash", env.ItemHash, "bytes", len(raw))
		return
	}
	if err := p.net.Publish(ctx, wire.TopicMessages, raw); err != nil {
		p.log.Warn("publish failed", "item_hash", env.ItemHash, "err", err)
	}
}

// Things that messages wait for.
func thingMessage(hash message.ItemHash) string { return "message:" + string(hash) }
func thingFile(hash message.ItemHash) string    { return "file:" + string(hash) }
func thingAggregate(owner, key string) string   { return "aggregate:" + owner + ":" + key }
func thingGrants(owner string) string           { return "grants:" + owner }
func thingCredits(address string) string        { return "credits:" + address }

// Preset takes in a message that nobody signed, as if a contract had emitted it. It
// is for networks of developers, which lack those who could sign.
func (p *Pipeline) Preset(ctx context.Context, env *message.Envelope, now time.Time) (*Verdict, error) {
	raw, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", env.ItemHash, err)
	}
	return p.write(ctx, &item{env: env, raw: raw, content: []byte(env.ItemContent), origin: state.Origin{Contract: true}, receivedAt: now})
}
