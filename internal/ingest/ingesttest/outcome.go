// Package ingesttest tells what messages have made of a database, for tests of several
// packages.
package ingesttest

import (
	"context"
	"fmt"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Made tells, line by line, what messages have made of a database, but for when they came:
// posts with the amend that is shown, aggregates, which version of a file each tag names, and
// costs. Two databases with the same messages have made the same. Names are those of
// messages, told instead of their hashes where there is one; tags are looked up beside the hashes.
func Made(ctx context.Context, db *state.DB, hashes []message.ItemHash, names map[message.ItemHash]string, tags ...string) (string, error) {
	var b strings.Builder
	name := func(hash message.ItemHash) string {
		if n, ok := names[hash]; ok {
			return n
		}
		return string(hash)
	}
	err := db.View(ctx, func(v *state.View) error {
		err := v.EachPost(ctx, state.PostQuery{}, 0, 0, func(p *state.Post) error {
			fmt.Fprintf(&b, "post %s shows %s of %v\n", name(p.Original.Envelope.ItemHash), name(p.Latest.Envelope.ItemHash), p.Latest.MadeAt)
			return nil
		})
		if err != nil {
			return err
		}
		aggregates, _, err := v.Aggregates(ctx, state.AggregateQuery{}, 0, 0)
		for _, a := range aggregates {
			fmt.Fprintf(&b, "aggregate %s/%s %s of %v to %v, last %s\n", a.Owner, a.Key, a.Content, a.Created, a.Updated, name(a.Last))
		}
		return err
	})
	if err != nil {
		return "", err
	}
	for _, hash := range hashes {
		tags = append(tags, string(hash))
	}
	for _, tag := range tags {
		p, err := db.Tagged(ctx, tag)
		if errs.KindOf(err) == errs.NotFound {
			continue
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "tag of %s is %s\n", name(message.ItemHash(tag)), name(message.ItemHash(p.Key)))
	}
	for _, hash := range hashes {
		c, err := db.Cost(ctx, hash)
		if errs.KindOf(err) == errs.NotFound {
			continue
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s costs %s, %s, %s\n", name(hash), c.Hold, c.Stream, c.Credit)
	}
	return b.String(), nil
}
