package credit

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Place is where an event stands among all others, whenever it arrives.
type Place struct {
	At   time.Time        `json:"at"` // content.time, to the microsecond
	Hash message.ItemHash `json:"hash"`
}

// Compare orders places: by time, at one time by hash.
func (p Place) Compare(o Place) int { return cmp.Or(p.At.Compare(o.At), cmp.Compare(p.Hash, o.Hash)) }

// Event is what a post does to credits. One with Moves is a transfer that spends
// what its owner has; what it makes depends on its place. All others do what
// their Entries say, wherever they stand.
type Event struct {
	Place
	Owner   string  `json:"owner"`
	Entries []Entry `json:"entries,omitempty"`
	Moves   []Move  `json:"moves,omitempty"`
	// Need is how much the owner must have for a transfer to count. It is the sum
	// as the content writes it, of old contents in the old unit: so the reference
	// compares it.
	Need int64 `json:"need,omitempty"`
}

// Move is what a transfer gives one address.
type Move struct {
	To        string    `json:"to"`
	Amount    int64     `json:"amount"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // At the latest; zero is that of what is spent.
}

// Entry is a row of an address's history. Texts that are not known are empty.
type Entry struct {
	Place         // Of the event.
	Index     int // Of the row in its event.
	Address   string
	Amount    int64    // In credits; negative if they were spent.
	Price     *Decimal // For one credit, or for one second.
	Bonus     *int64
	TxHash    string // Of an expense, the node.
	Token     string
	Chain     string
	Provider  string
	Origin    string // Of a transfer, the other side; of an expense, the execution.
	OriginRef string
	Method    string
	ExpiresAt time.Time // Zero is never.
	Count     *int64    // Of an expense for several files.
	SizeMiB   *Decimal  // Of an expense for several files.
}

// Methods and the provider of entries that the ledger itself makes.
const (
	MethodExpense  = "credit_expense"
	MethodTransfer = "credit_transfer"
	Provider       = "ALEPH"
)

// Resource is what the entry paid for: the hash of a message, if it paid for
// something.
func (e Entry) Resource() string { return cmp.Or(e.Origin, e.OriginRef) }

// Spends reports whether what the event does depends on what its owner has.
func (e *Event) Spends() bool { return len(e.Moves) > 0 }

// Addresses are those that the event may change, each once, in order.
func (e *Event) Addresses() []string {
	var out []string
	for _, entry := range e.Entries {
		out = append(out, entry.Address)
	}
	for _, m := range e.Moves {
		out = append(out, m.To)
	}
	if e.Spends() {
		out = append(out, e.Owner)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Payers are the addresses whose lots the event drains, each once, in order.
func (e *Event) Payers() []string {
	var out []string
	for _, entry := range e.Entries {
		if entry.Amount < 0 {
			out = append(out, entry.Address)
		}
	}
	if e.Spends() {
		out = append(out, e.Owner)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func readDistribution(root field, e *Event, unit int64) {
	d := root.need("distribution")
	token, chain := d.need("token").text(), d.need("chain").text()
	for i, c := range d.need("credits").list() {
		_, amount := c.need("amount").amount(unit)
		price := c.need("price").decimal()
		e.Entries = append(e.Entries, Entry{
			Place: e.Place, Index: i, Address: c.need("address").address(), Amount: amount, Price: &price, Bonus: c.get("bonus_amount").bonus(),
			TxHash: c.need("tx_hash").text(), Token: token, Chain: chain, Provider: c.need("provider").text(), Origin: c.get("origin").maybeText(),
			OriginRef: c.get("ref").maybeText(), Method: c.get("payment_method").maybeText(), ExpiresAt: c.get("expiration").expiration(),
		})
	}
}

func readExpense(root field, e *Event, unit int64) {
	for i, c := range root.need("expense").need("credits").list() {
		_, amount := c.need("amount").amount(unit)
		c.get("time").seconds()
		size := c.get("size").maybeDecimal()
		if size != nil && size.Sign() < 0 {
			c.get("size").fail("is less than 0")
		}
		e.Entries = append(e.Entries, Entry{
			Place: e.Place, Index: i, Address: c.need("address").address(), Amount: -amount, Price: c.get("price").maybeDecimal(),
			TxHash: c.get("node_id").maybeText(), Provider: Provider, Origin: c.get("execution_id").maybeText(),
			OriginRef: c.get("ref").maybeText(), Method: MethodExpense, Count: c.get("count").maybeWhole(), SizeMiB: size,
		})
	}
}

func readTransfer(root field, e *Event, unit int64) {
	list := root.need("transfer").need("credits")
	seen := map[string]bool{}
	var total int64
	for _, c := range list.list() {
		m := Move{To: c.need("address").address(), ExpiresAt: c.get("expiration").expiration()}
		var raw int64
		raw, m.Amount = c.need("amount").amount(unit)
		switch {
		case m.To == e.Owner:
			c.get("address").fail("is that of the sender")
		case seen[m.To]:
			c.get("address").fail("is %.80q, which is there twice", m.To)
		case m.Amount > math.MaxInt64-total:
			list.fail("has a sum that is out of range")
			return
		}
		seen[m.To] = true
		total += m.Amount
		e.Need += raw
		e.Moves = append(e.Moves, m)
	}
}

// mint makes of a transfer one that spends nothing.
func (e *Event) mint() {
	for i, m := range e.Moves {
		entry := e.entry(i, m.To, m.Amount, e.Owner)
		entry.ExpiresAt = m.ExpiresAt
		e.Entries = append(e.Entries, entry)
	}
	e.Moves, e.Need = nil, 0
}

// entry is a row of a transfer.
func (e *Event) entry(index int, address string, amount int64, other string) Entry {
	return Entry{Place: e.Place, Index: index, Address: address, Amount: amount, Provider: Provider, Origin: other, Method: MethodTransfer}
}
