package corechannel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// serve writes the list for the door, if it has changed.
func (k *Keeper) serve(ctx context.Context, content []byte, now time.Time) error {
	if bytes.Equal(content, k.shown) {
		return nil
	}
	err := k.db.Update(ctx, func(tx *state.Tx) error {
		before, err := tx.OwnAggregates(ctx, k.cfg.Authority)
		if err != nil {
			return err
		}
		for _, a := range before {
			if a.Key == core.AggregateKey && bytes.Equal(a.Content, content) {
				return nil // As before the start.
			}
		}
		return tx.PutOwnAggregate(ctx, state.Aggregate{Owner: k.cfg.Authority, Key: core.AggregateKey, Content: content, Created: now, Updated: now})
	})
	if err == nil {
		k.shown = content
	}
	return err
}

// publish tells the network of the list, if what it has been told is another and
// that is some time ago.
func (k *Keeper) publish(ctx context.Context, content []byte, now time.Time) error {
	if bytes.Equal(content, k.shown) {
		return nil
	}
	before, err := k.db.Aggregate(ctx, k.cfg.Authority, core.AggregateKey)
	switch {
	case errors.Is(err, errs.NotFound):
	case err != nil:
		return err
	case sameFields(before.Content, content):
		k.shown = content
		return nil
	case now.Sub(before.Updated) < k.cfg.PublishInterval:
		return nil // The next look finds it still.
	}
	if err := k.send(ctx, content, now); err != nil {
		return fmt.Errorf("publish list of nodes: %w", err)
	}
	k.log.Info("list of nodes published", "bytes", len(content))
	k.shown = content
	return nil
}

// sameFields reports whether two objects have the same fields, in whatever order.
func sameFields(a, b []byte) bool {
	var one, other map[string]json.RawMessage
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil || len(one) != len(other) {
		return false
	}
	for name, value := range one {
		if !bytes.Equal(value, other[name]) {
			return false
		}
	}
	return true
}

// send makes a message of the list.
func (k *Keeper) send(ctx context.Context, list []byte, now time.Time) error {
	const micro = 1e6
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false) // What is shown must be what was published, to the letter.
	err := w.Encode(struct {
		Address string          `json:"address"`
		Time    float64         `json:"time"`
		Key     string          `json:"key"`
		Content json.RawMessage `json:"content"`
	}{k.cfg.Authority, float64(now.UnixMicro()) / micro, core.AggregateKey, list})
	if err != nil {
		return fmt.Errorf("encode content: %w", err)
	}
	content := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	channel := "FOUNDATION"
	e := &message.Envelope{
		Chain: message.Ethereum, Type: message.TypeAggregate, Channel: &channel, Time: now, ItemType: message.Inline, ItemContent: string(content), ItemHash: message.HashOf(content),
	}
	if len(content) > message.MaxInlineChars { // Bytes are not fewer than characters.
		e.ItemType, e.ItemContent = message.Storage, ""
		if err := k.out.Keep(ctx, content); err != nil {
			return err
		}
	}
	if err := signature.SignEVM(k.key, e); err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	return k.out.Publish(ctx, raw)
}
