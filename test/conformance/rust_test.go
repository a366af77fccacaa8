//go:build conformance

package conformance_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// developing is a node for developers, whose first account is key's.
func developing(t *testing.T) (c client, key *ecdsa.PrivateKey) {
	t.Helper()
	keys, err := node.DevKeys(1)
	if err != nil {
		t.Fatal(err)
	}
	d, err := node.NewDev(t.Context(), node.DevOptions{
		Bind: "127.0.0.1:0", Dir: t.TempDir(), Accounts: []string{addressOf(keys[0])}, Balance: 1_000_000,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return visit(t, d.URL()), keys[0]
}

// TestRust runs commands of the Rust command line, whose program CONFORMANCE_RUST
// names, against nodes for developers: those have the prices and images that it looks
// for.
func TestRust(t *testing.T) {
	program := os.Getenv("CONFORMANCE_RUST")
	if program == "" {
		t.Skip("without the Rust client; make test-conformance-rust has it")
	}
	c, k := developing(t)
	other, _ := developing(t)
	me, friend, dir := addressOf(k), addressOf(key("rust's friend")), t.TempDir()
	aleph := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append([]string{"--ccn", c.url, "--json"}, args...)...)
		cmd.Env = append(os.Environ(), "ALEPH_PRIVATE_KEY="+hex.EncodeToString(crypto.FromECDSA(k)), "XDG_CONFIG_HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			var said string
			if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // As Output returns it.
				said = string(exit.Stderr)
			}
			t.Fatalf("%v: %v\n%s%s", args, err, out, said)
		}
		return string(out)
	}
	sign := func(args ...string) (hash string) {
		t.Helper()
		out := aleph(append(args, "--chain", "eth")...)
		for d := json.NewDecoder(strings.NewReader(out)); d.More(); { // One for each message, the last is it.
			var told struct {
				Hash   string `json:"item_hash"`
				Status string `json:"message_status"`
			}
			if err := d.Decode(&told); err != nil || told.Status != "processed" {
				t.Fatalf("%v: %v, want it to be processed:\n%s", args, err, out)
			}
			hash = told.Hash
		}
		return hash
	}
	says := func(part string, args ...string) {
		t.Helper()
		if out := aleph(args...); !strings.Contains(out, part) {
			t.Errorf("%v says %s, want %s in it", args, out, part)
		}
	}
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	says(`"credits": 1000000`, "account", "balance", me)
	post := sign("post", "create", "--type", "note", "--channel", "TEST", "--content", `{"a":1}`)
	sign("post", "amend", "--ref", post, "--content", `{"a":2}`)
	says(`"a": 2`, "post", "list", "--addresses", me)
	says(`"processed"`, "message", "get", post)
	sign("aggregate", "create", "--key", "rust", "--content", `{"x":1}`)
	sign("aggregate", "edit", "--key", "rust", "--content", `{"y":2}`, "-y")
	says(`"y":2`, "aggregate", "get", "rust", "--address", me)
	sign("authorization", "add", friend, "--delegate-chain", "eth", "--channels", "TEST")
	says(friend, "authorization", "list", "--address", me)
	says(me, "authorization", "received", "--address", friend)
	sign("account", "ssh-key", "add", "laptop", file("id.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICaZBUz/vL46kxHI+wv19AR2dnSuluEsbshuAypAbPAB me\n"))
	says("laptop", "account", "ssh-key", "list", "--address", me)

	big := strings.Repeat("0123456789abcdef", 1<<16)
	sign("file", "upload", file("big", big))
	hash := string(message.HashOf([]byte(big)))
	says(hash, "file", "list", "--address", me)
	aleph("file", "download", hash, "--output", filepath.Join(dir, "got"))
	if got, err := os.ReadFile(filepath.Join(dir, "got")); err != nil || string(got) != big {
		t.Errorf("the file came back with %d bytes, %v", len(got), err)
	}
	file("site/index.html", "<h1>rust</h1>")
	file("site/sub/page.html", "<p>page</p>")
	site := filepath.Join(dir, "site")
	sign("file", "upload", site)
	aleph("website", "deploy", "rust", site, "--chain", "eth")
	says(`"rust"`, "website", "list", "--address", me)
	file("program/main.py", "app = 1\n")
	sign("program", "create", filepath.Join(dir, "program"), "main:app", "--runtime", "python", "--name", "rust", "--size", "1vcpu-2gb")
	says("rust", "program", "list", "--address", me)
	sign("instance", "create", "rust", "--image", "debian12", "--size", "1vcpu-2gb", "--ssh-pubkey-file", filepath.Join(dir, "id.pub"))
	says("rust", "instance", "list", "--address", me)
	sign("file", "delete", hash, "-y")

	gone := sign("post", "create", "--type", "note", "--content", `{}`)
	sign("message", "forget", gone, "-y")
	says(`"forgotten"`, "message", "get", gone)
	for _, chain := range []string{"sol", "base", "avax"} {
		says(`"processed"`, "post", "create", "--type", "note", "--content", `{}`, "--chain", chain)
	}

	aleph("message", "sync", "--source", c.url, "--target", other.url)
	if got := other.ok("/api/v0/messages/" + post).field("status"); got != "processed" {
		t.Errorf("after sync the post is %v on the other node, want it processed", got)
	}
}
