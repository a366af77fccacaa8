package job

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of questions about a node's history and of their answers.
const (
	// HistoryMax bounds the entries of one answer, which fit into a frame.
	HistoryMax = 1000
	// MessagesMax bounds the messages of one question.
	MessagesMax = 256
	// ForgottenMax bounds the targets of FORGETs that are told of with messages.
	ForgottenMax = 2 * message.MaxForgetTargets
	// PlaceMax bounds the places of a history: what every JSON number holds exactly.
	PlaceMax = 1 << 53
	// databaseMax bounds the name of a database, in characters.
	databaseMax = 64
)

// History is a part of what a node has processed, in the order in which it did.
type History struct {
	// Database names the rows that the places are of: a node that lost them, and counts
	// anew, has another one.
	Database string `json:"database"`
	// Restart says that what was read before is not of these rows: whoever asks begins
	// anew. There are no entries then.
	Restart bool    `json:"restart,omitempty"`
	Entries []Entry `json:"entries,omitempty"`
}

// Entry is a message and its place in the order of processing.
type Entry struct {
	Place    int64            `json:"place"`
	ItemHash message.ItemHash `json:"item_hash"`
}

// Check wants the answer to be one to an AskHistory with this first place and limit:
// places only grow.
func (h *History) Check(from int64, limit int) error {
	if h.Database == "" || len(h.Database) > databaseMax {
		return fmt.Errorf("history: database has %d characters, want 1 to %d", len(h.Database), databaseMax)
	}
	if h.Restart {
		if len(h.Entries) > 0 || from == 0 {
			return fmt.Errorf("history: it is to be read anew from %d on, with %d entries", from, len(h.Entries))
		}
		return nil
	}
	if len(h.Entries) > limit {
		return fmt.Errorf("history: %d entries, at most %d were asked for", len(h.Entries), limit)
	}
	for _, e := range h.Entries {
		if e.Place < from || e.Place >= PlaceMax {
			return fmt.Errorf("history: place %d, want %d to %d and in order", e.Place, from, int64(PlaceMax)-1)
		}
		if e.ItemHash == "" {
			return fmt.Errorf("history: place %d has no item_hash", e.Place)
		}
		from = e.Place + 1
	}
	return nil
}

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

// checkHistory checks a question about a history.
func (a *Ask) checkHistory() error {
	switch {
	case a.From < 0 || a.From > PlaceMax:
		return fmt.Errorf("from is %d, want 0 to %d", a.From, int64(PlaceMax))
	case a.Limit < 1 || a.Limit > HistoryMax:
		return fmt.Errorf("limit is %d, want 1 to %d", a.Limit, HistoryMax)
	case len(a.Database) > databaseMax:
		return fmt.Errorf("database has %d characters, at most %d are allowed", len(a.Database), databaseMax)
	case a.From > 0 && (a.Database == "" || a.ItemHash == ""):
		return fmt.Errorf("from is %d, but database or item_hash is missing", a.From)
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
