package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// grantRow is what tells a grant from another of the same message.
type grantRow struct {
	at, until int64
	content   string
}

// grants checks that AGGREGATEs that say what owners allow are grants, which hold
// still as long as the message is here.
func (c *checker) grants(ctx context.Context, all []*Message) error {
	for _, m := range all {
		a, ok := m.Parsed.(*message.Aggregate)
		if !ok || a.Key.String() != authz.SecurityKey {
			continue
		}
		var got, want []grantRow
		err := c.v.each(ctx, "SELECT at, until, content FROM grants WHERE owner = ? AND message = ?", []any{m.Owner, string(m.Envelope.ItemHash)}, func(scan func(...any) error) error {
			var g grantRow
			err := scan(&g.at, &g.until, &g.content)
			got = append(got, g)
			return err
		})
		if err != nil {
			return fmt.Errorf("read grants: %w", err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(a.Content, &fields); err != nil {
			return fmt.Errorf("read element %s: %w", m.Envelope.ItemHash, err)
		}
		if _, ok := fields["authorizations"]; ok {
			want = append(want, grantRow{m.MadeAt.UnixMicro(), math.MaxInt64, string(a.Content)})
		}
		if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			c.differ("the grants of element %s are %+v, want %+v", m.Envelope.ItemHash, got, want)
		}
	}
	return nil
}

// grantsThatEnded checks the grants whose messages are not here: they held until the
// first of the FORGETs that are known was made. A message that waits to be judged
// again may be one that was forgotten by what does not count.
func (c *checker) grantsThatEnded(ctx context.Context) error {
	type grant struct {
		owner string
		hash  message.ItemHash
		until int64
	}
	var all []grant
	err := c.v.each(ctx, "SELECT g.owner, g.message, g.until FROM grants g WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.pk = g.message AND m.owner = g.owner)"+
		" AND NOT EXISTS (SELECT 1 FROM pending p WHERE p.message = g.message)", nil, func(scan func(...any) error) error {
		var g grant
		err := scan(&g.owner, &g.hash, &g.until)
		all = append(all, g)
		return err
	})
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	for _, g := range all {
		found, err := c.v.skeletons(ctx, "pk = ? AND owner = ? AND status = ? AND kind = ?", string(g.hash), g.owner, string(MessageForgotten), authz.SecurityKey)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			c.differ("grant %s of %s is of no message that is here or was forgotten", g.hash, g.owner)
			continue
		}
		by, err := c.v.MessagesByHash(ctx, found[0].ForgottenBy)
		if err != nil {
			return err
		}
		var until time.Time
		for i, m := range by {
			if i == 0 || m.MadeAt.Before(until) {
				until = m.MadeAt
			}
		}
		if len(by) > 0 && g.until != until.UnixMicro() {
			c.differ("grant %s of %s, which was forgotten, holds until %d, want %d", g.hash, g.owner, g.until, until.UnixMicro())
		}
	}
	return nil
}

// delegated checks that what was written for others is found when their grants
// change. Whom a FORGET was written for its targets know.
func (c *checker) delegated(ctx context.Context, all []*Message) error {
	for _, m := range all {
		if m.Envelope.Type == message.TypeForget || authz.Same(m.Envelope.Sender, m.Owner) {
			continue
		}
		n, err := c.number(ctx, "SELECT COUNT(*) FROM delegated WHERE owner = ? AND at = ? AND message = ?", m.Owner, m.MadeAt.UnixMicro(), string(m.Envelope.ItemHash))
		if err != nil {
			return err
		}
		c.want(fmt.Sprintf("rows of message %s, which %s wrote for %s,", m.Envelope.ItemHash, m.Envelope.Sender, m.Owner), n, 1)
	}
	return nil
}
