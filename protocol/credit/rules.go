package credit

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The types of posts that this package reads.
const (
	TypeBalances     = "balances-update"
	TypeDistribution = "aleph_credit_distribution"
	TypeExpense      = "aleph_credit_expense"
	TypeTransfer     = "aleph_credit_transfer"
)

// Rules are what a network has agreed on about balances and credits.
type Rules struct {
	BalanceOwners []string // Whose posts say what balances are.
	Authority     string   // Who distributes and spends credits; its transfers make new ones.
	Channel       string   // Where credits are moved.
	PreciseFrom   time.Time
	OldUnit       int64 // Credits in one of the unit that contents before PreciseFrom count in.
}

// Network returns the rules of the public network.
func Network() Rules {
	const preciseFrom, oldUnit = 1_769_990_400, 10_000 // 2026-02-02; from then on a dollar is a million credits
	return Rules{
		BalanceOwners: []string{"0xB34f25f2c935bCA437C061547eA12851d719dEFb", "0xa1B3bb7d2332383D96b7796B908fB7f7F3c2Be10"},
		Authority:     "0x2E4454fAD1906c0Ce6e45cBFA05cE898Ac3AC1dC",
		Channel:       "ALEPH_CREDIT",
		PreciseFrom:   time.Unix(preciseFrom, 0).UTC(),
		OldUnit:       oldUnit,
	}
}

// Post is what counts of a POST message.
type Post struct {
	Hash    message.ItemHash
	Channel *string
	Type    string
	Owner   string // content.address
	At      time.Time
	Content json.RawMessage
}

// PostOf returns what counts of a message.
func PostOf(e *message.Envelope, p *message.Post) Post {
	return Post{Hash: e.ItemHash, Channel: e.Channel, Type: p.Type, Owner: p.Address, At: p.Time, Content: p.Content}
}

// place is where the post counts. The reference keeps times to the microsecond.
func (p *Post) place() Place { return Place{At: p.At.Round(time.Microsecond).UTC(), Hash: p.Hash} }

// Balances reads a post that says what balances are; nil if it is another one.
// The error is always a *message.RejectError.
func (r Rules) Balances(p Post) (*Balances, error) {
	if p.Type != TypeBalances || !slices.Contains(r.BalanceOwners, p.Owner) {
		return nil, nil //nolint:nilnil // Nothing to do is no failure.
	}
	root, some, err := read(p.Content)
	if err != nil || !some {
		return nil, err
	}
	b := readBalances(root, p.place())
	if err := root.verdict(); err != nil {
		return nil, err
	}
	return b, nil
}

// Event reads a post that moves credits; nil if it is another one. The error is
// always a *message.RejectError.
func (r Rules) Event(p Post) (*Event, error) {
	reader, ours := map[string]func(field, *Event, int64){
		TypeDistribution: readDistribution, TypeExpense: readExpense, TypeTransfer: readTransfer,
	}[p.Type]
	switch {
	case !ours, p.Channel == nil || *p.Channel != r.Channel:
		return nil, nil //nolint:nilnil // Nothing to do is no failure.
	case p.Type != TypeTransfer && p.Owner != r.Authority:
		return nil, nil //nolint:nilnil // As the reference, which says nothing to who has no say.
	}
	root, some, err := read(p.Content)
	if err != nil || !some {
		return nil, err
	}
	if strings.ContainsRune(p.Owner, 0) {
		return nil, message.Reject(message.CodeInvalidFormat, "address has a zero byte")
	}
	e := &Event{Place: p.place(), Owner: p.Owner}
	unit := int64(1)
	if e.At.Before(r.PreciseFrom) {
		unit = r.OldUnit
	}
	reader(root, e, unit)
	if p.Type == TypeTransfer && p.Owner == r.Authority {
		e.mint()
	}
	if err := root.verdict(); err != nil {
		return nil, err
	}
	return e, nil
}
