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
	// ownMax and ownBytes bound the messages of one program that wait for a core channel
	// node, and allBytes those of all: none takes the room of the others.
	ownMax, ownBytes, allBytes = 256, 8 << 20, 64 << 20
	// waitMin and waitMax bound the pause between two tries of one message, keepMax for
	// how long it is tried: nodes refuse messages that are much older than they say.
	waitMin, waitMax, keepMax = 2 * time.Second, 10 * time.Minute, 24 * time.Hour
	// courierEvery is how often is looked what is due.
	courierEvery = 5 * time.Second
	// courierRest is from one pass to the next when rows wake it, as those of a pass do.
	courierRest = 2 * time.Second
	// courierBatch bounds the messages that are in memory at once.
	courierBatch = 16
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

// Publish implements Publisher. What it returns nil for is not lost; errs.Exhausted means
// that too much waits already.
func (c *Courier) Publish(ctx context.Context, program message.ItemHash, envelope json.RawMessage) error {
	env, err := message.Parse(envelope)
	if err != nil {
		return errs.New(errs.Invalid, "read message: %w", err)
	}
	if err := signature.Verify(env); err != nil {
		return errs.New(errs.Invalid, "message %s: %w", env.ItemHash, err)
	}
	now := c.now().UTC()
	return c.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.CoreMessage(ctx, env.ItemHash); !errors.Is(err, errs.NotFound) {
			return err // It is on its way.
		}
		own, all, err := tx.CoreLoads(ctx, program)
		switch {
		case err != nil:
			return err
		case own.Messages >= ownMax || own.Bytes+int64(len(envelope)) > ownBytes:
			return errs.New(errs.Exhausted, "%d messages of the program wait for a core channel node already", own.Messages)
		case all.Bytes+int64(len(envelope)) > allBytes:
			return errs.New(errs.Exhausted, "%d messages of programs wait for a core channel node already", all.Messages)
		}
		return tx.PutCoreMessage(ctx, state.CoreMessage{Hash: env.ItemHash, Program: program, Envelope: envelope, At: now, Due: now})
	})
}

// Run hands in messages until ctx ends.
func (c *Courier) Run(ctx context.Context) error {
	return loop.Spaced(ctx, c.log, loop.Pace{Interval: courierEvery, MaxDelay: courierEvery, Rest: courierRest}, c.wake, c.pass)
}

// pass hands in what is due, what is due longest first, and ends with the first message
// that nobody takes: others would not be taken either, and each would wait for the
// timeouts of all servers. That one is due later, so the next pass begins with another.
func (c *Courier) pass(ctx context.Context) error {
	now := c.now()
	for {
		due, err := c.db.DueCoreMessages(ctx, now, courierBatch)
		if err != nil {
			return fmt.Errorf("read messages to hand in: %w", err)
		}
		for _, m := range due {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if taken, err := c.deliver(ctx, m); err != nil || !taken {
				return err
			}
		}
		if len(due) < courierBatch {
			return nil
		}
	}
}

// deliver tries one message once. That it is tried is written down before, so that after
// a crash it is asked for. It reports whether the message is done with.
func (c *Courier) deliver(ctx context.Context, m state.CoreMessage) (bool, error) {
	if m.Tries > 0 {
		// One that is gone was there.
		if status, err := c.core.Standing(ctx, m.Hash); err == nil {
			return true, c.done(ctx, m, "it is known", "status", status)
		}
	}
	if c.now().Sub(m.At) > keepMax {
		return true, c.done(ctx, m, "no core channel node took it for a day", "tries", m.Tries, "err", m.Detail)
	}
	m.Tries++
	m.Due = c.now().Add(min(waitMin<<min(m.Tries, 16), waitMax)).UTC()
	if err := c.put(ctx, m); err != nil {
		return false, err
	}
	err := c.core.Post(ctx, m.Envelope)
	switch {
	case err == nil:
		return true, c.done(ctx, m, "handed in", "tries", m.Tries)
	case errors.Is(err, errs.Invalid):
		return true, c.done(ctx, m, "refused", "err", err)
	}
	c.log.Debug("message of a program not handed in", "item_hash", m.Hash, "tries", m.Tries, "err", err)
	m.Detail = err.Error()
	return false, c.put(ctx, m)
}

func (c *Courier) put(ctx context.Context, m state.CoreMessage) error {
	return c.db.Update(ctx, func(tx *state.Tx) error { return tx.PutCoreMessage(ctx, m) })
}

// done forgets a message, and says why.
func (c *Courier) done(ctx context.Context, m state.CoreMessage, why string, args ...any) error {
	c.log.Info("message of a program is done with", append([]any{"item_hash", m.Hash, "detail", why}, args...)...)
	return c.db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveCoreMessage(ctx, m.Hash) })
}
