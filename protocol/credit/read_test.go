package credit_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	authority = "0x2E4454fAD1906c0Ce6e45cBFA05cE898Ac3AC1dC"
	holder    = "0xB34f25f2c935bCA437C061547eA12851d719dEFb"
	alice     = "0xAlice"
	bob       = "0xBob"
	carol     = "0xCarol"
)

// at is a time some seconds after contents count in credits.
func at(seconds float64) time.Time {
	return credit.Network().PreciseFrom.Add(time.Duration(seconds * float64(time.Second)))
}

// post is one of the types of this package, on the right channel.
func post(typ, owner, content string) credit.Post {
	channel := "ALEPH_CREDIT"
	return credit.Post{Hash: "h", Channel: &channel, Type: typ, Owner: owner, At: at(1), Content: json.RawMessage(content)}
}

// wantRefused fails unless err is a verdict with code 0 that says what is wrong.
func wantRefused(t *testing.T, name string, err error, want string) {
	t.Helper()
	var reject *message.RejectError
	if !errors.As(err, &reject) || reject.Code != message.CodeInvalidFormat || !strings.Contains(reject.Detail, want) {
		t.Errorf("%s: %v, want code 0 and %q", name, err, want)
	}
}

type vectors struct {
	Balances []struct {
		Name    string
		Content json.RawMessage
		Tokens  map[string]string
	}
	Expense struct {
		ItemHash      message.ItemHash `json:"item_hash"`
		Channel       string
		Address, Type string
		Time          float64
		Content       json.RawMessage
		Spent         map[string]int64
	}
}

func readVectors(tb testing.TB) (v vectors) {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/credit.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.Balances) == 0 || v.Expense.ItemHash == "" {
		tb.Fatal("no cases")
	}
	return v
}

func TestBalancesOfTheNetwork(t *testing.T) {
	for _, tt := range readVectors(t).Balances {
		p := post(credit.TypeBalances, holder, string(tt.Content))
		p.Channel = nil

		b, err := credit.Network().Balances(p)
		if err != nil {
			t.Fatalf("%s: %v", tt.Name, err)
		}
		var content struct {
			Chain  message.Chain
			Dapp   string
			Height int64 `json:"main_height"`
		}
		if err := json.Unmarshal(tt.Content, &content); err != nil {
			t.Fatal(err)
		}
		if b.Chain != content.Chain || b.Dapp != content.Dapp || b.Height != content.Height || b.Hash != "h" || !b.At.Equal(at(1)) {
			t.Errorf("%s is of %s, %q, at %d, %v", tt.Name, b.Chain, b.Dapp, b.Height, b.Place)
		}
		got := map[string]string{}
		for _, one := range b.Of {
			got[one.Address] = one.Tokens.String()
		}
		if diff := cmp.Diff(tt.Tokens, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.Name, diff)
		}
	}
}

func TestAnExpenseOfTheNetwork(t *testing.T) {
	v := readVectors(t).Expense
	p := credit.Post{
		Hash: v.ItemHash, Channel: &v.Channel, Type: v.Type, Owner: v.Address,
		At: time.Unix(0, int64(math.Round(v.Time*1e9))), Content: v.Content,
	}
	e, err := credit.Network().Event(p)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for i, entry := range e.Entries {
		got[entry.Address] -= entry.Amount
		if entry.Index != i || entry.Resource() != entry.Origin || entry.Origin == "" || entry.OriginRef == "" || entry.TxHash == "" || entry.Method != "credit_expense" {
			t.Fatalf("entry %d is %+v", i, entry)
		}
	}
	if diff := cmp.Diff(v.Spent, got); diff != "" {
		t.Errorf("spent (-want +got):\n%s", diff)
	}
	if price := e.Entries[0].Price.String(); price != "15.833333333333334" {
		t.Errorf("the first price is %s", price)
	}
	if want := time.UnixMicro(1_778_060_633_717_000); !e.At.Equal(want) || e.Hash != v.ItemHash {
		t.Errorf("its place is %v, want %v", e.Place, want)
	}
}

func TestPostsThatSayNothing(t *testing.T) {
	other := "OTHER"
	event := `{"expense":{"credits":[{"address":"a","amount":1}]}}`
	for name, p := range map[string]credit.Post{
		"a distribution by somebody":            post(credit.TypeDistribution, alice, `{}{`),
		"an expense by somebody":                post(credit.TypeExpense, alice, event),
		"an expense by another case":            post(credit.TypeExpense, strings.ToLower(authority), event),
		"an expense on no channel":              {Hash: "h", Type: credit.TypeExpense, Owner: authority, Content: json.RawMessage(event)},
		"an expense on another channel":         {Hash: "h", Channel: &other, Type: credit.TypeExpense, Owner: authority, Content: json.RawMessage(event)},
		"a transfer that is null":               post(credit.TypeTransfer, alice, `null`),
		"a transfer without content":            post(credit.TypeTransfer, alice, ``),
		"an empty expense":                      post(credit.TypeExpense, authority, `{}`),
		"an empty list":                         post(credit.TypeExpense, authority, ` [] `),
		"zero":                                  post(credit.TypeExpense, authority, `0.0`),
		"false":                                 post(credit.TypeExpense, authority, `false`),
		"the empty text":                        post(credit.TypeExpense, authority, `""`),
		"another type":                          post("aleph_credit_gift", authority, event),
		"balances by somebody":                  post(credit.TypeBalances, alice, `{"chain":"ETH"}`),
		"balances by the authority for credits": post(credit.TypeBalances, authority, `{"chain":"ETH"}`),
		"empty balances":                        post(credit.TypeBalances, holder, `{}`),
	} {
		e, err := credit.Network().Event(p)
		b, errBalances := credit.Network().Balances(p)
		if e != nil || b != nil || err != nil || errBalances != nil {
			t.Errorf("%s: %v, %v, %v, %v, want nothing", name, e, err, b, errBalances)
		}
	}
}

func TestDistributionsAreRead(t *testing.T) {
	e, err := credit.Network().Event(post(credit.TypeDistribution, authority, `{"distribution":{"token":"ALEPH","chain":"ETH","credits":[
		{"address":"a","amount":5,"price":"0.50","tx_hash":"0xT","provider":"P","Amount":9,"amount":7,"expiration":1800000000500,"origin":"o","ref":"r","payment_method":"m","bonus_amount":2},
		{"address":"b","amount":1,"price":1e-3,"tx_hash":"","provider":"P","expiration":"0","origin":null,"bonus_amount":""}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	half, milli, bonus := decimal(t, "0.50"), decimal(t, "0.001"), int64(2)
	place := credit.Place{At: at(1), Hash: "h"}
	want := []credit.Entry{
		{
			Place: place, Address: "a", Amount: 7, Price: &half, Bonus: &bonus, TxHash: "0xT", Token: "ALEPH", Chain: "ETH", Provider: "P",
			Origin: "o", OriginRef: "r", Method: "m", ExpiresAt: time.UnixMilli(1_800_000_000_500).UTC(),
		},
		{Place: place, Index: 1, Address: "b", Amount: 1, Price: &milli, Token: "ALEPH", Chain: "ETH", Provider: "P"},
	}
	if diff := cmp.Diff(want, e.Entries, compare); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

var compare = cmp.Comparer(func(a, b credit.Decimal) bool { return a.String() == b.String() })

func decimal(tb testing.TB, s string) credit.Decimal {
	tb.Helper()
	d, err := credit.ParseDecimal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// TestOldContentsCountInAnotherUnit: up to the microsecond before the cut-off.
func TestOldContentsCountInAnotherUnit(t *testing.T) {
	p := post(credit.TypeTransfer, alice, `{"transfer":{"credits":[{"address":"b","amount":250}]}}`)
	for when, want := range map[time.Time]int64{at(-0.000001): 2_500_000, at(0): 250} {
		p.At = when
		e, err := credit.Network().Event(p)
		if err != nil || e.Moves[0].Amount != want || e.Need != 250 {
			t.Errorf("at %v: %+v, %v, want %d credits and a need of 250", when, e, err, want)
		}
	}
}

func TestTransfersOfTheAuthorityMakeCredits(t *testing.T) {
	e, err := credit.Network().Event(post(credit.TypeTransfer, authority, `{"transfer":{"credits":[{"address":"b","amount":5,"expiration":1800000000000},{"address":"c","amount":6}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Spends() || len(e.Entries) != 2 || e.Entries[1].Index != 1 || e.Entries[1].Amount != 6 || e.Entries[0].ExpiresAt.IsZero() || e.Entries[0].Origin != authority {
		t.Errorf("got %+v", e)
	}
}

// entry is a content with one entry: c is a whole one but for the keys of change,
// of which null takes a key away.
func entry(kind, change string) string {
	fields := map[string]map[string]any{
		"distribution": {"address": "a", "amount": 1, "price": "1", "tx_hash": "t", "provider": "p"},
		"expense":      {"address": "a", "amount": 1, "price": 1},
		"transfer":     {"address": "a", "amount": 1},
	}[kind]
	key, value, _ := strings.Cut(change, ":")
	if delete(fields, key); value != "" {
		fields[key] = json.RawMessage(value)
	}
	raw, err := json.Marshal(map[string]any{kind: map[string]any{"token": "t", "chain": "c", "credits": []any{fields}}})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// TestFieldsOfEntries holds each form of each field: what is refused, and how it
// is said.
func TestFieldsOfEntries(t *testing.T) {
	for kind, changes := range map[string]map[string]string{
		"distribution": {
			"price:\" 1_0.5e3 \"": "", "price:2": "", "price:1e300": "", "price:\"x\"": "price is not a decimal", "price:\"NaN\"": "not a decimal",
			"price:\"Infinity\"": "not a decimal", "price:null": "not a decimal", "price:true": "not a decimal", "price:\"1e9999\"": "not a decimal", "price:\"\"": "not a decimal", "price": "price is missing",
			"tx_hash": "tx_hash is missing", "tx_hash:1": "tx_hash is not a text", "tx_hash:\"\"": "", "provider": "provider is missing", "provider:null": "is not a text",
			"origin:1": "origin is not a text", "origin:\"\"": "", "ref:[]": "ref is not a text", "payment_method:{}": "payment_method is not a text",
			"bonus_amount:\"7\"": "", "bonus_amount:[]": "", "bonus_amount:-3": "", "bonus_amount:1.5": "is not an integer", "bonus_amount:\"x\"": "no whole number", "bonus_amount:true": "is not an integer",
			"expiration:1.0": "", "expiration:\"+1_0\"": "", "expiration:true": "", "expiration:-5": "", "expiration:1.5": "no whole number", "expiration:\"x\"": "no whole number",
			"expiration:253402300800000": "no whole number", "expiration:1e30": "no whole number", "expiration:[]": "no whole number",
			"amount:922337203685477580": "", "provider:\"a\\u0000b\"": "zero byte",
		},
		"expense": {
			"price": "", "price:null": "", "price:\"x\"": "not a decimal", "time:3600.489": "", "time:\"1e3\"": "", "time:\"x\"": "time is not a number", "time:[]": "time is not a number",
			"count:5": "", "count:\"5\"": "", "count:-1": "count is no whole number", "count:1.5": "count is no whole number", "size:0": "", "size:\"2.5\"": "", "size:-1": "size is less than 0", "size:[]": "not a decimal",
			"ref:1": "ref is not a text", "execution_id:1": "execution_id is not a text", "node_id:1": "node_id is not a text", "more:{}": "",
		},
		"transfer": {
			"expiration:1800000000000": "", "expiration:null": "", "address:\"0xAlice\"": "is that of the sender",
		},
	} {
		for change, want := range map[string]string{
			"address": "credits[0].address is missing", "address:\"\"": "address is empty", "address:\" \\t\"": "address is empty", "address:1": "address is not a text",
			"amount": "amount is missing", "amount:0": "is 0", "amount:-3": "is -3", "amount:1.0": "is not an integer", "amount:1e3": "is not an integer", "amount:\"1\"": "is not an integer",
			"amount:true": "is not an integer", "amount:null": "is not an integer", "amount:9223372036854775807": "", "amount:9223372036854775808": "out of range",
		} {
			changes[change] = want
		}
		for change, want := range changes {
			owner := authority
			if kind == "transfer" {
				owner = alice
			}
			e, err := credit.Network().Event(post("aleph_credit_"+kind, owner, entry(kind, change)))
			if want != "" {
				wantRefused(t, kind+" "+change, err, want)
			} else if err != nil || e == nil {
				t.Errorf("%s %s: %v, %v, want an event", kind, change, e, err)
			}
		}
	}
}

func TestContentsThatAreRefused(t *testing.T) {
	for content, want := range map[string]string{
		`"text"`: "content is not an object", `[1]`: "content is not an object", `{`: "content is not JSON", `{"transfer":{}} {}`: "more than one JSON value",
		`{"Transfer":{"credits":[]}}`: "content.transfer is missing", `{"transfer":null}`: "content.transfer is not an object", `{"transfer":{}}`: "credits is missing",
		`{"transfer":{"credits":[]}}`: "is not a list with elements", `{"transfer":{"credits":{}}}`: "is not a list", `{"transfer":{"credits":[1]}}`: "credits[0] is not an object",
		`{"transfer":{"credits":[{"address":"b","amount":1},{"address":"b","amount":1}]}}`:                           `credits[1].address is "b", which is there twice`,
		`{"transfer":{"credits":[{"address":"b","amount":9223372036854775807},{"address":"c","amount":1}]}}`:         "sum that is out of range",
		`{"transfer":{"credits":[{"address":"b","amount":1},{"address":"c","amount":1,"expiration":"2026-01-01"}]}}`: "credits[1].expiration is no whole number",
	} {
		_, err := credit.Network().Event(post(credit.TypeTransfer, alice, content))
		wantRefused(t, content, err, want)
	}
	old := post(credit.TypeTransfer, alice, `{"transfer":{"credits":[{"address":"b","amount":922337203685478}]}}`)
	old.At = at(-1)
	_, err := credit.Network().Event(old)
	wantRefused(t, "an old amount that is too large", err, "out of range")
	_, err = credit.Network().Event(post(credit.TypeTransfer, "a\x00", `{"transfer":{"credits":[{"address":"b","amount":1}]}}`))
	wantRefused(t, "an owner that cannot be kept", err, "address has a zero byte")
	_, err = credit.Network().Event(post(credit.TypeDistribution, authority, `{"distribution":{"chain":"c","credits":[{}]}}`))
	wantRefused(t, "no token", err, "token is missing")

	for content, want := range map[string]string{
		`{"main_height":1,"balances":{}}`: "content.chain is missing", `{"chain":"ETH","balances":{}}`: "content.main_height is missing",
		`{"chain":"ETH","main_height":1}`: "content.balances is missing", `{"chain":"XX","main_height":1,"balances":{}}`: `chain is "XX", which is no chain`,
		`{"chain":"ETH","main_height":1.5,"balances":{}}`: "main_height is not an integer", `{"chain":"ETH","main_height":null,"balances":{}}`: "main_height is not an integer",
		`{"chain":"ETH","main_height":1,"balances":[]}`: "balances is not an object", `{"chain":"ETH","main_height":1,"balances":{"a":null}}`: "content.balances.a is not a decimal",
		`{"chain":"ETH","main_height":1,"balances":{"":1}}`: "balances has an address that is empty", `{"chain":"ETH","main_height":1,"dapp":1,"balances":{"a":1}}`: "dapp is not a text",
		`"x"`: "content is not an object",
	} {
		_, err := credit.Network().Balances(post(credit.TypeBalances, holder, content))
		wantRefused(t, content, err, want)
	}
	b, err := credit.Network().Balances(post(credit.TypeBalances, holder, `{"chain":"ETH","main_height":"12","dapp":null,"balances":{"a":"1.5"}}`))
	if err != nil || b.Height != 12 || b.Of[0].Tokens.String() != "1.5" {
		t.Errorf("numbers as texts: %+v, %v", b, err)
	}
}

func TestDecimals(t *testing.T) {
	for s, want := range map[string]string{
		"0": "0", "-0": "0", "1": "1", "+1.50": "1.50", "-.5": "-0.5", "5.": "5", "1e3": "1000", "1.25e1": "12.5", "1E-7": "0.0000001", "-12e-1": "-1.2",
		"12447.999999999984": "12447.999999999984", "00.10": "0.10",
	} {
		d, err := credit.ParseDecimal(s)
		if err != nil || d.String() != want {
			t.Errorf("%s is %s, %v, want %s", s, d, err, want)
		}
	}
	for _, s := range []string{"", ".", "-", "e1", "1e", "1e1.5", "1e2000", "0x1", "1 ", "١", "nan", "--1", strings.Repeat("1", 1001)} {
		if d, err := credit.ParseDecimal(s); err == nil {
			t.Errorf("%q is %s, want none", s, d)
		}
	}
	for s, want := range map[string]int64{
		"0": 0, "1.9": 1, "-0.1": -1, "-2": -2, "1e30": math.MaxInt64, "-1e30": math.MinInt64, "9223372036854775807.5": math.MaxInt64,
	} {
		if got := decimal(t, s).Floor(); got != want {
			t.Errorf("the floor of %s is %d, want %d", s, got, want)
		}
	}
	sum := decimal(t, "0.1").Add(decimal(t, "2.25")).Add(credit.Decimal{})
	if sum.String() != "2.35" || sum.Float64() != 2.35 || sum.Cmp(decimal(t, "2.3500")) != 0 || sum.Sign() != 1 {
		t.Errorf("0.1 + 2.25 is %s", sum)
	}
	var back credit.Decimal
	if text, err := sum.MarshalText(); err != nil || back.UnmarshalText(text) != nil || back.String() != "2.35" {
		t.Errorf("2.35 comes back as %s", back)
	}
}

// FuzzPosts: no content stops a node, and what is accepted holds the ledger's
// rules.
func FuzzPosts(f *testing.F) {
	v := readVectors(f)
	for _, b := range v.Balances {
		f.Add(byte(0), []byte(b.Content))
	}
	f.Add(byte(2), []byte(`{"expense":{"credits":[{"address":"a","amount":1,"price":15.83,"time":3600.4,"count":1,"size":"2.5","ref":"r"}]}}`))
	f.Add(byte(1), []byte(entry("distribution", "expiration:1800000000000")))
	f.Add(byte(3), []byte(entry("transfer", "")))
	types := []string{credit.TypeBalances, credit.TypeDistribution, credit.TypeExpense, credit.TypeTransfer}
	f.Fuzz(func(t *testing.T, typ byte, raw []byte) {
		for _, owner := range []string{authority, holder, alice} {
			p := post(types[int(typ)%len(types)], owner, string(raw))
			p.At = at(float64(typ) - 100)
			b, errB := credit.Network().Balances(p)
			e, errE := credit.Network().Event(p)
			for _, err := range []error{errB, errE} {
				var rejected *message.RejectError
				if err != nil && !errors.As(err, &rejected) {
					t.Fatalf("error is %T, want *RejectError", err)
				}
			}
			if b != nil {
				for _, one := range b.Of {
					if again, err := credit.ParseDecimal(one.Tokens.String()); err != nil || again.Cmp(one.Tokens) != 0 {
						t.Fatalf("%s reads back as %s, %v", one.Tokens, again, err)
					}
				}
			}
			if e != nil {
				checkEvent(t, e)
			}
		}
	})
}

// checkEvent holds what is spent to what there was.
func checkEvent(t *testing.T, e *credit.Event) {
	t.Helper()
	if len(e.Entries)+len(e.Moves) == 0 {
		t.Fatal("an event does nothing")
	}
	var l credit.Ledger
	const plenty = 1 << 40
	for i, address := range e.Payers() {
		l.Add(&credit.Event{Place: credit.Place{Hash: message.ItemHash("lot")}, Entries: []credit.Entry{{Index: i, Address: address, Amount: plenty}}})
	}
	l.Add(e)
	for _, lot := range l.Lots() {
		if lot.Remaining < 0 || lot.Remaining > lot.Amount || lot.Amount <= 0 {
			t.Fatalf("a lot is %+v", lot)
		}
	}
}
