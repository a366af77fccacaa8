//go:build conformance

package conformance_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

func TestCase09AHashThatIsOffByACharacter(t *testing.T) {
	c := open(t)
	hash, raw := c.signed(key("a"), message.TypePost, fields{"type": "note", "content": fields{}}, func(e *message.Envelope) {
		last := "0"
		if strings.HasSuffix(string(e.ItemHash), last) {
			last = "1"
		}
		e.ItemHash = e.ItemHash[:63] + message.ItemHash(last)
	})
	a := c.submit(raw)
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "InvalidMessageFormat") {
		t.Errorf("got %d %s, want 422 InvalidMessageFormat", a.status, a.body)
	}
	c.same("verdict", c.verdict(hash), "404")
}

func TestCase10TheLongestContent(t *testing.T) {
	c := open(t)
	for _, tt := range []struct {
		chars  int
		filler string
		status int
	}{{200_000, "x", 200}, {200_001, "x", 422}, {200_000, "ż", 200}, {200_001, "ż", 422}} {
		// The content is written by hand, to the character.
		raw := fmt.Sprintf(`{"address":%q,"time":1780000000,"type":"note","content":"%%s"}`, addressOf(key("a")))
		raw = fmt.Sprintf(raw, strings.Repeat(tt.filler, tt.chars-len(raw)+len("%s")))
		_, envelope := c.signed(key("a"), message.TypePost, fields{}, exactly(raw))
		if a := c.submit(envelope); a.status != tt.status {
			t.Errorf("%d times %s: %d %.200s, want %d", tt.chars, tt.filler, a.status, a.body, tt.status)
		}
	}
}

// exactly gives a message the bytes of a content.
func exactly(raw string) func(*message.Envelope) {
	return func(e *message.Envelope) { e.ItemContent, e.ItemHash = raw, message.HashOf([]byte(raw)) }
}

func TestCase11WhatJSONAllowsAndWhatNot(t *testing.T) {
	c := open(t)
	for _, tt := range []struct {
		name, content string
		status        int
		verdict       string
	}{
		{"not a number", `NaN`, 422, "404"},
		{"infinity", `-Infinity`, 422, "404"},
		{"a zero character", `"\u0000"`, 422, "rejected 0"},
		{"an integer of 70 bits", `1180591620717411303424`, 200, "processed"},
		{"the same key twice", `{"a":1,"a":2}`, 200, "processed"},
	} {
		raw := fmt.Sprintf(`{"address":%q,"time":1780000000,"type":"note","content":%s}`, addressOf(key("a")), tt.content)
		hash, envelope := c.signed(key("a"), message.TypePost, fields{}, exactly(raw))
		a := c.submit(envelope)
		if got := c.verdict(hash); a.status != tt.status || got != tt.verdict {
			t.Errorf("%s: %d and %s, want %d and %s; answered %s", tt.name, a.status, got, tt.status, tt.verdict, a.body)
		}
	}
}

func TestCase12KeysThatNobodyKnows(t *testing.T) {
	c := open(t)
	hash, raw := c.signed(key("a"), message.TypePost, fields{"type": "note", "content": fields{}, "mime_type": "x"})
	if a := c.submit(raw); a.status != http.StatusUnprocessableEntity {
		t.Errorf("POST: %d %s, want 422", a.status, a.body)
	}
	c.same("POST", c.verdict(hash), "404")
	ref, _ := c.stored(key("a"), "twelve", fields{"mime_type": "text/plain", "owner": fields{"a": 1}})
	listed := c.ok("/api/v0/messages.json?hashes=" + ref)
	c.same("in lists", listed.field("messages", 0, "content", "mime_type"), "text/plain")
	c.same("alone", c.ok("/api/v0/messages/"+ref).field("message", "content", "mime_type"), nil)
}

func TestCase13KeysOfTheEnvelopeThatNobodyKnows(t *testing.T) {
	c := open(t)
	hash, raw := c.signed(key("a"), message.TypePost, fields{"type": "note", "content": fields{}})
	var e fields
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	e["confirmed"], e["size"], e["secret"], e["content"] = true, 1, "x", fields{"not": "this"}
	if a := c.submit(c.encode(e)); a.status != http.StatusOK {
		t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	a := c.ok("/api/v0/messages/" + hash)
	c.same("secret", a.field("message", "secret"), nil)
	c.same("confirmed", a.field("message", "confirmed"), false)
	c.same("content", a.field("message", "content", "not"), nil)
}

func TestCase14TheSameMessageTwice(t *testing.T) {
	c := open(t)
	_, raw := c.signed(key("a"), message.TypePost, fields{"type": "note", "content": fields{}})
	for i := range 2 {
		began := time.Now()
		if a := c.submit(raw); a.status != http.StatusOK || a.field("message_status") != "processed" || time.Since(began) > 10*time.Second {
			t.Errorf("time %d: %d %s after %v, want 200 processed at once", i+1, a.status, a.body, time.Since(began))
		}
	}
}

func TestCase15Amends(t *testing.T) {
	c := open(t)
	a, b := key("a"), key("b")
	original := c.note(a, nil)
	amend := func(ref any) fields { return fields{"type": "amend", "content": fields{}, "ref": ref} }
	hash, raw := c.signed(a, message.TypePost, fields{"type": "amend", "content": fields{}})
	if got := c.submit(raw); got.status != http.StatusUnprocessableEntity {
		t.Errorf("without ref: %d %s, want 422", got.status, got.body)
	}
	if got := c.verdict(hash); got != "404" && got != "rejected 0" {
		t.Errorf("without ref: %s, want code 0", got)
	}
	late := c.envelope(a, message.TypePost, fields{"type": "note", "content": fields{"n": 1}})
	if err := signature.SignEVM(a, late); err != nil {
		t.Fatal(err)
	}
	waits := c.send("pending", a, message.TypePost, amend(late.ItemHash))
	first := c.send("processed", a, message.TypePost, amend(original))
	c.send("rejected 102", a, message.TypePost, amend(first))
	c.send("rejected 2", b, message.TypePost, amend(original))
	c.submit(c.encode(late))
	c.eventually(waits, "processed")
}

func TestCase16AnAggregateInAnyOrder(t *testing.T) {
	c := open(t)
	elements := []fields{{"a": 1, "b": 1, "c": fields{"x": 1}}, {"b": 2, "c": fields{"y": 2}}, {"c": fields{"z": 3}, "d": nil}}
	for i, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		k := key(fmt.Sprint("owner", i))
		for _, at := range order {
			c.send("processed", k, message.TypeAggregate, fields{"key": "k", "content": elements[at], "time": 1_780_000_000 + at})
		}
		got := c.ok("/api/v0/aggregates/" + addressOf(k) + ".json?with_info=true")
		c.same(fmt.Sprint("order ", order), string(c.encode(got.field("data", "k"))), `{"a":1,"b":2,"c":{"z":3},"d":null}`)
		c.same("last updated", got.field("info", "k", "last_updated").(string)[:19], "2026-05-28T20:26:42")
	}
}

func TestCase26AWalkOver450MessagesOfOneTime(t *testing.T) {
	c := open(t)
	const count = 450
	want := make([]string, count)
	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range count {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			hash, raw := c.signed(key("a"), message.TypePost, fields{"type": "walk", "content": i, "time": 1_780_000_000}, func(e *message.Envelope) { e.Time = time.Unix(1_780_000_000, 0).UTC() })
			if a := c.submit(raw); a.status != http.StatusOK {
				c.Errorf("message %d: %d %s", i, a.status, a.body)
			}
			want[i] = hash
		})
	}
	all.Wait()
	for _, list := range []string{"messages", "posts"} {
		var got, pages []string
		for cursor := ""; ; {
			a := c.ok("/api/v0/" + list + ".json?contentTypes=walk&types=walk&pagination=200&cursor=" + url.QueryEscape(cursor))
			page := a.column(list, "item_hash")
			got, pages = append(got, page...), append(pages, strconv.Itoa(len(page)))
			next := a.field("next_cursor")
			if next == nil {
				break
			}
			cursor = next.(string)
		}
		c.same("pages of "+list, strings.Join(pages, "/"), "200/200/50")
		c.same("what the walk over "+list+" found", sorted(got), sorted(want))
	}
}

// sample is a message of the test of filters, and what a naive reader knows of it.
type sample struct {
	hash string
	at   int64
	is   map[string][]string // Values by parameter.
}

func TestCase27FiltersAloneAndTogether(t *testing.T) {
	c := open(t)
	dice := rand.New(rand.NewPCG(1, 2))
	pick := func(of string, n int) string { return fmt.Sprintf("%s%d", of, dice.IntN(n)) }
	file := c.file("twenty-seven")
	var all []sample
	for range 60 {
		k, channel := key(pick("owner", 3)), pick("channel", 3)
		s := sample{is: map[string][]string{"channels": {channel}, "addresses": {addressOf(k)}, "owners": {addressOf(k)}, "chains": {"ETH"}, "msgStatuses": {"processed"}}}
		var typ message.Type
		var content fields
		switch dice.IntN(3) {
		case 0:
			kind, ref, tag := pick("type", 2), pick("ref", 3), pick("tag", 3)
			typ, content = message.TypePost, fields{"type": kind, "ref": ref, "content": fields{"tags": []string{tag, "all"}}}
			s.is["contentTypes"], s.is["refs"], s.is["tags"] = []string{kind}, []string{ref}, []string{tag, "all"}
		case 1:
			name, tag := pick("key", 3), pick("tag", 3)
			typ, content = message.TypeAggregate, fields{"key": name, "content": fields{"tags": []string{tag}}}
			s.is["contentKeys"], s.is["tags"] = []string{name}, []string{tag}
		default:
			tag := pick("tag", 3)
			typ, content = message.TypeStore, fields{"item_type": "storage", "item_hash": file, "tags": []string{tag}, "payment": fields{"type": "hold", "chain": "ETH"}}
			s.is["contentHashes"], s.is["tags"], s.is["paymentTypes"] = []string{file}, []string{tag}, []string{"hold"}
		}
		s.is["msgTypes"] = []string{string(typ)}
		s.hash = c.send("processed", k, typ, content, on(channel))
		s.at, s.is["hashes"] = c.at.Load(), []string{s.hash}
		all = append(all, s)
	}
	values := map[string][]string{}
	for _, s := range all {
		for name, list := range s.is {
			values[name] = append(values[name], list...)
		}
	}
	names := []string{"addresses", "chains", "channels", "contentHashes", "contentKeys", "contentTypes", "hashes", "msgStatuses", "msgTypes", "owners", "paymentTypes", "refs", "tags"}
	ask := func(filter map[string][]string, from, to int64) {
		q := url.Values{"pagination": {"0"}, "sortOrder": {"1"}}
		for name, list := range filter {
			q.Set(name, strings.Join(list, ","))
		}
		if from > 0 {
			q.Set("startDate", strconv.FormatInt(from, 10))
			q.Set("endDate", strconv.FormatInt(to, 10))
		}
		want := []string{}
		for _, s := range all {
			fits := from == 0 || s.at >= from && s.at < to
			for name, list := range filter {
				fits = fits && slices.ContainsFunc(s.is[name], func(v string) bool { return slices.Contains(list, v) })
			}
			if fits {
				want = append(want, s.hash)
			}
		}
		c.same(q.Encode(), c.ok("/api/v0/messages.json?"+q.Encode()).column("messages", "item_hash"), want)
	}
	for _, name := range names {
		ask(map[string][]string{name: {values[name][dice.IntN(len(values[name]))]}}, 0, 0)
		ask(map[string][]string{name: {values[name][0], values[name][len(values[name])/2]}}, 0, 0)
		ask(map[string][]string{name: {values[name][0]}}, all[10].at, all[40].at)
	}
	for range 150 {
		filter := map[string][]string{}
		for _, i := range dice.Perm(len(names))[:2+dice.IntN(2)] {
			list := values[names[i]]
			filter[names[i]] = []string{list[dice.IntN(len(list))], list[dice.IntN(len(list))]}
		}
		from := int64(0)
		if dice.IntN(3) == 0 {
			from = all[dice.IntN(30)].at
		}
		ask(filter, from, from+25)
	}
}
