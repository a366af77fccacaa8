package rehearse

import (
	"context"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
)

const (
	// logRange is how many blocks one look for events spans.
	logRange = 10_000
	// subjectsMax is how many values of a kind are asked about, the first that
	// events named.
	subjectsMax = 2000
	// listMax is how many values go into an argument that is a list.
	listMax = 50
	// smallMax is the first number that is not asked for where a number is a
	// kind, a class, a token or an index.
	smallMax = 8
)

// subjects are what the contracts have in their state: values that their events
// named, by what they name.
type subjects struct {
	values map[string][]any
	seen   map[string]bool
}

// find collects the subjects of a deployment up to the block.
func find(ctx context.Context, c *chain.Client, d *deploy.Deployment, head *chain.Header) (*subjects, error) {
	s := &subjects{values: map[string][]any{}, seen: map[string]bool{}}
	var all []common.Address
	for _, name := range chain.Names() {
		at, err := d.Contracts.Address(name)
		if err != nil {
			return nil, err
		}
		all = append(all, at)
		s.add("address", at)
	}
	s.add("address", d.Founder)
	for i := range uint8(smallMax) {
		s.add("uint8", i)
	}
	for _, payee := range []uint64{deploy.PayeeTreasury, deploy.PayeeStakers, deploy.PayeeCoordinators, deploy.PayeeDevelopment} {
		s.add("payee", payee)
	}
	const day = 24 * 60 * 60
	s.add("time", new(big.Int).SetUint64(head.Time-1))
	s.add("time", new(big.Int).SetUint64(head.Time-day))
	s.add("word", new(big.Int))
	s.add("from", uint32(1))
	s.add("count", uint32(100)) // The most that the lens answers at once.
	for from := d.FromBlock; from <= head.Number; from += logRange {
		logs, err := c.LogsBetween(ctx, from, min(from+logRange-1, head.Number), all)
		if err != nil {
			return nil, err
		}
		for i := range logs {
			if err := s.read(d, &logs[i]); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// read takes the subjects out of an event.
func (s *subjects) read(d *deploy.Deployment, l *types.Log) error {
	for name, at := range d.Contracts.ByName() {
		if at != l.Address || len(l.Topics) == 0 {
			continue
		}
		parsed, err := chain.ABI(name)
		if err != nil {
			return err
		}
		event, err := parsed.EventByID(l.Topics[0])
		if err != nil {
			return nil //nolint:nilerr // An event of another release names nothing that this one asks about.
		}
		values := map[string]any{}
		if err := event.Inputs.NonIndexed().UnpackIntoMap(values, l.Data); err != nil {
			return fmt.Errorf("read %s of %s: %w", event.Name, name, err)
		}
		var indexed abi.Arguments
		for _, in := range event.Inputs {
			if in.Indexed {
				indexed = append(indexed, in)
			}
		}
		if err := abi.ParseTopicsIntoMap(values, indexed, l.Topics[1:]); err != nil {
			return fmt.Errorf("read %s of %s: %w", event.Name, name, err)
		}
		for _, in := range event.Inputs {
			s.take(in.Type, in.Name, values[in.Name])
		}
	}
	return nil
}

// take adds a value of an event, and what is inside of it.
func (s *subjects) take(t abi.Type, name string, v any) {
	switch t.T {
	case abi.SliceTy, abi.ArrayTy:
		list := reflect.ValueOf(v)
		for i := range list.Len() {
			s.take(*t.Elem, strings.TrimSuffix(name, "s"), list.Index(i).Interface())
		}
	case abi.TupleTy:
		tuple := reflect.ValueOf(v)
		for i, elem := range t.TupleElems {
			s.take(*elem, t.TupleRawNames[i], tuple.Field(i).Interface())
		}
	case abi.BytesTy:
		if raw, ok := v.([]byte); ok && name == "peerId" {
			s.add("peerIdHash", [32]byte(crypto.Keccak256(raw)))
		}
	default:
		s.add(kindOf(t, name), v)
	}
}

func (s *subjects) add(kind string, v any) {
	id := fmt.Sprintf("%s %v", kind, v)
	if s.seen[id] || len(s.values[kind]) == subjectsMax {
		return
	}
	s.seen[id] = true
	s.values[kind] = append(s.values[kind], v)
}

// kindOf says what a value of a type with a name names.
func kindOf(t abi.Type, name string) string {
	kinds := map[string]string{
		"uint32 nodeId": "node", "uint32 coordId": "node",
		"uint32 seq": "image", "uint32 imageSeq": "image", "uint32 parent": "image",
		"uint32 epoch": "epoch", "uint32 firstEpoch": "epoch", "uint32 lastEpoch": "epoch", "uint32 statsEpoch": "epoch",
		"uint128 newId": "uint128 id", "uint256 timepoint": "time", "uint64 payee": "payee",
		"uint32 from": "from", "uint32 count": "count", "uint256 word": "word", "bytes32 peerIdHash": "peerIdHash",
	}
	typ := t.String()
	if kind, ok := kinds[typ+" "+name]; ok {
		return kind
	}
	switch typ {
	case "address", "uint8":
		return typ
	case "uint24":
		return "day"
	case "uint40":
		return "time"
	}
	return typ + " " + name
}

// of returns the values that an argument can have.
func (s *subjects) of(in abi.Argument) []any {
	if in.Type.T != abi.SliceTy {
		return s.values[kindOf(in.Type, in.Name)]
	}
	elems := s.values[kindOf(*in.Type.Elem, strings.TrimSuffix(in.Name, "s"))]
	elems = elems[:min(len(elems), listMax)]
	if len(elems) == 0 {
		return nil
	}
	list := reflect.MakeSlice(in.Type.GetType(), 0, len(elems))
	for _, v := range elems {
		list = reflect.Append(list, reflect.ValueOf(v))
	}
	return []any{list.Interface()}
}
