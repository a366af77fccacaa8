package node_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// signedFor is a message that a key signs for an owner, in the form in which clients
// hand it in.
func signedFor(t *testing.T, k *ecdsa.PrivateKey, owner string, typ message.Type, channel string, content map[string]any) (message.ItemHash, string) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	content["address"], content["time"] = owner, json.Number(message.FormatTime(now))
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: now, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if channel != "" {
		e.Channel = &channel
	}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"sync": true, "message": e})
	if err != nil {
		t.Fatal(err)
	}
	return e.ItemHash, string(body)
}

func TestDevelopersCanSignForTheAuthorities(t *testing.T) {
	ask, _ := dev(t, t.TempDir(), "0xA")
	authorities, err := node.DevAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]node.DevAuthority{}
	for _, a := range authorities {
		by[a.What] = a
	}
	say := func(what string, typ message.Type, channel string, content map[string]any) {
		t.Helper()
		_, body := signedFor(t, by[what].Key, by[what].Address, typ, channel, content)
		if status, text := ask("POST", "/api/v0/messages", body); status != 200 {
			t.Fatalf("%s: %d %s", what, status, text)
		}
	}
	want := func(path, part string) {
		t.Helper()
		if status, text := ask("GET", path, ""); status != 200 || !strings.Contains(text, part) {
			t.Errorf("GET %s = %d %s, want %s in it", path, status, text, part)
		}
	}
	say("credits", message.TypePost, "ALEPH_CREDIT", map[string]any{"type": "aleph_credit_distribution", "content": map[string]any{
		"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": []any{
			map[string]any{"address": "0xB", "amount": 77, "price": "0", "tx_hash": "x", "provider": "X"},
		}},
	}})
	say("balances", message.TypePost, "", map[string]any{"type": "balances-update", "content": map[string]any{"chain": "ETH", "main_height": 2, "balances": map[string]int{"0xB": 12}}})
	say("prices", message.TypeAggregate, "", map[string]any{"key": "pricing", "content": map[string]any{
		"storage": map[string]any{"price": map[string]any{"storage": map[string]any{"holding": "5"}}},
	}})
	say("nodes", message.TypeAggregate, "", map[string]any{"key": "corechannel", "content": map[string]any{"nodes": []any{map[string]any{"name": "mine"}}}})

	want("/api/v0/addresses/0xB/balance", `"credit_balance":77`)
	want("/api/v0/addresses/0xB/balance", `"balance":12.0`)
	want("/api/v0/aggregates/"+by["nodes"].Address+".json?keys=corechannel", `"mine"`)
	content := fmt.Sprintf(`{"address":"0xB","time":1,"item_type":"storage","item_hash":%q,"estimated_size_mib":2}`, strings.Repeat("ab", 32))
	body, err := json.Marshal(map[string]any{"message": map[string]any{"type": "STORE", "chain": "ETH", "item_type": "inline", "item_content": content}})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := ask("POST", "/api/v0/price/estimate", string(body)); status != 200 || !strings.Contains(text, `"cost":"10.000000000000000000"`) {
		t.Errorf("estimate = %d %s, want the new price", status, text)
	}
	_, stranger := signedFor(t, by["nodes"].Key, by["prices"].Address, message.TypeAggregate, "", map[string]any{"key": "pricing", "content": map[string]any{}})
	if status, text := ask("POST", "/api/v0/messages", stranger); status != 422 {
		t.Errorf("one authority for another: %d %s, want 422", status, text)
	}
}

func TestProgramsCanNameTheImagesOfDevelopers(t *testing.T) {
	keys, err := node.DevKeys(1)
	if err != nil {
		t.Fatal(err)
	}
	owner := crypto.PubkeyToAddress(keys[0].PublicKey).Hex()
	images, err := node.DevImages()
	if err != nil {
		t.Fatal(err)
	}
	runtime := images[0].Hash
	dir := t.TempDir()
	d, err := node.NewDev(t.Context(), node.DevOptions{Bind: "127.0.0.1:0", Dir: dir, Accounts: []string{owner}, Balance: 1_000_000_000}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	ask, _ := dev(t, dir) // With what is there.
	_, listed := ask("GET", "/api/v0/aggregates/"+ingest.DefaultConfig().PricingAuthority+".json?keys=vm-images", "")
	for _, m := range images {
		if part := fmt.Sprintf(`"display_name":%q,"hash":%q`, m.Name, m.Hash); !strings.Contains(listed, part) {
			t.Errorf("vm-images is %s, want %s in it", listed, part)
		}
	}
	var hash message.ItemHash
	for _, latest := range []bool{false, true} { // Clients follow the versions of a runtime unless they are told not to.
		var body string
		hash, body = signedFor(t, keys[0], owner, message.TypeProgram, "", map[string]any{
			"type": "vm-function", "allow_amend": false, "payment": map[string]any{"chain": "ETH", "type": "credit"},
			"code":        map[string]any{"encoding": "zip", "entrypoint": "main:app", "ref": runtime},
			"runtime":     map[string]any{"ref": runtime, "comment": "", "use_latest": latest},
			"environment": map[string]any{}, "resources": map[string]any{"vcpus": 1, "memory": 128, "seconds": 30}, "on": map[string]any{"http": true},
		})
		if status, text := ask("POST", "/api/v0/messages", body); status != 200 || !strings.Contains(text, `"processed"`) {
			t.Fatalf("program, latest runtime %v: %d %s", latest, status, text)
		}
	}
	if status, text := ask("GET", "/api/v0/price/"+string(hash), ""); status != 200 || !strings.Contains(text, `"payment_type":"credit"`) {
		t.Errorf("price: %d %s", status, text)
	}
	if status, text := ask("GET", "/metrics", ""); status != 200 || !strings.Contains(text, "pyaleph_status_sync_messages_total ") {
		t.Errorf("metrics: %d %s", status, text)
	}
	if status, text := ask("HEAD", "/metrics", ""); status != 200 || text != "" {
		t.Errorf("head of the metrics: %d %s", status, text)
	}
}

// TestWhoListensHearsThatANodeForDevelopersBeginsAnew resets a node while somebody
// listens, and listens again.
func TestWhoListensHearsThatANodeForDevelopersBeginsAnew(t *testing.T) {
	d, err := node.NewDev(t.Context(), node.DevOptions{Bind: "127.0.0.1:0", Dir: t.TempDir(), Accounts: []string{"0xA"}, Balance: 5}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	listen := func() *websocket.Conn {
		t.Helper()
		for {
			c, _, err := websocket.Dial(ctx, d.URL()+"/api/ws0/messages?history=1", nil) //nolint:bodyclose // Of an upgrade there is none to close.
			if err != nil {
				t.Fatal(err)
			}
			c.SetReadLimit(-1)
			if _, _, err = c.Read(ctx); err == nil {
				return c // A message of the beginning.
			}
			if ctx.Err() != nil {
				t.Fatal("nobody is told of anything")
			}
		}
	}
	c := listen()
	start := time.Now()

	if err := d.Reset(ctx, ""); err != nil {
		t.Fatal(err)
	}

	if took := time.Since(start); took > 5*time.Second { // Some more than the second that it may take on a machine of its own.
		t.Errorf("it took %v to begin anew", took)
	} else {
		t.Logf("it took %v to begin anew", took)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("who listened was closed with %v, want 1001", err)
	}
	listen().CloseNow()
}
