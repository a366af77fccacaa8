package ccn_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// wallet answers for the chain.
type wallet struct {
	credits *big.Rat
	err     error
}

func (w wallet) Runway(context.Context, string) (*big.Rat, error) { return w.credits, w.err }

// rich gives addresses tokens and credits.
func (n *node) rich(a, b string) {
	n.t.Helper()
	n.at = time.Unix(1_775_000_000, 0).UTC() // Of the new unit of credits.
	n.sendPost(key(n.t, "balances"), "balances-update", fields{"chain": "ETH", "main_height": 1, "balances": fields{a: json.Number("12.5"), b: 3}}, nil)
	n.sendPost(key(n.t, "balances"), "balances-update", fields{"chain": "SOL", "main_height": 1, "balances": fields{a: 2}}, nil)
	n.sendPost(key(n.t, "credits"), "aleph_credit_distribution", fields{"distribution": fields{"token": "ALEPH", "chain": "ETH", "credits": []fields{
		{"address": a, "amount": 1000, "price": "0.5", "tx_hash": "0x1", "provider": "WALLET"},
		{"address": a, "amount": 500, "price": "0.5", "tx_hash": "0x2", "provider": "WALLET", "expiration": 4_000_000_000_000},
		{"address": b, "amount": 7, "price": "1", "tx_hash": "0x3", "provider": "WALLET"},
	}}}, nil, onChannel("ALEPH_CREDIT"))
	n.sendPost(key(n.t, "credits"), "aleph_credit_expense", fields{"expense": fields{"credits": []fields{{"address": a, "amount": 300, "ref": "vm", "execution_id": "", "node_id": "n"}}}}, nil, onChannel("ALEPH_CREDIT"))
}

func TestBalances(t *testing.T) {
	n := open(t, func(p *ccn.Parts) { p.Purse = wallet{credits: big.NewRat(201, 2)} })
	a, b := addressOf(key(t, "a")), addressOf(key(t, "b"))
	n.rich(a, b)
	for path, want := range map[string]string{
		"/api/v0/addresses/" + a + "/balance":                                   fmt.Sprintf(`{"address":%q,"balance":14.5,"details":{"ETH":12.5,"SOL":2.0},"locked_amount":0.0,"credit_balance":1300,"credit_balance_details":null}`, a),
		"/api/v0/addresses/" + a + "/balance?chain=SOL":                         fmt.Sprintf(`{"address":%q,"balance":2.0,"details":{},"locked_amount":0.0,"credit_balance":1300,"credit_balance_details":null}`, a),
		"/api/v0/addresses/" + a + "/balance?include_credit_details=true":       fmt.Sprintf(`{"address":%q,"balance":14.5,"details":{"ETH":12.5,"SOL":2.0},"locked_amount":0.0,"credit_balance":1300,"credit_balance_details":[{"expiration_date":null,"amount":700},{"expiration_date":"2096-10-02T07:06:40Z","amount":500}]}`, a),
		"/api/v0/addresses/nobody/balance":                                      `{"address":"nobody","balance":0.0,"details":{},"locked_amount":0.0,"credit_balance":100,"credit_balance_details":null}`,
		"/api/v0/balances?min_balance=3&chains=ETH":                             fmt.Sprintf(`{"balances":[%s],"pagination_item":"balances","pagination_page":1,"pagination_per_page":100,"pagination_total":2}`, inOrder(a, `{"address":"`+a+`","balance":12.5,"chain":"ETH"}`, b, `{"address":"`+b+`","balance":3.0,"chain":"ETH"}`)),
		"/api/v0/credit_balances?min_balance=8":                                 fmt.Sprintf(`{"credit_balances":[{"address":%q,"credits":1200}],"pagination_item":"credit_balances","pagination_page":1,"pagination_per_page":100,"pagination_total":1}`, a),
		"/api/v0/addresses/" + b + "/credit_history/summary":                    fmt.Sprintf(`{"address":%q,"entry_count":1,"total_amount":7,"total_incoming":7,"total_outgoing":0}`, b),
		"/api/v0/addresses/" + a + "/credit_history/summary?direction=outgoing": fmt.Sprintf(`{"address":%q,"entry_count":1,"total_amount":-300,"total_incoming":0,"total_outgoing":-300}`, a),
	} {
		if got := n.get(path); got.status != http.StatusOK || got.body != want {
			t.Errorf("%s = %d %s\nwant %s", path, got.status, got.body, want)
		}
	}
	for path, status := range map[string]int{
		"/api/v0/addresses/" + a + "/balance?chain=NONE": 422, "/api/v0/balances?min_balance=0": 422, "/api/v0/balances?cursor=!": 422, "/api/v0/credit_balances?cursor=&pagination=0": 422,
	} {
		if got := n.get(path); got.status != status {
			t.Errorf("%s = %d %s, want %d", path, got.status, got.body, status)
		}
	}
}

// inOrder are two items in the order of their keys.
func inOrder(a, itemA, b, itemB string) string {
	if a < b {
		return itemA + "," + itemB
	}
	return itemB + "," + itemA
}

func TestTheLedgerIsToldWithoutTheChain(t *testing.T) {
	n := open(t, func(p *ccn.Parts) { p.Purse = wallet{err: errors.New("the chain is away")} })
	a := addressOf(key(t, "a"))
	n.rich(a, addressOf(key(t, "b")))
	if got := n.get(fmt.Sprintf("/api/v0/addresses/%s/balance", a)); !strings.Contains(got.body, `"credit_balance":1200,`) {
		t.Errorf("balance = %s", got.body)
	}
}

func TestCreditHistory(t *testing.T) {
	n := open(t)
	a := addressOf(key(t, "a"))
	n.rich(a, addressOf(key(t, "b")))
	history := func(query string) (amounts []string, body string) {
		got := n.get(fmt.Sprintf("/api/v0/addresses/%s/credit_history%s", a, query))
		if got.status != http.StatusOK {
			t.Fatalf("%s = %d %s", query, got.status, got.body)
		}
		var out struct {
			History []struct{ Amount json.Number } `json:"credit_history"`
		}
		if err := json.Unmarshal([]byte(got.body), &out); err != nil {
			t.Fatal(err)
		}
		for _, e := range out.History {
			amounts = append(amounts, string(e.Amount))
		}
		return amounts, got.body
	}
	for query, want := range map[string]string{
		"": "-300 500 1000", "?sort_by=amount": "1000 500 -300", "?sortBy=amount&sortOrder=1": "-300 500 1000", "?direction=incoming&sort_by=amount": "1000 500",
		"?has_expiration=true": "500", "?tx_hash=0x1": "1000", "?exclude_payment_method=credit_expense&sort_by=amount": "1000 500", "?pagination=1&page=2&sort_by=amount": "500",
	} {
		if got, body := history(query); strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s: %s", query, got, want, body)
		}
	}
	_, body := history("?direction=outgoing")
	for _, part := range []string{
		`"amount":-300,"price":null,"bonus_amount":null,"tx_hash":"n","token":null,"chain":null,"provider":"ALEPH","origin":null,"origin_ref":"vm","payment_method":"credit_expense"`,
		`"pagination_page":1,"pagination_total":1,"pagination_per_page":0}`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("no %s in %s", part, body)
		}
	}
	for _, sort := range []string{"message_timestamp", "expiration_date", "payment_method", "amount", "origin", "tx_hash", "provider"} {
		for _, order := range []string{"1", "-1"} {
			query := "?sort_by=" + sort + "&sort_order=" + order
			want, _ := history(query)
			var walked []string
			for cursor := ""; ; {
				got, body := history(query + "&pagination=1&cursor=" + cursor)
				walked = append(walked, got...)
				var next struct {
					Next *string `json:"next_cursor"`
				}
				if err := json.Unmarshal([]byte(body), &next); err != nil {
					t.Fatal(err)
				}
				if next.Next == nil {
					break
				}
				cursor = *next.Next
			}
			same(t, "walked in the order "+query, walked, want)
		}
	}
	if got := n.get("/api/v0/addresses/nobody/credit_history"); got.status != http.StatusNotFound {
		t.Errorf("of nobody: %d %s", got.status, got.body)
	}
	// A cursor is that of the reference, also in the form that it had before there were orders.
	var first struct {
		Next string `json:"next_cursor"`
	}
	if _, body := history("?pagination=1&cursor="); json.Unmarshal([]byte(body), &first) != nil {
		t.Fatal(body)
	}
	raw, err := base64.RawURLEncoding.DecodeString(first.Next)
	parts := regexp.MustCompile(`^\{"i":(\d+),"o":-1,"r":"(\w+)","s":"message_timestamp","v":"(2\S+\+00:00)"\}$`).FindStringSubmatch(string(raw))
	if err != nil || parts == nil {
		t.Fatalf("the cursor is %s, %v", raw, err)
	}
	older := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"i":%s,"r":%q,"t":%q}`, parts[1], parts[2], parts[3])))
	_, want := history("?pagination=1&cursor=" + first.Next)
	_, got := history("?pagination=1&cursor=" + older)
	same(t, "the page after an older cursor", got, want)
	for _, query := range []string{"&sort_order=1", "&sort_by=amount"} {
		if got := n.get(fmt.Sprintf("/api/v0/addresses/%s/credit_history?pagination=1&cursor=%s%s", a, first.Next, query)); got.status != http.StatusUnprocessableEntity {
			t.Errorf("a cursor of another order with %s = %d %s, want 422", query, got.status, got.body)
		}
	}
	for cursor, sort := range map[string]string{
		`{"i":0,"o":-1,"r":"x","s":"message_timestamp","v":null}`: "message_timestamp", `{"i":0,"o":-1,"r":"x","s":"amount","v":"5"}`: "amount", `{"i":0,"o":-1,"r":"x","s":"amount","v":1e300}`: "amount",
		`{"i":0,"o":-1,"r":"x","s":"origin","v":5}`: "origin", `{"i":0,"o":-1,"r":"x","s":"expiration_date","v":"soon"}`: "expiration_date", `{"i":0,"r":"x"}`: "message_timestamp",
	} {
		query := fmt.Sprintf("?pagination=1&sort_by=%s&cursor=%s", sort, base64.RawURLEncoding.EncodeToString([]byte(cursor)))
		if got := n.get(fmt.Sprintf("/api/v0/addresses/%s/credit_history%s", a, query)); got.status != http.StatusUnprocessableEntity {
			t.Errorf("cursor %s = %d %s, want 422", cursor, got.status, got.body)
		}
	}
	for _, query := range []string{"?pagination=2&page=3", "?token=none"} { // Who walks through pages ends where there is none.
		if got := n.get(fmt.Sprintf("/api/v0/addresses/%s/credit_history%s", a, query)); got.status != http.StatusNotFound || got.body != "No credit history found for this address" {
			t.Errorf("%s = %d %s, want 404", query, got.status, got.body)
		}
	}
	if got := n.get(fmt.Sprintf("/api/v0/addresses/%s/credit_history?sort_by=color", a)); got.status != http.StatusUnprocessableEntity {
		t.Errorf("in no order: %d %s", got.status, got.body)
	}
}

func TestProgramsThatMessagesStart(t *testing.T) {
	n := open(t)
	k := key(t, "a")
	code := n.send(k, message.TypeStore, fields{"item_type": "storage", "item_hash": n.files.put("code")})
	program := func(on fields) message.ItemHash {
		return n.send(k, message.TypeProgram, fields{
			"type": "vm-function", "allow_amend": false, "environment": fields{}, "resources": fields{}, "volumes": []any{}, "on": on,
			"code": fields{"encoding": "plain", "entrypoint": "main", "ref": code}, "runtime": fields{"ref": code, "comment": ""},
			"payment": fields{"type": "hold"},
		})
	}
	program(fields{"http": true})
	started := program(fields{"http": true, "message": []fields{{"channel": "C"}}})
	want := fmt.Sprintf(`[{"item_hash":%q,"content":{"on":{"message":[{"channel":"C"}]}}}]`, started)
	if got := n.get("/api/v0/programs/on/message?sort_order=1"); got.body != want {
		t.Errorf("got %s\nwant %s", got.body, want)
	}
	if got := n.get("/api/v0/programs/on/message?x=1"); got.status != http.StatusBadRequest {
		t.Errorf("an unknown parameter: %d", got.status)
	}
}
