package archive

import (
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Event is a MessageEvent of a contract.
type Event struct {
	Chain   message.Chain
	Sender  string    // Who called the contract, in the text form of the chain.
	At      time.Time // When the event says that it happened.
	Type    string    // A type of messages, or storeIPFS.
	Content string    // That of the message; of storeIPFS, a CID.
}

// storeIPFS is the type of events that ask to keep a file of IPFS.
const storeIPFS = "STORE_IPFS"

// eventTimeMax is the greatest time of an event, in Unix seconds, as of messages.
const eventTimeMax = 9_223_372_036

// Message is the message that the event is, which was in a block at a time. Nobody
// signed it: the transaction is its proof.
func (e Event) Message(block time.Time) (*message.Envelope, error) {
	if at := e.At.Unix(); at < 0 || at > eventTimeMax {
		return nil, fmt.Errorf("the time of an event, %d, is no time of a message", at)
	}
	m := &message.Envelope{
		Chain: e.Chain, Sender: e.Sender, Type: message.Type(e.Type), Time: block.UTC(), ItemType: message.Inline, ItemContent: e.Content,
	}
	if e.Type == storeIPFS {
		file, err := message.ParseItemHash(e.Content)
		if err != nil || file.Type() != message.IPFS {
			return nil, fmt.Errorf("content of a %s event is %.*q, want a CID", storeIPFS, textShown, e.Content)
		}
		m.Type, m.ItemContent = message.TypeStore, string(e.store(file))
	}
	m.ItemHash = message.HashOf([]byte(m.ItemContent))
	return m, nil
}

// store is the content of the STORE message, exactly as the reference writes it: the
// hash of the message depends on each space.
func (e Event) store(file message.ItemHash) []byte {
	out := appendText([]byte(`{"address": `), e.Sender)
	out = append(append(out, `, "time": `...), seconds(e.At)...)
	out = appendText(append(out, `, "item_type": "ipfs", "item_hash": `...), string(file))
	return append(out, '}')
}
