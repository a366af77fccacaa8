package chain

import (
	"math/big"
	"strings"
	"sync"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// SyncName is the name of the contract by which messages are confirmed. It is none of
// the product's: the network had it before, on a chain of its own choice. See section
// 6.5 of the protocol.
const SyncName = "AlephSync"

// syncABI is its interface. Anybody may call it; who did is in the event.
const syncABI = `[
{"type":"event","name":"SyncEvent","anonymous":false,"inputs":[{"name":"timestamp","type":"uint256","indexed":false},{"name":"addr","type":"address","indexed":false},{"name":"message","type":"string","indexed":false}]},
{"type":"event","name":"MessageEvent","anonymous":false,"inputs":[{"name":"timestamp","type":"uint256","indexed":false},{"name":"addr","type":"address","indexed":false},{"name":"msgtype","type":"string","indexed":false},{"name":"msgcontent","type":"string","indexed":false}]},
{"type":"function","name":"doEmit","stateMutability":"nonpayable","inputs":[{"name":"message","type":"string"}],"outputs":[]},
{"type":"function","name":"doMessage","stateMutability":"nonpayable","inputs":[{"name":"msgtype","type":"string"},{"name":"msgcontent","type":"string"}],"outputs":[]}]`

var parseSyncABI = sync.OnceValues(func() (*abi.ABI, error) { //nolint:gochecknoglobals // A constant that is parsed once.
	parsed, err := abi.JSON(strings.NewReader(syncABI))
	if err != nil {
		return nil, errs.New(errs.Internal, "read the interface of %s: %w", SyncName, err)
	}
	return &parsed, nil
})

// SyncContract is that contract at an address.
type SyncContract struct{ At common.Address }

// Address returns where the contract is; errs.NotFound for another name.
func (c SyncContract) Address(name string) (common.Address, error) {
	if name != SyncName {
		return common.Address{}, errs.New(errs.NotFound, "no contract %q on this chain", name)
	}
	return c.At, nil
}

// ABI returns the interface of the contract; errs.NotFound for another name.
func (c SyncContract) ABI(name string) (*abi.ABI, error) {
	if _, err := c.Address(name); err != nil {
		return nil, err
	}
	return parseSyncABI()
}

// SyncLog is an event of the contract.
type SyncLog struct {
	Sender common.Address
	Stamp  uint64 // Unix seconds.
	Type   string // Of a MessageEvent; "" of a SyncEvent.
	Text   string // What it says.
}

// ParseSyncLog reads an event of the contract; errs.Invalid if it is none.
func ParseSyncLog(l *types.Log) (*SyncLog, error) {
	parsed, err := parseSyncABI()
	if err != nil {
		return nil, err
	}
	if len(l.Topics) != 1 {
		return nil, errs.New(errs.Invalid, "event has %d topics, those of %s have one", len(l.Topics), SyncName)
	}
	event, err := parsed.EventByID(l.Topics[0])
	if err != nil {
		return nil, errs.New(errs.Invalid, "%s has no event %s", SyncName, l.Topics[0])
	}
	values, err := event.Inputs.Unpack(l.Data)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read %s: %w", event.Name, err)
	}
	out := &SyncLog{}
	var texts []string
	for _, value := range values {
		switch v := value.(type) {
		case *big.Int:
			if !v.IsUint64() {
				return nil, errs.New(errs.Invalid, "read %s: time %s is beyond all times", event.Name, v)
			}
			out.Stamp = v.Uint64()
		case common.Address:
			out.Sender = v
		case string:
			texts = append(texts, v)
		default:
			return nil, errs.New(errs.Internal, "BUG: %s has a %T", event.Name, v)
		}
	}
	if len(texts) == 2 {
		out.Type, texts = texts[0], texts[1:]
		if out.Type == "" {
			return nil, errs.New(errs.Invalid, "read %s: the type is empty", event.Name)
		}
	}
	out.Text = texts[0]
	return out, nil
}
