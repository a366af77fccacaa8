package corenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	postsPerPage = 200
	// postPagesMax bounds the operations of one owner that are read: 2000.
	postPagesMax = 10
)

// listedPost is a post as servers list it: with its latest content, and the name of the
// message that began it.
type listedPost struct {
	Original message.ItemHash `json:"original_item_hash"`
	Ref      json.RawMessage  `json:"ref"`
	Content  json.RawMessage  `json:"content"`
}

// nodeOperation is what this package reads of an operation.
type nodeOperation struct {
	Action  string `json:"action"`
	Details struct {
		Address string `json:"address"`
	} `json:"details"`
}

// NodeHash returns the item hash of the message by which an owner registered the compute
// node of a domain, and which was not dropped since. Its hash and signature have been
// checked. errs.NotFound means that there is none, and errs.Conflict that there are several.
func (c *Client) NodeHash(ctx context.Context, owner, domain string) (message.ItemHash, error) {
	if err := checkName("owner", owner); err != nil {
		return "", err
	}
	want, ok := normal("https://" + domain)
	if !ok {
		return "", errs.New(errs.Invalid, "domain is %.*q, want a name of a host", nameMax, domain)
	}
	posts, err := c.operations(ctx, owner)
	if err != nil {
		return "", err
	}
	dropped := map[string]bool{}
	for _, p := range posts {
		var ref string
		if p.operation().Action == string(corechannel.DropNode) && json.Unmarshal(p.Ref, &ref) == nil {
			dropped[ref] = true
		}
	}
	var found []message.ItemHash
	for _, p := range posts {
		op := p.operation()
		// What an owner amends may say no action and no address any more.
		if op.Action != string(corechannel.CreateResourceNode) && op.Action != "" && op.Action != string(corechannel.Amend) ||
			op.Details.Address != "" && !isSame(op.Details.Address, want) || dropped[string(p.Original)] {
			continue
		}
		is, err := c.registers(ctx, p.Original, owner, want, op.Details.Address != "")
		if err != nil {
			return "", err
		}
		if is {
			found = append(found, p.Original)
		}
	}
	switch len(found) {
	case 0:
		return "", errs.New(errs.NotFound, "%s has registered no compute node at %s", owner, want)
	case 1:
		return found[0], nil
	default:
		return "", errs.New(errs.Conflict, "%s has registered %d compute nodes at %s: drop those that are none, or set the hash of the node", owner, len(found), want)
	}
}

// operations lists the operations of an owner.
func (c *Client) operations(ctx context.Context, owner string) ([]listedPost, error) {
	var all []listedPost
	for page := 1; page <= postPagesMax; page++ {
		var posts []listedPost
		err := c.ask(ctx, question{
			what: "operations of " + owner, path: []string{"api/v0/posts.json"},
			query: url.Values{
				"addresses": {owner}, "types": {corechannel.OperationType}, "pagination": {strconv.Itoa(postsPerPage)}, "page": {strconv.Itoa(page)},
			},
			read: func(raw []byte) error {
				var a struct {
					Posts *[]listedPost `json:"posts"`
				}
				if err := decode(raw, &a); err != nil {
					return err
				}
				if a.Posts == nil || len(*a.Posts) > postsPerPage {
					return fmt.Errorf("it is no page of %d posts", postsPerPage)
				}
				posts = *a.Posts
				return nil
			},
		})
		if err != nil {
			return nil, err
		}
		if all = append(all, posts...); len(posts) < postsPerPage {
			return all, nil
		}
	}
	return nil, errs.New(errs.Exhausted, "%s has made more than %d operations: set the hash of the node", owner, postPagesMax*postsPerPage)
}

// operation reads what a post says. One that says something else is no operation.
func (p *listedPost) operation() nodeOperation {
	var op nodeOperation
	if json.Unmarshal(p.Content, &op) != nil {
		return nodeOperation{Action: "none"}
	}
	return op
}

// registers reports whether a message is the owner's registration of a compute node, of
// the address if that is not known from a later one.
func (c *Client) registers(ctx context.Context, hash message.ItemHash, owner, want string, elsewhere bool) (bool, error) {
	e, err := c.Message(ctx, hash)
	if errors.Is(err, errs.NotFound) || errors.Is(err, errs.Invalid) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if e.Type != message.TypePost || e.ItemType == message.IPFS {
		return false, nil
	}
	content, err := c.Content(ctx, e)
	if err != nil {
		return false, err
	}
	post, ok := content.(*message.Post)
	if !ok || post.Type != corechannel.OperationType || !authz.Same(post.Address, owner) {
		return false, nil
	}
	op := (&listedPost{Content: post.Content}).operation()
	return op.Action == string(corechannel.CreateResourceNode) && (elsewhere || isSame(op.Details.Address, want)), nil
}

func isSame(address, want string) bool {
	got, ok := normal(address)
	return ok && got == want
}

// normal is the URL of a node in one form: without a port that goes without saying, and
// without a slash at its end.
func normal(raw string) (string, bool) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Hostname() == "" || len(raw) > 2*nameMax || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && (scheme != "https" || port != "443") && (scheme != "http" || port != "80") {
		host += ":" + port
	}
	return scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), true
}
