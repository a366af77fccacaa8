//go:build conformance

package conformance_test

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// credits gives credits to an address.
func (c client) credits(address string, amount int64, more ...any) string {
	c.Helper()
	entry := fields{"address": address, "amount": amount, "price": "1", "tx_hash": "0x1", "provider": "test"}
	for i := 0; i < len(more); i += 2 {
		entry[more[i].(string)] = more[i+1]
	}
	return c.send("processed", key(credits), message.TypePost, fields{"type": "aleph_credit_distribution", "content": fields{
		"distribution": fields{"token": "ALEPH", "chain": "ETH", "credits": []fields{entry}},
	}}, on("ALEPH_CREDIT"))
}

// tokens says how many an address holds.
func (c client) tokens(address string, amount float64) {
	c.Helper()
	c.send("processed", key(balances), message.TypePost, fields{"type": "balances-update", "content": fields{
		"chain": "ETH", "main_height": c.at.Load(), "balances": fields{address: amount},
	}})
}

// instance is the content of an INSTANCE that is paid by credit.
func instance(parent string, more fields) fields {
	out := fields{
		"allow_amend": false, "environment": fields{"internet": true, "hypervisor": "qemu"}, "resources": fields{"vcpus": 1, "memory": 2048, "seconds": 30},
		"rootfs":  fields{"parent": fields{"ref": parent, "use_latest": true}, "persistence": "host", "size_mib": 20480},
		"payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []fields{},
	}
	for name, value := range more {
		out[name] = value
	}
	return out
}

func TestCase23EstimatesAreExact(t *testing.T) {
	c := open(t)
	raw, err := os.ReadFile("../../protocol/testdata/vectors/cost.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			Name    string
			Type    message.Type
			Content fields
			Total   string
			Sizes   []struct {
				Type  string
				Index int
				MiB   int64
			}
			Lines []struct{ Type, Name, Hold, Stream, Credit string }
		}
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	where := map[string]string{"EXECUTION_PROGRAM_VOLUME_CODE": "code", "EXECUTION_PROGRAM_VOLUME_RUNTIME": "runtime", "EXECUTION_PROGRAM_VOLUME_DATA": "data"}
	for _, v := range vectors.Cases {
		for _, s := range v.Sizes {
			if name, ok := where[s.Type]; ok {
				v.Content[name].(fields)["estimated_size_mib"] = s.MiB
			} else {
				v.Content["volumes"].([]any)[s.Index].(fields)["estimated_size_mib"] = s.MiB
			}
		}
		typ := v.Type
		if typ == "" {
			typ = message.TypeInstance
		}
		content := c.encode(v.Content)
		a := c.post("/api/v0/price/estimate", fields{"message": fields{"type": typ, "item_type": "inline", "item_content": string(content), "item_hash": message.HashOf(content)}})
		if v.Total == "" {
			if a.status < 400 {
				t.Errorf("%s: %d %s, want a refusal: there is no price", v.Name, a.status, a.body)
			}
			continue
		}
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", v.Name, a.status, a.body)
			continue
		}
		c.same(v.Name, a.field("cost"), v.Total)
		for i, line := range v.Lines {
			for name, want := range map[string]string{"type": line.Type, "name": line.Name, "cost_hold": line.Hold, "cost_stream": line.Stream, "cost_credit": line.Credit} {
				c.same(v.Name+" "+name, a.field("detail", i, name), want)
			}
		}
	}
}

// large is more than what is stored for nothing.
const large = 26 << 20

func TestCase24FilesThatTokensPayFor(t *testing.T) {
	c := open(t)
	a, rich := key("a"), key("rich")
	// Somebody else pays for the bytes to be here.
	c.credits(addressOf(rich), 1e12)
	data := make([]byte, large)
	if _, err := io.ReadFull(rand.Reader, data); err != nil {
		t.Fatal(err)
	}
	hash := string(message.HashOf(data))
	got := c.form("/api/v0/storage/add_file", c.metadata(rich, fields{"item_type": "storage", "item_hash": hash, "payment": fields{"type": "credit", "chain": "ETH"}}),
		part{"file", "f", strings.NewReader(string(data))})
	if got.status != http.StatusOK {
		t.Fatalf("upload: %d %s", got.status, got.body)
	}
	store := func(at int64) fields { return fields{"item_type": "storage", "item_hash": hash, "time": at} }
	early := func(e *message.Envelope) { e.Time = time.Unix(1_760_000_000, 0).UTC() }
	c.tokens(addressOf(a), 8) // 26 MiB cost 8.66.
	c.send("rejected 5", a, message.TypeStore, store(1_760_000_000), early)
	c.tokens(addressOf(a), 9)
	c.send("processed", a, message.TypeStore, store(1_760_000_001), early)
	have := c.ok("/api/v0/addresses/" + addressOf(a) + "/balance")
	c.same("balance", have.field("balance"), "9.0")
	c.same("locked", have.field("locked_amount"), 8.666666658)
}

func TestCase25Credits(t *testing.T) {
	c := open(t)
	a, b := key("a"), key("b")
	channel := on("ALEPH_CREDIT")
	transfer := func(to string, amount any, more ...any) fields {
		entry := fields{"address": to, "amount": amount}
		for i := 0; i < len(more); i += 2 {
			entry[more[i].(string)] = more[i+1]
		}
		return fields{"type": "aleph_credit_transfer", "content": fields{"transfer": fields{"credits": []fields{entry}}}}
	}
	balance := func(address string, want int64) {
		t.Helper()
		c.same("credits", c.ok("/api/v0/addresses/"+address+"/balance").field("credit_balance"), want)
	}
	soon, later := time.Now().Add(time.Hour).UnixMilli(), time.Now().Add(2*time.Hour).UnixMilli()
	c.credits(addressOf(a), 1000, "expiration", soon)
	c.credits(addressOf(a), 500)
	balance(addressOf(a), 1500)

	c.send("rejected 0", a, message.TypePost, transfer(addressOf(b), 1501), channel)
	c.send("rejected 0", a, message.TypePost, transfer(addressOf(a), 1), channel)
	for _, amount := range []any{"5", 1.5, true, 0, -1} {
		c.send("rejected 0", a, message.TypePost, transfer(addressOf(b), amount), channel)
	}
	c.send("processed", a, message.TypePost, transfer(addressOf(b), 1200, "expiration", later), channel)
	balance(addressOf(a), 300)
	balance(addressOf(b), 1200)
	// What comes of the first lot ends with it, the rest when it was asked to.
	details := c.ok("/api/v0/addresses/" + addressOf(b) + "/balance?include_credit_details=true")
	c.same("amounts", string(c.encode(details.field("credit_balance_details"))), string(c.encode([]fields{
		{"expiration_date": time.UnixMilli(soon).UTC().Format("2006-01-02T15:04:05.000000Z"), "amount": 1000},
		{"expiration_date": time.UnixMilli(later).UTC().Format("2006-01-02T15:04:05.000000Z"), "amount": 200},
	})))

	c.send("processed", key(credits), message.TypePost, fields{"type": "aleph_credit_expense", "content": fields{
		"expense": fields{"credits": []fields{{"address": addressOf(a), "amount": 250, "execution_id": strings.Repeat("ab", 32), "count": 3}}},
	}}, channel)
	balance(addressOf(a), 50)
	c.send("processed", key(credits), message.TypePost, fields{"type": "aleph_credit_expense", "content": fields{
		"expense": fields{"credits": []fields{{"address": addressOf(a), "amount": 9999}}},
	}}, channel)
	balance(addressOf(a), 0)
	c.same("consumed", c.ok("/api/v0/messages/"+strings.Repeat("ab", 32)+"/consumed_credits").field("consumed_credits"), 250)

	// Others' words are posts like any other.
	c.send("processed", b, message.TypePost, fields{"type": "aleph_credit_distribution", "content": fields{
		"distribution": fields{"token": "ALEPH", "chain": "ETH", "credits": []fields{{"address": addressOf(b), "amount": 1, "price": "1", "tx_hash": "0x", "provider": "x"}}},
	}}, channel)
	balance(addressOf(b), 1200)
	sums := c.ok("/api/v0/addresses/" + addressOf(a) + "/credit_history/summary")
	c.same("incoming", sums.field("total_incoming"), 1500)
}
