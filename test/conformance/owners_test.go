//go:build conformance

package conformance_test

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestCase17Delegation(t *testing.T) {
	c := open(t)
	delegate := key("delegate")
	post := func(kind string) (message.Type, fields) {
		return message.TypePost, fields{"type": kind, "content": fields{}}
	}
	aggregate := func(name string) (message.Type, fields) {
		return message.TypeAggregate, fields{"key": name, "content": fields{"a": 1}}
	}
	for i, tt := range []struct {
		name    string
		grant   fields // Without the address.
		channel string
		what    func() (message.Type, fields)
		ok      bool
	}{
		{"everything", fields{}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"its chain", fields{"chain": "ETH"}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"another chain", fields{"chain": "SOL"}, "X", func() (message.Type, fields) { return post("news") }, false},
		{"its channel", fields{"channels": []string{"Y", "X"}}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"another channel", fields{"channels": []string{"Y"}}, "X", func() (message.Type, fields) { return post("news") }, false},
		{"no channels", fields{"channels": []string{}}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"its type", fields{"types": []string{"POST"}}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"another type", fields{"types": []string{"STORE"}}, "X", func() (message.Type, fields) { return post("news") }, false},
		{"its post type", fields{"post_types": []string{"news"}}, "X", func() (message.Type, fields) { return post("news") }, true},
		{"another post type", fields{"post_types": []string{"blog"}}, "X", func() (message.Type, fields) { return post("news") }, false},
		{"post types do not bind aggregates", fields{"post_types": []string{"blog"}}, "X", func() (message.Type, fields) { return aggregate("profile") }, true},
		{"its key", fields{"aggregate_keys": []string{"profile"}}, "X", func() (message.Type, fields) { return aggregate("profile") }, true},
		{"another key", fields{"aggregate_keys": []string{"settings"}}, "X", func() (message.Type, fields) { return aggregate("profile") }, false},
		{"keys do not bind posts", fields{"aggregate_keys": []string{"settings"}}, "X", func() (message.Type, fields) { return post("news") }, true},
	} {
		owner := key(fmt.Sprint("owner", i))
		grant := fields{"address": strings.ToLower(addressOf(delegate))}
		for name, value := range tt.grant {
			grant[name] = value
		}
		c.grant(owner, grant)
		want := "rejected 2"
		if tt.ok {
			want = "processed"
		}
		typ, content := tt.what()
		content["address"] = addressOf(owner)
		t.Log(tt.name)
		c.send(want, delegate, typ, content, on(tt.channel))
	}
}

// grant writes the aggregate security of an owner.
func (c client) grant(owner *ecdsa.PrivateKey, entries ...fields) {
	c.Helper()
	c.send("processed", owner, message.TypeAggregate, fields{"key": "security", "content": fields{"authorizations": entries}})
}

func TestCase17DelegatesAmendForgetAndEnd(t *testing.T) {
	c := open(t)
	owner, delegate := key("owner"), key("delegate")
	as := func(content fields) fields { content["address"] = addressOf(owner); return content }
	mine := c.note(owner, fields{"type": "news"})
	other := c.note(owner, fields{"type": "blog"})
	amend := func(ref string) fields { return as(fields{"type": "amend", "ref": ref, "content": fields{}}) }
	c.send("rejected 2", delegate, message.TypePost, amend(mine))
	c.grant(owner, fields{"address": addressOf(delegate), "post_types": []string{"news"}})
	c.send("processed", delegate, message.TypePost, amend(mine))
	c.send("rejected 2", delegate, message.TypePost, amend(other))
	c.send("rejected 2", delegate, message.TypeForget, fields{"hashes": []string{other}})
	c.send("processed", delegate, message.TypeForget, fields{"hashes": []string{mine}})
	c.same("what the delegate forgot", c.verdict(mine), "forgotten")
	c.grant(owner)
	c.send("rejected 2", delegate, message.TypePost, as(fields{"type": "news", "content": fields{}}))
}

func TestCase18Forgetting(t *testing.T) {
	c := open(t)
	a := key("a")
	hash, raw := c.signed(a, message.TypePost, fields{"type": "note", "content": fields{}})
	c.submit(raw)
	amend := c.send("processed", a, message.TypePost, fields{"type": "amend", "ref": hash, "content": fields{}})
	forget := c.send("processed", a, message.TypeForget, fields{"hashes": []string{hash}})
	c.same("the post", c.verdict(hash), "forgotten")
	c.same("its amend", c.verdict(amend), "forgotten")
	c.send("rejected 502", a, message.TypeForget, fields{"hashes": []string{forget}})
	c.send("rejected 500", a, message.TypeForget, fields{"hashes": []string{}})
	if got := c.submit(raw); got.status != http.StatusGone {
		t.Errorf("a copy of what is forgotten: %d %s, want 410", got.status, got.body)
	}
	c.same("its verdict", c.verdict(hash), "forgotten")

	c.credits(addressOf(a), 1e12)
	ref, _ := c.stored(a, "eighteen", nil)
	vm := c.send("processed", a, message.TypeInstance, instance(ref, nil))
	got := c.send("rejected 503", a, message.TypeForget, fields{"hashes": []string{ref}})
	if body := c.ok("/api/v0/messages/" + got).body; !strings.Contains(body, "used on vm "+vm) {
		t.Errorf("the refusal does not name the machine: %s", body)
	}
	c.send("processed", a, message.TypeForget, fields{"hashes": []string{vm}})
	c.send("processed", a, message.TypeForget, fields{"hashes": []string{ref}})
}
