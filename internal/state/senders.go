package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Sender is how many messages an address has sent, by their types.
type Sender struct {
	Address string
	Total   int64
	ByType  map[message.Type]int64
}

// senderTypes are the types in the order of their columns.
func senderTypes() []message.Type {
	return []message.Type{
		message.TypePost, message.TypeAggregate, message.TypeStore, message.TypeProgram, message.TypeInstance, message.TypeForget, message.TypeVProgram,
	}
}

const senderColumns = "pk, total, post, aggregate, store, program, instance, forget, vprogram"

// countSenders adds by to the counts of the senders of messages.
func (tx *Tx) countSenders(ctx context.Context, all []*Message, by int64) error {
	types := senderTypes()
	counts := map[string][]any{}
	var rows [][]any
	for _, m := range all {
		row := counts[m.Envelope.Sender]
		if row == nil {
			row = make([]any, 2+len(types))
			row[0] = m.Envelope.Sender
			for i := range types {
				row[2+i] = int64(0)
			}
			row[1] = int64(0)
			counts[m.Envelope.Sender], rows = row, append(rows, row)
		}
		at := 2 + slices.Index(types, m.Envelope.Type)
		counts[m.Envelope.Sender][1] = plus(row[1], by)
		counts[m.Envelope.Sender][at] = plus(row[at], by)
	}
	sets := make([]string, 0, 1+len(types))
	for _, column := range strings.Split(senderColumns, ", ")[1:] {
		sets = append(sets, column+" = senders."+column+" + excluded."+column)
	}
	return tx.insert(ctx, "senders ("+senderColumns+")", rows, " ON CONFLICT (pk) DO UPDATE SET "+strings.Join(sets, ", "))
}

// plus adds to a count as a row has it.
func plus(count any, by int64) int64 {
	n, _ := count.(int64) // Made so by the caller.
	return n + by
}

// SenderQuery says which senders, in the order of a count and then of their
// addresses.
type SenderQuery struct {
	Contains string       // A part of the address, whatever its case.
	By       message.Type // The count that orders; "" is the total.
	Least    bool         // Least first.
	After    *SenderPlace
}

// SenderPlace is a sender's place in the order of a query.
type SenderPlace struct {
	Count   int64
	Address string
}

// Senders returns up to limit of what a query finds after leaving out the first,
// offset of them, and how many there are in all. A limit of 0 is none.
func (r reader) Senders(ctx context.Context, q SenderQuery, offset, limit int64) (out []Sender, total int64, err error) {
	column := "total"
	if i := slices.Index(senderTypes(), q.By); i >= 0 {
		column = strings.Split(senderColumns, ", ")[2+i]
	}
	where, args := "total > 0", []any{}
	if q.Contains != "" {
		pattern := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(q.Contains))
		where, args = where+` AND lower(pk) LIKE ? ESCAPE '\'`, append(args, "%"+pattern+"%")
	}
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM senders WHERE "+where, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count senders: %w", err)
	}
	sign, order := "<", " DESC"
	if q.Least {
		sign, order = ">", " ASC"
	}
	if q.After != nil {
		where += " AND (" + column + " " + sign + " ? OR " + column + " = ? AND pk > ?)"
		args = append(args, q.After.Count, q.After.Count, q.After.Address)
	}
	if limit == 0 {
		limit = total
	}
	out, err = r.senders(ctx, where+" ORDER BY "+column+order+", pk LIMIT ? OFFSET ?", append(args, limit, offset)...)
	return out, total, err
}

// SendersNamed returns the counts of addresses that have sent something.
func (r reader) SendersNamed(ctx context.Context, addresses []string) (out []Sender, err error) {
	for chunk := range chunks(addresses) {
		marks, args := in(chunk)
		found, err := r.senders(ctx, "pk IN "+marks, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (r reader) senders(ctx context.Context, where string, args ...any) (out []Sender, err error) {
	types := senderTypes()
	err = r.each(ctx, "SELECT "+senderColumns+" FROM senders WHERE "+where, args, func(scan func(...any) error) error {
		s := Sender{ByType: map[message.Type]int64{}}
		counts := make([]int64, len(types))
		into := []any{&s.Address, &s.Total}
		for i := range counts {
			into = append(into, &counts[i])
		}
		err := scan(into...)
		for i, t := range types {
			s.ByType[t] = counts[i]
		}
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read senders: %w", err)
	}
	return out, nil
}

// Kinds of words that were used: types of posts by their owners, channels by
// their senders, and all channels.
const (
	wordPostType = "post_type"
	wordChannel  = "channel"
)

// wordsMax bounds what a process remembers of the words that are there already.
const wordsMax = 50_000

type word struct{ kind, owner, text string }

// wordSet are words that are in the database for sure.
type wordSet struct {
	mu  sync.Mutex
	has map[word]bool // guarded by mu
}

func (s *wordSet) holds(w word) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[w]
}

// add remembers words. What is forgotten is written once more, which changes
// nothing.
func (s *wordSet) add(all []word) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has == nil || len(s.has)+len(all) > wordsMax {
		s.has = map[word]bool{}
	}
	for _, w := range all {
		s.has[w] = true
	}
}

// addWords notes the words of messages that were not used before.
func (tx *Tx) addWords(ctx context.Context, all []*Message) error {
	var rows [][]any
	fresh := map[word]bool{}
	add := func(w word) {
		if fresh[w] || tx.known.holds(w) {
			return
		}
		fresh[w] = true
		rows = append(rows, []any{w.kind, w.owner, digest(w.text), w.text})
	}
	for _, m := range all {
		if c := m.Envelope.Channel; c != nil {
			add(word{wordChannel, "", *c})
			add(word{wordChannel, m.Envelope.Sender, *c})
		}
		if p, ok := m.Parsed.(*message.Post); ok {
			add(word{wordPostType, m.Owner, p.Type})
		}
	}
	for w := range fresh {
		tx.learned = append(tx.learned, w)
	}
	return tx.insert(ctx, "words (kind, owner, pk, word)", rows, " ON CONFLICT DO NOTHING")
}

// Channels returns the channels that messages were sent on, in order.
func (r reader) Channels(ctx context.Context) ([]string, error) {
	return r.wordsOf(ctx, wordChannel, "")
}

// ChannelsOf returns the channels that an address has sent messages on that are
// still here, in order.
func (v *View) ChannelsOf(ctx context.Context, sender string) ([]string, error) {
	all, err := v.wordsOf(ctx, wordChannel, sender)
	if err != nil {
		return nil, err
	}
	return v.used(ctx, all, func(w string) MessageQuery { return MessageQuery{Senders: []string{sender}, Channels: []string{w}} })
}

// PostTypesOf returns the types of an owner's posts that are still here, in order.
func (v *View) PostTypesOf(ctx context.Context, owner string) ([]string, error) {
	all, err := v.wordsOf(ctx, wordPostType, owner)
	if err != nil {
		return nil, err
	}
	return v.used(ctx, all, func(w string) MessageQuery {
		return MessageQuery{Owners: []string{owner}, Types: []string{string(message.TypePost)}, Kinds: []string{w}}
	})
}

// used leaves the words that a message has.
func (v *View) used(ctx context.Context, all []string, query func(string) MessageQuery) (out []string, err error) {
	for _, w := range all {
		n, err := v.CountMessages(ctx, query(w))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			out = append(out, w)
		}
	}
	return out, nil
}

func (r reader) wordsOf(ctx context.Context, kind, owner string) (out []string, err error) {
	err = r.each(ctx, "SELECT word FROM words WHERE kind = ? AND owner = ? ORDER BY word", []any{kind, owner}, func(scan func(...any) error) error {
		var w string
		err := scan(&w)
		out = append(out, w)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read words: %w", err)
	}
	return out, nil
}
