package node_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer/indexertest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// confirming puts the contract that confirms messages on the chain, with an account
// that publishes, and returns the settings and the file of its key.
func confirming(t *testing.T, n *chaintest.Net) (set func(*config.Config), keyPath string) {
	t.Helper()
	raw, err := os.ReadFile("../../protocol/testdata/vectors/sync_contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Code string `json:"deployed_bytecode"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	code, err := hex.DecodeString(v.Code[2:])
	if err != nil {
		t.Fatal(err)
	}
	publisher := devchain.Accounts()[7]
	head := []byte{0x61, byte(len(code) >> 8), byte(len(code)), 0x80, 0x60, 0x0c, 0x60, 0, 0x39, 0x60, 0, 0xf3} // Returns what follows.
	id := n.Client.ChainID()
	tx, err := types.SignNewTx(publisher.Key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Gas: 5_000_000, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), Data: append(head, code...),
	})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = tx.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	if err := n.Client.Send(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	n.Mine(t)
	r, err := n.Client.Receipt(t.Context(), tx.Hash())
	if err != nil || !r.OK {
		t.Fatalf("contract: %+v, %v", r, err)
	}
	keyPath = filepath.Join(t.TempDir(), "publisher.key")
	if err := os.WriteFile(keyPath, []byte(publisher.KeyHex), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(cfg *config.Config) {
		cfg.Sync.RPCURL, cfg.Sync.ChainID, cfg.Sync.Contract, cfg.Sync.FromBlock = n.Chain.URL(), devchain.ChainID, r.CreatedAt.Hex(), r.Number
		cfg.Sync.Emitters, cfg.Sync.Confirmations = []string{publisher.Address.Hex()}, 2
		cfg.Sync.Interval, cfg.Sync.CommitDelay = 50*time.Millisecond, 100*time.Millisecond
		cfg.Outbox.Interval = 50 * time.Millisecond
	}, keyPath
}

// shown are the confirmations that a node shows, by message.
func shown(t *testing.T, n *node.Node) (out map[message.ItemHash]string) {
	t.Helper()
	code, body := get(t, n.URL()+"/api/v0/messages.json?pagination=500")
	var answer struct {
		Messages []struct {
			Hash          message.ItemHash `json:"item_hash"`
			Confirmed     bool
			Confirmations []struct {
				Chain, Hash string
				Height      int64
			}
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || code != http.StatusOK {
		t.Fatalf("list of messages: %d, %v, %.200s", code, err, body)
	}
	out = map[message.ItemHash]string{}
	for _, m := range answer.Messages {
		if m.Confirmed {
			out[m.Hash] = fmt.Sprint(m.Confirmations)
		}
	}
	return out
}

// TestAnArchiveConfirmsOnAllNodes: one coordinator publishes, and another one, which
// knows no peers, shows the same messages with the same confirmations. The publisher is
// restarted on the way.
func TestAnArchiveConfirmsOnAllNodes(t *testing.T) {
	n := chaintest.Start(t)
	first, _ := join(t, n, config.Coordinator)
	second, _ := join(t, n, config.Coordinator)
	set, keyPath := confirming(t, n)
	set(&first)
	set(&second)
	first.Sync.Publish, first.Sync.PrivateKeyPath = true, keyPath
	a, endA := begin(t, first)
	b, _ := begin(t, second)
	waitReady(t, a)
	waitReady(t, b)
	all := sendMany(t, "archive", a)
	endA()
	a, _ = begin(t, first)
	waitReady(t, a)

	// Archives travel as blocks of IPFS do between nodes; here, by hand.
	carried := map[message.ItemHash]bool{}
	carry := func() {
		events, err := a.DB().SyncEventsAbove(t.Context(), 0, 99)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			pin, err := a.DB().Pin(t.Context(), e.PinKey())
			if err != nil || carried[pin.File] {
				continue
			}
			id, err := ipfs.ParseCID(string(pin.File))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Content().AddAs(t.Context(), strings.NewReader(string(contentOf(t, a, ipfs.Root{CID: id}))), id); err != nil {
				t.Fatal(err)
			}
			carried[pin.File] = true
		}
	}
	p2ptest.Wait(t, "both nodes show the confirmations of all messages", func() bool {
		n.Mine(t)
		carry()
		return len(shown(t, a)) == len(all) && len(shown(t, b)) == len(all)
	})

	onA, onB := shown(t, a), shown(t, b)
	for _, hash := range all {
		if onA[hash] == "" || onA[hash] != onB[hash] || !strings.Contains(onA[hash], "ETH 0x") {
			t.Errorf("confirmations of %s are %s and %s, want the same", hash, onA[hash], onB[hash])
		}
	}
	done, err := a.DB().Intents(state.LaneSync).With(t.Context(), 99, state.IntentConfirmed)
	if err != nil || len(done) == 0 || len(done) > len(carried) {
		t.Errorf("%d transactions, %v, for %d archives", len(done), err, len(carried))
	}
}

func TestPublishersThatNobodyWouldBelieve(t *testing.T) {
	n := chaintest.Start(t)
	cfg, _ := join(t, n, config.Coordinator)
	set, keyPath := confirming(t, n)
	set(&cfg)
	cfg.Sync.Publish, cfg.Sync.PrivateKeyPath = true, keyPath
	other := cfg
	other.Sync.Emitters = []string{devchain.Accounts()[1].Address.Hex()}
	refused(t, other, errs.Invalid, "emitters")
	same := cfg
	same.Sync.PrivateKeyPath = filepath.Join(cfg.Node.DataDir, "signer.key")
	raw, err := os.ReadFile(same.Sync.PrivateKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(strings.TrimSpace(string(raw)), "0x"))
	if err != nil {
		t.Fatal(err)
	}
	same.Sync.Emitters = []string{crypto.PubkeyToAddress(key.PublicKey).Hex()}
	refused(t, same, errs.Invalid, "another key")
	gone := cfg
	gone.Sync.PrivateKeyPath = filepath.Join(t.TempDir(), "nothing")
	refused(t, gone, errs.Invalid, "nothing")
}

// TestMessagesOfOtherChainsNeedNoRPC: a coordinator that has no RPC of the chain that
// confirms messages reads Tezos from an indexer.
func TestMessagesOfOtherChainsNeedNoRPC(t *testing.T) {
	n := chaintest.Start(t)
	cfg, _ := join(t, n, config.Coordinator)
	const sender = "KT1VBeLD7hzKpj17aRJ3Kc6QQFeikCEXi7W6"
	indexer := indexertest.Tezos(t, cfg.Sync.Tezos.Contract)
	content := `{"address": "` + sender + `", "time": 1000.0, "content": {"body": "on Tezos"}, "ref": null, "type": "my-type"}`
	indexer.Add(indexertest.Event{ID: "1", Tx: "oo1", Height: 584664, At: time.Unix(1_668_611_900, 0), Sender: sender, Type: "POST", Text: content})
	cfg.Sync.Tezos.URL, cfg.Sync.IndexerInterval = indexer.URL, 50*time.Millisecond
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, _ := begin(t, cfg)
	waitReady(t, a)

	hash := message.HashOf([]byte(content))
	p2ptest.Wait(t, "the message is shown with its confirmation", func() bool { return shown(t, a)[hash] == "[{TEZOS oo1 584664}]" })
}
