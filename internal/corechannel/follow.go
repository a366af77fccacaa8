package corechannel

import (
	"context"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// followBatch bounds the messages that are read at once; some have megabytes.
	followBatch = 100
	// balancesType is the type of posts that tell balances.
	balancesType = "balances-update"
)

// kinds are the types of posts that tell events.
func kinds() []string {
	return []string{core.OperationType, message.PostAmend, core.ScoresType, balancesType}
}

// follow brings the places of events up to date.
func (k *Keeper) follow(ctx context.Context) error {
	if !k.started {
		if err := k.readAll(ctx); err != nil {
			return err
		}
		k.started = true
	}
	if err := k.readNew(ctx); err != nil {
		return err
	}
	if err := k.dropGone(ctx); err != nil {
		return err
	}
	if err := k.readRegistry(ctx); err != nil {
		return err
	}
	if err := k.confirm(ctx); err != nil {
		return err
	}
	k.events.WithLabelValues("posts").Set(float64(len(k.posts)))
	k.events.WithLabelValues("chain").Set(float64(len(k.changes)))
	return nil
}

// readAll reads the posts that are here already.
func (k *Keeper) readAll(ctx context.Context) error {
	clear(k.posts)
	return k.db.View(ctx, func(v *state.View) (err error) {
		if k.last, err = v.LastMessage(ctx); err != nil {
			return err
		}
		q := state.MessageQuery{Types: []string{string(message.TypePost)}, Kinds: kinds(), Oldest: true}
		return v.EachMessage(ctx, q, 0, 0, func(m *state.Message) error { return k.note(m) })
	})
}

// readNew reads what was processed since the last look.
func (k *Keeper) readNew(ctx context.Context) error {
	for {
		fresh, err := k.db.MessagesAfter(ctx, k.last, followBatch)
		if err != nil {
			return err
		}
		for _, m := range fresh {
			if err := k.look(m); err != nil {
				return err
			}
			k.last = m.ID
		}
		if len(fresh) < followBatch {
			return nil
		}
	}
}

// look notes what a message means for the list.
func (k *Keeper) look(m *state.Message) error {
	switch {
	case m.Envelope.Type == message.TypePost && mentions(m.Content, kinds()):
		return k.note(m)
	case m.Envelope.Type == message.TypeForget, m.Envelope.Type == message.TypeAggregate && mentions(m.Content, []string{"authorizations"}):
		k.check = true // What an owner allows no more may have ended what others wrote.
	}
	return nil
}

// note keeps the place of an event, if a post is one. What a post says does not
// change, so what is ignored now always is.
func (k *Keeper) note(m *state.Message) error {
	body, err := m.Body()
	if err != nil {
		return err
	}
	post, ok := body.(*message.Post)
	if !ok || !slices.Contains(kinds(), post.Type) {
		return nil
	}
	e := &entry{id: m.ID, key: key{hash: m.Envelope.ItemHash, at: m.MadeAt.UnixMicro()}}
	if post.Type == balancesType {
		told, err := k.rules.Balances(credit.PostOf(&m.Envelope, post))
		if err != nil || told == nil || told.Height <= 0 {
			return nil //nolint:nilerr // It is of no use to anybody.
		}
		e.balances, e.height, e.fixed = true, uint64(told.Height), true
	} else if _, err := core.Read(k.messageOf(m, post, 0), k.settings); err != nil {
		return nil //nolint:nilerr // See above: nobody counts it.
	}
	k.posts[e.hash], k.place = e, true
	return nil
}

// messageOf is a post as the fold reads it.
func (k *Keeper) messageOf(m *state.Message, post *message.Post, height uint64) core.Message {
	out := core.Message{Hash: m.Envelope.ItemHash, Sender: m.Envelope.Sender, Height: height, Post: post}
	if m.Envelope.Channel != nil {
		out.Channel = *m.Envelope.Channel
	}
	return out
}

// dropGone forgets the posts that are not here any more, when there is reason to
// look.
func (k *Keeper) dropGone(ctx context.Context) error {
	if !k.check {
		return nil
	}
	standings, err := k.db.Standings(ctx, k.hashes(func(*entry) bool { return true }))
	if err != nil {
		return err
	}
	for hash, e := range k.posts {
		if s := standings[hash]; s.ID != e.id || s.Status != state.MessageProcessed && s.Status != state.MessageRemoving {
			delete(k.posts, hash)
		}
	}
	k.check = false
	return nil
}

func (k *Keeper) hashes(which func(*entry) bool) []message.ItemHash {
	var out []message.ItemHash
	for hash, e := range k.posts {
		if which(e) {
			out = append(out, hash)
		}
	}
	return out
}

// confirm gives events their heights, when there are other confirmations or other
// events than before. Confirmations may be late, and may go, so it looks at all.
func (k *Keeper) confirm(ctx context.Context) error {
	select {
	case <-k.confirmations:
		k.place = true
	default:
	}
	if !k.place {
		return nil
	}
	for _, e := range k.changes {
		height, err := k.db.ConfirmedHeight(ctx, message.Ethereum, time.UnixMicro(e.chainAt))
		if err != nil {
			return err
		}
		e.height = uint64(max(height, 0))
	}
	open := k.hashes(func(e *entry) bool { return !e.fixed })
	all, err := k.db.Confirmations(ctx, open)
	if err != nil {
		return err
	}
	for _, hash := range open {
		height, err := k.heightOf(ctx, all[hash])
		if err != nil {
			return err
		}
		k.posts[hash].height = height
	}
	k.place = false
	return nil
}

// heightOf is the height of a message by its confirmations; 0 if it has none.
func (k *Keeper) heightOf(ctx context.Context, all []state.Transaction) (uint64, error) {
	if len(all) == 0 {
		return 0, nil
	}
	for _, t := range all { // First ones first.
		if t.Chain == message.Ethereum {
			return uint64(max(t.Height, 0)), nil
		}
	}
	height, err := k.db.ConfirmedHeight(ctx, message.Ethereum, all[0].At)
	return uint64(max(height, 0)), err
}

// newest is the greatest height of any event.
func (k *Keeper) newest() uint64 {
	newest := uint64(1)
	for _, e := range k.posts {
		newest = max(newest, e.height)
	}
	for _, e := range k.changes {
		newest = max(newest, e.height)
	}
	return newest
}
