package chain_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"reflect"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// syncData is a packed event.
func syncData(tb testing.TB, name string, values ...any) (common.Hash, []byte) {
	tb.Helper()
	parsed, err := chain.SyncContract{}.ABI(chain.SyncName)
	if err != nil {
		tb.Fatal(err)
	}
	e := parsed.Events[name]
	data, err := e.Inputs.Pack(values...)
	if err != nil {
		tb.Fatal(err)
	}
	return e.ID, data
}

func TestSyncContractIsThatOfTheNetwork(t *testing.T) {
	raw, err := os.ReadFile("../../protocol/testdata/vectors/sync_contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Topics    map[string]common.Hash
		Selectors map[string]hexutil.Bytes
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	c := chain.SyncContract{At: common.HexToAddress("0x1")}
	parsed, err := c.ABI(chain.SyncName)
	if err != nil {
		t.Fatal(err)
	}
	topics, selectors := map[string]common.Hash{}, map[string]hexutil.Bytes{}
	for _, e := range parsed.Events {
		topics[e.Sig] = e.ID
	}
	for _, m := range parsed.Methods {
		selectors[m.Sig] = m.ID
	}
	if !reflect.DeepEqual(topics, v.Topics) || !reflect.DeepEqual(selectors, v.Selectors) {
		t.Errorf("topics %v and selectors %v, want %v and %v", topics, selectors, v.Topics, v.Selectors)
	}
	if at, err := c.Address(chain.SyncName); err != nil || at != c.At {
		t.Errorf("address %s, %v", at, err)
	}
	if _, err := c.ABI("JobManager"); !errors.Is(err, errs.NotFound) {
		t.Errorf("a contract of the product: %v", err)
	}
}

func TestSyncEventsAreRead(t *testing.T) {
	who := common.HexToAddress("0x23eC28598DCeB2f7082Cc3a9D670592DfEd6e0dC")
	syncTopic, syncEvent := syncData(t, "SyncEvent", big.NewInt(5), who, "text")
	messageTopic, messageEvent := syncData(t, "MessageEvent", big.NewInt(5), who, "POST", "text")
	_, untyped := syncData(t, "MessageEvent", big.NewInt(5), who, "", "text")
	_, late := syncData(t, "SyncEvent", new(big.Int).Lsh(big.NewInt(1), 64), who, "text")
	for _, tt := range []struct {
		name   string
		topics []common.Hash
		data   []byte
		want   *chain.SyncLog
	}{
		{"archive", []common.Hash{syncTopic}, syncEvent, &chain.SyncLog{Sender: who, Stamp: 5, Text: "text"}},
		{"message", []common.Hash{messageTopic}, messageEvent, &chain.SyncLog{Sender: who, Stamp: 5, Type: "POST", Text: "text"}},
		{"message without a type", []common.Hash{messageTopic}, untyped, nil},
		{"time beyond all times", []common.Hash{syncTopic}, late, nil},
		{"half of the data", []common.Hash{syncTopic}, syncEvent[:40], nil},
		{"no data", []common.Hash{syncTopic}, nil, nil},
		{"another event", []common.Hash{{1}}, syncEvent, nil},
		{"no topic", nil, syncEvent, nil},
		{"two topics", []common.Hash{syncTopic, syncTopic}, syncEvent, nil},
	} {
		got, err := chain.ParseSyncLog(&types.Log{Topics: tt.topics, Data: tt.data})
		if tt.want == nil {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%s: %+v, %v, want it refused", tt.name, got, err)
			}
			continue
		}
		if err != nil || *got != *tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

// FuzzSyncLog: no data of an event stops a node.
func FuzzSyncLog(f *testing.F) {
	syncTopic, data := syncData(f, "SyncEvent", big.NewInt(5), common.Address{1}, "text")
	f.Add(data, false)
	messageTopic, data := syncData(f, "MessageEvent", big.NewInt(5), common.Address{1}, "POST", "text")
	f.Add(data, true)
	f.Fuzz(func(t *testing.T, data []byte, isMessage bool) {
		topic := syncTopic
		if isMessage {
			topic = messageTopic
		}
		got, err := chain.ParseSyncLog(&types.Log{Topics: []common.Hash{topic}, Data: data})
		if err != nil {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("error %v, want it to be the data's", err)
			}
			return
		}
		if isMessage != (got.Type != "") || len(got.Text) > len(data) {
			t.Errorf("read %+v of %d bytes", got, len(data))
		}
	})
}
