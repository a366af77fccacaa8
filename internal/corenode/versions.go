package corenode

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// versionsPage is how many of the newest versions of a file are looked at for one that
// its owner has made.
const versionsPage = 20

// Latest returns the message by which an owner has last replaced the file of the STORE
// message ref, or nil if there is none. Its hash and signature have been checked; that
// there is no newer one is the word of the server. It may be a while old. What Latest
// returns is shared: nobody may change it.
func (c *Client) Latest(ctx context.Context, owner string, ref message.ItemHash) (*message.Envelope, error) {
	if err := checkName("item hash", string(ref)); err != nil {
		return nil, err
	}
	if err := checkName("owner", owner); err != nil {
		return nil, err
	}
	return c.versions.get(ctx, owner+" "+string(ref), func(ctx context.Context) (*message.Envelope, bool, error) {
		var shown []json.RawMessage
		err := c.ask(ctx, question{
			what: "versions of file " + string(ref), path: []string{"api/v0/messages.json"},
			query: url.Values{
				"refs": {string(ref)}, "owners": {owner}, "msgTypes": {string(message.TypeStore)}, "pagination": {strconv.Itoa(versionsPage)}, "page": {"1"},
			},
			read: func(raw []byte) error {
				var a struct {
					Messages *[]json.RawMessage `json:"messages"`
				}
				if err := decode(raw, &a); err != nil {
					return err
				}
				if a.Messages == nil || len(*a.Messages) > versionsPage {
					return fmt.Errorf("it is no page of %d messages", versionsPage)
				}
				shown = *a.Messages
				return nil
			},
		})
		if err != nil {
			return nil, false, err
		}
		for _, raw := range shown { // The newest first.
			e, err := c.version(ctx, raw, owner, ref)
			if e != nil || err != nil {
				return e, err == nil, err
			}
		}
		return nil, true, nil
	})
}

// version reads a message of a list, and returns nil for one that is no version of the
// file that the owner has made.
func (c *Client) version(ctx context.Context, shown []byte, owner string, ref message.ItemHash) (*message.Envelope, error) {
	var a struct {
		ItemHash message.ItemHash `json:"item_hash"`
	}
	if err := decode(shown, &a); err != nil {
		return nil, errs.New(errs.Unavailable, "a version of file %s: %w", ref, err)
	}
	e, err := readEnvelope(shown, a.ItemHash)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "a version of file %s: %w", ref, err)
	}
	content, err := c.Content(ctx, e)
	if err != nil {
		return nil, err
	}
	store, ok := content.(*message.Store)
	if !ok || store.Ref == nil || *store.Ref != string(ref) || !authz.Same(store.Address, owner) {
		return nil, nil
	}
	return e, nil
}
