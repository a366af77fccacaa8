package guestapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// waitingMax bounds the messages that wait for a core channel node.
	waitingMax = 10_000
	// waitMin and waitMax bound the pause between two tries of one message, keepMax for
	// how long it is tried: nodes refuse messages that are much older than they say.
	waitMin, waitMax, keepMax = 2 * time.Second, 10 * time.Minute, 24 * time.Hour
	// courierEvery is how often is looked what is due.
	courierEvery = 5 * time.Second
)

// Core takes messages into the message network; corenode.Client does.
type Core interface {
	// Post hands in a message. errs.Invalid means that it is refused for good, every
	// other error that nobody knows whether it was taken.
	Post(ctx context.Context, envelope json.RawMessage) error
	// Standing returns the status of a message, or errs.NotFound.
	Standing(ctx context.Context, hash message.ItemHash) (string, error)
}

// Courier hands messages of programs to core channel nodes. A message is a row before
// the program hears that it is published, and is tried until a node has it. One that
// may have been handed in before is asked for first, so that it is not sent twice.
// Use NewCourier, then Run.
type Courier struct {
	db   *state.DB
	core Core
	log  *slog.Logger
	wake <-chan struct{}
	now  func() time.Time
}

// NewCourier returns a Courier of the rows in db.
func NewCourier(db *state.DB, core Core, log *slog.Logger) *Courier {
	return &Courier{db: db, core: core, log: log, wake: db.Wake("core_messages"), now: time.Now}
}

// Publish implements Publisher. What it returns nil for is not lost.
func (c *Courier) Publish(ctx context.Context, envelope json.RawMessage) error {
	env, err := message.Parse(envelope)
	if err != nil {
		return errs.New(errs.Invalid, "read message: %w", err)
	}
	if err := signature.Verify(env); err != nil {
		return errs.New(errs.Invalid, "message %s: %w", env.ItemHash, err)
	}
	now := c.now().UTC()
	return c.db.Update(ctx, func(tx *state.Tx) error {
		all, err := tx.CoreMessages(ctx)
		if err != nil {
			return err
		}
		for _, m := range all {
			if m.Hash == env.ItemHash {
				return nil // It is on its way.
			}
		}
		if len(all) >= waitingMax {
			return errs.New(errs.Exhausted, "%d messages wait for a core channel node already", len(all))
		}
		return tx.PutCoreMessage(ctx, state.CoreMessage{Hash: env.ItemHash, Envelope: envelope, At: now, Due: now})
	})
}

// Run hands in messages until ctx ends.
func (c *Courier) Run(ctx context.Context) error {
	return loop.Every(ctx, c.log, courierEvery, courierEvery, c.wake, c.pass)
}

// pass hands in what is due.
func (c *Courier) pass(ctx context.Context) error {
	all, err := c.db.CoreMessages(ctx)
	if err != nil {
		return fmt.Errorf("read messages to hand in: %w", err)
	}
	for _, m := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.now().Before(m.Due) {
			continue
		}
		if err := c.deliver(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// deliver tries one message once. That it is tried is written down before, so that after
// a crash it is asked for.
func (c *Courier) deliver(ctx context.Context, m state.CoreMessage) error {
	if m.Tries > 0 {
		// One that is gone was there.
		if status, err := c.core.Standing(ctx, m.Hash); err == nil {
			return c.done(ctx, m, "it is known", "status", status)
		}
	}
	if c.now().Sub(m.At) > keepMax {
		return c.done(ctx, m, "no core channel node took it for a day", "tries", m.Tries, "err", m.Detail)
	}
	m.Tries++
	m.Due = c.now().Add(min(waitMin<<min(m.Tries, 16), waitMax)).UTC()
	if err := c.put(ctx, m); err != nil {
		return err
	}
	err := c.core.Post(ctx, m.Envelope)
	switch {
	case err == nil:
		return c.done(ctx, m, "handed in", "tries", m.Tries)
	case errors.Is(err, errs.Invalid):
		return c.done(ctx, m, "refused", "err", err)
	}
	c.log.Debug("message of a program not handed in", "item_hash", m.Hash, "tries", m.Tries, "err", err)
	m.Detail = err.Error()
	return c.put(ctx, m)
}

func (c *Courier) put(ctx context.Context, m state.CoreMessage) error {
	return c.db.Update(ctx, func(tx *state.Tx) error { return tx.PutCoreMessage(ctx, m) })
}

// done forgets a message, and says why.
func (c *Courier) done(ctx context.Context, m state.CoreMessage, why string, args ...any) error {
	c.log.Info("message of a program is done with", append([]any{"item_hash", m.Hash, "detail", why}, args...)...)
	return c.db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveCoreMessage(ctx, m.Hash) })
}
