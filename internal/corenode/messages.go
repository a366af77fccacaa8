package corenode

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// What becomes of messages.
const (
	processed = "processed"
	removing  = "removing"
	pending   = "pending"
	rejected  = "rejected"
	forgotten = "forgotten"
	removed   = "removed"
)

// counts reports whether a message of the status is there, which is what ends the search:
// any other is one server's view, and another may be ahead.
func counts(status string) bool { return status == processed || status == removing }

// Standing returns the status of a message: processed, removing, pending, rejected,
// forgotten or removed. One that says that the message is gone is returned only if no
// other server says that it is there, and is asked for anew each time, as callers count
// how often they hear it. errs.NotFound means that no server that could be reached knows
// the message.
func (c *Client) Standing(ctx context.Context, hash message.ItemHash) (string, error) {
	if err := checkName("item hash", string(hash)); err != nil {
		return "", err
	}
	return c.standings.get(ctx, string(hash), func(ctx context.Context) (string, bool, error) {
		var found string
		err := c.ask(ctx, question{
			what: "the status of message " + string(hash), path: []string{"api/v0/messages", string(hash), "status"},
			read: func(raw []byte) error {
				var a told
				if err := a.read(raw, hash); err != nil {
					return err
				}
				if counts(a.Status) {
					found = a.Status
					return nil
				}
				if found == "" || found == pending {
					found = a.Status
				}
				return errWeak
			},
		})
		return found, counts(found), err
	})
}

// told is what a server says of a message.
type told struct {
	Status   string           `json:"status"`
	ItemHash message.ItemHash `json:"item_hash"`
	Message  json.RawMessage  `json:"message"`
}

func (t *told) read(raw []byte, want message.ItemHash) error {
	if err := decode(raw, t); err != nil {
		return err
	}
	if t.ItemHash != want {
		return fmt.Errorf("it is about message %.*q, not %s", nameMax, t.ItemHash, want)
	}
	switch t.Status {
	case processed, removing, pending, rejected, forgotten, removed:
		return nil
	default:
		return fmt.Errorf("a message cannot be %.40q", t.Status)
	}
}

// Message returns a message that counts. Its hash and signature have been checked, so
// whoever sent it was not believed; that the sender may write for the owner is the word of
// the server. See Content for what is not in the message itself.
// errs.NotFound means that no server that could be reached has it, or that it is gone, and
// errs.Unavailable that it may be had later.
func (c *Client) Message(ctx context.Context, hash message.ItemHash) (*message.Envelope, error) {
	if err := checkName("item hash", string(hash)); err != nil {
		return nil, err
	}
	var found *message.Envelope
	var status string
	err := c.ask(ctx, question{
		what: "message " + string(hash), path: []string{"api/v0/messages", string(hash)},
		read: func(raw []byte) error {
			var a told
			if err := a.read(raw, hash); err != nil {
				return err
			}
			if !counts(a.Status) {
				if status == "" || status == pending {
					status = a.Status
				}
				return errWeak
			}
			e, err := readEnvelope(a.Message, hash)
			if err != nil {
				return err
			}
			found = e
			return nil
		},
	})
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		return found, nil
	case status == pending:
		return nil, errs.New(errs.Unavailable, "message %s is still pending", hash)
	default:
		return nil, errs.New(errs.NotFound, "message %s is %s", hash, status)
	}
}

// readEnvelope reads and checks a message as servers show it: with more than is in its
// envelope.
func readEnvelope(shown []byte, want message.ItemHash) (*message.Envelope, error) {
	var all map[string]json.RawMessage
	if err := decode(shown, &all); err != nil {
		return nil, err
	}
	envelope := map[string]json.RawMessage{}
	for _, key := range []string{"chain", "sender", "type", "channel", "time", "item_type", "item_content", "item_hash", "signature"} {
		if v, ok := all[key]; ok {
			envelope[key] = v
		}
	}
	raw, err := json.Marshal(envelope)
	if err != nil {
		return nil, fmt.Errorf("its message is not one: %w", err)
	}
	e, err := message.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("its message is not one: %w", err)
	}
	if e.ItemHash != want {
		return nil, fmt.Errorf("its message is %s, not %s", e.ItemHash, want)
	}
	if err := signature.Verify(e); err != nil {
		return nil, fmt.Errorf("its message is not its sender's: %w", err)
	}
	return e, nil
}

// Content returns the content of a message: that in it, or, checked by its hash, that
// which the network stores. What is in IPFS gives errs.Unavailable: it is not checked by
// a hash of its bytes, and who can read IPFS gets it there.
func (c *Client) Content(ctx context.Context, e *message.Envelope) (message.Content, error) {
	switch e.ItemType {
	case message.Inline:
		return e.Content()
	case message.Storage:
	default:
		return nil, errs.New(errs.Unavailable, "the content of message %s is in IPFS, which is not read over this interface", e.ItemHash)
	}
	var content message.Content
	err := c.ask(ctx, question{
		what: "the content of message " + string(e.ItemHash), path: []string{"api/v0/storage/raw", string(e.ItemHash)}, plain: true,
		read: func(raw []byte) (err error) {
			if got := message.HashOf(raw); got != e.ItemHash {
				return fmt.Errorf("its bytes hash to %s, not %s", got, e.ItemHash)
			}
			content, err = message.ParseContent(e, raw)
			return err
		},
	})
	return content, err
}
