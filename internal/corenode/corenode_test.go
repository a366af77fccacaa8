package corenode_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

var (
	_ executor.CoreNodes = (*corenode.Client)(nil)
	_ executor.Messages  = (*corenode.Client)(nil)
)

// network has servers by host. Those that it lacks cannot be reached.
type network struct {
	mu      sync.Mutex
	servers map[string]http.HandlerFunc
	asked   []string // Hosts, in order.
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, r.URL.Host)
	h := n.servers[r.URL.Host]
	n.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	if r.Body != nil {
		defer r.Body.Close()
	}
	w, done := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		h(w, r)
	}()
	<-done
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// hosts are those that were asked since the last time.
func (n *network) hosts() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := strings.Join(n.asked, " ")
	n.asked = nil
	return out
}

// open returns a client of the servers a, b, c... of a network.
func open(t *testing.T, n *network, change ...func(*corenode.Config)) *corenode.Client {
	t.Helper()
	cfg := corenode.DefaultConfig()
	cfg.AnswerMaxBytes = 1 << 20
	for _, host := range []string{"a", "b", "c"} {
		cfg.Servers = append(cfg.Servers, "https://"+host+"/")
	}
	for _, fn := range change {
		fn(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	c, err := corenode.New(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.Through(n)
	return c
}

// says answers with JSON.
func says(body string) http.HandlerFunc { return answers(200, "application/json; charset=utf-8", body) }

func answers(status int, kind, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func unknown() http.HandlerFunc { return answers(404, "text/plain; charset=utf-8", "404: Not Found") }

// silent never answers.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

var hash = message.HashOf([]byte("a machine"))

func standing(status string) http.HandlerFunc {
	return says(fmt.Sprintf(`{"status":%q,"item_hash":%q,"reception_time":"2026-01-01T00:00:00Z"}`, status, hash))
}

func key(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("corenode test " + name)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

type fields = map[string]any

// signed is a message of a content.
func signed(t testing.TB, k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) *message.Envelope {
	t.Helper()
	at := time.Unix(1_775_000_000, 0).UTC()
	if content["address"] == nil {
		content["address"] = addressOf(k)
	}
	if content["time"] == nil {
		content["time"] = at.Unix()
	}
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Time: at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	for _, fn := range change {
		fn(e)
	}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// shown is a message as servers show it.
func shown(t testing.TB, e *message.Envelope, status string, change ...func(fields)) string {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var m fields
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	m["content"], m["confirmed"], m["confirmations"] = fields{"address": "whatever"}, false, []any{}
	out := fields{"status": status, "item_hash": e.ItemHash, "reception_time": "2026-01-01T00:00:00Z", "message": m}
	for _, fn := range change {
		fn(out)
	}
	if raw, err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func wantKind(t *testing.T, what string, err error, want errs.Kind) {
	t.Helper()
	if got := errs.KindOf(err); got != want {
		t.Errorf("%s: kind %q (%v), want %q", what, got, err, want)
	}
}

func TestServersAreAskedInOrderUntilOneAnswers(t *testing.T) {
	good := standing("processed")
	huge := says(`{"status":"processed","item_hash":"` + string(hash) + `","x":"` + strings.Repeat("x", 1<<20) + `"}`)
	page := answers(404, "text/html", "<h1>no such server</h1>")
	moved := answers(302, "text/plain", "", "Location", "https://c/api/v0/messages/x/status")
	for name, tt := range map[string]struct {
		a, b, c http.HandlerFunc
		want    string
		kind    errs.Kind
		asked   string
	}{
		"the first answers":                   {good, nil, nil, "processed", "", "a"},
		"the first is away":                   {nil, good, nil, "processed", "", "a b"},
		"the first never answers":             {silent, good, nil, "processed", "", "a b"},
		"the first is broken":                 {answers(500, "application/json", `{"status":"processed"}`), good, nil, "processed", "", "a b"},
		"the first sends a page":              {answers(200, "text/html", `{"status":"processed","item_hash":"`+string(hash)+`"}`), good, nil, "processed", "", "a b"},
		"the first says JSON, and is none":    {says("<html>"), good, nil, "processed", "", "a b"},
		"the first sends too much":            {huge, good, nil, "processed", "", "a b"},
		"the first tells of another message":  {says(`{"status":"forgotten","item_hash":"` + string(message.HashOf(nil)) + `"}`), good, nil, "processed", "", "a b"},
		"the first knows another word":        {standing("lost"), good, nil, "processed", "", "a b"},
		"the first sends elsewhere":           {moved, good, nil, "processed", "", "a b"},
		"nobody sends elsewhere":              {moved, nil, nil, "", errs.Unavailable, "a b c"},
		"nobody answers":                      {nil, silent, answers(502, "text/html", "bad gateway"), "", errs.Unavailable, "a b c"},
		"one does not know it":                {unknown(), unknown(), good, "processed", "", "a b c"},
		"all who can be reached do not":       {unknown(), nil, silent, "", errs.NotFound, "a b c"},
		"one that is broken may know it":      {unknown(), answers(500, "text/plain", ""), unknown(), "", errs.Unavailable, "a b c"},
		"a proxy's page is no word of it":     {page, nil, unknown(), "", errs.Unavailable, "a b c"},
		"one that forgot it is no end":        {standing("forgotten"), nil, standing("removing"), "removing", "", "a b c"},
		"forgotten, and nobody has it":        {unknown(), standing("forgotten"), nil, "forgotten", "", "a b c"},
		"one has not got to it yet":           {standing("pending"), standing("rejected"), nil, "rejected", "", "a b c"},
		"an answer that breaks off in a word": {says(`{"status":"processed","item_ha`), nil, nil, "", errs.Unavailable, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{servers: map[string]http.HandlerFunc{"a": tt.a, "b": tt.b, "c": tt.c}}
				got, err := open(t, n).Standing(t.Context(), hash)
				if got != tt.want && err == nil {
					t.Errorf("standing is %q, want %q", got, tt.want)
				}
				wantKind(t, "error", err, tt.kind)
				if asked := n.hosts(); asked != tt.asked {
					t.Errorf("asked %q, want %q", asked, tt.asked)
				}
				if err != nil && errs.KindOf(err) == errs.Unavailable && strings.Contains(errs.Public(err), "://") {
					t.Errorf("strangers are told %q", errs.Public(err))
				}
			})
		})
	}
}

func TestNobodyIsAskedWithoutServers(t *testing.T) {
	c := open(t, &network{}, func(cfg *corenode.Config) { cfg.Servers = nil })
	_, err := c.Standing(t.Context(), hash)
	wantKind(t, "standing", err, errs.Unavailable)
}

func TestAServerThatIsAwayIsAskedLastForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]http.HandlerFunc{"b": standing("processed")}}
		c := open(t, n, func(cfg *corenode.Config) { cfg.StandingTTL = 0 })
		for _, step := range []struct {
			after time.Duration
			asked string
		}{{0, "a b"}, {29 * time.Second, "b"}, {2 * time.Second, "a b"}} {
			time.Sleep(step.after)
			if _, err := c.Standing(t.Context(), hash); err != nil {
				t.Fatal(err)
			}
			if got := n.hosts(); got != step.asked {
				t.Errorf("%v later, asked %q, want %q", step.after, got, step.asked)
			}
		}
	})
}

func TestBusyServersAreLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		header   []string
		times    int // How often it is busy.
		from, to time.Duration
		kind     errs.Kind
		asked    string
	}{
		"for milliseconds":         {[]string{"X-Retry-In", "105.8ms", "Retry-After", "9"}, 1, 105 * time.Millisecond, 160 * time.Millisecond, "", "a a"},
		"for seconds":              {[]string{"X-Retry-In", "2s"}, 1, 2 * time.Second, 3 * time.Second, "", "a a"},
		"for bare seconds":         {[]string{"X-Retry-In", "1.5"}, 1, 1500 * time.Millisecond, 2300 * time.Millisecond, "", "a a"},
		"as proxies say it":        {[]string{"Retry-After", "3"}, 1, 3 * time.Second, 4600 * time.Millisecond, "", "a a"},
		"until a date":             {[]string{"Retry-After", "Sat, 01 Jan 2000 00:00:04 GMT"}, 1, 4 * time.Second, 6 * time.Second, "", "a a"},
		"for a time it leaves out": {nil, 1, time.Second, 1600 * time.Millisecond, "", "a a"},
		"for nonsense":             {[]string{"X-Retry-In", "-5s", "Retry-After", "soon"}, 1, time.Second, 1600 * time.Millisecond, "", "a a"},
		"again and again":          {nil, 3, 3 * time.Second, 5 * time.Second, "", "a a a a"},
		"once too often":           {nil, 4, 3 * time.Second, 5 * time.Second, errs.Unavailable, "a a a a"},
		"for too long":             {[]string{"Retry-After", "3600"}, 1, 0, 0, errs.Unavailable, "a"},
		"for ever":                 {[]string{"Retry-After", "1e300"}, 1, time.Second, 1600 * time.Millisecond, "", "a a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left, began := tt.times, time.Now()
				n := &network{servers: map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					if left--; left >= 0 {
						answers(429, "text/plain", "", tt.header...)(w, r)
						return
					}
					standing("processed")(w, r)
				}}}
				c := open(t, n, func(cfg *corenode.Config) { cfg.Servers = []string{"https://a"} })
				_, err := c.Standing(t.Context(), hash)
				wantKind(t, "error", err, tt.kind)
				if took := time.Since(began); took < tt.from || took > tt.to {
					t.Errorf("took %v, want %v to %v", took, tt.from, tt.to)
				}
				if got := n.hosts(); got != tt.asked {
					t.Errorf("asked %q, want %q", got, tt.asked)
				}
			})
		})
	}
}

func TestAnotherServerIsAskedBeforeABusyOneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]http.HandlerFunc{"a": answers(429, "text/plain", ""), "b": unknown(), "c": standing("processed")}}
		if _, err := open(t, n).Standing(t.Context(), hash); err != nil {
			t.Fatal(err)
		}
		if got := n.hosts(); got != "a b c" {
			t.Errorf("asked %q, want each once", got)
		}
		// One that stays busy may know what the others do not.
		n.servers["c"] = unknown()
		_, err := open(t, n).Standing(t.Context(), hash)
		wantKind(t, "standing", err, errs.Unavailable)
	})
}

func TestWhoGivesUpIsNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]http.HandlerFunc{"a": silent}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		c := open(t, n)
		_, err := c.Standing(ctx, hash)
		wantKind(t, "standing", err, errs.Unavailable)
		_, err = c.Message(ctx, hash)
		wantKind(t, "message", err, errs.Unavailable)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want a second", took)
		}
	})
}

func TestOnlyThatAMessageIsThereIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]http.HandlerFunc{}}
		c := open(t, n, func(cfg *corenode.Config) { cfg.Servers = []string{"https://a"} })
		for i, step := range []struct {
			after  time.Duration
			server http.HandlerFunc
			want   string
			asked  int
		}{
			{0, standing("processed"), "processed", 1},
			{29 * time.Second, standing("forgotten"), "processed", 0},
			{2 * time.Second, standing("forgotten"), "forgotten", 1},
			{0, standing("forgotten"), "forgotten", 1},
			{0, unknown(), "", 1},
			{0, standing("pending"), "pending", 1},
			{0, standing("processed"), "processed", 1},
			{0, nil, "processed", 0},
		} {
			time.Sleep(step.after)
			n.servers["a"] = step.server
			got, _ := c.Standing(t.Context(), hash)
			if asked := len(strings.Fields(n.hosts())); got != step.want || asked != step.asked {
				t.Errorf("step %d: %q after %d requests, want %q after %d", i, got, asked, step.want, step.asked)
			}
		}
	})
}

func TestWhoWantTheSameShareAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			says(`{"cost":"0.5"}`)(w, r)
		}}}
		c := open(t, n)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				price, err := c.Price(t.Context(), hash)
				if err != nil || price.Cmp(big.NewRat(1, 2)) != 0 {
					t.Errorf("price is %v, %v", price, err)
					return
				}
				price.SetInt64(7) // It is the caller's own.
			})
		}
		wg.Wait()
		if got := n.hosts(); got != "a" {
			t.Errorf("asked %q, want one request", got)
		}
		if price, err := c.Price(t.Context(), hash); err != nil || price.Cmp(big.NewRat(1, 2)) != 0 {
			t.Errorf("what is kept is %v, %v", price, err)
		}
	})
}

func TestRequestsAtOneTimeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		n := &network{servers: map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			says(`{"cost":"0.5"}`)(w, r)
		}}}
		c := open(t, n, func(cfg *corenode.Config) { cfg.Parallel = 3 })
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if _, err := c.Price(t.Context(), message.HashOf([]byte{byte(i)})); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 3 {
			t.Errorf("%d ran at one time, want 3", most)
		}
	})
}

func TestPricesAreReadExactly(t *testing.T) {
	for body, want := range map[string]string{
		`{"cost":"3.958333333333333333","payment_type":"credit"}`: "3.958333333333333333",
		`{"cost":"0.000000000000000001"}`:                         "0.000000000000000001",
		`{"cost":1000,"required_tokens":7}`:                       "1000",
		`{"cost":1e-5}`:                                           "0.00001",
		`{"cost":"0"}`:                                            "0",
		`{"required_tokens":7}`:                                   "",
		`{"cost":null}`:                                           "",
		`{"cost":""}`:                                             "",
		`{"cost":"-1"}`:                                           "",
		`{"cost":"NaN"}`:                                          "",
		`{"cost":"1/3"}`:                                          "",
		`{"cost":"0x10"}`:                                         "",
		`{"cost":1e999999999}`:                                    "",
		`{"cost":"` + strings.Repeat("9", 100_000) + `"}`:         "",
		`{"cost":["1"]}`:                                          "",
		`[]`:                                                      "",
		`{"cost":"1"} {"cost":"2"}`:                               "",
		strings.Repeat(`{"cost":`, 20_000) + "1" + strings.Repeat("}", 20_000): "",
	} {
		c := open(t, &network{servers: map[string]http.HandlerFunc{"a": says(body)}})
		got, err := c.Price(t.Context(), hash)
		if want == "" {
			wantKind(t, "price of "+body[:min(len(body), 80)], err, errs.Unavailable)
			continue
		}
		exact, _ := new(big.Rat).SetString(want)
		if err != nil || got.Cmp(exact) != 0 {
			t.Errorf("price of %s is %v, %v, want %s", body, got, err, want)
		}
	}
}

func TestAMessageWithoutPriceIsNotFound(t *testing.T) {
	c := open(t, &network{servers: map[string]http.HandlerFunc{"a": unknown(), "b": answers(410, "text/plain", "forgotten"), "c": unknown()}})
	_, err := c.Price(t.Context(), hash)
	wantKind(t, "price", err, errs.NotFound)
}

func TestBalances(t *testing.T) {
	const address = "0xA07B1214bAe0D5ccAA25449C3149c0aC83658874"
	for body, want := range map[string][2]string{
		`{"address":"` + address + `","balance":14.5,"credit_balance":9007199254740993}`:                      {"14.5", "9007199254740993"},
		`{"address":"` + strings.ToLower(address) + `","balance":0.0,"credit_balance":-12,"locked_amount":1}`: {"0", "-12"},
		`{"address":"0xB0","balance":14.5,"credit_balance":1}`:                                                {},
		`{"address":"` + address + `","balance":14.5}`:                                                        {},
		`{"address":"` + address + `","credit_balance":5}`:                                                    {},
		`{"address":"` + address + `","balance":true,"credit_balance":5}`:                                     {},
		`{"address":"` + address + `","balance":"--1","credit_balance":5}`:                                    {},
	} {
		c := open(t, &network{servers: map[string]http.HandlerFunc{"a": says(body)}})
		held, credits, err := c.Balance(t.Context(), address)
		if want[0] == "" {
			wantKind(t, body, err, errs.Unavailable)
			continue
		}
		a, _ := new(big.Rat).SetString(want[0])
		b, _ := new(big.Rat).SetString(want[1])
		if err != nil || held.Cmp(a) != 0 || credits.Cmp(b) != 0 {
			t.Errorf("%s = %v, %v, %v", body, held, credits, err)
		}
	}
}

func TestNamesCannotLeadElsewhere(t *testing.T) {
	n := &network{}
	c := open(t, n)
	for _, name := range []string{"", "..", "../x", "a/b", "a?b", "a%2fb", "a b", "é", strings.Repeat("a", 129)} {
		_, _, err := c.Balance(t.Context(), name)
		wantKind(t, "balance of "+name, err, errs.Invalid)
		_, err = c.Aggregate(t.Context(), name, "k")
		wantKind(t, "aggregate of "+name, err, errs.Invalid)
		_, err = c.Aggregate(t.Context(), "0xA", name)
		wantKind(t, "aggregate "+name, err, errs.Invalid)
		_, err = c.Security(t.Context(), name)
		wantKind(t, "rights of "+name, err, errs.Invalid)
		_, err = c.NodeHash(t.Context(), name, "node.example")
		wantKind(t, "node of "+name, err, errs.Invalid)
		_, err = c.Message(t.Context(), message.ItemHash(name))
		wantKind(t, "message "+name, err, errs.Invalid)
	}
	if asked := n.hosts(); asked != "" {
		t.Errorf("asked %s", asked)
	}
}

func TestMessagesAreChecked(t *testing.T) {
	e := signed(t, key(t, "owner"), message.TypePost, fields{"type": "note", "content": fields{"a": 1}})
	other := signed(t, key(t, "owner"), message.TypePost, fields{"type": "note", "content": fields{"a": 2}})
	change := func(key string, value any) func(fields) {
		return func(out fields) { out["message"].(fields)[key] = value }
	}
	for name, tt := range map[string]struct {
		body string
		kind errs.Kind
	}{
		"good":                  {shown(t, e, "processed"), ""},
		"good, to be removed":   {shown(t, e, "removing"), ""},
		"another content":       {shown(t, e, "processed", change("item_content", other.ItemContent)), errs.Unavailable},
		"another sender":        {shown(t, e, "processed", change("sender", addressOf(key(t, "thief")))), errs.Unavailable},
		"another signature":     {shown(t, e, "processed", change("signature", other.Signature)), errs.Unavailable},
		"no signature":          {shown(t, e, "processed", change("signature", nil)), errs.Unavailable},
		"another type":          {shown(t, e, "processed", change("type", "FORGET")), errs.Unavailable},
		"another message":       {strings.ReplaceAll(shown(t, other, "processed"), `"item_hash":"`+string(other.ItemHash)+`","message"`, `"item_hash":"`+string(e.ItemHash)+`","message"`), errs.Unavailable},
		"another hash":          {shown(t, e, "processed", func(out fields) { out["item_hash"] = other.ItemHash }), errs.Unavailable},
		"no message":            {shown(t, e, "processed", func(out fields) { delete(out, "message") }), errs.Unavailable},
		"a message that's text": {shown(t, e, "processed", func(out fields) { out["message"] = "x" }), errs.Unavailable},
		"pending":               {shown(t, e, "pending"), errs.Unavailable},
		"forgotten":             {shown(t, e, "forgotten"), errs.NotFound},
		"rejected":              {shown(t, e, "rejected"), errs.NotFound},
		"removed":               {shown(t, e, "removed"), errs.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			n := &network{servers: map[string]http.HandlerFunc{"a": says(tt.body)}}
			got, err := open(t, n).Message(t.Context(), e.ItemHash)
			wantKind(t, "error", err, tt.kind)
			if err == nil && (got.ItemContent != e.ItemContent || got.Sender != e.Sender || !got.Time.Equal(e.Time)) {
				t.Errorf("got %+v, want %+v", got, e)
			}
			// Who has it is believed before who has not, as it can be checked.
			n.servers["b"] = says(shown(t, e, "processed"))
			if _, err := open(t, n).Message(t.Context(), e.ItemHash); err != nil {
				t.Errorf("with another server: %v", err)
			}
		})
	}
}

func TestContentsThatAreStoredAreChecked(t *testing.T) {
	k := key(t, "owner")
	raw := []byte(`{"address":"` + addressOf(k) + `","time":1775000000,"type":"note","content":{"a":1}}`)
	stored := func(e *message.Envelope) {
		e.ItemType, e.ItemContent, e.ItemHash = message.Storage, "", message.HashOf(raw)
	}
	e := signed(t, k, message.TypePost, fields{}, stored)
	n := &network{servers: map[string]http.HandlerFunc{"a": answers(200, "application/octet-stream", "other"), "b": answers(200, "application/octet-stream", string(raw))}}
	c := open(t, n)
	content, err := c.Content(t.Context(), e)
	post, ok := content.(*message.Post)
	if err != nil || !ok || post.Type != "note" {
		t.Errorf("content is %v, %v", content, err)
	}
	if got := n.hosts(); got != "a b" {
		t.Errorf("asked %q", got)
	}
	delete(n.servers, "b")
	_, err = c.Content(t.Context(), e)
	wantKind(t, "bytes that are others", err, errs.Unavailable)
	e.ItemType, e.ItemHash = message.IPFS, "QmTzQ1JRkWErjk39mryYw2WVaphAZNAREyMchXzYQ7c15n"
	_, err = c.Content(t.Context(), e)
	wantKind(t, "content in IPFS", err, errs.Unavailable)
}

func TestAggregatesAreReadAnewAndRightsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const owner = "0xA07B1214bAe0D5ccAA25449C3149c0aC83658874"
		n := &network{servers: map[string]http.HandlerFunc{}}
		c := open(t, n, func(cfg *corenode.Config) { cfg.Servers = []string{"https://a/base"} })
		var path string
		set := func(body string) {
			n.servers["a"] = func(w http.ResponseWriter, r *http.Request) {
				path = r.URL.RequestURI()
				says(body)(w, r)
			}
		}
		for _, value := range []string{`{"x":1}`, `5`} {
			set(`{"address":"` + owner + `","data":{"port-forwarding":` + value + `}}`)
			if got, err := c.Aggregate(t.Context(), owner, "port-forwarding"); err != nil || string(got) != value {
				t.Errorf("aggregate is %s, %v, want %s", got, err, value)
			}
		}
		if want := "/base/api/v0/aggregates/" + owner + ".json?keys=port-forwarding"; path != want {
			t.Errorf("asked for %s, want %s", path, want)
		}
		for body, kind := range map[string]errs.Kind{
			`{"address":"` + owner + `","data":{}}`: errs.NotFound, `{"address":"` + owner + `","data":{"port-forwarding":null}}`: errs.NotFound,
			`{"address":"0xB0","data":{"port-forwarding":1}}`: errs.Unavailable, `{"address":"` + owner + `"}`: errs.Unavailable, `{}`: errs.Unavailable,
		} {
			set(body)
			_, err := c.Aggregate(t.Context(), owner, "port-forwarding")
			wantKind(t, body, err, kind)
		}

		set(`{"address":"` + owner + `","data":{"security":{"authorizations":[{"address":"0xD0"}]}}}`)
		s, err := c.Security(t.Context(), owner)
		if err != nil || len(s.Grants) != 1 || s.Grants[0].Address != "0xD0" {
			t.Errorf("rights are %v, %v", s, err)
		}
		delete(n.servers, "a")
		if again, err := c.Security(t.Context(), owner); err != nil || len(again.Grants) != 1 {
			t.Errorf("rights that are kept are %v, %v", again, err)
		}
		time.Sleep(121 * time.Second)
		_, err = c.Security(t.Context(), owner)
		wantKind(t, "rights that nobody tells any more", err, errs.Unavailable)
		n.servers["a"] = unknown()
		if s, err := c.Security(t.Context(), owner); err != nil || len(s.Grants) != 0 {
			t.Errorf("rights of one who gave none are %v, %v", s, err)
		}
	})
}

func TestSchedulersAreThoseOfTheSettings(t *testing.T) {
	a := common.HexToAddress("0x2937f62e5F81A88e921f883f8fE56ceCf4A4A44A")
	settings := func(value string) http.HandlerFunc {
		return says(`{"address":"` + corenode.DefaultConfig().SettingsAddress + `","data":{"settings":` + value + `}}`)
	}
	for name, tt := range map[string]struct {
		server http.HandlerFunc
		want   []common.Address
		kind   errs.Kind
	}{
		"one":                 {settings(`{"authorized_allocation_signers":["` + a.Hex() + `"]}`), []common.Address{a}, ""},
		"one among nonsense":  {settings(`{"authorized_allocation_signers":["x",5,null,"` + strings.ToLower(a.Hex()) + `"]}`), []common.Address{a}, ""},
		"none":                {settings(`{"authorized_allocation_signers":[]}`), nil, ""},
		"not named":           {settings(`{"community_wallet_address":"x"}`), nil, ""},
		"no settings":         {unknown(), nil, ""},
		"settings of no kind": {settings(`{"authorized_allocation_signers":"x"}`), nil, errs.Unavailable},
		"too many":            {settings(`{"authorized_allocation_signers":[` + strings.Repeat("1,", 300) + `1]}`), nil, errs.Unavailable},
		"nobody tells":        {nil, nil, errs.Unavailable},
	} {
		got, err := open(t, &network{servers: map[string]http.HandlerFunc{"a": tt.server}}).Signers(t.Context())
		wantKind(t, name, err, tt.kind)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestTheCommunityIsThatOfTheSettings(t *testing.T) {
	const wallet = "0x5aBd3258C5492fD378EBC2e0017416E199e5Da56"
	says := func(value string) http.HandlerFunc {
		return says(`{"address":"` + corenode.DefaultConfig().SettingsAddress + `","data":{"settings":` + value + `}}`)
	}
	for name, tt := range map[string]struct {
		server http.HandlerFunc
		wallet string
		since  time.Time
		kind   errs.Kind
	}{
		"named": {
			says(`{"community_wallet_address":"` + strings.ToLower(wallet) + `","community_wallet_timestamp":1739301770}`),
			wallet, time.Unix(1739301770, 0).UTC(), "",
		},
		"not named":    {says(`{}`), "", time.Time{}, ""},
		"without time": {says(`{"community_wallet_address":"` + wallet + `"}`), "", time.Time{}, ""},
		"no settings":  {unknown(), "", time.Time{}, ""},
		// Who could pay what nobody can read must not count as unpaid.
		"no address":   {says(`{"community_wallet_address":"x","community_wallet_timestamp":1}`), "", time.Time{}, errs.Unavailable},
		"no time":      {says(`{"community_wallet_address":"` + wallet + `","community_wallet_timestamp":"soon"}`), "", time.Time{}, errs.Unavailable},
		"nobody tells": {nil, "", time.Time{}, errs.Unavailable},
	} {
		got, since, err := open(t, &network{servers: map[string]http.HandlerFunc{"a": tt.server}}).Community(t.Context())
		wantKind(t, name, err, tt.kind)
		if got != tt.wallet || !since.Equal(tt.since) {
			t.Errorf("%s: %q since %v, want %q since %v", name, got, since, tt.wallet, tt.since)
		}
	}
}

func TestGPUsAreNamedByTheSettings(t *testing.T) {
	n := &network{servers: map[string]http.HandlerFunc{"a": says(`{"address":"` + corenode.DefaultConfig().SettingsAddress +
		`","data":{"settings":{"compatible_gpus":[5,{"device_id":"10de:27b0","model":"RTX 4000 ADA"},{"device_id":"10de:27b0","model":"Later"}]}}}`)}}
	c := open(t, n)
	if model, ok := c.GPU(t.Context(), "10de:27b0"); model != "RTX 4000 ADA" || !ok {
		t.Errorf("it is called %q, %t", model, ok)
	}
	if model, ok := c.GPU(t.Context(), "10de:0000"); model != "" || ok {
		t.Errorf("one that is not named is called %q, %t", model, ok)
	}
}
