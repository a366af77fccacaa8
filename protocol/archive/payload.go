package archive

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The protocols of payloads. Each has one version.
const (
	OnChain  = "aleph"          // The messages themselves; today found in archives only.
	OffChain = "aleph-offchain" // The CID of an archive.
	version  = "1"
)

const (
	// MaxPayloadBytes bounds the text of an event. A transaction may have 128 KiB at
	// most on the networks that are known; this leaves room for others.
	MaxPayloadBytes = 1 << 20
	// MaxTypeBytes bounds the type of an event that is a message. The longest that means
	// anything, STORE_IPFS, has 10.
	MaxTypeBytes = 64
	// MaxBytes bounds an archive: 10,000 messages of 200,000 characters would have
	// more, but what was ever published has a few megabytes.
	MaxBytes = 256 << 20
	// MaxMessages bounds the messages of a payload: those that one publisher puts into
	// an archive, with room for others who do it differently.
	MaxMessages = 100_000
	// PublishMessages is how many messages an archive gets at most.
	PublishMessages = 10_000
	// PublishBytes is where an archive ends that is written here.
	PublishBytes = 64 << 20
	// depthMax bounds how deep a payload nests. Contents are texts in it, so a message
	// nests by its signature alone, which is an object of a few fields at most.
	depthMax = 32
	// textShown cuts outside texts in errors.
	textShown = 80
)

// Payload is what a SyncEvent says: messages, or where they are.
type Payload struct {
	Messages []json.RawMessage // Of the protocol OnChain: envelopes, not judged yet.
	File     message.ItemHash  // Of the protocol OffChain: the CID of an archive; else "".
}

// ParsePayload reads the text of a SyncEvent.
func ParsePayload(raw []byte) (Payload, error) {
	if len(raw) > MaxPayloadBytes {
		return Payload{}, fmt.Errorf("payload has %d bytes, at most %d are read", len(raw), MaxPayloadBytes)
	}
	fields, err := object(raw)
	if err != nil {
		return Payload{}, fmt.Errorf("payload: %w", err)
	}
	var protocol string
	if err := json.Unmarshal(fields["protocol"], &protocol); err != nil {
		return Payload{}, fmt.Errorf("payload has no protocol")
	}
	if got := string(fields["version"]); got != version {
		return Payload{}, fmt.Errorf("payload of protocol %.*q has version %.*q, only 1 is known", textShown, protocol, textShown, got)
	}
	switch protocol {
	case OnChain:
		messages, err := messagesOf(fields["content"])
		return Payload{Messages: messages}, err
	case OffChain:
		var text string
		if err := json.Unmarshal(fields["content"], &text); err != nil {
			return Payload{}, fmt.Errorf("content of an off-chain payload is no text")
		}
		file, err := cid(text)
		return Payload{File: file}, err
	}
	return Payload{}, fmt.Errorf("payload is of protocol %.*q, which is not known", textShown, protocol)
}

// Parse reads an archive. As in the reference only its content counts.
func Parse(raw []byte) ([]json.RawMessage, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("archive has %d bytes, at most %d are read", len(raw), MaxBytes)
	}
	fields, err := object(raw)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return messagesOf(fields["content"])
}

// Reference is the payload that names an archive.
func Reference(file message.ItemHash) string {
	out := appendText([]byte(`{"protocol": "`+OffChain+`", "version": 1, "content": `), string(file))
	return string(append(out, '}'))
}

// object reads the fields of a JSON object by their exact names, the last of equal
// ones.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if err := CheckDepth(raw); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return nil, fmt.Errorf("it is no JSON object")
	}
	return fields, nil
}

// messagesOf reads the content of an on-chain payload.
func messagesOf(raw json.RawMessage) ([]json.RawMessage, error) {
	var content map[string]json.RawMessage
	if err := json.Unmarshal(raw, &content); err != nil || content == nil {
		return nil, fmt.Errorf("content is no JSON object")
	}
	var messages []json.RawMessage
	if err := json.Unmarshal(content["messages"], &messages); err != nil || messages == nil {
		return nil, fmt.Errorf("content has no list of messages")
	}
	if len(messages) > MaxMessages {
		return nil, fmt.Errorf("there are %d messages, at most %d are read", len(messages), MaxMessages)
	}
	return messages, nil
}

// CheckDepth refuses JSON that nests so deep that no message could. It need not know
// whether the text is JSON.
func CheckDepth(raw []byte) error {
	depth, inText, escaped := 0, false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = c == '\\', c != '"'
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			if depth++; depth > depthMax {
				return fmt.Errorf("it nests deeper than %d", depthMax)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// cid wants a name of IPFS content.
func cid(text string) (message.ItemHash, error) {
	hash, err := message.ParseItemHash(strings.TrimSpace(text))
	if err != nil {
		return "", err
	}
	if hash.Type() != message.IPFS {
		return "", fmt.Errorf("%.*q is no CID", textShown, text)
	}
	return hash, nil
}
