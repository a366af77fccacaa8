package ccn_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// goldenCost is a case of the vectors of costs.
type goldenCost struct {
	Name    string       `json:"name"`
	Type    message.Type `json:"type"`
	Content fields       `json:"content"`
	Total   string       `json:"total"`
	Sizes   []struct {
		Type  pricing.LineType `json:"type"`
		Index int              `json:"index"`
		MiB   int64            `json:"mib"`
	} `json:"sizes"`
	Lines []struct{ Type, Name, Hold, Stream, Credit string } `json:"lines"`
}

// sized is the content with the sizes of its files said in it.
func (g *goldenCost) sized() fields {
	for _, s := range g.Sizes {
		var of any
		switch s.Type {
		case pricing.LineCode:
			of = g.Content["code"]
		case pricing.LineRuntime:
			of = g.Content["runtime"]
		case pricing.LineData:
			of = g.Content["data"]
		case pricing.LineImmutable:
			of = g.Content["volumes"].([]any)[s.Index]
		default:
		}
		of.(fields)["estimated_size_mib"] = s.MiB
	}
	return g.Content
}

func goldenCosts(t *testing.T) []goldenCost {
	t.Helper()
	raw, err := os.ReadFile("../../../protocol/testdata/vectors/cost.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []goldenCost }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 12 {
		t.Fatalf("%d cases, want 12", len(file.Cases))
	}
	return file.Cases
}

// unsigned is a message as clients ask for its price.
func unsigned(t *testing.T, typ message.Type, content fields) fields {
	t.Helper()
	raw := encode(t, content)
	return fields{"message": fields{"type": typ, "chain": "ETH", "item_type": "inline", "item_content": string(raw), "item_hash": message.HashOf(raw)}}
}

func TestEstimatesOfTheVectorsAreExact(t *testing.T) {
	n := open(t)
	for _, g := range goldenCosts(t) {
		if g.Type == "" {
			g.Type = message.TypeInstance
		}
		answers := map[string]answer{"message": n.post("/api/v0/price/estimate", unsigned(t, g.Type, g.sized()))}
		if g.Type == message.TypeInstance {
			delete(g.Content, "time")
			delete(g.Content, "allow_amend")
			answers["content"] = n.post("/api/v0/price/estimate/instance", g.Content)
		}
		for by, a := range answers {
			t.Run(g.Name+" by its "+by, func(t *testing.T) { g.check(t, a) })
		}
	}
}

func (g *goldenCost) check(t *testing.T, a answer) {
	t.Helper()
	if g.Total == "" {
		same(t, "status of what nobody sells", a.status, http.StatusUnprocessableEntity)
		return
	}
	if a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	same(t, "cost", a.field("cost"), any(g.Total))
	want, err := strconv.ParseFloat(g.Total, 64)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.field("required_tokens").(json.Number).Float64()
	if err != nil || got != want {
		t.Errorf("required_tokens = %v, %v, want %v", got, err, want)
	}
	payment := "hold"
	if p, ok := g.Content["payment"].(fields); ok {
		payment = p["type"].(string)
	}
	same(t, "payment_type", a.field("payment_type"), any(payment))
	same(t, "charged_address", a.field("charged_address"), g.Content["address"])
	lines := a.field("detail").([]any)
	if len(lines) != len(g.Lines) {
		t.Fatalf("%d lines, want %d: %s", len(lines), len(g.Lines), a.body)
	}
	for i, want := range g.Lines {
		line := lines[i].(fields)
		same(t, "keys of a line", keysOf(line), []string{"cost_credit", "cost_hold", "cost_stream", "name", "size_mib", "type"})
		for key, text := range map[string]string{"type": want.Type, "name": want.Name, "cost_hold": want.Hold, "cost_stream": want.Stream, "cost_credit": want.Credit} {
			same(t, fmt.Sprintf("%s of line %d", key, i), line[key], any(text))
		}
		disk := strings.Contains(want.Type, "VOLUME") && want.Type != string(pricing.LineDiscount)
		if (line["size_mib"] != nil) != disk {
			t.Errorf("size of line %d, %s, is %v", i, want.Name, line["size_mib"])
		}
	}
}

func TestEstimatesOfFilesUseWhatIsSaidOrKnown(t *testing.T) {
	n := open(t)
	k := key(t, "owner")
	known := n.files.put(strings.Repeat("x", 3<<19)) // 1.5 MiB
	n.send(k, message.TypeStore, fields{"item_type": "storage", "item_hash": known})
	nowhere := message.HashOf([]byte("nowhere"))
	credit := fields{"chain": "ETH", "type": "credit"}
	for name, tt := range map[string]struct {
		content fields
		cost    string
		size    any
	}{
		"known":          {fields{"item_hash": known}, "0.499999999500000000", json.Number("1.5")},
		"said":           {fields{"item_hash": nowhere, "estimated_size_mib": 30}, "9.999999990000000000", json.Number("30.0")},
		"said exactly":   {fields{"item_hash": nowhere, "estimated_size_mib": 0.5}, "0.166666666500000000", json.Number("0.5")},
		"said by credit": {fields{"item_hash": nowhere, "estimated_size_mib": 30, "payment": credit}, "0.001497290752552175", json.Number("30.0")},
		"nowhere":        {fields{"item_hash": nowhere}, "0.000000000000000000", nil},
	} {
		tt.content["item_type"] = "storage"
		a := n.post("/api/v0/price/estimate", unsigned(t, message.TypeStore, tt.content))
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
		same(t, name+" costs", a.field("cost"), any(tt.cost))
		lines := a.field("detail").([]any)
		if tt.size == nil {
			same(t, name+" lines", len(lines), 0)
			continue
		}
		same(t, name+" size", lines[0].(fields)["size_mib"], tt.size)
	}
}

func TestEstimatesOfWhatIsWrongAreRefused(t *testing.T) {
	n := open(t)
	good := goldenCosts(t)[0].Content
	post := unsigned(t, message.TypePost, fields{"type": "note", "content": fields{}})
	wrongHash := unsigned(t, message.TypeInstance, good)
	wrongHash["message"].(fields)["item_hash"] = message.HashOf([]byte("x"))
	apart := unsigned(t, message.TypeInstance, good)
	apart["message"].(fields)["item_content"] = nil
	negative := unsigned(t, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte("x")), "estimated_size_mib": -1})
	for name, body := range map[string]any{
		"nothing": fields{}, "a list": []int{1}, "no message": fields{"message": 5}, "a POST": post, "another hash": wrongHash, "content elsewhere": apart, "negative size": negative,
		"broken content": unsigned(t, message.TypeInstance, fields{"address": "0xA"}), "huge size": unsigned(t, message.TypeStore, fields{"estimated_size_mib": 1e39}),
	} {
		if a := n.post("/api/v0/price/estimate", body); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s, want 422", name, a.status, a.body)
		}
	}
	for _, body := range []any{fields{}, 5, fields{"volumes": 5}, fields{"volumes": []any{5, nil, fields{"estimated_size_mib": "x"}}}} {
		if a := n.post("/api/v0/price/estimate/instance", body); a.status != http.StatusUnprocessableEntity {
			t.Errorf("instance %v: %d %s, want 422", body, a.status, a.body)
		}
	}
}

func TestEstimatesReadContentsThatWereBrought(t *testing.T) {
	k := keeping(t, 1e9)
	raw := []byte(`{"item_hash":"` + string(message.HashOf([]byte("nowhere"))) + `","item_type":"storage","estimated_size_mib":30}`)
	want := k.post("/api/v0/price/estimate", unsigned(t, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte("nowhere")), "estimated_size_mib": 30}))
	for _, engine := range []message.ItemType{message.Storage, message.IPFS} {
		brought := k.do(http.MethodPost, "/api/v0/"+string(engine)+"/add_json", raw)
		envelope := func(hash any) fields {
			return fields{"message": fields{"type": "STORE", "chain": "ETH", "item_type": engine, "item_hash": hash, "item_content": nil}}
		}

		a := k.post("/api/v0/price/estimate", envelope(brought.field("hash")))

		if a.status != http.StatusOK || a.body != want.body {
			t.Errorf("%s: %d %s, want %s", engine, a.status, a.body, want.body)
		}
		for _, hash := range []any{nil, "x", message.HashOf([]byte("absent"))} {
			if a := k.post("/api/v0/price/estimate", envelope(hash)); a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s %v: %d %s, want 422", engine, hash, a.status, a.body)
			}
		}
	}
}

// kept keeps a file for an owner.
func (n *node) kept(k *ecdsa.PrivateKey, sizeMiB float64, more ...fields) message.ItemHash {
	n.t.Helper()
	c := fields{"item_type": "storage", "item_hash": n.files.put(n.at.String() + strings.Repeat("x", int(sizeMiB*(1<<20))-len(n.at.String())))}
	for _, m := range more {
		for key, value := range m {
			c[key] = value
		}
	}
	return n.send(k, message.TypeStore, c)
}

func TestPricesOfMessagesAreThoseAtTheirTime(t *testing.T) {
	n := open(t)
	k := key(t, "owner")
	hash := n.kept(k, 1.5)
	n.publishPrices("1")

	a := n.ok("/api/v0/price/" + string(hash))

	want := fmt.Sprintf(`{"required_tokens":0.4999999995,"payment_type":"hold","cost":"0.499999999500000000","detail":[{"type":"STORAGE","name":"STORAGE",`+
		`"cost_hold":"0.499999999500000000","cost_stream":"0.000000000000000000","cost_credit":"0.000074864537627608","size_mib":null}],"charged_address":%q}`, addressOf(k))
	same(t, "price", a.body, want)
	same(t, "with sizes", n.ok("/api/v0/price/"+string(hash)+"?include_size=true").body, strings.Replace(want, `"size_mib":null`, `"size_mib":1.5`, 1))
	same(t, "of a new one", n.ok("/api/v0/price/"+string(n.kept(k, 1.5))).field("cost"), any("1.500000000000000000"))
}

// publishPrices says what a MiB of storage costs from now on.
func (n *node) publishPrices(storage string) {
	n.t.Helper()
	n.send(key(n.t, "prices"), message.TypeAggregate, fields{"key": "pricing", "content": fields{"storage": fields{"price": fields{"storage": fields{"holding": storage, "credit": "3600"}}}}})
}

func TestPricesOfWhatIsNotThere(t *testing.T) {
	n := open(t)
	k := key(t, "owner")
	stored, post := n.kept(k, 2), n.sendPost(k, "note", fields{}, nil)
	forgotten := n.sendPost(k, "note", fields{"a": 1}, nil)
	n.send(k, message.TypeForget, fields{"hashes": []message.ItemHash{forgotten, stored}})
	pendingHash, pending := n.signed(k, message.TypePost, fields{"type": "amend", "ref": message.HashOf([]byte("absent")), "content": fields{}})
	n.post("/api/v0/messages", fields{"message": pending})
	rejectedHash, rejected := n.signed(key(t, "other"), message.TypePost, fields{"type": "amend", "ref": post, "content": fields{}})
	n.post("/api/v0/messages", fields{"message": rejected})
	for hash, want := range map[string]struct {
		status int
		text   string
	}{
		"zz":                                     {400, "Invalid message hash: zz"},
		string(message.HashOf([]byte("absent"))): {404, "Message not found with hash: "},
		string(post):                             {400, "Message is not an executable or store message: "},
		string(pendingHash):                      {404, "Message still pending: "},
		string(rejectedHash):                     {404, "This message was rejected: "},
		string(forgotten):                        {410, "This message has been forgotten: "},
	} {
		a := n.get("/api/v0/price/" + hash)
		if a.status != want.status || !strings.HasPrefix(a.body, want.text) {
			t.Errorf("%s: %d %q, want %d %q", hash, a.status, a.body, want.status, want.text)
		}
	}
	n.publishPrices("2")
	a := n.ok("/api/v0/price/" + string(stored))
	same(t, "a forgotten file costs by the prices of now", a.field("cost"), any("4.000000000000000000"))
}

// token is the word of an operator at a time.
func token(t *testing.T, k *ecdsa.PrivateKey, at time.Time) string {
	t.Helper()
	text := strconv.FormatInt(at.Unix(), 10)
	sum := sha256.Sum256([]byte(text))
	flat, err := crypto.Sign(sum[:], k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(flat[:32]), new(big.Int).SetBytes(flat[32:64])})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString([]byte(text + ":" + base64.StdEncoding.EncodeToString(der)))
}

// operated is a node whose operator the test is.
func operated(t *testing.T) (*node, *ecdsa.PrivateKey) {
	t.Helper()
	n, k := open(t), key(t, "operator")
	n.self.OperatorKey = hex.EncodeToString(crypto.CompressPubkey(&k.PublicKey))
	n.srv = ccn.New(n.self, n.parts, slog.New(slog.DiscardHandler))
	return n, k
}

func TestCostsAreComputedAgainForTheOperatorOnly(t *testing.T) {
	n, operator := operated(t)
	now := time.Now()
	good := token(t, operator, now)
	tampered := []byte(good)
	tampered[len(tampered)/2] ^= 1
	for name, tok := range map[string]string{
		"none": "", "no base64": "%%", "no signature": base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(now.Unix(), 10))), "long": strings.Repeat("A", 4096),
		"of another": token(t, key(t, "other"), now), "old": token(t, operator, now.Add(-400*time.Second)), "of the future": token(t, operator, now.Add(400*time.Second)), "changed": string(tampered),
	} {
		for _, path := range []string{"/api/v0/price/recalculate", "/api/v0/price/" + string(message.HashOf([]byte("x"))) + "/recalculate"} {
			a := n.do(http.MethodPost, path, nil, "X-Auth-Token", tok)
			if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s at %s: %d %s, want 401", name, path, a.status, a.body)
			}
		}
	}
	a := n.do(http.MethodPost, "/api/v0/price/recalculate", nil, "X-Auth-Token", good)
	same(t, "with nothing to compute", a.body, `{"message":"No messages found for cost recalculation","recalculated_count":0,"total_messages":0,"pricing_changes_found":0}`)
}

func TestCostsAreComputedAgainByThePricesOfTheirTime(t *testing.T) {
	n, operator := operated(t)
	k := key(t, "owner")
	old := n.kept(k, 1.5)
	program := n.send(k, message.TypeProgram, fields{
		"type": "vm-function", "allow_amend": false, "code": fields{"encoding": "zip", "entrypoint": "main:app", "ref": old}, "runtime": fields{"ref": old, "comment": ""},
		"environment": fields{}, "resources": fields{"vcpus": 1, "memory": 128, "seconds": 30}, "on": fields{"http": true},
	})
	n.publishPrices("1")
	young := n.kept(k, 1.5)
	post := n.sendPost(k, "note", fields{}, nil)
	ctx := t.Context()
	err := n.db.Update(ctx, func(tx *state.Tx) error {
		for _, hash := range []message.ItemHash{old, young} {
			c, err := tx.Cost(ctx, hash)
			if err != nil {
				return err
			}
			c.Hold = "7"
			if err := tx.PutCost(ctx, *c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string) answer {
		return n.do(http.MethodPost, "/api/v0/price/"+path, nil, "X-Auth-Token", token(t, operator, time.Now()))
	}
	cost := func(hash message.ItemHash) any { return n.ok("/api/v0/price/" + string(hash)).field("cost") }

	before := cost(program)
	same(t, "one", ask(string(old)+"/recalculate").body, `{"message":"Cost recalculation completed with historical pricing","recalculated_count":1,"total_messages":1,"pricing_changes_found":1}`)
	same(t, "cost of the old one", cost(old), any("0.499999999500000000"))
	same(t, "cost of the other", cost(young), any("7"))
	same(t, "all", ask("recalculate").body, `{"message":"Cost recalculation completed with historical pricing","recalculated_count":3,"total_messages":3,"pricing_changes_found":1}`)
	same(t, "cost of the old one", cost(old), any("0.499999999500000000"))
	same(t, "cost of the program", cost(program), before)
	same(t, "cost of the young one", cost(young), any("1.500000000000000000"))
	for path, want := range map[string]int{string(post) + "/recalculate": 400, string(message.HashOf([]byte("x"))) + "/recalculate": 404, "zz/recalculate": 400} {
		if a := ask(path); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
}

func TestCostsAreListedInThreeDepths(t *testing.T) {
	n := open(t)
	a, b := key(t, "a"), key(t, "b")
	n.publishPrices("1")
	hold := fields{"payment": fields{"chain": "ETH", "type": "hold"}}
	first, second, other := n.kept(a, 1.5, hold), n.kept(a, 2, hold), n.kept(b, 4, hold)
	const base = "/api/v0/costs?payment_type=hold"

	sums := n.ok(base)
	same(t, "sums", sums.body, `{"summary":{"total_consumed_credits":0,"total_cost_hold":"7.500000000000000000","total_cost_stream":"0.000000000000000000","total_cost_credit":"7.500000000000000000","resource_count":3},`+
		`"filters":{"address":null,"item_hash":null,"payment_type":"hold"},"resources":null,"pagination_page":null,"pagination_total":null,"pagination_per_page":null,"pagination_item":null}`)
	list := n.ok(base + "&include_details=1&address=" + addressOf(a))
	same(t, "resources", list.column("resources", "item_hash"), hashes(second, first))
	same(t, "sum of one owner", list.field("summary.total_cost_hold"), any("3.500000000000000000"))
	same(t, "total", fmt.Sprint(list.field("pagination_total")), "2")
	same(t, "detail", list.field("resources").([]any)[0].(fields)["detail"], any(nil))
	full := n.ok(base + "&include_details=2&include_size=true&item_hash=" + string(other))
	lines := full.field("resources").([]any)[0].(fields)["detail"].([]any)
	same(t, "size of a line", lines[0].(fields)["size_mib"], any(json.Number("4.0")))
	same(t, "none by credit", fmt.Sprint(n.ok("/api/v0/costs").field("summary.resource_count")), "0")
	for _, query := range []string{"include_details=2", "include_details=3", "pagination=9", "pagination=1001", "page=0", "payment_type=gold"} {
		if got := n.get("/api/v0/costs?" + query); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s, want 422", query, got.status, got.body)
		}
	}
}
