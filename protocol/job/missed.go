package job

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of questions for what a node missed, and of their answers.
const (
	// RangesMax bounds what is said of ranges, in bytes; protocol/reconcile says what it means. It
	// fits into a frame as base64.
	RangesMax = 1 << 19
	// MessagesMax bounds the messages of one question.
	MessagesMax = 256
	// ForgottenMax bounds the targets of FORGETs that are told of with messages.
	ForgottenMax = 2 * message.MaxForgetTargets
)

// Messages is the answer to AskMessages.
type Messages struct {
	// Done counts the hashes, from the first one on, that this answers for; the rest
	// did not fit and is to be asked for again.
	Done int `json:"done"`
	// Messages are those that the node has, in the order of the question, each as an
	// envelope of which nothing is known yet.
	Messages []json.RawMessage `json:"messages,omitempty"`
	// Forgotten are targets of the FORGETs among them that the node has forgotten.
	Forgotten []Forgotten `json:"forgotten,omitempty"`
}

// Check wants the answer to be one to a question for so many messages.
func (m *Messages) Check(asked int) error {
	switch {
	case m.Done < 1 || m.Done > asked:
		return fmt.Errorf("messages: %d of %d are done, want at least one", m.Done, asked)
	case len(m.Messages) > m.Done:
		return fmt.Errorf("messages: %d of %d", len(m.Messages), m.Done)
	case len(m.Forgotten) > ForgottenMax:
		return fmt.Errorf("messages: %d were forgotten, at most %d are allowed", len(m.Forgotten), ForgottenMax)
	}
	return nil
}

// Forgotten is what is left of a message that was forgotten. Its content is not: the
// signature holds without it.
type Forgotten struct {
	Message json.RawMessage `json:"message"`          // The envelope, as if its content were in a file.
	Inline  bool            `json:"inline,omitempty"` // The content was in the message.
	Kind    string          `json:"kind,omitempty"`   // What its type was (content.type), which nobody can check.
}

// kindMax bounds the kind of a message that was forgotten, in characters. Only one is
// of importance: an amend cannot be amended.
const kindMax = 256

// NewForgotten is what is told of a message that was forgotten.
func NewForgotten(e message.Envelope, kind *string) (Forgotten, error) {
	f := Forgotten{Inline: e.ItemType == message.Inline}
	if kind != nil && len(*kind) <= kindMax {
		f.Kind = *kind
	}
	e.ItemType, e.ItemContent = e.ItemHash.Type(), ""
	var err error
	f.Message, err = json.Marshal(e)
	return f, err
}

// Envelope is the envelope of the message, without its content.
func (f *Forgotten) Envelope() (*message.Envelope, error) {
	e, err := message.Parse(f.Message)
	if err != nil {
		return nil, err
	}
	if e.ItemType == message.Inline || f.Inline && e.ItemType != message.Storage {
		return nil, fmt.Errorf("forgotten message %s has a content", e.ItemHash)
	}
	if len(f.Kind) > kindMax || strings.ContainsRune(f.Kind, 0) {
		return nil, fmt.Errorf("forgotten message %s has the kind %.80q", e.ItemHash, f.Kind)
	}
	if f.Inline {
		e.ItemType = message.Inline
	}
	return e, nil
}

// checkRanges checks a question about ranges.
func (a *Ask) checkRanges() error {
	if len(a.Ranges) < 1 || len(a.Ranges) > RangesMax {
		return fmt.Errorf("ranges have %d bytes, want 1 to %d", len(a.Ranges), RangesMax)
	}
	return nil
}

// checkMessages checks a question for messages.
func (a *Ask) checkMessages() error {
	if len(a.ItemHashes) < 1 || len(a.ItemHashes) > MessagesMax {
		return fmt.Errorf("%d item_hashes, want 1 to %d", len(a.ItemHashes), MessagesMax)
	}
	return nil
}
