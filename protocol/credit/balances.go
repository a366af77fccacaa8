package credit

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Balances says how many tokens addresses have on a chain. Addresses that are
// not in it keep what they had.
type Balances struct {
	Place
	Chain  message.Chain
	Dapp   string // Of tokens that are in somebody else's contract; "" of those in wallets.
	Height int64  // The greater one is the newer.
	Of     []Balance
}

// Balance is the tokens of an address.
type Balance struct {
	Address string
	Tokens  Decimal
}

func readBalances(root field, at Place) *Balances {
	b := &Balances{
		Place: at, Chain: message.Chain(root.need("chain").text()), Dapp: root.get("dapp").maybeText(),
		Height: readHeight(root.need("main_height")),
	}
	if !b.Chain.Known() {
		root.get("chain").fail("is %.80q, which is no chain", string(b.Chain))
	}
	list := root.need("balances")
	all, ok := list.value.(map[string]any)
	if !ok {
		list.fail("is not an object")
	}
	b.Of = make([]Balance, 0, len(all))
	for _, address := range slices.Sorted(maps.Keys(all)) {
		key := field{err: root.err, up: &list, name: " has an address that", value: address}
		b.Of = append(b.Of, Balance{Address: key.address(), Tokens: list.get(address).decimal()})
	}
	return b
}

// readHeight reads a height: an integer, or a text that is one.
func readHeight(f field) int64 {
	if _, ok := f.value.(json.Number); ok {
		return f.strict()
	}
	if _, ok := f.value.(string); ok {
		return f.whole(math.MinInt64, math.MaxInt64)
	}
	f.fail("is not an integer")
	return 0
}
