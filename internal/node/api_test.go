package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// database makes one of a real server.
func database(t *testing.T) string {
	t.Helper()
	server, err := statetest.Start(t.Context(), false)
	if errors.Is(err, errs.NotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := statetest.Create(t.Context(), server.URL("postgres"), "node"); err != nil {
		t.Fatal(err)
	}
	return server.URL("node")
}

// beside returns the settings of an API process beside a coordinator.
func beside(owner config.Config) config.Config {
	cfg := config.Default()
	cfg.Node.Role, cfg.State, cfg.Ingest, cfg.API.Bind = config.API, owner.State, owner.Ingest, "127.0.0.1:0"
	return cfg
}

// signed returns a message of a sender that has the name.
func signed(t *testing.T, name string, typ message.Type, content map[string]any) (message.ItemHash, []byte) {
	t.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("api test " + name)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Microsecond)
	content["address"], content["time"] = crypto.PubkeyToAddress(k.PublicKey).Hex(), json.Number(message.FormatTime(at))
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Time: at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(map[string]any{"sync": true, "message": e}); err != nil {
		t.Fatal(err)
	}
	return e.ItemHash, raw
}

// post sends a body, without keeping the connection.
func post(t *testing.T, url string, body []byte) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	res, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(raw)
}

// send hands in a message of which the answer must be the status.
func send(t *testing.T, n *node.Node, raw []byte, want state.MessageStatus) {
	t.Helper()
	if _, body := post(t, n.URL()+"/api/v0/messages", raw); !strings.Contains(body, `"message_status":"`+string(want)+`"`) {
		t.Errorf("the answer is %s, want status %s", body, want)
	}
}

// sendMany hands in posts at all nodes at once and returns their hashes.
func sendMany(t *testing.T, round string, nodes ...*node.Node) []message.ItemHash {
	t.Helper()
	const each = 15
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []message.ItemHash
	for i, n := range nodes {
		for j := range 2 {
			wg.Go(func() {
				for k := range each {
					name := fmt.Sprint(round, i, j)
					hash, raw := signed(t, name, message.TypePost, map[string]any{"type": "note", "content": fmt.Sprint(name, " ", k)})
					send(t, n, raw, state.MessageProcessed)
					mu.Lock()
					all = append(all, hash)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return all
}

// listed are the hashes that the interface of a node lists, in its order.
func listed(t *testing.T, n *node.Node) (out []message.ItemHash) {
	t.Helper()
	code, body := get(t, n.URL()+"/api/v0/messages.json?pagination=500")
	var answer struct {
		Messages []struct {
			Hash message.ItemHash `json:"item_hash"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || code != http.StatusOK {
		t.Fatalf("list of messages: %d, %v, %.200s", code, err, body)
	}
	for _, m := range answer.Messages {
		out = append(out, m.Hash)
	}
	return out
}

// wantAll fails unless every node lists each of the messages once, all in the same
// order, and finds them in the same order of processing.
func wantAll(t *testing.T, want []message.ItemHash, nodes ...*node.Node) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	lists, logs := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		list := listed(t, n)
		lists[fmt.Sprint(list)] = true
		if got := slices.Sorted(slices.Values(list)); !slices.Equal(got, want) {
			t.Errorf("%s lists %d messages, want each of %d once", n.URL(), len(got), len(want))
		}
		order, err := n.DB().MessagesAfter(t.Context(), -1, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var log []message.ItemHash
		for i, m := range order {
			if i > 0 && m.ID <= order[i-1].ID {
				t.Errorf("message %d comes after message %d", m.ID, order[i-1].ID)
			}
			log = append(log, m.Envelope.ItemHash)
		}
		logs[fmt.Sprint(log)] = true
	}
	if len(lists) != 1 || len(logs) != 1 {
		t.Errorf("%d nodes have %d lists and %d orders of processing, want one", len(nodes), len(lists), len(logs))
	}
}

// hears waits until a node of another database has all messages.
func hears(t *testing.T, n *node.Node, want []message.ItemHash) {
	t.Helper()
	p2ptest.Wait(t, "the other node hears of all messages", func() bool {
		found, err := n.DB().MessagesByHash(t.Context(), want)
		return err == nil && len(found) == len(want)
	})
}

// readiness is what a node says of its parts.
func readiness(t *testing.T, n *node.Node) (int, map[string]string) {
	t.Helper()
	code, body := get(t, n.URL()+"/readyz")
	var answer struct {
		Parts map[string]string `json:"parts"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("readiness %d %s: %v", code, body, err)
	}
	return code, answer.Parts
}

func waitOwner(t *testing.T, n *node.Node, here bool) {
	t.Helper()
	p2ptest.Wait(t, fmt.Sprintf("the owner is here: %v", here), func() bool {
		code, parts := readiness(t, n)
		if !here {
			return code == http.StatusServiceUnavailable && strings.Contains(parts["owner"], "no process owns the database: start its coordinator")
		}
		return code == http.StatusOK && maps.Equal(parts, map[string]string{"owner": "ok"})
	})
}

// peerOf is the address at which others reach a node that is going to start.
func peerOf(t *testing.T, cfg config.Config) string {
	t.Helper()
	keys, err := keystore.Open(cfg.Node.DataDir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Network.ListenAddr + "/p2p/" + string(peer)
}

// TestProcessesShareADatabase: messages are handed in at a coordinator and at two
// processes beside it, and a node far away hears of all of them, those too that
// came while the coordinator was away.
func TestProcessesShareADatabase(t *testing.T) {
	chain := chaintest.Start(t)
	owner, _ := join(t, chain, config.Coordinator)
	far, _ := join(t, chain, config.Coordinator)
	owner.State.URL, owner.Network.ListenAddr = database(t), freeAddr(t)
	owner.API.Bind = strings.NewReplacer("/ip4/", "", "/tcp/", ":").Replace(freeAddr(t))
	far.Network.BootstrapPeers = []string{peerOf(t, owner)}
	first, endFirst := begin(t, owner)
	other, _ := begin(t, far)
	waitReady(t, first)
	waitReady(t, other)
	waitListener := func() {
		p2ptest.Wait(t, "the nodes hear each other", func() bool { return len(first.Listeners()) == 1 && len(other.Listeners()) == 1 })
	}
	waitListener()
	cfg := beside(owner)
	a, _ := begin(t, cfg)
	cfg.Node.OwnerURL = first.URL()
	b, _ := begin(t, cfg)
	waitOwner(t, a, true)

	all := sendMany(t, "with the owner", first, a, b)

	wantAll(t, all, first, a, b)
	hears(t, other, all)

	endFirst()
	waitOwner(t, a, false)
	alone := sendMany(t, "without", a, b)
	all = append(all, alone...)
	wantAll(t, all, a, b)
	if code, body := get(t, b.URL()+"/api/v1/nodes"); code != http.StatusServiceUnavailable || !strings.Contains(string(body), "the node that owns the database does not answer") {
		t.Errorf("what the owner answers is %d %s while it is away", code, body)
	}

	first, _ = begin(t, owner)
	waitOwner(t, a, true)
	waitReady(t, first)
	waitListener()
	all = append(all, sendMany(t, "again", first, a, b)...)
	wantAll(t, all, first, a, b)
	hears(t, other, all)
	p2ptest.Wait(t, "nothing is left to tell", func() bool {
		rows, err := first.DB().Untold(t.Context(), 10)
		return err == nil && len(rows) == 0
	})
	sendFile(t, first, a, b)
}

// sendFile brings a file through a process that passes it on, and names it at one
// that does not.
func sendFile(t *testing.T, owner, refuses, passes *node.Node) {
	t.Helper()
	bytes := []byte("some bytes")
	if code, body := post(t, refuses.URL()+"/api/v1/blobs", bytes); code != http.StatusServiceUnavailable || !strings.Contains(body, "set [node] owner_url here") {
		t.Errorf("a process without files takes one: %d %s", code, body)
	}
	if code, body := post(t, passes.URL()+"/api/v1/blobs", bytes); code != http.StatusCreated {
		t.Errorf("a file that is passed on: %d %s", code, body)
	}
	hash, raw := signed(t, "file", message.TypeStore, map[string]any{"item_type": "storage", "item_hash": message.HashOf(bytes)})
	send(t, refuses, raw, state.MessageProcessed)
	if _, err := owner.DB().File(t.Context(), hash); err != nil {
		t.Error(err)
	}
	if code, body := get(t, passes.URL()+"/api/v1/blobs/"+string(message.HashOf(bytes))); code != http.StatusOK || string(body) != string(bytes) {
		t.Errorf("the file comes back as %d %q", code, body)
	}
	if code, _ := get(t, refuses.URL()+"/api/v9/nothing"); code != http.StatusNotFound {
		t.Errorf("a path that nobody has: %d, want 404", code)
	}
	if code, body := get(t, refuses.URL()+"/metrics"); code != http.StatusOK || !strings.Contains(string(body), "pyaleph_status_sync_messages_total") {
		t.Errorf("numbers of a process: %d %.100s", code, body)
	}
}

func TestAPIProcessWantsTheDatabaseOfANode(t *testing.T) {
	cfg := beside(config.Config{State: state.Config{URL: database(t)}, Ingest: config.Default().Ingest})

	refused(t, cfg, errs.Internal, "open state", "lacks a table")
}
