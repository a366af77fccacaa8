package ccn_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestOneMessageThatWasProcessed(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	hash := n.sendPost(k, "note", fields{"a": 1}, nil, onChannel("ONE"))
	n.confirm(hash, 77, n.at)

	a := n.ok("/api/v0/messages/" + string(hash) + "?unused=1")

	same(t, "keys", keysOf(a.value()), []string{"item_hash", "message", "reception_time", "status"})
	same(t, "keys of the message", keysOf(a.field("message")), []string{
		"chain", "channel", "confirmations", "confirmed", "content", "item_content", "item_hash", "item_type", "sender", "signature", "time", "type",
	})
	same(t, "confirmations", a.field("message.confirmations"), any([]any{fields{"chain": "ETH", "hash": "0xtx", "height": json.Number("77")}}))
	same(t, "content", a.field("message.content"), any(fields{
		"address": addressOf(k), "time": json.Number(message.FormatTime(n.at)), "content": fields{"a": json.Number("1")}, "ref": nil, "type": "note",
	}))
	same(t, "content type", a.header.Get("Content-Type"), "application/json; charset=utf-8")
	received, err := time.Parse("2006-01-02T15:04:05Z", a.field("reception_time").(string))
	if err != nil || time.Since(received) > time.Hour {
		t.Errorf("reception_time = %v (%v), want now in ISO 8601", a.field("reception_time"), err)
	}
}

func TestOneMessageThatWaits(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	hash, raw := n.signed(k, message.TypePost, fields{"type": "amend", "ref": message.HashOf([]byte("absent")), "content": fields{}})
	n.post("/api/v0/messages", fields{"message": raw})

	a := n.ok("/api/v0/messages/" + string(hash))

	same(t, "keys", keysOf(a.value()), []string{"item_hash", "messages", "reception_time", "status"})
	same(t, "status", a.field("status"), any("pending"))
	all := a.field("messages").([]any)
	if len(all) != 1 {
		t.Fatalf("%d messages, want 1", len(all))
	}
	same(t, "keys of the message", keysOf(all[0]), []string{
		"chain", "channel", "content", "item_content", "item_hash", "item_type", "reception_time", "sender", "signature", "time", "type",
	})
	same(t, "time", all[0].(fields)["time"], any(message.FormatISO(n.at)))
}

func TestOneMessageThatWasRejected(t *testing.T) {
	n := open(t)
	original := n.sendPost(key(t, "a"), "note", fields{}, nil)
	hash, raw := n.signed(key(t, "b"), message.TypePost, fields{"address": addressOf(key(t, "a")), "type": "amend", "ref": original, "content": fields{}})
	n.post("/api/v0/messages", fields{"message": raw})

	a := n.ok("/api/v0/messages/" + string(hash))

	want := fmt.Sprintf(`,"message":%s,"error_code":2,"details":{"errors":["Sender %s is not authorized to post on behalf of address %s"]}}`,
		raw, addressOf(key(t, "b")), addressOf(key(t, "a")))
	if !strings.HasPrefix(a.body, `{"status":"rejected","item_hash":"`+string(hash)+`","reception_time":"`) || !strings.HasSuffix(a.body, want) {
		t.Errorf("got  %s\nwant it to end with %s", a.body, want)
	}
}

func TestOneMessageThatWasForgotten(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	hash := n.sendPost(k, "note", fields{}, nil)
	forget := n.send(k, message.TypeForget, fields{"hashes": []message.ItemHash{hash}})

	a := n.ok("/api/v0/messages/" + string(hash))

	same(t, "keys", keysOf(a.value()), []string{"forgotten_by", "item_hash", "message", "reception_time", "status"})
	same(t, "keys of the message", keysOf(a.field("message")), []string{
		"chain", "channel", "forgotten_at", "item_hash", "item_type", "owner", "payment_type", "sender", "signature", "size", "time", "type",
	})
	same(t, "forgotten_by", a.field("forgotten_by"), any([]any{string(forget)}))
}

func TestMessagesThatNobodyPaysFor(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	hash := n.sendPost(k, "note", fields{}, nil)
	ctx := t.Context()
	update := func(fn func(tx *state.Tx, m *state.Message) error) {
		t.Helper()
		err := n.db.Update(ctx, func(tx *state.Tx) error {
			m, err := tx.Message(ctx, hash)
			if err != nil {
				return err
			}
			return fn(tx, m)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *state.Tx, m *state.Message) error {
		return tx.SetMessageStatus(ctx, m, state.MessageRemoving, "credit_insufficient")
	})

	a := n.ok("/api/v0/messages/" + string(hash))
	same(t, "status", a.field("status"), any("removing"))
	same(t, "reason", a.field("reason"), any("credit_insufficient"))
	same(t, "list of those that are removed", n.ok(list+"msgStatuses=removing").column("messages", "item_hash"), hashes(hash))
	same(t, "list of those that count", n.ok(list).column("messages", "item_hash"), hashes(hash))
	same(t, "content", n.get("/api/v0/messages/"+string(hash)+"/content").status, http.StatusUnprocessableEntity)

	size := int64(5)
	update(func(tx *state.Tx, m *state.Message) error {
		if _, err := tx.RemovePost(ctx, m); err != nil {
			return err
		}
		if err := tx.RemoveMessage(ctx, m); err != nil {
			return err
		}
		return tx.PutSkeleton(ctx, state.Skeleton{
			Status: state.MessageRemoved, Envelope: m.Envelope, Owner: m.Owner, SizeBytes: &size, EndedAt: n.at, Reason: "credit_insufficient", ReceivedAt: m.ReceivedAt,
		})
	})
	a = n.ok("/api/v0/messages/" + string(hash))
	same(t, "status", a.field("status"), any("removed"))
	same(t, "reason", a.field("reason"), any("credit_insufficient"))
	same(t, "removed_at", a.field("removed_at"), any(json.Number(message.FormatTime(n.at))))
	same(t, "size", a.field("size"), any(json.Number("5")))
	same(t, "keys of the message", keysOf(a.field("message")), []string{
		"chain", "channel", "item_hash", "item_type", "owner", "payment_type", "removed_at", "sender", "signature", "size", "time", "type",
	})
	same(t, "list", keysOf(n.ok(list + "msgStatuses=removed").field("messages").([]any)[0]), []string{
		"chain", "channel", "item_hash", "item_type", "owner", "payment_type", "removed_at", "sender", "signature", "size", "status", "time", "type",
	})
	same(t, "content", n.get("/api/v0/messages/"+string(hash)+"/content").body, "Message "+string(hash)+" is not processed (status: removed)")
}

func TestMessagesThatAreNotHere(t *testing.T) {
	n := open(t)
	absent := string(message.HashOf([]byte("absent")))
	for _, view := range []string{"", "/status", "/content"} {
		if a := n.get("/api/v0/messages/" + absent + view); a.status != http.StatusNotFound || a.body != "404: Not Found" {
			t.Errorf("%s: got %d %q", view, a.status, a.body)
		}
		if a := n.get("/api/v0/messages/abc" + view); a.status != http.StatusBadRequest || a.body != "Invalid message hash: abc" {
			t.Errorf("%s: got %d %q", view, a.status, a.body)
		}
	}
	same(t, "another view", n.get("/api/v0/messages/"+absent+"/other").status, http.StatusNotFound)
}

func TestStatusAndContentOfAMessage(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	post := n.sendPost(k, "note", fields{"a": 1}, nil)
	aggregate := n.send(k, message.TypeAggregate, fields{"key": "profile", "content": fields{"name": "A"}})

	a := n.ok("/api/v0/messages/" + string(post) + "/status")
	same(t, "keys", keysOf(a.value()), []string{"item_hash", "reception_time", "status"})
	same(t, "status", a.field("status"), any("processed"))
	same(t, "content of a POST", n.ok("/api/v0/messages/"+string(post)+"/content").body, `{"a":1}`)
	same(t, "content of an AGGREGATE", n.ok("/api/v0/messages/"+string(aggregate)+"/content").field("key"), any("profile"))
}

func TestConsumedCreditsAreNeverMissing(t *testing.T) {
	n := open(t)
	hash := message.HashOf([]byte("machine"))
	place := credit.Place{At: n.at, Hash: message.HashOf([]byte("expense"))}
	e := &credit.Event{Place: place, Owner: "0xC", Entries: []credit.Entry{
		{Place: place, Address: "0xA", Amount: -12, Provider: credit.Provider, Method: credit.MethodExpense, OriginRef: string(hash)},
	}}
	ctx := t.Context()
	err := n.db.Update(ctx, func(tx *state.Tx) error {
		_, err := tx.ApplyCredit(ctx, e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{string(hash): "12", string(message.HashOf([]byte("absent"))): "0", "abc": "0"} {
		same(t, name, n.ok("/api/v0/messages/"+name+"/consumed_credits").body, `{"item_hash":"`+name+`","consumed_credits":`+want+`}`)
	}
}

func TestHashesOfMessages(t *testing.T) {
	n, all := library(t)
	rejected, raw := n.signed(key(t, "b"), message.TypePost, fields{"address": addressOf(key(t, "a")), "type": "note", "content": fields{}})
	n.post("/api/v0/messages", fields{"message": raw})
	get := func(query string) []string {
		t.Helper()
		out := []string{}
		for _, v := range n.ok("/api/v0/messages/hashes?" + query).field("hashes").([]any) {
			out = append(out, v.(string))
		}
		return out
	}

	same(t, "oldest first", get("sortOrder=1"), append(pick(all, 0, 1, 2, 3, 4, 5), string(rejected)))
	same(t, "newest first", get("pagination=2"), []string{string(rejected), string(all[5])})
	same(t, "page 2", get("pagination=2&page=2"), pick(all, 4, 3))
	same(t, "of a status", get("status=rejected"), hashes(rejected))
	same(t, "none yet", get("endDate=1600000000"), []string{})
	a := n.ok("/api/v0/messages/hashes?hash_only=false&status=rejected&pagination=0")
	same(t, "keys", keysOf(a.field("hashes").([]any)[0]), []string{"item_hash", "reception_time", "status"})
	if !strings.HasSuffix(a.body, `],"pagination_item":"hashes","pagination_page":1,"pagination_per_page":0,"pagination_total":1}`) {
		t.Errorf("got %s", a.body)
	}
	same(t, "unknown status", n.get("/api/v0/messages/hashes?status=lost").status, http.StatusUnprocessableEntity)
}
