package corechannel

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Event is something that happened, with its place in the order of all events.
//
// Heights are of the one chain that confirms messages. What comes from another
// chain has the height of the first block that is not older.
type Event struct {
	Height uint64           // of the first confirmation; 0 = the message is unconfirmed
	At     time.Time        // content.time of a message; zero for what a chain says
	Hash   message.ItemHash // of a message; "" for what a chain says
	Index  uint32           // place in its block of what a chain says
	Body   Body             // what happened
}

// Body is what happened: an [Operation], [Scores], a [Balance] or a
// [Registration].
type Body interface {
	rank() int
	apply(f *Fold, e *Event) error
}

// Compare orders events: by height, then content.time, then item hash. What a
// chain says has neither of the last two and so comes first in its height.
func Compare(a, b Event) int {
	if c := cmp.Or(cmp.Compare(a.Height, b.Height), a.At.Compare(b.At), strings.Compare(string(a.Hash), string(b.Hash))); c != 0 || a.Hash != "" {
		return c
	}
	if c := cmp.Or(cmp.Compare(a.Body.rank(), b.Body.rank()), cmp.Compare(a.Index, b.Index)); c != 0 {
		return c
	}
	return bytes.Compare(spelled(a.Body), spelled(b.Body))
}

// spelled writes a body, so that any two that differ have an order.
func spelled(b Body) []byte {
	raw, err := json.Marshal(b)
	if err != nil {
		return nil // a body holds nothing that JSON cannot say
	}
	return raw
}

// Merge returns the events in the order in which a [Fold] takes them: what is
// unconfirmed counts at the current height, and a message that is there more
// than once counts where it is confirmed first.
func Merge(current uint64, events []Event) []Event {
	all := slices.Clone(events)
	for i := range all {
		if all[i].Hash != "" && all[i].Height == 0 {
			all[i].Height = current
		}
	}
	slices.SortFunc(all, Compare)
	seen := map[message.ItemHash]bool{}
	return slices.DeleteFunc(all, func(e Event) bool {
		again := e.Hash != "" && seen[e.Hash]
		seen[e.Hash] = true
		return again
	})
}
